"""Sums of rollups or entries by any dimensions. Pure.

Its one rule: sums are exact, and a sum that leaves something out says so: what has no price is counted, never taken for
0.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

from openai_proxy.ledger.faults import FAULTS, NEEDED, fault_of
from openai_proxy.pricing.rates import EXACT

Item = dict[str, Any]

NAMES: Mapping[str, str] = {
    "client": "client_id",
    "server": "server",
    "model": "model",
    "day": "day",
    "month": "month",
    "owner": "client_owner",
    "key": "key_id",
    "team": "team",
    "user": "end_user",
    "operation": "operation",
    "door": "door",
    "outcome": "outcome",
    "fault": "fault",
}
"""The dimensions, and the attribute that each one is. `tag:NAME` is one too."""

OF_ROLLUPS = frozenset({"client", "server", "model", "day", "month"})
"""The dimensions that rollups have. The others are read from entries, of the table or of the lake."""

OF_TIME = ("day", "month")
UNNAMED = "-"


def _is_of(fault: str, entry: Item) -> bool:
    return fault_of(entry) == fault


COUNTS: Mapping[str, Callable[[Item], bool]] = {
    "requests": lambda _: True,
    "failed": lambda entry: entry["outcome"] == "failed",
    **{f"failed_{fault}": partial(_is_of, fault) for fault in FAULTS},
    "cache_hits": lambda entry: entry.get("cache_status") == "HIT",
    "hits_priced": lambda entry: "cost_saved" in entry,
    "unpriced": lambda entry: "cost" not in entry,
    "usage_missing": lambda entry: entry["usage_source"] == "missing",
    "usage_invalid": lambda entry: entry["usage_source"] == "invalid",
    "usage_estimated": lambda entry: entry["usage_source"] == "estimated",
    "costs_reported": lambda entry: "cost_reported" in entry and entry.get("cache_status") != "HIT",
    "first_chunks": lambda entry: "time_to_first_chunk" in entry,
}
AMOUNTS = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "reasoning_output_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "input_image_tokens",
    "output_image_tokens",
    "audio_duration",
    "cost",
    "cost_saved",
    "cost_reported",
    "cost_units",
    "unpriced_units",
    "duration",
    "time_to_first_chunk",
)
SUMS = (*COUNTS, *AMOUNTS)
OF_ENTRIES = frozenset(
    {"cache_status", "usage_source", "tags", *NEEDED, *NAMES.values(), *AMOUNTS} - {"fault", *OF_TIME}
)
"""The attributes of an entry that sums are made of."""

_TAG = re.compile(r"tag:(.{1,256})", re.DOTALL)


def is_dimension(name: str) -> bool:
    """Whether there can be sums by `name`."""
    return name in NAMES or tag_of(name) is not None


def tag_of(dimension: str) -> str | None:
    """The name of the tag that a dimension is; None for the others."""
    tag = _TAG.fullmatch(dimension)
    return tag[1] if tag else None


def attribute(dimension: str) -> str:
    """What a dimension is called in JSON and CSV."""
    return NAMES.get(dimension, dimension)


def share_of(entry: Item) -> Item:
    """An entry as if it were a rollup of its own."""
    share: Item = {name: Decimal(holds(entry)) for name, holds in COUNTS.items()}
    share |= {name: Decimal(entry.get(name) or 0) for name in AMOUNTS}
    share["fault"] = fault_of(entry)
    return share | {name: entry[name] for name in (*NAMES.values(), "tags") if name in entry}


def summarize(rows: Iterable[Item], by: Sequence[str]) -> list[Item]:
    """Sums of rollups, of shares or of other sums, for each combination of values of `by`.

    They are in order of time if that is among the dimensions, and the most expensive comes first. Without dimensions
    there is one sum.
    """
    sums: dict[tuple[str, ...], Item] = {}
    for row in rows:
        key = tuple(value_of(row, name) for name in by)
        total = sums.setdefault(key, dict.fromkeys(SUMS, Decimal(0)))
        for name in SUMS:
            if value := row.get(name):
                total[name] = EXACT.add(total[name], value)
    named = [dict(zip(map(attribute, by), key, strict=True)) | total for key, total in sums.items()]
    return sorted(named, key=lambda row: _order(row, by))


def total_of(rows: Iterable[Item]) -> Item:
    """The sum of all."""
    [total] = summarize(rows, []) or [dict.fromkeys(SUMS, Decimal(0))]
    return total


def value_of(row: Item, dimension: str) -> str:
    """The name of a row in a dimension; "-" when it has none there."""
    if (tag := tag_of(dimension)) is not None:
        tags: Item = row.get("tags") or {}
        return str(tags.get(tag) or row.get(dimension) or UNNAMED)
    return str(row.get(NAMES[dimension]) or UNNAMED)


def known_cost(row: Item) -> Decimal | None:
    """The part of the cost that is known; None when nothing is: beside requests without a price a sum of 0 tells
    nothing.
    """
    return None if row["unpriced"] and not row["cost"] else row["cost"]


def known_saving(row: Item) -> Decimal | None:
    """The part that is known of what the response cache saved; None when there were hits and no saving is known."""
    return None if row["cache_hits"] and not row["hits_priced"] else row["cost_saved"]


def mean_first_chunk(row: Item) -> Decimal | None:
    """The mean time to first chunk in seconds, of requests that had one."""
    return row["time_to_first_chunk"] / row["first_chunks"] if row["first_chunks"] else None


def top(rows: Sequence[Item], by: str, most: int) -> list[Item]:
    """The first `most` rows of a sum by one dimension. If there are more, the last row is the sum of the rest.

    The name of that row says how many it sums up.
    """
    if len(rows) <= most:
        return list(rows)
    kept, rest = rows[: most - 1], rows[most - 1 :]
    return [*kept, total_of(rest) | {attribute(by): f"{len(rest):,} others"}]


def _order(row: Item, by: Sequence[str]) -> tuple[Any, ...]:
    time = [row[name] for name in OF_TIME if name in by]
    return (*time, -row["cost"], -row["requests"], *(row[attribute(name)] for name in by))
