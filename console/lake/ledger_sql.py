"""The SQL that asks the lake for what the ledger's table would say, and its answers as the table's items. Pure."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any

from openai_proxy.ledger.faults import FAULTS, OF_LIMITS

from console.costs.summary import AMOUNTS, COUNTS, NAMES, tag_of
from console.export.columns import columns
from console.period import Period

Item = dict[str, Any]

_KEYS = {"sk": "id", "timestamp": "occurred_at"}
"""What the table calls a column of the lake."""
_ATTRIBUTES = {column: name for name, column in _KEYS.items()}
_ALWAYS = frozenset({"sk", "client_id", "day"})


def _list(texts: Iterable[str]) -> str:
    return ", ".join(map(quoted, texts))


def quoted(text: str) -> str:
    """A text as SQL has it."""
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


_FAULT = (
    "CASE WHEN outcome <> 'failed' THEN NULL"
    f" WHEN status_code = 429 OR upstream_status = 429 OR error_type IN ({_list(OF_LIMITS)}) THEN 'limit'"
    f" WHEN error_source = 'upstream' THEN 'server' WHEN error_source IN ({_list(FAULTS)}) THEN error_source END"
)
"""`fault_of` in SQL."""

_HOLDS: Mapping[str, str] = {
    "requests": "true",
    "failed": "outcome = 'failed'",
    **{f"failed_{fault}": f"{_FAULT} = '{fault}'" for fault in FAULTS},
    "cache_hits": "cache_status = 'HIT'",
    "hits_priced": "cost_saved IS NOT NULL",
    "unpriced": "cost IS NULL",
    "usage_missing": "usage_source = 'missing'",
    "usage_invalid": "usage_source = 'invalid'",
    "usage_estimated": "usage_source = 'estimated'",
    "costs_reported": "cost_reported IS NOT NULL AND coalesce(cache_status, '-') <> 'HIT'",
    "first_chunks": "time_to_first_chunk IS NOT NULL",
}
"""`COUNTS` in SQL."""


def sums_sql(by: Sequence[str], period: Period, wanted: Mapping[str, Collection[str]]) -> str:
    """A query for the sums of a rollup, for each combination of values of `by`, which are in its first columns."""
    named = [f"{_dimension(name)} AS d{number}" for number, name in enumerate(by)]
    counted = [f"count(*) FILTER (WHERE {_HOLDS[name]}) AS {name}" for name in COUNTS]
    summed = [f"sum({name}) AS {name}" for name in AMOUNTS]
    group = f"GROUP BY {', '.join(str(number) for number in range(1, len(by) + 1))}" if by else ""
    return f"SELECT {', '.join([*named, *counted, *summed])}\n{_from(period, wanted)}\n{group}".rstrip()


def entries_sql(period: Period, wanted: Mapping[str, Collection[str]], attributes: Collection[str] | None) -> str:
    """A query for entries in their order; with all columns, or those of some of the table's attributes."""
    chosen = [each for each in columns() if attributes is None or _name(each.name) in {*attributes, *_ALWAYS}]
    shown = ", ".join(_as_text(each.name) if _is_compound(each.type) else each.name for each in chosen)
    return f"SELECT {shown}\n{_from(period, wanted)}\nORDER BY client_id, id"


def as_sum(row: Mapping[str, Any], names: Iterable[str]) -> Item:
    """A row of `sums_sql` as a rollup: dimensions by the names of their attributes, sums as Decimal."""
    values = list(row.values())
    named = {name: value for name, value in zip(names, values, strict=False) if value is not None}
    return named | {name: _number(row[name] or 0) for name in (*COUNTS, *AMOUNTS)}


def as_entry(row: Mapping[str, Any]) -> Item:
    """A row of `entries_sql` as the table's item; what it has not is not there."""
    readers = _readers()
    entry: Item = {}
    for column, value in row.items():
        if value is not None:
            name, read = readers[column]
            entry[name] = read(value) if read else value
    entry["month"] = entry["day"][:7]
    return entry


@cache
def _readers() -> Mapping[str, tuple[str, Callable[[Any], Any] | None]]:
    """For each column the table's name of it, and what makes the table's value of Athena's, if that is another."""
    of_types = {"varchar": None, "boolean": None, "timestamp": _moment}
    return {
        each.name: (_name(each.name), json.loads if _is_compound(each.type) else of_types.get(each.type, _number))
        for each in columns()
    }


def _moment(text: str) -> str:
    """A time of day as events have it: with milliseconds, in UTC."""
    day, _, time = text.partition(" ")
    seconds, _, decimals = time.partition(".")
    return f"{day}T{seconds}.{decimals[:3]:0<3}Z"


def _number(value: float | Decimal) -> Decimal:
    """A number as the table has it: without zeros at its end, and times to a millionth."""
    if isinstance(value, int):
        return Decimal(value)
    number = Decimal(str(round(value, 6))) if isinstance(value, float) else value
    return Decimal(int(number)) if number == int(number) else number.normalize()


def _from(period: Period, wanted: Mapping[str, Collection[str]]) -> str:
    conditions = [f"day BETWEEN '{period.first}' AND '{period.last}'"]
    conditions += [f"coalesce({column}, '-') IN ({_list(sorted(values))})" for column, values in wanted.items()]
    return f"FROM inferences\nWHERE {' AND '.join(conditions)}"


def _dimension(name: str) -> str:
    if (tag := tag_of(name)) is not None:
        return f"try(tags[{quoted(tag)}])"
    return {"month": "substr(day, 1, 7)", "fault": _FAULT}.get(name) or NAMES[name]


def _name(column: str) -> str:
    return _ATTRIBUTES.get(column, column)


def _is_compound(type_: str) -> bool:
    return type_.startswith(("map", "array"))


def _as_text(column: str) -> str:
    return f"CAST({column} AS JSON) AS {column}"
