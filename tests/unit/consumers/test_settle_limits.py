"""What settle_limits makes of an event, and of a counter: pure."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.events.envelope import TERMINAL_DETAIL_TYPES, Event
from openai_proxy.events.incoming import from_envelope
from openai_proxy.events.ulid import ulid_time
from openai_proxy.ledger.entries import OUTCOMES, entry_of
from openai_proxy.limits import Period, Windows, bucket_day, is_expired
from openai_proxy.pricing.price_book import PriceBook, load_price_book, parse_price_book
from settle_limits.consumer import latest_of_each_key
from settle_limits.settlement import PriceHint, Settlement, settlement_of
from settle_limits.thresholds import Crossing, crossings, event_of

SAMPLES = Path(__file__).parents[3] / "events" / "samples"
NOON = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp())
OWN = """
servers:
  ours:
    models:
      seen: {input: 2, output: 8, above: {input_tokens: 1000, input: 4, output: 16}}
      asked: {input: "0.5"}
      a-call: {request: "0.01"}
      a-minute: {audio_minute: "0.006"}
      gift: free
"""

moments = st.integers(0, 4_000_000_000)


@pytest.fixture(scope="module")
def prices() -> PriceBook:
    return load_price_book()


def sample(name: str, **changes: Any) -> Event[Any, Any]:
    """A sample as of a key with a budget; `changes` to server, models and usage."""
    envelope = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    data = envelope["detail"]["data"]
    data["client"] = {"key_id": "5f0c1b9a7d3e", "name": "Web shop", "owner": "Team Web", "tags": {}}
    data["limits"] = {
        "id": "5f0c1b9a7d3e",
        "has_budget": True,
        "reserved": {"cost": "0.5", "tokens": 9},
        "taken_at": NOON,
        "budget_day": "5",
        "budget_month": None,
        "currency": "USD",
    }
    for key, value in changes.items():
        match key:
            case "server":
                data["server"]["name"] = value
            case "asked":
                data["request"]["model"] = value
            case "model":
                data["response"]["model"] = value
            case _:
                data["usage"][key] = value
    return from_envelope(envelope)


def settled(event: Event[Any, Any], prices: PriceBook) -> Settlement:
    settlement = settlement_of(event, prices)
    assert settlement
    return settlement


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("Inference*.json")), ids=lambda path: path.stem)
def test_a_budget_is_charged_what_the_ledger_says(path: Path, prices: PriceBook):
    event = sample(path.stem)
    settlement = settled(event, prices)

    assert event.detail_type in TERMINAL_DETAIL_TYPES
    if event.detail_type in OUTCOMES:
        entry = entry_of(event, prices).attributes
        assert settlement.is_priced == (entry["pricing"] != "unpriced")
        assert settlement.actual == (entry["cost"] if settlement.is_priced else Decimal("0.5"))
    else:
        assert settlement.actual == 0


@given(
    tokens=st.integers(0, 10**9),
    answered=st.sampled_from(["seen", "asked", "gift", "new", None]),
    asked=st.sampled_from(["seen", "asked", "gift", "new", None]),
    source=st.sampled_from(["reported", "estimated", "missing", "none"]),
)
def test_any_usage_costs_what_the_ledger_says(tokens: int, answered: str | None, asked: str | None, source: str):
    event = sample(
        "InferenceCompleted.chat-stream",
        server="ours",
        model=answered,
        asked=asked,
        source=source,
        input_tokens=tokens,
        output_tokens=0 if tokens % 2 else 3,
    )
    book = parse_price_book(OWN)
    settlement, entry = settled(event, book), entry_of(event, book).attributes

    assert settlement.actual == entry.get("cost", Decimal("0.5"))
    assert settlement.is_priced == ("cost" in entry)


@pytest.mark.parametrize(
    ("model", "asked", "hint"),
    [
        ("seen", "seen", ("seen", "0.000002", "0.000008")),
        ("seen", "my alias", ("my alias", "0.000002", "0.000008")),
        ("unlisted-0613", "asked", ("asked", "0.0000005", "0")),
        (None, "gift", ("gift", "0", "0")),
        ("seen", "x" * 200, ("x" * 128, "0.000002", "0.000008")),
        ("seen", None, None),
        ("seen", "\ud800", None),
        ("new", "new", None),
        ("a-call", "a-call", None),
        ("a-minute", "a-minute", None),
    ],
)
def test_a_hint_is_the_price_by_the_name_that_was_asked_for(model: str | None, asked: str | None, hint: Any):
    event = sample(
        "InferenceCompleted.chat-stream", server="ours", model=model, asked=asked, output_tokens=0, duration=5.0
    )

    found = settled(event, parse_price_book(OWN)).hint
    assert found == (PriceHint("ours", hint[0], Decimal(hint[1]), Decimal(hint[2])) if hint else None)


@pytest.mark.parametrize(("answers", "each"), [(0, 64), (1, 64), (3, 22), (64, 1), (100, 1)])
def test_of_several_answers_a_hint_says_what_each_had(answers: int, each: int):
    event = sample("InferenceCompleted.chat-stream", server="ours", model="seen", asked="seen", output_tokens=64)
    event.data["response"]["finish_reasons"] = ["stop"] * answers

    hint = settled(event, parse_price_book(OWN)).hint
    assert hint is not None
    assert hint.answer == each


def test_the_hint_of_a_model_with_tiers_is_that_of_the_first():
    event = sample("InferenceCompleted.chat-stream", server="ours", model="seen", asked="seen", input_tokens=5000)

    settlement = settled(event, parse_price_book(OWN))
    assert settlement.actual > Decimal("0.02")
    assert settlement.hint == PriceHint("ours", "seen", Decimal("0.000002"), Decimal("0.000008"), 64)


@given(moments)
def test_a_bucket_is_of_its_day(moment: int):
    windows = Windows.of(moment)

    assert bucket_day(windows.bucket) == windows.day == windows.start("day")
    assert windows.start("month") == windows.month


@given(moments, st.integers(0, 100_000))
def test_a_reservation_expires_after_the_longest_invocation_and_not_much_later(moment: int, age: int):
    bucket = Windows.of(moment).bucket

    assert is_expired(bucket, moment + age) or age < 2700
    assert not is_expired(bucket, moment + age) or age > 1800


@pytest.mark.parametrize(
    "name",
    ["day_cost", "r_2026_1", "r_20261123", "r_20261123_", "x_20261123_1", f"r_20261123_{'1' * 13}", "r_20261123_1x"],
)
def test_other_attributes_are_no_buckets(name: str):
    assert bucket_day(name) is None
    assert not is_expired(name, NOON)
    assert bucket_day(f"r_20261123_{'1' * 12}") == "2026-11-23"


def settlement(
    number: int = 0, limits_id: str = "k", taken_at: int = NOON, day: Any = None, month: Any = None
) -> Settlement:
    budgets: dict[Period, Any] = {"day": day, "month": month}
    return Settlement(
        event_id=f"01M83VWEZ54TFF59TDWH9EDD{number:02}",
        limits_id=limits_id,
        client_id="web-shop",
        client={"key_id": limits_id, "name": "x", "owner": None, "tags": {}},
        taken_at=taken_at,
        windows=Windows.of(taken_at),
        budgets={period: Decimal(amount) for period, amount in budgets.items() if amount},
        reserved=Decimal(0),
        actual=Decimal(0),
        is_priced=True,
        hint=None,
    )


def test_the_budgets_of_the_latest_request_hold():
    one, two, three, other = settlement(3), settlement(1, taken_at=NOON + 1), settlement(2), settlement(0, "other")

    assert latest_of_each_key([one, two, three, other]) == [two, other]
    assert latest_of_each_key([three, one]) == [one]
    assert latest_of_each_key([]) == []


@given(
    spent=st.decimals("0", "1000", places=9),
    budget=st.decimals("0.000001", "1000", places=6),
    told=st.sampled_from([0, 50, 80, 100]),
)
def test_a_threshold_is_told_when_it_is_reached_and_never_again(spent: Decimal, budget: Decimal, told: int):
    counter = {"day": "2026-11-23", "day_spent": spent, "told_day": told, "told_day_budget": budget}
    found = [crossing.threshold for crossing in crossings(counter, settlement(day=budget))]

    share = spent / budget
    reached = 100 if share >= 1 else 80 if share >= Decimal("0.8") else 50 if share >= Decimal("0.5") else 0
    assert found == ([reached] if reached > told else [])


def test_a_counter_that_is_gone_has_nothing_to_tell():
    assert list(crossings({}, settlement(day=1, month=1))) == []
    assert list(crossings({"day": "2026-11-23", "month": "2026-11"}, settlement(day=1, month=1))) == []


FACTS = Crossing("k", "day", "2026-11-23", 80, Decimal(5), Decimal(4))


@pytest.mark.parametrize(
    "other",
    [
        Crossing("l", "day", "2026-11-23", 80, Decimal(5), Decimal(4)),
        Crossing("k", "month", "2026-11", 80, Decimal(5), Decimal(4)),
        Crossing("k", "day", "2026-11-24", 80, Decimal(5), Decimal(4)),
        Crossing("k", "day", "2026-11-23", 50, Decimal(5), Decimal(4)),
        Crossing("k", "day", "2026-11-23", 80, Decimal("5.5"), Decimal(4)),
    ],
)
def test_different_facts_have_different_ids(other: Crossing):
    assert event_of(FACTS, settlement(), NOON).id != event_of(other, settlement(), NOON).id


def test_the_same_fact_has_one_id_whoever_tells_it_and_when():
    again = Crossing("k", "day", "2026-11-23", 80, Decimal("5.00"), Decimal("4.2"))
    first, second = event_of(FACTS, settlement(1), NOON), event_of(again, settlement(2), NOON + 60.5)

    assert first.id == second.id
    assert ulid_time(first.id) == datetime(2026, 11, 23, tzinfo=UTC)
    assert second.data["budget"] == "5"
    assert ulid_time(
        event_of(Crossing("k", "month", "2026-11", 50, Decimal(5), Decimal(4)), settlement(), NOON).id
    ) == (datetime(2026, 11, 1, tzinfo=UTC))
