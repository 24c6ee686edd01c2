"""What a guard watches for: hours against the calendar, patterns of names, lengths; and what is seen of an entry."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.guards.rules import Hours, fits, length_text
from openai_proxy.guards.seen import ATTRIBUTES, Seen, moment, seen_of

from tests.examples import examples

MINUTES = st.integers(0, 24 * 60 - 1)
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)


@settings(max_examples=examples(40))
@given(
    st.frozensets(st.integers(0, 6)), MINUTES, MINUTES, st.integers(0, 7 * 24 * 60 - 1), st.sampled_from([0, 59.999])
)
def test_hours_are_those_that_a_calendar_has(
    days: frozenset[int], start: int, end: int, at: int, second: float
) -> None:
    """Each listed day has one span, which ends on the day after where its end is not later than its start."""
    if start == end:
        end = (end + 1) % (24 * 60)
    spans = [(day * 1440 + start, day * 1440 + end + (0 if start < end else 1440)) for day in days]
    is_within = any(first <= minute < last for first, last in spans for minute in (at, at + 7 * 1440))
    now = (MONDAY + timedelta(minutes=at, seconds=second)).timestamp()
    assert Hours(days, start, end).has(now) is is_within


@pytest.mark.parametrize(
    ("days", "start", "end", "text"),
    [
        (frozenset(range(7)), 420, 1170, "every day 07:00-19:30 UTC"),
        (frozenset({4, 0}), 0, 65, "monday, friday 00:00-01:05 UTC"),
        (frozenset({6}), 1439, 600, "sunday 23:59-10:00 UTC"),
    ],
)
def test_hours_in_words(days: frozenset[int], start: int, end: int, text: str) -> None:
    assert Hours(days, start, end).text == text


@pytest.mark.parametrize(
    ("patterns", "fitting"),
    [
        (None, {"", "web", "web-1", "webs", "shop"}),
        ((), set[str]()),
        (("web",), {"web"}),
        (("web-*",), {"web-1"}),
        (("web*", "shop"), {"web", "web-1", "webs", "shop"}),
        (("*",), {"", "web", "web-1", "webs", "shop"}),
    ],
)
def test_a_star_at_the_end_stands_for_any_rest(patterns: tuple[str, ...] | None, fitting: set[str]) -> None:
    assert {name for name in ("", "web", "web-1", "webs", "shop") if fits(name, patterns)} == fitting


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((1, "1s"), (59, "59s"), (60, "1m"), (61, "61s"), (90, "90s"), (120, "2m"), (3660, "61m"), (5400, "90m")),
        *((3600, "1h"), (7200, "2h"), (86400, "1d"), (90000, "25h"), (172800, "2d")),
    ],
)
def test_a_length_has_the_largest_unit_that_divides_it(seconds: int, text: str) -> None:
    assert length_text(seconds) == text


ENTRY: dict[str, Any] = {
    "client_id": "web",
    "key_id": "0123456789ab",
    "client_name": "Web",
    "model": "served",
    "request_model": "asked",
    "status_code": Decimal(502),
    "upstream_status": Decimal(401),
    "request_digest": "d",
    "cost": Decimal("0.25"),
}
SEEN = Seen("id", "web", "0123456789ab", "Web", "served", frozenset({502, 401}), "d", Decimal("0.25"))


@pytest.mark.parametrize(
    ("changed", "seen"),
    [
        ({}, SEEN),
        ({"key_id": None}, None),
        ({"key_id": ""}, None),
        ({"client_name": None}, SEEN._replace(client_name="")),
        ({"model": None}, SEEN._replace(model="asked")),
        ({"model": None, "request_model": None}, SEEN._replace(model="")),
        ({"status_code": None}, SEEN._replace(statuses=frozenset({401}))),
        ({"upstream_status": None}, SEEN._replace(statuses=frozenset({502}))),
        ({"status_code": Decimal(0), "upstream_status": None}, SEEN._replace(statuses=frozenset({0}))),
        ({"request_digest": None}, SEEN._replace(digest="")),
        ({"cost": None}, SEEN._replace(cost=Decimal(0))),
    ],
)
def test_what_is_seen_of_an_entry(changed: dict[str, Any], seen: Seen | None) -> None:
    entry = {name: value for name, value in {**ENTRY, **changed}.items() if value is not None}
    assert seen_of("id", entry) == seen
    assert set(ENTRY) | {"sk"} == set(ATTRIBUTES)


def test_a_request_came_when_its_id_was_made() -> None:
    at = MONDAY.timestamp() + 0.123
    assert SEEN._replace(id=ulid_of_fact(at, "")).at == moment(ulid_of_fact(at, "")) == at
