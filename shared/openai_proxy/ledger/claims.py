"""Which entries count when several report the same usage. Pure.

What is made before it is told, such as a batch, may be told of by its state, by its answers and by a copy of them, by
anybody and again and again. Whoever tells of it claims every name that it has:

    claim   pk fetched#<digest>   sk fetched     the entries that tell of it (`owner` is their hash key)

Its one rule: of all entries that share a name those of one telling count, which are those that say most, and of equals
the first. The others are taken back in the transaction that finds it out: they stay, as requests that used nothing, and
`counted_in` says which entries count instead.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from openai_proxy.ledger.entries import Key, LedgerEntry, share_of
from openai_proxy.ledger.entry_cost import USED_ATTRIBUTES, nothing_used
from openai_proxy.pricing.rates import EXACT
from openai_proxy.usage import UNKNOWN

COUNTED_IN = "counted_in"
_SAYS_ALL = 2
_MOST_ENTRIES = 16
_MOST_TAKEN_BACK = 64
"""Of one claim: an item has no room for all that a server could make up."""


class Telling(NamedTuple):
    """The entries of one event: their hash key, their sort keys, and their attributes as far as they are there."""

    owner: str
    ids: tuple[str, ...]
    entries: tuple[Mapping[str, Any], ...]

    @property
    def first(self) -> Key:
        """Which entries they are, and the key of the first."""
        return self.owner, self.ids[0]

    @property
    def says(self) -> int:
        """0: nobody knows what was used; 1: not what it cost; 2: all, or entries that nobody can look at any more."""
        return max(map(_says, self.entries), default=_SAYS_ALL)

    @property
    def counted_in(self) -> "tuple[str, tuple[str, ...]] | None":
        """Owner and ids of the entries that count instead."""
        told = next((each[COUNTED_IN] for each in self.entries if COUNTED_IN in each), None)
        return (told[0], tuple(told[1:])) if told else None


def _says(entry: Mapping[str, Any]) -> int:
    if entry["usage_source"] in UNKNOWN:
        return 0
    return 1 if entry["pricing"] == "unpriced" else _SAYS_ALL


def telling_of(entries: Sequence[LedgerEntry]) -> Telling:
    """The entries of one event before they are written."""
    ids = tuple(entry.key[1] for entry in entries)
    return Telling(entries[0].key[0], ids, tuple(entry.attributes for entry in entries))


def owner_of(claim: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Owner and ids of the entries that a claim is of; what was claimed before claims named an owner has none."""
    return claim.get("owner", ""), tuple(claim.get("entries", [claim["entry"]]))[:_MOST_ENTRIES]


def claim_of(telling: Telling, expires_at: int, taken_back: Sequence[Key] = ()) -> dict[str, Any]:
    """The attributes of a claim. `taken_back`: the entries that it was of before."""
    claim: dict[str, Any] = {"entry": telling.ids[0], "owner": telling.owner, "entries": list(telling.ids)}
    return (
        claim
        | {"expires_at": expires_at}
        | ({"taken_back": [list(key) for key in taken_back[-_MOST_TAKEN_BACK:]]} if taken_back else {})
    )


def taken_back_by(claims: Iterable[Mapping[str, Any]]) -> list[Key]:
    """The keys of the entries that were taken back for these claims."""
    return list(dict.fromkeys((owner, entry_id) for claim in claims for owner, entry_id in claim.get("taken_back", ())))


def most_telling(own: Telling, others: Sequence[Telling]) -> Telling:
    """The telling that counts: a new one only if it says more than those that are there."""
    known = min(others, key=lambda each: (-each.says, each.first))
    return own if own.says > known.says else known


def correction_of(entry: Mapping[str, Any], winner: Telling) -> tuple[dict[str, Any], list[str]]:
    """What an entry gets that another telling counts for, and which of its attributes end."""
    new = nothing_used(entry) | {COUNTED_IN: [winner.owner, *winner.ids], "revision": int(entry.get("revision", 0)) + 1}
    return new, [name for name in USED_ATTRIBUTES if name in entry and name not in new]


def share_taken_back(entry: Mapping[str, Any]) -> dict[str, int | Decimal]:
    """What the rollups of an entry gain when it is taken back: less than nothing."""
    kept = {name: value for name, value in entry.items() if name not in USED_ATTRIBUTES}
    before, after = share_of(entry), share_of(kept | nothing_used(entry))
    gains = {name: EXACT.subtract(after.get(name, 0), amount) for name, amount in before.items()}
    return {name: gain for name, gain in gains.items() if gain}
