"""What guards do about requests: at exactly which one, once in each stretch, and the same in every order."""

import random
from collections.abc import Collection, Iterable, Sequence
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.guards.action import Action
from openai_proxy.guards.engine import Engine
from openai_proxy.guards.evidence import Memory
from openai_proxy.guards.file import parse_guards
from openai_proxy.guards.rules import Guard
from openai_proxy.guards.seen import Seen

from tests.examples import examples

MONDAY = 1_795_392_000.0
"""2026-11-23, 00:00 UTC."""
HOUR = 3600.0

ALL = """
guards:
  repeats: {rule: repeat, times: 3, within: 1m, act: lower, limits: {rpm: 5}, for: 1h}
  refusals: {rule: refused, times: 2, within: 10s, act: notify, for: 1m}
  night: {rule: hours, models: [gpt-5*], days: [monday], from: "07:00", to: "19:00", act: cache_only, for: 2h}
  dear: {rule: spend, factor: 10, at_least: 5, act: disable, for: 6h}
"""


def guard(text: str) -> tuple[Guard, ...]:
    return parse_guards(f"guards: {{it: {{{text}}}}}")


def seen(at: float, fact: str = "", **fields: Any) -> Seen:
    usual: dict[str, Any] = {
        "client_id": "web",
        "key_id": "0123456789ab",
        "client_name": "Web",
        "model": "gpt-5",
        "statuses": frozenset({200}),
        "digest": "d1",
        "cost": Decimal(0),
    }
    return Seen(ulid_of_fact(MONDAY + at, fact or str(fields)), **(usual | fields))


def judged(guards: Sequence[Guard], batches: Iterable[Sequence[Seen]]) -> dict[str, Action]:
    engine = Engine(guards, Memory())
    found: dict[str, Action] = {}
    for batch in batches:
        for action in engine.judge(batch):
            found.setdefault(action.id, action)
            engine.settled(action)
    return found


def one_by_one(guards: Sequence[Guard], requests: Iterable[Seen]) -> list[Action]:
    return list(judged(guards, ([each] for each in requests)).values())


REPEAT = guard("rule: repeat, times: 3, within: 1m, act: disable, for: 1h")


def test_the_request_that_completes_the_reason_begins_the_act() -> None:
    [action] = one_by_one(REPEAT, [seen(1), seen(20), seen(30), seen(40)])
    assert (action.at, action.until) == (MONDAY + 30, MONDAY + 30 + HOUR)
    assert action.reason == "the same request for gpt-5 3 times within 1m"


@pytest.mark.parametrize(
    ("at", "acts"), [((0, 30, 59.999), 1), ((0, 30, 60), 0), ((45, 59.999, 104.999), 1), ((45, 60, 105), 0)]
)
def test_a_window_ends_before_its_length_is_over_wherever_the_minute_begins(at: Sequence[float], acts: int) -> None:
    assert len(one_by_one(REPEAT, map(seen, at))) == acts


def test_one_request_less_does_nothing_nor_do_copies_of_one() -> None:
    first, second = seen(1), seen(2)
    assert one_by_one(REPEAT, [first, second, first, second, second]) == []


@pytest.mark.parametrize("other", [{"digest": "d2"}, {"key_id": "ba9876543210"}, {"digest": ""}])
def test_other_requests_and_other_keys_are_counted_apart(other: dict[str, Any]) -> None:
    assert one_by_one(REPEAT, [seen(1), seen(2), seen(3, **other), seen(4, **other)]) == []


def test_a_guard_acts_once_in_each_stretch_of_the_clock() -> None:
    flood = [seen(minute * 60 + second, str(second)) for minute in (0, 30, 59, 60, 61) for second in range(5)]
    actions = one_by_one(REPEAT, flood)
    assert [action.at for action in actions] == [MONDAY + 2, MONDAY + HOUR]
    assert len({action.id for action in actions}) == 2


@pytest.mark.parametrize(("status", "acts"), [(401, 1), (403, 0)])
def test_a_burst_of_a_status(status: int, acts: int) -> None:
    refused = guard("rule: refused, times: 2, within: 10s, act: notify, for: 1m")
    bad = [seen(at, statuses=frozenset({502, status})) for at in (1, 10.999)]
    assert len(one_by_one(refused, [bad[0], seen(3), seen(4), bad[1]])) == acts


@pytest.mark.parametrize(
    ("at", "acts"),
    [
        (7 * HOUR, 0),
        (7 * HOUR - 0.001, 1),
        (19 * HOUR - 0.001, 0),
        (19 * HOUR, 1),
        (31 * HOUR, 1),
    ],
    ids=["begin", "before", "last", "end", "tuesday"],
)
def test_a_model_outside_its_hours(at: float, acts: int) -> None:
    night = guard(
        "rule: hours, models: [gpt-5*], days: [monday], from: '07:00', to: '19:00', act: notify, for: 1h, within: 1m"
    )
    assert len(one_by_one(night, [seen(at, model="gpt-5.4"), seen(at, model="gpt-4")])) == acts


