"""The events of the application: names, envelope, and how a consumer reads one. Pure.

The catalogue for people is `events/README.md`; the JSON Schemas are `events/schemas/`. Contract tests hold these
three, the samples and the rules of `template.yaml` together.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, cast

if TYPE_CHECKING:  # types cost a cold start, and do nothing there
    from typing import TypeGuard

    from openai_proxy.events.types import AnyEvent, TerminalEvent

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


class MalformedEventError(ValueError):
    """A message on a queue is not one of our events: it can only go to the dead-letter queue."""


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

    @classmethod
    def from_envelope(cls, envelope: Mapping[str, Any]) -> "AnyEvent":
        """Read an EventBridge envelope with our metadata and data in its detail. Raises MalformedEventError."""
        try:
            metadata = envelope["detail"]["metadata"]
            if not metadata["version"].startswith("1."):
                raise MalformedEventError(f"event version {metadata['version']!r} is not 1.x")
            event = cls(
                detail_type=envelope["detail-type"],
                id=metadata["id"],
                timestamp=metadata["timestamp"],
                request_id=metadata["request_id"],
                client_id=metadata["client_id"],
                data=envelope["detail"]["data"],
            )
            texts: tuple[Any, ...] = event[:-1]
            if not (isinstance(event.data, dict) and all(isinstance(text, str) for text in texts)):
                raise MalformedEventError(f"not an event of {SOURCE}: its metadata are texts, its data an object")
            return cast("AnyEvent", event)
        except (KeyError, TypeError, AttributeError) as error:
            raise MalformedEventError(f"not an event of {SOURCE}: {error!r}") from error

    @classmethod
    def from_sqs_body(cls, body: str) -> "AnyEvent":
        """Read the body of an SQS message that an EventBridge rule delivered. Raises MalformedEventError."""
        try:
            envelope = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise MalformedEventError("the message is not JSON, or too deep") from error
        return cls.from_envelope(envelope)

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


def is_terminal(event: "AnyEvent") -> "TypeGuard[TerminalEvent]":
    """Whether it is a terminal event, of which each authorised request has exactly one."""
    return event.detail_type in TERMINAL_DETAIL_TYPES


def batch_told(event: "TerminalEvent") -> str:
    """The id of the batch whose usage a request was told; "" where it was no batch, or the usage was not told.

    The id is made from the file with the batch's answers, if that is known, because both the batch's state and its
    answers name that file.
    """
    usage = event.data["usage"]
    names = (event.data.get("fetched") or {"names": ()})["names"]
    is_told = usage.get("service_tier") == "batch" and usage["source"] == "reported"
    if not (names and is_told and event.data["request"]["method"] == "GET"):
        return ""
    fact = f"{event.data['server']['name']}\0{names[-1]}"
    return f"batch-{hashlib.sha256(fact.encode(errors='replace')).hexdigest()}"


def rfc3339(unix_time: float) -> str:
    """`unix_time` (seconds) as an RFC 3339 timestamp in UTC with milliseconds: 2026-11-23T18:12:53.042Z."""
    return datetime.fromtimestamp(unix_time, tz=UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
