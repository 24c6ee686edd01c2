"""The lake says what the table says: sums, entries, exports; and what has not reached it is told."""

import argparse
from collections.abc import Iterator, Sequence
from decimal import Decimal
from random import Random
from typing import Any

import duckdb
import pytest
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.events.envelope import rfc3339
from openai_proxy.ledger.lake import lake_row

from console.costs.filters import is_wanted, wanted_of
from console.costs.reading import MOST_OF_TABLE
from console.costs.summary import NAMES, OF_ENTRIES, share_of, summarize
from console.export.columns import row_of
from console.export.focus import focus_rows
from console.lake.ledger_sql import as_entry, quoted
from console.lake.reading import LakeLedger, chosen_lake
from tests.lake.engine import lake_of
from tests.lake.entries import made_entries

Item = dict[str, Any]
ARRIVED = rfc3339(1_772_000_000)


class LocalAthena:
    """DuckDB in the place of Athena. It keeps the statements that it ran."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self.asked: list[str] = []

    def rows(self, sql: str) -> Iterator[Item]:
        self.asked.append(sql)
        result = self._connection.execute(sql)
        names = [each[0] for each in result.description or ()]
        while row := result.fetchone():
            yield dict(zip(names, map(_as_athena_says, row), strict=True))


def _as_dynamodb_says(digits: str) -> Decimal:
    return Decimal(digits.rstrip("0").rstrip(".") if "." in digits else digits)


def _as_athena_says(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, Decimal)) else str(value)


class Books:
    """The same entries in a table, in its order, and in a lake; `late` of them have not reached the lake."""

    def __init__(self, seed: int, late: int = 0) -> None:
        random = Random(seed)
        made = sorted(made_entries(random, 120), key=lambda each: (each.attributes["day"], each.key))
        self.entries = [from_item(to_item({"sk": each.key[1], **each.attributes}), _as_dynamodb_says) for each in made]
        rows = [lake_row(each.key[1], each.attributes, ARRIVED) for each in made[late:]]
        self.athena = LocalAthena(lake_of(random.sample(rows, len(rows))))
        self.rollups = [
            {name: each.get(name, "-") for name in ("day", "client_id", "server", "model")} | {"requests": 1}
            for each in self.entries
        ]

    def lake(self, **wanted: str) -> LakeLedger:
        fake: Any = self.athena
        return LakeLedger(fake, [row for row in self.rollups if is_wanted(row, options(**wanted))])

    def of(self, **wanted: str) -> list[Item]:
        return [each for each in self.entries if is_wanted(each, options(**wanted))]


def options(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"client": None, "server": None, "model": None, "source": None} | given)


@pytest.fixture(scope="module")
def books() -> Books:
    return Books(7)


def without_dust(rows: Sequence[Item]) -> list[Item]:
    """Times are doubles in the lake: their sums are right to a millionth of a second."""
    return [
        {
            name: round(value, 6) if name in ("duration", "time_to_first_chunk", "audio_duration") else value
            for name, value in row.items()
        }
        for row in rows
    ]


@pytest.mark.parametrize(
    "by", [[name] for name in NAMES] + [["tag:team"], ["day", "team", "tag:it's"], ["month", "tag:feature", "user"], []]
)
def test_sums_are_those_of_the_entries(by: list[str], books: Books) -> None:
    for wanted in ({}, {"client": "shop", "model": "gpt-large"}, {"server": "local"}):
        found = summarize(books.lake(**wanted).sums(by, wanted_of(options(**wanted))), by)
        expected = summarize([share_of(each) for each in books.of(**wanted)], by)
        assert without_dust(found) == without_dust(expected)
        assert expected


def test_entries_are_those_of_the_table_in_its_order(books: Books) -> None:
    found = list(books.lake().entries({}))
    kept = [{name: each[name] for name in each if name not in ("expires_at", "limits")} for each in books.entries]
    for each in kept:
        each["revision"] = 0
    assert found == kept
    assert [row_of(each) for each in found] == [row_of(each) for each in books.entries]
    assert list(focus_rows(found)) == list(focus_rows(books.entries))


def test_of_each_day_its_partitions_alone_are_read_and_of_entries_what_is_asked_for(books: Books) -> None:
    before = len(books.athena.asked)
    wanted = {"client": "search"}
    found = list(books.lake(**wanted).entries(wanted_of(options(**wanted)), {"cost", "team"}))
    asked = books.athena.asked[before:]
    days = sorted({each["day"] for each in books.of(**wanted)})
    assert [f"day BETWEEN '{day}' AND '{day}'" in sql for day, sql in zip(days, asked, strict=True)] == [True] * len(
        days
    )
    assert all("dt >= '2026-01-01'" not in sql for sql in asked)
    assert [each["sk"] for each in found] == [each["sk"] for each in books.of(**wanted)]
    assert {name for each in found for name in each} <= {"sk", "client_id", "day", "month", "cost", "team"}


def test_what_has_not_reached_the_lake_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    late = Books(8, late=3)
    assert sum(1 for _ in late.lake().entries({})) == 117
    assert "3 of 120 requests have not reached the lake yet" in capsys.readouterr().err
    [total] = late.lake().sums([], {})
    assert total["requests"] == 117
    assert "3 of 120 requests have not reached the lake yet" in capsys.readouterr().err
    list(Books(8).lake().entries({}))
    assert capsys.readouterr().err == ""


def test_nothing_is_asked_about_no_request() -> None:
    fake: Any = None
    assert LakeLedger(fake, []).sums(["team"], {}) == []
    assert list(LakeLedger(fake, []).entries({})) == []


@pytest.mark.parametrize(
    ("source", "requests", "environ", "is_lake"),
    [
        (None, MOST_OF_TABLE, True, False),
        (None, MOST_OF_TABLE + 1, True, True),
        (None, MOST_OF_TABLE + 1, False, False),
        ("table", 10**9, True, False),
        ("lake", 1, True, True),
    ],
)
def test_many_requests_are_read_from_the_lake_if_there_is_one(
    source: str | None, requests: int, environ: bool, is_lake: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", "http://127.0.0.1:1")  # there is no stack
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    lake = (
        {"LAKE_WORKGROUP": "w", "LAKE_DATABASE": "d"}
        if environ
        else {"LAKE_WORKGROUP": "", "AWS_ENDPOINT_URL": "http://127.0.0.1:1"}
    )
    there = {"AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", **lake}
    rollups = [{"day": "2026-02-02", "requests": Decimal(requests - 1)}, {"day": "2026-02-03", "requests": Decimal(1)}]
    assert (chosen_lake(rollups, options(source=source), there) is not None) == is_lake


def test_every_attribute_that_sums_are_made_of_is_in_the_lake(books: Books) -> None:
    in_lake = {name for each in books.lake().entries({}, OF_ENTRIES) for name in each}
    assert {name for each in books.entries for name in each if name in OF_ENTRIES} <= in_lake


def test_times_and_numbers_are_as_the_table_has_them() -> None:
    row = {
        "id": "01M8",
        "day": "2026-02-03",
        "occurred_at": "2026-02-03 04:05:06",
        "cost": Decimal("100.000000000000000000"),
    }
    row |= {"duration": 0.1 + 0.2, "input_tokens": 1000, "stream": False, "tags": '{"a":"b"}', "team": None}
    assert as_entry(row) == {
        "sk": "01M8",
        "day": "2026-02-03",
        "month": "2026-02",
        "timestamp": "2026-02-03T04:05:06.000Z",
        "cost": 100,
        "duration": Decimal("0.3"),
        "input_tokens": 1000,
        "stream": False,
        "tags": {"a": "b"},
    }
    assert str(as_entry(row)["cost"]) == "100"
    assert quoted("it's") == "'it''s'"
