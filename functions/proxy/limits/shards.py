"""Takes of a key whose limits are counted in shards. Loaded only for such a key.

A request takes of the shard that its sandbox has chosen by chance, and asks the key's counter only when that has no
room: the shard then draws some more. Its one rule: a shard lets nothing through that it has not drawn, so all together
never let through more than the limit, whatever number of shards each sandbox reckons with.

A take is counted again if its answer was lost: a lease for each request would make a shard as large as many requests
run. Nor is a giving back sent again: both err towards less.
"""

import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from openai_proxy.dynamodb import Item
from openai_proxy.key_limits import Limits
from openai_proxy.limits import Windows
from openai_proxy.usage import MOST_TOKENS, UNKNOWN, Usage

from proxy.aws.client import NO_ANSWER, AwsError
from proxy.limits.counters import Calls, Counters
from proxy.limits.item import headers, no_older_than, renewal
from proxy.limits.refused import limit_error, reached
from proxy.limits.reservation import Reservation
from proxy.limits.shard_item import (
    NOTHING,
    Amounts,
    Own,
    crediting,
    drawing,
    drawing_shards,
    drawn_by,
    giving_back,
    left_in,
    part_of,
    shard_headers,
    shard_limits,
    source_of,
    taking_back,
    taking_of_shard,
    to_draw,
)
from proxy.limits.together import nearer

_MOST_TRIES = 12
"""Each try fails only when another request has changed an item in between, in a way that matters."""
_MOST_CROWDED = 4
"""Shards that a request draws for, one after another, where others were faster each time."""
_OTHERS = 3
"""Shards that are asked beside a sandbox's own before a request is refused."""
_MOST_KNOWN = 256
_A_MOMENT = 1.0
"""Seconds for which shards are thought to have no tokens: requests give back what they have not used."""


class Dry(NamedTuple):
    """A counter that has nothing left for what was needed until `until` (Unix), and `shards` that have not either."""

    limits: Limits
    need: Amounts
    counter: Item
    windows: Windows
    until: float
    shards: frozenset[int] = frozenset()

    def holds(self, limits: Limits, need: Amounts, now: float) -> bool:
        """Whether it is so for another request."""
        return now < self.until and limits == self.limits and need.covers(self.need)


