"""`costs query`: SQL over the lake, in Athena, and what it finds as a table, CSV or JSON."""

import argparse
import sys
import textwrap
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from console.aws import emulator
from console.errors import ConsoleError
from console.lake.athena import QueryError, Result, chosen_athena
from console.lake.places import in_own_text
from console.lake.queries import VIEW, lines_before, named_queries, of_period, what, with_view
from console.output import add_vertical, show, terminal_width
from console.period import Period, add_period, chosen_period, today
from console.spreadsheets import csv_text
from console.stack import add_stack_option
from console.tables import Columns, records, table, width_of
from console.text import count, harmless, plain, to_json, usd

_USD_PER_BYTE = 5e-12
_LEAST_BILLED_BYTES = 10 * 2**20
_NUMBERS = {"tinyint", "smallint", "integer", "bigint", "float", "double", "decimal"}


def result_table(result: Result, width: int | None = None) -> str:
    """A result for people: amounts to a millionth, and no character that a terminal would obey."""
    if not result.columns:
        return "Done."
    numbers = 0
    while numbers < len(result.types) and result.types[-1 - numbers] in _NUMBERS:
        numbers += 1
    rows = [[_shown(value) for value in row] for row in result.rows]
    headings = [name.upper() for name in result.columns]
    whole = {name for name, type_ in zip(headings, result.types, strict=True) if type_ in _NUMBERS}
    shown = table(Columns(headings, numbers=numbers, drop=(), whole=whole), rows, width=width)
    if width is None or width_of(shown.split("\n", 2)[1]) <= width:
        return shown
    wide = "The rows are wider than the terminal: --vertical prints each as lines of a name and a value."
    return "\n".join([shown, "", *textwrap.wrap(wide, max(width, 20))])


def _shown(value: Any) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "true" if value else "false"
        case int():
            return count(value)
        case float():
            return f"{value:,.6f}".rstrip("0").rstrip(".")
        case Decimal():
            return usd(value)
        case _:
            return harmless(str(value))


def result_json(result: Result) -> str:
    """A result for programs: a list of objects, decimals as text so that they stay exact."""
    rows = [[plain(value) if isinstance(value, Decimal) else value for value in row] for row in result.rows]
    return to_json([dict(zip(result.columns, row, strict=True)) for row in rows])


def result_csv(result: Result) -> str:
    """A result for spreadsheets: exact numbers below a heading; NULL is empty."""
    return csv_text(result.columns, result.rows).rstrip("\n")


def query_list(queries: Mapping[str, str], width: int | None = None) -> str:
    """The named queries and what they answer."""
    rows = [(name, what(sql)) for name, sql in queries.items()]
    return table(Columns(("NAME", "WHAT")), rows, width=width)


def add_query(command: argparse.ArgumentParser) -> None:
    """Give `query` its options. What stands before its name holds for it too."""
    command.add_argument(
        "sql", nargs="?", metavar="SQL", help=f"a query of the table {VIEW}; - reads it from standard input"
    )
    command.add_argument("--named", metavar="NAME", help="a query of analytics/queries; without SQL and NAME: a list")
    add_period(command, inherited=True)
    command.add_argument(
        "--without-late",
        action="store_true",
        help="read the partitions of the period's own days alone: without what arrived or was corrected later",
    )
    command.add_argument("--csv", action="store_true", default=argparse.SUPPRESS, help="print CSV, for spreadsheets")
    command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON, for programs")
    add_vertical(command)
    add_stack_option(command, inherited=True)
    command.set_defaults(run=run_query)


def run_query(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run `costs query`. Raises ConsoleError and botocore's errors."""
    queries = named_queries()
    period = chosen_period(options)
    if options.sql is not None and options.named:
        raise ConsoleError("SQL and --named exclude each other. Remedy: give one of them.")
    if options.csv + options.json + options.vertical > 1:
        raise ConsoleError("--csv, --json and --vertical exclude each other. Remedy: give one of them.")
    if options.sql is None and not options.named:
        if period or options.without_late:
            raise ConsoleError("A period is for a query, and none is named. Remedy: give SQL, or --named.")
        _list(queries, options)
        return 0
    if options.named:
        if options.named not in queries:
            raise ConsoleError(f"There is no query '{options.named}'. Remedy: name one of {', '.join(queries)}.")
        sql = of_period(queries[options.named], period) if period else queries[options.named]
        period = period or Period(today() - timedelta(days=29), today())
    else:
        sql = _sql(options)
    if options.without_late and period is None:
        raise ConsoleError("--without-late needs a period. Remedy: name one with --day, --month, --last or --from.")
    result = _found(sql, with_view(sql, period, without_late=options.without_late), options, environ)
    if options.csv or options.json:
        print(result_csv(result) if options.csv else result_json(result))
    elif options.vertical:
        show(records(result.columns, [[_shown(value) for value in row] for row in result.rows]))
    else:
        show(result_table(result, terminal_width()))
    if sys.stderr.isatty():
        print(_bill(result), file=sys.stderr)
    return 0


def _list(queries: Mapping[str, str], options: argparse.Namespace) -> None:
    rows = [(name, what(sql)) for name, sql in queries.items()]
    if options.json:
        show(to_json([dict(zip(("name", "what"), row, strict=True)) for row in rows]))
    elif options.csv:
        print(csv_text(("name", "what"), rows), end="")
    else:
        show(records(("name", "what"), rows) if options.vertical else query_list(queries, terminal_width()))


def _sql(options: argparse.Namespace) -> str:
    sql: str = sys.stdin.read() if options.sql == "-" else options.sql
    if not sql.strip():
        raise ConsoleError("The SQL is empty. Remedy: give a query, or leave it out to see those that there are.")
    return sql


def _found(sql: str, statement: str, options: argparse.Namespace, environ: Mapping[str, str]) -> Result:
    """What a statement finds. Raises QueryError with places in `sql`, of which it was made."""
    if emulator(environ):
        from console.lake.local_sql import check_local, check_runs_here  # noqa: PLC0415 - AWS has Athena

        check_local(sql)
        check_runs_here(sql)
    try:
        return chosen_athena(options, environ).run(statement)
    except QueryError as error:
        raise QueryError(in_own_text(str(error), sql, lines_before(sql, statement))) from error


def _bill(result: Result) -> str:
    price = max(result.scanned_bytes, _LEAST_BILLED_BYTES) * _USD_PER_BYTE
    return (
        f"{count(len(result.rows))} rows in {result.seconds:.1f} s; {result.scanned_bytes / 1e6:,.1f} MB read, "
        f"about {price:.6f} USD on AWS"
    )
