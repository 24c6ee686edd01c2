"""CSV that is opened in spreadsheets of any country: no cell is a formula, and every figure keeps its digits."""

import csv
import io
import shutil
import subprocess
import unicodedata
from decimal import Decimal
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.spreadsheets import csv_text

HOSTILE = [
    "=1+1",
    "+1",
    "-1+cmd|' /C calc'!A0",
    "@SUM(A1)",
    " =1",
    "\t=1",
    "\r\n=1",
    ";=1+1",
    "a;=1",
    "a|@x",
    "\uff1d1",
    "\uff0b1",
    "\uff0d1",
    "\uff20x",
    '"=1"',
    "'=1",
    "\u200b=1",
    "\ufeff=1",
    "\u2212" + "1",
    "a;;=1",
    "a\n=1",
    "\ufe661",
]
SIGNS = st.sampled_from("=+-@\uff1d\uff0b\uff0d\uff20;|\t\n '\",\u200b\ufeffa1")


def is_formula(cell: str) -> bool:
    """Whether a spreadsheet may take `cell` for one: whatever it skips, and whichever form of a sign it knows."""
    seen = unicodedata.normalize("NFKC", cell.replace("\u2212", "-")).lstrip(' \t\r\n"\u200b\ufeff')
    # What is absent is a hyphen; who separates at something else joins the next cell to it behind our comma.
    return seen[:1] in ("=", "+", "-", "@") and seen not in ("-", "-,1")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"], ids=["comma", "semicolon", "tab", "bar"])
@given(name=st.sampled_from(HOSTILE) | st.text(SIGNS, max_size=12) | st.text(max_size=12))
def test_no_cell_is_a_formula_whatever_separates_cells(delimiter: str, name: str):
    written = csv_text(["model", "cost"], [[name, Decimal(1)]])
    lines = list(csv.reader(io.StringIO(written), delimiter=delimiter))
    assert len(lines) == 2, "no name makes a line of its own"
    assert not any(is_formula(cell) for cell in lines[1])


@pytest.mark.skipif(not shutil.which("soffice"), reason="no LibreOffice on this machine")
def test_libreoffice_finds_no_formula(tmp_path: Path):
    names = [*HOSTILE, *("".join(signs) for signs in product("=+-@;|\t '\",\u200b\uff1d", repeat=2))]
    file = tmp_path / "safe.csv"
    cells = ["-", *(f"{name}1+1" for name in names)]
    file.write_text(csv_text(["model", "cost"], [[cell, Decimal(1)] for cell in cells]), encoding="utf-8")
    wild = tmp_path / "wild.csv"
    wild.write_text("model,cost\n=1+1,1\n", encoding="utf-8")
    every_separator = "Text - txt - csv (StarCalc):44/59/9/124,34,76,1"
    convert = ["soffice", f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}", "--headless"]
    convert += [
        "--convert-to",
        "fods",
        f"--infilter={every_separator}",
        "--outdir",
        str(tmp_path),
        str(file),
        str(wild),
    ]
    subprocess.run(convert, check=True, stdout=subprocess.DEVNULL, timeout=300)
    assert "table:formula" in wild.with_suffix(".fods").read_text(), "it takes what is not written here for one"
    assert "table:formula" not in file.with_suffix(".fods").read_text()


@given(st.lists(st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False)))
def test_figures_keep_their_digits(row: list[object]):
    [_, *lines] = csv.reader(io.StringIO(csv_text(["x"] * len(row), [row])))
    cells = lines[0] if lines else []
    for value, cell in zip(row, cells, strict=False):
        told = {"": None, "true": True, "false": False}.get(cell, cell)
        assert told == value or Decimal(cell) == value


def test_numbers_that_are_none_are_called_as_athena_calls_them():
    assert csv_text("abc", [[float("nan"), float("inf"), float("-inf")]]) == "a,b,c\nNaN,Infinity,'-Infinity\n"


def test_plain_names_stay_as_they_are():
    names = ["gpt-5.4", "a;b", "-", "o'neil", "größe", "a=b", "x@y", "a, b"]
    [_, found] = csv.reader(io.StringIO(csv_text(names, [names])))
    assert found == names
