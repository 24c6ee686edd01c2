"""record_cost against DynamoDB (moto): whatever is delivered, however often and in whatever order, counts once."""

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Context, Decimal
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_lambda_powertools import Logger
from boto3.dynamodb.types import TypeDeserializer
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from moto import mock_aws
from openai_proxy.events.envelope import rfc3339
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import PriceBook, load_price_book, parse_price_book
from record_cost.consumer import RecordCost

from tests.costs_fake import FakeCostsTable, Unreliable, cancelled, failure
from tests.tables import failures, make_table

SAMPLES = Path(__file__).parents[3] / "events" / "samples"
NOW = 1_795_953_600.0
"""2026-11-29: soon after what these events tell of."""
TABLE = "costs"


def message(sample: str, name: str = "", **changes: Any) -> dict[str, str]:
    """An SQS record with a sample; `changes` to its metadata (id, client_id), response model or usage."""
    envelope = json.loads((SAMPLES / f"{sample}.json").read_text(encoding="utf-8"))
    detail = envelope["detail"]
    for key, value in changes.items():
        target = {"model": detail["data"]["response"], "input_tokens": detail["data"]["usage"]}
        target.get(key, detail["metadata"])[key] = value
    return {"messageId": name or detail["metadata"]["id"], "body": json.dumps(envelope)}


def batch(*records: dict[str, str]) -> dict[str, Any]:
    return {"Records": list(records)}


@pytest.fixture
def client() -> Iterator[Any]:
    with mock_aws():
        client: Any = boto3.client("dynamodb")  # pyright: ignore[reportUnknownMemberType]
        create_table(client)
        yield client


def create_table(client: Any) -> None:
    make_table(client, TABLE, "pk", "sk")


@pytest.fixture
def record_cost(client: Any) -> RecordCost:
    return consumer(client)


prices_of_the_repository = cache(load_price_book)


def consumer(client: Any, pauses: list[int] | None = None, prices: PriceBook | None = None) -> RecordCost:
    table = CostsTable(client, TABLE, pause=(pauses if pauses is not None else []).append)
    return RecordCost(prices or prices_of_the_repository(), table, Logger(service="test"), clock=lambda: NOW)


Items = list[dict[str, Any]]


def stored(client: Any) -> tuple[Items, Items]:
    """All entries and all rollups of a table, as boto reads them."""
    if isinstance(client, FakeCostsTable):
        found = list(client.items.values())
    else:
        found = [item for page in client.get_paginator("scan").paginate(TableName=TABLE) for item in page["Items"]]
    read = TypeDeserializer().deserialize
    items = [{name: read(value) for name, value in item.items()} for item in found]
    items.sort(key=lambda item: (item["pk"], item["sk"]))
    rollups = [item for item in items if item["pk"].startswith(("day#", "month#"))]
    return [item for item in items if item not in rollups], rollups


SUMS = (
    *("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"),
    *("reasoning_output_tokens", "input_audio_tokens", "output_audio_tokens", "audio_duration"),
    *("input_image_tokens", "output_image_tokens", "cost", "cost_saved", "duration", "time_to_first_chunk"),
)
COUNTS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "requests": lambda entry: True,
    "failed": lambda entry: entry["outcome"] == "failed",
    "cache_hits": lambda entry: entry["cache_status"] == "HIT",
    "hits_priced": lambda entry: "cost_saved" in entry,
    "unpriced": lambda entry: "cost" not in entry,
    "usage_missing": lambda entry: entry["usage_source"] == "missing",
    "usage_estimated": lambda entry: entry["usage_source"] == "estimated",
    "first_chunks": lambda entry: "time_to_first_chunk" in entry,
}


def steps_of(entry: dict[str, Any]) -> dict[str, Decimal]:
    """In which third of an octave above 1/32 s the times of an entry are, found by going up."""
    if entry["outcome"] == "failed" or entry["cache_status"] == "HIT":
        return {}
    found: dict[str, Decimal] = {}
    for kind, most, name in (("t", 33, "time_to_first_chunk"), ("d", 45, "duration")):
        if name in entry:
            reached = (step for step in range(most) if float(entry[name]) <= 2 ** (step / 3 - 5))
            found[f"{kind}{next(reached, most)}"] = Decimal(1)
    return found


