"""Prices ledger entries again with another price book, and moves their rollups by the exact differences.

Its one rule: an entry changes only from the price that its difference was made from, in one transaction with its
rollups. So it is safe while requests are recorded, or beside another run of itself; and what was done once is not done
again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from openai_proxy.aws_answers import TRANSIENT
from openai_proxy.backoff import pause_before_retry
from openai_proxy.dynamodb import to_item
from openai_proxy.ledger.entries import Key, add_shares, price_share, rollups_of
from openai_proxy.ledger.entry_cost import PRICE_ATTRIBUTES, price_attributes, prompt_cache_share
from openai_proxy.ledger.table import ATTEMPTS, packs_of
from openai_proxy.pricing.price_book import PriceBook
from openai_proxy.pricing.rates import EXACT
from openai_proxy.refusals import CONDITION, DONE, code_of, reason_codes

from console.errors import ConsoleError
from console.export.items import ledger_items
from console.shards import whole_day
from console.stack import Table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

Item = dict[str, Any]

PASSES = 5
"""How often the entries of a client and day are looked at again, when others changed them meanwhile."""


@dataclass(frozen=True, slots=True)
class Change:
    """An entry as it is, and the price attributes that it should have."""

    entry: Item
    new: Mapping[str, Any]

    @property
    def key(self) -> Key:
        return self.entry["pk"], self.entry["sk"]

    @property
    def old(self) -> dict[str, Any]:
        """The price attributes that the entry has."""
        return {name: self.entry[name] for name in PRICE_ATTRIBUTES if name in self.entry}

    @property
    def revision(self) -> int:
        """How often the entry has been priced again, this time included."""
        return int(self.entry.get("revision", 0)) + 1

    @property
    def corrected(self) -> Item:
        """The entry as it should be."""
        kept = {name: value for name, value in self.entry.items() if name not in PRICE_ATTRIBUTES}
        return {**kept, **self.new, "revision": self.revision}

    @property
    def share(self) -> dict[str, int | Decimal]:
        """What the rollups gain by it."""
        before, after = (price_share(each) | prompt_cache_share(each) for each in (self.entry, self.corrected))
        return {name: EXACT.subtract(after.get(name, 0), before.get(name, 0)) for name in before | after}


def change_of(entry: Item, prices: PriceBook) -> Change | None:
    """How an entry changes with this book; None when the price stays the same, whatever the book's version."""
    change = Change(entry, price_attributes(entry["sk"], entry, prices))
    same = change.old | {"price_version": ""} == {**change.new, "price_version": ""}
    return None if same else change


class Ledger:
    """The costs table, to be read and to be priced again."""

    def __init__(self, table: Table, pause: Callable[[int], None] = pause_before_retry) -> None:
        self._table = table
        self._pause = pause

    def clients_on(self, day: date) -> list[str]:
        """The clients that have entries on a day (UTC)."""
        return sorted({rollup["client_id"] for rollup in self._query(f"day#{day}")})

    def entries(self, client_id: str, day: date) -> Iterator[Item]:
        """The entries of a client on a day, oldest first, as they are now."""
        return whole_day(self._query, f"client#{client_id}#{day}")

    def apply(self, changes: Iterable[Change]) -> list[Change]:
        """Carry out changes. Returns those whose entries have changed since they were read, and stay as they are."""
        moved: list[Change] = []
        for transaction in in_transactions(changes):
            moved += self._write(transaction)
        return moved

    def _query(self, pk: str, page: int | None = None) -> Iterator[Item]:
        request: dict[str, Any] = {"PaginationConfig": {"PageSize": page}} if page else {}
        pages = self._table.client.get_paginator("query").paginate(
            TableName=self._table.name,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues=to_item({":pk": pk}),
            ConsistentRead=True,
            **request,
        )
        return ledger_items(pages, pk)

    def _write(self, changes: Sequence[Change]) -> list[Change]:
        moved: list[Change] = []
        attempt = 0
        while changes:
            transaction = build_transaction(self._table.name, changes)
            try:
                self._table.client.transact_write_items(TransactItems=transaction)
            except ClientError as error:
                gone = _moved(error, changes)
                moved += gone
                changes = [change for change in changes if change not in gone]
                attempt += not gone
                if attempt == ATTEMPTS:
                    raise
                if not gone:
                    self._pause(attempt)
            else:
                break
        return moved


def in_transactions(changes: Iterable[Change]) -> Iterator[list[Change]]:
    """Pack changes so that each pack, with the rollups that it moves, fits into one transaction."""
    return packs_of(changes, lambda change: rollups_of(change.entry))


def build_transaction(table: str, changes: Sequence[Change]) -> "list[TransactWriteItemTypeDef]":
    """The items of one transaction: first the entries, in their order, then the rollups that something changes for."""
    shares: dict[Key, list[Change]] = {}
    for change in changes:
        for rollup in rollups_of(change.entry):
            shares.setdefault(rollup.key, []).append(change)
    items = [_replace(table, change) for change in changes]
    for key, parts in shares.items():
        sums = {name: value for name, value in add_shares(part.share for part in parts).items() if value}
        if sums:
            items.append(_add(table, key, sums))
    return items


def _replace(table: str, change: Change) -> "TransactWriteItemTypeDef":
    new = {**change.new, "revision": change.revision}
    gone = [name for name in change.old if name not in new]
    removing = f" REMOVE {', '.join(f'#{name}' for name in gone)}" if gone else ""
    compared = ("pricing", "price_version", "cost", "revision")
    known = {name: change.entry[name] for name in compared if name in change.entry}
    conditions = [f"#{name} = :old_{name}" if name in known else f"attribute_not_exists(#{name})" for name in compared]
    values = {f":{name}": value for name, value in new.items()}
    return {
        "Update": {
            "TableName": table,
            "Key": _key(change.key),
            "UpdateExpression": f"SET {', '.join(f'#{name} = :{name}' for name in new)}{removing}",
            "ConditionExpression": " AND ".join(conditions),
            "ExpressionAttributeNames": {f"#{name}": name for name in {*new, *gone, *compared}},
            "ExpressionAttributeValues": to_item(values | {f":old_{name}": value for name, value in known.items()}),
        }
    }


def _add(table: str, key: Key, sums: Mapping[str, int | Decimal]) -> "TransactWriteItemTypeDef":
    return {
        "Update": {
            "TableName": table,
            "Key": _key(key),
            "UpdateExpression": f"ADD {', '.join(f'#{name} :{name}' for name in sums)}",
            "ConditionExpression": "attribute_exists(pk)",
            "ExpressionAttributeNames": {f"#{name}": name for name in sums},
            "ExpressionAttributeValues": to_item({f":{name}": value for name, value in sums.items()}),
        }
    }


def _key(key: Key) -> dict[str, Any]:
    return to_item({"pk": key[0], "sk": key[1]})


def _moved(error: ClientError, changes: Sequence[Change]) -> list[Change]:
    """The changes whose entries have changed since they were read; with none of them the caller tries again. Raises
    any other error.
    """
    codes = reason_codes(error.response)
    if not codes and code_of(error.response) in TRANSIENT:
        return []
    if not codes or set(codes) - TRANSIENT - {CONDITION, DONE}:
        raise error
    if CONDITION in codes[len(changes) :]:
        days = ", ".join(sorted({rollup.key[0] for change in changes for rollup in rollups_of(change.entry)}))
        problem = f"The entries of {changes[0].key[0]} are there, but not all of their rollups ({days})"
        raise ConsoleError(f"{problem}. Remedy: restore the rollups from a backup, then run it again.") from error
    return [change for change, code in zip(changes, codes, strict=False) if code == CONDITION]
