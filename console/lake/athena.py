"""Athena, which runs SQL over the lake. On the local stack it is the emulator's, with DuckDB behind it."""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from console.aws import session
from console.errors import ConsoleError
from console.stack import chosen_name, stack_name


class QueryError(ConsoleError):
    """Why Athena refuses a query. Line numbers are those of the statement that was sent."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a query found. Values are text, int, float, Decimal, bool or None; `types` are Athena's."""

    columns: Sequence[str]
    types: Sequence[str]
    rows: Sequence[Sequence[Any]]
    scanned_bytes: int
    seconds: float


class _Page(NamedTuple):
    """Some rows of a result."""

    columns: Sequence[str]
    types: Sequence[str]
    rows: Sequence[Sequence[Any]]


class Athena:
    """Athena, in the lake's workgroup and database."""

    def __init__(self, client: Any, workgroup: str, database: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._workgroup = workgroup
        self._database = database
        self._sleep = sleep

    def run(self, sql: str) -> Result:
        """Run a query to its end. Raises QueryError when it fails, and stops it when it is interrupted."""
        query, execution = self._run(sql)
        pages = list(self._pages(query, has_heading=execution.get("StatementType") == "DML"))
        statistics = execution.get("Statistics", {})
        milliseconds = statistics.get("TotalExecutionTimeInMillis", 0)
        rows = [row for page in pages for row in page.rows]
        last = pages[-1] if pages else _Page([], [], [])
        return Result(last.columns, last.types, rows, statistics.get("DataScannedInBytes", 0), milliseconds / 1000)

    def rows(self, sql: str) -> Iterator[dict[str, Any]]:
        """The rows of a query by column, one page in memory at a time. Raises as `run`, before the first row."""
        query, execution = self._run(sql)
        for page in self._pages(query, has_heading=execution.get("StatementType") == "DML"):
            for row in page.rows:
                yield dict(zip(page.columns, row, strict=True))

    def _run(self, sql: str) -> tuple[str, Mapping[str, Any]]:
        """A query's id, and Athena's description of it when it has succeeded."""
        try:
            query = self._client.start_query_execution(
                QueryString=sql, WorkGroup=self._workgroup, QueryExecutionContext={"Database": self._database}
            )["QueryExecutionId"]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "InvalidRequestException":
                raise
            raise QueryError(f"Athena refuses the query: {error}") from error
        try:
            execution = self._wait(query)
        except KeyboardInterrupt:
            self._client.stop_query_execution(QueryExecutionId=query)
            raise
        status = execution["Status"]
        if status["State"] != "SUCCEEDED":
            reason = status.get("StateChangeReason") or "no reason given"
            if status["State"] == "CANCELLED":
                raise ConsoleError(f"The query was cancelled: {reason}")
            raise QueryError(f"The query failed: {reason}")
        return query, execution

    def _wait(self, query: str) -> Mapping[str, Any]:
        pause = 0.1
        while True:
            execution = self._client.get_query_execution(QueryExecutionId=query)["QueryExecution"]
            if execution["Status"]["State"] not in ("QUEUED", "RUNNING"):
                return execution
            self._sleep(pause)
            pause = min(pause * 1.5, 2.0)

    def _pages(self, query: str, *, has_heading: bool) -> Iterator[_Page]:
        skipped = int(has_heading)
        for page in self._client.get_paginator("get_query_results").paginate(QueryExecutionId=query):
            about: Sequence[Mapping[str, str]] = page["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]
            names, types = [each["Name"] for each in about], [each["Type"] for each in about]
            texts = ([each.get("VarCharValue") for each in row["Data"]] for row in page["ResultSet"]["Rows"][skipped:])
            skipped = 0
            yield _Page(names, types, [list(map(_value, row, types)) for row in texts])


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


def lake_names(options: argparse.Namespace, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The workgroup and the database of the lake; None for a stack without one. Raises ConsoleError without a stack."""
    workgroup, database = (chosen_name(output, options, environ) for output in ("LakeWorkgroup", "LakeDatabase"))
    return (workgroup, database) if workgroup and database else None


def chosen_athena(options: argparse.Namespace, environ: Mapping[str, str]) -> Athena:
    """Athena over the lake of a stack. Raises ConsoleError where there is none."""
    if (names := lake_names(options, environ)) is None:
        stack = stack_name(options, environ)
        raise ConsoleError(f"The stack '{stack}' has no lake. Remedy: deploy it with LakeEnabled=true.")
    return Athena(session(environ).client("athena"), *names)
