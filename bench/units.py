"""The billed units of one request's event and ledger entry, computed from what the code really writes.

One rule: no figure is a guess. Sizes are those of a sample, of its entry and of its transactions, as DynamoDB counts
them (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html). docs/scale.md has
the figures, and a test holds them to this.
"""

import functools
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from openai_proxy.events.incoming import from_envelope
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.entries import entry_of
from openai_proxy.ledger.lake import json_line, lake_row
from openai_proxy.ledger.table import in_transactions
from openai_proxy.ledger.transactions import build_transaction
from openai_proxy.pricing.price_book import PriceBook, load_price_book
from record_metrics.markers import Run, claim_of

if TYPE_CHECKING:
    from openai_proxy.events.types import InferenceEvent

SAMPLE = Path(__file__).parents[1] / "events" / "samples" / "InferenceCompleted.chat-stream.json"
BEGAN = 1_795_000_000
"""When the first event was made; the others in the milliseconds after it."""
TRACE = "1-00000000-000000000000000000000000"
_REQUEST = "00000000-0000-0000-0000-000000000000"
LAMBDA_LINES: tuple[Mapping[str, Any], ...] = (
    {
        "time": "2026-11-29T12:00:00.000Z",
        "type": "platform.start",
        "record": {
            "requestId": _REQUEST,
            "version": "$LATEST",
            "tracing": {"type": "X-Amzn-Trace-Id", "value": TRACE},
        },
    },
    {
        "time": "2026-11-29T12:00:10.000Z",
        "type": "platform.report",
        "record": {
            "requestId": _REQUEST,
            "metrics": {"durationMs": 10000.0, "billedDurationMs": 10000, "memorySizeMB": 256, "maxMemoryUsedMB": 64},
            "tracing": {"type": "X-Amzn-Trace-Id", "value": TRACE},
            "status": "success",
        },
    },
)
"""What Lambda logs of an invocation that succeeds, where SystemLogLevel is INFO
(https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html)."""
SECRET_SECONDS = 300
"""A sandbox looks its tokens up again after so long (`ProviderTokens`)."""
REQUEST_USD, GB_SECOND_USD = 0.20e-6, 13.3334e-6
"""What Lambda charges on arm64 in us-east-1."""
STREAM_SECONDS = 10.0
"""How long the streams last that docs/scale.md prices."""
_CLIENT = {"key_id": "3f2a91c07be4", "name": "Chat widget", "owner": "team-web", "tags": {"team": "web"}}


BLOCK = 1024
"""Bytes: each begun one is a write unit, and two in a transaction."""
CPU_SECONDS = (0.55e-3, 0.9e-3)
"""What record_cost takes for an event in a full batch, at least and at most, as docs/scale.md says it was measured."""
CPU_ALONE_SECONDS = (3.8e-3, 5.4e-3)
"""The same for one that comes alone."""
WAIT_SECONDS = 0.03
"""What it waits for a batch, at any size of the function."""
AT_ONCE, BATCH, MEGABYTES_OF_A_CPU = 8, 25, 1769


@dataclass(frozen=True, slots=True)
class Units:
    """Bytes, and what each request of a batch takes of DynamoDB.

    `rollup_units` are write units in the one partition of a day; that of a month takes as many.
    """

    event_bytes: int
    entry_bytes: int
    rollup_bytes: int
    lake_bytes: int
    transactions: float
    write_units: float
    rollup_units: float


def event(number: int, model: int = 0) -> "InferenceEvent":
    """A streamed chat. `number` tells events apart, `model` the models that answered."""
    envelope: Any = json.loads(SAMPLE.read_text(encoding="utf-8"))
    metadata, data = envelope["detail"]["metadata"], envelope["detail"]["data"]
    metadata["id"] = metadata["request_id"] = new_ulid(BEGAN + number / 1000)
    data["response"]["model"] += f"-{model}" if model else ""
    data["client"] = _CLIENT
    return cast("InferenceEvent", from_envelope(envelope))


