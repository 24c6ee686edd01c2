"""`costs plot` and `costs report`: what was spent as bars, as a picture, and as a page to send on."""

import argparse
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from console.aws import cloudwatch_client
from console.costs.bars import bar_chart
from console.costs.filters import (
    FILTERS,
    NO_SINGLE_REQUESTS,
    add_filters,
    add_source,
    dimension,
    filter_text,
    is_wanted,
    rows_of,
)
from console.costs.reading import Ledger
from console.costs.summary import OF_ROLLUPS, summarize, total_of
from console.costs.text import as_document, left_out
from console.errors import ConsoleError
from console.export.files import written
from console.known import check_filters
from console.output import has_blocks, say_nothing_found, show, terminal_width
from console.period import Period, add_period, chosen_period, last_days
from console.report.figures import Throttles, read_throttles, rollup_figures
from console.report.plot import write_png
from console.report.report import Report, bar_of, days_chart, page_of
from console.stack import Table, add_table_options, chosen_table, namespace_of
from console.text import to_json
from console.throttles.reading import Stretch, throttles_in

Environment = Mapping[str, str]
Item = dict[str, Any]

_USUAL_DAYS = "30d"


def add_plot(plot: argparse.ArgumentParser) -> None:
    """Give `plot` its options."""
    add_period(plot, inherited=True)
    plot.add_argument("--by", dest="dimension", type=dimension, default="day", metavar="DIMENSION", help="default: day")
    add_filters(plot, *FILTERS, inherited=True)
    add_source(plot, inherited=True)
    plot.add_argument("--png", type=Path, metavar="FILE", help="write a picture instead")
    add_table_options(plot, "CostsTable", inherited=True)
    plot.set_defaults(run=_plot)


def add_report(report: argparse.ArgumentParser) -> None:
    """Give `report` its options."""
    report.add_argument("file", type=Path, metavar="FILE.html", help="what to write")
    add_period(report, inherited=True)
    add_filters(report, *FILTERS, inherited=True)
    add_table_options(report, "CostsTable", inherited=True)
    report.set_defaults(run=_report)


def _plot(options: argparse.Namespace, environ: Environment) -> int:
    period, by = _long_period(options), options.dimension
    if options.source and by in OF_ROLLUPS:
        raise ConsoleError(NO_SINGLE_REQUESTS)
    # A picture stacks the models of each day.
    rows = list(rows_of(period, [by, "model"] if by == "day" else [by], options, environ))
    if not rows:
        check_filters(options, environ)
        if options.json:
            print("[]")
        say_nothing_found(f"No request {period.text}{filter_text(options)}.", options)
        return 0
    total = total_of(rows)
    if options.png:
        title = f"Spend by {by} {period.text}" + _in_title(total)
        chart = days_chart(rows, period, title) if by == "day" else bar_of(rows, by, title)
        write_png(chart.draw, options.png)
        print(to_json({"file": str(options.png)}) if options.json else f"Wrote {options.png}.")
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
    period, table = _long_period(options), chosen_table("CostsTable", options, environ)
    throttles = read_throttles(lambda: cloudwatch_client(environ), period, namespace_of(environ))
    report = read_report(table, period, options, throttles)
    is_empty = not (report.rollups or report.throttled)
    if is_empty:
        check_filters(options, environ)
    page = page_of(report).to_html()
    with written(options.file) as stream:
        stream.write(page)
    size = len(page.encode())
    document = {"file": str(options.file), "bytes": size, "from": str(period.first), "to": str(period.last)}
    print(to_json(document) if options.json else f"Wrote {options.file} ({size / 1024:,.0f} kB).")
    if is_empty:
        print(f"It is empty: no request {period.text}{filter_text(options)}.", file=sys.stderr)
    return 0


def read_report(table: Table, period: Period, options: argparse.Namespace, throttles: Throttles) -> Report:
    """What a page about a period is made of: rollups and no entry. Raises botocore's errors."""
    rollups = [row for row in Ledger(table).rollups(period) if is_wanted(row, options)]
    return Report(
        period=period,
        made_at=datetime.now(UTC),
        ledger=table.name + filter_text(options),
        rollups=rollups,
        figures=rollup_figures(rollups),
        throttles=throttles,
        throttled=[row for row in throttles_in(table, Stretch.days(period)) if is_wanted(row.names, options)],
    )


def _in_title(total: Item) -> str:
    unpriced = total["unpriced"]
    return f"\n{unpriced:,} requests without a price are not in it" if unpriced else ""


def _long_period(options: argparse.Namespace) -> Period:
    return chosen_period(options) or last_days(_USUAL_DAYS)
