"""docs/scale.md says what `bench/units.py` computes, and its sums are right."""

import inspect
import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pytest
from boto3.dynamodb.types import TypeSerializer
from openai_proxy.events.ulid import new_ulid
from openai_proxy.key_limits import Limits
from openai_proxy.ledger.entries import entry_of
from openai_proxy.ledger.shards import SHARDS
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import load_price_book
from openai_proxy.usage import Usage
from proxy.cache.table import CacheTable
from proxy.limits.counters import TableAccess
from proxy.limits.table import LimitsTable
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target
from proxy.upstream.provider_tokens import ProviderTokens

from bench.stream_units import stream_units
from bench.units import (
    AT_ONCE,
    BATCH,
    BLOCK,
    CPU_SECONDS,
    SECRET_SECONDS,
    WAIT_SECONDS,
    Units,
    batch_seconds,
    event,
    faster,
    lambda_log_bytes,
    marker_units,
    size_of,
    units,
)
from tests.limits.machine import PATIENT
from tests.limits.table import LimitsItems

SCALE = (Path(__file__).parents[3] / "docs" / "scale.md").read_text(encoding="utf-8")
COLUMNS = ((25, 1), (25, 5), (25, 25), (1, 1))


def row(name: str) -> list[str]:
    """The cells behind a row's name."""
    [line] = [line for line in SCALE.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip().strip("*") for cell in line.strip("|").split("|")[1:]]


@pytest.fixture(scope="module")
def measured() -> list[Units]:
    book = load_price_book()
    return [units(*each, book) for each in COLUMNS]


@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("DynamoDB transactions", "transactions"),
        ("write units of the ledger", "write_units"),
        ("of them in the partition of the day", "rollup_units"),
    ],
)
def test_the_units_are_those_of_the_code(name: str, attribute: str, measured: list[Units]) -> None:
    assert [float(cell) for cell in row(name)] == [getattr(each, attribute) for each in measured]


def test_the_sizes_are_those_of_the_code(measured: list[Units]) -> None:
    names = ("the event, `InferenceCompleted`", "its ledger entry", "a rollup", "its line for the lake")
    said = [int(row(name)[0].replace(",", "")) for name in names]
    largest = max(each.rollup_bytes for each in measured)
    one = measured[0]
    assert said == [one.event_bytes, one.entry_bytes, largest, one.lake_bytes]


def test_what_a_resumable_stream_costs_is_counted_on_the_code() -> None:
    for seconds in (1, 10, 60):
        found = stream_units(seconds, 40)
        said = [float(each.replace(",", "")) for each in row(str(seconds))]
        assert said[0] == found.writes
        assert said[1:] == pytest.approx([*found[1:], found.usd * 1e6], rel=0.1), "zlib packs in one way or another"


def test_an_entry_is_two_write_units_and_whoever_adds_a_field_hears_how_much_room_is_left(
    measured: list[Units],
) -> None:
    left = BLOCK - measured[0].entry_bytes
    assert left >= 0, "the usual entry takes four write units now: is the new field worth as much as all others?"
    assert f"so this entry still takes two; {left} bytes are left." in SCALE


def test_how_many_events_are_booked_follows_from_the_seconds_of_a_batch() -> None:
    [line] = [line for line in SCALE.splitlines() if "events/s | record_cost:" in line]
    least, most = faster(1769, than=256)
    busy = [round(batch_seconds(cpu, 256) - WAIT_SECONDS, 2) for cpu in CPU_SECONDS]
    said = [AT_ONCE * BATCH / (seconds + WAIT_SECONDS) for seconds in busy]
    assert f"| {said[1]:,.0f} to {said[0]:,.0f} events/s |" in line
    assert f"{math.ceil(10_000 / (said[1] / AT_ONCE))} for 10,000 events/s" in line
    assert f"takes {busy[0]:.2f} to {busy[1]:.2f} s of CPU" in line
    assert f"some {WAIT_SECONDS} s of waiting" in line
    assert f"at 1,769 MB {least:.1f} to {most:.1f} times as many" in line
    assert (
        f"takes {CPU_SECONDS[0] * 1000:g} to {CPU_SECONDS[1] * 1000:g} ms of CPU for an event in a full batch" in SCALE
    )


