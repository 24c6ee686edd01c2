"""Reads the key table: one consistent read by the hash of the key, so that a revoked key is refused at once.

One rule: only DynamoDB itself can say that a key does not exist. An SDK takes an empty answer, `{}` or an HTML page for
an answer without an item, and then a good key would look revoked.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from openai_proxy.aws_answers import PROOF, NoAnswerError, is_proven
from openai_proxy.dynamodb import from_item, to_item

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class KeysTable:
    """The table of client keys."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        self._client = client
        self._name = name

    def find(self, key_hash: str) -> Mapping[str, Any] | None:
        """The item with this hash as plain values, or None. Raises NoAnswerError and botocore's errors."""
        response = self._client.get_item(
            TableName=self._name, Key=to_item({"key_hash": key_hash}), ConsistentRead=True, **PROOF
        )
        if not is_proven(response):
            raise NoAnswerError("dynamodb:GetItem")
        if "Item" not in response:
            return None
        item = from_item(response["Item"])
        if item.get("key_hash") != key_hash:
            raise NoAnswerError("dynamodb:GetItem: an item that was not asked for")
        return item
