"""The limits item under any course of events is what a model of plain sums says, to the second and the last digit."""

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from openai_proxy.events.ulid import new_ulid
from openai_proxy.key_limits import Limits
from openai_proxy.usage import Usage

from tests.examples import examples
from tests.limits.machine import (
    FAULTS,
    HINTS,
    KINDS,
    PATIENT,
    STARTS,
    USAGES,
    LimitsMachine,
    Request,
    Sandbox,
    machine_of,
    step,
)

_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Where the same examples run every time, a failure is told as it is found: to make it shorter takes a minute."""


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_happens_to_limits_is_what_the_model_says(kind: str) -> None:
    phases = _PHASES if settings().derandomize else tuple(Phase)
    count = examples(3)
    run_state_machine_as_test(
        machine_of(kind),
        settings=settings(max_examples=count, stateful_step_count=40, deadline=None, phases=phases),
    )


COURSES = [(kind, STARTS[(place + turn) % len(STARTS)]) for place, kind in enumerate(KINDS) for turn in (0, 2)]


@pytest.mark.parametrize(("kind", "start"), COURSES)
def test_a_long_course_of_events_is_what_the_model_says(kind: str, start: str) -> None:
    """Longer courses than Hypothesis likes, in which everything is as likely as it is useful."""
    chance = random.Random(f"{kind} {start}")
    machine = machine_of(kind)()
    machine.begin(start)
    for _ in range(120):
        step(machine, chance)
        machine.the_item_is_what_the_model_says()


def test_a_lease_that_reserves_nothing_brings_nothing_back() -> None:
    machine = machine_of("two requests")()
    machine.begin(STARTS[0])
    machine.another_price_is_known(("0", "0", None))
    machine.takes(0, 1, 1, hasty=True, faults=[])
    machine.some_time_passes(20)
    machine.another_price_is_known(("0.001", "0", 1))
    machine.takes(0, 1, 1, hasty=False, faults=[])
    machine.takes(0, 1, 1, hasty=False, faults=[])
    assert machine.refusal(0) == ("key_budget_reserved", 5)


def test_a_budget_in_total_is_charged_once_by_an_event_that_comes_again_when_its_marker_is_gone() -> None:
    machine = busy("a trial")
    machine.ends(0, USAGES[0], faults=[])
    machine.are_settled([0], [], None, is_after=False)
    spent = machine.table.numbers("limits#k")["total_spent"]
    machine.some_time_passes(32 * 86400)
    del machine.table.items[f"settled#{machine.requests[0].id}"]
    machine.are_settled([0], [], None, is_after=False)
    assert machine.table.numbers("limits#k")["total_spent"] == machine.table.numbers("limits#k")["total_cost"] == spent


@pytest.mark.parametrize(
    ("before", "after", "month"), [(15, None, "2099-11-15"), (None, 15, "2099-11-15"), (15, 24, "2099-11-15")]
)
def test_a_reset_day_that_is_changed_while_requests_run_loses_and_leaks_nothing(
    before: int | None, after: int | None, month: str
) -> None:
    machine = machine_of("enough")()
    machine.begin(STARTS[0])
    machine.limits = machine.limits._replace(reset_day=before)
    machine.takes(0, 1, 87, hasty=False, faults=[])
    machine.limits = machine.limits._replace(reset_day=after)
    machine.takes(1, 1, 87, hasty=False, faults=[])
    for sandbox in [each for each in machine.sandboxes if each.taken]:
        assert sandbox.taken
        machine.limits = sandbox.taken.limits
        machine.ends(running_place(machine, sandbox), USAGES[0], faults=[])
    machine.are_settled([0, 1], [], None, is_after=False)
    counter = machine.table.numbers("limits#k")
    assert counter["month"] == month
    assert counter["month_cost"] == counter["month_spent"] == 2 * Decimal("0.00035")


# --------------------------------------------------------------------------------- what others do between two calls


@pytest.mark.parametrize("calls", range(4))
def test_a_month_that_begins_late_begins_with_what_runs_in_that_moment(calls: int) -> None:
    machine = busy("enough")
    before, after = machine.limits, machine.limits._replace(reset_day=15)

    def ends() -> None:
        machine.limits = before
        machine.ends(0, USAGES[0], faults=[])
        machine.limits = after

    machine.limits = after
    other = next(each for each in machine.sandboxes if each.request is None)
    other.services.before = [lambda: None] * calls + [ends]
    machine.takes(0, 1, 87, hasty=False, faults=[])
    assert not other.services.before
    machine.ends(0, USAGES[0], faults=[])
    machine.are_settled([0, 1], [], None, is_after=False)
    counter = machine.table.numbers("limits#k")
    assert counter["month"] == "2099-11-15"
    assert counter["month_cost"] == counter["month_spent"] == 2 * Decimal("0.00035")


def busy(kind: str) -> LimitsMachine:
    """A machine in which one request runs whose price is known everywhere."""
    machine = machine_of(kind)()
    machine.begin(STARTS[0])
    machine.takes(0, 1, 87, hasty=False, faults=[])
    return machine


def taking_while(machine: LimitsMachine, calls: int, others: Callable[[], None]) -> None:
    """Another sandbox takes; before its call number `calls` something else happens."""
    sandbox = next(each for each in machine.sandboxes if each.request is None)
    sandbox.services.before = [lambda: None] * calls + [others]
    machine.takes(0, 1, 87, hasty=False, faults=[])
    assert not sandbox.services.before
    machine.the_item_is_what_the_model_says()


CALLS = range(3)
"""Of a take that finds a stale item: its price is read, it is refused, the item is renewed, it takes."""


@pytest.mark.parametrize("calls", CALLS)
@pytest.mark.parametrize("kind", ["some", "enough"])
def test_a_bucket_that_expires_while_it_is_settled_is_given_back_once(kind: str, calls: int) -> None:
    machine = busy(kind)
    machine.ends(0, USAGES[0], faults=[])
    machine.some_time_passes(3 * 900)
    taking_while(machine, calls, lambda: machine.are_settled([0], [], None, is_after=False))
    assert machine.table.numbers("limits#k")["day_spent"] == machine.requests[0].actual


@pytest.mark.parametrize("calls", CALLS)
@pytest.mark.parametrize("kind", ["some", "enough", "parallel"])
def test_a_lease_that_ends_while_it_is_given_back_is_given_back_once(kind: str, calls: int) -> None:
    machine = busy(kind)
    machine.some_time_passes(61)
    owner = next(each for each in machine.sandboxes if each.request)
    place = calls if machine.has_budget else max(0, calls - 1)
    taking_while(machine, place, lambda: machine.ends(running_place(machine, owner), USAGES[0], faults=[]))
    machine.are_settled([0], [], None, is_after=False)
    machine.the_item_is_what_the_model_says()


def running_place(machine: LimitsMachine, sandbox: Sandbox) -> int:
    return [each for each in machine.sandboxes if each.request].index(sandbox)


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("seconds", [61, 86400, 31 * 86400])
def test_a_period_that_two_begin_at_once_begins_once(seconds: int, calls: int) -> None:
    machine = busy("enough")
    machine.ends(0, USAGES[1], faults=[])
    machine.are_settled([0], [], None, is_after=False)
    machine.some_time_passes(seconds)
    other, third = machine.sandboxes[1:3]

    def other_takes() -> None:
        place = [each for each in machine.sandboxes if each.request is None].index(other)
        machine.takes(place, 1, 87, hasty=False, faults=[])

    third.services.before = [lambda: None] * calls + [other_takes]
    machine.takes([each for each in machine.sandboxes if each.request is None].index(third), 1, 87, False, [])
    machine.the_item_is_what_the_model_says()
    assert machine.table.numbers("limits#k")["requests"] == 2


def test_a_sibling_that_counts_no_money_begins_a_minute_and_no_day() -> None:
    machine = busy("enough")
    machine.ends(0, USAGES[1], faults=[])
    machine.are_settled([0], [], None, is_after=False)
    machine.some_time_passes(86400)
    sibling = Request(new_ulid(machine.now), machine.now, 0, place="nowhere")
    body, limits = machine.body(1, 87), Limits("k", rpm=50)
    taken = machine.sandboxes[3].proxy.take(limits, sibling.id, body, [PATIENT], machine.now + 900.0)
    assert taken.refused is None
    machine.requests.append(sibling)
    machine.takes(0, 1, 87, hasty=False, faults=[])
    machine.the_item_is_what_the_model_says()
    assert machine.table.numbers("limits#k")["day"] == "2099-11-24"


@pytest.mark.parametrize("usage", USAGES, ids=lambda usage: usage.source)
@pytest.mark.parametrize("start", STARTS[1:3], ids=["a day", "a month"])
@pytest.mark.parametrize("is_begun", [False, True], ids=["nobody has come since", "somebody has"])
@pytest.mark.parametrize("is_left", [False, True], ids=["given back", "left"])
def test_a_request_over_midnight_is_of_the_period_in_which_it_was_taken(
    usage: Usage, start: str, is_begun: bool, is_left: bool
) -> None:
    machine = machine_of("enough")()
    machine.begin(start)
    machine.something_begins_or_ends(0, 0, 86400)
    machine.now -= 5
    machine.takes(0, 1, 87, hasty=False, faults=[])
    machine.some_time_passes(8)
    if is_begun:
        machine.takes(0, 1, 87, hasty=False, faults=[])
    if is_left:
        machine.ends_in_an_outage(0, usage, "lost", 0)
    else:
        machine.ends(0, usage, faults=[])
    machine.the_item_is_what_the_model_says()
    machine.are_settled([0], [], None, is_after=False)
    machine.the_item_is_what_the_model_says()


@pytest.mark.parametrize("seconds", [0, 29, 30, 31, 60])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["some", "parallel"])
def test_what_is_given_back_without_an_answer_is_told_as_far_as_it_is_certain(
    kind: str, fault: str, seconds: int
) -> None:
    machine = busy(kind)
    machine.some_time_passes(seconds)
    machine.ends(0, USAGES[1], faults=[fault])
    machine.are_settled([0], [], None, is_after=False)
    machine.the_item_is_what_the_model_says()


@pytest.mark.parametrize("arrives", range(5))
@pytest.mark.parametrize("fault", ["lost", "late"])
@pytest.mark.parametrize("usage", USAGES, ids=lambda usage: usage.source)
def test_what_passes_unchecked_is_given_back_and_spent_for(usage: Usage, fault: str, arrives: int) -> None:
    for kind in KINDS:
        machine = machine_of(kind)()
        machine.begin(STARTS[0])
        for _ in range(2):
            machine.takes_in_an_outage(0, 1, 87, fault, arrives)
            if any(each.request for each in machine.sandboxes):
                machine.ends(0, usage, faults=[])
            machine.the_item_is_what_the_model_says()
            machine.are_settled([0], [], None, is_after=False)
            machine.the_item_is_what_the_model_says()


@pytest.mark.parametrize(("hasty", "pause"), [(True, 1), (False, 1), (False, 5), (False, 14)])
@pytest.mark.parametrize("kind", ["some", "parallel"])
def test_a_lease_is_renewed_to_the_second_until_its_requests_own_deadline(kind: str, hasty: bool, pause: int) -> None:
    machine = machine_of(kind)()
    machine.begin(STARTS[0])
    machine.takes(0, 1, 87, hasty=hasty, faults=[])
    deadline = machine.requests[0].deadline
    while machine.now + pause <= deadline:
        machine.some_time_passes(pause)
        machine.looks_after_its_lease(0, "ok")
        machine.the_item_is_what_the_model_says()
    machine.ends(0, USAGES[0], faults=["late"])
    machine.the_item_is_what_the_model_says()


@pytest.mark.parametrize(("before", "seconds"), [(None, 29), (None, 30), (HINTS[1], 299), (HINTS[1], 300)])
def test_a_price_is_read_again_to_the_second(before: Any, seconds: int) -> None:
    machine = machine_of("enough")()
    machine.begin(STARTS[0])
    machine.another_price_is_known(before)
    for hint in (HINTS[2], HINTS[3], None):
        machine.takes(0, 1, 87, hasty=False, faults=[])
        machine.ends(0, USAGES[0], faults=[])
        machine.another_price_is_known(hint)
        machine.some_time_passes(seconds)
    machine.takes(0, 1, 87, hasty=False, faults=[])
    machine.the_item_is_what_the_model_says()


@pytest.mark.parametrize("arrives", range(3))
@pytest.mark.parametrize("fault", ["lost", "late"])
@pytest.mark.parametrize("seconds", [0, 31])
def test_what_could_not_be_given_back_is_given_back_by_its_event(seconds: int, fault: str, arrives: int) -> None:
    for kind in ("some", "enough", "parallel", "tpm"):
        for usage in USAGES:
            machine = busy(kind)
            machine.some_time_passes(seconds)
            machine.ends_in_an_outage(0, usage, fault, arrives)
            for _ in range(2):
                machine.the_item_is_what_the_model_says()
                machine.are_settled([0], [], None, is_after=False)
            machine.the_item_is_what_the_model_says()
            assert machine.table.numbers("limits#k")["live"] == []


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("crash", range(6))
@pytest.mark.parametrize("kind", ["two requests", "five requests", "a month of them"])
def test_a_consumer_that_crashes_between_two_calls_settles_and_tells_all_the_same(
    kind: str, crash: int, is_after: bool
) -> None:
    machine = machine_of(kind)()
    machine.begin(STARTS[0])
    for _ in range(5):
        machine.some_come_and_go(1, 1, 1, USAGES[0], settles=False)
        machine.are_settled([0, 0], [], crash, is_after)
        machine.the_item_is_what_the_model_says()
        machine.are_settled([0, 1], [], None, is_after=False)
        machine.the_item_is_what_the_model_says()
    assert machine.bus.told
