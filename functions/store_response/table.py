"""Writes the response cache. One rule: an older answer never replaces a newer one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class CacheTable:
    """The table of cached answers, one per cache key."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        self._client = client
        self._name = name

    def store(self, item: Mapping[str, Any]) -> bool:
        """Write the item of an answer, unless one at least as new is there: then False. Raises botocore's errors."""
        try:
            self._client.put_item(
                TableName=self._name,
                Item=item,
                ConditionExpression="attribute_not_exists(cache_key) OR event_id < :event_id",
                ExpressionAttributeValues={":event_id": item["event_id"]},
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "ConditionalCheckFailedException":
                return False
            raise
        return True
