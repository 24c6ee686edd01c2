"""Sums and entries as text: tables for people, CSV for spreadsheets and programs, JSON for programs.

One rule: a table fits the width it is given; figures give way in a fixed order, names are shortened, the cost stays.
"""

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from console.costs.summary import SUMS, attribute, known_cost, known_saving, mean_first_chunk, total_of
from console.text import columns, count, harmless, seconds, shortened, usd

Item = dict[str, Any]

_SHORTEST_NAME = 24
"""Figures give way before names get shorter than this."""


@dataclass(frozen=True, slots=True)
class _Figure:
    """A column. Those with the highest `rank` give way first; 0 never does."""

    heading: str
    rank: int
    text: Callable[[Item], str]


def _saved_text(row: Item) -> str:
    if not row["cache_hits"]:
        return "-"
    saved = known_saving(row)
    return "unknown" if saved is None else usd(saved)


_FIGURES = (
    _Figure("REQUESTS", 0, lambda row: count(row["requests"])),
    _Figure("FAILED", 3, lambda row: count(row["failed"])),
    _Figure("INPUT", 1, lambda row: count(row["input_tokens"])),
    _Figure("CACHED", 4, lambda row: count(row["cache_read_input_tokens"])),
    _Figure("OUTPUT", 2, lambda row: count(row["output_tokens"])),
    _Figure("TTFT s", 5, lambda row: seconds(mean_first_chunk(row))),
    _Figure("DURATION s", 6, lambda row: seconds(row["duration"] / row["requests"])),
    _Figure("ESTIMATED", 7, lambda row: count(row["usage_estimated"])),
    _Figure("UNPRICED", 8, lambda row: count(row["unpriced"])),
    _Figure("SAVED USD", 3, _saved_text),
    _Figure("COST USD", 0, lambda row: usd(known_cost(row))),
)


def summary_table(rows: Sequence[Item], by: Sequence[str], width: int | None = None) -> str:
    """Sums as text, with their total and what it leaves out. `width` None is any width."""
    total = total_of(rows)
    headings = [name.upper() for name in by] or [""]
    names = [[harmless(str(row[attribute(name)])) for name in by] or [""] for row in rows]
    lines = [headings, *names, ["TOTAL", *[""] * (len(headings) - 1)]]
    wanted = [each for each in _FIGURES if each.heading != "SAVED USD" or total["cache_hits"]]
    figures = [(figure, [figure.heading, *map(figure.text, [*rows, total])]) for figure in wanted]
    least = sum(min(_SHORTEST_NAME, _widest(column)) + 2 for column in zip(*lines, strict=True))
    while width is not None and least + _width(figures) - 2 > width:
        # A figure that tells how far to trust the cost stays, if there is anything to tell.
        kept = {"UNPRICED": total["unpriced"], "ESTIMATED": total["usage_estimated"]}
        ranks = [0 if kept.get(figure.heading) else figure.rank for figure, _ in figures]
        if not any(ranks):
            break
        del figures[ranks.index(max(ranks))]
    shown = _fitted(lines, None if width is None else width + 2 - _width(figures))
    cells = zip(*(texts for _, texts in figures), strict=True)
    table = [[*line, *figures_of_it] for line, figures_of_it in zip(shown, cells, strict=True)]
    return columns(table[0], table[1:], numbers=len(figures), total=True) + left_out(total)


def left_out(total: Item) -> str:
    """What a total does not know, in lines after an empty one; "" when it knows all."""
    lines: list[str] = []
    if total["unpriced"]:
        lines.append(f"Requests without a price, whose cost is not in the total: {count(total['unpriced'])}.")
        if total["usage_missing"]:
            lines.append(f"Requests whose usage the server did not report: {count(total['usage_missing'])}.")
        if total["usage_invalid"]:
            lines.append(f"Requests whose reported usage cannot be: {count(total['usage_invalid'])}.")
        lines.append("Each entry says why (`costs entries --unpriced --json`); prices are in prices.yaml.")
    if unknown := total["cache_hits"] - total["hits_priced"]:
        lines.append(f"Answers of the response cache that saved an unknown amount: {count(unknown)}.")
    if total["usage_estimated"]:
        lines.append(f"Requests whose usage is estimated, and so is their cost: {count(total['usage_estimated'])}.")
    return "\n\n" + "\n".join(lines) if lines else ""


def as_document(row: Item) -> Item:
    """A sum for `to_json`: its cost is null when no request has a price, and its saving when no hit has."""
    return row | _known(row)


def summary_csv(rows: Iterable[Item], by: Sequence[str]) -> str:
    """Sums as CSV. An unknown cost or saving is empty, and no name is a formula to a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*map(attribute, by), *SUMS])
    for row in rows:
        names = [_no_formula(harmless(str(row[attribute(name)]))) for name in by]
        known = row | _known(row)
        figures = [known[name] for name in SUMS]
        writer.writerow([*names, *("" if value is None else plain(value) for value in figures)])
    return text.getvalue()


def _known(row: Item) -> Item:
    return {"cost": known_cost(row), "cost_saved": known_saving(row)}


def plain(value: Decimal) -> str:
    """A number with all its digits and no exponent."""
    return f"{value.normalize():f}"


def entries_table(entries: Iterable[Item], *, with_day: bool = False) -> str:
    """Ledger entries as text."""
    rows = [
        (
            entry["timestamp"][:19].replace("T", " ") if with_day else entry["timestamp"][11:19],
            harmless(entry.get("server", "-")),
            harmless(entry.get("model", "-")),
            _end(entry),
            str(entry["status_code"]),
            count(entry["input_tokens"]),
            count(entry["cache_read_input_tokens"]),
            count(entry["output_tokens"]),
            seconds(entry.get("time_to_first_chunk")),
            seconds(entry["duration"]),
            usd(entry.get("cost")),
        )
        for entry in entries
    ]
    headings = ("TIME", "SERVER", "MODEL", "END", "STATUS", "INPUT", "CACHED", "OUTPUT", "TTFT s", "DURATION s")
    return columns((*headings, "COST USD"), rows, numbers=7)


def _end(entry: Item) -> str:
    end = harmless(entry.get("error_type") or ",".join(entry["finish_reasons"]) or entry["outcome"])
    notes = ["cache"] if entry.get("cache_status") == "HIT" else []
    notes += ["limits unchecked"] if entry.get("limits") == "unchecked" else []
    return f"{end} ({', '.join(notes)})" if notes else end


def _no_formula(text: str) -> str:
    return f"'{text}" if text[:1] in "=+-@" and text not in ("", "-") else text


def _widest(column: Iterable[str]) -> int:
    return max(len(text) for text in column)


def _width(figures: Iterable[tuple[_Figure, Sequence[str]]]) -> int:
    return sum(_widest(texts) + 2 for _, texts in figures)


def _fitted(lines: Sequence[Sequence[str]], room: int | None) -> list[list[str]]:
    """Names cut to fit into `room`: always the longest ones."""
    widths = [_widest(column) for column in zip(*lines, strict=True)]
    while room is not None and sum(each + 2 for each in widths) > room and max(widths) > 4:
        widths[widths.index(max(widths))] -= 1
    return [[shortened(text, each) for text, each in zip(line, widths, strict=True)] for line in lines]
