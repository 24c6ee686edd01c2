"""The parts of the `costs` commands: periods, sums, tables, bars, progress."""

import argparse
import csv
import io
import re
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Context, Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.costs.bars import bar_chart
from console.costs.summary import AMOUNTS, COUNTS, NAMES, SUMS, share_of, summarize, top, total_of
from console.costs.text import as_document, summary_csv, summary_table
from console.errors import ConsoleError
from console.period import Period, add_period, chosen_period, today
from console.progress import Bars
from console.text import plain

Item = dict[str, Any]

WIDE = Context(prec=200)
USD = st.decimals(0, 10**6, places=12)
COUNT = st.integers(0, 10**12).map(Decimal)


@st.composite
def entries(draw: st.DrawFn) -> Item:
    """A ledger entry, as far as sums look at it."""
    entry: Item = {
        "outcome": draw(st.sampled_from(["completed", "failed"])),
        "cache_status": draw(st.sampled_from(["HIT", "MISS", "BYPASS"])),
        "usage_source": draw(st.sampled_from(["reported", "estimated", "missing", "none"])),
        "client_id": draw(st.sampled_from(["a", "b"])),
        "day": draw(st.sampled_from(["2026-11-30", "2026-12-01", "2026-12-02"])),
        "duration": draw(st.decimals(0, 900, places=6)),
        **{name: draw(COUNT) for name in AMOUNTS if name.endswith("tokens")},
    }
    entry["month"] = entry["day"][:7]
    for name, values in {
        "cost": USD,
        "time_to_first_chunk": st.decimals(0, 900, places=6),
        "server": st.sampled_from(["openai", "mistral"]),
        "model": st.sampled_from(["gpt-5", "=cmd", "o4"]),
        "client_owner": st.sampled_from(["Data", "Shop"]),
        "tags": st.just({"team": "blue"}),
    }.items():
        if draw(st.booleans()):
            entry[name] = draw(values)
    return entry


DIMENSIONS = st.lists(st.sampled_from([*NAMES, "tag:team"]), unique=True, max_size=4)


def independent(found: Sequence[Item], by: Sequence[str]) -> dict[tuple[str, ...], dict[str, Any]]:
    """What sums by `by` should be, one attribute at a time and with digits to spare."""

    def name(entry: Item, dimension: str) -> str:
        if dimension == "tag:team":
            return entry.get("tags", {}).get("team", "-")
        return entry.get(NAMES[dimension], "-")

    groups: dict[tuple[str, ...], list[Item]] = {}
    for entry in found:
        groups.setdefault(tuple(name(entry, each) for each in by), []).append(entry)
    return {
        key: {
            "requests": len(group),
            "failed": len([entry for entry in group if entry["outcome"] == "failed"]),
            "unpriced": len([entry for entry in group if "cost" not in entry]),
            "usage_estimated": len([entry for entry in group if entry["usage_source"] == "estimated"]),
            "cost": _sum(entry.get("cost", Decimal(0)) for entry in group),
            "input_tokens": _sum(entry["input_tokens"] for entry in group),
        }
        for key, group in groups.items()
    }


def _sum(values: Any) -> Decimal:
    total = Decimal(0)
    for value in values:
        total = WIDE.add(total, value)
    return total


@given(found=st.lists(entries(), max_size=30), by=DIMENSIONS)
def test_sums_are_what_an_independent_computation_makes_of_the_entries(found: list[Item], by: list[str]):
    rows = summarize(map(share_of, found), by)

    keys = [NAMES.get(name, name) for name in by]
    expected = independent(found, by)
    assert len(rows) == len(expected)
    for row in rows:
        wanted = expected[tuple(row[key] for key in keys)]
        assert {name: row[name] for name in wanted} == wanted


@given(found=st.lists(entries(), max_size=20), by=DIMENSIONS, fewer=st.data())
def test_sums_of_sums_are_the_sums(found: list[Item], by: list[str], fewer: st.DataObject):
    shares = [share_of(entry) for entry in found]
    kept = fewer.draw(st.lists(st.sampled_from(by), unique=True) if by else st.just([]))

    assert summarize(summarize(shares, by), kept) == summarize(shares, kept)
    assert total_of(summarize(shares, by)) == total_of(shares)
    assert summarize(reversed(shares), by) == summarize(shares, by)


@given(found=st.lists(entries(), min_size=1, max_size=20), most=st.integers(2, 5))
def test_a_top_list_adds_up_to_all(found: list[Item], most: int):
    rows = summarize(map(share_of, found), ["model"])

    shown = top(rows, "model", most)

    assert len(shown) == min(most, len(rows))
    assert total_of(shown) == total_of(rows)


