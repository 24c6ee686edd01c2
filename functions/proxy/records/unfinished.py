"""The event of a request whose worker is killed before it can publish the event itself. Pure.

It is made when the request is admitted. The next worker reads it if the request has published nothing. Its one rule:
this event has the id that the request's own event would have, so consumers book only one of them.
"""

import marshal
from typing import TYPE_CHECKING

from openai_proxy.events.streams import Unfinished, event_at
from openai_proxy.usage import Usage

from proxy.call import Call
from proxy.delivery import Delivery
from proxy.errors import UnavailableError
from proxy.json_shapes import LONGEST_NAME, text_of
from proxy.outcome import NO_USAGE, Outcome
from proxy.records.terminal_event import terminal_event
from proxy.timeline import Timeline

if TYPE_CHECKING:
    from openai_proxy.events.types import TerminalEvent


def unfinished(call: Call, timeline: Timeline, trace: str | None) -> bytes:
    """What is known of a request when it is admitted, as a text for `told_at`."""
    return marshal.dumps(unfinished_event(call, timeline, trace))  # marshal takes a twentieth of the time of JSON


def unfinished_event(call: Call, timeline: Timeline, trace: str | None, until: float = 0.0) -> Unfinished:
    """The event of a request of which nothing more is heard after its admission: it has failed.

    Its first server may have been asked, and then its usage is unknown. `trace` is X-Ray's header. If this is made
    later, `until` is when the request was admitted: the time since then was no work of the proxy.
    """
    asked = call.candidates[0] if call.candidates and call.refused is None else None
    outcome = Outcome(
        502,
        Delivery(server=asked.server if asked else None),
        error=call.refused or UnavailableError(502, "worker_killed", "The proxy was killed while it answered."),
        usage=Usage() if asked and call.uses_tokens else NO_USAGE,
        reservation=call.reservation,
    )
    event = terminal_event(call, outcome, timeline.moments(), cold_start=False)
    if asked and call.body:
        model = asked.replacement or call.body.model or asked.server.model
        event.data["request"]["model"] = text_of(model, LONGEST_NAME) if model else None
        event.data["request"]["stream"] = call.body.fields.get("stream") is True
    if until:
        event.data["timings"]["proxy"] = round(max(0.0, until - timeline.started), 6)
    return timeline.started_at, trace, tuple(event)


def told_at(now: float, text: bytes) -> "tuple[TerminalEvent, str | None]":
    """The event in `text`, and its trace. The request is said to have ended at `now` (Unix seconds)."""
    return event_at(now, marshal.loads(text))  # noqa: S302  # our own
