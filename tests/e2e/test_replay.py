"""The bus's archive on the local stack: what the ledger lost comes back, and what it has stays as it is."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from boto3.dynamodb.conditions import Attr

from tests.e2e.command import openai_proxy
from tests.e2e.harness import Client, LocalStack, wait_for

ASKED = 5


@pytest.fixture
def archive(stack: LocalStack) -> Iterator[str]:
    """An archive of the bus, made by hand: MiniStack's CloudFormation makes none. Its ARN."""
    events = stack.aws("events")
    bus = events.describe_event_bus(Name=stack.environment["BUS_NAME"])["Arn"]
    made = events.create_archive(
        ArchiveName="ledger",
        EventSourceArn=bus,
        EventPattern='{"source": ["openai-proxy"], "detail-type": [{"anything-but": ["ResponseCaptured"]}]}',
    )
    yield made["ArchiveArn"]
    events.delete_archive(ArchiveName="ledger")


def books(stack: LocalStack, client: Client) -> list[dict[str, Any]]:
    """All entries and rollups of a client, in order."""
    found = stack.table("COSTS_TABLE").scan(FilterExpression=Attr("client_id").eq(client.id))["Items"]
    return sorted(found, key=lambda item: (item["pk"], item["sk"]))


def test_a_replay_brings_back_what_was_lost(stack: LocalStack, archive: str, client: Client) -> None:
    days = {datetime.now(UTC).date()}
    sdk = client.openai()
    for _ in range(ASKED):
        sdk.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hello"}])
    # Each is an entry, and counted by its day and by its month, of which there may be two.
    wait_for(lambda: sum(item.get("requests", 1) for item in books(stack, client)) == 3 * ASKED, "entries and rollups")
    before = books(stack, client)
    with stack.table("COSTS_TABLE").batch_writer() as writer:
        for item in before:
            writer.delete_item(Key={"pk": item["pk"], "sk": item["sk"]})

    days.add(datetime.now(UTC).date())
    period = ("--from", str(min(days)), "--to", str(max(days)))
    for _ in range(2):  # once to bring it back, once to change nothing
        openai_proxy(stack, "events", "replay", *period, "--archive", archive)
        wait_for(lambda: books(stack, client) == before, "the books as they were")