def units(batch: int, models: int, prices: PriceBook | None = None) -> Units:
    """What each of `batch` requests of one client takes, when `models` models answered them."""
    book = prices or load_price_book()
    events = [event(number, number % models) for number in range(batch)]
    entries = [entry_of(each, book) for each in events]
    transactions = [build_transaction("costs", part) for part in in_transactions(entries)]
    actions: list[Any] = [action for part in transactions for action in part]
    items = [action["Put"]["Item"] for action in actions if "Put" in action]
    rollups = [_rollup(action["Update"]) for action in actions if "Update" in action]
    of_day = [each for each in rollups if each["pk"]["S"].startswith("day#")]
    line = json_line(lake_row(events[0].id, entries[0].attributes, events[0].timestamp))
    return Units(
        event_bytes=len(events[0].to_entry("bus")["Detail"]),
        entry_bytes=size_of(items[0]),
        rollup_bytes=max(map(size_of, rollups)),
        lake_bytes=len(line),
        transactions=len(transactions) / batch,
        write_units=sum(map(_write_units, [*items, *rollups])) / batch,
        rollup_units=sum(map(_write_units, of_day)) / batch,
    )


def batch_seconds(cpu_seconds: float, megabytes: int) -> float:
    """How long record_cost is busy with a full batch, at so much CPU for an event, in a function of that size."""
    return BATCH * cpu_seconds * MEGABYTES_OF_A_CPU / megabytes + WAIT_SECONDS


def faster(megabytes: int, than: int) -> tuple[float, float]:
    """How many times as many events record_cost books at one size as at another: at the least and the most CPU."""
    least, most = (batch_seconds(cpu, than) / batch_seconds(cpu, megabytes) for cpu in CPU_SECONDS)
    return least, most


def marker_units(batch: int) -> float:
    """Write units of record_metrics's markers for each request of a batch: a transaction's claim, and a part of the end
    of its run.
    """
    run = Run(new_ulid(BEGAN), BEGAN, BEGAN)
    claims: list[Any] = [claim_of("markers", event(number).id, None, run) for number in range(batch)]
    return (sum(_write_units(claim["Put"]["Item"]) for claim in claims) + 1) / batch


def lambda_log_bytes() -> int:
    """The bytes of what Lambda itself logs of an invocation at INFO. At WARN, the template's default, it logs none."""
    return sum(len(json.dumps(line, separators=(",", ":"))) for line in LAMBDA_LINES)


def proxy_usd(seconds: float, megabytes: int) -> float:
    """What Lambda charges for a million invocations of so many seconds at that size, in dollars."""
    return 1e6 * (REQUEST_USD + seconds * megabytes / 1024 * GB_SECOND_USD)


def size_of(item: Mapping[str, Any]) -> int:
    """The size of an item in DynamoDB's JSON, in bytes."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Mapping[str, Any]) -> int:
    [(kind, content)] = value.items()
    match kind:
        case "S":
            return len(content.encode())
        case "B":
            return len(content)
        case "N":
            return _number_size(content)
        case "M":
            return 3 + len(content) + size_of(content)
        case "L":
            return 3 + sum(1 + _value_size(each) for each in content)
        case _:
            return 1


@functools.lru_cache(maxsize=10_000)
def _number_size(content: str) -> int:
    return 1 + math.ceil(len(Decimal(content).normalize().as_tuple().digits) / 2)


def _rollup(update: Mapping[str, Any]) -> dict[str, Any]:
    """What is in the table after the first addition: key, names and sums."""
    return {**update["Key"], **{name[1:]: value for name, value in update["ExpressionAttributeValues"].items()}}


def _write_units(item: Mapping[str, Any]) -> int:
    """A transaction writes each begun KB twice."""
    return 2 * math.ceil(size_of(item) / BLOCK)
