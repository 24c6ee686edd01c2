"""`costs`: the commands that sum up, list, draw and report what was spent.

With --json and --csv the document is all that is on standard output.
"""

import argparse
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from console.cloudwatch import cloudwatch_client
from console.costs import reconcile_command, reprice
from console.costs.bars import bar_chart
from console.costs.reading import Ledger
from console.costs.summary import (
    NAMES,
    OF_ENTRIES,
    OF_ROLLUPS,
    UNNAMED,
    is_dimension,
    share_of,
    summarize,
    total_of,
    value_of,
)
from console.costs.text import as_document, entries_table, left_out, summary_csv, summary_table
from console.errors import ConsoleError
from console.export import command as export_command
from console.export import dictionary
from console.keys.options import tag, whole
from console.lake import query_command, save_queries
from console.output import has_blocks, show, terminal_width
from console.period import Period, add_period, chosen_period, last_days, read_day
from console.prices.book import add_book_options, chosen_book
from console.report.figures import OF_ENTRIES as OF_REPORT
from console.report.figures import entry_figures, read_throttles
from console.report.plot import write_png
from console.report.report import Report, bar_of, days_chart, report_page
from console.stack import add_table_options, chosen_table
from console.text import harmless, to_json
from console.throttles.reading import Stretch, throttles_in

Environment = Mapping[str, str]
Item = dict[str, Any]

_FILTERS = ("client", "server", "model")
_USUAL_DAYS = "30d"


def add_costs(costs: argparse.ArgumentParser) -> None:
    """Give `costs` its options and commands."""
    costs.description = (
        "What was spent, summed up by any dimensions; without a period: today. The commands list, draw, report and "
        "check it; plot and report take the last 30 days unless a period is named."
    )
    add_period(costs)
    names = ", ".join(NAMES)
    costs.add_argument(
        "--by",
        action="extend",
        type=_dimensions,
        metavar="DIMENSION",
        help=f"sum up by {names}, tag:NAME, or total; several as in client,day; default: client,server,model",
    )
    _add_filters(costs)
    costs.add_argument("--csv", action="store_true", help="print CSV, for spreadsheets")
    add_table_options(costs, "CostsTable")
    costs.set_defaults(run=_costs)

    commands = costs.add_subparsers(title="commands", metavar="[COMMAND]")
    _add_entries(commands.add_parser("entries", help="single inferences of a client"))
    _add_plot(commands.add_parser("plot", help="draw what was spent, in the terminal or as a PNG"))
    _add_report(commands.add_parser("report", help="write a page to send on (HTML)"))
    reconcile_command.add_parser(commands)
    export_command.add_parser(commands)
    dictionary.add_parser(commands)
    query_command.add_parser(commands)
    save_queries.add_parser(commands)
    reprice.add_parser(commands)


def _add_entries(entries: argparse.ArgumentParser) -> None:
    entries.add_argument("--client", required=True, metavar="CLIENT_ID")
    _add_filters(entries, *_FILTERS[1:], inherited=True)
    add_period(entries, inherited=True)
    entries.add_argument("--failed", action="store_true", help="only those that failed")
    entries.add_argument(
        "--unpriced", action="store_true", help="only those without a price, or with units without one"
    )
    entries.add_argument(
        "--tag", action="append", type=tag, dest="tags", metavar="NAME=VALUE", help="only of this tag (repeatable)"
    )
    entries.add_argument("--estimated", action="store_true", help="only those whose usage is estimated")
    entries.add_argument(
        "--limit", type=whole(1, 36500), default=20, metavar="N", help="how many, newest first; default: 20"
    )
    add_table_options(entries, "CostsTable", inherited=True)
    entries.set_defaults(run=_entries)


def _add_plot(plot: argparse.ArgumentParser) -> None:
    add_period(plot, inherited=True)
    plot.add_argument(
        "--by", dest="dimension", type=_dimension, default="day", metavar="DIMENSION", help="default: day"
    )
    _add_filters(plot, *_FILTERS, inherited=True)
    plot.add_argument("--png", type=Path, metavar="FILE", help="write a picture instead")
    add_table_options(plot, "CostsTable", inherited=True)
    plot.set_defaults(run=_plot)


def _add_report(report: argparse.ArgumentParser) -> None:
    report.add_argument("file", type=Path, metavar="FILE.html", help="what to write")
    add_period(report, inherited=True)
    _add_filters(report, *_FILTERS, inherited=True)
    add_book_options(report)
    add_table_options(report, "CostsTable", inherited=True)
    report.set_defaults(run=_report)


def _add_filters(command: argparse.ArgumentParser, *names: str, inherited: bool = False) -> None:
    default = argparse.SUPPRESS if inherited else None
    for name in names or _FILTERS:
        command.add_argument(f"--{name}", default=default, metavar="NAME", help=f"only of this {name}")


def _costs(options: argparse.Namespace, environ: Environment) -> int:
    if options.csv and options.json:
        raise ConsoleError("--csv and --json exclude each other. Remedy: give one of them.")
    by: list[str] = list(_FILTERS) if options.by is None else list(dict.fromkeys(options.by))
    period = chosen_period(options) or read_day("today")
    rows = summarize(_rows(_ledger(options, environ), period, by, options), by)
    if options.json:
        print(to_json([as_document(row) for row in rows]))
    elif options.csv:
        print(summary_csv(rows, by), end="")
    else:
        show(summary_table(rows, by, terminal_width()) if rows else f"Nothing {period.text}.")
    return 0


