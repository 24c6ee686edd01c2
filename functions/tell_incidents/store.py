"""What tell_incidents reads and remembers: the rollups of throttles, and an item for each alarm in the markers' table.

id incident#<alarm>   changed_at, since    since 0: it was over
"""

import time
from collections.abc import Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from openai_proxy.aws_answers import PROOF, proven
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.throttles.advice import Throttled

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_KEPT = 400 * 86400


class Incidents:
    """The two tables. Every call raises NoAnswerError and botocore's errors."""

    def __init__(self, client: "DynamoDBClient", costs: str, markers: str) -> None:
        self._client = client
        self._costs = costs
        self._markers = markers

    def throttles(self, hours: Sequence[str]) -> list[Throttled]:
        """The rollups of these hours."""
        return [row for hour in hours for row in self._of_hour(hour)]

    def last(self, alarm: str) -> tuple[float, float] | None:
        """The latest change that was told: when it happened, and since when the alarm was in ALARM (0: it was not). In
        Unix seconds.
        """
        key = to_item({"id": f"incident#{alarm}"})
        answer = self._client.get_item(TableName=self._markers, Key=key, ConsistentRead=True, **PROOF)
        if not (item := proven(answer).get("Item")):
            return None
        known = from_item(item)
        return float(known["changed_at"]), float(known["since"])

    def remember(self, alarm: str, at: float, since: float) -> None:
        """Remember that a change was told."""
        times = {"changed_at": Decimal(repr(at)), "since": Decimal(repr(since)), "expires_at": int(time.time()) + _KEPT}
        item = to_item({"id": f"incident#{alarm}", **times})
        proven(self._client.put_item(TableName=self._markers, Item=item, **PROOF))

    def _of_hour(self, hour: str) -> list[Throttled]:
        found: list[Throttled] = []
        more: dict[str, Any] = dict(PROOF)
        while True:
            page = self._client.query(
                TableName=self._costs,
                KeyConditionExpression="pk = :pk",
                ExpressionAttributeValues=to_item({":pk": f"throttles#{hour}"}),
                **more,
            )
            found += [Throttled.of(from_item(item)) for item in proven(page)["Items"]]
            if not (last := page.get("LastEvaluatedKey")):
                return found
            more["ExclusiveStartKey"] = last
