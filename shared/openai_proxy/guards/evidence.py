"""What guards remember of requests: when those of a kind came, and what a key has spent in each hour. Pure.

One rule: adding something twice, or in another order, gives the same result. A bucket of times keeps the first and the
last few of it: enough to find every window, so a key that floods the proxy needs no more room than another.
"""

from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from openai_proxy.guards.rules import HOUR
from openai_proxy.guards.seen import moment


class Evidence(Protocol):
    """Where it is remembered: `Memory`, or apply_guards.evidence.Table."""

    def times(self, of: str, bucket: int, ids: Collection[str], most: int) -> list[str]:
        """Add requests to a bucket, which keeps the first and the last `most`.

        Returns what this bucket, the one before and the one after it have, in order.
        """
        ...

    def spend(self, key_id: str, hour: int, costs: Mapping[str, Decimal]) -> Decimal:
        """Add what requests of an hour (since 1970) have cost, each once. Returns the hour's sum."""
        ...

    def spent(self, key_id: str, first: int, last: int) -> Mapping[int, Decimal]:
        """What a key has spent in each hour from `first` to `last`, both included. Hours without spending are left
        out.
        """
        ...


def merged(known: Collection[str], more: Collection[str], most: int) -> list[str]:
    """The first and the last `most` of all these requests, in order."""
    ids = sorted({*known, *more})
    return ids if len(ids) <= 2 * most else ids[:most] + ids[-most:]


def first_completion(ids: Sequence[str], times: int, within: int, start: int, end: int) -> str | None:
    """The first request from `start` to before `end` (Unix milliseconds) that is the last of `times` ones within so
    many seconds; None where there is none. `ids` are in order.
    """
    for last in range(times - 1, len(ids)):
        at = _milliseconds(ids[last])
        if start <= at < end and at - _milliseconds(ids[last - times + 1]) < within * 1000:
            return ids[last]
    return None


def _milliseconds(ulid: str) -> int:
    return round(moment(ulid) * 1000)


def bucket_of(ulid: str, within: int) -> int:
    """In which bucket of so many seconds a request is."""
    return _milliseconds(ulid) // (within * 1000)


class Memory:
    """Evidence of one process: for replays, and for tests."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, int], list[str]] = {}
        self._costs: dict[tuple[str, int], dict[str, Decimal]] = {}
        self._sums: dict[tuple[str, int], Decimal] = {}

    def times(self, of: str, bucket: int, ids: Collection[str], most: int) -> list[str]:
        """See `Evidence`."""
        self._times[of, bucket] = merged(self._times.get((of, bucket), ()), ids, most)
        return [each for near in (bucket - 1, bucket, bucket + 1) for each in self._times.get((of, near), ())]

    def forget(self, before: float) -> None:
        """Forget which requests came before a moment (Unix seconds), but for what they have cost together."""
        self._times = {where: ids for where, ids in self._times.items() if moment(ids[-1]) >= before}
        self._costs = {where: costs for where, costs in self._costs.items() if where[1] * HOUR >= before}

    def spend(self, key_id: str, hour: int, costs: Mapping[str, Decimal]) -> Decimal:
        """See `Evidence`."""
        known = self._costs.setdefault((key_id, hour), {})
        new = {each: cost for each, cost in costs.items() if each not in known}
        known.update(new)
        self._sums[key_id, hour] = self._sums.get((key_id, hour), Decimal(0)) + sum(new.values(), Decimal(0))
        return self._sums[key_id, hour]

    def spent(self, key_id: str, first: int, last: int) -> Mapping[int, Decimal]:
        """See `Evidence`."""
        found = {hour: self._sums.get((key_id, hour)) for hour in range(first, last + 1)}
        return {hour: cost for hour, cost in found.items() if cost is not None}
