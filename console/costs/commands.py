"""`costs`: what was spent, summed up by any dimensions, and the commands that list, draw, check and report it.

With --json and --csv the document is all that is on standard output. Each command is loaded when it is named.
"""

import argparse
from collections.abc import Mapping

from console.arguments import late, sentence
from console.costs.filters import FILTERS, NO_SINGLE_REQUESTS, add_filters, add_source, dimensions, filter_text, rows_of
from console.costs.summary import NAMES, OF_ROLLUPS, summarize
from console.costs.text import as_document, summary_csv, summary_table
from console.errors import ConsoleError
from console.known import check_filters
from console.output import say_nothing_found, show, terminal_width
from console.period import add_period, chosen_period, read_day
from console.stack import add_table_options
from console.text import to_json

Environment = Mapping[str, str]

_COMMANDS = (
    ("entries", "single inferences, the newest first", "console.costs.entries", "add_entries"),
    ("plot", "draw what was spent, in the terminal or as a PNG", "console.report.commands", "add_plot"),
    ("report", "write a page to send on (HTML)", "console.report.commands", "add_report"),
    (
        *("reconcile", "compare with a provider's usage export, or with what the server stated, by day and model"),
        *("console.costs.reconcile_command", "add_reconcile"),
    ),
    (
        *("what-if", "what past requests would have cost with another model or other prices"),
        *("console.what_if.command", "add_what_if"),
    ),
    ("export", "the inferences of a period as a file", "console.export.command", "add_export"),
    ("columns", "what each column of the ledger is", "console.export.dictionary", "add_columns"),
    ("query", "SQL over the lake: all that was ever recorded", "console.lake.query_command", "add_query"),
    (
        *("save-queries", "save the named queries in Athena, where its console shows them"),
        *("console.lake.save_queries", "add_save_queries"),
    ),
    ("reprice", "price past requests with the prices of now", "console.costs.reprice", "add_reprice"),
)
"""Each with its help, and the function that gives it its options."""


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
        type=dimensions,
        metavar="DIMENSION",
        help=f"sum up by {names}, tag:NAME, or total; several as in client,day; default: client,server,model",
    )
    add_filters(costs)
    add_source(costs)
    costs.add_argument("--csv", action="store_true", help="print CSV, for spreadsheets")
    add_table_options(costs, "CostsTable")
    costs.set_defaults(run=_costs)

    commands = costs.add_subparsers(title="commands", metavar="[COMMAND]")
    for name, help_, module, add in _COMMANDS:
        commands.add_parser(name, help=help_, description=sentence(help_), load=late(module, add))


def _costs(options: argparse.Namespace, environ: Environment) -> int:
    if options.csv and options.json:
        raise ConsoleError("--csv and --json exclude each other. Remedy: give one of them.")
    by: list[str] = list(FILTERS) if options.by is None else list(dict.fromkeys(options.by))
    period = chosen_period(options) or read_day("today")
    if options.source and OF_ROLLUPS.issuperset(by):
        raise ConsoleError(NO_SINGLE_REQUESTS)
    rows = summarize(rows_of(period, by, options, environ), by)
    if not rows:
        check_filters(options, environ)
    if options.json:
        print(to_json([as_document(row) for row in rows]))
    elif options.csv:
        print(summary_csv(rows, by), end="")
    elif rows:
        show(summary_table(rows, by, terminal_width()))
    if not rows:
        say_nothing_found(f"No request {period.text}{filter_text(options)}.", options)
    return 0
