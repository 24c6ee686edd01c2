"""Takes for a key whose limits are counted in shards. Loaded only for such a key.

A request takes from the shard that its sandbox has chosen at random, and goes to the key's counter only when the shard
has no room: the shard then draws some more. Its one rule: a shard lets nothing through that it has not drawn, so all
shards together never exceed the limit, whatever number of shards each sandbox assumes.

If the answer to a take is lost, the take is repeated and counts twice: a lease for each request would make a shard grow
with the running requests. Giving back is not repeated. Both errors let fewer requests through, never more. A place
becomes free when the lease of its request would have ended, and unsettled money when it is too old to be settled.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from openai_proxy.dynamodb import Item
from openai_proxy.key_limits import Limits
from openai_proxy.limits import REQUESTS, TOKENS, Windows
from openai_proxy.shards.limits import PLACES, place_in
from openai_proxy.usage import MOST_TOKENS, UNKNOWN, Usage

from proxy.aws.client import NO_ANSWER, AwsError
from proxy.limits.counters import PAUSES, Calls, Counters
from proxy.limits.draws import Dry, as_told, done, drawn, gather, room_for, taking_of
from proxy.limits.item import Source, headers, no_older_than, refusal
from proxy.limits.meters import LEAST_COST
from proxy.limits.refused import limit_error, reached
from proxy.limits.reservation import Reservation
from proxy.limits.shard_item import drawing_shards, shard_limits, taking_of_shard
from proxy.limits.shard_returns import giving_back, sweeping, taking_back
from proxy.limits.together import nearer

_MOST_TRIES = 12
"""Each try fails only when another request has changed an item in between, in a way that matters."""
_MOST_CROWDED = 4
"""Shards that a request draws for, one after another, where others were faster each time."""
_OTHERS = 3
"""Shards that are asked beside a sandbox's own before a request is refused."""
_MOST_KNOWN = 256
_A_MOMENT = 1.0
"""Seconds for which a counter is thought to have nothing left of what requests give back."""
_RETRY_SECONDS = 1
"""After which a request for one of several parallel places may try again."""


class Known(NamedTuple):
    """A counter, and these shards, had nothing left for a request of so many tokens; that holds until `until`
    (Unix).
    """

    dry: Dry
    limits: Limits
    tokens: int
    until: float
    shards: frozenset[int]

    def holds(self, limits: Limits, tokens: int, now: float) -> bool:
        """Whether that holds for another request."""
        return now < self.until and limits == self.limits and (limits.tpm is None or tokens >= self.tokens)


