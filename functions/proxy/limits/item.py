"""The requests to DynamoDB about a counter of the limits table (`openai_proxy.limits`). Pure.

Its one rule: what is checked is taken in the same step, by one conditional update, under a lease of its own. So a take
may be repeated: the item shows whether it was applied.
"""

import math
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from openai_proxy.dynamodb import Item
from openai_proxy.key_limits import Limits
from openai_proxy.limits import (
    DIVIDED,
    EXPIRES_AT,
    KEPT_EVER,
    LIVE,
    MINUTE,
    PERIODS,
    REQUESTS,
    TOKENS,
    TOOK,
    Leased,
    Period,
    Windows,
    bucket_windows,
    cost_in,
    counter_key,
    is_expired,
    leases,
    spent_in,
    told_in,
)

from proxy.aws.dynamodb_update import Update

Source = Literal["key_rpm", "key_tpm", "key_parallel", "key_budget", "key_budget_reserved"]
"""Which limit has no room. `key_budget_reserved`: the rest of a budget is reserved by requests that are not settled."""

_KEPT = 40 * 86400
_MOMENT = 1
"""Seconds after which a request for one of several parallel places may try again."""
_A_WHILE = 5
"""Seconds in which some of the requests that have reserved the rest of a budget will have ended and been settled."""
_MOST_LEASES, _MOST_LEASES_WITH_BUDGET = 100, 40
"""Of a counter that is not divided, so that it stays below 2 KB: each write takes as many units as the item has KB."""
_MOST_SWEPT = 40
"""Leases in one update: an expression has room for 4 KB."""


class Share(NamedTuple):
    """What one request takes: a lease until `lease_end` (Unix), and estimates of its tokens and its cost (USD).

    A share is never more than a whole limit.
    """

    lease: str
    lease_end: int
    tokens: int
    cost: Decimal


def key_of(limits: Limits) -> dict[str, Any]:
    """The item's key."""
    return counter_key(limits.id)


