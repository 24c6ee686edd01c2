"""A client's day, and the sums of a day, as one ledger, whatever is in shards (`openai_proxy.ledger.shards`).

Its one rule: whether there are shards is seen from what is read anyway, so a ledger without any costs nothing more.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import chain
from operator import itemgetter
from typing import Any

from openai_proxy.ledger.entries import add_shares
from openai_proxy.ledger.shards import SHARDED, is_sign, lane_keys, shard_keys

Item = dict[str, Any]
Read = Callable[[str, int | None], Iterator[Item]]
"""Reads the items of a partition in their order, in pages of so many; None is as many as DynamoDB gives at once."""

AT_ONCE = 8
"""How many queries are under way together; below the 10 connections that a client keeps."""
OF_SHARD = 300
"""The entries of a page of a shard: pages of all shards are kept at a time."""


def whole_day(read: Read, pk: str, *, newest_first: bool = False, is_divided: bool = False) -> Iterator[Item]:
    """The entries of a client's day in the order of their ids, or the newest first, as `read` has them.

    They need their `sk`. `is_divided` is for who reads a part of the day, so that its signs are not met.
    """
    items = read(pk, None)
    if not is_divided:
        first = next(items, None)
        if first is None or not is_sign(first):
            yield from chain(() if first is None else (first,), items)
            return
    parts = _begun([items, *(read(shard, OF_SHARD) for shard in shard_keys(pk))])
    merged = heapq.merge(*parts, key=itemgetter("sk"), reverse=newest_first)
    yield from (item for item in merged if not is_sign(item))


def whole_sums(read: Callable[[str], Iterable[Item]], pk: str) -> list[Item]:
    """The rollups of a day, one for each client, server and model. That of a divided group has `shards`."""
    rows = list(read(pk))
    if not any(SHARDED in row for row in rows):
        return rows
    of_lanes: dict[str, list[Item]] = {}
    for lane in lane_keys(pk):
        for row in read(lane):
            of_lanes.setdefault(row["sk"], []).append(row)
    return [sums for row in rows if "requests" in (sums := _together(row, of_lanes.get(row["sk"], ())))]


def _together(row: Item, of_lanes: Iterable[Item]) -> Item:
    sums = add_shares(
        {name: value for name, value in each.items() if isinstance(value, Decimal) and name != SHARDED}
        for each in (row, *of_lanes)
    )
    return {**row, **sums}


def _begun(parts: Sequence[Iterator[Item]]) -> list[Iterator[Item]]:
    """The parts that have any item. The first pages of several parts are read at once."""
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - it takes time to load

    with ThreadPoolExecutor(AT_ONCE) as pool:
        begins = list(pool.map(_next, parts))
    return [chain((begin,), part) for begin, part in zip(begins, parts, strict=True) if begin is not None]


def _next(part: Iterator[Item]) -> Item | None:
    return next(part, None)


def divided_days(rollups: Iterable[Mapping[str, Any]]) -> set[tuple[str, str]]:
    """The clients and days of rollups of which any is divided."""
    return {(row["client_id"], row["day"]) for row in rollups if SHARDED in row}