class Shards:
    """The shards of all counters. `count` gives the number of shards of a key with such limits; `chance` gives numbers
    from 0 up to 1.
    """

    def __init__(
        self,
        counters: Counters,
        clock: Callable[[], float],
        count: Callable[[Limits], int],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._counters = counters
        self._once = counters.without_repetition()
        self._clock = clock
        self._count = count
        self._chance = chance
        self._place: float | None = None
        self._dry: dict[str, Known] = {}

    def own(self, limits: Limits) -> int:
        """The shard that this sandbox takes from. It is chosen at the first request, so that each copy of a snapshot
        chooses its own.
        """
        if self._place is None:
            self._place = self._chance()
        return 1 + int(self._place * self._count(limits))

    def take(self, taken: Reservation, calls: Calls) -> Reservation:
        """Take a request's share, or say why not. Raises AwsError, and the errors of reading a damaged item."""
        assert taken.share
        if taken.limits.has_budget:
            taken = taken._replace(share=taken.share._replace(cost=max(taken.share.cost, LEAST_COST)))
        known = self._known_dry(taken)
        if known is None:
            found = self._take_of_any(taken, calls)
            if isinstance(found, Reservation):
                return found
            found = self._elsewhere(taken, found, calls)
            if isinstance(found, Reservation):
                return found
            known = self._known(taken, found)
        elif known.dry.short.lasts and (found := self._try(taken, known.dry.windows, calls)):
            return found  # a request that has ended frees its place
        for shard in self._others(known):
            if found := self._try(taken._replace(shard=shard), known.dry.windows, calls):
                return found
            known = known._replace(shards=known.shards | {shard})
        self._remember(known)
        return _refused(taken, known.dry)

    def _elsewhere(self, taken: Reservation, dry: Dry, calls: Calls) -> Reservation | Dry:
        """Take from another shard that has room, or from the own one after others have returned something; or say why
        nothing is left.
        """
        for shard in self._some([each for each in room_for(dry) if each != taken.shard]):
            found = self._take(taken._replace(shard=shard), calls)
            if isinstance(found, Reservation):
                return found
            dry = found or dry
        if gather(dry, taking_of(taken), self._counters, calls):
            return self._take(taken, calls) or dry
        return dry

    def _take_of_any(self, taken: Reservation, calls: Calls) -> Reservation | Dry:
        """Take from the sandbox's own shard; if others are faster there each time, from one chosen at random."""
        found = self._take(taken, calls)
        for _ in range(_MOST_CROWDED - 1):
            if found is not None:
                break
            shard = 1 + int(self._chance() * self._count(taken.limits))
            found = self._take(taken._replace(shard=shard), calls)
        if found is None:
            raise AwsError("dynamodb:UpdateItem", NO_ANSWER, "others changed the items each time")
        return found

    def _take(self, taken: Reservation, calls: Calls) -> Reservation | Dry | None:
        """Take from one shard. Returns None if others were faster each time."""
        limits, in_shard = taken.limits, shard_limits(taken.limits, taken.shard)
        pauses = list(PAUSES)
        for _ in range(_MOST_TRIES):
            applied, item = self._counters.update(in_shard, taking_of_shard(taking_of(taken)), calls)
            if applied:
                return self._done(taken, item or {}, calls)
            item = self._counters.item(in_shard, calls) if item is None else item
            windows = Windows.of(self._clock(), limits.calendar)
            taken = taken._replace(windows=no_older_than(windows, item))
            if swept := sweeping(item, windows.now):
                self._counters.update(in_shard, swept, calls)
                continue
            try:
                found = drawn(taken, item, self._count(limits), self._once, calls)
            except AwsError as error:
                if not (error.is_transient and pauses):
                    raise
                self._counters.pause(pauses.pop(0))  # many draw at once; others may have drawn for this shard meanwhile
                continue
            if found:
                return found
        return None

    def _try(self, taken: Reservation, windows: Windows, calls: Calls) -> Reservation | None:
        """Take from what a shard has left, if that is enough."""
        taken = taken._replace(windows=windows)
        request = taking_of_shard(taking_of(taken))
        applied, item = self._counters.update(shard_limits(taken.limits, taken.shard), request, calls)
        return self._done(taken, item or {}, calls) if applied else None

    def _done(self, taken: Reservation, item: Item, calls: Calls) -> Reservation:
        """The reservation after a take. Places whose leases have ended are freed too, so that a shard stays small."""
        if swept := sweeping(item, taken.windows.now) if taken.limits.parallel else None:
            with suppress(AwsError):  # the next request frees them
                self._counters.update_once(shard_limits(taken.limits, taken.shard), swept, calls)
        return done(taken, item)

    def take_both(
        self, taken: Reservation, calls: Calls, of_counter: Callable[[Reservation, Calls], Reservation]
    ) -> Reservation:
        """Take the shares of a key and its team, of which one or both have shards. `of_counter` takes from one without.

        Raises as `take`. A transaction holds both items for longer than a write, and DynamoDB refuses every other write
        of them meanwhile: a shard would bear some 20 requests a second. So they are taken one after the other, and what
        was taken of a shard goes back where the other has no room, or does not answer.
        """
        done: list[Reservation] = []
        for part in sorted(taken.parts, key=lambda each: not each.shard):
            alone = part._replace(team=None)
            try:
                got = self.take(alone, calls) if part.shard else of_counter(alone, calls)
            except AwsError:
                self._take_back(done, calls)
                raise
            if got.refused:
                self._take_back(done, calls)
                parts = {each.limits.team: each._replace(share=None, refused=got.refused) for each in taken.parts}
                return _joined(parts | {got.limits.team: got})
            done.append(got)
        return _joined({each.limits.team: each for each in done})

    def _take_back(self, every: Sequence[Reservation], calls: Calls) -> None:
        for each in every:
            with suppress(AwsError):  # then the take stays counted until its window is over
                self._counters.update_once(shard_limits(each.limits, each.shard), taking_back(taking_of(each)), calls)

    def give_back(self, taken: Reservation, usage: Usage, end: int | None, calls: Calls) -> None:
        """Free the place of a request, and replace its expected tokens by those that it has used.

        `end` is when its lease ends; None if that is not known: then its place becomes free when the lease ends. Raises
        AwsError.
        """
        limits, share, windows = taken.limits, taken.share, taken.windows
        if share is None or taken.refused or not taken.is_checked:
            return
        unused = 0
        if limits.tpm is not None and usage.source not in UNKNOWN and int(self._clock()) // 60 <= windows.minute:
            unused = share.tokens - min(usage.input_tokens + usage.output_tokens, MOST_TOKENS)
        place = place_in(end) if limits.parallel is not None and end is not None else ""
        in_shard = shard_limits(limits, taken.shard)
        for tokens in dict.fromkeys((unused, 0)):  # the minute of the shard may have ended already
            if not (tokens or place) or self._counters.update_once(
                in_shard, giving_back(windows, tokens, place), calls
            ):
                return

    def _known(self, taken: Reservation, dry: Dry) -> Known:
        limits, windows, share = taken.limits, dry.windows, taken.share
        assert share
        is_until_next = dry.short.name == REQUESTS and limits.tpm is None
        until = windows.now + windows.to_next_minute if is_until_next else self._clock() + _A_MOMENT
        return Known(dry, limits, share.tokens, until, frozenset({taken.shard}))

    def _known_dry(self, taken: Reservation) -> Known | None:
        known = self._dry.get(taken.limits.id)
        assert taken.share
        return known if known and known.holds(taken.limits, taken.share.tokens, self._clock()) else None

    def _remember(self, known: Known) -> None:
        if len(self._dry) >= _MOST_KNOWN:
            self._dry.clear()
        self._dry[known.limits.id] = known

    def _others(self, known: Known) -> list[int]:
        """Some shards, chosen at random, that are not known to be empty. Shards that have drawn before count too."""
        if known.dry.whole:
            return []  # all have been read
        every = {*range(1, self._count(known.limits) + 1), *drawing_shards(known.dry.counter)}
        return self._some(sorted(every - known.shards))

    def _some(self, shards: Sequence[int]) -> list[int]:
        left, chosen = list(shards), list[int]()
        while left and len(chosen) < _OTHERS:
            chosen.append(left.pop(int(self._chance() * len(left))))
        return chosen


def _joined(parts: Mapping[str, Reservation]) -> Reservation:
    own, team = parts[""], next(each for name, each in parts.items() if name)
    return own._replace(team=team, headers=nearer([own.headers, team.headers]))


def _refused(taken: Reservation, dry: Dry) -> Reservation:
    limits, windows, counter = taken.limits, dry.windows, as_told(dry, taken.limits)
    assert taken.share
    source, seconds = _why(limits, dry, counter)
    full = reached(limits, source, counter, windows, taken.share)
    error = limit_error(limits, source, seconds, headers(limits, counter, windows), full)
    return taken._replace(share=None, refused=error)


def _why(limits: Limits, dry: Dry, counter: Item) -> tuple[Source, int | None]:
    """Which limit has no room, and in how many seconds it may have."""
    windows = dry.windows
    if dry.short.is_money:
        of_money = refusal(limits._replace(rpm=None, tpm=None, parallel=None), counter, windows, 0)
        return of_money or ("key_budget_reserved", _RETRY_SECONDS)
    if dry.short.name == PLACES:
        return "key_parallel", _RETRY_SECONDS
    return ("key_tpm" if dry.short.name == TOKENS else "key_rpm"), windows.to_next_minute
