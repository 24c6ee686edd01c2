"""A key's, or a user's, limits and those of its team, taken together. Loaded only for a key that has both.

Its one rule: one transaction takes both or neither, so no moment lies between them in which one has been taken and the
other has no room. Both counters are read first: the transaction itself does not say what they hold.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from openai_proxy.dynamodb import Item, to_attribute
from openai_proxy.limits import REQUESTS, TOKENS, Windows, cost_in
from openai_proxy.refusals import CONFLICT

from proxy.aws.client import NO_ANSWER, AwsError
from proxy.errors import LimitReached
from proxy.limits.counters import PAUSES, Calls, Counters
from proxy.limits.item import (
    Source,
    headers,
    is_busy,
    left_of_budgets,
    no_older_than,
    number_of,
    own_lease,
    refusal,
    renewal,
    running,
    shards_of,
    taking,
)
from proxy.limits.refused import limit_error, reached
from proxy.limits.reservation import Reservation

_MOST_TRIES = 12
"""Each try fails only when another request has changed an item in between, in a way that matters."""
_FEW = 10
"""Requests of a team that run: with more of them, that transactions meet is no chance."""
_MET_BY_MANY = 2
"""Pauses that are left when one that meets others waits no longer."""
_GROUPS = ("x-ratelimit-remaining-requests", "x-ratelimit-remaining-tokens", "x-budget-remaining-usd")


class _Refused(NamedTuple):
    """The part that has no room: which limit, and for how many seconds."""

    part: Reservation
    source: Source
    seconds: int | None
    reached: LimitReached


def take_together(
    taken: Reservation, counters: Counters, clock: Callable[[], float], calls: Calls, forgotten: Mapping[str, str]
) -> Reservation | None:
    """Take the shares of a reservation and of its team's, or say why not. `forgotten` are leases by counters.

    None: a counter is divided, or is to be, because so many requests hold one of the two that this one never met both
    free. Raises AwsError, and what a damaged item comes to.
    """
    parts, pauses, once = list(taken.parts), list(PAUSES), counters.without_repetition()
    items = counters.items([each.limits for each in parts], calls)
    for _ in range(_MOST_TRIES):
        parts = [_now(each, item, clock()) for each, item in zip(parts, items, strict=True)]
        found = [_found(each, item) for each, item in zip(parts, items, strict=True)]
        if own := [each for each in found if each]:
            if len(own) == len(parts):  # by a call whose answer was lost
                return _joined(own, items)
            raise AwsError("dynamodb:TransactWriteItems", NO_ANSWER, "one of two leases is gone")
        if are_apart(parts, items):
            return None
        if _are_renewed(parts, items, counters, calls):
            items = counters.items([each.limits for each in parts], calls)
            continue
        if refused := _refused(parts, items):
            return _refusing(parts, items, refused, calls)
        parts = [_no_more_than_left(each, item) for each, item in zip(parts, items, strict=True)]
        try:
            refusing = once.update_all([(each.limits, _taking(each, forgotten)) for each in parts], calls)
        except AwsError as error:
            if error.code == CONFLICT and not calls.in_doubt and len(pauses) <= _pauses_left(parts, items):
                return None
            if not (error.is_transient and pauses):
                raise
            counters.pause(pauses.pop(0))
            items = counters.items([each.limits for each in parts], calls)  # it may be divided meanwhile
            continue
        if refusing is None:
            after = [_after(each, item) for each, item in zip(parts, items, strict=True)]
            return _joined(parts, after)
        items = [item if other is None else other for item, other in zip(items, refusing, strict=True)]
    raise AwsError("dynamodb:TransactWriteItems", NO_ANSWER, "others changed the items each time")


def _pauses_left(parts: Sequence[Reservation], items: Sequence[Item]) -> int:
    """How many pauses are left when a team is divided: all are made before where few of its requests run."""
    return _MET_BY_MANY if running(parts[-1].limits, items[-1]) > _FEW else 0


def are_apart(parts: Sequence[Reservation], items: Sequence[Item]) -> bool:
    """Whether one of the two is divided, or so busy that it is to be."""
    return any(shards_of(item) > 1 or is_busy(each.limits, item) for each, item in zip(parts, items, strict=True))


def _now(part: Reservation, item: Item, now: float) -> Reservation:
    return part._replace(windows=no_older_than(Windows.of(now, part.limits.calendar), item))


def _found(part: Reservation, item: Item) -> Reservation | None:
    """The part as its lease says, if its take was applied."""
    lease = own_lease(part.limits, item, part.share) if part.share else None
    return part.as_found(part.share, lease) if part.share and lease else None


def _are_renewed(parts: Sequence[Reservation], items: Sequence[Item], counters: Counters, calls: Calls) -> bool:
    """Whether an item was stale, and has been brought up to date by this call or another's."""
    requests = [renewal(each.limits, item, each.windows) for each, item in zip(parts, items, strict=True)]
    for part, request in zip(parts, requests, strict=True):
        if request:
            counters.update(part.limits, request, calls)
    return any(requests)


