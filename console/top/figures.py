"""What `top` shows, computed from the inferences of the last minutes. Pure.

An inference belongs to the moment at which it ended, as its event says, not to that at which it was written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from openai_proxy.events.envelope import rfc3339
from openai_proxy.pricing.rates import EXACT
from openai_proxy.throttles.weather import Weather

from console.report.figures import percentile

Dimension = Literal["client", "server", "model"]
DIMENSIONS: tuple[Dimension, ...] = ("client", "server", "model")

BY_THE_PROXY = "(proxy)"
"""The server of what no server was asked for. In brackets, which no server's name has; models without a name too."""

BUCKETS = 30
"""The window is drawn in so many pieces."""


@dataclass(frozen=True, slots=True)
class Inference:
    """What `top` looks at of a ledger entry. `ended` is in Unix seconds; what was not measured is None."""

    ended: float
    client: str
    server: str
    model: str
    failed: bool
    cache_hit: bool
    time_to_first_chunk: float | None
    input_tokens: int
    output_tokens: int
    cost: Decimal | None


OF_ENTRIES = frozenset(
    {"sk", "timestamp", "client_id", "server", "model", "outcome", "cache_status", "time_to_first_chunk"}
    | {"input_tokens", "output_tokens", "cost", "operation", "path", "error_source"}
)
"""The attributes of entries that are looked at."""


def inference_of(entry: Mapping[str, Any]) -> Inference:
    """An entry of the ledger as `top` sees it."""
    first_chunk = entry.get("time_to_first_chunk")
    return Inference(
        ended=datetime.fromisoformat(entry["timestamp"]).timestamp(),
        client=entry["client_id"],
        server=entry.get("server", BY_THE_PROXY),
        model=entry.get("model") or f"({_kind_of(entry)})",
        failed=entry["outcome"] == "failed",
        cache_hit=entry.get("cache_status") == "HIT",
        time_to_first_chunk=None if first_chunk is None else float(first_chunk),
        input_tokens=int(entry["input_tokens"]),
        output_tokens=int(entry["output_tokens"]),
        cost=entry.get("cost"),
    )


def _kind_of(entry: Mapping[str, Any]) -> str:
    """What an inference that has no model is called."""
    operation, path = entry.get("operation") or "other", entry.get("path") or ""
    if "server" not in entry and entry["outcome"] == "failed":
        return "refused" if entry.get("error_source") == "client" else "failed"
    if path.startswith("/receipts/"):
        return "receipt"
    return "model list" if operation == "models" else operation


@dataclass(slots=True)
class Sums:
    """Some inferences together. Latencies are of completed ones that a server answered, in seconds."""

    requests: int = 0
    failed: int = 0
    cache_hits: int = 0
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = Decimal(0)
    first_chunks: list[float] = field(default_factory=list[float])

    def add(self, inference: Inference) -> None:
        self.requests += 1
        self.failed += inference.failed
        self.cache_hits += inference.cache_hit
        self.unpriced += inference.cost is None
        self.input_tokens += inference.input_tokens
        self.output_tokens += inference.output_tokens
        self.cost = EXACT.add(self.cost, inference.cost or Decimal(0))
        if inference.time_to_first_chunk is not None and not inference.failed and not inference.cache_hit:
            self.first_chunks.append(inference.time_to_first_chunk)

    @property
    def known_cost(self) -> Decimal | None:
        """The part of the cost that is known; None where nothing is: something has no price, and all else was free."""
        return None if self.unpriced and not self.cost else self.cost

    def first_chunk(self, percent: int) -> float | None:
        """A percentile of the time to the first chunk."""
        return percentile(sorted(self.first_chunks), percent)


@dataclass(frozen=True, slots=True)
class Throttles:
    """Refused requests of the window by what refused them, by server and, of the busiest, by client; `problem` says why
    they are not known.
    """

    by_source: Mapping[str, int] = field(default_factory=dict[str, int])
    by_server: Mapping[str, int] = field(default_factory=dict[str, int])
    by_client: Mapping[str, int] = field(default_factory=dict[str, int])
    problem: str = ""
    servers: Sequence[Weather] = ()
    """What servers have announced of their limits, where they refuse or soon will."""


