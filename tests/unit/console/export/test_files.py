"""`costs export`: every format holds every entry, exactly."""

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest
from openai_proxy.ledger.lake import lake_row

from console.errors import ConsoleError
from console.export.columns import columns, row_of
from console.export.files import write_csv, write_json_lines, write_parquet, written
from tests.lake.engine import found, lake_of
from tests.lake.entries import made_entries

NAMES = [column.name for column in columns()]


def entries(count: int = 60) -> list[dict[str, Any]]:
    """As they are read from the costs table."""
    made = [{"pk": each.key[0], "sk": each.key[1], **each.attributes} for each in made_entries(Random(11), count)]
    made[0] |= {"client_name": "=HYPERLINK(1)", "finish_reasons": ["stop", "length"], "revision": Decimal(3)}
    made[1] |= {"units": {"web_search": Decimal(2)}, "tags": {"é": '"quoted", ;=1'}, "end_user": "a\nb"}
    return made


def test_parquet_is_what_the_view_of_the_lake_has(tmp_path: Path) -> None:
    made = entries()
    file = tmp_path / "it's.parquet"
    assert write_parquet(file, map(row_of, made)) == len(made)
    connection = duckdb.connect()
    connection.execute("CREATE TABLE entries AS SELECT * FROM read_parquet($1)", [str(file)])
    columns_of = "SELECT column_name, data_type FROM duckdb_columns() WHERE table_name = 'entries'"
    types = dict(connection.execute(columns_of).fetchall())
    rows = [lake_row(each["sk"], each, "2026-03-01T00:00:00.000Z", int(each.get("revision", 0))) for each in made]
    in_lake = found(lake_of(rows), "SELECT * FROM inferences ORDER BY id")
    assert list(in_lake[0]) == list(types) == NAMES
    assert found(connection, "SELECT * FROM entries ORDER BY id") == in_lake
    assert {type_ for name, type_ in types.items() if name.startswith("cost")} == {"DECIMAL(38,18)"}


def test_a_full_disk_is_said_as_the_system_says_it() -> None:
    with pytest.raises(ConsoleError, match=r"^/dev/full: cannot be written \(No space left on device\)\. Remedy: "):
        write_parquet(Path("/dev/full"), map(row_of, entries(3)))


def test_json_lines_have_every_column_and_exact_money() -> None:
    stream, made = io.StringIO(), entries()
    assert write_json_lines(stream, map(row_of, made)) == len(made)
    read = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert all(list(row) == NAMES for row in read)
    assert [row["id"] for row in read] == [each["sk"] for each in made]
    assert [row["cost"] and Decimal(row["cost"]) for row in read] == [each.get("cost") for each in made]
    assert (read[0]["revision"], read[1]["units"], read[1]["end_user"]) == (3, {"web_search": 2}, "a\nb")


def test_csv_has_every_column_exact_money_and_no_formula() -> None:
    stream, made = io.StringIO(), entries()
    assert write_csv(stream, NAMES, map(row_of, made)) == len(made)
    read = list(csv.DictReader(io.StringIO(stream.getvalue())))
    assert list(read[0]) == NAMES
    assert [Decimal(row["cost"]) if row["cost"] else None for row in read] == [each.get("cost") for each in made]
    assert (read[0]["client_name"], read[1]["end_user"]) == ("'=HYPERLINK(1)", "a\ufffdb")
    assert json.loads(read[0]["finish_reasons"]) == ["stop", "length"]
    assert json.loads(read[1]["units"]) == {"web_search": 2}
    assert {row["stream"] for row in read} <= {"true", "false"}


def test_an_export_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "costs.csv"
    file.write_text("before")

    def failing() -> Iterator[Mapping[str, Any]]:
        yield row_of(entries(2)[0])
        raise ConsoleError("the table is gone")

    with pytest.raises(ConsoleError, match="the table is gone"), written(file) as stream:
        write_csv(stream, NAMES, failing())
    with pytest.raises(ConsoleError, match="the table is gone"):
        write_parquet(file, failing())
    assert [each.name for each in tmp_path.iterdir()] == ["costs.csv"]
    assert file.read_text() == "before"


def test_where_nothing_can_be_written_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConsoleError, match=r"nowhere.x\.csv: cannot be written"), written(tmp_path / "nowhere/x.csv"):
        pass


def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    reader = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    try:
        with written(pipe) as stream:
            stream.write("a")
        assert os.read(reader, 2) == b"a"
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (link := tmp_path / "link.csv").symlink_to(tmp_path / "costs.csv")
    with written(link) as stream:
        stream.write("a")
    assert link.is_symlink()
    assert (tmp_path / "costs.csv").read_text() == "a"