def _refused(parts: Sequence[Reservation], items: Sequence[Item]) -> _Refused | None:
    """The part that has no room; if both have none, the one that has none for longer."""
    found: list[_Refused] = []
    for part, item in zip(parts, items, strict=True):
        assert part.share
        if refused := refusal(part.limits, item, part.windows, part.share.tokens):
            full = reached(part.limits, refused[0], item, part.windows, part.share)
            found.append(_Refused(part, *refused, full))
    return max(found, key=lambda each: math.inf if each.seconds is None else each.seconds, default=None)


def _refusing(parts: Sequence[Reservation], items: Sequence[Item], refused: _Refused, calls: Calls) -> Reservation:
    told = nearer([headers(each.limits, item, each.windows) for each, item in zip(parts, items, strict=True)])
    error = limit_error(refused.part.limits, refused.source, refused.seconds, told, refused.reached)
    kept = [each if calls.in_doubt else each._replace(share=None) for each in parts]
    own, team = (each._replace(refused=error) for each in kept)
    return own._replace(team=team)


def _no_more_than_left(part: Reservation, item: Item) -> Reservation:
    left = left_of_budgets(part.limits, item)
    if left is None or part.share is None:
        return part
    return part._replace(share=part.share._replace(cost=min(left, part.share.cost)))


def _taking(part: Reservation, forgotten: Mapping[str, str]) -> dict[str, object]:
    assert part.share
    return taking(part.limits, part.windows, part.share, forgotten.get(part.limits.id, ""))


def _after(part: Reservation, item: Item) -> Item:
    """The item as it was read, with what has been taken since."""
    if part.share is None:
        return item
    added: dict[str, int | Decimal] = {REQUESTS: 1, TOKENS: part.share.tokens}
    added |= {cost_in(period): part.share.cost for period in part.limits.budgets}
    return {**item, **{name: to_attribute(number_of(item, name) + amount) for name, amount in added.items()}}


def _joined(parts: Sequence[Reservation], items: Sequence[Item]) -> Reservation:
    own, team = parts
    costs = [each.share.cost if each.share else Decimal(0) for each in parts]
    told = [
        headers(each.limits, item, each.windows, cost) for each, item, cost in zip(parts, items, costs, strict=True)
    ]
    return own._replace(team=team, headers=nearer(told))


def nearer(every: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Of requests, of tokens and of money, the headers of whichever has less left."""
    found: dict[str, str] = {}
    for name in _GROUPS:
        having = [each for each in every if name in each]
        if having:
            nearest = min(having, key=lambda each: (Decimal(each[name]), -_reset(each)))
            words = ("x-budget-",) if "budget" in name else (f"-{name.rpartition('-')[2]}",)
            found |= {key: text for key, text in nearest.items() if any(word in key for word in words)}
    return found


def _reset(told: Mapping[str, str]) -> float:
    """Seconds until a budget starts afresh; infinity if the headers do not say it."""
    text = told.get("x-budget-reset")
    return float(text.removesuffix("s")) if text else math.inf
