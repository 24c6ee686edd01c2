"""The streams that can be read again, as the console uses them: it deletes those of a client, and reads no content.

Its one rule: the state of a stream goes first. Without it nobody can read the stream, and its writer stops within a
second.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.events.streams import STATE

from console.errors import ConsoleError
from console.stack import Table

_MOST_ITEMS = 25
_MOST_OBJECTS = 1000
_MOST_TRIES = 8
_WRITERS_STOP = 3.0
"""Seconds. A writer looks each second whether its stream is still there, and a call takes up to one."""

_Names = Mapping[str, Any]


class StreamStore:
    """The table of streams and the bucket with their large pieces. Methods raise botocore's errors."""

    def __init__(self, table: Table, bucket: tuple[Any, str], sleep: Callable[[float], None] = time.sleep) -> None:
        self._client: Any = table.client
        self._name = table.name
        self._s3, self._bucket = bucket
        self._sleep = sleep

    def erase(self, client_id: str) -> int:
        """Delete all streams that requests of a client have made. Returns how many. Raises ConsoleError."""
        states = list(self._states(client_id))
        for state in states:
            self._delete(state["stream_id"], [{"event": STATE}])
        if any(state["status"] == "in_progress" for state in states):
            self._sleep(_WRITERS_STOP)
        for state in states:
            self._delete(state["stream_id"], list(self._items(state["stream_id"])))
        return len(states)

    def _states(self, client_id: str) -> Iterator[_Names]:
        """The states of a client's streams: there is no index of them, because streams are kept for minutes."""
        return self._pages(
            "scan",
            FilterExpression="client_id = :client AND #event = :state",
            ExpressionAttributeValues=to_item({":client": client_id, ":state": STATE}),
            ProjectionExpression="stream_id, #status",
            ExpressionAttributeNames={"#event": "event", "#status": "status"},
        )

    def _items(self, stream_id: str) -> Iterator[_Names]:
        return self._pages(
            "query",
            KeyConditionExpression="stream_id = :id",
            ExpressionAttributeValues=to_item({":id": stream_id}),
            ProjectionExpression="#event, #object",
            ExpressionAttributeNames={"#event": "event", "#object": "object"},
        )

    def _pages(self, operation: str, **arguments: Any) -> Iterator[_Names]:
        pages = self._client.get_paginator(operation).paginate(TableName=self._name, ConsistentRead=True, **arguments)
        return (from_item(item) for page in pages for item in page["Items"])

    def _delete(self, stream_id: str, items: list[_Names]) -> None:
        """Delete items of a stream, and after them the objects that they name."""
        for begin in range(0, len(items), _MOST_ITEMS):
            keys = [to_item({"stream_id": stream_id, "event": each["event"]}) for each in items[begin:][:_MOST_ITEMS]]
            self._delete_items({self._name: [{"DeleteRequest": {"Key": key}} for key in keys]})
        objects = [{"Key": each["object"]} for each in items if "object" in each]
        for begin in range(0, len(objects), _MOST_OBJECTS):
            wanted = {"Objects": objects[begin:][:_MOST_OBJECTS], "Quiet": True}
            if refused := self._s3.delete_objects(Bucket=self._bucket, Delete=wanted).get("Errors"):
                raise ConsoleError(
                    f"{len(refused)} objects were not deleted ({refused[0]['Code']}). Remedy: delete what lies below "
                    f"streams/{stream_id}/ in the bucket {self._bucket}."
                )

    def _delete_items(self, requests: Any) -> None:
        for number in range(_MOST_TRIES):
            requests = self._client.batch_write_item(RequestItems=requests).get("UnprocessedItems")
            if not requests:
                return
            self._sleep(0.05 * 2**number)
        raise ConsoleError("The table takes no more for now, so not all is deleted. Remedy: run it again in a minute.")
