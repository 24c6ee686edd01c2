"""A client key's limits and budgets: taken before a request goes out, given back when it is done.

DynamoDB is the only state, so limits hold at any number of sandboxes. Its one rule: it never checks without taking. One
update checks a limit and takes from it; if it could not take, there was no room. Requests of keys without limits never
come here.

Only an outage (no answer, throttling, 5xx) follows the failure policy. If DynamoDB rejects the request itself, that is
a fault of the proxy or of its set-up, and nobody is let through.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from openai_proxy.dynamodb import Item
from openai_proxy.key_limits import Limits
from openai_proxy.limits import Windows, lease_of
from openai_proxy.usage import Usage

from proxy.aws.client import NO_ANSWER, AwsError
from proxy.errors import ProxyError, UnavailableError
from proxy.limits.counters import PAUSES, Calls, Counters, TableAccess
from proxy.limits.item import (
    Share,
    dividing,
    headers,
    is_busy,
    left_of_budgets,
    no_older_than,
    own_lease,
    refusal,
    renewal,
    shards_of,
    taking,
)
from proxy.limits.price_hints import PriceHints
from proxy.limits.reservation import CAREFUL, LEASE_SECONDS, Held, Reservation, giving_back, share_of
from proxy.log import log
from proxy.request.body import RequestBody
from proxy.request.routing import Candidate

if TYPE_CHECKING:  # loaded only for a request that is given something back, and for a key with very large limits
    from proxy.limits.renewal import Renewals
    from proxy.limits.shards import Shards

FailurePolicy = Literal["open", "closed"]
"""What happens while the table cannot be asked: requests pass and their events say `unchecked`, or they are refused."""

UNCHECKED = "Limits cannot be checked"
REFUSED = "The limits table refuses what the proxy asks"
NOT_RETURNED = "A share of limits was not given back"

_MOST_TRIES = 12
"""Each try fails only when another request has changed the item in between, in a way that matters."""
_TIMEOUTS_OF_TAKE = 2
_TIMEOUTS_OF_RELEASE = 4
"""Calls without an answer that there is time for. Nobody waits for a release but the next request."""
_DAMAGES = (KeyError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What an item of another form than the proxy writes comes to."""
_REMEDY = "Compare table and role with the template; `keys release KEY_ID` sets the key's counters right."
_MOST_MARKS = 256
_LEASE_MARGIN = 10
"""Seconds after a request's own deadline: its lease is given back before, or its sandbox is gone."""
_PAUSE_MARGIN = 6
"""Seconds between two calls of a server at most."""
_MARK_KEPT = 60
"""Seconds for which it is remembered that a request was counted that is given nothing back."""


