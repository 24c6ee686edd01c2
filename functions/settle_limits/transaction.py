"""The transactions that settle reservations, and what DynamoDB says when it refuses one. Pure.

One rule: a counter changes together with the markers of what is settled. A transaction puts a marker for each of N
inferences, each only if it is not there yet, and adds their sums to the one counter that holds their reservations.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from openai_proxy.aws_answers import TRANSIENT
from openai_proxy.dynamodb import Item, from_attribute, to_item
from openai_proxy.limits import (
    EXPIRES_AT,
    KEPT_EVER,
    LIVE,
    PERIODS,
    Leased,
    Period,
    Windows,
    cost_in,
    counter_key,
    is_expired,
    settled_key,
    spent_in,
    told_in,
)
from openai_proxy.pricing.rates import EXACT
from openai_proxy.refusals import CONDITION, DONE, code_of, is_not_now, reason_codes
from openai_proxy.shards.limits import back_in, lane_id

from settle_limits.settlement import Settlement

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

MOST_MARKERS = 99
"""DynamoDB's limit for one transaction, less one for the counter."""


_MOST_REMOVED = 100
"""Attributes in one update: an expression has room for 4 KB."""


@dataclass(frozen=True, slots=True)
class Held:
    """Which windows of a reservation its counter still has, and the lease if there is one. Windows that are over are
    not changed.
    """

    periods: tuple[Period, ...]
    bucket: bool
    lease: Leased | None = None
    starts: Mapping[Period, str] = field(default_factory=dict[Period, str])
    """What the counter calls its periods, where that is known."""
    begins: tuple[Period, ...] = ()
    """Periods that the counter has not reached, because no take has: the cost of what passed unchecked begins them.

    None of the future: it would keep the counter out of the periods until then."""
    expired: tuple[str, ...] = ()
    """Buckets of a lane that nobody looks at any more: they go when a period begins."""

    @classmethod
    def at_first(cls, group: Sequence[Settlement]) -> "Held":
        """The most likely state of the counter. If it is wrong, the transaction's conditions fail."""
        return cls(group[0].windows.periods, bucket=_may_be_in_bucket(group[0]))

    @classmethod
    def of(cls, counter: Item, group: Sequence[Settlement], now: Windows) -> "Held":
        """What `counter` still has of the windows of `group`: nothing, if there is no counter."""
        windows, left = group[0].windows, group[0].lease
        lease = _lease_in(counter, left.id) if left else None
        was_unchecked = group[0].reserved is None or left is not None
        starts: dict[Period, str] = {period: counter.get(period, {}).get("S", "") for period in PERIODS}
        behind: list[Period] = [
            each for each in windows.periods if starts[each] < windows.start(each) <= now.start(each)
        ]
        return cls(
            tuple(each for each in windows.periods if windows.is_in(each, starts[each])),
            bucket=lease is None and _may_be_in_bucket(group[0]) and windows.bucket in counter,
            lease=lease,
            starts=starts,
            begins=tuple(behind) if was_unchecked or group[0].lane else (),
            expired=tuple(each for each in counter if is_expired(each, now.now)) if group[0].lane and behind else (),
        )


def _lease_in(counter: Item, name: str) -> Leased | None:
    """The lease called `name`, which a request has left. One that is damaged reserves nothing, and is cleared away."""
    attribute = counter.get(LIVE, {}).get("M", {}).get(name)
    if attribute is None:
        return None
    try:
        return Leased.of(from_attribute(attribute))
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
        return Leased(0)