def test_as_many_consumers_at_a_time_as_write_what_a_new_table_takes_at_once(measured: list[Units]) -> None:
    template = (Path(__file__).parents[3] / "template.yaml").read_text(encoding="utf-8")
    assert f"LedgerConcurrency: {{Type: Number, Default: {AT_ONCE}," in template
    at_most = AT_ONCE * BATCH / batch_seconds(CPU_SECONDS[0], 256)
    events = 4000 / measured[1].write_units
    assert AT_ONCE - 1 < events / (at_most / AT_ONCE) <= AT_ONCE


def lines_of(table: str) -> list[tuple[str, str, str]]:
    """Units, price and product of each line of a bill; each product is right."""
    lines = re.findall(r"\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", table, re.MULTILINE)
    for amount, price, product in lines:
        cents = (Decimal(amount) * Decimal(price)).quantize(Decimal("0.01"), ROUND_HALF_UP)
        assert cents == Decimal(product)
    return lines


def test_what_comes_on_top_is_computed_from_the_code(measured: list[Units]) -> None:
    of_top = SCALE.partition("### What comes on top")[2].partition("\n\n- ")[0]
    reads, logged, kept = (Decimal(amount) for amount, _, _ in lines_of(of_top)[3:])
    template = (Path(__file__).parents[3] / "template.yaml").read_text(encoding="utf-8")
    stored = measured[0].entry_bytes + 100  # what DynamoDB adds to an item

    assert len(lines_of(of_top)) == 6
    assert row("Lambda's own lines of an invocation, at `SystemLogLevel=INFO`") == [str(lambda_log_bytes())]
    assert logged == (Decimal(lambda_log_bytes()) / 1_000_000).quantize(Decimal("0.00001"))
    assert reads == (10 / Decimal(SECRET_SECONDS)).quantize(Decimal("0.0001")), "a stream takes 10 seconds"
    assert kept == (Decimal(round(stored, -2)) / 1_000_000_000 * 400 * 12 / 365).quantize(Decimal("0.0000001"))
    assert "SystemLogLevel: {Type: String, Default: WARN" in template
    assert template.count("PointInTimeRecoveryEnabled: true") == 2
    assert inspect.signature(ProviderTokens).parameters["ttl"].default == SECRET_SECONDS


def test_an_item_is_as_large_as_dynamodb_counts_it() -> None:
    serialize = TypeSerializer().serialize
    attributes = {"name": "größe", "n": Decimal("123.4500"), "yes": True, "list": ["a"], "map": {"k": "vv"}}

    # name 4 + 7 bytes; n 1 + 1 + 3 for five digits; yes 3 + 1; list 4 + 3 + 1 + 1; map 3 + 3 + 1 + 1 + 2
    assert size_of({name: serialize(value) for name, value in attributes.items()}) == 11 + 5 + 4 + 9 + 10


PARTITION = 1000
"""Write units a second that DynamoDB gives to one partition, and so to one item."""
NOON = 4_099_118_400
MINUTE: Mapping[str, Any] = {"rpm": 30_000}
TOKENS: Mapping[str, Any] = {"tpm": 30_000_000}
PARALLEL: Mapping[str, Any] = {"parallel": 9}
BUDGET: Mapping[str, Any] = {"budget_day": Decimal(9)}


class CountedItems(LimitsItems):
    """Notes an update within a transaction twice: DynamoDB takes two units for it."""

    def transact_updates(self, updates: Sequence[Any], _timeout: float) -> list[Any] | None:
        found = super().transact_updates(updates, _timeout)
        self.written += [each["Key"]["pk"]["S"] for each in updates]
        return found


