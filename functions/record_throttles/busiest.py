"""Which clients have a metric of their own: the first few of each hour that are throttled often. One rule: their number
is bounded, whatever clients do, because CloudWatch bills each name.

One item of the costs table for each hour holds the names, so that all sandboxes mean the same:

    pk busiest#<hour>   sk clients   names: a set
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from openai_proxy.dynamodb import to_item
from openai_proxy.refusals import code_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

MOST_CLIENTS = 10
"""In an hour."""
FROM_THROTTLES = 10
"""In an hour, as one sandbox has seen them: a client that is refused a few times is nobody's concern."""
_KEPT = 40 * 86400
_MOST_HOURS = 48


class Busiest:
    """The names in the table."""

    def __init__(self, client: "DynamoDBClient", table: str) -> None:
        self._client = client
        self._table = table
        self._counts: dict[str, Counter[str]] = {}
        self._names: dict[str, frozenset[str]] = {}
        self._full: set[str] = set()

    def among(self, hour: str, counts: Mapping[str, int]) -> frozenset[str]:
        """The names of an hour (as in 2026-11-23T09), after so many more throttles of each client.

        Raises botocore's errors.
        """
        if hour not in self._counts and len(self._counts) >= _MOST_HOURS:
            self._counts.clear()
        seen = self._counts.setdefault(hour, Counter())
        seen.update(counts)
        for client, number in seen.most_common():
            known = self._names.get(hour, frozenset())
            if number < FROM_THROTTLES or hour in self._full:
                break
            if client in counts and client not in known:
                self._add(hour, client)
        return self._names.get(hour, frozenset())

    def _add(self, hour: str, client: str) -> None:
        names = {"#names": "names", "#expires": "expires_at"}
        request: Any = {
            "UpdateExpression": "ADD #names :own SET #expires = if_not_exists(#expires, :expires)",
            "ConditionExpression": "attribute_not_exists(#names) OR size(#names) < :most OR contains(#names, :client)",
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": {
                ":own": {"SS": [client]},
                **to_item({":client": client, ":most": MOST_CLIENTS, ":expires": _expiry(hour)}),
            },
            "ReturnValues": "ALL_NEW",
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            answer = self._client.update_item(
                TableName=self._table, Key=to_item({"pk": f"busiest#{hour}", "sk": "clients"}), **request
            )
            self._names[hour] = _names_of(answer.get("Attributes", {}))
        except ClientError as error:
            if code_of(error.response) != "ConditionalCheckFailedException":
                raise
            response: Any = error.response
            self._names[hour] = _names_of(response.get("Item", {})) or self._names.get(hour, frozenset())
            self._full.add(hour)


def _expiry(hour: str) -> int:
    return int(datetime.fromisoformat(f"{hour}:00:00+00:00").timestamp()) + _KEPT


def _names_of(item: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(item.get("names", {}).get("SS", ()))
