"""Three sizes of user, from ten requests a second to ten thousand: what each deploys, and what a million requests cost.

One rule: what is behind the proxy is counted in the simulation. Beside it stands what docs/scale.md computes for a
million streams: the proxy itself, the archive, the lake and the log.
"""

from dataclasses import dataclass
from typing import Any

from openai_proxy.key_limits import Limits
from openai_proxy.pricing.price_book import PriceBook

from bench.bill import CONSUMERS, METRICS_USD, READ_USD, SQS_USD, WRITE_USD, lines, usd
from bench.scale.bus import Region
from bench.scale.limits import LimitsFound, LimitsLoad, one_key
from bench.scale.pipeline import Found, Load, Pipeline, Setup
from bench.scale.queues import Batches
from bench.units import AT_ONCE, GB_SECOND_USD, REQUEST_USD, marker_units, proxy_usd

STREAM = 10.0
MONTH = 30 * 86_400
BESIDE_STREAM = 0.00474
"""Seconds that an invocation lasts beside its stream, as docs/benchmarks.md says it was measured at 256 MB."""


@dataclass(frozen=True, slots=True)
class Size:
    """One user: requests a second of one key of one client, of five models, and what is deployed for it."""

    rate: int
    setup: Setup
    rpm: int
    seconds: float


def sizes() -> list[Size]:
    """Ten requests a second at the defaults of the template, 500 and 10,000."""
    defaults = Setup(Batches(most=AT_ONCE))
    asked = Region(15_000, 40_000)
    return [
        Size(10, defaults, rpm=1_200, seconds=40),
        Size(500, defaults, rpm=60_000, seconds=16),
        Size(10_000, Setup(Batches(most=150, is_warm=True), region=asked, writes=40_000), rpm=900_000, seconds=8),
    ]


def run(size: Size, prices: PriceBook, scale: float = 1.0) -> dict[str, Any]:
    """What both halves of a size come to, the ledger and the limits."""
    load = Load(size.rate, size.seconds * scale, models=5)
    ledger = Pipeline(load, size.setup, prices).run()
    taken = Limits("k", rpm=size.rpm)
    # Of a key in shards nothing is kept of requests that run: there is nothing to wait for.
    seconds = 2 * scale + (STREAM if taken.shards == 1 else 0)
    limits = one_key(LimitsLoad(taken, size.rate, STREAM, seconds), size.setup.writes)
    each = usd_of_a_request(ledger, limits, size.setup, prices)
    return {
        "rate": size.rate,
        "keeps_up": ledger.keeps_up and limits.keeps_up,
        "lag_p50": round(ledger.lag(0.5), 2),
        "lag_p99": round(ledger.lag(0.99), 2),
        "throttled": ledger.table.throttled + limits.table.throttled,
        "conflicts": ledger.table.conflicts + limits.table.conflicts,
        "requests": ledger.sent,
        "lost": ledger.lost + limits.unavailable,
        "queued": ledger.queued,
        "take_p99": round(limits.wait(0.99), 3),
        "ledger_units": round(ledger.table.write_units / max(1, len(ledger.lags)), 2),
        "limits_units": round(limits.table.write_units / max(1, limits.taken), 2),
        "counters": len(limits.table.by_partition),
        "usd_million": round(each * 1e6, 2),
        "usd_month": round(each * size.rate * MONTH, -1),
    }


def usd_of_a_request(found: Found, limits: LimitsFound, setup: Setup, prices: PriceBook) -> float:
    """What one request costs, from what the simulation counted for all of them."""
    recorded, queue = max(1, len(found.lags)), found.queue
    batch = max(1, round(queue.consumed / max(1, queue.invocations)))
    calls = queue.invocations / recorded
    busy = found.busy_seconds / recorded * setup.megabytes / 1024
    total = proxy_usd(STREAM + BESIDE_STREAM, 256) / 1e6
    total += usd(lines(batch, prices), "event", "archive", "lake", "log", "traces") / 1e6
    total += CONSUMERS * (queue.requests / recorded * SQS_USD + calls * (REQUEST_USD + METRICS_USD))
    total += CONSUMERS * busy * GB_SECOND_USD
    total += found.table.write_units / recorded * WRITE_USD + found.table.read_units / recorded * READ_USD
    total += marker_units(batch) * WRITE_USD
    return total + (limits.table.write_units * WRITE_USD + limits.table.read_units * READ_USD) / max(1, limits.taken)