def _may_be_in_bucket(settlement: Settlement) -> bool:
    return (
        not settlement.lane
        and settlement.reserved is not None
        and (settlement.lease is None or settlement.lease.in_doubt)
    )


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a transaction was cancelled: `codes` are those of its markers, in their order, then that of the counter.

    `counter` is the item whose condition failed. An error that says nothing about the items has no codes.
    """

    codes: Sequence[str] = ()
    counter: Item = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, response: Mapping[str, Any]) -> "Refusal | None":
        """What the response of a ClientError says; None when it is about access, or a table that is not there."""
        if codes := reason_codes(response):
            return cls(codes, response["CancellationReasons"][-1].get("Item", {}))
        if is_not_now(response):
            return cls()
        code = code_of(response)
        return cls([code]) if code == "ValidationException" else None

    @property
    def is_for_good(self) -> bool:
        """Whether the request itself is wrong, even if DynamoDB does not say which part of it."""
        return bool(set(self.codes) - TRANSIENT - {CONDITION, DONE})

    @property
    def is_transient(self) -> bool:
        """Whether somebody else was faster, and a pause will help."""
        return not self.codes or not TRANSIENT.isdisjoint(self.codes)

    def is_duplicate(self, place: int) -> bool:
        """Whether the marker at `place` is there already."""
        return self._failed(place)

    def is_of_counter(self, markers: int) -> bool:
        """Whether the counter, which came after so many markers, is not as expected."""
        return self._failed(markers)

    def _failed(self, place: int) -> bool:
        return place < len(self.codes) and self.codes[place] == CONDITION


def in_transactions(settlements: Iterable[Settlement]) -> Iterator[list[Settlement]]:
    """The settlements of one counter whose reservations lie in one bucket, as many as one transaction takes.

    A settlement whose request left its lease, which is rare, has a transaction of its own.
    """
    groups: dict[tuple[Any, ...], list[Settlement]] = {}
    for each in settlements:
        windows, lease = each.windows, each.lease.id if each.lease else ""
        place = each.limits_id, each.lane, windows.bucket, windows.calendar, each.reserved is None, lease
        groups.setdefault(place, []).append(each)
    for group in groups.values():
        yield from (group[start : start + MOST_MARKERS] for start in range(0, len(group), MOST_MARKERS))


def build_transaction(
    table: str, group: Sequence[Settlement], held: Held, expires_at: int
) -> "list[TransactWriteItemTypeDef]":
    """The items of one transaction: first the markers, in the order of `group`, then the counter if it changes."""
    markers = [_marker(table, settlement.marker, expires_at) for settlement in group]
    has_part = held.periods or held.bucket or held.lease or held.begins
    return [*markers, _counter(table, group, held, expires_at)] if has_part else markers


def _item_of(settlement: Settlement) -> str:
    """The key of the counter, or of the lane, that a settlement changes."""
    return lane_id(settlement.limits_id, settlement.lane) if settlement.lane else settlement.limits_id


def _marker(table: str, event_id: str, expires_at: int) -> "TransactWriteItemTypeDef":
    return {
        "Put": {
            "TableName": table,
            "Item": settled_key(event_id) | to_item({EXPIRES_AT: expires_at}),
            "ConditionExpression": "attribute_not_exists(pk)",
        }
    }


def _counter(table: str, group: Sequence[Settlement], held: Held, expires_at: int) -> "TransactWriteItemTypeDef":
    amounts, periods = _changes(group, held)
    bucket, left = group[0].windows.bucket, group[0].lease
    names = {f"#{name}": name for name in (*amounts, *periods)}
    conditions, starts = _within(periods, held, group[0].windows)
    conditions += [f"attribute_exists(#{bucket})"] if held.bucket else []
    if left:
        conditions.append(f"attribute_{'exists' if held.lease else 'not_exists'}(#{LIVE}.#lease)")
        names |= {f"#{LIVE}": LIVE, "#lease": left.id}
    begun, conditions_of_begun = _beginnings(group, held, expires_at)
    conditions += conditions_of_begun
    setting = f"SET {', '.join(f'#{name} = :{name}' for name in begun)} " if begun else ""
    names |= {f"#{name}": name for name in begun} | {f"#{period}": period for period in held.begins}
    adding = f"ADD {', '.join(f'#{name} :{name}' for name in amounts)}" if amounts else ""
    gone = held.expired[:_MOST_REMOVED]
    names |= {f"#{name}": name for name in gone}
    removed = [f"#{LIVE}.#lease"] if held.lease else [f"#{name}" for name in gone]
    removing = f"REMOVE {', '.join(removed)} " if removed else ""
    update: Any = {
        "TableName": table,
        "Key": counter_key(_item_of(group[0])),
        "UpdateExpression": f"{removing}{setting}{adding}",
        "ConditionExpression": " AND ".join(conditions),
        "ExpressionAttributeNames": names,
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }
    values = amounts | starts | begun
    values |= {f"old_{name}": held.starts[name] for name in held.begins if held.starts[name]}
    if values:  # DynamoDB accepts no empty map of names
        update["ExpressionAttributeValues"] = to_item({f":{name}": value for name, value in values.items()})
    return {"Update": update}


def _beginnings(group: Sequence[Settlement], held: Held, expires_at: int) -> tuple[dict[str, Any], list[str]]:
    """The first values of the periods that the counter has not reached yet, and the conditions under which they are
    first.
    """
    actual, begun, conditions = _sum(each.actual for each in group), dict[str, Any](), list[str]()
    kept = group[0].windows.now + KEPT_EVER if group[0].windows.total else expires_at
    for period in held.begins:
        old = held.starts[period]
        conditions.append(f"#{period} = :old_{period}" if old else f"attribute_not_exists(#{period})")
        others = {spent_in(period): actual, told_in(period): 0, EXPIRES_AT: kept}
        if group[0].lane:
            others = {back_in(period): EXACT.subtract(_reserved(group), actual), **others}
        else:
            others = {cost_in(period): actual, **others}
        begun |= {period: group[0].windows.start(period), **others}
    return begun, conditions


def _within(periods: Iterable[Period], held: Held, windows: Windows) -> tuple[list[str], dict[str, str]]:
    """The conditions that a counter is in these periods, and their values: as the counter was found, or else as is most
    likely.
    """
    conditions: list[str] = []
    values: dict[str, str] = {}
    for period in periods:
        known = held.starts.get(period)
        condition, own = (f"#{period} = :{period}", {period: known}) if known else windows.within(period)
        conditions.append(condition)
        values |= own
    return conditions, values


def _changes(group: Sequence[Settlement], held: Held) -> tuple[dict[str, Decimal], list[Period]]:
    """What a group adds to each amount of its counter, and the periods that the counter must be in."""
    windows = group[0].windows
    actual = _sum(each.actual for each in group)
    amounts: dict[str, Decimal] = {}
    if group[0].lane:
        for period in held.periods:
            amounts |= {back_in(period): EXACT.subtract(_reserved(group), actual), spent_in(period): actual}
        return amounts | {windows.bucket: _reserved(group)}, list(held.periods)
    reserved = _reserved(group) if held.bucket else Decimal(0)
    for period in held.periods:
        amounts |= {cost_in(period): EXACT.subtract(actual, reserved), spent_in(period): actual}
    periods: list[Period] = list(held.periods)
    if held.bucket:
        amounts[windows.bucket] = -reserved
    if held.lease:
        taken_in = held.lease.windows(windows.calendar)
        for period in taken_in.periods:
            if held.lease.cost and taken_in.is_in(period, held.starts[period]) and period not in held.begins:
                amounts[cost_in(period)] = EXACT.subtract(amounts.get(cost_in(period), Decimal(0)), held.lease.cost)
                if period not in periods:
                    periods.append(period)
    return amounts, periods


def _reserved(group: Sequence[Settlement]) -> Decimal:
    return _sum(each.reserved or Decimal(0) for each in group)


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total
