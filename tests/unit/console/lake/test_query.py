"""`costs query`: the SQL that is sent, and how what comes back is shown."""

import argparse
import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from botocore.exceptions import ClientError

from console.errors import ConsoleError
from console.lake.athena import Athena, Result
from console.lake.local_sql import check_local, check_runs_here
from console.lake.places import in_own_text
from console.lake.queries import LAST_30_DAYS, lines_before, named_queries, of_period, with_view
from console.lake.query_command import result_csv, result_json, result_table, run_query
from console.period import Period
from console.tables import records
from tests.lake.engine import lake_of

FILE = "/etc/passwd.csv"
OUT_OF_SCOPE = (
    f'SELECT * FROM (WITH "{FILE}" AS (SELECT 1) SELECT * FROM "{FILE}") a, "{FILE}" b',
    f'WITH "{FILE}" AS (SELECT * FROM "{FILE}") SELECT 1',
    f'WITH a AS (SELECT * FROM "{FILE}"), "{FILE}" AS (SELECT 1) SELECT * FROM a',
)
"""DuckDB reads the file where the part of that name is not known."""
MARCH = Period(date(2026, 3, 1), date(2026, 3, 31))
RESULT = Result(
    ("model", "requests", "seconds", "is_ok", "cost"),
    ("varchar", "bigint", "double", "boolean", "decimal"),
    (("gpt\x1b[31m", 1234, 0.25, True, Decimal("0.000000000000001000")), (None, 0, None, False, None)),
    5_000_000,
    1.5,
)


def test_the_view_stands_in_front() -> None:
    sql = with_view("SELECT * FROM inferences;\n")
    assert sql.startswith("WITH inferences AS (\n")
    assert sql.endswith("\n)\nSELECT * FROM inferences")
    assert sql.count("dt >= '2026-01-01'") == 1


@pytest.mark.parametrize("own", ["WITH a AS (SELECT 1 FROM inferences)", "-- with\n/* with */ with a AS (SELECT 1)"])
def test_the_view_stands_in_front_of_other_ctes(own: str) -> None:
    sql = with_view(f"{own} SELECT * FROM a, Inferences")
    assert sql.count("WITH ") == 1
    assert sql.index("WITH inferences AS (") < sql.index("a AS (SELECT 1")
    assert re.search(r"\)\n(--[^\n]*\n/\*.*?\*/ )?,    a AS", sql)


def test_a_recursive_query_stays_one() -> None:
    sql = with_view("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 3) SELECT x FROM n")
    assert "inferences" not in sql
    with_both = with_view("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 3)\n"
                          "SELECT max(x) FROM n WHERE x > (SELECT count(*) FROM inferences)")  # fmt: skip
    assert lake_of([]).execute(with_both).fetchall() == [(3,)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id,\n  modle FROM inferences",
        "\n\n  SELECT id FROM inferences WHERE é = 1 AND modle = 2;\n",
        "WITH a AS (SELECT modle FROM inferences) SELECT * FROM a",
        "-- mine\n/* b */ WITH a AS (\n SELECT id FROM inferences\n)\nSELECT\n modle FROM a",
        "SELECT id, modle FROM inferences -- " + "x" * 200,
        "SELECT '" + "x" * 200 + "', modle FROM inferences",
        "SELECT modle FROM entries",
    ],
)
def test_an_error_points_into_what_was_written(sql: str) -> None:
    statement, before = with_view(sql), lines_before(sql, with_view(sql))
    place = sql.index("é" if "é" in sql else "modle")
    line, column = sql.count("\n", 0, place) + 1, place - sql.rfind("\n", 0, place)
    with pytest.raises(duckdb.Error) as raised:
        lake_of([]).execute(statement)
    assert in_own_text(str(raised.value), sql, before).startswith(f"line {line}:{column}: ")
    sent = statement.split("\n")[line + before - 1]
    assert sent[column - 1] == sql[place], "a column of the statement is one of the text"
    of_athena = f"COLUMN_NOT_FOUND: line {line + before}:{column}: Column 'x' cannot be resolved"
    assert (
        in_own_text(of_athena, sql, before) == f"COLUMN_NOT_FOUND: line {line}:{column}: Column 'x' cannot be resolved"
    )


