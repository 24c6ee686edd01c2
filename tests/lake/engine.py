"""SQL over rows of the lake in DuckDB, as the local stack runs it, without a stack."""

import re
import tempfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
from openai_proxy.ledger.lake import json_line

from console.lake.queries import with_view
from console.period import Period

Row = dict[str, Any]
_TYPES = {"string": "VARCHAR", "array<string>": "VARCHAR[]"}
_TEMPLATE = Path(__file__).parents[2] / "template.yaml"


@cache
def table_columns() -> dict[str, str]:
    """The columns of the lake's table, name → Glue's type, as the template says."""
    text = _TEMPLATE.read_text(encoding="utf-8").partition("  LakeEntries:")[2].partition("  LakeStream:")[0]
    return dict(re.findall(r"\{Name: (\w+), Type: '?([\w<>,]+)'?\}", text.partition("StorageDescriptor")[2]))


def lake_of(rows: Iterable[Mapping[str, Any]]) -> duckdb.DuckDBPyConnection:
    """A database whose table `entries` has rows as `lake_row` makes them. They arrive on their own day."""
    connection = duckdb.connect()
    types = {name: _TYPES.get(type_) or _of_map(type_) for name, type_ in table_columns().items()} | {"dt": "VARCHAR"}
    declared = ", ".join(f"{name} {type_}" for name, type_ in types.items())
    connection.execute(f"CREATE TABLE entries ({declared})")
    with tempfile.NamedTemporaryFile(suffix=".jsonl") as file:
        file.writelines(json_line({"dt": row["day"], **row}) for row in rows)
        file.flush()
        read = ", ".join(f"'{name}': '{type_}'" for name, type_ in types.items())
        source = f"read_json('{file.name}', format = 'newline_delimited', columns = {{{read}}})"
        connection.execute(f"INSERT INTO entries SELECT * FROM {source}")
    return connection


def found(connection: duckdb.DuckDBPyConnection, sql: str, period: Period | None = None) -> list[Row]:
    """What a query about `inferences` finds, each row by column."""
    result = connection.execute(with_view(sql, period))
    names = [each[0] for each in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def column_names(connection: duckdb.DuckDBPyConnection, sql: str) -> list[str]:
    """The columns of a query, whatever it finds."""
    return [each[0] for each in connection.execute(with_view(sql)).description or ()]


def _of_map(type_: str) -> str:
    kinds = re.fullmatch(r"map<string,(\w+)>", type_)
    return f"MAP(VARCHAR, {_TYPES.get(kinds[1], kinds[1])})" if kinds else type_.upper()
