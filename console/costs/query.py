"""`costs query`: SQL over the lake, in Athena. On the local stack the same SQL runs in the emulator's Athena.

`inferences` means the same everywhere: analytics/inferences.sql is written out in front of each query, so that a query
needs no view. Emulators have none, and of a period only its partitions are read.
"""

import argparse
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from console.aws import session
from console.errors import ConsoleError
from console.output import show, terminal_width
from console.period import Period, add_period, chosen_period, today
from console.spreadsheets import csv_text
from console.stack import add_stack_option
from console.tables import table
from console.text import count, harmless, plain, to_json, usd

ANALYTICS = Path(__file__).parents[2] / "analytics"
VIEW = "inferences"

LAST_30_DAYS = ">= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)"
"""What each named query says of its day; `--from` and the like say something else in its place."""
FIRST_PARTITION = "dt >= '2026-01-01'"
"""What the view says of partitions: all there are."""

_USD_PER_BYTE = 5e-12
_LEAST_BILLED_BYTES = 10 * 2**20
_NUMBERS = {"tinyint", "smallint", "integer", "bigint", "float", "double", "decimal"}


@dataclass(frozen=True, slots=True)
class Result:
    """What a query found. Values are text, int, float, Decimal, bool or None; `types` are Athena's."""

    columns: Sequence[str]
    types: Sequence[str]
    rows: Sequence[Sequence[Any]]
    scanned_bytes: int
    seconds: float


def named_queries() -> dict[str, str]:
    """The queries of analytics/queries: name → SQL, whose first line is a comment that says what it answers."""
    return {file.stem: file.read_text(encoding="utf-8") for file in sorted((ANALYTICS / "queries").glob("*.sql"))}


def of_period(sql: str, period: Period) -> str:
    """The SQL of a named query, made to ask about `period` in place of the last 30 days."""
    return sql.replace(LAST_30_DAYS, f"BETWEEN '{period.first}' AND '{period.last}'")


