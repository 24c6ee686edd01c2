"""Writing an item that others write too: it replaces only the version that was read."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from openai_proxy.aws_answers import PROOF, proven
from openai_proxy.dynamodb import to_item
from openai_proxy.refusals import code_of

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def put_over(client: "DynamoDBClient", table: str, item: Mapping[str, Any], version: int, key: str) -> bool:
    """Write `item` in place of `version` (0: there was no item). False: somebody else has written since.

    `key` is the table's partition key. Raises NoAnswerError and botocore's errors.
    """
    condition: dict[str, Any] = {"ConditionExpression": f"attribute_not_exists({key})"}
    if version:
        condition = {
            "ConditionExpression": "#version = :version",
            "ExpressionAttributeNames": {"#version": "version"},
            "ExpressionAttributeValues": to_item({":version": version}),
        }
    try:
        answer = client.put_item(TableName=table, Item=to_item(item), **condition, **PROOF)
    except ClientError as error:
        if code_of(error.response) != "ConditionalCheckFailedException":
            raise
        return False
    proven(answer)
    return True
