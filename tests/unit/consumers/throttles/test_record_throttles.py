"""record_throttles: everything that it writes, counts, sends and logs of a batch, whole."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from openai_proxy.dynamodb import from_item
from openai_proxy.events.envelope import rfc3339
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.entries import Key, LedgerEntry
from openai_proxy.ledger.table import CostsTable
from openai_proxy.throttles.entries import FewModels
from openai_proxy.throttles.weather import Left, Weather
from record_throttles.consumer import RecordThrottles

from tests.costs_fake import FakeCostsTable, cancelled
from tests.tables import Log, failures

MOST_MODELS = 20

SAMPLES = Path(__file__).parents[4] / "events" / "samples"
NOW = 1_795_426_900
"""2026-11-23T09:41:40Z"""
MINUTE = datetime(2026, 11, 23, 9, 41, tzinfo=UTC)
ROOT = "1-5759e988-bd862e3fe1be46a994272793"


@dataclass
class World:
    """The consumer, with everything around it in memory. `busy` have a metric of their own."""

    busy: frozenset[str] = frozenset()
    unsent: Mapping[str, str] = field(default_factory=dict[str, str])
    told: list[Weather] = field(default_factory=list[Weather])
    now: float = NOW
    table: FakeCostsTable = field(default_factory=FakeCostsTable)
    data: list[Any] = field(default_factory=list[Any])
    asked: list[tuple[str, dict[str, int]]] = field(default_factory=list[tuple[str, dict[str, int]]])
    seen: list[Weather] = field(default_factory=list[Weather])
    sent: list[list[str]] = field(default_factory=list[list[str]])
    log: Log = field(default_factory=Log)

    def __post_init__(self) -> None:
        client: Any = self.table
        logger: Any = self.log
        lake, forecasts = Lake(self), Forecasts(self)
        ledger = CostsTable(client, "costs", lambda _: None)
        self.consumer = RecordThrottles(ledger, self, self, logger, lake, forecasts, lambda: self.now)

    def put(self, data: Sequence[Any]) -> None:
        self.data += data

    def among(self, hour: str, counts: Mapping[str, int]) -> frozenset[str]:
        self.asked.append((hour, dict(counts)))
        return self.busy

    def __call__(self, *messages: Mapping[str, Any]) -> list[str]:
        return failures(self.consumer({"Records": messages}))

    @property
    def items(self) -> dict[tuple[str, str], dict[str, Any]]:
        return {key: from_item(item) for key, item in self.table.items.items()}


@dataclass
class Lake:
    world: World

    def put(self, entries: Iterable[LedgerEntry]) -> dict[Key, str]:
        entries = list(entries)
        self.world.sent.append([entry.event_id for entry in entries])
        return {
            entry.key: self.world.unsent[entry.event_id] for entry in entries if entry.event_id in self.world.unsent
        }


@dataclass
class Forecasts:
    world: World

    def observe(self, samples: Iterable[Weather]) -> list[Weather]:
        self.world.seen += samples
        return self.world.told


def event_of(sample: str, number: int, client: str = "ci.nightly", at: float = NOW, **data: Any) -> tuple[str, Any]:
    """The id of an event, and the event: a sample whose `data` has some other parts."""
    envelope = json.loads((SAMPLES / f"{sample}.json").read_text(encoding="utf-8"))
    event_id = new_ulid(at + number / 1000)
    envelope["detail"]["metadata"] |= {"id": event_id, "timestamp": rfc3339(at), "client_id": client}
    for name, value in data.items():
        part = envelope["detail"]["data"]
        part[name] = {**part[name], **value} if isinstance(part.get(name), dict) else value
    return event_id, envelope


def message_of(event: Any, name: str, trace: str = "") -> dict[str, Any]:
    attributes = {"attributes": {"AWSTraceHeader": trace}} if trace else {}
    return {"messageId": name, "body": json.dumps(event), **attributes}


def datum(name: str, number: int, **dimensions: str) -> dict[str, Any]:
    return {
        "MetricName": name,
        "Unit": "Count",
        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
        "Timestamp": MINUTE,
        "Values": [1.0],
        "Counts": [number],
    }


LATEST = {
    "throttle_subject": "key",
    "throttle_subject_id": "3f2a91c07be4",
    "throttle_span": "minute",
    "throttle_limit": "60",
    "throttle_used": "60",
    "key_id": "3f2a91c07be4",
    "client_name": "Chat widget",
    "expires_at": NOW + 400 * 86400,
}
NAMES = {"client_id": "ci.nightly", "server": "openai", "model": "gpt-4o-mini"}
ROLLUP = "ci.nightly#key_rpm#openai#gpt-4o-mini"


def test_a_throttle_is_written_counted_sent_and_logged_whole() -> None:
    world = World(frozenset({"ci.nightly"}))
    event_id, event = event_of("InferenceThrottled.key-rpm", 1)
    assert world(message_of(event, "m", f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1")) == []
    entry = ("throttled#ci.nightly#2026-11-23", event_id)
    hour, day = ("throttles#2026-11-23T09", ROLLUP), ("throttles#2026-11-23", ROLLUP)
    sums = {**LATEST, **NAMES, "source": "key_rpm", "requests": 1, "retry_after": Decimal("14.5")}
    assert world.items == {
        hour: {"pk": hour[0], "sk": ROLLUP, "hour": "2026-11-23T09", **sums},
        day: {"pk": day[0], "sk": ROLLUP, "day": "2026-11-23", **sums},
        entry: {
            "pk": entry[0],
            "sk": event_id,
            **LATEST,
            **NAMES,
            "day": "2026-11-23",
            "timestamp": "2026-11-23T09:41:40.000Z",
            "request_id": "01M83WA5D1PBRJW19HKB5NRX17",
            "outcome": "throttled",
            "operation": "chat",
            "door": "function_url",
            "method": "POST",
            "path": "/chat/completions",
            "request_model": "gpt-4o-mini",
            "request_size": 340,
            "stream": False,
            "status_code": 429,
            "response_size": 210,
            "chunks": 0,
            "finish_reasons": [],
            "attempts": 0,
            "cache_status": "BYPASS",
            "duration": Decimal("0.012107"),
            "authorization_duration": Decimal("0.010201"),
            "upstream_duration": 0,
            "proxy_duration": Decimal("0.012107"),
            "throttle_source": "key_rpm",
            "throttle_asked": "1",
            "retry_after": Decimal("14.5"),
        },
    }
    assert world.data == [datum("ClientThrottles", 1, Client="ci.nightly")]
    assert world.asked == [("2026-11-23T09", {"ci.nightly": 1})]
    assert (world.sent, world.seen) == ([[event_id]], [])
    assert world.log.lines == [
        {"level": "info", "message": "A batch was recorded", "throttles": 1, "failed": 0, "traces": [ROOT]}
    ]


def test_of_a_batch_each_message_has_an_end_of_its_own() -> None:
    (known, again), (kept, late) = (event_of("InferenceThrottled.key-rpm", number) for number in (1, 2))
    other_id, other = event_of("InferenceThrottled.key-rpm", 3, "loud")
    _, answered = event_of("InferenceCompleted.chat-stream", 4)
    world = World(frozenset({"loud"}))
    assert world(message_of(again, "first")) == []
    for each in (world.data, world.log.lines, world.sent, world.asked):
        each.clear()
    world.unsent = {kept: "the stream is full"}
    messages = [message_of(again, "again"), message_of(late, "late"), message_of(late, "late too")]
    messages += [message_of(other, "other"), message_of(answered, "answered"), {"messageId": "odd", "body": "{}"}]
    assert world(*messages) == ["odd", "late", "late too"]
    assert world.sent == [[known, kept, other_id]], "what the table has is sent again, and each event once"
    assert world.asked == [("2026-11-23T09", {"ci.nightly": 1, "loud": 1})], "what is new is counted, each once"
    assert world.data == [datum("ClientThrottles", 1, Client=name) for name in ("other", "loud")]
    assert world.items["throttles#2026-11-23T09", ROLLUP]["requests"] == 2
    assert world.log.lines[1:] == [
        {"level": "warning", "message": "A throttle was not written", "event_id": kept, "reason": "the stream is full"},
        {"level": "info", "message": "A batch was recorded", "throttles": 3, "failed": 3, "traces": []},
    ]


def test_what_the_table_does_not_take_is_not_sent_and_comes_again() -> None:
    event_id, event = event_of("InferenceThrottled.key-rpm", 1)

    def away() -> None:
        raise cancelled("ThrottlingError", "None", "None")

    world = World(table=FakeCostsTable(before_write=away))
    assert world(message_of(event, "m")) == ["m"]
    assert (world.items, world.sent, world.data, world.asked) == ({}, [], [], [])
    warning, told = world.log.lines
    assert (warning["level"], warning["message"], warning["event_id"]) == (
        "warning",
        "A throttle was not written",
        event_id,
    )
    assert "TransactionCanceledException" in warning["reason"]
    assert told == {"level": "info", "message": "A batch was recorded", "throttles": 0, "failed": 1, "traces": []}


def test_a_forecast_that_was_told_is_counted_in_its_minute_for_all_and_for_its_server() -> None:
    world = World(told=[Weather("gemini", "m", NOW + 0.9), Weather("gemini", "n", NOW - 14 * 86400.0)])
    left = {"remaining": 5, "limit": 9, "reset": 1.5}
    announced = [{"server": "gemini", "model": "m", "refused_for": None, "requests": left}]
    _, event = event_of("InferenceCompleted.chat-stream", 1, announced=announced)
    assert world(message_of(event, "m")) == []
    assert world.seen == [Weather("gemini", "m", float(NOW), {"requests": Left(5, 9, 1.5)})]
    assert world.data == [datum("ThrottleForecasts", 1), datum("ThrottleForecasts", 1, Server="gemini")]
    assert (world.items, world.sent) == ({}, []), "an answer is no throttle"


@pytest.mark.parametrize(
    ("at", "is_counted"), [(-14 * 86400, False), (-13 * 86400, True), (-3 * 3600, True), (0, True), (3 * 3600, False)]
)
def test_what_is_told_of_a_minute_is_counted_as_long_as_cloudwatch_takes_it(at: int, is_counted: bool) -> None:
    world = World(frozenset({"ci.nightly"}), told=[Weather("gemini", "m", float(NOW + at))])
    announced = [{"server": "gemini", "model": "m", "refused_for": 60.0}]
    assert world(message_of(event_of("InferenceCompleted.chat-stream", 1, announced=announced)[1], "m")) == []
    assert [each["MetricName"] for each in world.data] == ["ThrottleForecasts"] * 2 * is_counted
    if at <= 0:
        del world.data[:]
        assert world(message_of(event_of("InferenceThrottled.key-rpm", 1, at=NOW + at)[1], "m")) == []
        assert bool(world.data) is is_counted


@pytest.mark.parametrize(("at", "is_heard"), [(-3600, False), (-3599, True), (299, True), (300, False)])
def test_what_is_said_of_limits_counts_for_an_hour_and_not_before_it_is_said(at: int, is_heard: bool) -> None:
    """Of a date ahead of now, all that comes until then would be older."""
    left = {"remaining": 0, "limit": 9, "reset": 1.5}
    announced = [{"server": "gemini", "model": "m", "refused_for": 60.0, "requests": left}]
    world = World()
    assert (
        world(message_of(event_of("InferenceCompleted.chat-stream", 1, at=NOW + at, announced=announced)[1], "m")) == []
    )
    assert len(world.seen) == int(is_heard)


def test_what_cloudwatch_would_refuse_is_written_and_not_counted() -> None:
    world = World(frozenset({"ci.nightly"}))
    _, old = event_of("InferenceThrottled.key-rpm", 1, at=NOW - 14 * 86400)
    assert world(message_of(old, "m")) == []
    assert (len(world.items), world.data) == (3, [])


@pytest.mark.parametrize(
    ("data", "rollup"),
    [
        ({"request": {"model": None}}, "ci.nightly#key_rpm#openai#-"),
        ({"server": {"name": None}}, "ci.nightly#key_rpm#-#gpt-4o-mini"),
        ({"throttle": {"source": ""}}, "ci.nightly#-#openai#gpt-4o-mini"),
        ({"throttle": {"source": "x" * 40}}, f"ci.nightly#{'x' * 32}#openai#gpt-4o-mini"),
    ],
)
def test_what_nobody_said_has_a_name_in_a_rollup(data: Any, rollup: str) -> None:
    world = World()
    assert world(message_of(event_of("InferenceThrottled.key-rpm", 1, **data)[1], "m")) == []
    assert {sk for pk, sk in world.items if pk.startswith("throttles#")} == {rollup}


@pytest.mark.parametrize(
    ("amount", "is_one"),
    [
        *((each, True) for each in ("0", "60", "0.25", "9" * 40, f"1.{'1' * 40}", None)),
        *((each, False) for each in ("9" * 41, f"1.{'1' * 41}", ".5", "5.", "-1", "1e5", "\u0665", "", 5)),
    ],
)
@pytest.mark.parametrize("name", ["limit", "used", "asked"])
def test_an_amount_is_plain_digits(name: str, amount: Any, is_one: bool) -> None:
    world = World()
    event_id, event = event_of("InferenceThrottled.key-rpm", 1, throttle={name: amount})
    assert world(message_of(event, "m")) == ([] if is_one else ["m"])
    if is_one:
        entry = world.items["throttled#ci.nightly#2026-11-23", event_id]
        assert entry.get(f"throttle_{name}") == amount


def test_a_throttle_of_before_says_less_and_is_booked_all_the_same() -> None:
    world = World()
    event_id, event = event_of("InferenceThrottled.key-rpm", 1)
    event["detail"]["data"]["throttle"] = {"source": "key_tpm", "retry_after": None}
    assert world(message_of(event, "m")) == []
    entry = world.items["throttled#ci.nightly#2026-11-23", event_id]
    assert {name: value for name, value in entry.items() if name.startswith(("throttle_", "retry_"))} == {
        "throttle_source": "key_tpm"
    }
    assert world.items["throttles#2026-11-23T09", "ci.nightly#key_tpm#openai#gpt-4o-mini"]["retry_after"] == 0


def test_a_table_that_does_not_say_who_is_busy_costs_the_metric_alone() -> None:
    class Away(World):
        def among(self, hour: str, counts: Mapping[str, int]) -> frozenset[str]:
            raise ConnectionError("away")

    world = Away()
    assert world(message_of(event_of("InferenceThrottled.key-rpm", 1)[1], "m")) == []
    assert (len(world.items), world.data) == (3, [])
    assert [(line["level"], line["message"], line.get("reason")) for line in world.log.lines] == [
        ("warning", "Metrics were not published", "ConnectionError('away')"),
        ("info", "A batch was recorded", None),
    ]


def test_models_that_a_client_makes_up_have_few_rollups() -> None:
    world = World()
    numbers = range(MOST_MODELS + 5)
    events = [event_of("InferenceThrottled.key-rpm", n, request={"model": f"m-{n}"})[1] for n in numbers]
    assert world(*(message_of(each, str(number)) for number, each in enumerate(events))) == []
    rollups = {sk: item["requests"] for (pk, sk), item in world.items.items() if pk == "throttles#2026-11-23T09"}
    assert rollups == {
        **{f"ci.nightly#key_rpm#openai#m-{number}": 1 for number in range(MOST_MODELS)},
        "ci.nightly#key_rpm#openai#other": 5,
    }


def test_of_each_client_and_hour_the_first_models_have_names() -> None:
    names = FewModels(2)
    asked = [("a", "9", "m"), ("a", "9", "n"), ("a", "9", "o"), ("a", "9", "m"), ("b", "9", "o"), ("a", "10", "o")]
    assert [names(*each) for each in asked] == ["m", "n", "other", "m", "o", "o"]
    assert MOST_MODELS == 20
