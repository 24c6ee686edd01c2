"""DynamoDB tables in moto, and what consumers of queues answer and log."""

from collections.abc import Callable, Generator, Mapping
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


class Log:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def __getattr__(self, level: str) -> Callable[..., None]:
        def said(message: str, **fields: Any) -> None:
            self.lines.append({"level": level, "message": message, **fields})

        return said
