"""A client key's limits and budgets: taken before a request goes out, given back when it is done.

DynamoDB is the only state, so limits hold at any number of sandboxes. Its one rule: no check without taking. What one
update checks it takes; what it could not take was not free. Requests of keys without limits never come here.

Only an outage (no answer, throttling, 5xx) follows the failure policy. A request that DynamoDB refuses as such is a
fault of the proxy or of its set-up: then nobody is let through.
"""

import random
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from openai_proxy.dynamodb import Item
from openai_proxy.key_limits import Limits
from openai_proxy.limits import MINUTE, Windows, lease_of
from openai_proxy.usage import Usage

from proxy.aws.client import NO_ANSWER, Aws, AwsError
from proxy.errors import LimitError, ProxyError, UnavailableError
from proxy.limits.item import (
    Share,
    Source,
    headers,
    key_of,
    left_of_budgets,
    number_of,
    own_lease,
    refusal,
    renewal,
    taking,
)
from proxy.limits.price_hints import PriceHints
from proxy.limits.reservation import CAREFUL, LEASE_SECONDS, Held, Reservation, giving_back, share_of
from proxy.log import log
from proxy.request.body import RequestBody
from proxy.request.routing import Candidate

if TYPE_CHECKING:  # loaded only for a request that is given something back
    from proxy.limits.renewal import Renewals

_Answer = TypeVar("_Answer")

FailurePolicy = Literal["open", "closed"]
"""What happens while the table cannot be asked: requests pass and their events say `unchecked`, or they are refused."""

UNCHECKED = "Limits cannot be checked"
REFUSED = "The limits table refuses what the proxy asks"
NOT_RETURNED = "A share of limits was not given back"