def test_an_error_of_the_view_is_not_one_of_the_text() -> None:
    assert in_own_text("line 3:1: no", "SELECT 1 FROM inferences", 40) == "in the view `inferences`: no"
    assert in_own_text("Access denied", "SELECT 1", 0) == "Access denied"


@pytest.mark.parametrize("name", named_queries())
def test_the_local_stack_takes_every_named_query(name: str) -> None:
    check_local(named_queries()[name])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FILTER (WHERE a), sum(b) OVER (ORDER BY c), a[1], a LIKE 'x' ESCAPE '!' FROM inferences;",
        "SELECT extract(day FROM a), a AT TIME ZONE 'UTC', current_date - INTERVAL '2' DAY, DATE '2026-01-01'",
        "WITH a AS (SELECT 1 AS x) SELECT * FROM a CROSS JOIN UNNEST(ARRAY[1, 2]) AS t(y), (VALUES (1)) v(z)",
        "SELECT transform(a, x -> x + 1), element_at(b, 'c'), json_extract_scalar(d, '$.e') FROM Inferences",
        "SELECT geometric_mean(cost), map_union(tags), format_datetime(a, 'yyyy'), truncate(b) FROM entries",
        "SELECT 'read_csv(1); PRAGMA' AS \"COPY\" -- ; ATTACH",
        'WITH "my sales-2" AS (SELECT 1 AS "a.b") SELECT "a.b" FROM "my sales-2"',
    ],
)
def test_the_local_stack_takes_what_athena_takes(sql: str) -> None:
    check_local(sql)


@pytest.mark.parametrize(
    ("sql", "says"),
    [
        ("SELECT *\nFROM read_csv('/etc/passwd')", "line 2:6: the table function 'read_csv' is DuckDB's"),
        ("SELECT (SELECT max(x) FROM read_parquet('a'))", "line 1:28: the table function 'read_parquet'"),
        ("WITH a AS (SELECT * FROM glob('*')) SELECT 1", "line 1:26: the table function 'glob'"),
        ("SELECT * FROM '/etc/passwd.csv'", "line 1:15: there is no table '/etc/passwd.csv'; the lake has entries"),
        *((sql, f"the name '{FILE}' after WITH may be that of a file") for sql in OUT_OF_SCOPE),
        ("SELECT * FROM information_schema.tables", "line 1:15: there is no table 'information_schema.tables'"),
        ("SELECT 'é', getenv('HOME')", "line 1:13: the function 'getenv'"),
        ("SELECT to_days(1)", "line 1:8: the function 'to_days'"),
        ("SELECT trunc(1.5)", "line 1:8: the function 'trunc'"),
        ("SELECT first(id) FROM inferences", "line 1:8: the function 'first'"),
        ("SELECT list_value(1)", "line 1:8: the function 'list_value'"),
        ("SELECT a::int FROM entries", "line 1:9: '::' is DuckDB's"),
        ("SELECT * EXCLUDE (a) FROM entries", r"line 1:8: \* EXCLUDE"),
        ("SELECT 1 FROM entries QUALIFY row_number() OVER () = 1", "QUALIFY is DuckDB's"),
        ("SELECT a, count(*) FROM entries GROUP BY ALL", "GROUP BY ALL"),
        ("FROM entries", "begins with FROM"),
        ("SELECT 1; SELECT 2", "there are 2 statements"),
        ("SELECT 1;\nCOPY entries TO '/tmp/x'", "SELECT and WITH, and no other"),
        *((f"{each} x", "SELECT and WITH, and no other|syntax error") for each in ("PRAGMA", "ATTACH", "SUMMARIZE")),
        *(
            (each, "SELECT and WITH, and no other")
            for each in ("DESCRIBE entries", "INSTALL httpfs", "SET threads = 1")
        ),
        ("", "it is empty"),
        ("SELECT\n a FRM b c d", "line 2:8: syntax error"),
    ],
)
def test_the_local_stack_refuses_what_athena_refuses(sql: str, says: str) -> None:
    with pytest.raises(ConsoleError, match=f"The query cannot be run: .*({says})"):
        check_local(sql)


