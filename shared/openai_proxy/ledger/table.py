"""Writes ledger entries and rollups. One rule: an entry and its share of its rollups are written together or not.

A transaction puts N entries, each only if it is not there yet, and adds their sums to M rollups. If entries are there
already the transaction is cancelled and says which: those are duplicates, are dropped, and the rest is tried again. So
an event counts once, however often and in whatever order it comes. What was made before and is fetched again and again
counts once too, whoever fetches it: its entries claim it in the same transaction, or are not written.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from botocore.exceptions import ClientError

from openai_proxy.aws_answers import PROOF, TRANSIENT, is_proven, is_transient
from openai_proxy.backoff import pause_before_retry
from openai_proxy.dynamodb import to_item
from openai_proxy.ledger.entries import Key, LedgerEntry, Rollup, add_shares
from openai_proxy.refusals import CONDITION, DONE, code_of, reason_codes, status_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

MOST_ITEMS = 100
"""DynamoDB's limit for one transaction."""

ATTEMPTS = 6

DUPLICATE = "duplicate"
CLAIMED = "claimed"

Write = TypeVar("Write")

Refused = dict[Key, str]
"""Entries that were not written now, and why: DUPLICATE when they are in the table already, CLAIMED when another entry
says what they say."""


class CostsTable:
    """The table of ledger entries and rollups."""

    def __init__(self, client: "DynamoDBClient", name: str, pause: Callable[[int], None] = pause_before_retry) -> None:
        self._client = client
        self._name = name
        self._pause = pause

    def record(self, entries: Iterable[LedgerEntry]) -> Refused:
        """Write entries that are not there yet. Returns duplicates, and those that have to be tried again later."""
        distinct = {entry.key: entry for entry in entries}
        refused: Refused = {}
        for transaction in in_transactions(entry for entry in distinct.values() if not entry.claims):
            refused |= self._write(transaction)
        for claiming in _by_claims(distinct.values()):
            refused |= self._write(claiming)
        return refused

    def _write(self, entries: Sequence[LedgerEntry]) -> Refused:
        refused: Refused = {}
        last_error = ""
        attempt = 0
        token = str(uuid.uuid4())
        while entries and attempt < ATTEMPTS:
            items = build_transaction(self._name, entries)
            try:
                # With the token of before, what was written and not confirmed is a success, and no duplicate.
                answer = self._client.transact_write_items(TransactItems=items, ClientRequestToken=token, **PROOF)
            except ClientError as error:
                if code_of(error.response) == "ValidationException" and len(entries) > 1 and not entries[0].claims:
                    # One entry has a fault and nobody says which: halve, so that the others get through.
                    middle = len(entries) // 2
                    return refused | self._write(entries[:middle]) | self._write(entries[middle:])
                settled = _settled(error, entries)
                last_error = str(error)
            else:
                if is_proven(answer, several=True):
                    return refused
                settled, last_error = {}, "DynamoDB did not say that it has written"
            refused |= settled
            entries = [entry for entry in entries if entry.key not in settled]
            if settled:
                token = str(uuid.uuid4())
            else:
                attempt += 1
                if attempt < ATTEMPTS:
                    self._pause(attempt)
        return refused | {entry.key: last_error for entry in entries}


def in_transactions(entries: Iterable[LedgerEntry]) -> Iterator[list[LedgerEntry]]:
    """Pack entries so that each pack, with the rollups it adds to, fits into one transaction.

    At worst an entry has two rollups of its own: then 33 fit.
    """
    return packs_of(entries, lambda entry: entry.rollups)


def packs_of(writes: Iterable[Write], rollups_of: Callable[[Write], Iterable[Rollup]]) -> Iterator[list[Write]]:
    """Pack what is written to one item each, so that a pack and all its rollups fit into one transaction."""
    pack: list[Write] = []
    rollups: set[Key] = set()
    for write in writes:
        own = {rollup.key for rollup in rollups_of(write)}
        if len(pack) + 1 + len(rollups | own) > MOST_ITEMS:
            yield pack
            pack, rollups = [], set()
        pack.append(write)
        rollups |= own
    if pack:
        yield pack


def _by_claims(entries: Iterable[LedgerEntry]) -> Iterable[list[LedgerEntry]]:
    """Those that claim anything: together those of one event, as the models of a batch are."""
    found: dict[str, list[LedgerEntry]] = {}
    for entry in entries:
        if entry.claims:
            found.setdefault(entry.event_id, []).append(entry)
    return found.values()


def build_transaction(table: str, entries: Sequence[LedgerEntry]) -> "list[TransactWriteItemTypeDef]":
    """The items of one transaction: first the entries, in their order, then what they claim, then the rollups."""
    adding: dict[Key, tuple[Rollup, list[LedgerEntry]]] = {}
    for entry in entries:
        for rollup in entry.rollups:
            adding.setdefault(rollup.key, (rollup, []))[1].append(entry)
    puts = [_put(table, entry) for entry in entries]
    puts += [_claim(table, key, entries) for key in entries[0].claims]
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


def _claim(table: str, key: Key, entries: Sequence[LedgerEntry]) -> "TransactWriteItemTypeDef":
    """Claim what entries are of; if none knows what was used, they only look whether another one does."""
    item, condition = to_item({"pk": key[0], "sk": key[1]}), "attribute_not_exists(pk)"
    if not any(entry.is_counted for entry in entries):
        return {"ConditionCheck": {"TableName": table, "Key": item, "ConditionExpression": condition}}
    whose = to_item({"entry": entries[0].key[1], "expires_at": entries[0].attributes["expires_at"]})
    return {
        "Put": {
            "TableName": table,
            "Item": item | whose,
            "ConditionExpression": f"{condition} OR #entry = :entry",  # its own entry may have been lost, and replayed
            "ExpressionAttributeNames": {"#entry": "entry"},
            "ExpressionAttributeValues": {":entry": whose["entry"]},
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


def _settled(error: ClientError, entries: Sequence[LedgerEntry]) -> dict[Key, str]:
    """The entries that are settled after `error`, and why: DUPLICATE, or what the table has against them.

    Empty when nothing is wrong with any of them: try again. Raises `error` when it is about access or a missing table.
    """
    codes, code = reason_codes(error.response), code_of(error.response)
    if not codes:
        if is_transient(code, status_of(error.response)):
            return {}
        if code == "ValidationException":
            return {entry.key: str(error) for entry in entries}
        raise error
    rollup_keys = dict.fromkeys(rollup.key for entry in entries for rollup in entry.rollups)
    claims = codes[len(entries) :][: len(entries[0].claims)]
    rollup_codes = dict(zip(rollup_keys, codes[len(entries) + len(claims) :], strict=False))
    settled: dict[Key, str] = {}
    if CONDITION in claims:
        own = zip(entries, codes, strict=False)
        return {entry.key: DUPLICATE if code == CONDITION else CLAIMED for entry, code in own}
    for entry, code in zip(entries, codes, strict=False):
        of_rollups = {rollup_codes.get(rollup.key, DONE) for rollup in entry.rollups}
        if code == CONDITION:
            settled[entry.key] = DUPLICATE
        elif refusals := {code, *of_rollups} - TRANSIENT - {DONE}:
            settled[entry.key] = ", ".join(sorted(refusals))
    return settled
