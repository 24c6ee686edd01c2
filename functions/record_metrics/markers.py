"""Which events have been counted. One rule: a marker is written after the metrics, so a crash counts twice, never not.

CloudWatch cannot take a value back or tell one it has seen. An item `record_metrics#<ulid>` per event, with a time to
live, is the memory that it lacks.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from openai_proxy.backoff import pause_before_retry
from openai_proxy.dynamodb import from_attribute, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import (
        AttributeValueTypeDef,
        KeysAndAttributesUnionTypeDef,
        WriteRequestTypeDef,
        WriteRequestUnionTypeDef,
    )

MOST_GETS = 100
MOST_WRITES = 25
ATTEMPTS = 5

_PREFIX = "record_metrics#"


class MarkersUnavailableError(Exception):
    """The table did not answer for every event, although asked again. Nothing was counted: the batch must come back."""


class Markers:
    """The table of markers."""

    def __init__(self, client: "DynamoDBClient", table: str, pause: Callable[[int], None] = pause_before_retry) -> None:
        self._client = client
        self._table = table
        self._pause = pause

    def seen(self, ids: Iterable[str]) -> set[str]:
        """Which of the event `ids` have been counted. Raises MarkersUnavailableError."""
        found: set[str] = set()
        for part in _parts(list(ids), MOST_GETS):
            keys = [_key(name) for name in part]
            wanted: KeysAndAttributesUnionTypeDef | None = {"Keys": keys, "ConsistentRead": True}
            for attempt in range(ATTEMPTS):
                self._wait(attempt)
                response = self._client.batch_get_item(RequestItems={self._table: wanted})
                if not {"Responses", "UnprocessedKeys"} <= response.keys():  # nothing of it: all would count twice
                    continue
                items = response.get("Responses", {}).get(self._table, [])
                found |= {str(from_attribute(item["id"])).removeprefix(_PREFIX) for item in items}
                wanted = response.get("UnprocessedKeys", {}).get(self._table)
                if not wanted:
                    break
            else:
                raise MarkersUnavailableError
        return found

    def mark(self, ids: Iterable[str], expires_at: int) -> int:
        """Remember `ids` as counted until `expires_at` (Unix seconds). Returns how many could not be remembered."""
        lost = 0
        for part in _parts(list(ids), MOST_WRITES):
            writes: Sequence[WriteRequestUnionTypeDef] = [_put(name, expires_at) for name in part]
            for attempt in range(ATTEMPTS):
                self._wait(attempt)
                response = self._client.batch_write_item(RequestItems={self._table: writes})
                if "UnprocessedItems" not in response:
                    continue
                writes = response.get("UnprocessedItems", {}).get(self._table, [])
                if not writes:
                    break
            lost += len(writes)
        return lost

    def _wait(self, attempt: int) -> None:
        if attempt:
            self._pause(attempt)


def _key(event_id: str) -> "dict[str, AttributeValueTypeDef]":
    return to_item({"id": f"{_PREFIX}{event_id}"})


def _put(event_id: str, expires_at: int) -> "WriteRequestTypeDef":
    return {"PutRequest": {"Item": {**_key(event_id), **to_item({"expires_at": expires_at})}}}


def _parts(ids: Sequence[str], size: int) -> list[Sequence[str]]:
    return [ids[start : start + size] for start in range(0, len(ids), size)]