def of_prompt_caches(entry: dict[str, Any]) -> dict[str, Decimal]:
    """What prompt caches saved, where tokens of them were used."""
    read, written = entry["cache_read_input_tokens"], entry["cache_creation_input_tokens"]
    if entry["cache_status"] == "HIT" or not read + written:
        return {}
    fresh = entry["input_tokens"] - read - written - entry["input_audio_tokens"]
    is_known = entry["pricing"] == "priced" and fresh > 0
    saved = Decimal(0)
    if is_known:
        saved = (entry["cost_input"] / fresh).quantize(Decimal("1e-20")) * (read + written)
        saved = saved.quantize(Decimal("1e-12")) - entry["cost_cached_input"] - entry["cost_cache_write"]
    used = {"cached_requests": Decimal(1), "cached_tokens": read} if read else {}
    return used | {"cached_saved": saved, "cached_unpriced": Decimal(bool(read) and not is_known)}


def sums_of(entries: Items) -> Items:
    """The rollups that the entries should have, added up with as many digits as it takes."""
    rollups: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in entries:
        names = {"client_id": entry["client_id"], "server": entry.get("server", "-"), "model": entry.get("model", "-")}
        for period in ("day", "month"):
            key = (f"{period}#{entry[period]}", "#".join(names.values()))
            new = {"pk": key[0], "sk": key[1], period: entry[period], **names}
            rollup = rollups.setdefault(key, new | dict.fromkeys([*SUMS, *COUNTS], Decimal(0)))
            for name in SUMS:
                rollup[name] = Context(prec=60).add(rollup[name], entry.get(name, Decimal(0)))
            for name, holds in COUNTS.items():
                rollup[name] += holds(entry)
            seldom = {"usage_invalid": Decimal(1)} if entry["usage_source"] == "invalid" else dict[str, Decimal]()
            if "cost_reported" in entry:
                seldom |= {"costs_reported": Decimal(1), "cost_reported": entry["cost_reported"]}
            if entry["outcome"] == "failed":
                fault = {"upstream": "server"}.get(entry["error_source"], entry["error_source"])
                seldom[f"failed_{fault}"] = Decimal(1)
            for name, value in (seldom | steps_of(entry) | of_prompt_caches(entry)).items():
                rollup[name] = Context(prec=60).add(rollup.get(name, Decimal(0)), value)
    return [rollups[key] for key in sorted(rollups)]


def assert_rollups_are_the_sums_of_the_entries(client: Any) -> None:
    entries, rollups = stored(client)
    assert rollups == sums_of(entries)


def test_the_samples_become_entries_and_rollups(client: Any, record_cost: RecordCost):
    names = sorted(path.stem for path in SAMPLES.glob("Inference[CF]*.json"))

    assert record_cost(batch(*(message(name) for name in names))) == {"batchItemFailures": []}

    entries, rollups = stored(client)
    assert len(entries) == 16
    assert len(rollups) == 2 * 12  # some of them are of the same client, server and model
    streamed = next(entry for entry in entries if entry.get("response_id") == "chatcmpl-C8fKq2mXw1")
    assert streamed["pk"] == "client#web-shop#2026-11-23"
    assert streamed["cost"] == Decimal("0.0003129")
    assert streamed["finish_reasons"] == ["stop"]
    assert_rollups_are_the_sums_of_the_entries(client)


def test_duplicates_within_a_batch_and_between_batches_count_once(client: Any, record_cost: RecordCost):
    first = message("InferenceCompleted.chat-stream", "m1")
    again = message("InferenceCompleted.chat-stream", "m2")
    other = message("InferenceCompleted.chat-stream", "m3", id=new_ulid(1_795_000_000))

    assert failures(record_cost(batch(first, again))) == []
    assert failures(record_cost(batch(again, other, first))) == []
    assert failures(record_cost(batch(other))) == []

    entries, rollups = stored(client)
    assert len(entries) == 2
    assert [rollup["requests"] for rollup in rollups] == [1, 1, 2]  # of two days, and of one month
    assert_rollups_are_the_sums_of_the_entries(client)


