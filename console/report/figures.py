"""The figures of a report, from rollups and CloudWatch. What is missing is named on the page.

One rule: no entry is read, so that a report of a month is some hundred rollups, however many requests there were.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from openai_proxy.ledger.latencies import FIRST_CHUNK, WHOLE, steps_in
from openai_proxy.pricing.rates import EXACT

from console.period import Period
from console.stack import USUAL_NAMESPACE

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch import CloudWatchClient

Item = dict[str, Any]

PERCENTILES = (50, 90, 99)

_LIMITS = ("rpm", "tpm", "parallel", "budget", "budget_reserved")
SOURCES = (*(f"{whose}_{limit}" for whose in ("key", "team") for limit in _LIMITS), "upstream")
"""What refuses requests: the values of the dimension `Source` of the metric `Throttles`."""

_MOST_DAYS_AT_ONCE = 1000  # the service gives at most 1,440 values
_NO_METRICS = "Throttled requests are not known, because CloudWatch has no metrics {} of this period in this Region."


@dataclass(slots=True)
class Latencies:
    """Completed requests of one model on one server, by steps of their times, without answers of the response cache."""

    durations: Counter[int] = field(default_factory=Counter[int])
    first_chunks: Counter[int] = field(default_factory=Counter[int])

    @property
    def requests(self) -> int:
        return self.durations.total()


@dataclass(slots=True)
class Savings:
    """What caches saved in USD. Requests of which that is not known are counted apart."""

    hits: int = 0
    hits_saved: Decimal = Decimal(0)
    hits_unpriced: int = 0
    cached_requests: int = 0
    cached_tokens: int = 0
    cached_saved: Decimal = Decimal(0)
    cached_unpriced: int = 0


@dataclass(slots=True)
class RollupFigures:
    """Latency and savings. `untimed` are completed requests whose rollups are older than the steps of times."""

    latencies: dict[tuple[str, str], Latencies] = field(default_factory=dict[tuple[str, str], Latencies])
    savings: Savings = field(default_factory=Savings)
    untimed: int = 0


@dataclass(frozen=True, slots=True)
class Throttles:
    """Refused requests by day and by what refused them; `problem` says why there are none."""

    days: Mapping[date, Mapping[str, int]]
    problem: str = ""


def rollup_figures(rollups: Iterable[Item]) -> RollupFigures:
    """Latency and savings, in one pass."""
    figures = RollupFigures()
    for rollup in rollups:
        latencies = figures.latencies.setdefault((rollup["server"], rollup["model"]), Latencies())
        whole = steps_in(rollup, WHOLE)
        latencies.durations += whole
        latencies.first_chunks += steps_in(rollup, FIRST_CHUNK)
        answered = int(rollup["requests"] - rollup.get("failed", 0) - rollup.get("cache_hits", 0))
        figures.untimed += max(0, answered - whole.total())
        _add_savings(figures.savings, rollup)
    figures.latencies = {name: each for name, each in figures.latencies.items() if each.requests}
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
    """A metric's sum on each day on which it is not zero. `asked` is CloudWatch's client and the namespace."""
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


def _add_savings(savings: Savings, rollup: Item) -> None:
    """A hit saved what its tokens would have cost; cached input saved the difference to the price of other input."""
    hits = int(rollup.get("cache_hits", 0))
    savings.hits += hits
    savings.hits_saved = EXACT.add(savings.hits_saved, rollup.get("cost_saved", Decimal(0)))
    savings.hits_unpriced += max(0, hits - int(rollup.get("hits_priced", 0)))
    savings.cached_requests += int(rollup.get("cached_requests", 0))
    savings.cached_tokens += int(rollup.get("cached_tokens", 0))
    savings.cached_saved = EXACT.add(savings.cached_saved, rollup.get("cached_saved", Decimal(0)))
    savings.cached_unpriced += max(0, int(rollup.get("cached_unpriced", 0)))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