def with_view(sql: str, period: Period | None = None) -> str:
    """A query with the view it is about written out in front of it.

    An entry arrives on its own day or later, so the partitions from the period's first day on hold all of it. One day
    more is read: clocks differ.
    """
    sql = sql.strip().rstrip(";").rstrip()
    if not re.search(rf"\b{VIEW}\b", sql, re.IGNORECASE):
        return sql
    view = (ANALYTICS / "inferences.sql").read_text(encoding="utf-8").strip()
    if period:
        view = view.replace(FIRST_PARTITION, f"dt >= '{period.first - timedelta(days=1)}'")
    head = f"WITH {VIEW} AS (\n{view}\n)"
    if own := re.match(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*WITH\b", sql, re.IGNORECASE | re.DOTALL):
        return f"{head},{sql[own.end() :]}"
    return f"{head}\n{sql}"


class Athena:
    """Athena, in the lake's workgroup and database."""

    def __init__(self, client: Any, workgroup: str, database: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._workgroup = workgroup
        self._database = database
        self._sleep = sleep

    def run(self, sql: str) -> Result:
        """Run a query to its end. Raises ConsoleError when it fails, and stops it when it is interrupted."""
        try:
            query = self._client.start_query_execution(
                QueryString=sql, WorkGroup=self._workgroup, QueryExecutionContext={"Database": self._database}
            )["QueryExecutionId"]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "InvalidRequestException":
                raise
            raise ConsoleError(f"Athena refuses the query: {error}") from error
        try:
            execution = self._wait(query)
        except KeyboardInterrupt:
            self._client.stop_query_execution(QueryExecutionId=query)
            raise
        status, statistics = execution["Status"], execution.get("Statistics", {})
        if status["State"] != "SUCCEEDED":
            reason = status.get("StateChangeReason") or "no reason given"
            raise ConsoleError(f"The query is {status['State'].lower()}: {reason}")
        names, types, rows = self._results(query, has_heading=execution.get("StatementType") == "DML")
        milliseconds = statistics.get("TotalExecutionTimeInMillis", 0)
        return Result(names, types, rows, statistics.get("DataScannedInBytes", 0), milliseconds / 1000)

    def _wait(self, query: str) -> Mapping[str, Any]:
        pause = 0.1
        while True:
            execution = self._client.get_query_execution(QueryExecutionId=query)["QueryExecution"]
            if execution["Status"]["State"] not in ("QUEUED", "RUNNING"):
                return execution
            self._sleep(pause)
            pause = min(pause * 1.5, 2.0)

    def _results(self, query: str, *, has_heading: bool) -> tuple[list[str], list[str], list[list[Any]]]:
        about: Sequence[Mapping[str, str]] = ()
        rows: list[list[str | None]] = []
        for page in self._client.get_paginator("get_query_results").paginate(QueryExecutionId=query):
            about = page["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]
            rows += [[each.get("VarCharValue") for each in row["Data"]] for row in page["ResultSet"]["Rows"]]
        types = [each["Type"] for each in about]
        found = rows[1:] if has_heading else rows
        values = [[_value(text, type_) for text, type_ in zip(row, types, strict=True)] for row in found]
        return [each["Name"] for each in about], types, values


def _value(text: str | None, type_: str) -> Any:
    match type_:
        case _ if text is None:
            return None
        case "tinyint" | "smallint" | "integer" | "bigint":
            return int(text)
        case "float" | "double":
            return float(text)
        case "decimal":
            return Decimal(text)
        case "boolean":
            return text == "true"
        case _:
            return text


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
    return table(headings, rows, numbers=numbers, width=width, drop=(), whole=whole)


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


def query_list(queries: Mapping[str, str]) -> str:
    """The named queries and what they answer."""
    rows = [(name, sql.partition("\n")[0].removeprefix("--").strip()) for name, sql in queries.items()]
    return table(("NAME", "WHAT"), rows)


def add_parser(commands: Any) -> None:
    """Give `costs` the command `query`. What stands before its name holds for it too."""
    query: argparse.ArgumentParser = commands.add_parser("query", help="SQL over the lake: all that was ever recorded")
    query.add_argument("sql", nargs="?", metavar="SQL", help=f"about the table {VIEW}; - reads it from standard input")
    query.add_argument("--named", metavar="NAME", help="a query of analytics/queries; without SQL and NAME: a list")
    add_period(query, inherited=True)
    query.add_argument("--csv", action="store_true", default=argparse.SUPPRESS, help="print CSV, for spreadsheets")
    query.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print JSON, for programs")
    add_stack_option(query, inherited=True)
    query.set_defaults(run=run_query)


def run_query(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run `costs query`. Raises ConsoleError and botocore's errors."""
    queries = named_queries()
    period = chosen_period(options)
    if options.sql and options.named:
        raise ConsoleError("SQL and --named exclude each other. Remedy: give one of them.")
    if options.csv and options.json:
        raise ConsoleError("--csv and --json exclude each other. Remedy: give one of them.")
    if not options.sql and not options.named:
        show(query_list(queries))
        return 0
    if options.named:
        if options.named not in queries:
            raise ConsoleError(f"There is no query '{options.named}'. Remedy: name one of {', '.join(queries)}.")
        sql = of_period(queries[options.named], period) if period else queries[options.named]
        period = period or Period(today() - timedelta(days=29), today())
    else:
        sql = sys.stdin.read() if options.sql == "-" else options.sql
    result = _athena(options.stack_name, environ).run(with_view(sql, period))
    if options.csv or options.json:
        print(result_csv(result) if options.csv else result_json(result))
    else:
        show(result_table(result, terminal_width()))
    if sys.stderr.isatty():
        print(_bill(result), file=sys.stderr)
    return 0


def _bill(result: Result) -> str:
    price = max(result.scanned_bytes, _LEAST_BILLED_BYTES) * _USD_PER_BYTE
    return (
        f"{count(len(result.rows))} rows in {result.seconds:.1f} s; {result.scanned_bytes / 1e6:,.1f} MB read, "
        f"about {price:.6f} USD on AWS"
    )


def _athena(stack_name: str, environ: Mapping[str, str]) -> Athena:
    aws = session(environ)
    workgroup, database = environ.get("LAKE_WORKGROUP"), environ.get("LAKE_DATABASE")
    if not workgroup or not database:
        try:
            [stack] = aws.client("cloudformation").describe_stacks(StackName=stack_name)["Stacks"]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "ValidationError":
                raise
            raise ConsoleError(f"There is no stack '{stack_name}' here. Remedy: name it with --stack-name.") from error
        outputs = {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", [])}
        if "LakeWorkgroup" not in outputs:
            raise ConsoleError(f"The stack '{stack_name}' has no lake. Remedy: deploy it with LakeEnabled=true.")
        workgroup, database = outputs["LakeWorkgroup"], outputs["LakeDatabase"]
    return Athena(aws.client("athena"), workgroup, database)
