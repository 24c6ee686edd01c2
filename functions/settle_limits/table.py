"""The limits table as settle_limits uses it. One rule: an inference is settled once, however often and late it comes.

A cancelled transaction says why. If a marker is there already, its settlement is a duplicate and is dropped. If the
counter is not as expected, DynamoDB returns it, and what it still holds of the reservations is settled: the rest has
expired, or its window is over. One transaction for many inferences also means that requests, which take from the same
item, wait less.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from openai_proxy.aws_answers import PROOF, NoAnswerError, is_proven, proven
from openai_proxy.backoff import pause_before_retry
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.limits import (
    DIVIDED,
    EXPIRES_AT,
    LIVE,
    PERIODS,
    Windows,
    counter_key,
    hint_key,
    hint_values,
    spent_in,
    told_budget_in,
    told_in,
)
from openai_proxy.shards.limits import LANES, Whole, lane_id

from settle_limits.settlement import LeftLease, PriceHint, Settlement
from settle_limits.thresholds import Crossing
from settle_limits.transaction import Held, Refusal, build_transaction, in_transactions

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ATTEMPTS = 8

MARKER_LIFETIME = 32 * 86400
"""Seconds. Longer than a month: what comes again after that finds nothing any more that it belongs to, but for a
budget in total."""
HINT_LIFETIME = 30 * 86400
_CLOCKS_APART = 300
"""Seconds by which the clock of the sandbox that took a request may be ahead of this one's."""
_PAUSE = partial(pause_before_retry, first=0.05)

_NOT_TOLD = "#period = :start AND (attribute_not_exists(#of) OR #of <> :budget OR #told < :told)"


