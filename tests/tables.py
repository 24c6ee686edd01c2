"""DynamoDB tables in moto, and what consumers of queues answer and log."""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

import boto3
from moto import mock_aws

ENTRY: Mapping[str, Any] = {
    "client_id": "web",
    "timestamp": "2026-11-23T09:30:39.315Z",
    "outcome": "completed",
    "usage_source": "none",
    "pricing": "none",
    **dict.fromkeys(("input_tokens", "output_tokens", "reasoning_output_tokens"), 0),
    **dict.fromkeys(("cache_read_input_tokens", "cache_creation_input_tokens"), 0),
}
"""What every ledger entry has."""

NAMES: Mapping[str, Any] = {"server": "openai", "model": "gpt-4o-mini"}
"""What every rollup of the ledger has beside its client."""


def make_table(client: Any, name: str, *keys: str) -> None:
    """Make an empty table. Its `keys` are the hash key, and the range key if there is one: texts, `name:N` a number."""
    types = {name: type_ or "S" for name, _, type_ in (key.partition(":") for key in keys)}
    client.create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": each, "AttributeType": type_} for each, type_ in types.items()],
        KeySchema=[
            {"AttributeName": each, "KeyType": kind} for each, kind in zip(types, ("HASH", "RANGE"), strict=False)
        ],
    )


@contextmanager
def mocked_table(name: str, *keys: str) -> Generator[Any]:
    """A DynamoDB client of an emulated account with one empty table."""
    with mock_aws():
        client: Any = boto3.client("dynamodb")  # pyright: ignore[reportUnknownMemberType]
        make_table(client, name, *keys)
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
