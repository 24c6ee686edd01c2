"""The files that an export can be: CSV, lines of JSON, Parquet. Rows come one by one and none of them is kept.

A file is written beside the one that is wanted and takes its name when it is whole.
"""

import csv
import json
import os
import re
import sys
import tempfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

from console.errors import ConsoleError, file_error
from console.export.columns import columns
from console.spreadsheets import csv_lines
from console.text import plain

Row = Mapping[str, Any]

_DUCKDB_TYPES = {
    "map(varchar,varchar)": "MAP(VARCHAR, VARCHAR)",
    "map(varchar,bigint)": "MAP(VARCHAR, BIGINT)",
    "array(varchar)": "VARCHAR[]",
}


@contextmanager
def written(file: Path | None) -> Generator[TextIO]:
    """A text stream for `file`, or standard output for None. Raises ConsoleError where it cannot be written."""
    if file is None:
        yield sys.stdout
        return
    with _whole(file) as part, part.open("w", encoding="utf-8", newline="") as stream:
        yield stream


def write_csv(stream: TextIO, names: Sequence[str], rows: Iterable[Row]) -> int:
    """Rows as CSV: exact numbers, lists and maps as JSON, None as nothing. Returns how many there were."""
    count = 0

    def cells() -> Generator[Sequence[object]]:
        nonlocal count
        for row in rows:
            count += 1
            yield [_cell(name, row.get(name)) for name in names]

    stream.writelines(csv_lines(names, cells()))
    return count


def write_json_lines(stream: TextIO, rows: Iterable[Row]) -> int:
    """Rows as one JSON object on each line; money is text. Returns how many there were."""
    count = 0
    for row in rows:
        there = {name: plain(value) if isinstance(value, Decimal) else value for name, value in row.items()}
        stream.write(json.dumps(there, ensure_ascii=False, separators=(",", ":")) + "\n")
        count += 1
    return count


def write_parquet(file: Path, rows: Iterable[Row]) -> int:
    """Rows of the ledger's columns as Parquet: money as decimal(38,18). Returns how many there were.

    DuckDB makes it of lines of JSON, in as little memory as it needs. Raises ConsoleError without it.
    """
    try:
        import duckdb  # noqa: PLC0415 - only this format needs it
    except ModuleNotFoundError as error:
        remedy = "Remedy: pip install '.[console,export]' in the project's folder, or ask for another format."
        raise ConsoleError(f"Parquet files are made by the package duckdb, which is not installed. {remedy}") from error

    with _whole(file) as part, tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "rows.jsonl"
        with lines.open("w", encoding="utf-8") as stream:
            count = write_json_lines(stream, rows)
        try:
            with duckdb.connect(config={"temp_directory": folder}) as connection:
                connection.execute(_copy(lines, part))
        except duckdb.IOException as error:
            raise file_error(file, _of_the_system(error), "written") from error
    return count


def _of_the_system(error: Exception) -> Exception:
    """What the operating system said, where an error of DuckDB's tells it."""
    found = re.search(r'"errno":"(\d+)"', str(error))
    return OSError(int(found[1]), os.strerror(int(found[1]))) if found else error


def _copy(lines: Path, parquet: Path) -> str:
    read = ", ".join(f"{_text(each.name)}: {_text(_json_type(each.type))}" for each in columns())
    selected = ", ".join(_typed(each.name, each.type) for each in columns())
    source = f"read_json({_text(str(lines))}, format = 'newline_delimited', columns = {{{read}}})"
    return f"COPY (SELECT {selected} FROM {source}) TO {_text(str(parquet))} (FORMAT parquet, COMPRESSION zstd)"  # noqa: S608 - every name is quoted


def _json_type(type_: str) -> str:
    """How a column is read: money and times come as text."""
    return "VARCHAR" if type_.startswith(("decimal", "timestamp")) else _DUCKDB_TYPES.get(type_, type_)


def _typed(name: str, type_: str) -> str:
    if type_ == "timestamp":
        return f"CAST(replace(replace({name}, 'T', ' '), 'Z', '') AS timestamp) AS {name}"
    return f"CAST({name} AS {type_}) AS {name}" if type_.startswith("decimal") else name


def _text(text: str) -> str:
    quoted = text.replace("'", "''")
    return f"'{quoted}'"


def _cell(name: str, value: Any) -> object:
    if isinstance(value, (Mapping, list)):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Decimal(value) if name.startswith("cost") and isinstance(value, str) else value


@contextmanager
def _whole(file: Path) -> Generator[Path]:
    """A new file beside `file`, which takes its name at the end of the block, and is gone if the block fails. A link is
    followed, and what is no file, such as a device, is written to as it is: nothing may take its place.
    """
    file = file.resolve()
    if file.exists() and not (file.is_file() or file.is_dir()):
        yield file
        return
    try:
        handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    except OSError as error:
        raise file_error(file, error, "written") from error
    os.close(handle)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        part.replace(file)
    except (OSError, csv.Error) as error:
        raise file_error(file, error, "written") from error
    finally:
        part.unlink(missing_ok=True)
