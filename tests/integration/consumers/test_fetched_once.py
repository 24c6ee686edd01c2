"""What was made before and is told whenever it is fetched, batches above all, is in the ledger once."""

import itertools
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_lambda_powertools import Logger
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws
from openai_proxy.dynamodb import from_item
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import parse_price_book
from openai_proxy.usage import Usage
from record_cost.consumer import RecordCost

from tests.costs_fake import FakeCostsTable

SAMPLE = json.loads(
    (Path(__file__).parents[3] / "events" / "samples" / "InferenceCompleted.chat-stream.json").read_text("utf-8")
)
PRICES = parse_price_book(
    """
    servers:
      openai:
        models:
          a:
            input: 2
            output: 0
            above: {input_tokens: 500, input: 9, output: 9}
            tiers: {batch: {input: 1, output: 0, above: {input_tokens: 500, input: 9, output: 9}}}
          b: {input: 4, output: 0, tiers: {batch: {input: 3, output: 0}}}
    """
)
TOLD = Usage(10**6, source="reported", service_tier="batch")
UNTOLD = Usage(source="missing", service_tier="batch")


class Sink:
    """A lake that keeps what it is sent."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def put(self, entries: Any) -> dict[Any, str]:
        self.rows += [entry.key[1] for entry in entries]
        return {}


def told(number: int, names: list[str], usage: Usage = TOLD, client: str = "shop", **others: Usage) -> dict[str, Any]:
    """The message of a request that fetched what the server knows by these names, which model `a` made."""
    envelope = json.loads(json.dumps(SAMPLE))
    detail = envelope["detail"]
    detail["metadata"] |= {"id": new_ulid(1.8e9 + number), "client_id": client}
    detail["data"]["response"]["model"] = "a"
    detail["data"]["usage"] = usage.to_event()
    parts = [{"model": model, "usage": used.to_event()} for model, used in others.items()]
    detail["data"]["fetched"] = {"names": names, "others": parts}
    return {"messageId": str(number), "body": json.dumps(envelope)}


def recorded(client: Any, *batches: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], Sink]:
    """The entries after these batches of messages, and what the lake has."""
    lake = Sink()
    consumer = RecordCost(PRICES, CostsTable(client, "costs", pause=lambda _: None), Logger(service="test"), lake)
    for batch in batches:
        assert consumer({"Records": batch}) == {"batchItemFailures": []}
    items = client.items.values() if isinstance(client, FakeCostsTable) else client.scan(TableName="costs")["Items"]
    entries = [item for item in map(from_item, items) if item["pk"].startswith("client#")]
    return sorted(entries, key=lambda item: item["sk"]), lake


def cost_in(client: FakeCostsTable) -> Decimal:
    """What the rollups of days add up to."""
    rollups = [from_item(item) for key, item in client.items.items() if key[0].startswith("day#")]
    return sum((rollup["cost"] for rollup in rollups), Decimal(0))


@given(
    fetches=st.lists(
        st.tuples(
            st.sampled_from([["batch_1", "file-1"], ["file-1"], ["batch_1"]]),
            st.sampled_from(["web-shop", "night-job"]),
            st.sampled_from([TOLD, UNTOLD]),
        ),
        min_size=1,
        max_size=6,
    ),
    data=st.data(),
)
def test_a_batch_costs_once_whoever_fetches_it_by_whichever_name_in_whatever_batch(fetches: Any, data: Any) -> None:
    messages = [told(n, names, usage, client) for n, (names, client, usage) in enumerate(fetches)]
    cut = data.draw(st.integers(0, len(messages)))
    client = FakeCostsTable()
    entries, lake = recorded(client, messages[:cut], messages[cut:], messages)
    taken: set[str] = set()
    expected: list[str] = []
    for names, _, usage in fetches:
        if taken.isdisjoint(names):
            expected.append("priced" if usage == TOLD else "unpriced")
            taken |= set(names) if usage == TOLD else set()
    assert [entry["pricing"] for entry in entries] == expected
    assert cost_in(client) == expected.count("priced")
    assert set(lake.rows) == {entry["sk"] for entry in entries}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_status_and_lines_of_a_batch_are_one(order: tuple[int, ...]) -> None:
    by_both = [told(0, ["batch_1", "file-1"]), told(1, ["file-1"]), told(2, ["batch_1", "file-1"], client="night-job")]
    client = FakeCostsTable()
    entries, _ = recorded(client, *([by_both[n]] for n in order), by_both)
    assert [entry["cost"] for entry in entries] == [Decimal(1)]
    assert cost_in(client) == 1


def test_each_model_has_its_own_price_at_the_tier_of_batches_and_no_request_of_them_is_long() -> None:
    client = FakeCostsTable()
    entries, _ = recorded(client, [told(0, ["b"], b=TOLD, c=TOLD)], [told(1, ["b"], b=TOLD, c=TOLD)])
    found = {entry["model"]: (entry["pricing"], entry.get("cost"), entry["duration"]) for entry in entries}
    whole = found.pop("a")
    assert whole[:2] == ("priced", Decimal(1))
    assert whole[2] > 0
    assert found == {"b": ("priced", Decimal(3), 0), "c": ("unpriced", None, 0)}
    assert cost_in(client) == 4


def test_what_is_not_known_takes_nothing_from_what_is() -> None:
    status, lines = told(0, ["b", "f"], UNTOLD), told(1, ["b"], UNTOLD, b=TOLD)
    entries, _ = recorded(FakeCostsTable(), [status], [lines], [told(2, ["f", "b"], UNTOLD), told(3, ["b"])])
    # The batch before it was known, and both models of its lines.
    assert sorted((entry["model"], entry["pricing"]) for entry in entries) == [
        ("a", "unpriced"),
        ("a", "unpriced"),
        ("b", "priced"),
    ]


def test_dynamodb_takes_the_transactions() -> None:
    with mock_aws():
        client: Any = boto3.client("dynamodb")  # pyright: ignore[reportUnknownMemberType]
        client.create_table(
            TableName="costs",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": each, "AttributeType": "S"} for each in ("pk", "sk")],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        )
        untold, lines, again = told(0, ["b"], UNTOLD), told(1, ["b"], b=TOLD), told(2, ["b"], UNTOLD)
        entries, lake = recorded(client, [untold], [lines], [again], [lines, untold])
    assert sorted(entry["cost"] for entry in entries if entry["pricing"] == "priced") == [1, 3]
    assert len(entries) == 3
    assert len(lake.rows) == 6  # what is in the ledger comes again, what is not never came


def test_an_entry_that_was_lost_comes_back_by_its_own_event_alone() -> None:
    client = FakeCostsTable()
    first, other = told(0, ["batch_1", "file-1"], b=TOLD), told(1, ["file-1"])
    before, _ = recorded(client, [first])
    for key in [key for key in client.items if key[0].startswith("client#")]:
        del client.items[key]
    assert recorded(client, [other])[0] == []
    assert recorded(client, [first])[0] == before
