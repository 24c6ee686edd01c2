"""DynamoDB and S3 as streams see them, in memory and shared by threads, for tests."""

import json
import threading
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

from proxy.aws.client import NO_ANSWER, AwsError

BUSY = AwsError("dynamodb", "ThrottlingException", status=400)
LOST = AwsError("dynamodb", NO_ANSWER)


class FakeStreamsTable:
    """As much of `Aws` as streams use. It knows the conditions of streams and refuses others.

    `faults` says of each call in turn what becomes of it: None, an error, or LOST for what is done.
    """

    def __init__(self) -> None:
        self.items: dict[tuple[str, int], dict[str, Any]] = {}
        self.calls: list[str] = []
        self.messages: list[tuple[str, str, int]] = []
        self.faults: Iterator[AwsError | None] = repeat(None)
        self.on_call: Callable[[str], None] = lambda _: None
        self._lock = threading.RLock()

    def _begin(self, call: str) -> AwsError | None:
        self.on_call(call)
        self.calls.append(call)
        fault = next(self.faults, None)
        if fault is not None and (fault is not LOST or not call.startswith(("put", "update"))):
            raise fault
        return fault

    def put_item(self, arguments: dict[str, Any], _timeout: float) -> tuple[bool, None]:
        item = json.loads(json.dumps(arguments["Item"]))
        key = item["stream_id"]["S"], int(item["event"]["N"])
        with self._lock:
            fault = self._begin("put state" if "status" in item else "put piece")
            known, condition = self.items.get(key), arguments.get("ConditionExpression")
            new, running = "attribute_not_exists(stream_id)", "#status = :running"
            parts: list[str] = condition.split(" OR ") if condition else []
            assert set(parts) <= {new, running}
            is_running = (known or {}).get("status") == {"S": "in_progress"}
            if parts and not ((known is None and new in parts) or (is_running and running in parts)):
                return False, None
            self.items[key] = item
        if fault:
            raise fault
        return True, None

    def update_item(self, arguments: dict[str, Any], _timeout: float) -> tuple[bool, dict[str, Any] | None]:
        key, values = _key_of(arguments["Key"]), arguments["ExpressionAttributeValues"]
        condition = arguments["ConditionExpression"]
        names, update = arguments["ExpressionAttributeNames"], arguments["UpdateExpression"]
        with self._lock:
            fault = self._begin("update")
            item = self.items.get(key, {})
            if not all(self._holds(part, item, names, values) for part in condition.split(" AND ")):
                return False, None
            assert update.startswith("SET ")
            changes = (part.split(" = ") for part in update.removeprefix("SET ").split(", "))
            item = item | {names[name]: values[value] for name, value in changes}
            self.items[key] = item
        if fault:
            raise fault
        return True, item

    @staticmethod
    def _holds(part: str, item: dict[str, Any], names: dict[str, str], values: dict[str, Any]) -> bool:
        name, sign, value = part.split(" ")
        known, asked = item.get(names.get(name, name)), values[value]
        if sign == "<":
            return known is not None and int(known["N"]) < int(asked["N"])
        if sign == ">":
            return known is not None and known["S"] > asked["S"]
        assert sign == "="
        return known == asked

    def send_message(self, queue: str, body: str, delay: int, _timeout: float) -> None:
        self._begin("send")
        self.messages.append((queue, body, delay))

    def get_item(self, arguments: dict[str, Any], _timeout: float) -> dict[str, Any]:
        with self._lock:
            self._begin("get")
            return dict(self.items.get(_key_of(arguments["Key"]), {}))

    def query(self, arguments: dict[str, Any], _timeout: float) -> list[dict[str, Any]]:
        """One page: two items at the most, so that every reader has to go on to another."""
        assert arguments["KeyConditionExpression"] == "stream_id = :id AND #event BETWEEN :first AND :last"
        values = arguments["ExpressionAttributeValues"]
        stream, first, last = values[":id"]["S"], int(values[":first"]["N"]), int(values[":last"]["N"])
        with self._lock:
            self._begin("query")
            found = sorted(key for key in self.items if key[0] == stream and first <= key[1] <= last)
            if not arguments.get("ScanIndexForward", True):
                found.reverse()
            return [dict(self.items[key]) for key in found[: arguments.get("Limit", 2)]]


class FakeObjects:
    """A bucket."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put(self, key: str, body: bytes, timeout: float) -> None:
        self.objects[key] = body

    def get(self, key: str, timeout: float, largest: int) -> bytes:
        assert len(self.objects[key]) <= largest
        return self.objects[key]


def _key_of(key: dict[str, Any]) -> tuple[str, int]:
    return key["stream_id"]["S"], int(key["event"]["N"])
