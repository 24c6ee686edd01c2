"""The key table as the console uses it.

Its one rule: an item is changed only if it is still as it was when it was read. A revocation alone has no such
condition.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from openai_proxy.client_keys import (
    ATTRIBUTES,
    KEY_ID_LENGTH,
    TEAM_PREFIX,
    hash_client_key,
    is_well_formed,
    key_id_of,
    read_attributes,
)
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.guards.overlay import GUARD_PREFIX
from openai_proxy.identity.user import BLOCKED_PREFIX

from console.errors import ConsoleError
from console.stack import Table
from console.text import harmless

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

State = Literal["enabled", "rotated", "expired", "revoked", "damaged"]

_SHORTEST_ID = 8
_LONGEST_ID = 64
_NO_KEYS = (BLOCKED_PREFIX, TEAM_PREFIX, GUARD_PREFIX)


@dataclass(frozen=True)
class StoredKey:
    """An item of the key table in plain values, whatever it holds."""

    item: Mapping[str, Any]

    @property
    def key_hash(self) -> str:
        """The key of the item."""
        return self.item["key_hash"]

    @property
    def key_id(self) -> str:
        """The name that people and logs use for the key."""
        return key_id_of(self.key_hash)

    @property
    def limits_id(self) -> str:
        """The id under which its usage is counted, together with that of the keys it replaced."""
        return self.values.get("limits_id", self.key_id)

    @property
    def client_id(self) -> str:
        """The client whose key it is; "" when the item is too damaged to say so."""
        return self._text("client_id")

    @property
    def name(self) -> str:
        """What the key is for; "" when the item is too damaged to say so."""
        return self._text("name")

    @property
    def created_at(self) -> str:
        """When it was made, in RFC 3339; "" when that is not known."""
        return self._text("created_at")

    @cached_property
    def values(self) -> dict[str, Any]:
        """The attributes that are fit."""
        return read_attributes(self.item)[0]

    @cached_property
    def problems(self) -> list[str]:
        """Why the authorizer cannot read it; empty when it can."""
        return read_attributes(self.item)[1]

    def state(self, now: float) -> State:
        """Whether the key is good, or why not. One that is rotated is good until it expires."""
        if self.item.get("enabled") is False:
            return "revoked"
        if self.problems:
            return "damaged"
        if self.values.get("expires_at", now + 1) <= now:
            return "expired"
        return "rotated" if "replaced_by" in self.values else "enabled"

    def _text(self, name: str) -> str:
        value = self.item.get(name)
        return value if isinstance(value, str) else ""


class KeyStore:
    """The keys in a table. Every method raises botocore's errors."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._client = table.client

    def all(self) -> Iterator[StoredKey]:
        """All keys. The table holds blocked users, teams and acts of guards too."""
        for page in self._client.get_paginator("scan").paginate(TableName=self.table.name, ConsistentRead=True):
            items = (from_item(item) for item in page["Items"])
            yield from (StoredKey(item) for item in items if not item["key_hash"].startswith(_NO_KEYS))

    def find(self, key_id: str) -> StoredKey:
        """The one key whose id begins with `key_id`; a whole key is understood too. Raises ConsoleError."""
        wanted = hash_client_key(key_id) if is_well_formed(key_id) else key_id
        if not (_SHORTEST_ID <= len(wanted) <= _LONGEST_ID and set(wanted) <= set("0123456789abcdef")):
            raise ConsoleError(
                f"'{harmless(wanted[:_LONGEST_ID])}' is no key id: those have 8 or more of the characters 0-9 and a-f. "
                "Remedy: give one as `openai-proxy keys list` shows it."
            )
        found = [key for key in self.all() if key.key_hash.startswith(wanted)]
        if not found:
            remedy = "`openai-proxy keys list` shows all keys"
            raise ConsoleError(f"There is no key with id {wanted[:KEY_ID_LENGTH]}. Remedy: {remedy}.")
        if len(found) > 1:
            raise ConsoleError(f"{len(found)} keys have ids that begin with {wanted}. Remedy: give more characters.")
        return found[0]

    def add(self, item: Mapping[str, Any]) -> StoredKey:
        """Store a new key."""
        # Without a condition: two keys never have one hash, and a put that is sent again must not fail.
        self._client.put_item(TableName=self.table.name, Item=to_item(item))
        return StoredKey(item)

    def replace(self, before: StoredKey, after: Mapping[str, Any]) -> StoredKey:
        """Make `after` of the item `before`. Raises ConsoleError."""
        try:
            self._client.update_item(**self._update_unless_changed(before, after))
        except self._client.exceptions.ConditionalCheckFailedException:
            raise _changed_meanwhile(before) from None
        return StoredKey(after)

    def add_and_replace(
        self, new: Mapping[str, Any], before: StoredKey, after: Mapping[str, Any]
    ) -> tuple[StoredKey, StoredKey]:
        """Store a new key, and make `after` of the item `before`: both or neither. Raises ConsoleError."""
        try:
            self._client.transact_write_items(
                TransactItems=[
                    {"Put": {"TableName": self.table.name, "Item": to_item(new)}},
                    {"Update": self._update_unless_changed(before, after)},
                ]
            )
        except self._client.exceptions.TransactionCanceledException as error:
            if {"ConditionalCheckFailed", "TransactionConflict"} & _cancellation_reasons(error):
                raise _changed_meanwhile(before) from None
            raise
        return StoredKey(new), StoredKey(after)

    def disable(self, key: StoredKey) -> bool:
        """Disable a key, whatever else has changed. Returns False when it is not there any more."""
        try:
            self._client.update_item(
                TableName=self.table.name,
                Key=to_item({"key_hash": key.key_hash}),
                UpdateExpression="SET enabled = :no",
                ConditionExpression="attribute_exists(key_hash)",
                ExpressionAttributeValues=to_item({":no": False}),
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            return False  # it had expired, and has been deleted
        return True

    def _update_unless_changed(self, before: StoredKey, after: Mapping[str, Any]) -> Any:
        """The update of what differs, on the condition that nothing at all was changed since `before` was read."""
        old, new = to_item(before.item), to_item(after)
        names = list(enumerate(sorted(ATTRIBUTES.keys() | old.keys() | new.keys())))
        changed = [(n, name) for n, name in names if name in new and new[name] != old.get(name)]
        gone = [f"#name{n}" for n, name in names if name in old and name not in new]
        unchanged = [f"#name{n} = :old{n}" if name in old else f"attribute_not_exists(#name{n})" for n, name in names]
        expression = "SET " + ", ".join(f"#name{n} = :new{n}" for n, _ in changed) if changed else ""
        return {
            "TableName": self.table.name,
            "Key": {"key_hash": old["key_hash"]},
            "UpdateExpression": expression + (" REMOVE " + ", ".join(gone) if gone else ""),
            "ConditionExpression": " AND ".join(unchanged),
            "ExpressionAttributeNames": {f"#name{n}": name for n, name in names},
            "ExpressionAttributeValues": {f":old{n}": old[name] for n, name in names if name in old}
            | {f":new{n}": new[name] for n, name in changed},
        }


def _changed_meanwhile(key: StoredKey) -> ConsoleError:
    return ConsoleError(
        f"Nothing was done: key {key.key_id} was changed or deleted at the same time. "
        f"Remedy: see `openai-proxy keys show {key.key_id}`."
    )


def _cancellation_reasons(error: "ClientError") -> set[str]:
    reasons: list[Any] = error.response.get("CancellationReasons", [])  # pyright: ignore[reportAssignmentType]
    return {reason.get("Code", "") for reason in reasons}
