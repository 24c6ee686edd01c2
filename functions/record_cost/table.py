"""Writes ledger entries and rollups. One rule: an entry and its share of its rollups are written together or not.

A transaction puts N entries, each only if it is not there yet, and adds their sums to M rollups. If entries are there
already the transaction is cancelled and says which: those are duplicates, are dropped, and the rest is tried again. So
an event counts once, however often and in whatever order it comes.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from botocore.exceptions import ClientError

from record_cost.ledger import Key, LedgerEntry, Rollup, add_shares

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

MOST_ITEMS = 100
"""DynamoDB's limit for one transaction."""

ATTEMPTS = 6

DUPLICATE = "duplicate"

Unwritten = dict[Key, str]
"""Entries that are not in the table, and why."""

TRANSIENT = {
    "TransactionConflict",
    "TransactionConflictException",
    "TransactionInProgressException",
    "ThrottlingError",
    "ThrottlingException",
    "ProvisionedThroughputExceeded",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "InternalServerError",
    "ServiceUnavailable",
}


def pause_before_retry(attempt: int) -> None:
    """Sleep up to 0.1, 0.2, 0.4 … 1 s: concurrent writers of one rollup must not meet again."""
    time.sleep(random.uniform(0, min(1.0, 0.1 * 2**attempt)))  # noqa: S311 - spreads retries, guards nothing


class CostsTable:
    """The table of ledger entries and rollups."""

    def __init__(self, client: "DynamoDBClient", name: str, pause: Callable[[int], None] = pause_before_retry) -> None:
        self._client = client
        self._name = name
        self._pause = pause

    def record(self, entries: Iterable[LedgerEntry]) -> Unwritten:
        """Write entries that are not there yet. Returns those that could not be written: to be tried again later."""
        distinct = {entry.key: entry for entry in entries}
        unwritten: Unwritten = {}
        for transaction in in_transactions(distinct.values()):
            unwritten |= self._write(transaction)
        return unwritten

    def _write(self, entries: Sequence[LedgerEntry]) -> Unwritten:
        unwritten: Unwritten = {}
        last_error = ""
        attempt = 0
        while entries and attempt < ATTEMPTS:
            try:
                self._client.transact_write_items(TransactItems=build_transaction(self._name, entries))
            except ClientError as error:
                if error_code(error) == "ValidationException" and len(entries) > 1:
                    # One entry has a fault and nobody says which: halve, so that the others get through.
                    middle = len(entries) // 2
                    return unwritten | self._write(entries[:middle]) | self._write(entries[middle:])
                settled = _settled(error, entries)
                last_error = str(error)
            else:
                return unwritten
            unwritten |= {key: reason for key, reason in settled.items() if reason != DUPLICATE}
            entries = [entry for entry in entries if entry.key not in settled]
            if not settled:
                attempt += 1
                if attempt < ATTEMPTS:
                    self._pause(attempt)
        return unwritten | {entry.key: last_error for entry in entries}


def in_transactions(entries: Iterable[LedgerEntry]) -> Iterator[list[LedgerEntry]]:
    """Pack entries so that each pack, with the rollups it adds to, fits into one transaction.

    At worst an entry has two rollups of its own: then 33 fit.
    """
    pack: list[LedgerEntry] = []
    rollups: set[Key] = set()
    for entry in entries:
        own = {rollup.key for rollup in entry.rollups}
        if len(pack) + 1 + len(rollups | own) > MOST_ITEMS:
            yield pack
            pack, rollups = [], set()
        pack.append(entry)
        rollups |= own
    if pack:
        yield pack


def build_transaction(table: str, entries: Sequence[LedgerEntry]) -> "list[TransactWriteItemTypeDef]":
    """The items of one transaction: first the entries, in their order, then the rollups."""
    adding: dict[Key, tuple[Rollup, list[LedgerEntry]]] = {}
    for entry in entries:
        for rollup in entry.rollups:
            adding.setdefault(rollup.key, (rollup, []))[1].append(entry)
    puts = [_put(table, entry) for entry in entries]
    return puts + [_add(table, rollup, parts) for rollup, parts in adding.values()]


def _put(table: str, entry: LedgerEntry) -> "TransactWriteItemTypeDef":
    pk, sk = entry.key
    return {
        "Put": {
            "TableName": table,
            "Item": to_item(entry.attributes | {"pk": pk, "sk": sk}),
            "ConditionExpression": "attribute_not_exists(pk)",
        }
    }


def _add(table: str, rollup: Rollup, entries: Sequence[LedgerEntry]) -> "TransactWriteItemTypeDef":
    pk, sk = rollup.key
    sums = add_shares(entry.share for entry in entries)
    values = {f":{name}": value for name, value in {**rollup.names, **sums}.items()}
    expression, placeholders = _addition(tuple(rollup.names), tuple(sums))
    return {
        "Update": {
            "TableName": table,
            "Key": to_item({"pk": pk, "sk": sk}),
            "UpdateExpression": expression,
            "ExpressionAttributeNames": placeholders,
            "ExpressionAttributeValues": to_item(values),
        }
    }


@lru_cache(maxsize=16)
def _addition(names: tuple[str, ...], sums: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    setting = ", ".join(f"#{name} = :{name}" for name in names)
    adding = ", ".join(f"#{name} :{name}" for name in sums)
    return f"SET {setting} ADD {adding}", {f"#{name}": name for name in names + sums}


def to_item(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes in DynamoDB's form: text, bool, int, Decimal, and lists and maps of them."""
    return {name: _serialized(value) for name, value in attributes.items()}


def _serialized(value: Any) -> dict[str, Any]:
    match value:
        case str():
            return {"S": value}
        case bool():
            return {"BOOL": value}
        case int() | Decimal():
            return {"N": str(value)}
        case list():
            return {"L": [_serialized(item) for item in cast("list[Any]", value)]}
        case _:
            return {"M": to_item(value)}


def _settled(error: ClientError, entries: Sequence[LedgerEntry]) -> dict[Key, str]:
    """The entries that are settled after `error`, and why: DUPLICATE, or what the table has against them.

    Empty when nothing is wrong with any of them: try again. Raises `error` when it is about access or a missing table.
    """
    reasons = cast("list[dict[str, str]]", error.response.get("CancellationReasons", []))
    codes = [reason.get("Code", "None") for reason in reasons]
    if not codes:
        if error_code(error) in TRANSIENT:
            return {}
        if error_code(error) == "ValidationException":
            return {entry.key: str(error) for entry in entries}
        raise error
    rollup_keys = dict.fromkeys(rollup.key for entry in entries for rollup in entry.rollups)
    rollup_codes = dict(zip(rollup_keys, codes[len(entries) :], strict=False))
    settled: dict[Key, str] = {}
    for entry, code in zip(entries, codes, strict=False):
        of_rollups = {rollup_codes.get(rollup.key, "None") for rollup in entry.rollups}
        if code == "ConditionalCheckFailed":
            settled[entry.key] = DUPLICATE
        elif refusals := {code, *of_rollups} - TRANSIENT - {"None"}:
            settled[entry.key] = ", ".join(sorted(refusals))
    return settled


def error_code(error: ClientError) -> str:
    """What DynamoDB calls `error`."""
    return error.response.get("Error", {}).get("Code", "")
