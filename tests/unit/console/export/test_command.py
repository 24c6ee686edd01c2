"""`costs export`: which file each format is, where it goes, and what is said of it."""

import argparse
import stat
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest

from console.errors import ConsoleError
from console.export.columns import columns
from console.export.command import FORMATS, Seen, as_document, counted, run_export, said, write
from console.export.focus import FOCUS_COLUMNS
from tests.lake.entries import made_entries

NAMES = [column.name for column in columns()]


def entries() -> list[dict[str, Any]]:
    made = made_entries(Random(3), 12)
    return [{"pk": each.key[0], "sk": each.key[1], **each.attributes} for each in made]


def options(**given: Any) -> argparse.Namespace:
    return argparse.Namespace(**{"format": "csv", "output": None, "json": False} | given)


@pytest.mark.parametrize("format_", FORMATS)
def test_each_format_is_a_file_of_its_own(format_: str, tmp_path: Path) -> None:
    file = tmp_path / "costs"
    rows = write(format_, file, entries())
    assert [each.name for each in tmp_path.iterdir()] == ["costs"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    if format_ == "parquet":
        assert duckdb.execute("SELECT count(*) FROM read_parquet(?)", [str(file)]).fetchall() == [(12,)]
    else:
        first, *others = file.read_text(encoding="utf-8").splitlines()
        assert first.startswith(
            {"csv": ",".join(NAMES), "jsonl": f'{{"{NAMES[0]}":', "focus": ",".join(FOCUS_COLUMNS)}[format_]
        )
        assert len(others) == rows - (format_ == "jsonl")
    assert (rows == 12) is (format_ != "focus")


@pytest.mark.parametrize("format_", ["csv", "jsonl", "focus"])
def test_without_a_file_it_goes_to_standard_output(
    format_: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = entries()
    write(format_, None, made)
    write(format_, tmp_path / "costs", made)
    assert capsys.readouterr().out == (tmp_path / "costs").read_bytes().decode()


def test_what_passes_is_counted() -> None:
    seen = Seen()
    some = [{"pricing": "unpriced"}, {"pricing": "priced"}, {"pricing": "unpriced"}, {"pricing": "free"}]
    passing = counted(some, seen)
    assert (next(passing), as_document(seen)) == (some[0], {"inferences": 1, "unpriced": 1})
    assert list(passing) == some[1:]
    assert as_document(seen) == {"inferences": 4, "unpriced": 2}


@pytest.mark.parametrize(
    ("given", "rows", "seen", "text"),
    [
        ({}, 1200, Seen(1200), "1,200 rows of 1,200 inferences yesterday."),
        ({"output": Path("a\x1b.csv")}, 3, Seen(4), None),
        ({"output": Path("a.csv")}, 3, Seen(4), "Wrote a.csv: 3 rows of 4 inferences yesterday."),
        (
            {},
            3,
            Seen(3, 1000),
            "3 rows of 3 inferences yesterday.\n1,000 of them have no price: they have no cost in it.",
        ),
        (
            {"format": "focus"},
            3,
            Seen(3, 1),
            "3 rows of 3 inferences yesterday.\n1 of them have no price: they cost 0 in it (x_PricingStatus).",
        ),
    ],
)
def test_what_is_said_of_an_export(given: dict[str, Any], rows: int, seen: Seen, text: str | None) -> None:
    found = said(options(**given), rows, seen, "yesterday")
    assert found == text if text else "\x1b" not in found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"format": "parquet"},
            "A Parquet file cannot go to standard output. Remedy: name it with --output costs.parquet.",
        ),
        (
            {"json": True},
            "--json describes the file that is written; there is none. Remedy: add --output, or use --format jsonl.",
        ),
    ],
)
def test_what_needs_a_file_is_refused_without_one(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConsoleError) as refused:
        run_export(options(**given), {})
    assert str(refused.value) == message
