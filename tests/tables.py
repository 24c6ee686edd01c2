"""DynamoDB tables in moto, and what consumers of queues answer."""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from moto import mock_aws


@contextmanager
def mocked_table(name: str, key: str) -> Generator[Any]:
    """A DynamoDB client with one empty table whose hash key is the text `key`."""
    with mock_aws():
        client: Any = boto3.client("dynamodb")  # pyright: ignore[reportUnknownMemberType]
        client.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"}],
            KeySchema=[{"AttributeName": key, "KeyType": "HASH"}],
        )
        yield client


def failures(response: Mapping[str, list[dict[str, str]]]) -> list[str]:
    """The messages that a consumer asks for again."""
    return [failure["itemIdentifier"] for failure in response["batchItemFailures"]]
