"""Percentiles from counts: as near as they are said to be, and in a rollup that stays small."""

import math
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.dynamodb import to_item
from openai_proxy.ledger.entries import add_shares, entry_of
from openai_proxy.ledger.latencies import (
    FIRST_CHUNK,
    MOST_STEPS,
    WHOLE,
    latency_share,
    percentile_of,
    step_of,
    steps_in,
)
from openai_proxy.pricing.price_book import load_price_book

from bench.units import BLOCK, event, size_of

COMPLETED: dict[str, Any] = {"outcome": "completed", "duration": Decimal(2)}


@given(st.lists(st.floats(1 / 32, 64), min_size=1, max_size=200), st.integers(1, 100))
def test_a_percentile_is_at_most_twelve_percent_off(times: list[float], percent: int) -> None:
    counted = Counter(step_of(FIRST_CHUNK, each) for each in times)
    found = percentile_of(counted, percent)
    exact = sorted(times)[max(1, math.ceil(len(times) * percent / 100)) - 1]
    assert found is not None
    assert exact / 1.123 <= found <= exact * 1.123


@pytest.mark.parametrize("percent", [1, 50, 95, 99, 100])
def test_a_percentile_is_the_time_of_the_first_request_that_so_many_do_not_exceed(percent: int) -> None:
    for count in (1, 2, 19, 20, 21, 99, 100, 101, 200, 201):
        first = next(rank for rank in range(1, count + 1) if 100 * rank >= percent * count)
        steps = dict.fromkeys(range(count), 1)
        assert percentile_of(steps, percent) == percentile_of({first - 1: 1}, 50)


@pytest.mark.parametrize(
    ("kind", "seconds", "step"),
    [
        (WHOLE, 0, 0),
        (WHOLE, "0.03125", 0),
        (WHOLE, "0.031251", 1),
        (WHOLE, "0.0625", 3),
        (WHOLE, 1, 15),
        (WHOLE, 2, 18),
        (WHOLE, 1024, 45),
        (WHOLE, 10**9, 45),
        (FIRST_CHUNK, 64, 33),
        (FIRST_CHUNK, "64.1", 33),
    ],
)
def test_each_time_has_its_step(kind: str, seconds: Any, step: int) -> None:
    assert step_of(kind, Decimal(seconds)) == step


def test_only_what_a_server_completed_is_counted_in_steps() -> None:
    timed = COMPLETED | {"time_to_first_chunk": Decimal("0.5")}
    sums = {"duration": 2, "first_chunks": 1, "time_to_first_chunk": Decimal("0.5")}
    assert latency_share(timed) == sums | {"t12": 1, "d18": 1}
    assert latency_share(timed | {"cache_status": "MISS"}) == sums | {"t12": 1, "d18": 1}
    assert latency_share(timed | {"cache_status": "HIT"}) == sums
    assert latency_share(timed | {"outcome": "failed"}) == sums
    assert latency_share(COMPLETED) == {"duration": 2, "first_chunks": 0, "time_to_first_chunk": 0, "d18": 1}


def test_the_steps_of_a_rollup_are_told_from_its_other_attributes() -> None:
    rollup = {
        "t3": Decimal(2),
        "t33": Decimal(0),
        "d3": Decimal(5),
        "d12": 1,
        "duration": Decimal(9),
        "team": "t7",
        "d": 1,
    }
    assert steps_in(rollup, FIRST_CHUNK) == {3: 2}
    assert steps_in(rollup, WHOLE) == {3: 5, 12: 1}
    assert steps_in({"requests": 4, "duration": Decimal(3)}, WHOLE) == {}


@pytest.mark.parametrize(
    ("steps", "percent", "seconds"),
    [
        ({}, 50, None),
        ({0: 3}, 99, 1 / 32),
        ({0: 1, 3: 1}, 50, 1 / 32),
        ({0: 1, 3: 1}, 51, 2 ** (2.5 / 3) / 32),
        ({9: 99, 12: 1}, 99, 2 ** (8.5 / 3) / 32),
        ({9: 98, 12: 2}, 99, 2 ** (11.5 / 3) / 32),
    ],
)
def test_a_percentile_is_the_middle_of_the_step_that_has_it(
    steps: dict[int, int], percent: int, seconds: float | None
) -> None:
    assert percentile_of(steps, percent) == (None if seconds is None else pytest.approx(seconds))


def test_a_rollup_of_a_busy_day_with_every_step_is_written_in_as_many_units_as_a_new_one() -> None:
    entry = entry_of(event(0), load_price_book())
    requests = 99_999
    steps = {f"{kind}{step}": requests // most for kind, most in MOST_STEPS.items() for step in range(most + 1)}
    day = add_shares([entry.share] * requests)
    names = {"pk": entry.rollups[0].key[0], "sk": entry.rollups[0].key[1], **entry.rollups[0].names}
    assert size_of(to_item(names | day | steps)) <= BLOCK