class Shards:
    """The shards of all counters. `count` says how many a key with such limits has; `chance` is from 0 up to 1."""

    def __init__(
        self,
        counters: Counters,
        clock: Callable[[], float] = time.time,
        count: Callable[[Limits], int] = lambda limits: limits.shards,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._counters = counters
        self._clock = clock
        self._count = count
        self._chance = chance
        self._place: float | None = None
        self._dry: dict[str, Dry] = {}

    def own(self, limits: Limits) -> int:
        """The shard that this sandbox takes of. It is chosen at the first request: a copy of a sandbox chooses anew."""
        if self._place is None:
            self._place = self._chance()
        return 1 + int(self._place * self._count(limits))

    def take(self, taken: Reservation, calls: Calls) -> Reservation:
        """Take a request's share, or say why not. Raises AwsError, and what a damaged item comes to."""
        assert taken.share
        own = Own.of(taken.limits, taken.share)
        dry = self._known_dry(taken.limits, own.need)
        if dry is None:
            found = self._take(taken, own, calls)
            for _ in range(_MOST_CROWDED - 1):
                if found is not None:
                    break
                shard = 1 + int(self._chance() * self._count(taken.limits))
                found = self._take(taken._replace(shard=shard), own, calls)
            if found is None:
                raise AwsError("dynamodb:UpdateItem", NO_ANSWER, "the items did not come to rest")
            if isinstance(found, Reservation):
                return found
            dry = found
        for shard in self._others(dry):
            request = taking_of_shard(taken.limits, dry.windows, own)
            applied, item = self._counters.update(shard_limits(taken.limits, shard), request, calls)
            if applied:
                return _done(taken, shard, dry.windows, item or {})
            dry = dry._replace(shards=dry.shards | {shard})
        self._remember(dry)
        return _refused(taken, dry)

    def _take(self, taken: Reservation, own: Own, calls: Calls) -> Reservation | Dry | None:
        """Take of one shard. None: others were faster each time."""
        limits, windows, in_shard = taken.limits, taken.windows, shard_limits(taken.limits, taken.shard)
        for _ in range(_MOST_TRIES):
            applied, item = self._counters.update(in_shard, taking_of_shard(limits, windows, own), calls)
            if applied:
                return _done(taken, taken.shard, windows, item or {})
            item = self._counters.item(in_shard, calls) if item is None else item
            windows = no_older_than(Windows.of(self._clock()), item)
            found, windows = self._drawn(taken._replace(windows=windows), item, own, calls)
            if isinstance(found, Dry):
                return found
            if found:
                return _done(taken, taken.shard, windows, found)
        return None

    def _drawn(self, taken: Reservation, item: Item, own: Own, calls: Calls) -> tuple[Item | Dry | None, Windows]:
        """Draw what the shard `item` lacks of what `own` needs, and take that of it; the windows of the counter, too.

        Returns the shard after that, None where it was not as thought, or the counter that has not got so much.
        """
        limits, shard, windows = taken.limits, taken.shard, taken.windows
        counter = self._counters.item(limits, calls)
        for _ in range(_MOST_TRIES):
            windows = no_older_than(windows, counter)
            if stale := renewal(limits, counter, windows):
                self._counters.update(limits, stale, calls)
                counter = self._counters.item(limits, calls)
                continue
            part = part_of(counter, shard, windows)
            room = left_in(item, windows).plus(part).minus(drawn_by(item, windows))
            lack = own.need.minus(room)
            if not NOTHING.covers(lack):
                amounts = to_draw(limits, counter, lack, self._count(limits))
                if amounts is None:
                    return self._dry_counter(taken._replace(windows=windows), own.need, counter), windows
                request = drawing(limits, windows, shard, counter, amounts)
                applied, after = self._counters.update(limits, request, calls)
                counter = self._counters.item(limits, calls) if after is None else after
                if not applied:
                    continue
                part = part_of(counter, shard, windows)
            request = crediting(windows, item, part, counter, own)
            applied, after = self._counters.update(shard_limits(limits, shard), request, calls)
            return (after if applied else None), windows
        raise AwsError("dynamodb:UpdateItem", NO_ANSWER, "the counter did not come to rest")

    def take_both(
        self, taken: Reservation, calls: Calls, of_counter: Callable[[Reservation, Calls], Reservation]
    ) -> Reservation:
        """Take the shares of a key and its team, of which one or both are in shards. `of_counter` takes of the other.

        Raises as `take`. A transaction holds both items for longer than a write, and DynamoDB refuses every other write
        of them meanwhile: a shard would bear some 15 requests a second. So they are taken one after the other, and what
        was taken of a shard goes back where the other has no room.
        """
        done: list[Reservation] = []
        for part in sorted(taken.parts, key=lambda each: not each.shard):
            alone = part._replace(team=None)
            got = self.take(alone, calls) if part.shard else of_counter(alone, calls)
            if got.refused:
                for each in done:
                    self._take_back(each, calls)
                parts = {each.limits.team: each._replace(share=None, refused=got.refused) for each in taken.parts}
                return _joined(parts | {got.limits.team: got})
            done.append(got)
        return _joined({each.limits.team: each for each in done})

    def _take_back(self, taken: Reservation, calls: Calls) -> None:
        assert taken.share
        request = taking_back(taken.windows, Own.of(taken.limits, taken.share))
        with suppress(AwsError):  # then it stays counted until the minute is over
            self._counters.update_once(shard_limits(taken.limits, taken.shard), request, calls)

    def give_back(self, taken: Reservation, usage: Usage, calls: Calls) -> None:
        """Count the tokens that a request has used in the place of those that were thought of. Raises AwsError."""
        limits, share, windows = taken.limits, taken.share, taken.windows
        if limits.tpm is None or share is None or taken.refused or not taken.is_checked or usage.source in UNKNOWN:
            return
        unused = share.tokens - min(usage.input_tokens + usage.output_tokens, MOST_TOKENS)
        if unused and int(self._clock()) // 60 <= windows.minute:
            self._counters.update_once(shard_limits(limits, taken.shard), giving_back(windows, unused), calls)

    def _dry_counter(self, taken: Reservation, need: Amounts, counter: Item) -> Dry:
        limits, windows = taken.limits, taken.windows
        until = self._clock() + _A_MOMENT if limits.tpm else windows.now + windows.to_next_minute
        return Dry(limits, need, counter, windows, until, frozenset({taken.shard}))

    def _known_dry(self, limits: Limits, need: Amounts) -> Dry | None:
        dry = self._dry.get(limits.id)
        return dry if dry and dry.holds(limits, need, self._clock()) else None

    def _remember(self, dry: Dry) -> None:
        if len(self._dry) >= _MOST_KNOWN:
            self._dry.clear()
        self._dry[dry.limits.id] = dry

    def _others(self, dry: Dry) -> list[int]:
        """Some shards of which it is not known that they have nothing left, by chance: those that have drawn, too."""
        known = {*range(1, self._count(dry.limits) + 1), *drawing_shards(dry.counter)}
        shards = sorted(known - dry.shards)
        chosen: list[int] = []
        while shards and len(chosen) < _OTHERS:
            chosen.append(shards.pop(int(self._chance() * len(shards))))
        return chosen


def _joined(parts: Mapping[str, Reservation]) -> Reservation:
    own, team = parts[""], next(each for name, each in parts.items() if name)
    return own._replace(team=team, headers=nearer([own.headers, team.headers]))


def _done(taken: Reservation, shard: int, windows: Windows, item: Item) -> Reservation:
    return taken._replace(shard=shard, windows=windows, headers=shard_headers(taken.limits, item, windows))


def _refused(taken: Reservation, dry: Dry) -> Reservation:
    limits, counter, windows = taken.limits, dry.counter, dry.windows
    source = source_of(limits, counter)
    assert taken.share
    full = reached(limits, source, counter, windows, taken.share)
    told = headers(limits, counter, windows)
    error = limit_error(limits, source, windows.to_next_minute, told, full)
    return taken._replace(share=None, refused=error)
