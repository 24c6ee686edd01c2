"""The limits item under any course of events is what a model of plain sums says, to the second and the last digit."""

import random

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.examples import examples
from tests.limits_machine import KINDS, STARTS, machine_of, step

_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""Where the same examples run every time, a failure is told as it is found: to make it shorter takes a minute."""


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_happens_to_limits_is_what_the_model_says(kind: str) -> None:
    phases = _PHASES if settings().derandomize else tuple(Phase)
    count = examples(3) if settings().max_examples > 100 else 3
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
