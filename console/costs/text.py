"""Sums and entries as text: tables for people, CSV for spreadsheets and programs, JSON for programs.

A table fits the width it is given: figures give way in a fixed order, then names are shortened. The cost stays whole.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from openai_proxy.ledger.faults import FAULTS, fault_of

from console.costs.summary import SUMS, attribute, known_cost, known_saving, mean_first_chunk, total_of
from console.spreadsheets import csv_text
from console.tables import Columns, records, table
from console.text import count, harmless, plain, seconds, to_json, usd

Item = dict[str, Any]

_SHORTEST_NAME = 24
"""Figures give way before names get shorter than this."""


@dataclass(frozen=True, slots=True)
class _Figure:
    """A column."""

    heading: str
    text: Callable[[Item], str]


def _saved_text(row: Item) -> str:
    if not row["cache_hits"]:
        return "-"
    saved = known_saving(row)
    return "unknown" if saved is None else usd(saved)


_FIGURES = (
    _Figure("REQUESTS", lambda row: count(row["requests"])),
    _Figure("FAILED", lambda row: count(row["failed"])),
    _Figure("INPUT", lambda row: count(row["input_tokens"])),
    _Figure("CACHED", lambda row: count(row["cache_read_input_tokens"])),
    _Figure("OUTPUT", lambda row: count(row["output_tokens"])),
    _Figure("TTFT s", lambda row: seconds(mean_first_chunk(row))),
    _Figure("DURATION s", lambda row: seconds(row["duration"] / row["requests"])),
    _Figure("ESTIMATED", lambda row: count(row["usage_estimated"])),
    _Figure("UNPRICED", lambda row: count(row["unpriced"])),
    _Figure("SAVED USD", _saved_text),
    _Figure("UNITS USD", lambda row: usd(row["cost_units"])),
    _Figure("COST USD", lambda row: usd(known_cost(row))),
)
_GIVE_WAY = (
    *("ESTIMATED", "DURATION s", "TTFT s", "CACHED", "SAVED USD", "UNITS USD", "OUTPUT", "INPUT"),
    *("FAILED", "UNPRICED"),
)
"""The figures that a narrow terminal has no room for, the least needed first."""


def summary_table(rows: Sequence[Item], by: Sequence[str], width: int | None = None) -> str:
    """Sums as text, with their total and what it leaves out. `width` None is any width."""
    total = total_of(rows)
    names = [[harmless(str(row[attribute(name)])) for name in by] or [""] for row in rows]
    names.append(["TOTAL", *[""] * (len(by) - 1)])
    seldom = {"SAVED USD": total["cache_hits"], "UNITS USD": total["cost_units"]}
    figures = [each for each in _FIGURES if seldom.get(each.heading, True)]
    lines = [[*line, *(each.text(row) for each in figures)] for line, row in zip(names, [*rows, total], strict=True)]
    headings = [*([name.upper() for name in by] or [""]), *(each.heading for each in figures)]
    # A figure that tells how far to trust the cost stays as long as it can, if there is anything to tell.
    kept = {"UNPRICED": total["unpriced"], "ESTIMATED": total["usage_estimated"]}
    drop = [name for name in _GIVE_WAY if not kept.get(name)]
    last = ("ESTIMATED", "UNPRICED", "REQUESTS")
    columns = Columns(
        headings, len(figures), drop, least=_SHORTEST_NAME, last=[name for name in last if name not in drop]
    )
    shown = table(columns, lines, width=width, total=True)
    return shown + failures_text(total) + left_out(total)


def failures_text(total: Item) -> str:
    """Whose the failures of a sum are, in a line after an empty one; "" where nothing failed."""
    if not total["failed"]:
        return ""
    parts = {fault: total[f"failed_{fault}"] for fault in FAULTS}
    parts["unknown"] = total["failed"] - sum(parts.values())
    told = ", ".join(f"{fault} {count(number)}" for fault, number in parts.items() if number)
    return f"\n\nWhose the failures are: {told}. What a limit refused at once is in `throttles`."


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
    if total["unpriced_units"]:
        lines.append(f"Searches, calls of tools and the like without a price: {count(total['unpriced_units'])}.")
        lines.append("Entries name them (`costs entries --unpriced --json`: units); prices are `units` in prices.yaml.")
    if unknown := total["cache_hits"] - total["hits_priced"]:
        lines.append(f"Answers of the response cache that saved an unknown amount: {count(unknown)}.")
    if total["usage_estimated"]:
        lines.append(f"Requests whose usage is estimated, and so is their cost: {count(total['usage_estimated'])}.")
    return "\n\n" + "\n".join(lines) if lines else ""


def as_document(row: Item) -> Item:
    """A sum for `to_json`. Null is a cost when no request has a price, a saving when no hit has one, and what servers
    stated when none did.
    """
    return row | _known(row)


def summary_csv(rows: Iterable[Item], by: Sequence[str]) -> str:
    """Sums as CSV. An unknown cost or saving is empty, and no name is a formula to a spreadsheet."""
    by = [*map(attribute, by)]
    known = (row | _known(row) for row in rows)
    return csv_text([*by, *SUMS], ([*(str(row[name]) for name in by), *(row[name] for name in SUMS)] for row in known))


def _known(row: Item) -> Item:
    stated = row["cost_reported"] if row["costs_reported"] else None
    parts = dict.fromkeys(name for name in row if name.startswith("cost_")) if known_cost(row) is None else {}
    return {**parts, "cost": known_cost(row), "cost_saved": known_saving(row), "cost_reported": stated}


def entries_csv(entries: Iterable[Item]) -> str:
    """Ledger entries as CSV: the id first, every attribute that one of them has; what one has not is empty."""
    rows = [{name: value for name, value in entry.items() if name not in ("pk", "sk")} for entry in entries]
    columns = list(dict.fromkeys(["id", "timestamp", "client_id", *sorted({name for row in rows for name in row})]))
    return csv_text(columns, ([_csv_cell(row.get(name)) for name in columns] for row in rows))


def _csv_cell(value: Any) -> Any:
    return " ".join(to_json(value).split()) if isinstance(value, (dict, list, tuple, set)) else value


def entries_table(
    entries: Iterable[Item], *, with_day: bool = False, with_client: bool = False, width: int | None = None
) -> str:
    """Ledger entries as text, with their tags where one has some, and why one has no price. `width` None is any."""
    entries = list(entries)
    has_tags = any(entry.get("tags") for entry in entries)
    rows = [
        (
            entry["timestamp"][:19].replace("T", " ") if with_day else entry["timestamp"][11:19],
            _id(entry),
            *([harmless(entry["client_id"])] if with_client else []),
            harmless(entry.get("server", "-")),
            harmless(entry.get("model", "-")),
            _end(entry),
            *([_tags(entry)] if has_tags else []),
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
    figures = ("STATUS", "INPUT", "CACHED", "OUTPUT", "TTFT s", "DURATION s")
    named = ("TIME", "ID", *(["CLIENT"] if with_client else []), "SERVER", "MODEL", "END")
    headings = (*named, *(["TAGS"] if has_tags else []), *figures)
    drop = ("CACHED", "TAGS", "TTFT s", "DURATION s", "SERVER", "INPUT", "OUTPUT", "STATUS", "CLIENT", "MODEL")
    shown = table(Columns((*headings, "COST USD"), numbers=7, drop=drop, whole=("TIME", "ID")), rows, width=width)
    return shown + why_unpriced(entries)


def entries_records(entries: Iterable[Item]) -> str:
    """Ledger entries with all that they have, each attribute on a line of its own."""
    parts: list[str] = []
    for number, entry in enumerate(map(_told, entries), 1):
        [_, *lines] = records([*entry], [[*entry.values()]]).split("\n")
        parts.append("\n".join([f"-- {number} --", *lines]))
    return "\n\n".join(parts)


def _told(entry: Item) -> dict[str, str]:
    """An entry's attributes as text, exact, and whose its failure is."""
    fault = {"fault": fault_of(entry)} if fault_of(entry) else {}
    attributes = {"id": _id(entry), **entry, **fault}
    cells = {name: _csv_cell(value) for name, value in attributes.items() if name not in ("pk", "sk", "expires_at")}
    return {name: harmless(plain(each) if isinstance(each, Decimal) else str(each)) for name, each in cells.items()}


