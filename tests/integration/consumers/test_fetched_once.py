"""What several requests tell of, batches above all, counts once in the ledger, whoever tells it in whatever order."""

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
from openai_proxy.ledger.entries import add_shares, share_of
from openai_proxy.ledger.entry_cost import (
    PRICE_ATTRIBUTES,
    USED_ATTRIBUTES,
    price_attributes,
    usage_attributes,
    usage_of_entry,
)
from openai_proxy.ledger.lake import lake_row
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import parse_price_book
from openai_proxy.usage import Usage
from record_cost.consumer import RecordCost

from tests.costs_fake import FakeCostsTable
from tests.integration.consumers.test_record_cost_metrics import Metrics
from tests.tables import make_table

SAMPLE = json.loads(
    (Path(__file__).parents[3] / "events" / "samples" / "InferenceCompleted.chat-stream.json").read_text("utf-8")
)
NOW = 1_795_953_600.0
"""2026-11-29: soon after what these events tell of."""
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
UNPRICED = Usage(10**6, source="reported", service_tier="batch", reason="rounded")
"""Of a model that has no price."""
DIGEST = "0123456789abcdef" * 2


class Sink:
    """A lake that keeps what it is sent: of each entry the row that holds, which is the one of the highest revision."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.fails = False

    def put(self, entries: Any) -> dict[Any, str]:
        return self.put_again({**entry.attributes, "pk": entry.key[0], "sk": entry.key[1]} for entry in entries)

    def put_again(self, items: Any) -> dict[Any, str]:
        rows: list[dict[str, Any]] = list(items)
        if self.fails:
            return {(row["pk"], row["sk"]): "no" for row in rows}
        for row in rows:
            known: dict[str, Any] = self.rows.get(row["sk"], row)
            if row.get("revision", 0) >= known.get("revision", 0):
                self.rows[row["sk"]] = row
        return {}


def told(number: int, names: list[str], usage: Usage = TOLD, client: str = "shop", **others: Usage) -> dict[str, Any]:
    """The message of a request that told of what a server knows by these names, made by model `a`; `=` is a digest."""
    envelope = json.loads(json.dumps(SAMPLE))
    detail = envelope["detail"]
    detail["metadata"] |= {"id": new_ulid(1.8e9 + number), "client_id": client}
    detail["data"]["response"]["model"], detail["data"]["request"]["model"] = "a" if usage != UNPRICED else "x", None
    detail["data"]["usage"] = usage.to_event()
    parts = [{"model": model, "usage": used.to_event()} for model, used in others.items()]
    digest = {"digest": DIGEST} if "=" in names else {}
    detail["data"]["fetched"] = {"names": [each for each in names if each != "="], "others": parts, **digest}
    return {"messageId": str(number), "body": json.dumps(envelope)}


def recorded(client: Any, *batches: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], Sink]:
    """The entries after these batches of messages, and what the lake has."""
    lake = Sink()
    consumer = RecordCost(
        PRICES, CostsTable(client, "costs", pause=lambda _: None), Logger(service="test"), lake, clock=lambda: NOW
    )
    for batch in batches:
        assert consumer({"Records": batch}) == {"batchItemFailures": []}
    items = client.items.values() if isinstance(client, FakeCostsTable) else client.scan(TableName="costs")["Items"]
    entries = [item for item in map(from_item, items) if item["pk"].startswith("client#")]
    return sorted(entries, key=lambda item: item["sk"]), lake


def sums_in(client: FakeCostsTable, period: str = "day#") -> dict[str, Any]:
    """What the rollups of days, or of months, add up to."""
    rollups = [from_item(item) for key, item in client.items.items() if key[0].startswith(period)]
    return add_shares({name: each for name, each in row.items() if not isinstance(each, str)} for row in rollups)


def cost_in(client: FakeCostsTable) -> Decimal:
    return sums_in(client).get("cost", Decimal(0))


def check_books(client: FakeCostsTable, entries: list[dict[str, Any]], lake: Sink) -> None:
    """The rollups are the sums of the entries, and the lake has what the ledger has."""
    expected = {name: each for name, each in add_shares(map(share_of, entries)).items() if each}
    for period in ("day#", "month#"):
        assert {name: each for name, each in sums_in(client, period).items() if each} == expected
    of_lake = {name: lake_row(name, row, "") for name, row in lake.rows.items()}
    assert of_lake == {each["sk"]: lake_row(each["sk"], each, "") for each in entries}


def parts_of(tellings: list[list[str]]) -> list[set[int]]:
    """Which tellings are of the same, because names lead from one to the other."""
    parts: list[tuple[set[str], set[int]]] = []
    for number, names in enumerate(tellings):
        known = [part for part in parts if part[0] & set(names)]
        joined = set[str](names).union(*(part[0] for part in known)), {number}.union(*(part[1] for part in known))
        parts = [part for part in parts if part not in known] + [joined]
    return [numbers for _, numbers in parts]


SAYS = {UNTOLD: 0, UNPRICED: 1, TOLD: 2}
NAMES = st.sampled_from(
    [["batch_1", "file-1"], ["file-1", "="], ["batch_1"], ["file-9", "="], ["batch_1", "="], ["batch_2", "file-2"]]
)


@given(
    tellings=st.lists(
        st.tuples(NAMES, st.sampled_from(["web-shop", "night-job"]), st.sampled_from([TOLD, UNTOLD, UNPRICED])),
        min_size=1,
        max_size=6,
    ),
    data=st.data(),
)
def test_what_several_tell_of_counts_once_whoever_tells_it_by_whichever_name_in_whatever_order(
    tellings: Any, data: Any
) -> None:
    messages = [told(n, names, usage, client) for n, (names, client, usage) in enumerate(tellings)]
    order = data.draw(st.permutations(messages))
    cut = data.draw(st.integers(0, len(order)))
    client = FakeCostsTable()
    entries, lake = recorded(client, order[:cut], order[cut:], data.draw(st.permutations(messages)))
    most = [max(SAYS[tellings[n][2]] for n in part) for part in parts_of([names for names, _, _ in tellings])]
    sums = sums_in(client)
    assert sums["cost"] == sum(each == 2 for each in most)
    assert sums["unpriced"] == sum(each < 2 for each in most)
    assert sums["usage_missing"] == most.count(0)
    assert sums["input_tokens"] == 10**6 * sum(each > 0 for each in most)
    check_books(client, entries, lake)


def test_the_lake_hears_of_what_is_taken_back_even_if_it_did_not_listen_at_first() -> None:
    client: Any = FakeCostsTable()
    lake = Sink()
    consumer = RecordCost(
        PRICES, CostsTable(client, "costs", pause=lambda _: None), Logger(service="test"), lake, clock=lambda: NOW
    )
    status, lines = told(0, ["batch_1", "file-1"], UNTOLD), told(1, ["file-1", "="])
    assert consumer({"Records": [status]}) == {"batchItemFailures": []}
    lake.fails = True
    assert consumer({"Records": [lines]}) == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    lake.fails = False
    assert consumer({"Records": [lines]}) == {"batchItemFailures": []}
    check_books(client, [from_item(item) for key, item in client.items.items() if key[0].startswith("client#")], lake)


class Unproven(FakeCostsTable):
    """A table that writes, and does not say so after the transaction with this number."""

    mute_at = 0

    def transact_write_items(self, **request: Any) -> dict[str, Any]:
        answer = super().transact_write_items(**request)
        return {} if self.calls == self.mute_at else answer


def test_what_was_written_without_a_word_of_it_is_not_written_again() -> None:
    client, status, lines = Unproven(), told(0, ["b"], UNTOLD), told(1, ["b"])
    client.mute_at = 3  # the status, the answers that are refused, and then those in the place of the status
    entries, lake = recorded(client, [status], [lines])
    assert client.calls == 3
    assert cost_in(client) == 1
    check_books(client, entries, lake)


class Mute(FakeCostsTable):
    """A table that does not say what it has, for a while."""

    is_mute = True

    def get_item(self, **request: Any) -> dict[str, Any]:
        return {} if self.is_mute else super().get_item(**request)


def test_what_cannot_be_read_comes_again_and_nothing_else_does() -> None:
    client: Any = Mute()
    lake = Sink()
    consumer = RecordCost(
        PRICES, CostsTable(client, "costs", pause=lambda _: None), Logger(service="test"), lake, clock=lambda: NOW
    )
    status, lines, other = told(0, ["b"], UNTOLD), told(1, ["b"]), told(2, [])
    again = {"batchItemFailures": [{"itemIdentifier": "0"}]}
    assert consumer({"Records": [status, other]}) == again
    assert consumer({"Records": [lines]}) == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    client.is_mute = False
    assert consumer({"Records": [status, lines]}) == {"batchItemFailures": []}
    entries = [from_item(item) for key, item in client.items.items() if key[0].startswith("client#")]
    check_books(client, entries, lake)
    assert cost_in(client) == 2


def test_an_entry_that_is_taken_back_says_so_and_keeps_no_trace_of_what_it_used() -> None:
    client = FakeCostsTable()
    seldom = UNPRICED._replace(units=(("web_search", 2),), cost_reported=Decimal(3), duration=2.0, input_image_tokens=0)
    status, lines = told(0, ["b"], seldom._replace(source="invalid")), told(1, ["b"])
    [taken_back, kept], _ = recorded(client, [status], [lines])
    assert taken_back["counted_in"] == [kept["pk"], kept["sk"]]
    assert usage_of_entry(taken_back) == Usage(source="none")
    for prices in (PRICES, parse_price_book("servers: {}")):  # so nobody prices it again
        assert price_attributes(taken_back["sk"], taken_back, prices) | {"price_version": ""} == {
            name: taken_back[name] for name in PRICE_ATTRIBUTES if name in taken_back
        } | {"price_version": ""}
    assert set(usage_attributes(seldom)) | set(PRICE_ATTRIBUTES) <= set(USED_ATTRIBUTES)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_status_and_lines_of_a_batch_are_one(order: tuple[int, ...]) -> None:
    by_both = [told(0, ["batch_1", "file-1"]), told(1, ["file-1"]), told(2, ["batch_1", "file-1"], client="night-job")]
    client = FakeCostsTable()
    entries, _ = recorded(client, *([by_both[n]] for n in order), by_both)
    assert [entry["cost"] for entry in entries if entry["cost"]] == [Decimal(1)]
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


def test_what_is_known_takes_the_place_of_what_is_not_but_not_part_by_part() -> None:
    client = FakeCostsTable()
    status, lines = told(0, ["b", "f"], UNTOLD), told(1, ["b"], UNTOLD, b=TOLD)
    entries, lake = recorded(client, [status], [lines], [told(2, ["f", "b"], UNTOLD), told(3, ["b"])])
    # Of the lines one model's usage is known, so they count, and with them the model of which it is not.
    found = sorted((entry["model"], entry["pricing"], entry["sk"] in lines["body"]) for entry in entries)
    assert found == [("a", "none", False), ("a", "unpriced", True), ("b", "priced", False)]
    check_books(client, entries, lake)


def test_dynamodb_takes_the_transactions() -> None:
    with mock_aws():
        client: Any = boto3.client("dynamodb")  # pyright: ignore[reportUnknownMemberType]
        make_table(client, "costs", "pk", "sk")
        untold, lines, again = told(0, ["b"], UNTOLD), told(1, ["b", "f"], b=TOLD), told(2, ["b"], UNTOLD)
        copy = told(3, ["f", "c"])
        entries, lake = recorded(client, [untold], [lines], [again], [copy], [lines, untold])
    assert sorted((entry["pricing"], entry["cost"]) for entry in entries) == [("none", 0), ("priced", 1), ("priced", 3)]
    assert {name: row.get("revision", 0) for name, row in lake.rows.items()} == {
        entry["sk"]: entry.get("revision", 0) for entry in entries
    }


def test_an_entry_that_was_lost_comes_back_by_its_own_event_alone() -> None:
    client = FakeCostsTable()
    first, other = told(0, ["batch_1", "file-1"], b=TOLD), told(1, ["file-1"])
    before, _ = recorded(client, [first])
    for key in [key for key in client.items if key[0].startswith("client#")]:
        del client.items[key]
    assert recorded(client, [other])[0] == []
    assert recorded(client, [first])[0] == before


@pytest.mark.parametrize("together", [True, False])
def test_an_event_arrives_once_however_many_models_it_tells_of_and_whoever_has_told_of_them(together: bool) -> None:
    """Otherwise whoever compares requests with what arrived misses those that told nothing new, or counts models."""
    table: Any = FakeCostsTable()
    ledger, metrics = CostsTable(table, "costs", pause=lambda _: None), Metrics()
    consumer = RecordCost(PRICES, ledger, Logger(service="test"), metrics=metrics, clock=lambda: NOW)
    first, same, again = told(1, ["batch", "file"], b=TOLD), told(2, ["file"], b=TOLD), told(3, ["batch"])
    events = [first, same, again, told(4, ["other"], UNTOLD)]
    for each in [events] if together else [[event] for event in events]:
        assert consumer({"Records": each}) == {"batchItemFailures": []}
    assert metrics.sums["EventsRecorded", (("Consumer", "record_cost"),)] == 4
    assert metrics.sums["Cost", ()] == 1 + 3
