"""`costs reconcile`: the ledger against a provider's usage export, or against the costs that a server stated itself.

Exit code 1 when they differ more than tolerated.
"""

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from console.arguments import announced
from console.aws import cloudwatch_client
from console.costs.causes import CAUSES, causes_of
from console.costs.reading import Ledger
from console.costs.reconcile import Comparison, Total, compare, stated_by_server, totals, without_hits, worst
from console.costs.summary import OF_ENTRIES, share_of, total_of
from console.costs.usage_export import MEASURES, NAMED, Export, read_exports
from console.errors import ConsoleError
from console.known import Names
from console.output import show, terminal_width
from console.period import Period, add_period, chosen_period, today
from console.stack import add_table_options, chosen_table, namespace_of
from console.tables import Columns, table
from console.text import count, harmless, plain, to_json, usd

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

DRIFT = "ReconciliationDrift"
"""The metric that `--publish` writes."""


def add_reconcile(command: argparse.ArgumentParser) -> None:
    """Give `reconcile` its options. What stands before its name holds for it too."""
    command.description = (
        "Compare the ledger with a provider's usage export (CSV), or without one with the costs that the server stated "
        "in its answers. Exit code 1: they differ."
    )
    command.add_argument("files", nargs="*", type=Path, metavar="FILE.csv", help="usage, costs, or both; default: none")
    command.add_argument("--server", required=True, metavar="NAME", help="the server whose provider made the export")
    add_period(command, inherited=True)
    command.add_argument(
        "--column",
        action="append",
        default=[],
        type=_column,
        metavar="WHAT=NAME",
        help=f"a column by its name; WHAT is {', '.join(NAMED)}; a figure may be a sum, as NAME+NAME",
    )
    command.add_argument(
        "--measure",
        action="append",
        choices=MEASURES,
        help="compare only this, or these; default: all that the files have but requests",
    )
    command.add_argument(
        "--tolerance", type=_percent, default=Decimal(1), metavar="PERCENT", help="for each figure; default: 1"
    )
    command.add_argument("--all", action="store_true", help="show also what agrees")
    command.add_argument("--publish", action="store_true", help=f"put the drift into CloudWatch as the metric {DRIFT}")
    add_table_options(command, "CostsTable", inherited=True)
    command.set_defaults(run=_run)
    command.add_argument("--force", action="store_true", help="compare even a server that no file and no entry knows")
    announced(command, lambda options: options.publish)


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    measures = options.measure or [each for each in MEASURES if each != "requests"]
    unpriced = 0
    if options.files:
        export = read_exports(options.files, dict(options.column))
        period = _period(options, export)
        if not any(measure in export.figures for measure in measures):
            raise ConsoleError("The files have none of the figures to compare. Remedy: name columns with --column.")
        rows = ledger_rows(Ledger(chosen_table("CostsTable", options, environ)), period, options.server)
    else:
        period = chosen_period(options) or Period(today(), today())
        _check_options_without_file(options, measures)
        ledger = Ledger(chosen_table("CostsTable", options, environ))
        rows, export, unpriced = stated_by_server(_stated(ledger, period, options.server), options.server)
    if not (rows or unpriced or options.force):
        Names.at_hand(environ).check_servers([options.server])
    comparisons = compare(rows, export, period.days, measures)
    sums, limit = totals(comparisons), options.tolerance / 100
    causes = causes_of(comparisons, rows, export)
    above = [each for each in comparisons if each.drift > limit]
    if options.json:
        document = _document(options, period, comparisons, sums, limit)
        explained = {"causes": [{"cause": name, "cost": usd} for name, usd in causes.items()]}
        print(to_json(document | explained))
    else:
        other = "the provider's export" if options.files else "what the server stated in its answers"
        print(f"The ledger's '{harmless(options.server)}' and {other}, {period.text}.\n")
        if shown := comparisons if options.all else above:
            show(f"{_table(shown, terminal_width())}\n")
        show(_totals_table(sums))
        if causes:
            show(f"\n{_causes_table(causes)}")
        print(_verdict(comparisons, above, options.tolerance))
        print(_unknown(total_of(rows)), end="")
        if unpriced:
            print(f"{count(unpriced)} requests have no price of the book: they cost what the server stated.")
    if options.publish:
        _publish(cloudwatch_client(environ), namespace_of(environ), options.server, worst(sums))
    return 1 if above else 0


def _publish(client: "CloudWatchClient", namespace: str, server: str, drift: Decimal) -> None:
    """Publish a drift from 0 to 1 as a percentage, for a server. Raises botocore's errors."""
    dimensions = [{"Name": "Server", "Value": server}]
    datum: Any = {"MetricName": DRIFT, "Dimensions": dimensions, "Value": float(100 * drift), "Unit": "Percent"}
    client.put_metric_data(Namespace=namespace, MetricData=[datum])


def _check_options_without_file(options: argparse.Namespace, measures: Sequence[str]) -> None:
    if "cost" not in measures:
        raise ConsoleError("A server states costs alone. Remedy: name its export, or leave --measure out.")
    if options.column:
        raise ConsoleError("--column names a column of a file. Remedy: name the file too, or leave --column out.")


