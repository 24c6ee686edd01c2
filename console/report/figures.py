"""The figures of a report, from rollups, entries and CloudWatch.

Spend and tokens come from the rollups, which stay; latency and savings come from entries, which expire after 400 days.
What is missing is named on the page.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from openai_proxy.events.ulid import ulid_time
from openai_proxy.ledger.entry_cost import usage_of_entry
from openai_proxy.pricing.price_book import PriceBook, Unpriced
from openai_proxy.pricing.rates import EXACT

from console.cloudwatch import USUAL_NAMESPACE
from console.period import Period

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

Item = dict[str, Any]

PERCENTILES = (50, 90, 99)

_LIMITS = ("rpm", "tpm", "parallel", "budget", "budget_reserved")
SOURCES = (*(f"{whose}_{limit}" for whose in ("key", "team") for limit in _LIMITS), "upstream")
"""What refuses requests: the values of the dimension `Source` of the metric `Throttles`."""

_MOST_DAYS_AT_ONCE = 1000  # the service gives at most 1,440 values
_NO_METRICS = "Throttled requests are not known, because CloudWatch has no metrics {} of this period in this Region."

OF_ENTRIES = frozenset(
    {"sk", "client_id", "server", "model", "request_model", "outcome", "cache_status", "cost", "cost_saved", "duration"}
    | {"time_to_first_chunk", "input_tokens", "output_tokens", "cache_read_input_tokens", "usage_source"}
    | {"cache_creation_input_tokens", "reasoning_output_tokens", "input_audio_tokens", "output_audio_tokens"}
    | {"audio_duration", "input_image_tokens", "output_image_tokens"}
)
"""The attributes of entries that are looked at."""


@dataclass(slots=True)
class Latencies:
    """Seconds of the completed requests of one model on one server, answers from the cache left out."""

    durations: list[float] = field(default_factory=list[float])
    first_chunks: list[float] = field(default_factory=list[float])


@dataclass(slots=True)
class Savings:
    """What caches saved in USD, at the prices of the book. Requests without a price there are counted apart."""

    hits: int = 0
    hits_saved: Decimal = Decimal(0)
    hits_unpriced: int = 0
    cached_requests: int = 0
    cached_tokens: int = 0
    cached_saved: Decimal = Decimal(0)
    cached_unpriced: int = 0


@dataclass(slots=True)
class EntryFigures:
    """The figures that only entries have, not rollups."""

    entries: int = 0
    latencies: dict[tuple[str, str], Latencies] = field(default_factory=dict[tuple[str, str], Latencies])
    savings: Savings = field(default_factory=Savings)


@dataclass(frozen=True, slots=True)
class Throttles:
    """Refused requests by day and by what refused them; `problem` says why there are none."""

    days: Mapping[date, Mapping[str, int]]
    problem: str = ""


def entry_figures(entries: Iterable[Item], prices: PriceBook) -> EntryFigures:
    """Latency and savings, in one pass."""
    figures = EntryFigures()
    for entry in entries:
        figures.entries += 1
        hit = entry.get("cache_status") == "HIT"
        if entry["outcome"] == "completed" and not hit:
            key = (entry.get("server", "-"), entry.get("model", "-"))
            latencies = figures.latencies.setdefault(key, Latencies())
            latencies.durations.append(float(entry["duration"]))
            if "time_to_first_chunk" in entry:
                latencies.first_chunks.append(float(entry["time_to_first_chunk"]))
        if hit or entry["cache_read_input_tokens"]:
            _add_savings(figures.savings, entry, prices, hit=hit)
    return figures


def percentile(values: Sequence[float], percent: int) -> float | None:
    """The smallest value that `percent` % of all do not exceed (nearest rank); None without values.

    `values` are in order.
    """
    return values[max(0, math.ceil(len(values) * percent / 100) - 1)] if values else None


def read_throttles(
    client: Callable[[], "CloudWatchClient"], period: Period, namespace: str = USUAL_NAMESPACE
) -> Throttles:
    """The metric `Throttles` by source. CloudWatch keeps days for 455 days, and may be out of reach.

    Sources are asked for by name: CloudWatch lists no metric that has had no value for two weeks.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - it takes time to load

    try:
        cloudwatch = client()
        asked = cloudwatch, namespace
        found = {source: _sums(asked, "Throttles", period, Source=source) for source in SOURCES}
        if not any(found.values()) and not _sums(asked, "Requests", period):
            return Throttles({}, _NO_METRICS.format(namespace))
    except (BotoCoreError, ClientError) as error:
        return Throttles({}, f"Throttled requests are not known, because CloudWatch could not be asked: {error}")
    days: dict[date, dict[str, int]] = {}
    for source, sums in found.items():
        for day, number in sums.items():
            days.setdefault(day, {})[source] = number
    return Throttles(days)


def _sums(asked: "tuple[CloudWatchClient, str]", metric: str, period: Period, **dimensions: str) -> dict[date, int]:
    """A metric's sum on each day on which it is not zero. `asked` is whom, and of which namespace."""
    client, namespace = asked
    sums: dict[date, int] = {}
    for first in range(0, len(period.days), _MOST_DAYS_AT_ONCE):
        part = period.days[first : first + _MOST_DAYS_AT_ONCE]
        answer = client.get_metric_statistics(
            Namespace=namespace,
            MetricName=metric,
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=_midnight(part[0]),
            EndTime=_midnight(part[-1]) + timedelta(days=1),
            Period=86400,
            Statistics=["Sum"],
        )
        for point in answer["Datapoints"]:
            day = point.get("Timestamp", _midnight(part[0])).astimezone(UTC).date()
            sums[day] = sums.get(day, 0) + round(point.get("Sum", 0))
    return {day: number for day, number in sums.items() if number}


def _add_savings(savings: Savings, entry: Item, prices: PriceBook, *, hit: bool) -> None:
    """A hit saved what its tokens would have cost; cached input saved the difference to the price of other input.

    Entries of hits say what was saved, but for those that are older than that attribute: these are priced by the book
    of today.
    """
    if "cost_saved" in entry and hit:
        savings.hits += 1
        savings.hits_saved = EXACT.add(savings.hits_saved, entry["cost_saved"])
        return
    usage, at, server = usage_of_entry(entry), ulid_time(entry["sk"]), entry.get("server")
    real, model = prices.price_answer(usage, server, entry.get("model"), entry.get("request_model"), at)
    if hit:
        savings.hits += 1
        if isinstance(real, Unpriced):
            savings.hits_unpriced += 1
        else:
            savings.hits_saved = EXACT.add(savings.hits_saved, real.total)
        return
    savings.cached_requests += 1
    savings.cached_tokens += usage.cache_read_input_tokens
    fresh = prices.price(usage._replace(cache_read_input_tokens=0, cache_creation_input_tokens=0), server, model, at)
    if isinstance(real, Unpriced) or isinstance(fresh, Unpriced):
        savings.cached_unpriced += 1
    else:
        savings.cached_saved = EXACT.add(savings.cached_saved, EXACT.subtract(fresh.total, real.total))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
