"""A DynamoDB for one table of the ledger, by its own protocol, in its own process: quick enough for 200,000 events.

Transactions are as DynamoDB's: all of one or nothing; two that touch one item at a time exclude each other; one that
comes again with its token is answered again, and not carried out again. What the ledger and its readers do not ask for
is refused, and what their expressions mean is what the stand-in of the tests says, which a test compares with moto.

One rule: an item is changed in one place, between two awaits.
"""

import asyncio
import hashlib
import json
import sys
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from local.http.server import Exchange, HttpServer
from tests.costs_fake import FakeCostsTable

HELD_SECONDS = 0.004
"""How long a transaction holds its items: AWS says "single-digit milliseconds"."""
MOST_ITEMS = 1000
"""In one page: DynamoDB ends it after 1 MB, and an entry has about a KB."""
_CONFLICT, _DONE, _CONDITION = "TransactionConflict", "None", "ConditionalCheckFailed"
_MAX_BODY_BYTES = 4 * 1024 * 1024
_KEYS = {"pk = :pk", "pk = :pk AND sk < :last"}
Key = tuple[str, str]
Item = dict[str, Any]


class RefusedError(Exception):
    """What DynamoDB does not do, and with which error it says so."""

    def __init__(self, code: str, **more: Any) -> None:
        super().__init__(code)
        self.answer = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": code, **more}


class Store(FakeCostsTable):
    """The table. `hold` passes the time for which a transaction holds its items."""

    def __init__(self, name: str, hold: Callable[[], Any]) -> None:
        super().__init__()
        self._name, self._hold = name, hold
        self._partitions: dict[str, dict[str, Item]] = {}
        self._held: set[Key] = set()
        self._done: dict[str, bytes] = {}
        """The digests of transactions that are done, by their tokens."""
        self.conflicts = 0

    async def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a call. Raises RefusedError."""
        match operation:
            case "TransactWriteItems":
                return await self._write(request)
            case "TransactGetItems":
                gets = [each["Get"] for each in request["TransactItems"]]
                return {"Responses": [self._projected(each) for each in gets], **self._proof(several=True)}
            case "Query":
                return self._page(request)
            case "DescribeTable":
                return {"Table": {"TableName": self._name, "TableStatus": "ACTIVE", "ItemCount": len(self.items)}}
            case _:
                raise RefusedError("UnknownOperationException")

    async def _write(self, request: Mapping[str, Any]) -> dict[str, Any]:
        actions: list[dict[str, Any]] = request["TransactItems"]
        token, digest = request.get("ClientRequestToken", ""), _digest(actions)
        if token in self._done:
            if self._done[token] != digest:
                raise RefusedError("IdempotentParameterMismatchException")
            return self._proof(several=True)
        keys = [_key(each) for action in actions for each in action.values()]
        if not 0 < len(actions) <= 100 or len(set(keys)) != len(keys):
            raise RefusedError("ValidationException")
        if not self._held.isdisjoint(keys):
            self.conflicts += 1
            raise _cancelled([_CONFLICT if key in self._held else _DONE for key in keys])
        self._held |= set(keys)
        try:
            await self._hold()
            self._apply_all(actions)
        finally:
            self._held -= set(keys)
        if token:
            self._done[token] = digest
        return self._proof(several=True)

    def _apply_all(self, actions: Sequence[Mapping[str, Any]]) -> None:
        """Carry out all of them, or none. Raises RefusedError."""
        changed: dict[Key, Item] = {}
        seen: Any = ChainMap(changed, self.items)
        codes = [self._apply(seen, kind, self._own(action)) for each in actions for kind, action in each.items()]
        if any(code != _DONE for code in codes):
            raise _cancelled(codes)
        self.items.update(changed)
        for (pk, sk), item in changed.items():
            self._partitions.setdefault(pk, {})[sk] = item

    def _own(self, action: Mapping[str, Any]) -> dict[str, Any]:
        """The same, for the table as the stand-in of the tests calls it."""
        if action["TableName"] != self._name:
            raise RefusedError("ResourceNotFoundException")
        return {**action, "TableName": "costs"}

    def _projected(self, get: Mapping[str, Any]) -> dict[str, Item]:
        item = self.items.get(_key(self._own(get)))
        return {"Item": _only(item, get)} if item else {}

    def _page(self, request: Mapping[str, Any]) -> dict[str, Any]:
        self._own(request)
        condition, values = request["KeyConditionExpression"], request["ExpressionAttributeValues"]
        if condition not in _KEYS or request.keys() & {"FilterExpression", "IndexName"}:
            raise RefusedError("ValidationException")
        found = self._partitions.get(values[":pk"]["S"], {})
        is_forward = request.get("ScanIndexForward", True)
        after, last = request.get("ExclusiveStartKey", {}).get("sk", {}).get("S"), values.get(":last", {}).get("S")
        keys = sorted((sk for sk in found if last is None or sk < last), reverse=not is_forward)
        if after is not None:
            keys = [sk for sk in keys if (sk > after if is_forward else sk < after)]
        page = keys[: min(request.get("Limit", MOST_ITEMS), MOST_ITEMS)]
        answer: dict[str, Any] = {"Count": len(page), "ScannedCount": len(page), **self._proof(several=False)}
        if request.get("Select") != "COUNT":
            answer["Items"] = [_only(found[sk], request) for sk in page]
        if len(page) < len(keys):
            answer["LastEvaluatedKey"] = {"pk": values[":pk"], "sk": {"S": page[-1]}}
        return answer

    def _proof(self, *, several: bool) -> dict[str, Any]:
        used = {"TableName": self._name, "CapacityUnits": 1.0}
        return {"ConsumedCapacity": [used] if several else used}


def _digest(actions: Sequence[Any]) -> bytes:
    return hashlib.sha256(json.dumps(actions, sort_keys=True).encode()).digest()


def _key(action: Mapping[str, Any]) -> Key:
    key = action["Item"] if "Item" in action else action["Key"]
    return key["pk"]["S"], key["sk"]["S"]


def _only(item: Item, request: Mapping[str, Any]) -> Item:
    """The attributes that are asked for."""
    asked, names = request.get("ProjectionExpression"), request.get("ExpressionAttributeNames", {})
    wanted = None if asked is None else {names.get(each, each) for each in asked.split(", ")}
    return {name: value for name, value in item.items() if wanted is None or name in wanted}


def _cancelled(codes: Sequence[str]) -> RefusedError:
    return RefusedError("TransactionCanceledException", CancellationReasons=[{"Code": code} for code in codes])


async def serve(name: str) -> tuple[HttpServer, str]:
    """Serve a new table on a free port: the server and its address."""
    store = Store(name, lambda: asyncio.sleep(HELD_SECONDS))

    async def answer(exchange: Exchange) -> None:
        operation = (exchange.request.header("x-amz-target") or "").rpartition(".")[2]
        request = json.loads(await exchange.body(_MAX_BODY_BYTES))
        try:
            status, said = 200, await store.call(operation, request)
        except RefusedError as refused:
            status, said = 400, refused.answer
        await exchange.respond(status, [("content-type", "application/x-amz-json-1.0")], json.dumps(said).encode())

    server = HttpServer(answer, lambda fault: ([], fault.encode()))
    return server, f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}"


async def main(name: str) -> None:
    """Serve until the standard input ends; the first line of the output is the address."""
    server, address = await serve(name)
    print(address, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
