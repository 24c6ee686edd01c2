"""What the commands read of a ledger of two million entries, counted as DynamoDB bills it. Entries are computed."""

import json
import re
from argparse import Namespace
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from openai_proxy.dynamodb import to_item
from openai_proxy.events.ulid import first_ulid_of

from console.costs.reading import MOST_KEPT, MOST_OF_TABLE, Ledger
from console.period import Period
from console.report.commands import read_report
from console.report.figures import Throttles
from console.report.report import page_of
from console.stack import Table
from console.throttles.reading import Stretch, throttles_in
from tests.fakes import no_picture
from tests.tables import ENTRY

FIRST, DAYS, CLIENTS, OF_A_DAY = date(2026, 3, 1), 100, 4, 5000
ENTRIES = DAYS * CLIENTS * OF_A_DAY
PERIOD = Period(FIRST + timedelta(days=DAYS - 30), FIRST + timedelta(days=DAYS - 1))
ENTRY_BYTES, ROLLUP_BYTES, MB = 999, 1024, 1_000_000
MIDNIGHTS = {str(FIRST + timedelta(days=n)): 1772323200 + n * 86400 for n in range(DAYS)}


class CountingTable:
    """The queries of a ledger whose entries are computed. `units` and `asked` count what was read.

    A page has 1 MB at most, as DynamoDB's; half a unit for each begun 4 KB of a page. It knows no Scan.
    """

    def __init__(self) -> None:
        self._reading = Lock()  # days are read side by side
        self.units = 0.0
        self.asked: list[str] = []
        self.read = 0

    def get_paginator(self, operation: str) -> "CountingTable":
        assert operation == "query", "never a Scan"
        return self

    def paginate(self, **request: Any) -> Iterator[dict[str, Any]]:
        values = request["ExpressionAttributeValues"]
        pk, before = values[":pk"]["S"], values.get(":before", {}).get("S")
        self.asked.append(pk)
        size = ENTRY_BYTES if pk.startswith("client#") else ROLLUP_BYTES
        page_size = request.get("PaginationConfig", {}).get("PageSize") or MB // size
        items = list(self._items(pk))
        if before is not None:
            items = [item for item in items if item["sk"] < before]
        if not request.get("ScanIndexForward", True):
            items.reverse()
        for first in range(0, max(len(items), 1), page_size):
            page = items[first : first + page_size]
            with self._reading:
                self.read += len(page)
                self.units += max(-(-len(page) * size // 4096), 1) / 2
            yield {"Items": [to_item(item) for item in page]}

    def _items(self, pk: str) -> Iterator[Mapping[str, Any]]:
        kind, *names = pk.split("#")
        if kind == "day":
            for client in range(CLIENTS):
                row = {"client_id": f"c{client}", "server": "openai", "model": "gpt", "requests": OF_A_DAY}
                row |= {"t9": OF_A_DAY, "d18": OF_A_DAY}
                yield {"pk": pk, "sk": f"c{client}#openai#gpt", **row}
        elif kind == "client":
            for number in range(OF_A_DAY):
                yield {"pk": pk, "sk": first_ulid_of(MIDNIGHTS[names[1]] + number * 86400 / OF_A_DAY), **ENTRY}


@pytest.fixture
def table() -> CountingTable:
    return CountingTable()


def ledger(table: CountingTable) -> Ledger:
    fake: Any = table
    return Ledger(Table(fake, "costs"))


def test_sums_of_a_month_read_thirty_partitions_of_rollups(table: CountingTable) -> None:
    assert ENTRIES == 2_000_000
    rows = ledger(table).rollups(PERIOD)
    assert sum(int(row["requests"]) for row in rows) == 30 * CLIENTS * OF_A_DAY
    assert sorted(table.asked) == [f"day#{day}" for day in PERIOD.days]
    assert table.units == 30 / 2


def test_a_report_of_a_month_reads_rollups_alone(table: CountingTable) -> None:
    fake: Any = table
    options = Namespace(client=None, server=None, model=None)
    report = read_report(Table(fake, "costs"), PERIOD, options, Throttles({}, "not asked"))
    days = [str(day) for day in PERIOD.days]
    assert sorted(table.asked) == sorted(f"{kind}#{day}" for kind in ("day", "throttles") for day in days)
    assert table.units == 2 * 30 / 2
    text = page_of(report).to_html(no_picture)
    assert f"<td>{30 * CLIENTS * OF_A_DAY:,}</td>" in text, "with the latencies of all of them"


def test_throttles_read_rollups_alone(table: CountingTable) -> None:
    fake: Any = table
    assert throttles_in(Table(fake, "costs"), Stretch.days(PERIOD)) == []
    assert len(table.asked) == 30
    assert all(re.fullmatch(r"throttles#\d{4}-\d\d-\d\d", pk) for pk in table.asked)


def test_a_page_of_entries_reads_a_page_and_the_next_one_goes_on(table: CountingTable) -> None:
    pages: list[list[str]] = []
    before = None
    for _ in range(3):
        latest = ledger(table).latest("c1", PERIOD, before=before, at_once=20)
        pages.append([next(latest)["sk"] for _ in range(20)])
        before = pages[-1][-1]
    newest = [sk for page in pages for sk in page]
    assert newest == sorted(newest, reverse=True)
    assert len(set(newest)) == 60
    assert (table.read, table.units) == (60, 3 * 5 / 2)
    assert set(table.asked) == {f"client#c1#{PERIOD.last}"}


def test_what_rollups_do_not_know_reads_the_clients_days_and_keeps_few(table: CountingTable) -> None:
    own = ledger(table)
    day = Period(PERIOD.last, PERIOD.last)
    entries = own.entries([row for row in own.rollups(day) if row["client_id"] in ("c1", "c2")])
    assert next(entries)["day"] == str(PERIOD.last)
    assert table.read - CLIENTS <= MOST_KEPT
    assert 1 + sum(1 for _ in entries) == 2 * OF_A_DAY
    assert sorted(set(table.asked)) == [f"client#{c}#{PERIOD.last}" for c in ("c1", "c2")] + [f"day#{PERIOD.last}"]


def test_a_large_day_of_a_client_is_read_page_by_page(table: CountingTable) -> None:
    rollup = {"day": str(PERIOD.last), "client_id": "c1", "requests": MOST_KEPT + 1}
    entries = ledger(table).entries([rollup])
    next(entries)
    assert table.read == MB // ENTRY_BYTES, "one page, whatever there is"
    assert json.dumps(sorted(set(table.asked))) == f'["client#c1#{PERIOD.last}"]'


def test_the_page_says_what_a_question_costs_at_a_hundred_million_requests_a_month() -> None:
    page = (Path(__file__).parents[4] / "docs" / "scale.md").read_text(encoding="utf-8")
    table = page.partition("## What a question costs")[2].partition("## Managed")[0]
    figures = re.findall(r"^\| .* \| .* \| ([\d.,]+) \| ([\d.]+) \|$", table, re.MULTILINE)
    units = [30 * half_units(25 * ROLLUP_BYTES), 30 * half_units(1000 * ROLLUP_BYTES), half_units(20 * ENTRY_BYTES)]
    expected = [*units, half_units(50_000 * ENTRY_BYTES), 100_000_000 * ENTRY_BYTES / 4096 / 2]
    assert [float(read.replace(",", "")) for read, _ in figures[:5]] == pytest.approx(expected, rel=1e-3)
    assert [float(usd) for _, usd in figures[:5]] == pytest.approx([each * 0.125e-6 for each in expected], rel=0.05)


def test_the_page_says_what_a_question_to_the_lake_costs() -> None:
    page = (Path(__file__).parents[4] / "docs" / "scale.md").read_text(encoding="utf-8")
    [size] = re.findall(r"In the lake an entry takes about (\d+) bytes", page)
    rows = re.findall(r"^\| .*of a (day|month).* \| (\d+) % \| ([\d.]+) \| ([\d.]+) \|$", page, re.MULTILINE)
    assert len(rows) == 6
    for period, share, gigabytes, usd in rows:
        requests = 100_000_000 / (30 if period == "day" else 1)
        read = int(size) * int(share) / 100 * requests / 1e9
        assert float(gigabytes) == pytest.approx(read, rel=0.03)
        assert float(usd) == pytest.approx(read * 5e-3, rel=0.07)
    assert f"up to {MOST_OF_TABLE:,} requests" in page


def half_units(size: int) -> float:
    """Read units of an answer of so many bytes that need not be the newest."""
    return -(-size // 4096) / 2
