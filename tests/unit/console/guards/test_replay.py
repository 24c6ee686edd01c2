"""`guards replay`: what is counted, from when on, and what it shows of acts, whole."""

import re
from datetime import date
from decimal import Decimal
from typing import Any

from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.guards.file import parse_guards

from console.guards.replay import actions_table, as_json, how_many, replayed, with_history
from console.period import Period

MONDAY = 1_795_392_000.0
"""2026-11-23, 00:00 UTC."""
DAY = 86400.0
KEY = "0123456789ab"
REPEAT = parse_guards("guards: {flood: {rule: repeat, times: 2, within: 1m, act: lower, limits: {rpm: 5}, for: 1h}}")
SPEND = parse_guards("guards: {dear: {rule: spend, factor: 10, at_least: 5, act: notify, for: 1h}}")
PERIOD = Period(date(2026, 11, 23), date(2026, 11, 24))


def entry(at: float, fact: str = "", **changed: Any) -> dict[str, Any]:
    day = date.fromordinal(date(2026, 11, 23).toordinal() + int(at // DAY)).isoformat()
    usual = {"sk": ulid_of_fact(MONDAY + at, fact or str(at)), "day": day, "client_id": "web", "key_id": KEY}
    return {**usual, "model": "gpt-5", "status_code": 200, "request_digest": "d", "cost": Decimal(0), **changed}


def test_what_is_counted_is_of_the_period_and_of_keys_alone() -> None:
    entries = [
        entry(-DAY, request_digest=None),
        entry(-0.001),
        entry(0),
        entry(1, request_digest=None),
        entry(2, key_id=None),
        entry(DAY, request_digest=""),
    ]
    found = replayed(REPEAT, entries, PERIOD)
    assert (found.requests, found.without_digest) == (3, 2)


def test_an_act_is_one_of_the_period_that_began_in_it_and_counts_once() -> None:
    before = [entry(at) for at in (-30.0, -10.0, -0.001)]
    assert replayed(REPEAT, before, PERIOD).actions == []
    [action] = replayed(REPEAT, [*before, *(entry(at) for at in (0.0, 1.0, 2.0, 3.0))], PERIOD).actions
    assert (action.at, action.request.id) == (MONDAY, entry(0.0)["sk"])


def test_what_a_day_has_out_of_order_is_put_in_order_and_a_day_goes_on_in_the_next() -> None:
    late, early = entry(DAY - 1), entry(DAY - 90)
    [action] = replayed(REPEAT, [late, early, entry(DAY + 58.5)], PERIOD).actions
    assert action.at == MONDAY + DAY + 58.5
    assert replayed(REPEAT, [late, early, entry(DAY + 59)], PERIOD).actions == []


def test_what_an_hour_has_cost_is_known_over_days() -> None:
    history = [entry(-3600.0 * hour, cost=Decimal(1)) for hour in range(100, 1, -1)]
    found = replayed(SPEND, [*history, entry(10, cost=Decimal(10))], PERIOD)
    assert [action.reason for action in found.actions] == [
        "10.00 USD in the hour from 2026-11-23 00:00 UTC, 10.0 times its usual 1.00 USD an hour"
    ]
    assert found.requests == 1


def test_the_history_of_a_period_is_what_its_guards_look_at() -> None:
    assert with_history(REPEAT, PERIOD) == Period(date(2026, 11, 22), PERIOD.last)
    assert with_history([*REPEAT, *SPEND], PERIOD) == Period(date(2026, 11, 15), PERIOD.last)


def test_acts_are_shown_and_counted_in_words() -> None:
    found = replayed(
        REPEAT, [entry(at, f"{key}{at}", key_id=key) for at in (0.0, 1.5) for key in (KEY, "b" * 12)], PERIOD
    )
    [action, other] = found.actions
    heads, _, row = actions_table([action], None).splitlines()
    assert re.split(r" {2,}", heads) == ["WHEN", "GUARD", "CLIENT", "KEY OR USER", "ACT", "UNTIL", "REASON"]
    assert re.split(r" {2,}", row) == [
        *("2026-11-23 00:00 UTC", "flood", "web", action.request.key_id, "lower", "2026-11-23 01:00 UTC"),
        "the same request for gpt-5 2 times within 1m",
    ]
    assert [how_many(each) for each in ([action], [action, action], [action, other])] == [
        "One act on one key or user",
        "2 acts on one key or user",
        "2 acts on 2 keys or users",
    ]
    assert as_json(action) == {
        "id": action.id,
        "guard": "flood",
        "rule": "repeat",
        "act": "lower",
        "limits": {"rpm": 5},
        "client_id": "web",
        "key_id": action.request.key_id,
        "request": action.request.id,
        "since": "2026-11-23T00:00:01.500Z",
        "until": "2026-11-23T01:00:01.500Z",
        "reason": "the same request for gpt-5 2 times within 1m",
    }
