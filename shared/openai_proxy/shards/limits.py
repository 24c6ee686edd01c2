"""A counter that is divided, as a whole: what it says together with its shards and its lanes. Pure; in plain values.

    limits#<id>            divided          in how many shards
                           parts            {shard: {n, what it has drawn, and under which limits}}
                           places           of parallel requests: how many all shards have drawn
    limits#<id>#<shard>    left_, drawn_    of requests, tokens, places and each period: what the shard may still let
                           seen_, back_     through, what it has drawn, what the counter had counted then, what it has
                           of_              returned, and the limit under which it has drawn last
                           p_<number>       places of requests that run, by the 15 seconds in which their leases end
                           r_…              USD that were taken in a quarter of an hour
    limits#<id>#s<lane>    day, day_spent   what settle_limits has settled: what was spent, and what of that which was
                           back_day, r_…    reserved has come back; month, week and total likewise

Its one rule: the counter only ever counts what was drawn of it. What came back is added up from those who say so, by
whoever draws: so each item is changed by itself, and no transaction holds it.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from openai_proxy.limits import PARTS, PERIODS, Period, Windows, bucket_windows, cost_in, is_expired, spent_in
from openai_proxy.pricing.rates import EXACT

PLACES = "places"
LANES = 8
"""So many consumers settle one key at a time without waiting for each other."""
_PLACE_SECONDS = 15
_NOTHING = Decimal(0)


def lane_id(limits_id: str, lane: int) -> str:
    """What a lane of a counter is called, from 1 on."""
    return f"{limits_id}#s{lane}"


def place_in(lease_end: int) -> str:
    """The attribute of a shard that counts a request whose lease ends then (Unix)."""
    return f"p_{-(-lease_end // _PLACE_SECONDS)}"


def place_end(attribute: str) -> int | None:
    """When all places of an attribute are free at the latest; None of another attribute."""
    prefix, _, number = attribute.partition("_")
    is_one = prefix == "p" and number.isascii() and number.isdecimal() and len(number) <= 12
    return int(number) * _PLACE_SECONDS if is_one else None


def back_in(name: str) -> str:
    """The attribute with what has come back of what was drawn: of places, or of a period."""
    return f"back_{name}"


class Whole(NamedTuple):
    """A counter, its shards by their numbers, and its lanes."""

    counter: Mapping[str, Any]
    shards: Mapping[int, Mapping[str, Any]]
    lanes: Iterable[Mapping[str, Any]] = ()

    @classmethod
    def numbers(cls, counter: Mapping[str, Any], shards: int) -> list[int]:
        """Those of the shards that a counter may have: as many as there are now, and all that have drawn before."""
        return sorted({*range(1, shards + 1), *map(int, counter.get(PARTS, {}))})

    def back(self, name: str, windows: Windows) -> Decimal:
        """What has come back of what was drawn: of a period, money that was reserved and not used, or never settled."""
        known: Decimal = sum((each.get(back_in(name), _NOTHING) for each in self._current(name)), _NOTHING)
        return known + self._lost(name, windows) if name in PERIODS else known

    def unused(self, name: str) -> Decimal:
        """What shards have drawn, and not let through."""
        return sum((each.get(f"left_{name}", _NOTHING) for each in self._shards(name)), _NOTHING)

    def spent(self, period: Period) -> Decimal:
        """USD that are settled."""
        found = self.counter.get(spent_in(period), _NOTHING)
        for each in self._lanes(period):
            found = EXACT.add(found, each.get(spent_in(period), _NOTHING))
        return found

    def gone(self, period: Period, windows: Windows) -> Decimal:
        """USD that are settled, or reserved by requests."""
        drawn = self.counter.get(cost_in(period), _NOTHING)
        return (drawn - self.back(period, windows) - self.unused(period)).normalize()

    def running(self, now: int) -> int:
        """Requests of shards that run."""
        ends = ((place_end(name), count) for each in self.shards.values() for name, count in each.items())
        return sum(int(count) for end, count in ends if end is not None and end >= now)

    def _lost(self, period: str, windows: Windows) -> Decimal:
        """USD that requests have reserved of which nobody has told the end: older than what may still be settled."""
        taken = (
            each.get(f"drawn_{period}", _NOTHING) - each.get(f"left_{period}", _NOTHING) - each.get(back_in(period), 0)
            for each in self._shards(period)
        )
        settled = (each.get(back_in(period), _NOTHING) + each.get(f"{period}_spent", 0) for each in self._lanes(period))
        open_ = sum(taken, _NOTHING) - sum(settled, _NOTHING)
        recent = self._recent(self.shards.values(), period, windows) - self._recent(self.lanes, period, windows)
        return max(_NOTHING, open_ - recent)

    def _recent(self, items: Iterable[Mapping[str, Any]], period: str, windows: Windows) -> Decimal:
        total, start = _NOTHING, self.counter.get(period, "")
        for name, amount in (each for item in items for each in item.items()):
            taken_in = bucket_windows(name, windows.calendar)
            if taken_in and not is_expired(name, windows.now) and taken_in.is_in(period, start):  # pyright: ignore[reportArgumentType]
                total += amount
        return total

    def _current(self, name: str) -> list[Mapping[str, Any]]:
        return [*self._shards(name), *self._lanes(name)]

    def _shards(self, name: str) -> list[Mapping[str, Any]]:
        return [each for each in self.shards.values() if self._is_current(each, name)]

    def _lanes(self, name: str) -> list[Mapping[str, Any]]:
        return [each for each in self.lanes if self._is_current(each, name)]

    def _is_current(self, item: Mapping[str, Any], name: str) -> bool:
        return name not in PERIODS or item.get(name, "") == self.counter.get(name)