@pytest.mark.parametrize(
    ("at", "acts"), [(22 * HOUR, 0), (30 * HOUR - 0.001, 0), (30 * HOUR, 1), (21 * HOUR, 1), (5 * HOUR, 1)]
)
def test_hours_may_go_on_after_midnight(at: float, acts: int) -> None:
    late = guard("rule: hours, models: [gpt-5], days: [monday], from: '22:00', to: '06:00', act: notify, for: 1h")
    assert len(one_by_one(late, [seen(at)])) == acts


SPEND = guard("rule: spend, factor: 10, at_least: 5, act: disable, for: 6h")


def history(hours: int, cost: str = "1") -> list[Seen]:
    """Spent in each of so many hours before Monday's second one: that one is left out of what is usual."""
    return [seen(-HOUR * n, "usual", cost=Decimal(cost)) for n in range(1, hours + 1)]


@pytest.mark.parametrize(("cost", "acts"), [("9.999999", 0), ("10", 1)])
def test_ten_times_the_usual_hour_of_the_last_week(cost: str, acts: int) -> None:
    actions = one_by_one(SPEND, [*history(168), seen(HOUR, "now", cost=Decimal(cost))])
    assert len(actions) == acts
    if acts:
        assert (
            actions[0].reason
            == "10.00 USD in the hour from 2026-11-23 01:00 UTC, 10.0 times its usual 1.00 USD an hour"
        )


@pytest.mark.parametrize(("hours", "acts"), [(22, 0), (23, 1)])
def test_a_key_without_a_day_of_history_is_not_judged(hours: int, acts: int) -> None:
    assert len(one_by_one(SPEND, [*history(hours), seen(HOUR, "now", cost=Decimal(1000))])) == acts


@pytest.mark.parametrize(("cost", "acts"), [("4.999999", 0), ("5", 1)])
def test_what_is_little_money_does_not_matter(cost: str, acts: int) -> None:
    assert len(one_by_one(SPEND, [*history(100, "0.01"), seen(HOUR, "now", cost=Decimal(cost))])) == acts


def test_what_is_older_than_a_week_is_not_usual() -> None:
    old = [seen(-HOUR * 300, cost=Decimal(100_000))]
    assert len(one_by_one(SPEND, [*old, *history(50), seen(HOUR, "now", cost=Decimal(10))])) == 1


@pytest.mark.parametrize("left_out", ["hour_before", "same_hour"])
def test_the_hour_before_is_not_usual_yet(left_out: str) -> None:
    late = seen(0 if left_out == "hour_before" else HOUR + 1, "late", cost=Decimal(40))
    now = seen(HOUR + 2, "now", cost=Decimal(10))
    assert len(one_by_one(SPEND, [*history(100)[1:], late, now])) == 1


@pytest.mark.parametrize(
    ("text", "fields", "reason"),
    [
        ("rule: repeat, times: 2, within: 90s", {}, "the same request for gpt-5 2 times within 90s"),
        ("rule: repeat, times: 2, within: 1m", {"model": ""}, "the same request 2 times within 1m"),
        (
            "rule: refused, times: 2, within: 1m, statuses: [403, 401]",
            {"statuses": frozenset({403})},
            "2 requests answered with 401 or 403 within 1m",
        ),
        (
            "rule: hours, times: 2, models: [gpt-5], days: [sunday], from: '07:00', to: '19:00'",
            {},
            "2 requests for gpt-5 within 1m, outside the usual hours (sunday 07:00-19:00 UTC)",
        ),
        (
            "rule: hours, models: [gpt-5], days: [sunday], from: '07:00', to: '19:00'",
            {},
            "a request for gpt-5 within 1m, outside the usual hours (sunday 07:00-19:00 UTC)",
        ),
    ],
)
def test_a_reason_says_what_was_counted(text: str, fields: dict[str, Any], reason: str) -> None:
    [action] = judged(guard(f"{text}, act: notify, for: 3h"), [[seen(1, **fields), seen(2, "x", **fields)]]).values()
    assert action.reason == reason


@pytest.mark.parametrize(
    ("usual", "cost", "text"),
    [
        ("0.0099", "5", "5.00 USD in the hour from 2026-11-23 01:00 UTC, 505.1 times its usual 0.0099 USD an hour"),
        ("0.01", "5.005", "5.01 USD in the hour from 2026-11-23 01:00 UTC, 500.5 times its usual 0.01 USD an hour"),
        ("0.015", "60", "60.00 USD in the hour from 2026-11-23 01:00 UTC, 4,000.0 times its usual 0.02 USD an hour"),
    ],
)
def test_a_reason_says_what_was_spent_and_what_is_usual(usual: str, cost: str, text: str) -> None:
    [action] = one_by_one(SPEND, [*history(50, usual), seen(HOUR, "now", cost=Decimal(cost))])
    assert action.reason == text


