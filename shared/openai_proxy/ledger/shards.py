"""Where the ledger of a busy client is kept: in so many partitions that none of them bounds it. Pure.

    entry    pk client#<client_id>#<day>#<shard>   sk <ulid>                         the shard follows from the id
    rollups  pk day#<day>#<lane>                   sk <client_id>#<server>#<model>   whoever writes takes a lane
             pk month#<month>#<lane>               sk the same
    signs    pk client#<client_id>#<day>           sk #shards, ~shards               before and after its entries

A client's day is in the one partition without a shard, its sums in the rows without a lane, until DynamoDB refuses
writes of a client, server and model because there are too many of them. Then the row of their day gets `shards`, and
from that moment on nothing of them is written there: each transaction asks that its row has none.

One rule: what is divided stays divided for the day. So what the undivided partition holds of it is final, and an entry
is in one of two places.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai_proxy.ledger.entries import Key, LedgerEntry

SHARDS = 64
"""DynamoDB takes 1,000 write units a second of a partition, and an entry takes 2 or 4: 16,000 entries a second."""
LANES = 32
"""Transactions on one row exclude each other: so many consumers can write the sums of the same group at a time."""

SHARDED = "shards"
"""The attribute of a row of a day whose group is divided, and of the signs: how many shards there are."""
FIRST, LAST = "#shards", "~shards"
"""Sort keys of the signs. Whoever reads a client's day from either end meets one at once, and without it knows that
there are no shards."""

_DAY, _CLIENT = "day#", "client#"
_OF_SHARD = 3
"""So many times does the partition of a shard have a #, which no client's id has."""


def shard_key(pk: str, entry_id: str) -> str:
    """The partition of an entry whose client's day is divided; `pk` is that of the undivided one."""
    return f"{pk}#{hashlib.sha256(entry_id.encode()).digest()[0] % SHARDS:02d}"


def shard_keys(pk: str) -> list[str]:
    """The partitions of a divided day of a client, but for the undivided one."""
    return [f"{pk}#{shard:02d}" for shard in range(SHARDS)]


def lane_keys(pk: str) -> list[str]:
    """The partitions of the rollups of a day or month, but for the one without a lane."""
    return [f"{pk}#{lane:02d}" for lane in range(LANES)]


def is_sign(item: Mapping[str, Any]) -> bool:
    """Whether an item of a client's day is no entry."""
    return item["sk"] in (FIRST, LAST)


def is_asked(pk: str) -> bool:
    """Whether these are the rows of a day that say which groups are divided."""
    return pk.startswith(_DAY) and "#" not in pk[len(_DAY) :]


def group_of(entry: "LedgerEntry") -> "Key | None":
    """The row of a day that says whether entries like this one are divided; None for what never is.

    What claims anything, as the answer of a batch does, is seldom and stays where others look for it.
    """
    is_divisible = entry.key[0].startswith(_CLIENT) and not entry.claims and entry.rollups
    return entry.rollups[0].key if is_divisible and is_asked(entry.rollups[0].key[0]) else None


def divided(entry: "LedgerEntry", lane: int) -> "LedgerEntry":
    """The entry in its shard, and its rollups in a lane."""
    pk, sk = entry.key
    rollups = tuple(replace(each, key=(f"{each.key[0]}#{lane:02d}", each.key[1])) for each in entry.rollups)
    return replace(entry, key=(shard_key(pk, sk), sk), rollups=rollups)


def is_divided(entry: "LedgerEntry") -> bool:
    """Whether an entry is in its shard."""
    return entry.key[0].startswith(_CLIENT) and entry.key[0].count("#") == _OF_SHARD


def in_lane(entry: "LedgerEntry", lane: int) -> "LedgerEntry":
    """An entry in its shard, with its rollups in another lane."""
    rollups = ((each, each.key[0].rpartition("#")[0]) for each in entry.rollups)
    return replace(entry, rollups=tuple(replace(each, key=(f"{pk}#{lane:02d}", each.key[1])) for each, pk in rollups))


def signs_of(entry: "LedgerEntry", retention: timedelta) -> list[dict[str, Any]]:
    """The items that say that the client's day of an entry has shards. They outlive its entries."""
    day_after = datetime.fromisoformat(entry.attributes["day"]).replace(tzinfo=UTC) + timedelta(days=1)
    expires_at = int((day_after + retention).timestamp())
    return [{"pk": entry.key[0], "sk": sk, SHARDED: SHARDS, "expires_at": expires_at} for sk in (FIRST, LAST)]
