"""What each column of the ledger is: its type in an export and in the view `inferences`, and what it says.

The file `columns.tsv` beside this module has a line for each: name, type, a sentence and an example. `costs columns`
makes docs/data-dictionary.md of it, and an exported Parquet file has its types.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from openai_proxy.ledger.lake import lake_row

_FOLDER = Path(__file__).parent


class Column(NamedTuple):
    """A column. `type` is Athena's; `decimal(38,18)` is money in USD, exact."""

    name: str
    type: str
    what: str
    example: str


@cache
def columns() -> tuple[Column, ...]:
    """All columns, in the order of the view `inferences`."""
    return _read("columns.tsv")


def throttle_columns() -> tuple[Column, ...]:
    """What throttled requests have besides, in the table `entries` alone."""
    return _read("throttle_columns.tsv")


def _read(file: str) -> tuple[Column, ...]:
    lines = (_FOLDER / file).read_text(encoding="utf-8").splitlines()
    return tuple(Column(*line.split("\t")) for line in lines)


def row_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A ledger entry as it was read, by column. Money and times of day are text; what the entry has not is None."""
    row = lake_row(entry["sk"], entry, "", int(entry.get("revision", 0)))
    return {column.name: row.get(column.name) for column in columns()}
