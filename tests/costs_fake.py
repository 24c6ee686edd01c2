"""A DynamoDB table in memory that takes the transactions of the costs table, as DynamoDB takes them, and its queries.

It knows the expressions that the application writes and refuses others; a test compares it with moto.
"""

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from botocore.exceptions import ClientError

Item = dict[str, Any]

_CLAUSE = re.compile(r"(SET|REMOVE|ADD) (.*?)(?= (?:SET|REMOVE|ADD) |$)")
_IN_EACH = {"TableName", "ConditionExpression", "ExpressionAttributeNames", "ExpressionAttributeValues"}
_OWN = {"Put": {"Item"}, "Update": {"Key", "UpdateExpression"}, "ConditionCheck": {"Key"}}
_FUNCTION = re.compile(r"(attribute_exists|attribute_not_exists)\((\S+)\)")


class FakeCostsTable:
    """The part of a DynamoDB client that the costs table needs. `before_write` runs before each transaction."""

    PAGE = 3

    def __init__(self, before_write: Callable[[], None] = lambda: None) -> None:
        self.items: dict[tuple[str, str], Item] = {}
        self.calls = 0
        self._of_token: dict[str, list[dict[str, Any]]] = {}
        self.before_write = before_write

    def transact_write_items(self, **request: Any) -> dict[str, Any]:
        actions: list[dict[str, Any]] = request["TransactItems"]
        self.calls += 1
        self.before_write()
        assert len(actions) <= 100
        if token := request.get("ClientRequestToken"):
            # DynamoDB refuses a token that comes again with another transaction.
            assert self._of_token.setdefault(token, actions) == actions
        written = copy.copy(self.items)
        reasons = [self._apply(written, *next(iter(action.items()))) for action in actions]
        if any(reason != "None" for reason in reasons):
            raise cancelled(*reasons)
        assert len({_key(each) for action in actions for each in action.values()}) == len(actions)
        self.items = written
        return {"ConsumedCapacity": [{"TableName": "costs"}]}

    def get_item(self, **request: Any) -> dict[str, Any]:
        assert request["ConsistentRead"] is True
        found = self.items.get(_key(request))
        return {"ConsumedCapacity": {"TableName": "costs"}} | ({"Item": copy.deepcopy(found)} if found else {})

    def transact_get_items(self, **request: Any) -> dict[str, Any]:
        gets = [each["Get"] for each in request["TransactItems"]]
        assert len(gets) <= 100
        assert all((get["TableName"], get["ProjectionExpression"]) == ("costs", "sk") for get in gets)
        found = [{"Item": {"sk": get["Key"]["sk"]}} if _key(get) in self.items else {} for get in gets]
        return {"Responses": found, "ConsumedCapacity": [{"TableName": "costs"}]}

    def query(self, **request: Any) -> dict[str, Any]:
        """The last item of a hash key before a sort key."""
        asked = (request["KeyConditionExpression"], request["ConsistentRead"], request["ScanIndexForward"])
        assert repr((*asked, request["Limit"])) == repr(("pk = :pk AND sk < :last", True, False, 1))  # no True for 1
        values = request["ExpressionAttributeValues"]
        pk, last = values[":pk"]["S"], values[":last"]["S"]
        keys = sorted(key for key in self.items if key[0] == pk and key[1] < last)[-1:]
        return {"Items": [{"sk": {"S": key[1]}} for key in keys], "ConsumedCapacity": {"TableName": "costs"}}

    def put_into(self, client: Any, table: str) -> None:
        """Put all items into a table of moto, which takes two seconds for what takes this table a moment."""
        items = list(self.items.values())
        for first in range(0, len(items), 25):
            requests = [{"PutRequest": {"Item": item}} for item in items[first : first + 25]]
            assert not client.batch_write_item(RequestItems={table: requests})["UnprocessedItems"]

    def get_paginator(self, operation: str) -> "FakeCostsTable":
        assert operation == "query"
        return self

    def paginate(self, **request: Any) -> Iterator[dict[str, list[Item]]]:
        """Pages of the items with one hash key, as they are when each page is read."""
        assert (request["KeyConditionExpression"], request["ConsistentRead"]) == ("pk = :pk", True)
        pk, last = request["ExpressionAttributeValues"][":pk"]["S"], ""
        while keys := sorted(key for key in self.items if key[0] == pk and key[1] > last):
            yield {"Items": [self.items[key] for key in keys[: self.PAGE]]}
            last = keys[: self.PAGE][-1][1]

    def _apply(self, items: dict[tuple[str, str], Item], kind: str, action: Mapping[str, Any]) -> str:
        assert action["TableName"] == "costs"
        assert action.keys() - _IN_EACH == _OWN[kind]
        key = _key(action)
        current = items.get(key, {})
        names: Mapping[str, str] = action.get("ExpressionAttributeNames", {})
        values: Mapping[str, Any] = action.get("ExpressionAttributeValues", {})
        if not _holds(action.get("ConditionExpression"), current, names, values):
            return "ConditionalCheckFailed"
        if kind == "ConditionCheck":
            return "None"
        items[key] = (
            dict(action["Item"])
            if kind == "Put"
            else _updated(current | action["Key"], action["UpdateExpression"], names, values)
        )
        return "None"


