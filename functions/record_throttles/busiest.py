"""Which clients get a metric of their own: those that are throttled most in an hour. One rule: their number is bounded,
whatever clients do, because CloudWatch bills each name.

The rollups of the hour, which the same consumer has just written, say how often each client was throttled. For each
hour one item of the costs table holds the names that had a metric, so that all sandboxes keep the bound together:

    pk busiest#<hour>   sk clients   names: a set
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.refusals import code_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MOST_CLIENTS = 10
"""At a time."""
MOST_NAMES = 20
"""In an hour: so many clients may become the busiest one after the other."""
FROM_THROTTLES = 10
"""In an hour: a client that is refused a few times is nobody's concern."""
READ_EVERY = 60.0
"""Seconds between two looks at an hour's rollups. What was recorded here in between is added."""
_MOST_PAGES = 10
"""Of rollups, each of 1 MB: some 25,000 of them."""
_KEPT = 40 * 86400
_MOST_HOURS = 48


@dataclass(slots=True)
class _Hour:
    """What a sandbox knows about an hour: throttles by client, and the names that had a metric."""

    counts: Counter[str] = field(default_factory=Counter[str])
    names: frozenset[str] = frozenset()
    read_at: float = float("-inf")
    is_full: bool = False


class Busiest:
    """The busiest clients of each hour."""

    def __init__(self, client: "DynamoDBClient", table: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._table = table
        self._clock = clock
        self._hours: dict[str, _Hour] = {}

    def among(self, hour: str, counts: Mapping[str, int]) -> frozenset[str]:
        """The busiest clients of an hour (as in 2026-11-23T09), after these new throttles of each client, which the
        rollups already include.

        Raises botocore's errors.
        """
        if hour not in self._hours and len(self._hours) >= _MOST_HOURS:
            self._hours.clear()
        known = self._hours.setdefault(hour, _Hour())
        known.counts.update(counts)
        if self._clock() - known.read_at >= READ_EVERY:
            # The larger of both counts, because a read may be older than what was recorded here.
            known.counts |= self._rollups(hour)
            known.read_at = self._clock()
        busiest = [client for client, number in known.counts.most_common(MOST_CLIENTS) if number >= FROM_THROTTLES]
        for client in busiest:
            if client in counts and client not in known.names and not known.is_full:
                self._add(hour, client, known)
        return known.names.intersection(busiest)

    def _rollups(self, hour: str) -> Counter[str]:
        """How often each client was throttled."""
        found: Counter[str] = Counter()
        more: dict[str, Any] = {}
        for _ in range(_MOST_PAGES):
            page = self._client.query(
                TableName=self._table,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues=to_item({":pk": f"throttles#{hour}"}),
                ProjectionExpression="client_id, requests",
                **more,
            )
            for rollup in map(from_item, page.get("Items", ())):
                found[rollup["client_id"]] += int(rollup["requests"])
            if not (last := page.get("LastEvaluatedKey")):
                break
            more = {"ExclusiveStartKey": last}
        return found

    def _add(self, hour: str, client: str, known: _Hour) -> None:
        names = {"#names": "names", "#expires": "expires_at"}
        request: Any = {
            "UpdateExpression": "ADD #names :own SET #expires = if_not_exists(#expires, :expires)",
            "ConditionExpression": "attribute_not_exists(#names) OR size(#names) < :most OR contains(#names, :client)",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": {
                ":own": {"SS": [client]},
                **to_item({":client": client, ":most": MOST_NAMES, ":expires": _expiry(hour)}),
            },
            "ReturnValues": "ALL_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            answer = self._client.update_item(
                TableName=self._table, Key=to_item({"pk": f"busiest#{hour}", "sk": "clients"}), **request
            )
            known.names = _names_of(answer.get("Attributes", {}))
        except ClientError as error:
            if code_of(error.response) != "ConditionalCheckFailedException":
                raise
            response: Any = error.response
            known.names = _names_of(response.get("Item", {})) or known.names
            known.is_full = True


def _expiry(hour: str) -> int:
    return int(datetime.fromisoformat(f"{hour}:00:00+00:00").timestamp()) + _KEPT


def _names_of(item: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(item.get("names", {}).get("SS", ()))