@given(
    found=st.lists(entries(), min_size=1, max_size=12),
    by=DIMENSIONS.filter(lambda by: len(by) < 4),
    width=st.sampled_from([80, 120]),
)
def test_a_table_fits_its_width_and_keeps_the_cost(found: list[Item], by: list[str], width: int):
    tiny = [{**entry, **{name: entry[name] % 10**6 for name in AMOUNTS if name.endswith("tokens")}} for entry in found]
    lines = summary_table(summarize(map(share_of, tiny), by), by, width).split("\n\n")[0].splitlines()

    assert max(map(len, lines)) <= width
    assert lines[0].endswith("COST USD")
    assert len({len(line) for line in lines if not line.startswith("-")}) == 1
    if any("cost" not in entry for entry in tiny):
        assert "UNPRICED" in lines[0]


@given(found=st.lists(entries(), max_size=12), by=DIMENSIONS)
def test_csv_gives_every_digit_back_and_no_formula(found: list[Item], by: list[str]):
    rows = summarize(map(share_of, found), by)

    read = list(csv.DictReader(io.StringIO(summary_csv(rows, by))))

    for row, cells in zip(rows, read, strict=True):
        assert all(Decimal(cells[name]) == row[name] for name in SUMS if cells[name])
        assert (cells["cost"] == "") == bool(row["unpriced"] and not row["cost"])
        assert all(cell == "-" or cell[:1] not in "=+-@" for name, cell in cells.items() if name not in SUMS)


def test_what_has_no_price_is_never_shown_as_nothing():
    unpriced = share_of({"outcome": "completed", "usage_source": "reported", "model": "m"})
    hit = share_of({"outcome": "completed", "usage_source": "reported", "model": "m", "cost": Decimal(0)})
    rows = summarize([unpriced, hit], ["model"])

    assert summary_table(rows, ["model"]).splitlines()[2].endswith("unpriced")
    assert bar_chart(rows, "model").endswith("unpriced  2 req, 1 unpriced")


def test_time_comes_in_order_and_else_the_most_expensive_first():
    def share(day: str, cost: int) -> Item:
        return {name: Decimal(0) for name in SUMS} | {"day": day, "model": f"m{cost}", "cost": Decimal(cost)}

    rows = [share("2026-12-02", 9), share("2026-12-01", 1), share("2026-12-01", 5)]

    assert [row["cost"] for row in summarize(rows, ["day", "model"])] == [5, 1, 9]
    assert [row["cost"] for row in summarize(rows, ["model"])] == [9, 5, 1]


def test_counts_and_amounts_have_different_names():
    assert len(SUMS) == len(set(SUMS)) == len(COUNTS) + len(AMOUNTS)


def chosen(*arguments: str) -> Period | None:
    command = argparse.ArgumentParser()
    add_period(command)
    return chosen_period(command.parse_args(arguments))


@pytest.mark.parametrize(
    ("arguments", "first", "last"),
    [
        (["--day", "2026-02-03"], "2026-02-03", "2026-02-03"),
        (["--month", "2028-02"], "2028-02-01", "2028-02-29"),
        (["--from", "2026-02-03", "--to", "2026-03-01"], "2026-02-03", "2026-03-01"),
    ],
)
def test_periods(arguments: list[str], first: str, last: str):
    assert chosen(*arguments) == Period(date.fromisoformat(first), date.fromisoformat(last))