@pytest.mark.parametrize("sql", ["SELECT * FROM entries", "SHOW TABLES", "SELECT 1 AS inferences_of_all"])
def test_sql_without_the_view_is_sent_as_it_is(sql: str) -> None:
    assert with_view(sql) == sql


@pytest.mark.parametrize("name", ["approx_percentile", "approx_distinct", "json_extract_scalar", "date_format"])
def test_a_function_that_athena_alone_has_is_named_with_its_place(name: str) -> None:
    says = f"line 2:3: Athena has the function '{name}', and DuckDB, which runs SQL on the local stack, has not"
    with pytest.raises(ConsoleError, match=says):
        check_runs_here(f"SELECT 1,\n  {name}(duration, 0.5) FROM inferences")


@pytest.mark.parametrize("name", named_queries())
def test_every_named_query_runs_here(name: str) -> None:
    check_runs_here(named_queries()[name])


def test_of_a_period_only_its_partitions_and_later_ones_are_read() -> None:
    assert "dt >= '2026-02-28'" in with_view("SELECT 1 FROM inferences", MARCH)


@pytest.mark.parametrize("name", named_queries())
def test_a_named_query_is_about_the_period(name: str) -> None:
    sql = of_period(named_queries()[name], MARCH)
    assert LAST_30_DAYS not in sql
    assert "BETWEEN '2026-03-01' AND '2026-03-31'" in sql


@pytest.mark.parametrize("name", ["cost-by-client", "throttled-demand"])
def test_without_what_came_late_a_day_is_one_partition(name: str) -> None:
    day = Period(date(2026, 3, 1), date(2026, 3, 1))
    sql = with_view(of_period(named_queries()[name], day), day, without_late=True)
    assert set(re.findall(r"\bdt [^A)\n]*", sql)) == {"dt BETWEEN '2026-03-01' "}
    assert "AND '2026-03-01'" in sql
    rows = [{"id": str(n), "day": "2026-03-01", "dt": f"2026-03-0{n}", "outcome": "completed"} for n in (1, 2)]
    lake = lake_of([row | {"client_id": "shop", "revision": 0, "recorded_at": "", "pricing": "none"} for row in rows])
    counted = with_view("SELECT count(*) FROM inferences", day, without_late=True)
    assert lake.execute(counted).fetchall() == [(1,)]


class FakeAthena:
    """Answers each query with two pages, after one look at it that finds it running."""

    def __init__(self, state: str = "SUCCEEDED", kind: str = "DML") -> None:
        self.started: list[Mapping[str, Any]] = []
        self.stopped: list[str] = []
        self._states = iter(["QUEUED", "RUNNING", state])
        self._kind = kind

    def start_query_execution(self, **request: Any) -> dict[str, str]:
        self.started.append(request)
        return {"QueryExecutionId": "q"}

    def get_query_execution(self, **_: Any) -> dict[str, Any]:
        status = {"State": next(self._states), "StateChangeReason": "line 1: no such column"}
        statistics = {"DataScannedInBytes": 5_000_000, "TotalExecutionTimeInMillis": 1500}
        return {"QueryExecution": {"Status": status, "StatementType": self._kind, "Statistics": statistics}}

    def stop_query_execution(self, **request: Any) -> None:
        self.stopped.append(request["QueryExecutionId"])

    def get_paginator(self, name: str) -> "FakeAthena":
        assert name == "get_query_results"
        return self

    def paginate(self, **_: Any) -> Iterator[dict[str, Any]]:
        about = [{"Name": name, "Type": type_} for name, type_ in zip(RESULT.columns, RESULT.types, strict=True)]
        heading = [list(RESULT.columns)] if self._kind == "DML" else []
        first = [*heading, ["gpt\x1b[31m", "1234", "0.25", "true", "0.000000000000001000"]]
        for rows in (first, [[None, "0", None, "false", None]]):
            data = [{"Data": [{} if text is None else {"VarCharValue": text} for text in row]} for row in rows]
            yield {"ResultSet": {"Rows": data, "ResultSetMetadata": {"ColumnInfo": about}}}


