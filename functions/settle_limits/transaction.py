"""What DynamoDB is told to settle reservations, and what it says when it refuses. Pure.

One rule: a counter changes together with the markers of what is settled. A transaction puts a marker for each of N
inferences, each only if it is not there yet, and adds their sums to the one counter that holds their reservations.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from openai_proxy.aws_answers import TRANSIENT
from openai_proxy.budget import BudgetWindows, counter_pk
from openai_proxy.dynamodb import CONDITION, DONE, code_of, reason_codes, to_item
from openai_proxy.pricing_rates import EXACT

from settle_limits.settlement import Settlement

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

MOST_MARKERS = 99
"""DynamoDB's limit for one transaction, less one for the counter."""

Item = Mapping[str, Mapping[str, Any]]
"""An item in DynamoDB's JSON."""


@dataclass(frozen=True, slots=True)
class Held:
    """Which windows of a reservation its counter still has. What is gone does not come back."""

    day: bool
    month: bool
    bucket: bool

    @classmethod
    def of(cls, counter: Item, windows: BudgetWindows) -> "Held":
        """What `counter` has of `windows`: nothing, when there is no counter."""
        return cls(
            day=counter.get("day", {}).get("S") == windows.day,
            month=counter.get("month", {}).get("S") == windows.month,
            bucket=windows.bucket in counter,
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a transaction was cancelled: `codes` are those of its markers, in their order, then that of the counter.

    `counter` is the item whose condition failed. An error that says nothing about the items has no codes.
    """

    codes: Sequence[str]
    counter: Item

    @classmethod
    def of(cls, response: Mapping[str, Any]) -> "Refusal | None":
        """What the response of a ClientError says; None when it is about access, or a table that is not there."""
        if codes := reason_codes(response):
            return cls(codes, response["CancellationReasons"][-1].get("Item", {}))
        code = code_of(response)
        return cls([], {}) if code in TRANSIENT else cls([code], {}) if code == "ValidationException" else None

    @property
    def is_for_good(self) -> bool:
        """Whether something is wrong with what was asked for, although nobody may say with which part of it."""
        return bool(set(self.codes) - TRANSIENT - {CONDITION, DONE})

    @property
    def is_transient(self) -> bool:
        """Whether somebody else was faster, and a pause will help."""
        return not self.codes or not TRANSIENT.isdisjoint(self.codes)

    def is_duplicate(self, place: int) -> bool:
        """Whether the marker at `place` is there already."""
        return self._failed(place)

    def is_of_counter(self, markers: int) -> bool:
        """Whether the counter, which came after so many markers, is not as thought."""
        return self._failed(markers)

    def _failed(self, place: int) -> bool:
        return place < len(self.codes) and self.codes[place] == CONDITION


def in_transactions(settlements: Iterable[Settlement]) -> Iterator[list[Settlement]]:
    """The settlements of one counter whose reservations lie in one bucket, as many as one transaction takes."""
    groups: dict[tuple[str, BudgetWindows, bool], list[Settlement]] = {}
    for each in settlements:
        groups.setdefault((each.limits_id, each.windows, each.reserved is None), []).append(each)
    for group in groups.values():
        yield from (group[start : start + MOST_MARKERS] for start in range(0, len(group), MOST_MARKERS))


def build_transaction(
    table: str, group: Sequence[Settlement], held: Held, expires_at: int
) -> "list[TransactWriteItemTypeDef]":
    """The items of one transaction: first the markers, in the order of `group`, then the counter if that has a part."""
    markers = [_marker(table, settlement.event_id, expires_at) for settlement in group]
    return [*markers, _counter(table, group, held)] if held.day or held.month or held.bucket else markers


def _marker(table: str, event_id: str, expires_at: int) -> "TransactWriteItemTypeDef":
    return {
        "Put": {
            "TableName": table,
            "Item": to_item({"pk": f"settled#{event_id}", "expires_at": expires_at}),
            "ConditionExpression": "attribute_not_exists(pk)",
        }
    }


def _counter(table: str, group: Sequence[Settlement], held: Held) -> "TransactWriteItemTypeDef":
    windows = group[0].windows
    actual = _sum(each.actual for each in group)
    reserved = _sum(each.reserved or Decimal(0) for each in group) if held.bucket else Decimal(0)
    change = EXACT.subtract(actual, reserved)
    amounts: dict[str, Decimal] = {}
    starts: dict[str, str] = {}
    if held.day:
        amounts |= {"day_cost": change, "day_spent": actual}
        starts["day"] = windows.day
    if held.month:
        amounts |= {"month_cost": change, "month_spent": actual}
        starts["month"] = windows.month
    if held.bucket:
        amounts[windows.bucket] = -reserved
    conditions = [f"#{name} = :{name}" for name in starts]
    conditions += [f"attribute_exists(#{windows.bucket})"] if held.bucket else []
    return {
        "Update": {
            "TableName": table,
            "Key": to_item({"pk": counter_pk(group[0].limits_id)}),
            "UpdateExpression": "ADD " + ", ".join(f"#{name} :{name}" for name in amounts),
            "ConditionExpression": " AND ".join(conditions),
            "ExpressionAttributeNames": {f"#{name}": name for name in (*amounts, *starts)},
            "ExpressionAttributeValues": to_item({f":{name}": value for name, value in (amounts | starts).items()}),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
    }


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for amount in amounts:
        total = EXACT.add(total, amount)
    return total
