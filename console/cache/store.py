"""The response cache as the console uses it: it reads everything but content, and deletes.

Its one rule: an answer is deleted before the object that holds its body, so that nobody is served half an answer. With
a young answer the lease of who fetched it is deleted too, so that nobody waits for an answer that is gone.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeVar, cast

from openai_proxy.cache.keys import folder_of, item_key, lease_keys_of
from openai_proxy.dynamodb import from_item, to_item

from console.errors import ConsoleError
from console.progress import Bars
from console.stack import Table

if TYPE_CHECKING:
    from openai_proxy.cache.types import CachedItem

INDEX = "by-client"

Part = TypeVar("Part")

_MOST_ITEMS = 25
_MOST_READ = 100
_MOST_OBJECTS = 1000
_MOST_TRIES = 8
_MOST_PASSES = 10
_YOUNG = 60
"""Seconds. Requests wait for an answer for a moment after it was captured; clocks differ, and events may be late."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A cached answer without its content. Times are Unix seconds, sizes bytes.

    `stored_size` is what it takes in the table; it is None where `object` names the S3 object that holds the body.
    """

    cache_key: str
    event_id: str
    client_id: str
    scope: str
    server: str
    path: str
    model: str | None
    stream: bool
    body_size: int
    stored_size: int | None
    object: str | None
    cost: Decimal | None
    created_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """A body on S3. Only an answer in the table says whose it is."""

    key: str
    size: int


class CacheStore:
    """The table and the bucket. Every method raises botocore's errors."""

    def __init__(
        self,
        table: Table,
        bucket: tuple[Any, str],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._table = table
        self._s3, self._bucket = bucket
        self._bars = Bars()
        self._sleep = sleep

    def answers(self) -> list[Answer]:
        """All answers, also those that have expired and are not deleted yet."""
        description: Any = self._table.client.describe_table(TableName=self._table.name)["Table"]
        with self._bars("answers", description.get("ItemCount", 0)) as advance:
            # DynamoDB updates this count every six hours
            return list(self._read("scan", advance))

    def answers_of(self, client_id: str) -> list[Answer]:
        """The answers that requests of one client have made, even if other clients may be served them."""
        condition = {
            "KeyConditionExpression": "client_id = :client",
            "ExpressionAttributeValues": to_item({":client": client_id}),
        }
        return list(self._read("query", lambda _: None, **condition))

    def objects(self, client_id: str | None = None) -> list[StoredObject]:
        """The bodies on S3, of one client or all; also those that no answer points to any more."""
        prefix = folder_of(client_id)
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        return [StoredObject(each["Key"], each["Size"]) for page in pages for each in page.get("Contents", ())]

    def delete(self, answers: Sequence[Answer]) -> None:
        """Delete answers, and what holds their bodies. Raises ConsoleError."""
        youngest = time.time() - _YOUNG
        with self._bars("answers", len(answers)) as advance:
            for some in _parts(answers, _MOST_ITEMS):
                young = [each.cache_key for each in some if each.created_at >= youngest]
                leases = [lease for key in young for lease in lease_keys_of(key)]
                for keys in _parts([each.cache_key for each in some] + leases, _MOST_ITEMS):
                    self._delete_items(keys)
                advance(len(some))
        self.delete_objects([each.object for each in answers if each.object])

    def delete_objects(self, keys: Sequence[str]) -> None:
        """Delete bodies on S3. Raises ConsoleError."""
        with self._bars("objects", len(keys)) as advance:
            for some in _parts(keys, _MOST_OBJECTS):
                wanted = {"Objects": [{"Key": key} for key in some], "Quiet": True}
                refused = self._s3.delete_objects(Bucket=self._bucket, Delete=wanted).get("Errors", ())
                if refused:
                    raise ConsoleError(
                        f"{len(refused)} objects were not deleted ({refused[0]['Code']}). Remedy: run it again."
                    )
                advance(len(some))

    def erase(self, client_id: str | None, namespace: str | None = None) -> tuple[int, int]:
        """Delete all that requests of a client, in a namespace, or both have made. Returns how many answers and objects
        that was.

        Bodies on S3 that no answer names any more are deleted with all of a client. Raises ConsoleError.
        """
        erased: dict[tuple[str, str], Answer] = {}
        others = set[tuple[str, str]]()
        for _ in range(_MOST_PASSES):  # the index is slightly behind the table, and requests go on meanwhile
            answers = self.answers() if client_id is None else self.answers_of(client_id)
            new = {(each.cache_key, each.event_id): each for each in answers}
            new = {identity: each for identity, each in new.items() if identity not in erased.keys() | others}
            found = new if namespace is None else {each: new[each] for each in self._in_namespace(new, namespace)}
            if not found:
                break
            self.delete(list(found.values()))
            erased.update(found)
            others |= new.keys() - found.keys()
        else:
            raise ConsoleError(
                f"The cache is filled faster than it is erased; {len(erased)} answers are gone. Remedy: revoke the "
                "client's keys first, with `openai-proxy keys revoke --client-id`."
            )
        left = self.objects(client_id) if client_id is not None and namespace is None else []
        self.delete_objects([each.key for each in left])
        return len(erased), len({each.object for each in erased.values() if each.object} | {each.key for each in left})

    def _in_namespace(self, answers: Iterable[tuple[str, str]], namespace: str) -> Iterator[tuple[str, str]]:
        """The `answers`, by key and event, that have the namespace in the table: its index has no namespaces."""
        for some in _parts(list(answers), _MOST_READ):
            waiting: Any = {
                self._table.name: {
                    "Keys": [item_key(key) for key, _ in some],
                    "ProjectionExpression": "cache_key, event_id, #namespace",
                    "ExpressionAttributeNames": {"#namespace": "namespace"},
                    "ConsistentRead": True,
                }
            }
            for number in range(_MOST_TRIES):  # one answer of DynamoDB holds at most 16 MB of items
                read: Any = self._table.client.batch_get_item(RequestItems=waiting)
                items = read["Responses"].get(self._table.name, ())
                for item in items:
                    if item.get("namespace") == {"S": namespace}:
                        yield item["cache_key"]["S"], item["event_id"]["S"]
                if not (waiting := read.get("UnprocessedKeys")):
                    break
                self._sleep(0.0 if items else 0.05 * 2**number)
            else:
                raise ConsoleError(
                    "The table allows no more reads for now, so not all is deleted. Remedy: run it again in a minute."
                )

    def _read(self, operation: str, advance: Callable[[int], None], **condition: Any) -> Iterator[Answer]:
        client: Any = self._table.client  # its types name each operation's paginator, but have none for any operation
        for page in client.get_paginator(operation).paginate(TableName=self._table.name, IndexName=INDEX, **condition):
            yield from map(_answer, page["Items"])
            advance(len(page["Items"]))

    def _delete_items(self, keys: Sequence[str]) -> None:
        requests: dict[str, Any] = {self._table.name: [{"DeleteRequest": {"Key": item_key(key)}} for key in keys]}
        for number in range(_MOST_TRIES):
            requests = self._table.client.batch_write_item(RequestItems=requests).get("UnprocessedItems") or {}
            if not requests:
                return
            self._sleep(0.05 * 2**number)
        raise ConsoleError("The table takes no more for now, so not all is deleted. Remedy: run it again in a minute.")


def _parts(all_: Sequence[Part], most: int) -> Iterator[Sequence[Part]]:
    return (all_[begin : begin + most] for begin in range(0, len(all_), most))


def _answer(item: Mapping[str, Any]) -> Answer:
    values = cast("CachedItem", from_item(item))
    return Answer(
        cache_key=values["cache_key"],
        event_id=values["event_id"],
        client_id=values["client_id"],
        scope=values["scope"],
        server=values["server"],
        path=values["path"],
        model=values.get("model"),
        stream=values["stream"],
        body_size=int(values["body_size"]),
        stored_size=int(values["stored_size"]) if "stored_size" in values else None,
        object=values.get("object"),
        cost=Decimal(values["cost"]) if "cost" in values else None,
        created_at=int(values["created_at"]),
        expires_at=int(values["expires_at"]),
    )
