"""The SQL of the lake: the files of analytics, and the view that they are about.

`inferences` means the same everywhere: analytics/inferences.sql is written out in front of each query, so that a query
needs no view. Emulators have none, and of a period only its partitions are read.
"""

import re
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from console.period import Period

ANALYTICS = Path(__file__).parents[2] / "analytics"
VIEW = "inferences"

LAST_30_DAYS = ">= CAST(CAST(current_date - INTERVAL '29' DAY AS date) AS varchar)"
"""The condition on the day in each named query; `--from` and the like replace it."""
FIRST_PARTITION = "dt >= '2026-01-01'"
"""The condition on partitions in the view, and in a query that reads `entries` itself: it includes all of them."""

_OWN_WITH = re.compile(
    r"(?P<before>(?:\s|--[^\n]*\n|/\*.*?\*/)*)(?P<with>WITH\b(?P<recursive>\s+RECURSIVE\b)?)",
    re.IGNORECASE | re.DOTALL,
)


class SavedQuery(NamedTuple):
    """A query as Athena's console shows it."""

    name: str
    description: str
    sql: str


def named_queries() -> dict[str, str]:
    """The queries of analytics/queries: name → SQL, whose first line is a comment that says what it answers."""
    return {file.stem: file.read_text(encoding="utf-8") for file in sorted((ANALYTICS / "queries").glob("*.sql"))}


def of_period(sql: str, period: Period) -> str:
    """The SQL of a named query, made to ask about `period` in place of the last 30 days."""
    return sql.replace(LAST_30_DAYS, f"BETWEEN '{period.first}' AND '{period.last}'")


def with_view(sql: str, period: Period | None = None, *, without_late: bool = False) -> str:
    """A query with the view it is about written out in front of it, in lines of its own.

    An entry arrives on its own day or later, so the partitions from the period's first day on hold all of it. One day
    more is read: clocks differ. With `without_late` the partitions of the period's days are read and no others.
    """
    sql = _without_end(sql)
    if period:
        sql = sql.replace(FIRST_PARTITION, _partitions(period, without_late=without_late))
    if not re.search(rf"\b{VIEW}\b", sql, re.IGNORECASE):
        return sql
    view = (ANALYTICS / "inferences.sql").read_text(encoding="utf-8").strip()
    if period:
        view = view.replace(FIRST_PARTITION, _partitions(period, without_late=without_late))
    own = _OWN_WITH.match(sql)
    recursive = "RECURSIVE " if own and own["recursive"] else ""
    if own:  # a comma takes the place of the word, so that nothing behind it moves
        sql = f"{own['before']},{' ' * (len(own['with']) - 1)}{sql[own.end() :]}"
    return f"WITH {recursive}{VIEW} AS (\n{view}\n)\n{sql}"


def lines_before(sql: str, statement: str) -> int:
    """How many lines `with_view` has put before a query, in the statement that it made of it."""
    return statement.count("\n") - _without_end(sql).count("\n")


def _without_end(sql: str) -> str:
    return sql.rstrip().rstrip(";").rstrip()


def _partitions(period: Period, *, without_late: bool) -> str:
    own_days = f"dt BETWEEN '{period.first}' AND '{period.last}'"
    return own_days if without_late else f"dt >= '{period.first - timedelta(days=1)}'"


def saved_queries() -> Sequence[SavedQuery]:
    """The named queries, and before them the statement that makes the view which they are about."""
    view = f"CREATE OR REPLACE VIEW {VIEW} AS\n{_statement((ANALYTICS / 'inferences.sql').read_text(encoding='utf-8'))}"
    first = SavedQuery(f"create-view-{VIEW}", "Makes the view that the other queries are about; run it first", view)
    return [first, *(SavedQuery(name, what(sql), _statement(sql)) for name, sql in named_queries().items())]


def what(sql: str) -> str:
    """What a named query answers: its first line, a comment."""
    return sql.partition("\n")[0].removeprefix("--").strip()


def _statement(sql: str) -> str:
    """A query without the comments before it."""
    return re.sub(r"\A(--[^\n]*\n)+", "", sql)