def taking(limits: Limits, windows: Windows, share: Share, forgotten: str = "") -> dict[str, Any]:
    """The update that takes one request's share, if every limit has room for it and the item belongs to these windows.

    `forgotten` is an earlier lease of the same sandbox that is not needed any more, if the key's requests give nothing
    back.
    """
    update, place = Update(), _place(limits)
    update.needs(f"#{MINUTE} = :{MINUTE}", {MINUTE: windows.minute})
    update.needs(f"attribute_not_exists(#{DIVIDED})")
    update.needs(f"attribute_exists(#{place}) AND attribute_not_exists(#{place}.#lease)", names={"lease": share.lease})
    lease: int | dict[str, int | str | Decimal] = share.lease_end
    if limits.has_budget:
        lease = {"end": share.lease_end, "cost": share.cost, "at": windows.now}
        lease |= {"counted": windows.counted} if windows.counted else {}
    update.sets(f"#{place}.#lease = :lease", {"lease": lease}, {"lease": share.lease})
    if forgotten and place == TOOK:
        update.removes(f"#{TOOK}.#forgotten", {"forgotten": forgotten})
    update.adds({REQUESTS: 1, TOKENS: share.tokens})
    if limits.rpm is not None:
        update.needs(f"#{REQUESTS} < :rpm", {"rpm": limits.rpm})
    if limits.tpm is not None:
        update.needs(f"#{TOKENS} <= :tpm", {"tpm": limits.tpm - share.tokens})
    if limits.parallel is not None:
        update.needs(f"size(#{LIVE}) < :parallel", {"parallel": limits.parallel})
    for period in windows.periods if limits.has_budget else ():
        update.needs(*windows.within(period))
        update.adds({cost_in(period): share.cost})
    for period, budget in limits.budgets.items():
        # The last request of a budget may cost more than is left, but it reserves no more than that.
        update.needs(
            f"#{cost_in(period)} {'<=' if share.cost else '<'} :{period}_left", {f"{period}_left": budget - share.cost}
        )
    kept = KEPT_EVER if windows.total else _KEPT
    update.sets(f"#{EXPIRES_AT} = :{EXPIRES_AT}", {EXPIRES_AT: windows.now + kept})
    return update.request() | {"ReturnValues": "ALL_NEW", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


def no_older_than(windows: Windows, item: Item) -> Windows:
    """The item's own windows, if whoever wrote it has a clock slightly ahead of this sandbox's, so that both count in
    one minute.
    """
    minute = int(number_of(item, MINUTE))
    return Windows.of(minute * 60, windows.calendar) if minute > windows.minute else windows


def shards_of(item: Item) -> int:
    """The number of shards of a counter; 1 if it is not divided."""
    return int(number_of(item, DIVIDED)) if DIVIDED in item else 1


def is_busy(limits: Limits, item: Item) -> bool:
    """Whether a counter has so many leases that it is to be divided."""
    most = _MOST_LEASES_WITH_BUDGET if limits.has_budget else _MOST_LEASES
    return DIVIDED not in item and running(limits, item) > most


def running(limits: Limits, item: Item) -> int:
    """How many leases a counter has: of requests that run, or that are kept in mind for a minute."""
    return len(item.get(_place(limits), {}).get("M", {}))


def dividing(shards: int) -> dict[str, Any]:
    """The update that divides a counter: every later take is counted in one of so many shards."""
    update = Update()
    update.needs(f"attribute_not_exists(#{DIVIDED})")
    update.sets(f"#{DIVIDED} = :{DIVIDED}", {DIVIDED: shards})
    return update.request()


def left_of_budgets(limits: Limits, item: Item) -> Decimal | None:
    """USD that may still be reserved; None without a budget."""
    left = (budget - number_of(item, cost_in(period)) for period, budget in limits.budgets.items())
    return min(left, default=None)


def renewal(limits: Limits, item: Item, windows: Windows) -> dict[str, Any] | None:
    """The update that brings a stale item up to date, if it has not changed since it was read; None if it is not stale.

    A window begins empty. Whatever nobody will settle or release any more is given back.
    """
    update, place = Update(), _place(limits)
    if place not in item:
        update.needs(f"attribute_not_exists(#{place})")
        update.sets(f"#{place} = :nobody", {"nobody": dict[str, int]()})
    if windows.minute > number_of(item, MINUTE):
        _begin(update, item, MINUTE, windows.minute, (REQUESTS, TOKENS))
    goes_on: dict[Period, str] = {period: text_of(item, period) for period in PERIODS}
    for period in windows.periods if limits.has_budget else ():
        if (start := windows.start(period)) > goes_on[period]:
            _begin(update, item, period, start, (spent_in(period), told_in(period)))
            _begin_cost(update, item, windows, period)
            goes_on[period] = ""  # a window that has just begun holds nothing that could be given back
    returned = [*_swept_leases(update, item, windows), *_swept_buckets(update, item, windows)]
    for period, start in goes_on.items():
        amount = sum((cost for taken_in, cost in returned if start and taken_in.is_in(period, start)), Decimal(0))
        if amount:
            update.needs(f"#{period} = :kept_{period}", {f"kept_{period}": start})
            update.adds({cost_in(period): -amount})
    return update.request() if update.does_something else None


def _begin(update: Update, item: Item, name: str, value: int | str, counters: tuple[str, ...]) -> None:
    if name in item:
        old = number_of(item, name) if "N" in item[name] else text_of(item, name)
        update.needs(f"#{name} = :old_{name}", {f"old_{name}": old})
    else:
        update.needs(f"attribute_not_exists(#{name})")
    update.sets(f"#{name} = :{name}", {name: value})
    for counter in counters:
        update.sets(f"#{counter} = :zero", {"zero": 0})


def _begin_cost(update: Update, item: Item, windows: Windows, period: Period) -> None:
    """A period begins with nothing reserved. If it begins late, because its reset day was changed, it begins with the
    running requests.
    """
    start, name = windows.start(period), cost_in(period)
    reserved = Decimal(0)
    if Windows.of(int(number_of(item, MINUTE)) * 60).day >= start:
        taken = [
            (each.windows(windows.calendar), each.cost) for each in leases(item).values() if each.end >= windows.now
        ]
        taken += [
            (taken_in, number_of(item, bucket))
            for bucket in item
            if (taken_in := bucket_windows(bucket, windows.calendar)) and not is_expired(bucket, windows.now)
        ]
        reserved = sum((cost for taken_in, cost in taken if taken_in.is_in(period, start)), Decimal(0))
        if name in item:
            update.needs(f"#{name} = :old_{name}", {f"old_{name}": number_of(item, name)})
    update.sets(f"#{name} = :new_{name}", {f"new_{name}": reserved})


def _swept_leases(update: Update, item: Item, windows: Windows) -> Iterator[tuple[Windows, Decimal]]:
    """Remove leases that have ended. Returns the windows of each, and what it had reserved."""
    ended = [
        (place, name, lease)
        for place in (LIVE, TOOK)
        for name, lease in leases(item, place).items()
        if lease.end < windows.now
    ]
    for count, (place, name, lease) in enumerate(ended[:_MOST_SWEPT]):
        path, names = f"#{place}.#gone{count}", {f"gone{count}": name}
        update.removes(path, names)
        if lease.cost:
            update.needs(f"attribute_exists({path})", names=names)
            yield lease.windows(windows.calendar), lease.cost


def _swept_buckets(update: Update, item: Item, windows: Windows) -> Iterator[tuple[Windows, Decimal]]:
    """Remove sums that are too old to be settled. Returns the windows of each, and the amount."""
    for name in item:
        if (taken_in := bucket_windows(name, windows.calendar)) and is_expired(name, windows.now):
            amount = number_of(item, name)
            update.needs(f"#{name} = :{name}", {name: amount})
            update.removes(f"#{name}")
            yield taken_in, amount


def refusal(limits: Limits, item: Item, windows: Windows, tokens: int) -> tuple[Source, int | None] | None:
    """Which limit has no room in an item of these windows, and in how many seconds it may have room; None: never.

    A budget counts as used up only by what was spent. What is reserved may come back.
    """
    used_up: list[Period] = [
        period for period, budget in limits.budgets.items() if number_of(item, spent_in(period)) >= budget
    ]
    if used_up:
        return "key_budget", windows.to_next(max(used_up, key=lambda period: _wait(windows, period)))
    if any(number_of(item, cost_in(period)) >= budget for period, budget in limits.budgets.items()):
        return "key_budget_reserved", _to_next_end(item, windows)
    if limits.rpm is not None and number_of(item, REQUESTS) >= limits.rpm:
        return "key_rpm", windows.to_next_minute
    if limits.tpm is not None and number_of(item, TOKENS) > limits.tpm - tokens:
        return "key_tpm", windows.to_next_minute
    if limits.parallel is not None and len(leases(item)) >= limits.parallel:
        return "key_parallel", _MOMENT
    return None


def _to_next_end(item: Item, windows: Windows) -> int:
    """Seconds until some of the reserved money may have come back: at most until the next lease ends."""
    ends = [lease.end - windows.now for lease in leases(item).values() if lease.cost]
    return max(1, min([_A_WHILE, *ends]))


def headers(limits: Limits, item: Item, windows: Windows, own: Decimal = Decimal(0)) -> dict[str, str]:
    """Headers with what is left: of the minute as OpenAI says it (https://platform.openai.com/docs/guides/rate-limits),
    and of the budget that has least left, in USD. Money that other requests have reserved is not left; `own` is what
    this request has reserved.
    """
    found: dict[str, str] = {}
    for name, attribute, limit in (("requests", REQUESTS, limits.rpm), ("tokens", TOKENS, limits.tpm)):
        if limit is not None:
            found[f"x-ratelimit-limit-{name}"] = str(limit)
            found[f"x-ratelimit-remaining-{name}"] = str(max(0, limit - int(number_of(item, attribute))))
            found[f"x-ratelimit-reset-{name}"] = f"{windows.to_next_minute}s"
    left: list[tuple[Decimal, float, Period]] = [
        (max(budget - number_of(item, cost_in(period)) + own, Decimal(0)), -_wait(windows, period), period)
        for period, budget in limits.budgets.items()
    ]
    if left:
        remaining, _, period = min(left)  # of several that have nothing left, the one that starts afresh last
        found["x-budget-remaining-usd"] = f"{remaining.normalize():f}"
        if (seconds := windows.to_next(period)) is not None:
            found["x-budget-reset"] = f"{seconds}s"
    return found


def _wait(windows: Windows, period: Period) -> float:
    """Seconds until a budget of the period starts afresh; infinity for a budget in total."""
    seconds = windows.to_next(period)
    return math.inf if seconds is None else seconds


def own_lease(limits: Limits, item: Item, share: Share) -> Leased | None:
    """A request's own lease, if the item has it: then its take was applied, whatever the answer was."""
    return leases(item, _place(limits)).get(share.lease)


def number_of(item: Item, name: str) -> Decimal:
    """A number of an item; 0 if it is missing."""
    return Decimal(item[name]["N"]) if name in item else Decimal(0)


def text_of(item: Item, name: str) -> str:
    """A text of an item; "" if it is missing."""
    return item[name]["S"] if name in item else ""


def _place(limits: Limits) -> Literal["live", "took"]:
    return LIVE if limits.are_given_back else TOOK