def _entries(options: argparse.Namespace, environ: Environment) -> int:
    period = chosen_period(options) or read_day("today")
    found = (each for each in _ledger(options, environ).latest(options.client, period) if _is_wanted(each, options))
    entries = list(islice(found, options.limit))
    if options.json:
        print(to_json(entries))
    elif entries:
        show(entries_table(entries, with_day=period.first != period.last, width=terminal_width()))
    else:
        print(f"Nothing of '{harmless(options.client)}' {period.text}.")
    return 0


def _plot(options: argparse.Namespace, environ: Environment) -> int:
    period, by = _long_period(options), options.dimension
    # A picture stacks the models of each day.
    rows = list(_rows(_ledger(options, environ), period, [by, "model"] if by == "day" else [by], options))
    if not rows:
        print(f"Nothing {period.text}.")
        return 0
    total = total_of(rows)
    if options.png:
        title = f"Spend by {by} {period.text}" + _in_title(total)
        chart = days_chart(rows, period, title) if by == "day" else bar_of(rows, by, title)
        write_png(chart.draw, options.png)
        print(f"Wrote {options.png}.")
        return 0
    sums = summarize(rows, [by])
    if options.json:
        print(to_json([as_document(row) for row in sums]))
        return 0
    if by == "day":
        without = [{"day": str(day), **total_of([])} for day in period.days]
        sums = summarize([*sums, *without], ["day"])
    print(f"Spend by {by} {period.text}, USD\n")
    show(bar_chart(sums, by, terminal_width(), blocks=has_blocks(sys.stdout)) + left_out(total))
    return 0


def _report(options: argparse.Namespace, environ: Environment) -> int:
    period, prices = _long_period(options), chosen_book(options)
    table = chosen_table("CostsTable", options, environ)
    ledger = Ledger(table)
    rollups = [row for row in ledger.rollups(period) if _is_wanted(row, options)]
    entries = (each for each in ledger.entries(rollups, OF_REPORT) if _is_wanted(each, options))
    report = Report(
        period=period,
        made_at=datetime.now(UTC),
        ledger=table.name + _filter_text(options),
        rollups=rollups,
        entries=entry_figures(entries, prices),
        throttles=read_throttles(lambda: cloudwatch_client(environ), period),
        throttled=[row for row in throttles_in(table, Stretch.days(period)) if _is_wanted(row.names, options)],
    )
    page = report_page(report)
    try:
        options.file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConsoleError(f"{options.file}: cannot be written ({error.strerror}).") from error
    print(f"Wrote {options.file} ({len(page.encode()) / 1024:,.0f} kB).")
    return 0


def _rows(ledger: Ledger, period: Period, by: Iterable[str], options: argparse.Namespace) -> Iterable[Item]:
    """Rollups where they know all that is asked for, else a share of a rollup for each entry."""
    rollups = [row for row in ledger.rollups(period) if _is_wanted(row, options)]
    if OF_ROLLUPS.issuperset(by):
        return rollups
    tags = any(name.startswith("tag:") for name in by)
    attributes = OF_ENTRIES if tags else OF_ENTRIES - {"tags"}
    return (share_of(each) for each in ledger.entries(rollups, attributes) if _is_wanted(each, options))


def _is_wanted(row: Item, options: argparse.Namespace) -> bool:
    """Whether a rollup or an entry is one that is asked for."""
    named = {"client_id": options.client, "server": options.server, "model": options.model}
    return (
        all(value is None or row.get(name, "-") == value for name, value in named.items())
        and all(
            value_of(row, f"tag:{name}") == (value or UNNAMED) for name, value in getattr(options, "tags", None) or ()
        )
        and not (getattr(options, "failed", False) and row["outcome"] != "failed")
        and not (getattr(options, "unpriced", False) and "cost" in row and "unpriced_units" not in row)
        and not (getattr(options, "estimated", False) and row["usage_source"] != "estimated")
    )


def _filter_text(options: argparse.Namespace) -> str:
    chosen = [f"{name} {getattr(options, name)}" for name in _FILTERS if getattr(options, name) is not None]
    return f", only of {', '.join(chosen)}" if chosen else ""


def _in_title(total: Item) -> str:
    unpriced = total["unpriced"]
    return f"\n{unpriced:,} requests without a price are not in it" if unpriced else ""


def _long_period(options: argparse.Namespace) -> Period:
    return chosen_period(options) or last_days(_USUAL_DAYS)


def _ledger(options: argparse.Namespace, environ: Environment) -> Ledger:
    return Ledger(chosen_table("CostsTable", options, environ))


def _dimensions(text: str) -> list[str]:
    return [] if text == "total" else [_dimension(name) for name in text.split(",")]


def _dimension(text: str) -> str:
    if not is_dimension(text):
        raise argparse.ArgumentTypeError(f"'{text}' is none of {', '.join(NAMES)} and tag:NAME")
    return text
