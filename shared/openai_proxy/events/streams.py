"""What the proxy and `end_streams` share about stored streams. Pure.

    unfinished   JSON: when the request began (Unix seconds), X-Ray's header of it, its terminal event, is_async

Its one rule: while the state of a stream has `unfinished`, its event has not been published. Whoever ends a stream
whose writer has died takes over its lease, publishes the event, and only then removes `unfinished`. So if that process
dies too, the next one publishes the event.
"""

import base64
import hmac
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from openai_proxy.events.envelope import Event, rfc3339

if TYPE_CHECKING:
    from openai_proxy.events.stream_types import StreamData
    from openai_proxy.events.types import TerminalEvent

STATE = 999_999_999_999
"""The place of the state in the order of a stream's items: after all pieces, whose place is their first event."""
KILLED = "worker_killed"
"""The `error` of a stream whose writer was killed."""
LEASE_SECONDS = 30.0
"""For how long a writer that is not heard of is believed to be there, and one that tells of it."""
LOOK_AFTER_SECONDS = 2
"""How long after the end of a lease a stream is looked at: clocks differ, and a call takes a moment."""

Unfinished = tuple[float, str | None, Any]
"""When a request began (Unix seconds), X-Ray's header of it, and its event as a plain tuple or list."""


def event_at(now: float, unfinished: Unfinished) -> "tuple[TerminalEvent, str | None]":
    """The event of a request that ends at `now` (Unix seconds), and its trace. All the time until then counts as
    waiting.
    """
    started_at, trace, (detail_type, event_id, _, request_id, client_id, data) = unfinished
    total: float = round(max(0.0, now - started_at), 6)
    timings: dict[str, float] = data["timings"]
    timings["total"], timings["upstream"] = total, round(max(0.0, total - timings["proxy"]), 6)
    event: Event[Any, Any] = Event(detail_type, event_id, rfc3339(now), request_id, client_id, data)
    return cast("TerminalEvent", event), trace


def unfinished_text(unfinished: Unfinished, *, is_async: bool) -> str:
    """The text that is stored about an event that may have to be published: its three parts, and whether the client did
    not wait.
    """
    started_at, trace, event = unfinished
    return json.dumps([started_at, trace, list(event), is_async], separators=(",", ":"))


def event_of_killed(
    unfinished: str, events: int, now: float, sign: Callable[[str], str] | None
) -> "tuple[TerminalEvent, str | None]":
    """The terminal event of an inference whose writer was killed after `events` events, and its trace.

    Raises ValueError, TypeError and KeyError for a text that `unfinished_text` has not made.
    """
    started_at, trace, event, is_async = json.loads(unfinished)
    told, header = event_at(now, (started_at, trace, event))
    found: StreamData = {"status": "failed", "events": events, "respond_async": is_async}
    told.data["stream"] = signed(sign, told.id, now, found)
    return told, header


def signed(sign: Callable[[str], str] | None, stream_id: str, ended_at: float, found: "StreamData") -> "StreamData":
    """What an event says of a stream, signed if a webhook is told of it."""
    if sign is None or not found["respond_async"]:
        return found
    signature = sign(f"{stream_id}.{rfc3339(ended_at)}.{found['status']}")
    return {**found, "signature": signature} if signature else found


def signature_of(secret: str, text: str) -> str:
    """The signature of a text, in the form that webhooks receive."""
    return "v1," + base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha256")).decode()
