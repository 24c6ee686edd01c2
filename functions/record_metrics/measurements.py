"""From a terminal event to measurements: the metrics of docs/metrics.md that record_metrics writes. Pure.

One rule: what was not measured is not a zero. For a metric without a value nothing is sent, and CloudWatch bills
nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from openai_proxy.events.envelope import NOT_CALLED, DetailType
from openai_proxy.events.incoming import MalformedEventError
from openai_proxy.events.ulid import ulid_time
from openai_proxy.metric_data import (
    ALL,
    Dimensions,
    Measurement,
    ModelNames,
    Unit,
    by_server_and_model,
    label,
    measured,
    minute_of,
)
from openai_proxy.usage import UNKNOWN, Usage

if TYPE_CHECKING:
    from openai_proxy.events.types import AttemptData, TerminalEvent

OUTCOMES: Mapping[DetailType, str] = {
    "InferenceCompleted": "completed",
    "InferenceFailed": "failed",
    "InferenceThrottled": "throttled",
}

CONSUMER = "record_metrics"
TOKENS = "gen_ai.client.token.usage"
RECORDED = "EventsRecorded"

_CACHE_METRICS = {"HIT": "CacheHits", "MISS": "CacheMisses", "REFRESH": "CacheMisses"}

ModelNamer = Callable[[str, str | None], str]


def measurements_of(event: "TerminalEvent", model_names: ModelNamer | None = None) -> list[Measurement]:
    """What a terminal event measures. Raises MalformedEventError."""
    try:
        ulid_time(event.id)  # raises ValueError if the id is no ULID: only a ULID can be a marker
        return list(_Measuring(event, model_names or ModelNames()).all())
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise MalformedEventError(f"not a {event.detail_type} event: {error!r}") from error


class _Measuring:
    """The measurements of one event. Its parts raise KeyError, TypeError, ValueError, AttributeError, OverflowError."""

    def __init__(self, event: "TerminalEvent", model_names: ModelNamer) -> None:
        self._event, self._data = event, event.data
        self._outcome = OUTCOMES[event.detail_type]
        self._minute = minute_of(event)
        self._all, self._server, self._model = by_server_and_model(event, model_names)
        self._by_server = (self._all, self._server)
        self._by_model = (*self._by_server, self._model)
        self._cache_status = self._data["cache"]["status"]

    def all(self) -> Iterator[Measurement]:
        yield from self._counted("Requests", *self._by_model, (*self._server, ("Outcome", self._outcome)))
        yield from self._counted(RECORDED, (("Consumer", CONSUMER),))
        yield from self._refusals()
        yield from self._latencies()
        yield from self._usage()
        yield from self._attempts()
        if name := _CACHE_METRICS.get(self._cache_status):
            yield from self._counted(name, *self._by_server)
        yield from self._limits()
        if self._data.get("cold_start") is True:  # older events do not say it
            yield from self._counted("ColdStarts", ALL)

    def _refusals(self) -> Iterator[Measurement]:
        if self._event.detail_type == "InferenceFailed":
            error = self._event.data["error"]
            error_type, source = ("ErrorType", label(error["type"])), ("ErrorSource", label(error["source"]))
            yield from self._counted("Failures", *self._by_server, (*self._server, error_type), (source,))
        if self._event.detail_type == "InferenceThrottled":
            source = label(self._event.data["throttle"]["source"])
            kind = "upstream" if source == "upstream" else "client"
            yield from self._counted("Throttles", *self._by_server, (("Source", source),), (("Kind", kind),))

    def _limits(self) -> Iterator[Measurement]:
        limits = self._data.get("limits")  # only keys with limits have it
        if limits and limits.get("status") == "unchecked":
            yield from self._counted("LimitsUnchecked", ALL)
        if limits and limits.get("lease"):  # settle_limits gives back what the sandbox could not give back
            yield from self._counted("LimitsNotReturned", ALL)

    def _latencies(self) -> Iterator[Measurement]:
        response, timings = self._data["response"], self._data["timings"]
        first_chunk, per_token = response["time_to_first_chunk"], response.get("time_per_output_token")
        if self._outcome == "completed" and self._cache_status == "HIT":
            if first_chunk is not None:
                yield from self._measured("CacheHitTimeToFirstChunk", "Seconds", first_chunk, ALL)
        elif self._outcome == "completed":
            if first_chunk is not None:
                yield from self._measured("gen_ai.server.time_to_first_token", "Seconds", first_chunk, *self._by_model)
            if per_token is not None:
                yield from self._measured("gen_ai.server.time_per_output_token", "Seconds", per_token, *self._by_model)
            yield from self._measured("gen_ai.server.request.duration", "Seconds", timings["total"], *self._by_model)
        yield from self._measured("ProxyOverhead", "Seconds", timings["proxy"], *self._by_server)

    def _usage(self) -> Iterator[Measurement]:
        usage = Usage.from_event(self._data["usage"])
        if usage.source in UNKNOWN:
            name = "UsageInvalid" if usage.source == "invalid" else "UsageMissing"
            yield from self._counted(name, *self._by_server)
        if usage.source not in ("reported", "estimated"):
            return
        for token_type, tokens in _tokens(usage):
            if tokens:
                own = ("TokenType", token_type)
                sets = [(*dimensions, own) for dimensions in self._by_model]
                yield from self._measured(TOKENS, "Count", tokens, *sets)

    def _attempts(self) -> Iterator[Measurement]:
        attempts: Sequence[AttemptData] = self._data.get("attempts") or ()  # older events have no attempts
        if self._data["server"]["name"] is None:  # several servers were asked at once
            return
        asked = [attempt["server"] for attempt in attempts if attempt["error"] not in NOT_CALLED]
        retries = sum(before == server for before, server in pairwise(asked))
        turns = [attempt["server"] for attempt in attempts]
        fallbacks = sum(before != server for before, server in pairwise(turns))
        if retries:
            yield from self._measured("Retries", "Count", retries, *self._by_server)
        if fallbacks:
            yield from self._measured("Fallbacks", "Count", fallbacks, *self._by_server)

    def _counted(self, name: str, *sets: Dimensions) -> Iterator[Measurement]:
        return measured(name, "Count", 1, self._minute, sets)

    def _measured(self, name: str, unit: Unit, value: Any, *sets: Dimensions) -> Iterator[Measurement]:
        return measured(name, unit, value, self._minute, sets)


def _tokens(usage: Usage) -> Iterator[tuple[str, int]]:
    """The tokens of each type. All types but `input` and `output` are parts of these two."""
    yield "input", usage.input_tokens
    yield "output", usage.output_tokens
    yield "cache_read", usage.cache_read_input_tokens
    yield "cache_creation", usage.cache_creation_input_tokens
    yield "reasoning", usage.reasoning_output_tokens
    yield "audio_input", usage.input_audio_tokens
    yield "audio_output", usage.output_audio_tokens
