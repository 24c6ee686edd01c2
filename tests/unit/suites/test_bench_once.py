"""The trials of `make bench` with many processes: what they deliver, and how they count what was let through."""

import random
from collections import Counter

import pytest
from proxy.limits.table import LimitsTable

from bench.once.limits import CASES, Case, sum_of
from bench.once.taker import Taken, limits_of, take_all
from bench.once.trial import Trial, deliveries
from bench.units import BEGAN
from tests.limits_table import LimitsItems, access_to


def test_each_event_is_delivered_and_some_twice_together_or_alone() -> None:
    trial = Trial(events=5_000, doubled=0.3, alone=0.05)
    order = list(deliveries(trial, random.Random(1)))
    found = Counter(order)
    assert set(found) == set(range(trial.events))
    assert 0.25 < 1 - trial.events / len(order) < 0.35
    whole = [first for first in range(0, trial.events, 100) if all(found[first + n] > 1 for n in range(100))]
    assert 5 < len(whole) < 25
    assert all(str(list(range(first, first + 100)))[1:-1] in str(order) for first in whole), "in their order"
    assert [n for n, count in found.items() if count == 2 and n // 100 * 100 not in whole]


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_what_processes_take_one_after_another_is_the_limit(case: Case) -> None:
    items, limits = LimitsItems(), limits_of(case.limits)
    tables = [
        LimitsTable(access_to(items, lambda: float(BEGAN)), "closed", shards=lambda _: case.shards) for _ in range(3)
    ]
    every = [take_all(table, limits) for table in tables]
    told = sum_of(Taken.from_line(each.to_line()) for each in every)
    assert told == sum_of(every)
    assert told.failed == 0
    assert told.requests == sum(each.requests for each in every) > 0
    left = case.limit - case.passed(told)
    assert 0 <= left < 15 * case.shards if "tpm" in case.limits else left == 0


def test_who_cannot_ask_the_table_gives_up_and_says_so() -> None:
    items = LimitsItems(faults=["InternalServerError"] * 10_000)
    table = LimitsTable(access_to(items, lambda: float(BEGAN)), "closed", shards=lambda _: 2)
    with pytest.raises(RuntimeError, match="cannot be checked"):
        take_all(table, limits_of({"id": "k", "rpm": 5}))
