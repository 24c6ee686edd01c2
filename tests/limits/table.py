"""A limits table in memory: as much of DynamoDB as limits use, with its limits, its refusals, and faults on demand."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from botocore.exceptions import ClientError
from openai_proxy.pricing.rates import EXACT
from proxy.aws.client import NO_ANSWER, AwsError
from proxy.limits.counters import TableAccess

Item = dict[str, Any]
_DIGITS = 38
_LARGEST = Decimal("9.9999999999999999999999999999999999999e125")
_LONGEST_EXPRESSION = 4096
_CLAUSE = re.compile(r"(SET|ADD|REMOVE) (.*?)(?= (?:SET|ADD|REMOVE) |$)")
_COMPARISON = re.compile(r"(size\()?(#[\w.#]+)\)? (=|<>|<=|>=|<) (:\w+)")
_AND = re.compile(r"(?<!BETWEEN :week)(?<!BETWEEN :month) AND (?![^(]* OR )")
_BETWEEN = re.compile(r"(#\w+) BETWEEN (:\w+) AND (:\w+)")
_EXISTENCE = re.compile(r"attribute_(not_)?exists\(([#\w.]+)\)")


def copied(value: Any) -> Any:
    """A copy of maps within maps, for which `copy.deepcopy` takes ten times as long. Nobody changes a number itself."""
    if not isinstance(value, dict):
        return value
    parts: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
    return {name: part if part.__class__ is dict and "N" in part else copied(part) for name, part in parts.items()}


def _no_pause(_seconds: float) -> None:
    """Tests do not wait."""


def access_to(services: Any, clock: Callable[[], float], timeout: float = 60.0) -> TableAccess:
    """How a proxy asks a table like this. `timeout` runs by the real clock: a busy machine is no outage."""
    return TableAccess(services, "limits", clock, timeout, _no_pause)


@dataclass
class LimitsItems:
    """The items, and how calls of them go wrong.

    Each of `faults` is for one update, in their turn: "ok"; "lost": it does not arrive; "late": it is carried out and
    not answered; any other: DynamoDB's own refusal.
    """

    items: dict[str, Item] = field(default_factory=dict[str, Item])
    faults: list[str] = field(default_factory=list[str])
    written: list[str] = field(default_factory=list[str])
    """The key of each update that was carried out or refused by its condition: each is a write unit or more."""
    before: dict[str, Item] = field(default_factory=dict[str, Item])
    """Items as they were before their last update: what DynamoDB may answer who does not ask for a consistent read."""

    # ------------------------------------------------------------------------------------------- as the proxy calls it

    def update_item(self, arguments: Mapping[str, Any], _timeout: float) -> tuple[bool, Item | None]:
        fault = self.faults.pop(0) if self.faults else "ok"
        if fault not in ("ok", "late"):
            raise _error(fault)
        _check_table(arguments)
        held, item = self.update(arguments)
        if fault == "late":
            raise _error(fault)
        asked = arguments.get("ReturnValues") if held else arguments.get("ReturnValuesOnConditionCheckFailure")
        if asked not in (None, "ALL_NEW" if held else "ALL_OLD"):
            raise _error("ValidationException")
        return held, copied(item) if asked else None

    def get_item(self, arguments: Mapping[str, Any], _timeout: float) -> Item:
        fault = self.faults.pop(0) if self.faults else "ok"
        if fault != "ok":
            raise _error(fault)
        _check_table(arguments)
        return self.read(arguments["Key"]["pk"]["S"], arguments.get("ConsistentRead", False))

    def batch_get_item(self, table: str, keys: Sequence[Any], timeout: float) -> list[Item]:
        return [self.get_item({"TableName": table, "Key": key, "ConsistentRead": True}, timeout) for key in keys]

    def transact_updates(self, updates: Sequence[Any], _timeout: float) -> list[Item | None] | None:
        fault = self.faults.pop(0) if self.faults else "ok"
        if fault not in ("ok", "late"):
            raise _error(fault)
        for update in updates:
            _check_table(update)
            _check(update)
        items = [self.items.get(update["Key"]["pk"]["S"], {}) for update in updates]
        held = [_holds(update, item) for update, item in zip(updates, items, strict=True)]
        if all(held):
            for update in updates:
                self.update(update)
        if fault == "late":
            raise _error(fault)
        if all(held):
            return None
        return [None if fits else copied(item) for fits, item in zip(held, items, strict=True)]

    def read(self, name: str, is_consistent: bool) -> Item:
        """An item; the one of before its last update where the reader takes that."""
        known = self.items if is_consistent else self.items | self.before
        return copied(known.get(name, {}))

    # --------------------------------------------------------------------------------------------------------- updates

    def update(self, arguments: Mapping[str, Any]) -> tuple[bool, Item | None]:
        """Whether the condition held, and the item after that; None when there is none."""
        _check(arguments)
        key = arguments["Key"]["pk"]["S"]
        item = self.items.get(key, {})
        self.written.append(key)
        if not _holds(arguments, item):
            return False, item or None
        changed = _changed(arguments, item or {"pk": {"S": key}})
        self.before[key], self.items[key] = item, changed
        return True, changed

    def numbers(self, name: str) -> dict[str, Any]:
        """One item: its numbers and texts as they are, its maps as their names."""
        found: dict[str, Any] = {}
        for attribute, value in self.items.get(name, {}).items():
            kind, inner = next(iter(value.items()))
            found[attribute] = Decimal(inner) if kind == "N" else sorted(inner) if kind == "M" else inner
        return found


class AsBoto3:
    """The same items as boto3 shows them to settle_limits. `faults` are those of transactions."""

    class exceptions:  # noqa: N801 - boto3's name
        class ConditionalCheckFailedException(Exception):  # noqa: N818 - boto3's name
            """As boto3 raises it."""

    def __init__(self, table: LimitsItems) -> None:
        self._table = table
        self.faults: list[str] = []

    def get_item(self, *, TableName: str, Key: Any, ConsistentRead: bool = False, **_: Any) -> Item:  # noqa: N803
        found = self._table.read(Key["pk"]["S"], ConsistentRead)
        return {"ConsumedCapacity": {"TableName": TableName}} | ({"Item": found} if found else {})

    def batch_get_item(self, *, RequestItems: Any, **_: Any) -> Item:  # noqa: N803 - boto3's name
        ((name, asked),) = RequestItems.items()
        found = [self._table.read(key["pk"]["S"], asked["ConsistentRead"]) for key in asked["Keys"]]
        known = [item for item in found if item]
        return {"Responses": {name: known}, "UnprocessedKeys": {}, "ConsumedCapacity": [{"TableName": name}]}

    def scan(self, **_: Any) -> Item:
        return {"Items": list(copied(self._table.items).values())}

    def put_item(self, *, TableName: str, Item: Any, **_: Any) -> Item:  # noqa: N803 - boto3's names
        self._table.items[Item["pk"]["S"]] = Item
        return {"ConsumedCapacity": {"TableName": TableName}}

    def update_item(self, *, TableName: str, **arguments: Any) -> Item:  # noqa: N803 - boto3's names
        held, _ = self._table.update(arguments)
        if not held:
            raise self.exceptions.ConditionalCheckFailedException
        return {"ConsumedCapacity": {"TableName": TableName}}

    def transact_write_items(self, *, TransactItems: list[Any], **_: Any) -> Item:  # noqa: N803 - as above
        fault = self.faults.pop(0) if self.faults else "ok"
        if fault == "lost":
            raise _boto_error("InternalServerError")
        if fault == "silent":
            return {}  # as from something that is no DynamoDB
        reasons: list[Item] = []
        for operation in TransactItems:
            ((kind, arguments),) = operation.items()
            name = arguments["Item"]["pk"]["S"] if kind == "Put" else arguments["Key"]["pk"]["S"]
            item = self._table.items.get(name, {})
            fits = name not in self._table.items if kind == "Put" else _holds(arguments, item)
            reasons.append({"Code": "None"} if fits else {"Code": "ConditionalCheckFailed", "Item": item})
        if any(reason["Code"] != "None" for reason in reasons):
            raise _boto_error("TransactionCanceledException", reasons)
        for operation in TransactItems:
            ((kind, arguments),) = operation.items()
            if kind == "Put":
                self._table.items[arguments["Item"]["pk"]["S"]] = arguments["Item"]
            else:
                self._table.update(arguments)
        if fault == "late":
            raise _boto_error("InternalServerError")
        return {"ConsumedCapacity": [{"TableName": "limits"}]}


def _error(fault: str) -> AwsError:
    if fault in ("lost", "late"):
        return AwsError("dynamodb:UpdateItem", NO_ANSWER)
    return AwsError("dynamodb:UpdateItem", fault, status=503 if fault == "ServiceUnavailable" else 400)


def _boto_error(code: str, reasons: list[Item] | None = None) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": code}, "CancellationReasons": reasons or []}
    return ClientError(response, "TransactWriteItems")


def _check_table(arguments: Mapping[str, Any]) -> None:
    if arguments.get("TableName") != "limits":
        raise AwsError("dynamodb:UpdateItem", "ResourceNotFoundException", status=400)


def _check(arguments: Mapping[str, Any]) -> None:
    """Raise AwsError as DynamoDB does for what it cannot take."""
    expressions = [arguments.get("UpdateExpression", ""), arguments.get("ConditionExpression", "")]
    names, values = arguments.get("ExpressionAttributeNames", {}), arguments.get("ExpressionAttributeValues", {})
    used = {token for text in expressions for token in re.findall(r"[#:]\w+", text)}
    is_odd = used != names.keys() | values.keys() or "" in names.values()
    is_long = max(map(len, expressions)) > _LONGEST_EXPRESSION
    if is_odd or is_long or not all(_is_number(number) for number in _numbers(values)):
        raise AwsError("dynamodb:UpdateItem", "ValidationException", status=400)


def _numbers(value: Any) -> list[str]:
    parts: dict[str, Any] = value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]
    return [each for name, part in parts.items() for each in ([part] if name == "N" else _numbers(part))]


def _is_number(text: str) -> bool:
    number = Decimal(text)
    return len(number.normalize().as_tuple().digits) <= _DIGITS and abs(number) <= _LARGEST


def _find(item: Item, path: str, names: Mapping[str, str]) -> Any:
    value: Any = {"M": item}
    for part in path.split("."):
        value = value.get("M", {}).get(names[part]) if value else None
    return value


def _holds(arguments: Mapping[str, Any], item: Item) -> bool:
    names, values = arguments.get("ExpressionAttributeNames", {}), arguments.get("ExpressionAttributeValues", {})
    conditions = arguments.get("ConditionExpression", "")
    return all(_is_any(each, item, {"pk": "pk", **names}, values) for each in _AND.split(conditions) if each)


def _is_any(condition: str, item: Item, names: Mapping[str, str], values: Mapping[str, Any]) -> bool:
    """One condition, or several in brackets of which one is enough."""
    choices = condition[1:-1].split(" OR ") if condition.startswith("(") else [condition]
    return any(_is_so(each, item, names, values) for each in choices)


def _is_so(condition: str, item: Item, names: Mapping[str, str], values: Mapping[str, Any]) -> bool:
    if found := _EXISTENCE.fullmatch(condition):
        return (_find(item, found[2], names) is None) == bool(found[1])
    if found := _BETWEEN.fullmatch(condition):
        value, least, most = _find(item, found[1], names), values[found[2]], values[found[3]]
        return value is not None and least["S"] <= value["S"] <= most["S"]
    found = _COMPARISON.fullmatch(condition)
    assert found, condition
    left, right = _find(item, found[2], names), values[found[4]]
    if left is None:
        return False
    if found[1]:
        left = {"N": str(len(left["M"]))}
    if "N" not in right:
        return (left == right) == (found[3] == "=")
    ours, theirs = Decimal(left["N"]), Decimal(right["N"])
    return {"=": ours == theirs, "<>": ours != theirs, "<=": ours <= theirs, ">=": ours >= theirs, "<": ours < theirs}[
        found[3]
    ]


def _changed(arguments: Mapping[str, Any], before: Item) -> Item:
    item = copied(before)
    names, values = arguments.get("ExpressionAttributeNames", {}), arguments.get("ExpressionAttributeValues", {})
    for verb, parts in _CLAUSE.findall(arguments["UpdateExpression"].strip()):
        for part in parts.split(", "):
            path, _, value = part.strip().partition(" = " if verb == "SET" else " ")
            *outer, last = path.split(".")
            target = _find(item, ".".join(outer), names) if outer else {"M": item}
            if target is None or "M" not in target:
                if verb == "REMOVE":
                    continue
                raise AwsError("dynamodb:UpdateItem", "ValidationException", status=400)
            if verb == "REMOVE":
                target["M"].pop(names[last], None)
            elif verb == "SET":
                target["M"][names[last]] = copied(values[value])
            else:
                old = Decimal(item.get(names[last], {"N": "0"})["N"])
                total = EXACT.add(old, Decimal(values[value]["N"]))
                if not _is_number(str(total)):
                    raise AwsError("dynamodb:UpdateItem", "ValidationException", status=400)
                item[names[last]] = {"N": f"{total:f}"}
    return item
