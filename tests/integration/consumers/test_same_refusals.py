"""record_cost and record_metrics refuse the same events: none is in the ledger and not in the metrics."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.events.incoming import MalformedEventError
from openai_proxy.events.reader import RETENTION, read_event
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import load_price_book
from record_cost.consumer import RecordCost
from record_metrics.consumer import RecordMetrics
from record_metrics.markers import Claimed, Run

from tests.costs_fake import FakeCostsTable
from tests.examples import examples
from tests.fakes import LACKS, changed, places
from tests.tables import Log, failures

SAMPLES = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((Path(__file__).parents[3] / "events" / "samples").glob("Inference*.json"))
}
BOOKED = {name: each for name, each in SAMPLES.items() if not name.startswith("InferenceThrottled")}
NOW = datetime(2026, 11, 24, tzinfo=UTC).timestamp()
PRICES = load_price_book()
ODD: list[Any] = [
    *(LACKS, None, True, "", "text", "\ud800", -1, 0, 7, 2.5, 10**13, 10**400, float("nan"), float("inf"), [], {}),
    *(["a"], [None], [1], [{}], {"a": 1}, {"a": "b"}, {"names": ["a"]}),
]


class Marks:
    """Claims whatever is wanted."""

    def claim(self, ids: Any, run: Run) -> Claimed:
        return Claimed(set(ids), set())

    def done(self, run: Run) -> None:
        """Nobody asks."""


class Metrics:
    """Takes what JSON can bear."""

    def put(self, data: Any) -> None:
        json.dumps([each["Values"] for each in data], allow_nan=False)


def refusals(envelope: Mapping[str, Any], now: float = NOW) -> list[bool]:
    """Whether record_cost and record_metrics refuse an event."""
    costs: Any = FakeCostsTable()
    log: Any = Log()
    consumers = (
        RecordCost(PRICES, CostsTable(costs, "costs"), log, metrics=Metrics(), clock=lambda: now),
        RecordMetrics(Metrics(), Marks(), log, clock=lambda: now),
    )
    batch = {"Records": [{"messageId": "m", "body": json.dumps(envelope)}]}
    return [failures(consumer(batch)) == ["m"] for consumer in consumers]


@pytest.mark.parametrize("name", SAMPLES)
def test_the_samples_are_taken(name: str) -> None:
    assert refusals(SAMPLES[name]) == [False, False]


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_whatever_is_odd_about_an_event_both_refuse_it_or_neither(data: st.DataObject) -> None:
    envelope = BOOKED[data.draw(st.sampled_from(sorted(BOOKED)))]
    every: list[tuple[Any, ...]] = sorted(places(envelope["detail"]), key=str)
    place = data.draw(st.sampled_from(every))
    made = changed(envelope, ("detail", *place), data.draw(st.sampled_from(ODD)))
    of_cost, of_metrics = refusals(made)
    assert of_cost is of_metrics, place


def aged(age: timedelta) -> tuple[dict[str, Any], float]:
    """An event, and the time when it is so old."""
    made = changed(SAMPLES["InferenceCompleted.chat-stream"], ("detail", "metadata", "id"), new_ulid(NOW))
    return made, NOW + age.total_seconds()


def test_an_event_that_the_ledger_would_not_keep_is_refused_and_told_why() -> None:
    assert refusals(*aged(RETENTION - timedelta(seconds=1))) == [False, False]
    old, now = aged(RETENTION)
    assert refusals(old, now) == [True, True]
    with pytest.raises(
        MalformedEventError, match="too old: an event of 2026-11-24, and the ledger keeps entries for 400"
    ):
        read_event(json.dumps(old), now)