def test_a_malformed_message_fails_alone(client: Any, record_cost: RecordCost):
    good = message("InferenceCompleted.chat-stream", "good")
    bad = [
        {"messageId": "no-json", "body": "{"},
        {"messageId": "no-event", "body": "[]"},
        {"messageId": "no-data", "body": '{"detail-type": "InferenceCompleted", "detail": {"metadata": {}}}'},
        message("InferenceCompleted.chat-stream", "bad-version", version="2.0"),
        message("InferenceCompleted.chat-stream", "bad-id", id="x"),
        message("InferenceCompleted.chat-stream", "bad-usage", input_tokens="many"),
        message("InferenceCompleted.chat-stream", "bad-time", timestamp="yesterday"),
        message("InferenceCompleted.chat-stream", "bad-day", timestamp="2026-02-30T09:30:37.413Z"),
    ]

    assert failures(record_cost(batch(*bad[:3], good, *bad[3:]))) == [record["messageId"] for record in bad]
    assert len(stored(client)[0]) == 1


def test_events_of_other_kinds_are_none_of_its_business(client: Any, record_cost: RecordCost):
    assert failures(record_cost(batch(message("InferenceThrottled.key-rpm"), message("ResponseCaptured.chat")))) == []
    assert stored(client) == ([], [])


def test_a_batch_larger_than_one_transaction():
    client = FakeCostsTable()
    record_cost = consumer(client)
    records = [
        message("InferenceCompleted.chat-stream", f"m{n}", id=new_ulid(1_795_000_000 + n), model=f"gpt-{n % 10}")
        for n in range(105)
    ]

    assert failures(record_cost(batch(*records))) == []
    assert failures(record_cost(batch(*reversed(records)))) == []

    entries, rollups = stored(client)
    assert (len(entries), len(rollups)) == (105, 20)
    assert_rollups_are_the_sums_of_the_entries(client)


class AlwaysInConflict(Unreliable):
    def transact_write_items(self, **request: Any) -> Any:
        self.calls += 1
        raise cancelled("None", "TransactionConflict")


class RefusesModel(Unreliable):
    """Refuses every transaction with an item that names a model, and says which item it was, or does not."""

    def __init__(self, client: Any, model: str, says_which: bool) -> None:
        super().__init__(client)
        self._model = model
        self._says_which = says_which

    def transact_write_items(self, **request: Any) -> Any:
        hits = [self._model in json.dumps(item) for item in request["TransactItems"]]
        if any(hits):
            self.calls += 1
            raise (
                cancelled(*("ValidationError" if hit else "None" for hit in hits))
                if self._says_which
                else failure("ValidationException")
            )
        return super().transact_write_items(**request)


@pytest.mark.parametrize(
    "error",
    [cancelled("None", "TransactionConflict"), cancelled("ThrottlingError", "None"), failure("ThrottlingException")],
    ids=["conflict", "throttled item", "throttled call"],
)
def test_a_transaction_that_lost_against_another_is_tried_again(client: Any, error: ClientError):
    pauses: list[int] = []
    unreliable = Unreliable(client, error, error)

    assert failures(consumer(unreliable, pauses)(batch(message("InferenceCompleted.chat-stream")))) == []
    assert (unreliable.calls, pauses) == (3, [1, 2])
    assert_rollups_are_the_sums_of_the_entries(client)
    assert len(stored(client)[0]) == 1


def test_after_a_bounded_number_of_tries_the_messages_come_again(client: Any):
    pauses: list[int] = []
    conflicts = AlwaysInConflict(client)
    record_cost = consumer(conflicts, pauses)
    duplicates = [message("InferenceCompleted.chat-stream", name) for name in ("m1", "m2")]

    assert failures(record_cost(batch(*duplicates))) == ["m1", "m2"]
    assert conflicts.calls == 6
    assert pauses == [1, 2, 3, 4, 5]
    assert stored(client) == ([], [])


def test_a_write_whose_answer_was_lost_counts_once(client: Any):
    unreliable = Unreliable(client, "lost")

    assert failures(consumer(unreliable)(batch(message("InferenceCompleted.chat-stream")))) == []
    assert len(stored(client)[0]) == 1
    assert_rollups_are_the_sums_of_the_entries(client)


