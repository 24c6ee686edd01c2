"""Items of the costs table as commands read them.

One rule: no figure is made of an item that the consumers cannot have written, such as one that somebody has changed by
hand: it is named, with what is wrong with it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any, NoReturn, cast

from openai_proxy.dynamodb import from_item
from openai_proxy.events.ulid import is_ulid
from openai_proxy.ledger.shards import is_sign

from console.errors import ConsoleError
from console.export.columns import columns, throttle_columns
from console.text import harmless

Item = dict[str, Any]

_MOST_DIGITS, _MOST_DECIMALS = 24, 30
"""More than any sum has, and few enough to be added exactly."""
_LONGEST_SHOWN = 60
_NEEDED = {
    "client": (
        *("client_id", "timestamp", "outcome", "usage_source", "pricing", "input_tokens", "output_tokens"),
        *("cache_read_input_tokens", "cache_creation_input_tokens", "reasoning_output_tokens"),
    ),
    "day": ("client_id", "server", "model"),
    "month": ("client_id", "server", "model"),
    "throttles": ("client_id", "source", "server", "model", "requests"),
}
"""What every item has, by the first part of its partition's name."""
_TEXTS_OF_ROLLUPS = frozenset(
    {"pk", "sk", "client_id", "server", "model", "day", "month", "hour", "source"}
    | {"throttle_subject", "throttle_subject_id", "throttle_span", "throttle_limit", "throttle_used"}
    | {"key_id", "client_name", "team"}
)
"""Everything else in them is a number."""
_OF_SUMS = "correct it; its figures are the sums over the entries of its client, server and model"
_REMEDIES = {
    "client": "correct it; the event of that id, its row in the lake and its line in the log say how it was",
    "day": _OF_SUMS,
    "month": _OF_SUMS,
    "throttles": "correct or delete it; no cost is made of it",
}


def ledger_items(pages: Iterable[Mapping[str, Any]], pk: str, asked: Collection[str] | None = None) -> Iterator[Item]:
    """The items of the partition `pk`, of which only the attributes `asked` were read, all where none is named.

    Raises ConsoleError if one is damaged.
    """
    for page in pages:
        for item in page["Items"]:
            yield ledger_item(item, pk, asked)


def ledger_item(item: Mapping[str, Any], pk: str, asked: Collection[str] | None = None) -> Item:
    """One item, in plain values. Raises ConsoleError if it is damaged."""
    read = from_item(item)
    kind = pk.partition("#")[0]
    if kind == "client" and "sk" in read and is_sign(read):
        return read
    fit = _fit_of_entry if kind == "client" else _fit_of_rollup
    for name, value in read.items():
        if (is_fit := fit(name)) and not is_fit(value):
            _damaged(pk, read, f"its `{name}` is {_shown(value)}, which is {_WANTED[is_fit]}")
    for name in _NEEDED.get(kind, ()):
        if name not in read and (asked is None or name in asked):
            _damaged(pk, read, f"it has no `{name}`")
    return read


def _damaged(pk: str, read: Item, what: str) -> NoReturn:
    key = f" '{harmless(str(read['sk'])[:_LONGEST_SHOWN])}'" if "sk" in read else ""
    remedy = _REMEDIES[pk.partition("#")[0]]
    raise ConsoleError(f"The costs table has a damaged item{key} in '{harmless(pk)}': {what}. Remedy: {remedy}.")


def _shown(value: Any) -> str:
    text = repr(value) if isinstance(value, str) else str(value)
    return harmless(text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_number(value: Any) -> bool:
    if not isinstance(value, Decimal):
        return False
    # Most numbers are short: an answer has thousands of them, and the parts of one take long to make.
    return (len(text := str(value)) <= _MOST_DIGITS and text.isdigit()) or _is_within_bounds(value)


def _is_within_bounds(number: Decimal) -> bool:
    return (
        number.is_finite()
        and number.adjusted() < _MOST_DIGITS
        and cast("int", number.as_tuple().exponent) >= -_MOST_DECIMALS
    )


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_moment(value: Any) -> bool:
    try:
        return isinstance(value, str) and datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_id(value: Any) -> bool:
    return isinstance(value, str) and is_ulid(value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, cast("list[Any]", value)))


def _are_named_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_text, cast("dict[str, Any]", value).values()))


def _are_named_counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_count, cast("dict[str, Any]", value).values()))


_WANTED: Mapping[Callable[[Any], bool], str] = {
    _is_text: "no text",
    _is_flag: "neither true nor false",
    _is_number: "no number, or one out of bounds",
    _is_count: "no count, or one out of bounds",
    _is_moment: "no moment as 2026-11-23T09:30:39.315Z",
    _is_id: "no ULID",
    _are_texts: "no list of texts",
    _are_named_texts: "no map of texts",
    _are_named_counts: "no map of counts",
}
_BY_TYPE: Mapping[str, Callable[[Any], bool]] = {
    "varchar": _is_text,
    "boolean": _is_flag,
    "integer": _is_count,
    "bigint": _is_count,
    "double": _is_number,
    "decimal(38,18)": _is_number,
    "array(varchar)": _are_texts,
    "map(varchar,varchar)": _are_named_texts,
    "map(varchar,bigint)": _are_named_counts,
    "timestamp": _is_moment,
}
"""By the type of the column that an attribute becomes."""


def _fit_of_entry(name: str) -> Callable[[Any], bool] | None:
    return _kinds_of_entries().get(name)


def _fit_of_rollup(name: str) -> Callable[[Any], bool]:
    return _is_text if name in _TEXTS_OF_ROLLUPS else _is_number


@cache
def _kinds_of_entries() -> Mapping[str, Callable[[Any], bool]]:
    found = {
        column.name: _BY_TYPE[column.type] for column in (*columns(), *throttle_columns()) if column.type in _BY_TYPE
    }
    return {**found, "sk": _is_id, "timestamp": _is_moment, "revision": _is_count, "expires_at": _is_count}