def why_unpriced(entries: Iterable[Item]) -> str:
    """Why entries have no price, each reason with how many have it and the id of one, in lines after an empty one."""
    reasons: dict[str, list[str]] = {}
    for entry in entries:
        if "cost" not in entry:
            about = f"{entry.get('model', '-')} on {entry.get('server', '-')}"
            reasons.setdefault(f"{about}: {entry.get('unpriced_reason', 'no reason was kept')}", []).append(_id(entry))
    lines = [f"Unpriced: {harmless(why)} ({count(len(ids))}, such as {ids[0]})." for why, ids in reasons.items()]
    return "\n\n" + "\n".join(lines) if lines else ""


def _id(entry: Item) -> str:
    return str(entry.get("id") or entry.get("sk") or "-")


def _tags(entry: Item) -> str:
    tags: Item = entry.get("tags") or {}
    return harmless(", ".join(f"{name}={value}" for name, value in sorted(tags.items()))) or "-"


def _end(entry: Item) -> str:
    end = harmless(entry.get("error_type") or ",".join(entry["finish_reasons"]) or entry["outcome"])
    notes = ([fault] if (fault := fault_of(entry)) else []) + (["cache"] if entry.get("cache_status") == "HIT" else [])
    notes += ["limits unchecked"] if entry.get("limits") == "unchecked" else []
    return f"{end} ({', '.join(notes)})" if notes else end
