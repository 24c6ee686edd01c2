"""From measurements to few CloudWatch metric data: values of one metric, dimensions and minute together. Pure.

One rule: the number of metrics is bounded. CloudWatch bills each combination of name and dimensions, and clients choose
model names; only what a server confirmed becomes a `Model`, and the rest is counted as `other`.

Values travel as `Values` and `Counts`, never as sums: a statistic set would lose the percentiles.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_cloudwatch.type_defs import MetricDatumTypeDef

    from openai_proxy.events.types import AnyEvent, TerminalEvent

OTHER = "other"
UNKNOWN = "unknown"
"""The server of a request that named none that is known."""

MOST_VALUES = 150
"""CloudWatch's limit for the values of one datum."""

OLDEST = 14 * 86400
"""CloudWatch refuses a whole call for one value that is two weeks old (seconds), or …"""
NEWEST = 2 * 3600
"""… more than two hours ahead."""
_MARGIN = 300
_LARGEST = 10**15
"""No count, time or cost is so large. CloudWatch refuses a whole call for one value beyond 2 to the 360th."""

Unit = Literal["Count", "Seconds", "None"]

Dimensions = tuple[tuple[str, str], ...]

ALL: Dimensions = ()
"""No dimensions: all of the deployment together."""

# Tenths of a millisecond, billionths of a unit of money: like values fall together, and sums stay those of the ledger.
_DIGITS: dict[Unit, int] = {"Count": 4, "Seconds": 4, "None": 9}

_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,99}")


class Metrics(Protocol):
    """Where metrics go: openai_proxy.cloudwatch.CloudWatch, or a fake of it."""

    def put(self, data: "Sequence[MetricDatumTypeDef]") -> None:
        """Publish metric data. Raises botocore's errors."""
        ...


@dataclass(frozen=True, slots=True)
class Measurement:
    """One value of one metric. `minute` is in Unix seconds."""

    name: str
    unit: Unit
    value: float
    dimensions: Dimensions
    minute: int


class ModelNames:
    """Which models get a dimension of their own: the first `limit` that servers confirmed in this sandbox's life.

    A client must not be able to run up the bill at a server that repeats whatever model name it is sent.
    """

    def __init__(self, limit: int = 50) -> None:
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


def by_server_and_model(
    event: "TerminalEvent", model_names: Callable[[str, str | None], str]
) -> tuple[Dimensions, Dimensions, Dimensions]:
    """The dimension sets of a terminal event: all, its Server, its Server and Model.

    Raises KeyError or TypeError when the event does not follow the schema.
    """
    server = label(event.data["server"]["name"], UNKNOWN)
    confirmed = event.data["response"]["model"] if event.detail_type == "InferenceCompleted" else None
    model = model_names(server, confirmed)
    return ALL, (("Server", server),), (("Server", server), ("Model", model))


def measured(name: str, unit: Unit, value: Any, minute: int, sets: Iterable[Dimensions]) -> Iterator[Measurement]:
    """One value as a measurement for each set of dimensions. Raises ValueError for no number from 0 to 10^15."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(f"{value!r} is not a measurement")  # noqa: TRY004 - callers map one error
    number = round(float(value), _DIGITS[unit])
    if not 0 <= number <= _LARGEST:  # NaN fails this comparison too
        raise ValueError(f"{value!r} is not a measurement")
    return (Measurement(name, unit, number, dimensions, minute) for dimensions in sets)


def label(value: Any, absent: str = OTHER) -> str:
    """A dimension's value: `value`, or `other` when it is not plain and short. Raises TypeError for what is no text."""
    if value is None:
        return absent
    return value if _LABEL.fullmatch(value) else OTHER


def minute_of(event: "AnyEvent") -> int:
    """The minute in which an event was made, in Unix seconds. Raises ValueError or TypeError."""
    moment = datetime.fromisoformat(event.timestamp)
    if moment.tzinfo is None:
        raise ValueError(f"{event.timestamp!r} has no time zone")
    return int(moment.timestamp()) // 60 * 60


def is_acceptable(minute: int, now: float) -> bool:
    """Whether CloudWatch takes a value of `minute`. Both in Unix seconds."""
    return now - OLDEST + _MARGIN < minute < now + NEWEST - _MARGIN


def metric_data(measurements: Iterable[Measurement]) -> "list[MetricDatumTypeDef]":
    """As few data as possible: one per metric, dimensions and minute, with each distinct value and its count."""
    counted: dict[tuple[str, Unit, Dimensions, int], Counter[float]] = {}
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
