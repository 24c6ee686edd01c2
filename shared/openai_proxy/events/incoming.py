"""Events as consumers read them. Pure."""

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from openai_proxy.events.envelope import SOURCE, TERMINAL_DETAIL_TYPES, Event

if TYPE_CHECKING:  # types cost a cold start, and do nothing there
    from typing import TypeGuard

    from openai_proxy.events.types import AnyEvent, TerminalEvent


class MalformedEventError(ValueError):
    """A message on a queue is not one of our events: it can only go to the dead-letter queue."""


def from_envelope(envelope: Mapping[str, Any]) -> "AnyEvent":
    """Read an EventBridge envelope with our metadata and data in its detail. Raises MalformedEventError."""
    try:
        metadata = envelope["detail"]["metadata"]
        if not metadata["version"].startswith("1."):
            raise MalformedEventError(f"event version {metadata['version']!r} is not 1.x")
        event: Event[Any, Any] = Event(
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


def from_sqs_body(body: str) -> "AnyEvent":
    """Read the body of an SQS message that an EventBridge rule delivered. Raises MalformedEventError."""
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedEventError("the message is not JSON, or too deep") from error
    return from_envelope(envelope)


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