class LimitsTable:
    """The table of counters, markers and price hints. Every method raises NoAnswerError and botocore's errors."""

    def __init__(
        self,
        client: "DynamoDBClient",
        name: str,
        pause: Callable[[int], None] = _PAUSE,
        clock: Callable[[], float] = time.time,
        lane: int | None = None,
    ) -> None:
        self._client = client
        self._name = name
        self._pause = pause
        self._clock = clock
        self._lane = random.randint(1, LANES) if lane is None else lane  # noqa: S311 - guards nothing

    def settle(self, settlements: Iterable[Settlement]) -> dict[str, str]:
        """Settle what is not settled yet. Returns the markers of those that could not be settled and have to come
        again, and why.
        """
        unsettled: dict[str, str] = {}
        for group in in_transactions(self._that_count_once(settlements)):
            unsettled |= self._settle(group)
        return unsettled

    def _that_count_once(self, settlements: Iterable[Settlement]) -> Iterator[Settlement]:
        """The same settlements, but one whose request is older than markers live counts for no budget in total: that
        budget never ends, so an event that came again would count twice.

        If a counter has lanes, this sandbox settles in its own lane.
        """
        oldest = self._clock() - MARKER_LIFETIME
        for each in settlements:
            windows = each.windows if each.taken_at > oldest else each.windows._replace(total="")
            yield replace(each, windows=windows, lane=self._lane if each.lane else 0)

    def counter(self, limits_id: str) -> dict[str, Any]:
        """A counter in plain values, with what its lanes say was spent; empty when there is none."""
        key = counter_key(limits_id)
        response = proven(self._client.get_item(TableName=self._name, Key=key, ConsistentRead=True, **PROOF))
        counter = from_item(response.get("Item", {}))
        if DIVIDED in counter:
            whole = Whole(counter, {}, self._lanes(limits_id))
            counter |= {spent_in(period): whole.spent(period) for period in PERIODS if period in counter}
        return counter

    def _lanes(self, limits_id: str) -> list[dict[str, Any]]:
        keys: list[Any] = [counter_key(lane_id(limits_id, lane)) for lane in range(1, LANES + 1)]
        asked: Any = {self._name: {"Keys": keys, "ConsistentRead": True}}
        answer = self._client.batch_get_item(RequestItems=asked, **PROOF)
        if not is_proven(answer, several=True) or answer.get("UnprocessedKeys"):
            raise NoAnswerError("DynamoDB did not read all of them")
        return [from_item(item) for item in answer["Responses"].get(self._name, [])]

    def mark_told(self, crossing: Crossing) -> None:
        """Remember that a threshold has been announced, unless a higher one has been, or the period is over."""
        period = crossing.period
        try:
            answer = self._client.update_item(
                TableName=self._name,
                Key=counter_key(crossing.limits_id),
                UpdateExpression="SET #told = :told, #of = :budget",
                ConditionExpression=_NOT_TOLD,
                ExpressionAttributeNames={"#period": period, "#told": told_in(period), "#of": told_budget_in(period)},
                ExpressionAttributeValues=to_item(
                    {":told": crossing.threshold, ":budget": crossing.budget, ":start": crossing.start}
                ),
                **PROOF,
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return
        proven(answer)

    def write_hint(self, hint: PriceHint) -> None:
        """Tell the proxy a price."""
        expires_at = int(self._clock()) + HINT_LIFETIME
        values = hint_values(hint.input, hint.output, hint.answer) | {EXPIRES_AT: expires_at}
        item = hint_key(hint.server, hint.model) | to_item(values)
        proven(self._client.put_item(TableName=self._name, Item=item, **PROOF))

    def usual_answer(self, hint: PriceHint) -> int | None:
        """How many tokens an answer of a model usually has, as was written before."""
        key = hint_key(hint.server, hint.model)
        item = proven(self._client.get_item(TableName=self._name, Key=key, **PROOF)).get("Item", {})
        answer = from_item(item).get("answer")
        return int(answer) or None if isinstance(answer, Decimal) else None

    def give_back(self, lease: LeftLease) -> None:
        """Free the place of a request that is over, unless that has been done."""
        try:
            answer = self._client.update_item(
                TableName=self._name,
                Key=counter_key(lease.limits_id),
                UpdateExpression=f"REMOVE #{LIVE}.#lease",
                ConditionExpression=f"attribute_exists(#{LIVE}.#lease)",
                ExpressionAttributeNames={f"#{LIVE}": LIVE, "#lease": lease.id},
                **PROOF,
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return
        proven(answer)

    def _settle(self, group: list[Settlement]) -> dict[str, str]:
        """Settle in one transaction. What was reserved for `group` is in one bucket of one counter."""
        held = Held.at_first(group)
        expires_at = int(self._clock()) + MARKER_LIFETIME
        reason = ""
        for attempt in range(1, ATTEMPTS + 1):
            items = build_transaction(self._name, group, held, expires_at)
            try:
                answer = self._client.transact_write_items(TransactItems=items, **PROOF)
            except ClientError as error:
                refusal, reason = Refusal.of(error.response), str(error)
                if refusal is None:
                    raise
            else:
                if is_proven(answer, several=True):
                    return {}
                refusal, reason = Refusal(), "DynamoDB did not say that it has written"
            if refusal.is_for_good:
                if len(group) > 1:
                    return self._settle_each(group)
                break
            if refusal.is_of_counter(len(group)):
                now = Windows.of(self._clock() + _CLOCKS_APART, group[0].windows.calendar)
                held = Held.of(refusal.counter, group, now)
            group = [each for place, each in enumerate(group) if not refusal.is_duplicate(place)]
            if not group:
                return {}
            if refusal.is_transient and attempt < ATTEMPTS:
                self._pause(attempt)
        return {each.marker: reason for each in group}

    def _settle_each(self, group: Iterable[Settlement]) -> dict[str, str]:
        """Settle one by one: something is wrong with one of them, and DynamoDB does not say with which."""
        unsettled: dict[str, str] = {}
        for each in group:
            unsettled |= self._settle([each])
        return unsettled
