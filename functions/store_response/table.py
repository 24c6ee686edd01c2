"""Writes the response cache. One rule: an older answer never replaces a newer one.

An item without an event's id, or with one from the future, is no answer that this function wrote: it is replaced.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from openai_proxy.aws_answers import PROOF, proven
from openai_proxy.cache.answers import CLOCKS_APART
from openai_proxy.dynamodb import to_item
from openai_proxy.events.ulid import first_ulid_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_HAS_NO_ID = "attribute_not_exists(event_id) OR NOT attribute_type(event_id, :text)"
_MAY_BE_REPLACED = f"{_HAS_NO_ID} OR event_id < :event_id OR event_id > :latest"


class CacheTable:
    """The table of cached answers, one per cache key."""

    def __init__(self, client: "DynamoDBClient", name: str, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._name = name
        self._clock = clock

    def store(self, item: Mapping[str, Any]) -> bool:
        """Write the item of an answer. False: one at least as new is there already.

        Raises NoAnswerError and botocore's errors.
        """
        try:
            answer = self._client.put_item(
                TableName=self._name,
                Item=item,
                ConditionExpression=_MAY_BE_REPLACED,
                ExpressionAttributeValues={
                    ":event_id": item["event_id"],
                    **to_item({":latest": first_ulid_of(self._clock() + CLOCKS_APART), ":text": "S"}),
                },
                **PROOF,
            )
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "ConditionalCheckFailedException":
                return False
            raise
        proven(answer)
        return True
