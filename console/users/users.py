"""Users as the ledger and the key table know them.

Its one rule: a user is blocked while there is an item, whatever it holds; nothing else about a user is stored.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.events.envelope import rfc3339
from openai_proxy.identity import BLOCKED_PREFIX, Identity, blocked_key, is_pseudonym, user_id_of
from openai_proxy.key_limits import is_user_id

from console.errors import ConsoleError
from console.stack import Table

LONGEST_REASON = 256


@dataclass(frozen=True, slots=True)
class Named:
    """A user as a person names one: the id, and what it is made of where that is known."""

    id: str
    end_user: str = ""
    issuer: str = ""


@dataclass(slots=True)
class Spender:
    """What one user has done with one plan in a period."""

    user_id: str
    end_user: str
    client_id: str
    requests: int = 0
    failed: int = 0
    unpriced: int = 0
    cost: Decimal = Decimal(0)
    last: str = ""

    @property
    def known_cost(self) -> Decimal | None:
        """The known part of the cost; None when none is: beside requests without a price a sum of 0 tells nothing."""
        return None if self.unpriced and not self.cost else self.cost


def named(text: str, issuer: str | None, identity: Identity | None) -> Named:
    """The user whom a person calls `text`: an id, or a `sub` or pseudonym of an issuer. Raises ConsoleError."""
    if is_user_id(text) and issuer is None:
        return Named(text)
    issuers = list(identity.issuers) if identity else []
    if issuer is None:
        if len(issuers) != 1:
            which = f"one of {', '.join(issuers)}" if issuers else "the issuer"
            raise ConsoleError(
                f"It is not clear which issuer's user '{text[:64]}' is. Remedy: name {which} with --issuer, or give "
                "the id, which `openai-proxy users list` shows."
            )
        issuer = issuers[0]
    elif issuers and issuer not in issuers:
        raise ConsoleError(f"identity.yaml lists no issuer '{issuer}'. Remedy: name one of {', '.join(issuers)}.")
    if identity and issuer in identity.issuers and identity.issuers[issuer].pseudonyms and not is_pseudonym(text):
        raise ConsoleError(
            f"Users of {issuer} are known by pseudonyms. "
            "Remedy: give one, or the id, as `openai-proxy users list` shows them."
        )
    return Named(user_id_of(issuer, text), text, issuer)


def spenders(entries: Iterable[Mapping[str, Any]]) -> list[Spender]:
    """What users have spent, by user and plan, the dearest first. Entries of client keys are left out."""
    found: dict[tuple[str, str], Spender] = {}
    for entry in entries:
        user_id, client_id = str(entry.get("key_id") or ""), str(entry["client_id"])
        if not is_user_id(user_id):
            continue
        of = found.setdefault((user_id, client_id), Spender(user_id, str(entry.get("end_user") or ""), client_id))
        of.requests += 1
        of.failed += entry["outcome"] == "failed"
        of.unpriced += "cost" not in entry
        of.cost += Decimal(entry.get("cost", 0))
        of.last = max(of.last, str(entry.get("timestamp", "")))
    return sorted(found.values(), key=lambda each: (-each.cost, -each.requests, each.user_id, each.client_id))


class Blocks:
    """The blocked users in the key table. Every method raises botocore's errors."""

    def __init__(self, table: Table) -> None:
        self.table = table

    def all(self) -> dict[str, dict[str, Any]]:
        """Every block, by the user's id."""
        pages = self.table.client.get_paginator("scan").paginate(
            TableName=self.table.name,
            ConsistentRead=True,
            FilterExpression="begins_with(key_hash, :prefix)",
            ExpressionAttributeValues=to_item({":prefix": BLOCKED_PREFIX}),
        )
        items = (from_item(item) for page in pages for item in page["Items"])
        return {item["key_hash"].removeprefix(BLOCKED_PREFIX): item for item in items}

    def find(self, user_id: str) -> dict[str, Any] | None:
        """The user's block, or None."""
        found = self.table.client.get_item(TableName=self.table.name, Key=_key(user_id), ConsistentRead=True)
        return from_item(found["Item"]) if "Item" in found else None

    def add(self, user: Named, reason: str | None, now: float) -> bool:
        """Block a user. Returns whether that is new; a block that is there stays as it is."""
        about = {"end_user": user.end_user, "issuer": user.issuer, "reason": reason}
        item = {
            "key_hash": blocked_key(user.id),
            "blocked_at": rfc3339(now),
            **{name: value for name, value in about.items() if value},
        }
        try:
            self.table.client.put_item(
                TableName=self.table.name, Item=to_item(item), ConditionExpression="attribute_not_exists(key_hash)"
            )
        except self.table.client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def remove(self, user_id: str) -> bool:
        """Let a user in again. Returns whether the user was blocked."""
        gone = self.table.client.delete_item(TableName=self.table.name, Key=_key(user_id), ReturnValues="ALL_OLD")
        return "Attributes" in gone


def _key(user_id: str) -> Any:
    return to_item({"key_hash": blocked_key(user_id)})
