"""The named queries, over generated entries with copies and corrections: DuckDB finds what Python computes."""

from functools import cache
from random import Random
from typing import Any

import pytest
from openai_proxy.ledger.lake import lake_row

from console.lake.queries import named_queries, of_period
from console.period import Period
from tests.examples import examples
from tests.lake.engine import found, lake_of
from tests.lake.entries import FIRST_DAY, PERIOD_END, made_entries, made_throttles, priced_again
from tests.lake.expected import EXPECTED, Row
from tests.lake.questions import QUESTIONS, throttled_demand

FEBRUARY = Period(FIRST_DAY, PERIOD_END)
ALL = EXPECTED | QUESTIONS
SEEDS = range(examples(3))


class Ledger:
    """Entries as they must be seen, and a lake to which they came with copies, corrections and refused requests."""

    def __init__(self, seed: int) -> None:
        random = Random(seed)
        entries = made_entries(random, random.choice([1, 30, 400]))
        corrected = {entry.key: priced_again(entry) for entry in entries[::7]}
        throttles = made_throttles(random, 40)
        self.rows = [dict(corrected.get(entry.key, entry.attributes)) for entry in entries]
        self.throttled = [{"id": each.key[1], **each.attributes} for each in throttles]
        sent = [lake_row(each.key[1], each.attributes, "2026-02-20") for each in (*entries, *entries[::3], *throttles)]
        sent += [lake_row(each.key[1], each.attributes, "2026-02-21") for each in throttles[::2]]
        sent += [lake_row(key[1], row, "2026-03-01", 1) for key, row in corrected.items()]
        random.shuffle(sent)
        self._lake = lake_of(sent)

    def ask(self, name: str) -> list[Row]:
        return found(self._lake, of_period(named_queries()[name], FEBRUARY), FEBRUARY)


@cache
def ledger(seed: int) -> Ledger:
    return Ledger(seed)


def comparable(value: Any) -> Any:
    return (
        pytest.approx(value, rel=1e-6, abs=6e-3 if value and abs(value) > 1 else 2e-6)
        if isinstance(value, float)
        else value
    )


def same(actual: list[Row], expected: list[Row]) -> None:
    plain = [row | ({"last_time": str(row["last_time"])[:23]} if "last_time" in row else {}) for row in actual]
    assert [set(row) for row in plain] == [set(row) for row in expected]
    assert plain == [{name: comparable(value) for name, value in row.items()} for row in expected]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_query_finds_what_python_computes(name: str, seed: int) -> None:
    same(ledger(seed).ask(name), ALL[name](ledger(seed).rows))


@pytest.mark.parametrize("seed", SEEDS)
def test_refused_demand_is_counted_once_and_costs_what_answers_did(seed: int) -> None:
    own = ledger(seed)
    expected = throttled_demand(own.rows, own.throttled)
    assert sum(row["refused"] for row in expected) == 40
    same(own.ask("throttled-demand"), expected)


def test_the_questions_have_answers() -> None:
    """A question that finds nothing proves nothing."""
    own = ledger(next(seed for seed in range(100) if len(ledger(seed).rows) == 400))
    without = {name for name, expected in ALL.items() if not expected(own.rows)}
    assert without <= {"idle-keys", "outliers"}


def test_every_query_is_tried() -> None:
    assert {*ALL, "throttled-demand", "duplicates"} == set(named_queries())


def test_a_day_far_above_the_days_before_is_an_outlier() -> None:
    def entry(day: int, cost: str, client: str = "shop") -> Row:
        usual = {
            "id": f"{client}-{day}-{cost}",
            "day": f"2026-02-{day:02}",
            "outcome": "completed",
            "client_id": client,
        }
        return usual | {"cost": cost, "revision": 0, "recorded_at": "", "pricing": "priced", "key_id": f"k-{client}"}

    costs = ["1", "1.1", "0.9", "1", "1.05", "0.95", "1", "9", "1"]
    rows = [entry(2 + n, cost) for n, cost in enumerate(costs)]
    rows += [entry(2 + n, "2", "few") for n in range(4)] + [entry(6, "50", "few")]
    lake = lake_of(rows)
    [row] = found(lake, of_period(named_queries()["outliers"], FEBRUARY), FEBRUARY)
    assert (row["day"], row["client_id"], float(row["cost"]), row["days_before"]) == ("2026-02-09", "shop", 9, 7)
    assert row["times_usual"] == pytest.approx(9)
    idle = found(lake, of_period(named_queries()["idle-keys"], FEBRUARY), FEBRUARY)
    assert idle == []
    later = lake_of([*rows, entry(14, "1", "new")])
    [few] = found(later, of_period(named_queries()["idle-keys"], FEBRUARY), FEBRUARY)
    assert (few["key_id"], few["idle_days"], few["requests"]) == ("k-few", 8, 5)