_PAUSES = (0.01, 0.03, 0.08, 0.2)
_MOST_TRIES = 12
"""Each try fails only when another request has changed the item in between, in a way that matters."""
_TIMEOUTS_OF_TAKE = 2
_TIMEOUTS_OF_RELEASE = 4
"""Calls without an answer that there is time for. Nobody waits for a release but the next request."""
_DAMAGES = (KeyError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What an item of another form than the proxy writes comes to."""
_REMEDY = "Compare table and role with the template; `keys release KEY_ID` sets the key's counters right."
_SHORTEST_CALL = 0.02
"""Seconds."""
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
        aws: Aws,
        table: str,
        on_failure: FailurePolicy,
        clock: Callable[[], float] = time.time,
        timeout: float = 1.0,
        sleep: Callable[[float], None] = time.sleep,
        renewals: "Callable[[], Renewals] | None" = None,
    ) -> None:
        self._aws = aws
        self._table = table
        self._on_failure: FailurePolicy = on_failure
        self._clock = clock
        self._timeout = timeout
        self._sleep = sleep
        self._hints = PriceHints(aws, table, clock, timeout)
        self._marks: dict[str, str] = {}
        self._renewals = renewals

    def take(
        self, limits: Limits, inference_id: str, body: RequestBody, candidates: Sequence[Candidate], deadline: float
    ) -> Reservation:
        """Take a request's share. Never raises: what it returns says whether the request is `refused`, and why."""
        prices = self._hints.of(candidates[0], body.model or "") if limits.has_budget else CAREFUL
        now = self._clock()
        last = _own_deadline(candidates, now, deadline) + _LEASE_MARGIN if limits.are_given_back else now + _MARK_KEPT
        end = min(last, now + LEASE_SECONDS) if self._renewals else last
        share = share_of(limits, body, prices, lease_of(inference_id), int(end))
        taken = Reservation(limits, Windows.of(now, limits.calendar), share, {}, prices)
        calls = _Calls(self._timeout, _TIMEOUTS_OF_TAKE, deadline)
        try:
            taken = self._take(taken, share, calls)
        except (AwsError, *_DAMAGES) as error:
            unchecked = taken._replace(share=share if calls.in_doubt else None, is_checked=False)
            return unchecked._replace(refused=self._judged(error, limits))
        if self._renewals and limits.are_given_back and not taken.refused:
            self._renewals().begin(limits, share.lease, share.lease_end, int(last))
        return taken

    def release(self, taken: Reservation, usage: Usage, until: float) -> Reservation:
        """Give back what a request has taken, and correct what it has cost; `until` is in Unix seconds.

        Never raises. What it returns says what is still to be given back, so that `settle_limits` does.
        """
        share = taken.share
        if share is None or not taken.limits.are_given_back:
            return taken
        calls = _Calls(self._timeout, _TIMEOUTS_OF_RELEASE, until)
        if self._renewals:
            share = share._replace(lease_end=max(share.lease_end, self._renewals().stop(share.lease)))
        try:
            return self._release(taken, share, usage, calls)
        except (AwsError, *_DAMAGES) as error:
            log("WARN", NOT_RETURNED, limits=taken.limits.id, reason=str(error))
            return taken.ended(usage)._replace(lease="doubtful" if calls.in_doubt else "held")

    def _take(self, taken: Reservation, share: Share, calls: "_Calls") -> Reservation:
        limits, windows = taken.limits, taken.windows
        for _ in range(_MOST_TRIES):
            forgotten = self._marks.get(limits.id, "")
            applied, item = self._update(limits, taking(limits, windows, share, forgotten), calls)
            item = self._item(limits, calls) if item is None else item
            if lease := own_lease(limits, item, share):
                self._remember(limits, share)
                known = taken._replace(share=share, windows=windows, headers=headers(limits, item, windows, share.cost))
                return known.as_found(share, lease)
            if applied:
                calls.in_doubt = True
                raise AwsError("dynamodb:UpdateItem", NO_ANSWER, "without what was written")
            windows = _no_older_than(Windows.of(self._clock(), limits.calendar), item)
            if stale := renewal(limits, item, windows):
                self._update(limits, stale, calls)
            elif refused := refusal(limits, item, windows, share.tokens):
                error = _limit_error(*refused, headers(limits, item, windows))
                return taken._replace(share=share if calls.in_doubt else None, refused=error)
            elif (left := left_of_budgets(limits, item)) is not None:
                share = share._replace(cost=min(left, share.cost))
        raise AwsError("dynamodb:UpdateItem", NO_ANSWER, "the item did not come to rest")

    def _release(self, taken: Reservation, share: Share, usage: Usage, calls: "_Calls") -> Reservation:
        limits, windows = taken.limits, taken.windows
        held = Held(int(self._clock()) // 60 <= windows.minute, windows.periods)
        is_sure = taken.is_checked and not taken.refused
        if not is_sure and own_lease(limits, self._item(limits, calls), share) is None:
            return taken.ended(usage)  # what arrives later is found by settle_limits
        for _ in range(_MOST_TRIES):
            ended = taken.ended(usage)
            applied, item = self._update(limits, giving_back(ended, ended.share or share, usage, held), calls)
            lease = own_lease(limits, item or {}, share)
            if applied or lease is None:
                # It is gone by a call of before whose answer was lost; but after its end anybody may have removed it.
                is_ours = applied or self._clock() <= share.lease_end
                return ended._replace(lease="returned" if is_ours else "held")
            taken = taken.as_found(share, lease)
            held = Held.of(item or {}, taken.windows)
        raise AwsError("dynamodb:UpdateItem", NO_ANSWER, "the item did not come to rest")

    def _judged(self, error: Exception, limits: Limits) -> ProxyError | None:
        """Why a request that could not be checked must not go on; None where the owner lets it."""
        if isinstance(error, AwsError) and error.is_transient:
            log("ERROR", UNCHECKED, limits=limits.id, reason=str(error), policy=self._on_failure)
            if self._on_failure == "open":
                return None
        else:
            log("ERROR", REFUSED, limits=limits.id, reason=repr(error), remedy=_REMEDY)
        message = "The limits of the client key cannot be checked at the moment."
        return UnavailableError(503, "limits_unavailable", message, headers={"retry-after": "5"})

    def _remember(self, limits: Limits, share: Share) -> None:
        """The mark of a request that is given nothing back goes with the next take of the same key."""
        if not limits.are_given_back:
            if len(self._marks) >= _MOST_MARKS:
                self._marks.clear()
            self._marks[limits.id] = share.lease

    def _update(self, limits: Limits, request: dict[str, Any], calls: "_Calls") -> tuple[bool, Item | None]:
        """Whether the update's condition held, and the item. A settlement that holds the item does so for a moment."""
        arguments = {"TableName": self._table, "Key": key_of(limits), **request}

        def update() -> tuple[bool, Item | None]:
            try:
                return self._aws.update_item(arguments, calls.timeout)
            except AwsError as error:
                calls.in_doubt |= error.may_be_done
                raise

        return self._repeated(update)

    def _item(self, limits: Limits, calls: "_Calls") -> Item:
        arguments = {"TableName": self._table, "Key": key_of(limits), "ConsistentRead": True}
        return self._repeated(lambda: self._aws.get_item(arguments, calls.timeout))

    def _repeated(self, call: Callable[[], _Answer]) -> _Answer:
        """A call, once more after each outage, for a moment: its condition makes sure that it counts once."""
        for pause in _PAUSES:
            try:
                return call()
            except AwsError as error:
                if not error.is_transient:
                    raise
            self._sleep(pause * (0.5 + random.random()))  # noqa: S311 - spreads retries, guards nothing
        return call()


class _Calls:
    """The calls for one take, or one release: how long they may go on, and whether one may have been lost."""

    def __init__(self, timeout: float, most_timeouts: int, until: float) -> None:
        self._timeout = timeout
        self._until = min(until, time.time() + most_timeouts * timeout)
        self.in_doubt = False
        """Whether an update was perhaps applied that nobody has confirmed."""

    @property
    def timeout(self) -> float:
        """Seconds for the next call. Raises AwsError when there is no time left."""
        if (left := self._until - time.time()) < _SHORTEST_CALL:
            raise AwsError("dynamodb:UpdateItem", NO_ANSWER, "no time is left")
        return min(self._timeout, left)


def _own_deadline(candidates: Sequence[Candidate], now: float, deadline: float) -> float:
    """When a request is over, at the latest: all of its servers may bound their calls."""
    longest = now
    for server in (candidate.server for candidate in candidates):
        if server.timeouts.total is None:
            return deadline
        longest += (1 + server.retries) * (server.timeouts.total + _PAUSE_MARGIN)
    return min(deadline, longest)


def _no_older_than(windows: Windows, item: Item) -> Windows:
    """The windows of the item where its clock is ahead of this sandbox's by a moment: one minute is one minute."""
    minute = int(number_of(item, MINUTE))
    return Windows.of(minute * 60, windows.calendar) if minute > windows.minute else windows


def _limit_error(source: Source, seconds: int | None, own_headers: dict[str, str]) -> LimitError:
    if source == "key_budget":
        message = "The budget of this client key is used up."
        quota = {"x-should-retry": "false"}
        return LimitError(429, "insufficient_quota", message, source, seconds, own_headers | quota)
    if source == "key_budget_reserved":
        message = f"The rest of this client key's budget is reserved by requests that run. Try again in {seconds} s."
        again = {"x-should-retry": "true"}
        return LimitError(429, "budget_reserved", message, source, seconds, own_headers | again)
    what = {"key_rpm": "requests a minute", "key_tpm": "tokens a minute", "key_parallel": "requests at the same time"}
    message = f"This client key has reached its limit of {what[source]}. Try again in {seconds} s."
    return LimitError(429, "rate_limit_exceeded", message, source, seconds, own_headers)
