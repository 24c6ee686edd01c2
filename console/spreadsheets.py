"""CSV for spreadsheets. Every export is written here, because a name in it is free text of whoever holds a key.

A spreadsheet takes a cell for a formula that begins with one of four signs, and a formula may fetch addresses or start
programs. An apostrophe before the sign makes it a text.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import chain

from console.text import NOT_FINITE, harmless, plain

_ALIKE = "\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u207c\u207a\u207b\u208c\u208a\u208b\u2212"
"""What spreadsheets take for one of the four: the same at full width, small, raised, lowered; a sign for minus."""
_QUOTES = "'\"`\u00b4\u2018\u2019\u201c\u201d"
_BEGINS = re.compile(rf"(^|[;|])(?=[\s{_QUOTES}]*[=+\-@{_ALIKE}])")
"""Where a formula may begin: at the start of a cell, or behind what separates cells in files of other countries."""


class Pointed(Decimal):
    """A number that has a decimal point even where it is whole: who guesses the type of a column finds decimals."""


def csv_text(columns: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    """A heading and rows, each on a line: numbers with all their digits, None as nothing, texts as texts only."""
    return "".join(csv_lines(columns, rows))


def csv_lines(columns: Iterable[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """The same line by line, of rows that are too many to be kept. A line ends with its line feed."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in chain((columns,), rows):
        writer.writerow([_cell(value) for value in row])
        yield text.getvalue()
        text.seek(0)
        text.truncate()


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        text = plain(value)
        return f"{text}.0" if isinstance(value, Pointed) and "." not in text else text
    if isinstance(value, (int, float)):
        return _text(NOT_FINITE[text]) if (text := str(value)) in NOT_FINITE else text
    return _text(str(value))


@lru_cache(maxsize=4096)
def _text(value: str) -> str:
    """A text that is no formula. Remembered, because a long export has few different texts beside its ids."""
    text = harmless(value)
    return text if text == "-" else _BEGINS.sub(r"\1'", text)