def ledger_rows(ledger: Ledger, period: Period, server: str) -> list[dict[str, Any]]:
    """What the ledger has of a server by day and model, without answers from the response cache."""
    rollups = [row for row in ledger.rollups(period) if row["server"] == server]
    with_hits = [row for row in rollups if row.get("cache_hits")]
    entries = ledger.entries(with_hits, OF_ENTRIES, "requests of days with cache hits")
    hits = (entry for entry in entries if entry.get("cache_status") == "HIT" and entry.get("server") == server)
    return without_hits(rollups, map(share_of, hits))


def _stated(ledger: Ledger, period: Period, server: str) -> Iterator[dict[str, Any]]:
    """The entries of the clients and days in which the server stated a cost."""
    rollups = [row for row in ledger.rollups(period) if row["server"] == server and row.get("costs_reported")]
    return ledger.entries(rollups, OF_ENTRIES | {"pricing"}, "requests of days with stated costs")


def _period(options: argparse.Namespace, export: Export) -> Period:
    if period := chosen_period(options):
        return period
    if not export.days:
        raise ConsoleError("The files have no rows. Remedy: name the period, if the server was not used in it.")
    return Period(min(export.days), max(export.days))


def _table(comparisons: Sequence[Comparison], width: int | None) -> str:
    rows = [
        (
            each.day,
            each.measure,
            _figure(each.measure, each.ledger),
            _figure(each.measure, each.provider),
            _percentage(each.drift),
            harmless(each.model),
        )
        for each in comparisons
    ]
    headings = ("DAY", "FIGURE", "LEDGER", "PROVIDER", "DRIFT", "MODEL")
    return table(Columns(headings, drop=(), whole=headings[:-1]), rows, width=width)


def _totals_table(sums: Sequence[Total]) -> str:
    if not sums:
        return "Neither has anything of this period to compare."
    rows = [
        (
            each.measure,
            _figure(each.measure, each.ledger),
            _figure(each.measure, each.provider),
            _percentage(each.drift),
        )
        for each in sums
    ]
    return table(Columns(("TOTAL OF", "LEDGER", "PROVIDER", "DRIFT"), numbers=3), rows)


def _causes_table(causes: Mapping[str, Decimal]) -> str:
    """The provider's cost less the ledger's, by cause."""
    rows = [(CAUSES[name], name, f"{usd:+.6f}") for name, usd in causes.items()]
    rows.append(("the provider's cost less the ledger's", "TOTAL", f"{sum(causes.values()):+.6f}"))
    return table(Columns(("WHY", "CAUSE", "USD"), numbers=1, whole=("WHY", "CAUSE")), rows, total=True)


def _verdict(comparisons: Sequence[Comparison], above: Sequence[Comparison], tolerance: Decimal) -> str:
    if not above:
        return f"\nAll {count(len(comparisons))} figures agree to {plain(tolerance)} %." if comparisons else ""
    return f"\n{count(len(above))} of {count(len(comparisons))} figures differ by more than {plain(tolerance)} %."


def _unknown(total: Mapping[str, Any]) -> str:
    known = {
        "unpriced": "have no price: the ledger's cost is without them",
        "usage_missing": "have no usage: the ledger's tokens are without them",
        "usage_invalid": "have a usage that cannot be: the ledger's tokens are without them",
        "usage_estimated": "have estimated usage",
    }
    lines = [f"{count(total[name])} requests {what}." for name, what in known.items() if total[name]]
    return "".join(f"{line}\n" for line in lines)


def _document(
    options: argparse.Namespace,
    period: Period,
    comparisons: Sequence[Comparison],
    sums: Sequence[Total],
    limit: Decimal,
) -> dict[str, Any]:
    def figure(value: Decimal | None) -> str | None:
        return None if value is None else plain(value)

    return {
        "server": options.server,
        "against": "export" if options.files else "stated",
        "from": str(period.first),
        "to": str(period.last),
        "tolerance": float(limit),
        "drift": float(worst(sums)) if sums else None,
        "above_tolerance": sum(each.drift > limit for each in comparisons),
        "totals": [
            {
                "measure": each.measure,
                "ledger": figure(each.ledger),
                "provider": figure(each.provider),
                "drift": float(each.drift),
            }
            for each in sums
        ],
        "figures": [
            {
                "day": each.day,
                "model": each.model,
                "measure": each.measure,
                "ledger": figure(each.ledger),
                "provider": figure(each.provider),
                "difference": figure(each.difference),
                "drift": float(each.drift),
            }
            for each in comparisons
        ],
    }


def _figure(measure: str, value: Decimal | None) -> str:
    return usd(value) if measure == "cost" else "-" if value is None else count(value)


def _percentage(drift: Decimal) -> str:
    return f"{100 * drift:.2f} %"


def _column(text: str) -> tuple[str, str]:
    what, equals, name = text.partition("=")
    if what not in NAMED or not equals or not name:
        raise argparse.ArgumentTypeError(f"'{text}' is not WHAT=NAME, where WHAT is one of {', '.join(NAMED)}")
    return what, name


def _percent(text: str) -> Decimal:
    if not re.fullmatch(r"\d{1,3}(\.\d{1,6})?", text, re.ASCII) or Decimal(text) > 100:
        raise argparse.ArgumentTypeError(f"'{text}' is not a percentage from 0 to 100")
    return Decimal(text)
