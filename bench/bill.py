"""What a million requests cost behind the proxy, from units that are counted on the code, and list prices.

One rule: a line is what one request takes, and the price of it. docs/scale.md has the lines, and a test holds them.
"""

import json
import math

from openai_proxy.events.envelope import rfc3339
from openai_proxy.pricing.price_book import PriceBook
from proxy.records.log_line import MESSAGE, request_line

from bench.units import (
    BATCH,
    BEGAN,
    CPU_ALONE_SECONDS,
    CPU_SECONDS,
    GB_SECOND_USD,
    MEGABYTES_OF_A_CPU,
    REQUEST_USD,
    STREAM_SECONDS,
    TRACE,
    WAIT_SECONDS,
    Units,
    event,
    marker_units,
    units,
)

WRITE_USD, READ_USD, SQS_USD, METRICS_USD, EVENT_USD = 0.625e-6, 0.125e-6, 0.4e-6, 10e-6, 1e-6
ARCHIVE_USD, LAKE_USD, LOG_USD, TRACE_USD = 100e-6, 47e-6, 500e-6, 5e-6
"""Of a megabyte (1,000,000 bytes) that the archive, Firehose and CloudWatch Logs take in; of a trace."""
TRACED = 1 / 20
"""The share of requests that X-Ray has."""
CONSUMERS = 2
"""Those that hear of a chat: record_cost and record_metrics."""
GIGABYTES = 0.25
"""The memory of each function."""
MODELS = 5
RECEIVED_AT_ONCE = 10
"""Messages in one receive, or one delete, of SQS."""
_RECORD_BYTES = 5 * 1024
"""Firehose counts each begun 5 KB of a record, and a batch is one record."""
_MEGABYTE = 1_000_000

Line = tuple[float, float]
"""How much a request takes, and what one of it costs, in dollars."""


def lines(batch: int, prices: PriceBook, models: int = MODELS) -> dict[str, Line]:
    """The bill of one request of so many in a batch, that were answered by so many models, by its lines' names."""
    written = units(batch, models, prices)
    return {
        "invocation": (1, REQUEST_USD),
        "stream": (STREAM_SECONDS * GIGABYTES, GB_SECOND_USD),
        "event": (1, EVENT_USD),
        "archive": (written.event_bytes / _MEGABYTE, ARCHIVE_USD),
        "queues": (CONSUMERS * queue_calls(batch), SQS_USD),
        "consumers": (CONSUMERS / batch, REQUEST_USD),
        "their time": (CONSUMERS * consumer_seconds(batch), GB_SECOND_USD),
        "ledger": (written.write_units, WRITE_USD),
        "markers": (marker_units(batch), WRITE_USD),
        "lake": (lake_bytes(written, batch) / _MEGABYTE, LAKE_USD),
        "metrics": (CONSUMERS / batch, METRICS_USD),
        "log": (log_bytes() / _MEGABYTE, LOG_USD),
        "traces": (TRACED, TRACE_USD),
    }


def usd(bill: dict[str, Line], *names: str) -> float:
    """What a million requests cost: all of it, or the lines with these names."""
    return 1e6 * sum(amount * price for amount, price in (bill[name] for name in names or bill))


def queue_calls(batch: int) -> float:
    """Calls of SQS for each message of one queue: a message is sent alone, and received and deleted with others."""
    return 1 + 2 * math.ceil(batch / RECEIVED_AT_ONCE) / batch


def consumer_seconds(batch: int) -> float:
    """GB-seconds of a consumer for each message: its CPU, and what it waits for a batch."""
    cpu = CPU_SECONDS[1] if batch == BATCH else CPU_ALONE_SECONDS[1]
    return cpu * MEGABYTES_OF_A_CPU / 1024 + WAIT_SECONDS / batch * GIGABYTES


def lake_bytes(written: Units, batch: int) -> float:
    """What Firehose counts of a request's line in the record of its batch."""
    return math.ceil(batch * written.lake_bytes / _RECORD_BYTES) * _RECORD_BYTES / batch


def log_bytes() -> int:
    """The proxy's line in the log, with its trace, as `proxy.log` writes it."""
    line = request_line(event(0), "published", trace_id=TRACE)
    return len(json.dumps({"level": "INFO", "message": MESSAGE, "timestamp": rfc3339(BEGAN), **line})) + 1