@pytest.mark.parametrize("kind", ["DML", "DDL"])
def test_a_result_has_types_and_all_pages(kind: str) -> None:
    fake, pauses = FakeAthena(kind=kind), list[float]()
    found = Athena(fake, "workgroup", "database", pauses.append).run("SELECT 1")
    assert found.columns == list(RESULT.columns)
    assert [tuple(row) for row in found.rows] == list(RESULT.rows)
    assert (found.scanned_bytes, found.seconds) == (5_000_000, 1.5)
    [request] = fake.started
    assert (request["WorkGroup"], request["QueryExecutionContext"]) == ("workgroup", {"Database": "database"})
    assert len(pauses) == 2


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
def test_a_failed_query_says_why(state: str) -> None:
    with pytest.raises(
        ConsoleError, match=f"The query {'was ' * (state == 'CANCELLED')}{state.lower()}: line 1: no such"
    ):
        Athena(FakeAthena(state), "w", "d", lambda _: None).run("SELECT x")


def test_a_query_that_is_interrupted_is_stopped() -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    fake = FakeAthena()
    with pytest.raises(KeyboardInterrupt):
        Athena(fake, "w", "d", interrupt).run("SELECT 1")
    assert fake.stopped == ["q"]


@pytest.mark.parametrize(
    ("code", "error"), [("InvalidRequestException", ConsoleError), ("AccessDeniedException", ClientError)]
)
def test_a_query_that_is_not_taken(code: str, error: type[Exception]) -> None:
    class Refusing(FakeAthena):
        def start_query_execution(self, **_: Any) -> dict[str, str]:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "StartQueryExecution")

    with pytest.raises(error):
        Athena(Refusing(), "w", "d").run("SELECT")


def test_a_table_is_for_people() -> None:
    text = result_table(RESULT)
    assert "1,234" in text
    assert "<0.000001" in text
    assert "\x1b" not in text
    assert result_table(Result([], [], [], 0, 0.0)) == "Done."
    assert "--vertical" not in result_table(RESULT, 200)
    assert "--vertical prints each as lines" in result_table(RESULT, 20).replace("\n", " ")


def test_a_wide_result_is_told_line_by_line() -> None:
    text = records(["id", "model name"], [["a", "gpt"], ["b", ""]])
    assert text == "-- 1 --\nid          a\nmodel name  gpt\n\n-- 2 --\nid          b\nmodel name"
    assert records(["id"], []) == "Nothing was found."


def test_json_and_csv_are_exact() -> None:
    first, second = json.loads(result_json(RESULT))
    assert first == {
        "model": "gpt\x1b[31m",
        "requests": 1234,
        "seconds": 0.25,
        "is_ok": True,
        "cost": "0.000000000000001",
    }
    assert second["cost"] is None
    [heading, one, _] = list(csv.reader(io.StringIO(result_csv(RESULT))))
    assert heading == list(RESULT.columns)
    assert one[1:] == ["1234", "0.25", "true", "0.000000000000001"]


def options(**given: Any) -> argparse.Namespace:
    usual = {
        "sql": None,
        "named": None,
        "without_late": False,
        "csv": False,
        "json": False,
        "vertical": False,
        "stack_name": "openai-proxy",
    }
    period = {"period": None, "first": None, "last": None}
    return argparse.Namespace(**{**usual, **period, **given})


def test_without_a_query_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_query(options(), {}) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in named_queries())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sql": "SELECT 1", "named": "unpriced"}, "SQL and --named exclude each other. Remedy: "),
        ({"sql": ""}, "The SQL is empty. Remedy: "),
        ({"sql": " \n"}, "The SQL is empty. Remedy: "),
        ({"sql": "SELECT 1", "csv": True, "json": True}, "--csv, --json and --vertical exclude each other. Remedy: "),
        ({"sql": "SELECT 1", "json": True, "vertical": True}, "--csv, --json and --vertical exclude each other. "),
        ({"sql": "SELECT 1", "without_late": True}, "--without-late needs a period. Remedy: "),
        ({"named": "nothing"}, "no query 'nothing'. Remedy: name one of cache-savings,"),
    ],
)
def test_what_cannot_be_asked(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConsoleError, match=message):
        run_query(options(**given), {})
