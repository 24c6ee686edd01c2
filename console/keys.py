"""`keys`: client keys are made, listed and revoked. One rule: a key is shown once, where it is made."""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from openai_proxy.client_keys import hash_client_key, is_well_formed, new_client_key
from openai_proxy.events import rfc3339

from console.errors import ConsoleError
from console.stack import Table
from console.text import columns

_CLIENT_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KEY_ID = re.compile(r"[0-9a-f]{8,64}")
_SHOWN_ID_LENGTH = 12
_DAY = 86400


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A client key as stored. `expires_at` is in Unix seconds; empty lists allow everything."""

    key_hash: str
    client_id: str
    name: str
    enabled: bool
    created_at: str
    expires_at: int | None
    servers: list[str]
    models: list[str]

    @property
    def key_id(self) -> str:
        """A name for the key that gives nothing away: the beginning of its hash."""
        return self.key_hash[:_SHOWN_ID_LENGTH]

    def to_item(self) -> dict[str, Any]:
        """The attributes of its item; what is not set is left out."""
        return {name: value for name, value in asdict(self).items() if value not in (None, [])}

    def shown(self) -> dict[str, Any]:
        """What is shown of it."""
        facts = asdict(self)
        del facts["key_hash"]
        return {"key_id": self.key_id, **facts}


def create_key(
    table: Table,
    client_id: str,
    name: str,
    *,
    servers: list[str],
    models: list[str],
    expires_in_days: int | None,
    now: float,
) -> tuple[str, KeyRecord]:
    """Make and store a key. Returns the key itself, for the only time, and its record. Raises ConsoleError."""
    if not _CLIENT_ID.fullmatch(client_id):
        raise ConsoleError(f"'{client_id}' is no client id. Use 1 to 64 letters, digits, '_', '.' and '-'.")
    for listed in servers + models:
        if not listed or "," in listed or listed != listed.strip():
            raise ConsoleError(f"'{listed}' is no name of a server or model. Give each with an option of its own.")
    key = new_client_key()
    record = KeyRecord(
        key_hash=hash_client_key(key),
        client_id=client_id,
        name=name,
        enabled=True,
        created_at=rfc3339(now),
        expires_at=None if expires_in_days is None else int(now) + expires_in_days * _DAY,
        servers=servers,
        models=models,
    )
    serialize = TypeSerializer().serialize
    table.client.put_item(
        TableName=table.name,
        Item={attribute: serialize(value) for attribute, value in record.to_item().items()},
        ConditionExpression="attribute_not_exists(key_hash)",
    )
    return key, record


def list_keys(table: Table) -> list[KeyRecord]:
    """All keys, by client and age."""
    return sorted(_records(table), key=lambda record: (record.client_id, record.created_at, record.key_hash))


def revoke_keys(table: Table, *, key_id: str | None = None, client_id: str | None = None) -> list[KeyRecord]:
    """Disable one key, by its id, or all keys of a client. Returns those that were enabled. Raises ConsoleError.

    The items stay, so that a list shows who had access until when they expire or are deleted.
    """
    if key_id is not None and is_well_formed(key_id):
        key_id = hash_client_key(key_id)
    if key_id is not None and not _KEY_ID.fullmatch(key_id):
        raise ConsoleError("That is no key id. `keys list` shows the ids; 8 or more characters are enough.")
    found = [
        record
        for record in _records(table)
        if (record.client_id == client_id if key_id is None else record.key_hash.startswith(key_id))
    ]
    if not found:
        wanted = f"of client '{client_id}'" if key_id is None else f"with id {key_id[:_SHOWN_ID_LENGTH]}"
        raise ConsoleError(f"There is no key {wanted}. `keys list` shows all keys.")
    if key_id is not None and len(found) > 1:
        raise ConsoleError(f"{len(found)} keys have ids that begin with {key_id}. Give more characters.")
    enabled = [record for record in found if record.enabled]
    for record in enabled:
        table.client.update_item(
            TableName=table.name,
            Key={"key_hash": {"S": record.key_hash}},
            UpdateExpression="SET enabled = :no",
            ConditionExpression="attribute_exists(key_hash)",
            ExpressionAttributeValues={":no": {"BOOL": False}},
        )
    return enabled


def keys_table(records: list[KeyRecord], now: float) -> str:
    """The keys as text."""
    rows = [
        (
            record.key_id,
            record.client_id,
            record.name,
            _state(record, now),
            record.created_at[:10],
            rfc3339(record.expires_at)[:10] if record.expires_at else "never",
            ", ".join(record.servers) or "all",
            ", ".join(record.models) or "all",
        )
        for record in records
    ]
    return columns(("KEY ID", "CLIENT", "NAME", "STATE", "CREATED", "EXPIRES", "SERVERS", "MODELS"), rows)


def _state(record: KeyRecord, now: float) -> str:
    if not record.enabled:
        return "revoked"
    return "expired" if record.expires_at is not None and record.expires_at <= now else "enabled"


def _records(table: Table) -> Iterator[KeyRecord]:
    read = TypeDeserializer().deserialize
    for page in table.client.get_paginator("scan").paginate(TableName=table.name, ConsistentRead=True):
        for raw in page["Items"]:
            item: dict[str, Any] = {name: read(value) for name, value in raw.items()}
            yield KeyRecord(
                key_hash=item["key_hash"],
                client_id=item.get("client_id", "?"),
                name=item.get("name", ""),
                enabled=item.get("enabled") is True,
                created_at=item.get("created_at", ""),
                expires_at=int(item["expires_at"]) if "expires_at" in item else None,
                servers=item.get("servers", []),
                models=item.get("models", []),
            )