def cancelled(*codes: str) -> ClientError:
    """What DynamoDB answers to a transaction that it does not carry out, for these reasons."""
    reasons = [{"Code": code} for code in codes]
    response: Any = {"Error": {"Code": "TransactionCanceledException"}, "CancellationReasons": reasons}
    return ClientError(response, "TransactWriteItems")


def _key(action: Mapping[str, Any]) -> tuple[str, str]:
    item = action["Item"] if "Item" in action else action["Key"]
    return item["pk"]["S"], item["sk"]["S"]


def _holds(condition: str | None, item: Item, names: Mapping[str, str], values: Mapping[str, Any]) -> bool:
    ways = condition.split(" OR ") if condition else [""]
    return any(all(_part_holds(part, item, names, values) for part in way.split(" AND ") if part) for way in ways)


def _part_holds(part: str, item: Item, names: Mapping[str, str], values: Mapping[str, Any]) -> bool:
    if function := _FUNCTION.fullmatch(part):
        return (names.get(function[2], function[2]) in item) == (function[1] == "attribute_exists")
    name, operator, value = part.split(" ")
    assert operator == "="
    return _same(item.get(names[name]), values[value])


def _same(left: Mapping[str, str] | None, right: Mapping[str, str]) -> bool:
    if left is not None and "N" in left and "N" in right:
        return Decimal(left["N"]) == Decimal(right["N"])
    return left == right


def _updated(item: Item, expression: str, names: Mapping[str, str], values: Mapping[str, Any]) -> Item:
    clauses = dict(_CLAUSE.findall(expression))
    assert " ".join(f"{name} {text}" for name, text in clauses.items()) == expression
    for assignment in clauses.get("SET", "").split(", ") if "SET" in clauses else ():
        name, equals, value = assignment.split(" ")
        assert equals == "="
        item[names[name]] = values[value]
    for name in clauses["REMOVE"].split(", ") if "REMOVE" in clauses else ():
        item.pop(names[name], None)
    for addition in clauses["ADD"].split(", ") if "ADD" in clauses else ():
        name, value = addition.split(" ")
        before = Decimal(item.get(names[name], {"N": "0"})["N"])
        total = before + Decimal(values[value]["N"])
        assert len(total.as_tuple().digits) <= 38
        item[names[name]] = {"N": str(total)}
    return item


def failure(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, "TransactWriteItems")


class Unreliable:
    """A DynamoDB client whose transactions do what the script says, one step a call, and work when it is over.

    A step is an error to raise, "lost" (it is written, but the answer does not arrive), or "ok".
    """

    def __init__(self, client: Any, *script: Exception | str) -> None:
        self._client = client
        self._script = list(script)
        self.calls = 0

    def transact_write_items(self, **request: Any) -> Any:
        self.calls += 1
        step = self._script.pop(0) if self._script else "ok"
        if isinstance(step, Exception):
            raise step
        response = self._client.transact_write_items(**request)
        if step == "lost":
            raise failure("InternalServerError")
        return response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)
