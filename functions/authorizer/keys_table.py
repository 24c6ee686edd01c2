"""Reads the key table: one consistent read by the hash of the key, so that a revoked key is refused at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A client key as stored. `expires_at` is in Unix seconds; `servers` and `models` empty: all are allowed."""

    client_id: str
    name: str
    enabled: bool
    expires_at: int | None
    servers: tuple[str, ...]
    models: tuple[str, ...]

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Self:
        """Read an item in DynamoDB's JSON. Raises KeyError when one of client_id, name and enabled is missing."""
        return cls(
            client_id=item["client_id"]["S"],
            name=item["name"]["S"],
            enabled=item["enabled"]["BOOL"],
            expires_at=int(item["expires_at"]["N"]) if "expires_at" in item else None,
            servers=_names(item.get("servers")),
            models=_names(item.get("models")),
        )


class KeysTable:
    """The table of client keys."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        self._client = client
        self._name = name

    def find(self, key_hash: str) -> ClientKey | None:
        """The key with this hash, or None. Raises botocore's errors."""
        response = self._client.get_item(TableName=self._name, Key={"key_hash": {"S": key_hash}}, ConsistentRead=True)
        item = response.get("Item")
        return ClientKey.from_item(item) if item else None


def _names(attribute: Mapping[str, Any] | None) -> tuple[str, ...]:
    return tuple(name["S"] for name in attribute["L"]) if attribute else ()