def writes_of(limits: Limits) -> Mapping[str, int]:
    """The write units that a request takes of each counter, when others have used it in the same minute."""
    items = CountedItems()
    table = LimitsTable(TableAccess(items, "limits", lambda: float(NOON)), "closed")  # pyright: ignore[reportArgumentType]
    content = json.dumps({"model": "m", "messages": []}).encode()
    request = InferenceRequest("function_url", "POST", "/", "", {}, content, None)
    for _ in range(2):
        items.written.clear()
        taken = table.take(
            limits, new_ulid(NOON), RequestBody(request, Target("up", "/chat/completions")), [PATIENT], NOON + 900.0
        )
        assert taken.is_checked
        assert not taken.refused
        table.release(taken, Usage(5, 3, source="reported"), NOON + 10.0)
    return {key.removeprefix("limits#"): items.written.count(key) for key in items.written}


def test_how_many_requests_a_key_with_limits_takes_at_most_follows_from_what_each_writes() -> None:
    alone, *others = [PARTITION // writes_of(Limits("k", **each))["k"] for each in (MINUTE, TOKENS, PARALLEL, BUDGET)]
    assert len(set(others)) == 1
    assert f"bears {alone:,} requests/s with requests a minute alone, and {others[0]} with tokens," in SCALE


def test_of_limits_above_500_requests_a_second_each_shard_takes_so_many() -> None:
    large: Mapping[str, Any] = {"rpm": 600_000}
    for rate, limits in ((500, Limits("k", **large)), (250, Limits("k", **large, tpm=10**9))):
        [writes] = writes_of(limits).values()  # and nothing of the counter
        assert rate * 2 * writes == PARTITION, "half of what a partition bears"
        assert rate * 60 == 600_000 // limits.shards
    assert "nothing of requests that run, so each bears 500 requests/s, or 250 with tokens." in " ".join(SCALE.split())


def test_how_many_requests_of_one_client_are_booked_follows_from_the_units_of_an_entry(measured: list[Units]) -> None:
    usual = 2 * -(-measured[0].entry_bytes // BLOCK)
    assert f"| {SHARDS * PARTITION // (2 * usual):,} requests/s of one client | the {SHARDS} [shards]" in SCALE
    assert f"{2 * usual} for a large entry, {SHARDS * PARTITION // usual:,}/s for a small one" in SCALE


def test_a_hit_of_the_response_cache_is_read_as_it_comes() -> None:
    """Half a unit for each begun 4 KB: not consistent, which would be a whole one."""
    asked: list[Any] = []

    class Reading:
        def get_item(self, arguments: Any, _timeout: float) -> dict[str, Any]:
            asked.append(arguments)
            return {}

    CacheTable(Reading(), "cache").get("k")  # pyright: ignore[reportArgumentType]
    assert [each["ConsistentRead"] for each in asked] == [False]
    assert "a hit of the response cache instead: half a read unit for each 4 KB" in SCALE


class OnlyWrites:
    """A costs table that knows one call, which is all that an event needs which nobody disputes."""

    def __init__(self) -> None:
        self.units: list[int] = []

    def transact_write_items(self, **request: Any) -> dict[str, Any]:
        actions = [next(iter(each.items())) for each in request["TransactItems"]]
        items = [each["Item"] if kind == "Put" else added(each) for kind, each in actions]
        self.units.append(sum(2 * math.ceil(size_of(item) / BLOCK) for item in items))
        return {"ConsumedCapacity": [{"TableName": "costs"}]}


def added(update: Mapping[str, Any]) -> dict[str, Any]:
    return {**update["Key"], **{name[1:]: value for name, value in update["ExpressionAttributeValues"].items()}}


def test_a_small_request_writes_and_reads_what_it_did_before_there_were_shards_and_queues() -> None:
    """Counted at the last version without them: 6, 3, and of its counter 1, 2, 2 and 2."""
    table = OnlyWrites()
    client: Any = table
    assert CostsTable(client, "costs").record([entry_of(event(0), load_price_book())]) == {}
    assert table.units == [6]
    assert marker_units(1) == 3
    each = {"rpm": {"rpm": 600}, "tpm": {"tpm": 10**6}, "parallel": PARALLEL, "budget": BUDGET}
    assert {name: writes_of(Limits("k", **limits)) for name, limits in each.items()} == {
        "rpm": {"k": 1},
        "tpm": {"k": 2},
        "parallel": {"k": 2},
        "budget": {"k": 2},
    }
