"""Writes the response cache. One rule: an older answer never replaces a newer one."""

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from store_response.cached_response import CachedResponse

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


class CacheTable:
    """The table of cached answers, one per cache key."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        self._client = client
        self._name = name

    def store(self, response: CachedResponse) -> bool:
        """Write `response`, unless an answer at least as new is there: then False. Raises botocore's errors."""
        try:
            self._client.put_item(
                TableName=self._name,
                Item=response.to_item(),
                ConditionExpression="attribute_not_exists(cache_key) OR event_id < :event_id",
                ExpressionAttributeValues={":event_id": {"S": response.event_id}},
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "ConditionalCheckFailedException":
                return False
            raise
        return True