class Seen(NamedTuple):
    """What a look has found, at `at` (Unix seconds)."""

    inferences: Sequence[Inference]
    throttles: Throttles
    at: float
    incomplete: bool = False
    """There were more inferences than are read."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The last `window` seconds up to `until` (Unix seconds)."""

    until: float
    window: int
    by: tuple[Dimension, ...]
    total: Sums
    rows: Sequence[tuple[tuple[str, ...], Sums]]
    """Names by `by`, and sums; those with most requests first."""
    buckets: Sequence[int]
    """Requests in each of BUCKETS equal pieces of the window, oldest first."""
    throttles: Throttles
    incomplete: bool = False
    """There were more inferences than are read."""

    def a_minute(self, number: int) -> float:
        return number * 60 / self.window

    def a_second(self, number: int) -> float:
        return number / self.window


def figures_of(seen: Seen, by: tuple[Dimension, ...], window: int) -> Figures:
    """Sum up what was seen of the last `window` seconds before the look."""
    total, rows, buckets = Sums(), dict[tuple[str, ...], Sums](), [0] * BUCKETS
    for inference in seen.inferences:
        age = seen.at - inference.ended
        if not age < window:
            continue
        names = {"client": inference.client, "server": inference.server, "model": inference.model}
        total.add(inference)
        rows.setdefault(tuple(names[dimension] for dimension in by), Sums()).add(inference)
        buckets[BUCKETS - 1 - max(0, int(age * BUCKETS / window))] += (
            1  # clocks differ: what ends a moment ahead counts as now
        )
    ordered = sorted(rows.items(), key=lambda row: (-row[1].requests, row[0]))
    return Figures(seen.at, window, by, total, ordered, buckets, seen.throttles, seen.incomplete)


def as_document(figures: Figures) -> dict[str, Any]:
    """The figures for programs: money as text, so that it stays exact."""
    throttles = figures.throttles
    return {
        "limits_of_servers": [_limits_of(each) for each in throttles.servers],
        "until": rfc3339(figures.until),
        "window_seconds": figures.window,
        "incomplete": figures.incomplete,
        **_document(figures, figures.total),
        "throttles": None
        if throttles.problem
        else {
            "by_source": dict(throttles.by_source),
            "by_server": dict(throttles.by_server),
            "by_client": dict(throttles.by_client),
        },
        "rows": [
            {**dict(zip(figures.by, names, strict=True)), **_document(figures, sums)} for names, sums in figures.rows
        ],
    }


def _limits_of(weather: Weather) -> dict[str, Any]:
    resource, left = weather.going or (None, None)
    return {
        "server": weather.server,
        "model": weather.model,
        "full_until": rfc3339(weather.full_until) if weather.full_until else None,
        "resource": resource,
        "remaining": left.remaining if left else None,
        "limit": left.limit if left else None,
        "seconds": round(left.seconds, 3) if left and left.seconds is not None else None,
    }


def _document(figures: Figures, sums: Sums) -> dict[str, Any]:
    return {
        "requests": sums.requests,
        "requests_per_minute": round(figures.a_minute(sums.requests), 3),
        "completed": sums.requests - sums.failed,
        "failed": sums.failed,
        "cache_hits": sums.cache_hits,
        "time_to_first_chunk_p50": sums.first_chunk(50),
        "time_to_first_chunk_p95": sums.first_chunk(95),
        "input_tokens": sums.input_tokens,
        "output_tokens": sums.output_tokens,
        "output_tokens_per_second": round(figures.a_second(sums.output_tokens), 3),
        "cost": None if (cost := sums.known_cost) is None else f"{cost.normalize():f}",
        "unpriced": sums.unpriced,
    }
