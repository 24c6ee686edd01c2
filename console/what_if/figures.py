"""What past requests would have cost with another model's prices, or another book's: by class of token. Pure.

Its one rule: it compares like with like. Old and new cost are summed over the requests that have both, and what has
only one is counted. It takes every token as it was; `UNKNOWABLE` says what that leaves out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from openai_proxy.events.ulid import ulid_time
from openai_proxy.ledger.entry_cost import usage_of_entry
from openai_proxy.pricing.price_book import Cost, PriceBook, Unpriced
from openai_proxy.pricing.rates import COMPONENTS, EXACT
from openai_proxy.usage import Usage

from console.costs.summary import value_of

Entry = Mapping[str, Any]

UNKNOWABLE = (
    "Another model counts the same text with another tokenizer: often 10 to 30 % more or fewer tokens.",
    "Another model gives longer or shorter answers, and reasons more, less or not at all.",
    "Another server's prompt cache has other rules: the new cost takes what was cached as cached there too.",
    "Whether it is as good, as fast and allowed as much is not in the ledger.",
)
OF_ENTRIES = frozenset(
    {"outcome", "cache_status", "pricing", "cost", "client_id", "server", "model", "request_model", "sk", "tags"}
    | {"client_owner", "key_id", "team", "end_user", "operation", "door", "usage_source", "usage_reason"}
    | {"input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "units"}
    | {"cache_creation_1h_input_tokens", "reasoning_output_tokens", "input_audio_tokens", "output_audio_tokens"}
    | {"input_image_tokens", "output_image_tokens", "audio_duration", "service_tier", "cost_reported"}
    | {f"cost_{name}" for name in COMPONENTS}
)
"""The attributes of an entry that are read."""

STATED = "stated"
"""The class of a cost that the server stated, which has no parts."""


@dataclass(frozen=True, slots=True)
class Target:
    """Whose prices hold instead. Without a model each request keeps its own server and model."""

    book: PriceBook
    server: str = ""
    model: str = ""

    def price(self, entry: Entry) -> Cost | Unpriced:
        """What the usage of an entry costs, at the entry's own time; where no price held then, at the present one."""
        at = ulid_time(entry["sk"])
        cost = self._at(entry, usage_of_entry(entry), at)
        if isinstance(cost, Unpriced) and cost.reason == "unknown_price" and self.model:
            return self._at(entry, usage_of_entry(entry), datetime.now(at.tzinfo))
        return cost

    def without_cache(self, entry: Entry) -> Cost | Unpriced:
        """The same as if no prompt cache had known anything."""
        fresh = {"cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "cache_creation_1h_input_tokens": 0}
        return self.price({**entry, **fresh})

    def _at(self, entry: Entry, usage: Usage, at: datetime) -> Cost | Unpriced:
        if not self.model:
            return self.book.price_answer(
                usage, entry.get("server"), entry.get("model"), entry.get("request_model"), at
            )[0]
        # A service tier and a stated cost are those of the server that was asked.
        return self.book.price(usage._replace(service_tier=None, cost_reported=None), self.server, self.model, at)


@dataclass(slots=True)
class Sums:
    """Of requests that have both an old and a new cost. USD."""

    requests: int = 0
    old: Decimal = Decimal(0)
    new: Decimal = Decimal(0)

    def add(self, old: Decimal, new: Decimal) -> None:
        self.requests += 1
        self.old, self.new = EXACT.add(self.old, old), EXACT.add(self.new, new)

    @property
    def difference(self) -> Decimal:
        return EXACT.subtract(self.new, self.old)

    @property
    def percent(self) -> Decimal | None:
        """The difference as a part of the old cost; None where that is nothing."""
        return 100 * self.difference / self.old if self.old else None


@dataclass(slots=True)
class WhatIf:
    """What a comparison found. `reasons` says why requests have no new price, and how often."""

    by: Sequence[str] = ()
    total: Sums = field(default_factory=Sums)
    classes: dict[str, Sums] = field(default_factory=dict[str, Sums])
    groups: dict[tuple[str, ...], Sums] = field(default_factory=dict[tuple[str, ...], Sums])
    new_without_cache: Decimal = Decimal(0)
    unpriced_before: int = 0
    reasons: dict[str, int] = field(default_factory=dict[str, int])
    unpriced_units: int = 0
    usage_estimated: int = 0
    cache_hits: int = 0
    tiers: int = 0

    def add(self, entry: Entry, target: Target) -> None:
        """Count an entry in."""
        if entry.get("cache_status") == "HIT":
            self.cache_hits += 1
            return
        cost = target.price(entry)
        if isinstance(cost, Unpriced):
            self.reasons[cost.reason] = self.reasons.get(cost.reason, 0) + 1
        elif "cost" not in entry:
            self.unpriced_before += 1
        else:
            self._add(entry, cost, target)

    def _add(self, entry: Entry, cost: Cost, target: Target) -> None:
        self.total.add(entry["cost"], cost.total)
        self.groups.setdefault(tuple(value_of(dict(entry), name) for name in self.by), Sums()).add(
            entry["cost"], cost.total
        )
        old, new = _parts_before(entry), _parts_after(cost)
        for name in old | new:
            self.classes.setdefault(name, Sums()).add(old.get(name, Decimal(0)), new.get(name, Decimal(0)))
        bare = target.without_cache(entry)
        without = cost.total if isinstance(bare, Unpriced) else bare.total
        self.new_without_cache = EXACT.add(self.new_without_cache, without)
        self.unpriced_units += cost.unpriced_units
        self.usage_estimated += entry["usage_source"] == "estimated"
        self.tiers += bool(target.model and entry.get("service_tier") not in (None, "default", "standard"))


def what_if(entries: Iterable[Entry], target: Target, by: Sequence[str] = ()) -> WhatIf:
    """Entries at the prices of `target`, summed up by class and by the dimensions `by`."""
    found = WhatIf(by)
    for entry in entries:
        found.add(entry, target)
    return found


def _parts_before(entry: Entry) -> dict[str, Decimal]:
    if entry["pricing"] == "reported":
        return {STATED: entry["cost"]}
    return {name: cost for name in COMPONENTS if (cost := entry.get(f"cost_{name}"))}


def _parts_after(cost: Cost) -> dict[str, Decimal]:
    if cost.stated is not None:
        return {STATED: cost.stated}
    return {name: part for name, part in cost.components.items() if part}