class LimitsTable:
    """Takes and releases."""

    def __init__(
        self,
        table: TableAccess,
        on_failure: FailurePolicy,
        renewals: "Callable[[], Renewals] | None" = None,
        shards: Callable[[Limits], int] = lambda limits: limits.shards,
    ) -> None:
        self._counters = Counters(table.aws, table.name, table.sleep)
        self._once = self._counters.without_repetition()
        self._on_failure: FailurePolicy = on_failure
        self._clock = table.clock
        self._timeout = table.timeout
        self._hints = PriceHints(table.aws, table.name, table.clock, table.timeout)
        self._marks: dict[str, str] = {}
        self._renewals = renewals
        self._shards_of = shards
        self._of_shards: Shards | None = None
        self._divided: dict[str, int] = {}

    def take(
        self, limits: Limits, inference_id: str, body: RequestBody, candidates: Sequence[Candidate], deadline: float
    ) -> Reservation:
        """Take a request's share. Never raises: the reservation says whether the request is `refused`, and why."""
        every = (limits, limits.shared) if limits.shared else (limits,)
        has_budget = any(each.has_budget for each in every)
        prices = self._hints.of(candidates[0], body.model or "") if has_budget else CAREFUL
        now = self._clock()
        lasts = [self._last_end(each, candidates, now, deadline) for each in every]
        parts: list[Reservation] = []
        for each, last in zip(every, lasts, strict=True):
            end = min(last, now + LEASE_SECONDS) if self._renewals else last
            share = share_of(each, body, prices, lease_of(inference_id), int(end))
            parts.append(self._placed(Reservation(each, Windows.of(now, each.calendar), share, {}, prices)))
        taken = parts[0]._replace(team=parts[1]) if limits.shared else parts[0]
        calls = Calls(self._timeout, _TIMEOUTS_OF_TAKE, deadline)
        try:
            taken = self._take_all(taken, calls)
        except (AwsError, *_DAMAGES) as error:
            return taken.unchecked(self._judged(error, limits), is_in_doubt=calls.in_doubt)
        if self._renewals and not taken.refused:
            for each, last in zip(taken.parts, lasts, strict=True):
                is_kept = each.limits.parallel is not None if each.shard else each.limits.are_given_back
                if each.share and is_kept:
                    self._renewals().begin(each.limits, each.share.lease, each.share.lease_end, int(last), each.shard)
        return taken

    def _last_end(self, limits: Limits, candidates: Sequence[Candidate], now: float, deadline: float) -> float:
        """When a lease is over, at the latest."""
        return _own_deadline(candidates, now, deadline) + _LEASE_MARGIN if limits.are_given_back else now + _MARK_KEPT

    def _take_all(self, taken: Reservation, calls: Calls) -> Reservation:
        if taken.team is None:
            return self._shards.take(taken, calls) if taken.shard else self._take(taken, calls)
        if any(each.shard for each in taken.parts):
            return self._shards.take_both(taken, calls, self._take)
        from proxy.limits.together import are_apart, take_together  # noqa: PLC0415  # few keys have a team with limits

        together = take_together(taken, self._counters, self._clock, calls, self._marks)
        if together is None:
            items = self._counters.items([each.limits for each in taken.parts], calls)
            is_contended = not are_apart(taken.parts, items)
            for part, item in zip(taken.parts, items, strict=True):
                self._divide(part.limits, item, calls, is_contended=is_contended and part.limits.team != "")
            own, team = (self._placed(each) for each in taken.parts)
            return self._shards.take_both(own._replace(team=team), calls, self._take)
        taken = together
        for each in taken.parts if not taken.refused else ():
            self._remember(each)
        return taken

    def release(self, taken: Reservation, usage: Usage, until: float) -> Reservation:
        """Give back what a request has taken, and correct what it has cost; `until` is in Unix seconds.

        Never raises. The result says what is still to be given back, which `settle_limits` then does.
        """
        share = taken.share or (taken.team.share if taken.team else None)
        is_renewed = self._renewals and share and any(each.limits.are_given_back for each in taken.parts)
        ends = self._renewals().stop(share.lease) if self._renewals and is_renewed and share else {}
        released = [self._released(each, usage, until, ends) for each in taken.parts]
        return released[0]._replace(team=released[1]) if taken.team else released[0]

    def _released(self, taken: Reservation, usage: Usage, until: float, ends: Mapping[str, int | None]) -> Reservation:
        """Give back one counter's part. `ends` are the ends of renewed leases; None if they are not known."""
        share = taken.share
        if share is None or not taken.limits.are_given_back:
            return taken
        calls = Calls(self._timeout, _TIMEOUTS_OF_RELEASE, until)
        end = ends.get(taken.limits.id, share.lease_end)
        try:
            if taken.shard:
                self._shards.give_back(taken, usage, end, calls)
                return taken._replace(lease="returned")
            share = share._replace(lease_end=max(share.lease_end, end or share.lease_end))
            return self._release(taken, share, usage, calls)
        except (AwsError, *_DAMAGES) as error:
            log("WARN", NOT_RETURNED, limits=taken.limits.id, reason=str(error))
            if taken.shard:
                return taken
            return taken.ended(usage)._replace(lease="doubtful" if calls.in_doubt else "held")

    def _take(self, taken: Reservation, calls: Calls) -> Reservation:
        limits, windows, share = taken.limits, taken.windows, taken.share
        assert share
        pauses = list(PAUSES)
        for _ in range(_MOST_TRIES):
            request = taking(limits, windows, share, self._marks.get(limits.id, ""))
            try:
                applied, item = self._once.update(limits, request, calls)
            except AwsError as error:
                if not (error.is_transient and pauses):
                    raise
                self._counters.pause(pauses.pop(0))
                if error.may_be_done:
                    continue
                applied, item = False, None  # it may be divided, which a read tells even where a write is too much
            item = self._counters.item(limits, calls) if item is None else item
            self._divide(limits, item, calls)
            if lease := own_lease(limits, item, share):
                self._remember(taken)
                known = taken._replace(share=share, windows=windows, headers=headers(limits, item, windows, share.cost))
                return known.as_found(share, lease)
            if applied:
                calls.in_doubt = True
                raise AwsError("dynamodb:UpdateItem", NO_ANSWER, "an answer without what was written")
            if shards_of(item) > 1:
                return self._shards.take(self._placed(taken), calls)
            windows = no_older_than(Windows.of(self._clock(), limits.calendar), item)
            if stale := renewal(limits, item, windows):
                self._counters.update(limits, stale, calls)
            elif refused := refusal(limits, item, windows, share.tokens):
                from proxy.limits.refused import limit_error, reached  # noqa: PLC0415  # most requests find room

                full = reached(limits, refused[0], item, windows, taken.share or share)
                error = limit_error(limits, *refused, headers(limits, item, windows), full)
                return taken._replace(share=share if calls.in_doubt else None, refused=error)
            elif (left := left_of_budgets(limits, item)) is not None:
                share = share._replace(cost=min(left, share.cost))
        raise AwsError("dynamodb:UpdateItem", NO_ANSWER, "others changed the item each time")

    def _release(self, taken: Reservation, share: Share, usage: Usage, calls: Calls) -> Reservation:
        limits, windows = taken.limits, taken.windows
        held = Held(int(self._clock()) // 60 <= windows.minute, windows.periods)
        is_sure = taken.is_checked and not taken.refused
        if not is_sure and own_lease(limits, self._counters.item(limits, calls), share) is None:
            return taken.ended(usage)  # what arrives later is found by settle_limits
        for _ in range(_MOST_TRIES):
            ended = taken.ended(usage)
            applied, item = self._counters.update(limits, giving_back(ended, ended.share or share, usage, held), calls)
            lease = own_lease(limits, item or {}, share)
            if applied or lease is None:
                # An earlier call whose answer was lost has removed the lease; but after its end anybody may have
                # removed it.
                is_ours = applied or self._clock() <= share.lease_end
                return ended._replace(lease="returned" if is_ours else "held")
            taken = taken.as_found(share, lease)
            held = Held.of(item or {}, taken.windows)
        raise AwsError("dynamodb:UpdateItem", NO_ANSWER, "others changed the item each time")

    def _placed(self, taken: Reservation) -> Reservation:
        """The same, with the shard to take from."""
        return taken._replace(shard=self._shards.own(taken.limits) if self._count(taken.limits) > 1 else 0)

    def _count(self, limits: Limits) -> int:
        """In how many shards the limits are counted, as far as is known."""
        return max(self._shards_of(limits), self._divided.get(limits.id, 1))

    def _divide(self, limits: Limits, item: Item, calls: Calls, *, is_contended: bool = False) -> None:
        """Divide a counter that has become so large that each write costs more, or for which transactions wait in vain,
        and remember what is divided.
        """
        shards = shards_of(item)
        if is_contended or is_busy(limits, item):
            change = dividing(limits.shards_if_busy)
            with suppress(AwsError):  # the next request divides it
                if is_contended:
                    is_done = self._counters.update(limits, change, calls)[0]
                else:
                    is_done = self._counters.update_once(limits, change, calls)
                shards = limits.shards_if_busy if is_done else shards
        if shards > 1 and limits.id not in self._divided:
            if len(self._divided) >= _MOST_MARKS:
                self._divided.clear()
            self._divided[limits.id] = shards

    @property
    def _shards(self) -> "Shards":
        if self._of_shards is None:
            from proxy.limits.shards import Shards  # noqa: PLC0415  # few keys have limits that large

            self._of_shards = Shards(self._counters, self._clock, self._count)
        return self._of_shards

    def _judged(self, error: Exception, limits: Limits) -> ProxyError | None:
        """Why a request that could not be checked must not go on; None if the owner's policy lets it."""
        if isinstance(error, AwsError) and error.is_transient:
            log("ERROR", UNCHECKED, limits=limits.id, reason=str(error), policy=self._on_failure)
            if self._on_failure == "open":
                return None
        else:
            log("ERROR", REFUSED, limits=limits.id, reason=repr(error), remedy=_REMEDY)
        message = "The limits of the client key cannot be checked at the moment."
        return UnavailableError(503, "limits_unavailable", message, headers={"retry-after": "5"})

    def _remember(self, taken: Reservation) -> None:
        """Remember the mark of a request that gives nothing back: the next take from the same counter removes it."""
        if taken.share and not taken.limits.are_given_back and not taken.shard:
            if len(self._marks) >= _MOST_MARKS:
                self._marks.clear()
            self._marks[taken.limits.id] = taken.share.lease


def _own_deadline(candidates: Sequence[Candidate], now: float, deadline: float) -> float:
    """When a request is over, at the latest: all of its servers may bound their calls."""
    longest = now
    for server in (candidate.server for candidate in candidates):
        if server.timeouts.total is None:
            return deadline
        longest += (1 + server.retries) * (server.timeouts.total + _PAUSE_MARGIN)
    return min(deadline, longest)
