"""`costs export`: the inferences of a period as Parquet, CSV or lines of JSON, or as a bill in FOCUS 1.2's columns."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from console.costs.filters import FILTERS, add_filters, add_source, filter_text, is_wanted, wanted_of
from console.costs.reading import Ledger
from console.errors import ConsoleError
from console.export.columns import columns, row_of
from console.export.files import write_csv, write_json_lines, write_parquet, written
from console.export.focus import FOCUS_COLUMNS, focus_rows
from console.known import check_filters
from console.lake.reading import chosen_lake
from console.output import say_nothing_found
from console.period import Period, add_period, chosen_period, last_days
from console.stack import add_table_options, chosen_table
from console.text import count, harmless, to_json

FORMATS = ("parquet", "csv", "jsonl", "focus")
_USUAL_DAYS = "30d"

Item = dict[str, Any]


@dataclass(slots=True)
class Seen:
    """What the export was made of."""

    entries: int = 0
    unpriced: int = 0


def add_export(export: argparse.ArgumentParser) -> None:
    """Give `export` its options. What stands before its name holds for it too."""
    export.description = (
        "Writes every inference of a period with all its columns, the last 30 days unless one is named. `focus` sums "
        "them up by day, client, model, meter and price, in the columns of FOCUS 1.2, as CSV."
    )
    export.add_argument("--format", choices=FORMATS, default="csv", help="of the file; default: csv")
    export.add_argument("--output", type=Path, metavar="FILE", help="default: standard output; Parquet needs a file")
    add_filters(export, *FILTERS, inherited=True)
    add_source(export, inherited=True)
    add_period(export, inherited=True)
    add_table_options(export, "CostsTable", inherited=True)
    export.set_defaults(run=run_export)


def run_export(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run `costs export`. Raises ConsoleError and botocore's errors."""
    if options.format == "parquet" and options.output is None:
        raise ConsoleError("A Parquet file cannot go to standard output. Remedy: name it with --output costs.parquet.")
    if options.json and options.output is None:
        raise ConsoleError(
            "--json describes the file that is written; there is none. Remedy: add --output, or use --format jsonl."
        )
    period, seen = chosen_period(options) or last_days(_USUAL_DAYS), Seen()
    entries = counted(_entries(period, options, environ), seen)
    rows = write(options.format, options.output, entries)
    if options.json:
        document = {"file": str(options.output), "format": options.format, "from": str(period.first)}
        print(to_json(document | {"to": str(period.last), "rows": rows} | as_document(seen)))
        if not rows:
            say_nothing_found(f"No request {period.text}{filter_text(options)}.", options)
    else:
        print(said(options, rows, seen, period.text + filter_text(options)), file=_beside(options))
    return 0


def _beside(options: argparse.Namespace) -> TextIO:
    """The stream for what the command says: not standard output, where that is the export itself."""
    return sys.stdout if options.output else sys.stderr


def _entries(period: Period, options: argparse.Namespace, environ: Mapping[str, str]) -> Iterable[Item]:
    """The entries that are asked for, from the table or from the lake."""
    ledger = Ledger(chosen_table("CostsTable", options, environ))
    rollups = [row for row in ledger.rollups(period) if is_wanted(row, options)]
    if not rollups:
        check_filters(options, environ)
    if lake := chosen_lake(rollups, options, environ):
        return lake.entries(wanted_of(options))
    return (each for each in ledger.entries(rollups) if is_wanted(each, options))


def write(format_: str, file: Path | None, entries: Iterable[Item]) -> int:
    """Write entries in a format. Returns how many rows the file has."""
    if format_ == "parquet" and file is not None:
        return write_parquet(file, map(row_of, entries))
    with written(file) as stream:
        match format_:
            case "focus":
                return write_csv(stream, FOCUS_COLUMNS, focus_rows(entries))
            case "jsonl":
                return write_json_lines(stream, map(row_of, entries))
            case _:
                return write_csv(stream, [column.name for column in columns()], map(row_of, entries))


def counted(entries: Iterable[Item], seen: Seen) -> Iterator[Item]:
    """The same entries; what passes is counted in `seen`."""
    for entry in entries:
        seen.entries += 1
        seen.unpriced += entry["pricing"] == "unpriced"
        yield entry


def as_document(seen: Seen) -> dict[str, int]:
    """What an export was made of, for programs."""
    return {"inferences": seen.entries, "unpriced": seen.unpriced}


def said(options: argparse.Namespace, rows: int, seen: Seen, period: str) -> str:
    """What an export was made of, in words."""
    where = f"Wrote {harmless(str(options.output))}: " if options.output else ""
    line = f"{where}{count(rows)} rows of {count(seen.entries)} inferences {period}."
    if not seen.unpriced:
        return line
    costs = "cost 0 in it (x_PricingStatus)" if options.format == "focus" else "have no cost in it"
    return f"{line}\n{count(seen.unpriced)} of them have no price: they {costs}."