def test_periods_up_to_today(monkeypatch: pytest.MonkeyPatch):
    now = today()
    monkeypatch.setattr("console.period.today", lambda: now)  # it may end meanwhile

    assert chosen("--last", "7d") == Period(now - timedelta(days=6), now)
    assert chosen("--last", "2w") == Period(now - timedelta(days=13), now)
    assert chosen("--from", str(now)) == chosen("--day", "today") == Period(now, now)
    assert chosen() is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["--to", "2026-01-01"],
        ["--from", "2026-01-02", "--to", "2026-01-01"],
        ["--from", "1990-01-02", "--to", "2026-01-01"],
    ],
    ids=" ".join,
)
def test_periods_that_are_none(arguments: list[str]):
    with pytest.raises(ConsoleError):
        chosen(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--last", "0d"],
        ["--last", "7"],
        ["--last", "9999w"],
        ["--month", "2026-13"],
        ["--day", "20261123"],
        ["--day", "today", "--month", "this"],
    ],
    ids=" ".join,
)
def test_periods_that_cannot_be_read(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        chosen(*arguments)

    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("period", "text"),
    [
        (Period(date(2026, 11, 23), date(2026, 11, 23)), "on 2026-11-23 (UTC)"),
        (Period(date(2026, 11, 1), date(2026, 11, 30)), "in 2026-11 (UTC)"),
        (Period(date(2026, 11, 1), date(2026, 11, 29)), "from 2026-11-01 to 2026-11-29 (UTC)"),
    ],
)
def test_a_period_in_words(period: Period, text: str):
    assert period.text == text


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize("width", [60, 80, 120])
def test_bars_fit_and_are_as_long_as_their_share(width: int, blocks: bool):
    def row(model: str, cost: str) -> Item:
        return dict.fromkeys(SUMS, Decimal(0)) | {"model": model, "cost": Decimal(cost), "requests": Decimal(1)}

    rows = [row("x" * 50, "8"), row("half", "4"), row("tiny", "0.000001"), row("\x1b[31mred", "0")]

    lines = bar_chart(rows, "model", width, blocks=blocks).splitlines()

    ink = [sum(line.count(each) for each in "█#") for line in lines]
    assert max(map(len, lines)) <= width
    assert abs(ink[0] - 2 * ink[1]) <= 2
    assert lines[2].split()[1] in ("▏", "#")
    assert ink[3] == 0
    assert "\x1b" not in lines[3]
    assert not blocks or "…" in lines[0]
    assert blocks or all(line.isascii() for line in lines)


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_is_drawn_on_a_terminal_only_and_taken_away():
    terminal, file = FakeTerminal(), io.StringIO()

    for stream in (terminal, file):
        with Bars(stream)("days", 2) as advance:
            advance(1)
            advance(1)

    assert re.search("days .* 2/2 ", terminal.getvalue())
    assert terminal.getvalue().endswith("\x1b[2K")
    assert file.getvalue() == ""


def test_a_bar_never_counts_more_than_all():
    """Where the entries of one model are wanted, a client's whole day is read: more than was reckoned with."""
    terminal = FakeTerminal()
    with Bars(terminal)("requests", 2) as advance:
        for _ in range(3):
            advance(1)
    assert re.search("requests .* 3/3 ", terminal.getvalue())
    assert "3/2" not in terminal.getvalue()


def test_numbers_without_exponents():
    assert [plain(Decimal(text)) for text in ("1E+3", "0.0000001", "2.50")] == ["1000", "0.0000001", "2.5"]


def hits(model: str, number: int, priced: int, saved: str) -> Item:
    """A sum of answers of the response cache, of which so many have a price."""
    sums = {"requests": Decimal(max(number, 1)), "cache_hits": Decimal(number), "hits_priced": Decimal(priced)}
    return dict.fromkeys(SUMS, Decimal(0)) | {"model": model, "cost_saved": Decimal(saved)} | sums


def test_what_the_response_cache_saved_is_shown_when_it_answered_and_unknown_when_it_is():
    rows = summarize([hits("a", 2, 2, "0.5"), hits("b", 1, 0, "0"), hits("bare", 0, 0, "0")], ["model"])

    lines = summary_table(rows, ["model"]).splitlines()
    assert "SAVED USD" in lines[0]
    saved = {line.split()[0]: line.split()[-2] for line in lines[1:] if line and line[0] in "abT"}
    assert saved == {"a": "0.500000", "b": "unknown", "bare": "-", "TOTAL": "0.500000"}
    assert "saved an unknown amount: 1." in lines[-1]
    known = list(csv.DictReader(io.StringIO(summary_csv(rows, ["model"]))))
    assert {row["model"]: row["cost_saved"] for row in known} == {"a": "0.5", "b": "", "bare": "0"}
    assert {row["model"]: as_document(row)["cost_saved"] for row in rows} == {"a": Decimal("0.5"), "b": None, "bare": 0}


def test_what_is_billed_by_the_piece_has_a_column_and_a_line_where_there_is_any():
    bare = dict.fromkeys(SUMS, Decimal(0)) | {"model": "a", "requests": Decimal(1)}
    paid = bare | {"cost": Decimal(2), "cost_units": Decimal("0.5"), "unpriced_units": Decimal(3)}
    shown = summary_table(summarize([paid], ["model"]), ["model"])

    assert [shown.splitlines()[0].split()[-4], shown.splitlines()[2].split()[-2]] == ["UNITS", "0.500000"]
    assert "Searches, calls of tools and the like without a price: 3." in shown
    assert "UNITS" not in summary_table(summarize([bare], ["model"]), ["model"])


def test_without_the_response_cache_there_is_no_column_for_it():
    rows = summarize([dict.fromkeys(SUMS, Decimal(0)) | {"model": "a", "requests": Decimal(1)}], ["model"])

    assert "SAVED" not in summary_table(rows, ["model"])
