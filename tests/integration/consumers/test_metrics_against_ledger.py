"""The same events through record_metrics and record_cost: what the metrics add up to is what the ledger holds."""

import copy
import json
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aws_lambda_powertools import Logger
from boto3.dynamodb.types import TypeDeserializer
from openai_proxy.cloudwatch import CloudWatch
from openai_proxy.events.envelope import rfc3339
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import load_price_book
from record_cost.consumer import RecordCost
from record_metrics.consumer import RecordMetrics
from record_metrics.markers import Markers

from tests.costs_fake import FakeCostsTable
from tests.tables import mocked_table

SAMPLES = sorted((Path(__file__).parents[3] / "events" / "samples").glob("Inference*.json"))
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
EVENTS = 150
TOKENS = "gen_ai.client.token.usage"
TOKEN_TYPES = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_creation": "cache_creation_input_tokens",
    "reasoning": "reasoning_output_tokens",
    "audio_input": "input_audio_tokens",
    "audio_output": "output_audio_tokens",
}


class Recorded:
    """A CloudWatch client that keeps the sum of each metric, by name and dimensions."""

    def __init__(self) -> None:
        self.sums: Counter[tuple[str, frozenset[tuple[str, str]]]] = Counter()

    def put_metric_data(self, **request: Any) -> dict[str, Any]:
        for datum in request["MetricData"]:
            dimensions = frozenset((each["Name"], each["Value"]) for each in datum["Dimensions"])
            for value, count in zip(datum["Values"], datum["Counts"], strict=True):
                self.sums[datum["MetricName"], dimensions] += value * count
        return {"ResponseMetadata": {"RequestId": "1"}}

    def sum(self, metric: str, **dimensions: str) -> float:
        return self.sums[metric, frozenset(dimensions.items())]