def test_a_crash_between_two_transactions_loses_and_doubles_nothing():
    client = FakeCostsTable()
    records = [
        message("InferenceCompleted.chat-stream", f"m{n}", id=new_ulid(1_795_000_000 + n), model=f"gpt-{n}")
        for n in range(55)
    ]
    crash = failure("ResourceNotFoundException")

    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        consumer(Unreliable(client, "ok", crash))(batch(*records))
    assert len(stored(client)[0]) == 33

    assert failures(consumer(client)(batch(*records))) == []
    assert len(stored(client)[0]) == 55
    assert_rollups_are_the_sums_of_the_entries(client)


@pytest.mark.parametrize("says_which", [True, False], ids=["named", "unnamed"])
def test_an_entry_that_the_table_refuses_fails_alone(client: Any, says_which: bool):
    records = [
        message("InferenceCompleted.chat-stream", f"m{n}", id=new_ulid(1_795_000_000 + n), model=f"gpt-{n}")
        for n in range(5)
    ]

    assert failures(consumer(RefusesModel(client, "gpt-3", says_which))(batch(*records))) == ["m3"]
    assert len(stored(client)[0]) == 4
    assert_rollups_are_the_sums_of_the_entries(client)


def test_no_access_is_not_taken_for_a_fault_of_the_messages(client: Any):
    denied = Unreliable(client, failure("AccessDeniedException"))

    with pytest.raises(ClientError, match="AccessDenied"):
        consumer(denied)(batch(message("InferenceCompleted.chat-stream")))


@cache
def of_a_turn_of_the_month() -> list[dict[str, str]]:
    """Twelve events of two clients and several models around midnight; some have no price, one is a failure."""
    midnight = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    models = ["gpt-5", "gpt-4o-mini", "gpt-5", "unlisted"]
    return [
        message(
            "InferenceFailed.broken-off" if n == 7 else "InferenceCompleted.chat-cached-and-reasoning",
            f"m{n}",
            id=new_ulid(midnight + n - 5.5),
            client_id=f"client-{n % 2}",
            model=models[n % 4],
            input_tokens=9984 + 97 * n,
        )
        for n in range(12)
    ]


@st.composite
def deliveries(draw: st.DrawFn) -> list[list[dict[str, str]]]:
    """The twelve events, each up to five times, in any order and in any batches."""
    often = draw(st.lists(st.integers(1, 5), min_size=12, max_size=12))
    records = [record for record, times in zip(of_a_turn_of_the_month(), often, strict=True) for _ in range(times)]
    shuffled = draw(st.permutations(records))
    ends = list(accumulate(draw(st.lists(st.integers(1, 25), min_size=len(records), max_size=len(records)))))
    return [found for begin, end in zip([0, *ends], ends, strict=False) if (found := shuffled[begin:end])]


@given(delivered=deliveries(), lost=st.sets(st.integers(0, 30)))
def test_any_deliveries_give_the_same_books_to_the_last_digit(delivered: list[list[dict[str, str]]], lost: set[int]):
    once, often = FakeCostsTable(), FakeCostsTable()
    unreliable = Unreliable(often, *("lost" if call in lost else "ok" for call in range(31)))

    assert failures(consumer(once)(batch(*of_a_turn_of_the_month()))) == []
    record_cost = consumer(unreliable)
    for delivery in delivered:
        assert failures(record_cost(batch(*delivery))) == []

    entries, rollups = stored(once)
    assert len(entries) == 12
    assert rollups == sums_of(entries)
    assert stored(often) == (entries, rollups)


def test_a_day_that_is_replayed_leaves_the_books_as_they_are_and_brings_back_what_was_lost():
    table, emptied = FakeCostsTable(), FakeCostsTable()
    for client in (table, emptied):
        assert failures(consumer(client)(batch(*of_a_turn_of_the_month()))) == []
    before = stored(table)
    replayed = [
        {**record, "body": json.dumps({**json.loads(record["body"]), "id": "another", "replay-name": "ledger"})}
        for record in reversed(of_a_turn_of_the_month())
    ]
    emptied.items.clear()

    for client in (table, emptied):
        assert failures(consumer(client)(batch(*replayed))) == []
        assert stored(client) == before


