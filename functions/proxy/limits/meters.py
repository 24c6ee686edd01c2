"""What one request takes from a counter in shards: a meter for each limit of its key. Pure.

Its one rule: a meter belongs to one window, the minute or a period, or to none; in another window it counts nothing.
"""

from decimal import Decimal
from typing import NamedTuple, cast

from openai_proxy.dynamodb import Item
from openai_proxy.key_limits import Limits
from openai_proxy.limits import MINUTE, PARTS, PERIODS, REQUESTS, TOKENS, Period, Windows, cost_in
from openai_proxy.shards.limits import PLACES

from proxy.limits.item import Share, number_of, text_of

LEAST_COST = Decimal("1e-12")
"""USD: a request that costs nothing is let through while there is this much, as there must be something left."""


class Meter(NamedTuple):
    """One limit: its size, and how much of it the request needs."""

    name: str
    limit: int | Decimal
    need: int | Decimal

    @property
    def is_money(self) -> bool:
        """Whether it is the budget of a period, in USD."""
        return self.name in PERIODS

    @property
    def lasts(self) -> bool:
        """Whether what was drawn may still be there after the limit was changed."""
        return self.is_money or self.name == PLACES

    @property
    def counted(self) -> str:
        """The counter's attribute with the sum of all draws."""
        return cost_in(self.period) if self.is_money else self.name

    @property
    def period(self) -> Period:
        """Of a budget."""
        return cast("Period", self.name)

    def is_in(self, item: Item, windows: Windows) -> bool:
        """Whether a shard counts in the current window."""
        if self.is_money:
            return windows.is_in(self.period, text_of(item, self.name))
        if self.name == PLACES:
            return f"drawn_{PLACES}" in item
        return MINUTE in item and number_of(item, MINUTE) == windows.minute

    def of_shard(self, item: Item, prefix: str, windows: Windows) -> Decimal:
        """How much a shard has `left`, or has `drawn`. It may be negative for tokens, if more were used than
        expected.
        """
        return number_of(item, f"{prefix}_{self.name}") if self.is_in(item, windows) else Decimal(0)

    def part(self, counter: Item, shard: int, windows: Windows) -> Decimal:
        """How much a shard has drawn, according to the counter."""
        part = part_of(counter, shard)
        if self.is_money:
            is_current = text_of(part, self.name) == text_of(counter, self.name)
        else:
            is_current = self.name == PLACES or self.is_in(part, windows)
        return number_of(part, self.counted) if is_current else Decimal(0)

    def has_room(self, left: Decimal) -> bool:
        """Whether so much is enough. Of money, any amount is enough: the last request may go beyond a budget."""
        return left > 0 if self.is_money else left >= self.need


class Taking(NamedTuple):
    """What one request takes of a shard: `share` of a key with these limits, in these windows."""

    limits: Limits
    windows: Windows
    share: Share

    @property
    def meters(self) -> tuple[Meter, ...]:
        """One for each of the limits, in the order in which a request is told which of them refuses it."""
        limits, share = self.limits, self.share
        found = [Meter(period, budget, share.cost) for period, budget in limits.budgets.items()]
        if limits.rpm is not None:
            found.append(Meter(REQUESTS, limits.rpm, 1))
        if limits.tpm is not None:
            found.append(Meter(TOKENS, limits.tpm, share.tokens))
        if limits.parallel is not None:
            found.append(Meter(PLACES, limits.parallel, 1))
        return tuple(found)

    @property
    def counts_minutes(self) -> bool:
        """Whether any of the limits is of the minute."""
        return self.limits.rpm is not None or self.limits.tpm is not None


def part_of(counter: Item, shard: int) -> Item:
    """What a counter notes of a shard."""
    return counter.get(PARTS, {}).get("M", {}).get(str(shard), {}).get("M", {})