def made_up(number: int, dice: random.Random) -> dict[str, str]:
    """An SQS record with an event like one of the samples."""
    envelope = json.loads(dice.choice(SAMPLES).read_text(encoding="utf-8"))
    metadata, data = envelope["detail"]["metadata"], envelope["detail"]["data"]
    metadata["id"], metadata["timestamp"] = new_ulid(NOON + number), rfc3339(NOON + number + 2)
    usage = data["usage"]
    if usage["source"] == "reported":
        usage["input_tokens"], usage["output_tokens"] = dice.randrange(50_000), dice.randrange(5_000)
        usage["cache_read"]["input_tokens"] = usage["input_tokens"] // dice.choice([2, 10**6])
        usage["audio"] = {"input_tokens": usage["input_tokens"] // 7, "output_tokens": usage["output_tokens"] // 9}
        usage["cache_creation"]["input_tokens"] = usage["input_tokens"] // dice.choice([3, 10**6])
        usage["reasoning"]["output_tokens"] = usage["output_tokens"] // dice.choice([2, 10**6])
    return {"messageId": f"m{number}", "body": json.dumps(envelope)}


def deliveries(dice: random.Random) -> Iterator[dict[str, Any]]:
    """Batches in which every event comes, a third of them more than once and all in no order."""
    records = [made_up(number, dice) for number in range(EVENTS)]
    again = [copy.deepcopy(each) | {"messageId": f"{each['messageId']}-again"} for each in dice.sample(records, 50)]
    everything = records + again
    dice.shuffle(everything)
    return ({"Records": everything[first : first + 25]} for first in range(0, len(everything), 25))


@pytest.fixture(scope="module")
def metrics_and_ledger() -> Iterator[tuple[Recorded, list[dict[str, Any]], list[dict[str, Any]]]]:
    """All metrics, the rollups of the day, and its entries."""
    costs: Any = FakeCostsTable()
    with mocked_table("markers", "id") as dynamodb:
        recorded: Any = Recorded()
        metrics, logger = CloudWatch(recorded, "OpenAIProxy"), Logger(service="test")
        consumers = [
            RecordMetrics(metrics, Markers(dynamodb, "markers"), logger, clock=lambda: NOON + 600),
            RecordCost(
                load_price_book(),
                CostsTable(costs, "costs"),
                logger,
                metrics=metrics,
                clock=lambda: NOON + 600,
            ),
        ]
        for batch in deliveries(random.Random(20261123)):
            for consumer in consumers:
                assert consumer(batch) == {"batchItemFailures": []}
        read = TypeDeserializer().deserialize
        items = [{name: read(value) for name, value in item.items()} for item in costs.items.values()]
        rollups = [item for item in items if item["pk"].startswith("day#")]
        yield recorded, rollups, [item for item in items if item["pk"].startswith("client#")]


Both = tuple[Recorded, list[dict[str, Any]], list[dict[str, Any]]]


def test_requests(metrics_and_ledger: Both):
    recorded, rollups, entries = metrics_and_ledger
    servers = {row["server"] for row in rollups}

    assert recorded.sum("Requests") == recorded.sum("EventsRecorded", Consumer="record_metrics") == EVENTS
    assert recorded.sum("EventsRecorded", Consumer="record_cost") == len(entries)
    assert sum(row["requests"] for row in rollups) == EVENTS - recorded.sum("Throttles") == len(entries)
    assert sum(row["failed"] for row in rollups) == recorded.sum("Failures") > 0
    assert recorded.sum("CacheHits") == sum(row["cache_hits"] for row in rollups) > 0
    assert recorded.sum("UsageMissing") == sum(row["usage_missing"] for row in rollups) > 0
    assert recorded.sum("Unpriced") == sum(row["unpriced"] for row in rollups) > 0
    for server in servers:
        outcomes = ("completed", "failed")
        name = "unknown" if server == "-" else server
        of_server = [row for row in rollups if row["server"] == server]
        counted = sum(recorded.sum("Requests", Server=name, Outcome=outcome) for outcome in outcomes)
        assert counted == sum(row["requests"] for row in of_server)


@pytest.mark.parametrize(("token_type", "attribute"), TOKEN_TYPES.items())
def test_tokens(metrics_and_ledger: Both, token_type: str, attribute: str):
    recorded, rollups, _ = metrics_and_ledger

    assert recorded.sum(TOKENS, TokenType=token_type) == sum(row[attribute] for row in rollups) > 0
    for server in {row["server"] for row in rollups}:
        of_server = sum(row[attribute] for row in rollups if row["server"] == server)
        assert recorded.sum(TOKENS, Server=server, TokenType=token_type) == of_server


def test_money(metrics_and_ledger: Both):
    recorded, rollups, entries = metrics_and_ledger

    assert recorded.sum("Cost") == pytest.approx(float(sum(row["cost"] for row in rollups)), abs=1e-6)
    assert recorded.sum("Cost") > 0
    saved = sum(entry.get("cost_saved", 0) for entry in entries)
    assert recorded.sum("CacheSavings") == pytest.approx(float(saved), abs=1e-6)
    for server in {row["server"] for row in rollups}:
        of_server = float(sum(row["cost"] for row in rollups if row["server"] == server))
        assert recorded.sum("Cost", Server=server) == pytest.approx(of_server, abs=1e-6)


def test_latency_counts(metrics_and_ledger: Both):
    """Sums of seconds, too: those of what a server answered whole."""
    recorded, _, entries = metrics_and_ledger
    answered = [each for each in entries if each["outcome"] == "completed" and each["cache_status"] != "HIT"]

    durations = float(sum(each["duration"] for each in answered))
    assert recorded.sum("gen_ai.server.request.duration") == pytest.approx(durations, abs=1e-4 * len(answered))
    first_chunks = [float(each["time_to_first_chunk"]) for each in answered if "time_to_first_chunk" in each]
    seconds = pytest.approx(sum(first_chunks), abs=1e-4 * len(answered))
    assert recorded.sum("gen_ai.server.time_to_first_token") == seconds
