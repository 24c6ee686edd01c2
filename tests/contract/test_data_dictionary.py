"""docs/data-dictionary.md is what `costs columns` prints: every column of the lake, no other, and fitting examples."""

import json
import re
from datetime import datetime
from decimal import Decimal

import pytest

from console.export.columns import Column, columns, throttle_columns
from console.export.dictionary import dictionary, focus_columns
from console.export.focus import FOCUS_COLUMNS
from tests.contract.template_stack import ROOT
from tests.lake.engine import found, lake_of, table_columns

OF_GLUE = {
    "string": "varchar",
    "int": "integer",
    "map<string,string>": "map(varchar,varchar)",
    "map<string,bigint>": "map(varchar,bigint)",
    "array<string>": "array(varchar)",
}


def test_the_page_is_what_the_command_prints() -> None:
    page = (ROOT / "docs" / "data-dictionary.md").read_text(encoding="utf-8")
    assert page == dictionary(), "openai-proxy costs columns > docs/data-dictionary.md"


def test_it_has_the_columns_of_the_view_and_their_types() -> None:
    in_lake = table_columns()
    money = {name for name in in_lake if name.startswith("cost")}
    expected = {name: OF_GLUE.get(type_, type_) for name, type_ in in_lake.items() if name != "recorded_at"}
    expected |= {"occurred_at": "timestamp"} | dict.fromkeys(money, "decimal(38,18)")
    assert {column.name: column.type for column in (*columns(), *throttle_columns())} == expected
    of_view = lake_of([{"id": "a", "day": "2026-02-02", "outcome": "failed", "revision": 0, "recorded_at": ""}])
    [row] = found(of_view, "SELECT * FROM inferences")
    assert [column.name for column in columns()] == list(row)


def test_it_has_the_columns_of_a_focus_file() -> None:
    assert sorted(focus_columns()) == sorted(FOCUS_COLUMNS)


@pytest.mark.parametrize("column", [*columns(), *throttle_columns()], ids=lambda column: column.name)
def test_an_example_is_of_its_columns_type(column: Column) -> None:
    assert column.what.endswith((".", "…"))
    match column.type:
        case "timestamp":
            assert datetime.fromisoformat(column.example).tzinfo is None
        case "bigint" | "integer":
            assert re.fullmatch(r"\d+", column.example)
        case "double":
            assert float(column.example) > 0
        case "decimal(38,18)":
            assert 0 < Decimal(column.example) < 1
        case "boolean":
            assert column.example in ("true", "false")
        case "varchar":
            assert column.example
        case _:
            assert json.loads(column.example)
