"""Reads the key table: one consistent read by the hash of the key, so that a revoked key is refused at once."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class KeysTable:
    """The table of client keys."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        self._client = client
        self._name = name

    def find(self, key_hash: str) -> Mapping[str, Any] | None:
        """The item with this hash as plain values, or None. Raises botocore's errors."""
        response = self._client.get_item(TableName=self._name, Key={"key_hash": {"S": key_hash}}, ConsistentRead=True)
        read = TypeDeserializer().deserialize
        return {name: read(value) for name, value in response.get("Item", {}).items()} or None
