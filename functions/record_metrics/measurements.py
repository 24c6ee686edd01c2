"""From a terminal event to measurements, and from many measurements to few metric data. Pure.

One rule: the number of metrics is bounded. CloudWatch bills each combination of name and dimensions, and clients choose
model names; only what a server confirmed becomes a `Model`, and the rest is counted as `other`.

    metric                                            unit     for each of
    Requests                                          Count    all, Server, Server+Model, Server+Outcome
    Failures                                          Count    all, Server, Server+ErrorType, ErrorSource
    Throttles                                         Count    all, Server, Source
    TimeToFirstChunk, Duration (of completed ones)    Seconds  all, Server, Server+Model
    ProxyOverhead                                     Seconds  all, Server
    InputTokens, OutputTokens                         Count    all, Server, Server+Model
    CachedInputTokens, ReasoningTokens, UsageMissing  Count    all, Server
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from openai_proxy.events import DetailType, Event, MalformedEventError
from openai_proxy.ulid import ulid_time
from openai_proxy.usage import Usage

if TYPE_CHECKING:
    from mypy_boto3_cloudwatch.type_defs import MetricDatumTypeDef

OUTCOMES: Mapping[DetailType, str] = {
    "InferenceCompleted": "completed",
    "InferenceFailed": "failed",
    "InferenceThrottled": "throttled",
}

OTHER = "other"
UNKNOWN = "unknown"
"""The server of a request that named none that is known."""

MOST_VALUES = 150
"""CloudWatch's limit for the values of one datum."""

Dimensions = tuple[tuple[str, str], ...]

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,99}")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value of one metric. `minute` is in Unix seconds."""

    name: str
    unit: Literal["Count", "Seconds"]
    value: float
    dimensions: Dimensions
    minute: int


class ModelNames:
    """Which models get a dimension of their own: the first `limit` that servers confirmed in this sandbox's life.

    A server that repeats whatever model name it is sent must not let a client run up the bill.
    """

    def __init__(self, limit: int = 100) -> None:
        self._limit = limit
        self._known: set[tuple[str, str]] = set()

    def __call__(self, server: str, model: str | None) -> str:
        """The `Model` dimension for `model`."""
        if model is None or not _LABEL.fullmatch(model):
            return OTHER
        if (server, model) not in self._known:
            if len(self._known) >= self._limit:
                return OTHER
            self._known.add((server, model))
        return model


def measurements_of(event: Event, model_names: Callable[[str, str | None], str] | None = None) -> list[Measurement]:
    """What a terminal event measures. Raises MalformedEventError."""
    try:
        return list(_measurements(event, model_names or ModelNames()))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise MalformedEventError(f"not a {event.detail_type} event: {error!r}") from error


def _measurements(event: Event, model_names: Callable[[str, str | None], str]) -> Iterator[Measurement]:
    data, outcome = event.data, OUTCOMES[event.detail_type]
    minute = _minute(event.timestamp)
    ulid_time(event.id)  # raises ValueError: nothing else is good for a marker
    server = ("Server", _label(data["server"]["name"], UNKNOWN))
    confirmed = data["response"]["model"] if outcome == "completed" else None
    model = ("Model", model_names(server[1], confirmed))
    by_server: list[Dimensions] = [(), (server,)]
    by_model: list[Dimensions] = [*by_server, (server, model)]

    def measure(name: str, unit: Literal["Count", "Seconds"], value: Any, *sets: Dimensions) -> Iterator[Measurement]:
        number = _number(value)
        return (Measurement(name, unit, number, dimensions, minute) for dimensions in sets)

    yield from measure("Requests", "Count", 1, *by_model, (server, ("Outcome", outcome)))
    if outcome == "failed":
        error = data["error"]
        error_type, source = ("ErrorType", _label(error["type"])), ("ErrorSource", _label(error["source"]))
        yield from measure("Failures", "Count", 1, *by_server, (server, error_type), (source,))
    if outcome == "throttled":
        yield from measure("Throttles", "Count", 1, *by_server, (("Source", _label(data["throttle"]["source"])),))
    if outcome == "completed":
        first_chunk = data["response"]["time_to_first_chunk"]
        if first_chunk is not None:
            yield from measure("TimeToFirstChunk", "Seconds", first_chunk, *by_model)
        yield from measure("Duration", "Seconds", data["timings"]["total"], *by_model)
    yield from measure("ProxyOverhead", "Seconds", data["timings"]["proxy"], *by_server)

    usage = Usage.from_event(data["usage"])
    if usage.source == "missing":
        yield from measure("UsageMissing", "Count", 1, *by_server)
    if usage.source in ("reported", "estimated"):
        yield from measure("InputTokens", "Count", usage.input_tokens, *by_model)
        yield from measure("OutputTokens", "Count", usage.output_tokens, *by_model)
        yield from measure("CachedInputTokens", "Count", usage.cache_read_input_tokens, *by_server)
        yield from measure("ReasoningTokens", "Count", usage.reasoning_output_tokens, *by_server)


def metric_data(measurements: Iterable[Measurement]) -> "list[MetricDatumTypeDef]":
    """As few data as possible: one per metric, dimensions and minute, with each distinct value and its count."""
    counted: dict[tuple[str, Literal["Count", "Seconds"], Dimensions, int], Counter[float]] = {}
    for m in measurements:
        counted.setdefault((m.name, m.unit, m.dimensions, m.minute), Counter())[m.value] += 1
    return [
        {
            "MetricName": name,
            "Unit": unit,
            "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions],
            "Timestamp": datetime.fromtimestamp(minute, tz=UTC),
            "Values": [value for value, _ in values],
            "Counts": [count for _, count in values],
        }
        for (name, unit, dimensions, minute), counter in counted.items()
        for values in _parts(sorted(counter.items()))
    ]


def _parts(values: list[tuple[float, int]]) -> Iterator[list[tuple[float, int]]]:
    return (values[start : start + MOST_VALUES] for start in range(0, len(values), MOST_VALUES))


def _label(value: Any, absent: str = OTHER) -> str:
    if value is None:
        return absent
    return value if _LABEL.fullmatch(value) else OTHER


def _minute(timestamp: str) -> int:
    moment = datetime.fromisoformat(timestamp)
    if moment.tzinfo is None:
        raise ValueError(f"{timestamp!r} has no time zone")
    return int(moment.timestamp()) // 60 * 60


def _number(value: Any) -> float:
    """A value that CloudWatch takes, in steps of a tenth of a millisecond, so that like values fall together."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{value!r} is not a measurement")
    return round(float(value), 4)
