"""Reads the lake as the ledger's table is read: sums by any dimensions, and single entries.

One rule: the lake gives what the table would have given for everything that has reached the lake. The rollups know how
much has not, and the commands say so.
"""

import argparse
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

from console.costs.reading import LAKE, MOST_OF_TABLE
from console.costs.summary import attribute
from console.errors import ConsoleError
from console.lake.athena import Athena, chosen_athena, lake_names
from console.lake.ledger_sql import as_entry, as_sum, entries_sql, sums_sql
from console.lake.queries import with_view
from console.period import Period
from console.progress import Bars
from console.text import count

Item = dict[str, Any]


def chosen_lake(
    rollups: Sequence[Item], options: argparse.Namespace, environ: Mapping[str, str], bars: Bars | None = None
) -> "LakeLedger | None":
    """The lake, where it is to be read in the table's place for the requests of these rollups.

    Raises ConsoleError where it is named and there is none.
    """
    source = getattr(options, "source", None)
    is_large = sum(int(row["requests"]) for row in rollups) > MOST_OF_TABLE
    if source == LAKE or (source is None and is_large and _has_lake(options, environ)):
        return LakeLedger(chosen_athena(options, environ), rollups, bars)
    return None


def _has_lake(options: argparse.Namespace, environ: Mapping[str, str]) -> bool:
    """Whether a lake is known. Beside a table that is named without its stack there is none."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - it takes time to load

    try:
        return lake_names(options, environ) is not None
    except (ConsoleError, BotoCoreError, ClientError):
        return False


class LakeLedger:
    """The inferences of the lake on the days of `rollups`, which tell how many there are."""

    def __init__(self, athena: Athena, rollups: Sequence[Item], bars: Bars | None = None) -> None:
        self._athena = athena
        self._bars = bars or Bars()
        self._requests: dict[str, int] = {}
        for row in rollups:
            self._requests[row["day"]] = self._requests.get(row["day"], 0) + int(row["requests"])

    def sums(self, by: Sequence[str], wanted: Mapping[str, Collection[str]]) -> list[Item]:
        """A row for each combination of values of `by`, with the sums that a rollup has.

        `wanted` are the values that count of a column; "-" is what has none.
        """
        if not self._requests:
            return []
        days = Period(date.fromisoformat(min(self._requests)), date.fromisoformat(max(self._requests)))
        found = [as_sum(row, map(attribute, by)) for row in self._rows(sums_sql(by, days, wanted), days)]
        self._tell_missing(sum(int(row["requests"]) for row in found))
        return found

    def entries(
        self, wanted: Mapping[str, Collection[str]], attributes: Collection[str] | None = None
    ) -> Iterator[Item]:
        """The entries of the days, day by day and of one client after the other, as the table has them.

        They are read page by page, each day by a query of its own; with some `attributes` only if these are named.
        """
        number = 0
        with self._bars("requests", sum(self._requests.values())) as advance:
            for day in sorted(self._requests):
                period = Period(date.fromisoformat(day), date.fromisoformat(day))
                for row in self._rows(entries_sql(period, wanted, attributes), period):
                    number += 1
                    yield as_entry(row)
                    advance(1)
        self._tell_missing(number)

    def _rows(self, sql: str, period: Period) -> Iterator[Mapping[str, Any]]:
        return self._athena.rows(with_view(sql, period))

    def _tell_missing(self, found: int) -> None:
        expected = sum(self._requests.values())
        if found < expected:
            told = f"{count(expected - found)} of {count(expected)} requests have not reached the lake yet"
            print(f"Read from the lake: {told}, and are not in it.", file=sys.stderr)
