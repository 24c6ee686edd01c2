"""The events of the application: their names, and how one is put on the bus. Pure.

The catalogue for people is `events/README.md`; the JSON Schemas are `events/schemas/`. Contract tests hold these
three, the samples and the rules of `template.yaml` together.
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Generic, Literal, NamedTuple, TypeVar

SOURCE = "openai-proxy"
VERSION = "1.0"

DetailType = Literal[
    "InferenceCompleted",
    "InferenceFailed",
    "InferenceThrottled",
    "ResponseCaptured",
    "BudgetThresholdReached",
    "IncidentReported",
    "ThrottleForecast",
    "GuardActed",
]
TERMINAL_DETAIL_TYPES: tuple[DetailType, ...] = ("InferenceCompleted", "InferenceFailed", "InferenceThrottled")
"""Exactly one of these is published for every authorised request."""

NOT_CALLED = frozenset({"circuit_open", "kept_out", "server_not_configured", "token_unavailable"})
"""The `error` of an attempt that made no call of its server. Older events have the second word instead of the first."""


def calls_made(errors: Iterable[str | None]) -> int:
    """How many calls of servers were made, from the `error` of each attempt."""
    return sum(error not in NOT_CALLED for error in errors)


Kind_co = TypeVar("Kind_co", bound=DetailType, covariant=True)
Data_co = TypeVar("Data_co", bound=Mapping[str, Any], covariant=True)


class Event(NamedTuple, Generic[Kind_co, Data_co]):
    """One fact. `id` is a ULID, every consumer's idempotency key: it survives retries, replays and re-routing.

    `openai_proxy.events.types` says what `data` holds, for each detail-type.
    """

    detail_type: Kind_co
    id: str
    timestamp: str
    request_id: str
    client_id: str
    data: Data_co

    def to_entry(self, bus_name: str, trace_header: str | None = None) -> dict[str, str]:
        """This event as one PutEvents entry. `trace_header` is the X-Ray header that carries the trace to consumers."""
        detail = {
            "metadata": {
                "id": self.id,
                "version": VERSION,
                "timestamp": self.timestamp,
                "request_id": self.request_id,
                "client_id": self.client_id,
            },
            "data": self.data,
        }
        entry = {
            "Source": SOURCE,
            "DetailType": self.detail_type,
            "Detail": json.dumps(detail, separators=(",", ":")),
            "EventBusName": bus_name,
        }
        return entry | {"TraceHeader": trace_header} if trace_header else entry


def rfc3339(unix_time: float) -> str:
    """`unix_time` (seconds) as an RFC 3339 timestamp in UTC with milliseconds: 2026-11-23T18:12:53.042Z."""
    return datetime.fromtimestamp(unix_time, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