class Counted(Memory):
    """Evidence that counts how often something is remembered."""

    added = 0

    def times(self, of: str, bucket: int, ids: Collection[str], most: int) -> list[str]:
        self.added += 1
        return super().times(of, bucket, ids, most)


def test_when_an_act_is_done_nothing_more_is_remembered_but_in_the_last_window_of_its_stretch() -> None:
    evidence = Counted()
    engine = Engine(REPEAT, evidence)
    for action in engine.judge([seen(at, str(at)) for at in (1, 2, 3)]):
        engine.settled(action)
    counts = list[int]()
    for at in (4, 60, HOUR - 60.001, HOUR - 60, HOUR - 0.001, HOUR):
        engine.judge([seen(at, str(at))])
        counts.append(evidence.added)
    assert counts == [1, 1, 1, 2, 3, 4]


def test_what_was_done_long_ago_is_forgotten_so_that_memory_stays_bounded() -> None:
    evidence = Counted()
    engine = Engine(REPEAT, evidence)
    [action] = engine.judge([seen(at, str(at)) for at in (1, 2, 3)])
    for number in range(9_999):
        engine.settled(action._replace(id=str(number)))
    engine.settled(action)
    engine.judge([seen(4)])
    assert evidence.added == 1, "ten thousand are known"
    engine.settled(action._replace(id="one more"))
    engine.judge([seen(5)])
    assert evidence.added == 2


def requests(numbers: random.Random, count: int) -> list[Seen]:
    """Some days of three keys, in order: quiet, with bursts, at any hour."""
    found: list[Seen] = []
    at = 0.0
    for number in range(count):
        at += numbers.choice((0.5, 0.5, 0.5, 3.0, 8.0, 19.9, 20.0, 900.0, 3599.0, 7200.0))
        found.append(
            seen(
                at,
                str(number),
                key_id=numbers.choice(("aaaaaaaaaaaa", "bbbbbbbbbbbb", "c" * 32)),
                digest=numbers.choice(("d1", "d1", "d2", "")),
                model=numbers.choice(("gpt-5", "gpt-4", "")),
                statuses=frozenset({numbers.choice((200, 200, 401))}),
                cost=Decimal(numbers.choice(("0", "0.01", "0.02", "6"))),
            )
        )
    return found


@settings(max_examples=examples(8))
@given(st.integers(0, 2**32), st.sampled_from((1, 2, 7, 25)))
def test_copies_and_any_order_of_what_is_less_than_an_hour_late_give_the_same_acts(seed: int, size: int) -> None:
    numbers = random.Random(seed)
    history = requests(numbers, 150)
    delivered = [(each.at + numbers.uniform(0, HOUR - 1), each) for each in history]
    copies = [(at + numbers.uniform(0, 4 * 24 * HOUR), each) for at, each in delivered if numbers.random() < 0.3]
    arrived = [each for _, each in sorted([*delivered, *copies], key=lambda pair: pair[0])]
    batches = [arrived[start : start + size] for start in range(0, len(arrived), size)]
    replayed = judged(parse_guards(ALL), ([each] for each in history))
    assert judged(parse_guards(ALL), batches).keys() == replayed.keys()
    assert replayed, "a history without a reason proves nothing"


@settings(max_examples=examples(8))
@given(st.integers(0, 2**32))
def test_what_comes_in_order_acts_at_the_very_same_request_with_copies_or_without(seed: int) -> None:
    numbers = random.Random(seed)
    history = requests(numbers, 100)
    twice = [each for each in history for _ in range(numbers.choice((1, 2)))]
    replayed = judged(parse_guards(ALL), ([each] for each in history))
    assert judged(parse_guards(ALL), ([each] for each in twice)) == replayed


@settings(max_examples=examples(8))
@given(st.integers(0, 2**32))
def test_what_counts_requests_does_not_care_how_late_they_are(seed: int) -> None:
    numbers = random.Random(seed)
    guards = [each for each in parse_guards(ALL) if each.kind != "spend"]
    history = requests(numbers, 120)
    shuffled = numbers.sample(history, len(history))
    assert judged(guards, [shuffled]).keys() == judged(guards, ([each] for each in history)).keys()
    assert judged(guards, ([each] for each in shuffled)).keys() == judged(guards, [history]).keys()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_an_act_names_the_request_that_completed_its_reason_in_whatever_order_they_come(order: Sequence[int]) -> None:
    night = guard('rule: hours, times: 2, models: [gpt-5*], from: "07:00", to: "19:00", act: notify, for: 1h')
    requests = [seen(60 * 60 + place, model=f"gpt-5-{place}", client_name=f"Web {place}") for place in range(3)]
    [action] = judged(night, [[requests[place] for place in order]]).values()
    assert action.request == requests[1]
    assert action.reason.startswith("2 requests for gpt-5-1 within 1m, ")
