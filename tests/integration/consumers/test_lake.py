"""record_cost with a lake: what is in the ledger reaches it, and what it does not take comes again."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError
from openai_proxy.events.ulid import first_ulid_of
from openai_proxy.ledger.entries import Key, LedgerEntry
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import parse_price_book
from record_cost.consumer import RecordCost

from tests.costs_fake import FakeCostsTable
from tests.tables import failures

SAMPLE = Path(__file__).parents[3] / "events" / "samples" / "InferenceCompleted.chat-stream.json"
NOW = 1_795_953_600.0
"""2026-11-29: soon after what these events tell of."""
PRICES = parse_price_book("servers: {}")


class FakeLake:
    """Keeps what it is sent; refuses the entries named in `refused`."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.refused: set[str] = set()
        self.fault: ClientError | None = None

    def put(self, entries: Iterable[LedgerEntry]) -> dict[Key, str]:
        if self.fault:
            raise self.fault
        given = [entry.key for entry in entries]
        self.ids += [key[1] for key in given if key[1] not in self.refused]
        return {key: "busy" for key in given if key[1] in self.refused}

    def put_again(self, items: Iterable[Mapping[str, Any]]) -> dict[Key, str]:
        given = [(item["pk"], item["sk"]) for item in items]
        self.ids += [key[1] for key in given if key[1] not in self.refused]
        return {key: "busy" for key in given if key[1] in self.refused}


class Refusing:
    """A ledger that writes nothing."""

    def record(self, entries: Iterable[LedgerEntry]) -> dict[Key, str]:
        return {entry.key: "no" for entry in entries}


def messages(*ids: str) -> dict[str, Any]:
    envelope = json.loads(SAMPLE.read_text(encoding="utf-8"))
    records: list[dict[str, str]] = []
    for place, event_id in enumerate(ids):
        envelope["detail"]["metadata"]["id"] = event_id
        records.append({"messageId": f"message-{place}", "body": json.dumps(envelope)})
    return {"Records": records}


def consumer(lake: FakeLake | None, ledger: Any = None) -> RecordCost:
    table: Any = FakeCostsTable()
    return RecordCost(PRICES, ledger or CostsTable(table, "costs"), Logger(service="test"), lake, clock=lambda: NOW)


IDS = [first_ulid_of(1_790_000_000 + n) for n in range(3)]


def test_every_entry_reaches_the_lake() -> None:
    lake = FakeLake()
    assert failures(consumer(lake)(messages(*IDS))) == []
    assert sorted(lake.ids) == IDS


def test_a_duplicate_reaches_it_again() -> None:
    """It may be one because the first attempt ended between ledger and lake."""
    lake = FakeLake()
    record = consumer(lake)
    record(messages(*IDS))
    assert failures(record(messages(IDS[0]))) == []
    assert sorted(lake.ids) == sorted([*IDS, IDS[0]])


def test_what_it_does_not_take_comes_again() -> None:
    lake = FakeLake()
    lake.refused = {IDS[1]}
    record = consumer(lake)
    assert failures(record(messages(*IDS, IDS[1]))) == ["message-1", "message-3"]
    lake.refused.clear()
    assert failures(record(messages(IDS[1]))) == []
    assert sorted(lake.ids) == IDS


def test_what_is_not_in_the_ledger_is_not_in_the_lake() -> None:
    lake = FakeLake()
    assert failures(consumer(lake, Refusing())(messages(*IDS))) == ["message-0", "message-1", "message-2"]
    assert lake.ids == []


def test_a_lake_that_is_not_there_fails_the_batch() -> None:
    lake = FakeLake()
    lake.fault = ClientError({"Error": {"Code": "ResourceNotFoundException"}}, "PutRecordBatch")
    with pytest.raises(ClientError):
        consumer(lake)(messages(*IDS))


def test_without_a_lake_the_ledger_is_enough() -> None:
    assert failures(consumer(None)(messages(*IDS))) == []