@settings(max_examples=1, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(delivered=deliveries())
def test_the_fake_table_ends_like_moto(client: Any, delivered: list[list[dict[str, str]]]):
    client.delete_table(TableName=TABLE)
    create_table(client)
    fake = FakeCostsTable()

    for table in (client, fake):
        for delivery in delivered:
            assert failures(consumer(table)(batch(*delivery))) == []

    assert stored(client) == stored(fake)


def test_a_price_that_changes_in_the_middle_of_a_day(client: Any):
    noon = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
    changed = "[{input: 1, output: 1}, {effective_from: 2026-11-23T12:00Z, input: 2, output: 2}]"
    prices = parse_price_book(f"servers: {{openai: {{models: {{gpt-5: {changed}}}}}}}")
    records = [
        message(
            "InferenceCompleted.chat-stream", id=new_ulid(noon + seconds), model="gpt-5", input_tokens=1_000_000 - 64
        )
        for seconds in (-3600, -0.001, 0, 3600)
    ]

    assert failures(consumer(client, prices=prices)(batch(*reversed(records)))) == []

    entries, rollups = stored(client)
    assert [entry["cost"] for entry in entries] == [1, 1, 2, 2]
    assert [rollup["cost"] for rollup in rollups] == [6, 6]


def test_a_price_book_that_is_replaced_in_the_middle_of_a_day(client: Any):
    books = [parse_price_book(f"servers: {{openai: {{models: {{gpt-5: {{request: {usd}}}}}}}}}") for usd in (1, 2)]
    records = [
        message("InferenceCompleted.chat-stream", id=new_ulid(1_795_000_000 + n), model="gpt-5") for n in range(3)
    ]

    for prices, delivered in ((books[0], records[:2]), (books[1], records)):
        assert failures(consumer(client, prices=prices)(batch(*delivered))) == []

    entries, rollups = stored(client)
    assert [(entry["cost"], entry["price_version"]) for entry in entries] == [
        (1, books[0].version),
        (1, books[0].version),
        (2, books[1].version),
    ]
    assert [rollup["cost"] for rollup in rollups] == [4, 4]


def test_a_full_batch_needs_far_less_than_a_call_for_three_events():
    table = FakeCostsTable()
    records = [
        message("InferenceCompleted.chat-stream", f"m{n}", id=new_ulid(1_795_000_000 + n), model=f"gpt-{n}")
        for n in range(25)
    ]

    assert failures(consumer(table)(batch(*records))) == []

    assert table.calls == 1
    assert len(stored(table)[1]) == 50


@pytest.fixture
def load_handler(client: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    monkeypatch.setenv("COSTS_TABLE", TABLE)
    monkeypatch.setenv("METRICS_NAMESPACE", "OpenAIProxy")
    yield lambda: importlib.import_module("record_cost.handler").handler
    sys.modules.pop("record_cost.handler", None)


def of_now() -> dict[str, str]:
    """What tells an event of now, which is as a handler's own clock has it."""
    return {"id": new_ulid(time.time()), "timestamp": rfc3339(time.time())}


def test_the_handler_is_put_together(client: Any, load_handler: Callable[[], Any]):
    handler = load_handler()

    assert handler(batch(message("InferenceCompleted.chat-stream", **of_now())), None) == {"batchItemFailures": []}
    assert stored(client)[0][0]["price_version"] == load_price_book().version


def test_the_owner_can_use_another_price_file(
    client: Any, load_handler: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    prices = tmp_path / "prices.yaml"
    prices.write_text("servers: {openai: {free: true}}\n")
    monkeypatch.setenv("PRICES_FILE", str(prices))

    load_handler()(batch(message("InferenceCompleted.chat-stream", **of_now())), None)

    [entry] = stored(client)[0]
    assert (entry["price_rule"], entry["pricing"]) == ("own:openai/*", "free")
    assert entry["price_version"] == load_price_book(prices).version != load_price_book().version
