"""The one event that states what came of a request. Pure.

Its one rule: it holds sizes, counts, names and moments, and nothing of prompts or answers; `events/README.md` lists its
fields. Each text is bounded and clean, wherever it comes from, so the size of the event is bounded whatever a client
asks and a server answers.
"""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from openai_proxy.events.envelope import Event, rfc3339
from openai_proxy.usage import MOST_SECONDS

from proxy.call import Call
from proxy.errors import LimitError, UpstreamError
from proxy.json_shapes import LONGEST_NAME, text_of
from proxy.limits.reservation import nothing_taken
from proxy.outcome import Outcome, event_id_of, fetched_of, tells_batch
from proxy.timeline import Moments

if TYPE_CHECKING:
    from openai_proxy.events.types import (
        ClientData,
        ErrorData,
        InferenceCompleted,
        LimitsData,
        RequestData,
        ResponseData,
        TerminalEvent,
        ThrottleData,
        TimingsData,
    )

_LONGEST_DESCRIPTION = 128
_LONGEST_TAG = 64
_LONGEST_END_USER = 255
_MOST_TAGS = 16
_LONGEST_REASON = 32
_MOST_REASONS = 16
_MOST_ATTEMPTS = 32


def terminal_event(call: Call, outcome: Outcome, moments: Moments, *, cold_start: bool) -> "TerminalEvent":
    """The terminal event: throttled (an upstream 429), failed (an error, or an upstream refusal) or completed."""
    event_id = event_id_of(call, outcome, moments.started_at)
    moment, client_id = rfc3339(moments.ended_at), call.key.client_id if call.key else ""
    whose = event_id, moment, call.request_id, client_id
    data: InferenceCompleted = {
        "client": _client(call),
        "end_user": _end_user(call),
        "tags": _tags(call),
        "limits": _limits(call, outcome),
        "operation": {"name": call.operation},
        "door": call.request.door if call.request else "function_url",
        "server": {"name": outcome.delivery.server_name or _unasked(call, outcome)[0]},
        "request": _request(call, outcome),
        "response": _response(outcome, moments),
        "usage": outcome.usage.to_event(),
        "attempts": [attempt.to_event() for attempt in moments.attempts[-_MOST_ATTEMPTS:]],
        "cold_start": cold_start,
        "timings": _timings(moments),
        "cache": outcome.cache.to_event(),
    }
    if fetched := fetched_of(call, outcome, moments.started_at):
        data["fetched"] = fetched
    if outcome.stream:
        data["stream"] = outcome.stream
    if call.key and call.key.team:
        data["team"] = {"name": call.key.team, "limits": _limits(call, outcome, call.key.team)}
    if any(status == 429 or _may_announce(headers) for _, _, status, headers in moments.answers):
        from proxy.records.announced import announced_of  # noqa: PLC0415  # many servers announce nothing

        data["announced"] = announced_of(moments.answers, moments.ended_at)
    if throttle := _throttle(outcome):
        return Event("InferenceThrottled", *whose, {**data, "throttle": throttle})
    if error := _error(outcome):
        return Event("InferenceFailed", *whose, {**data, "error": error})
    return Event("InferenceCompleted", *whose, data)


def _throttle(outcome: Outcome) -> "ThrottleData | None":
    """The limit that had no room: one of the key, or one of the server."""
    error = outcome.error
    if isinstance(error, LimitError):
        found: ThrottleData = {"source": error.source, "retry_after": error.retry_after}
        if (full := error.reached) is not None:
            found["subject"] = {"type": full.subject, "id": text_of(full.subject_id, LONGEST_NAME) or ""}
            found["span"], found["limit"], found["used"], found["asked"] = full[2:]
        return found
    if outcome.status == 429 and (error is None or error.fault == "upstream"):
        wait, server = outcome.delivery.retry_after, outcome.delivery.server_name
        return {
            "source": "upstream",
            "retry_after": None if wait is None else min(wait, float(MOST_SECONDS)),
            "subject": {"type": "server", "id": server or ""},
        }
    return None


def _may_announce(headers: Mapping[str, str]) -> bool:
    return any("ratelimit" in name for name in headers)


def _unasked(call: Call, outcome: Outcome) -> tuple[str | None, str | None]:
    """The server and the model of a request that a limit refused before any server was asked."""
    if not (isinstance(outcome.error, LimitError) and call.candidates and call.body):
        return None, None
    server, replacement = call.candidates[0]
    return server.name, replacement or call.body.model or (server.model if call.body.takes_default else None)


def _error(outcome: Outcome) -> "ErrorData | None":
    """Why the request failed, if it did and was not throttled."""
    error, status, meter = outcome.error, outcome.status, outcome.meter
    if error is None and (status >= 400 or (meter is not None and meter.error)):
        error = UpstreamError(status, "upstream_error", "", upstream_status=status)
    if error is None:
        return None
    upstream_status = error.upstream_status if isinstance(error, UpstreamError) else None
    return {"type": error.code, "source": error.fault, "upstream_status": upstream_status}


def _request(call: Call, outcome: Outcome) -> "RequestData":
    request, sent = call.request, outcome.delivery.sent
    found: RequestData = {
        "method": request.method if request else "",
        "path": text_of(call.path, LONGEST_NAME) or "",
        "model": text_of(sent.model if sent else _unasked(call, outcome)[1], LONGEST_NAME),
        "stream": sent.stream if sent else False,
        "size": len(request.body) if request else 0,
    }
    if call.key and call.key.guards:
        from proxy.records.digest import digest_of  # noqa: PLC0415  # where guards are on

        if digest := digest_of(call):
            found["digest"] = digest
    return found


def _response(outcome: Outcome, moments: Moments) -> "ResponseData":
    meter = outcome.meter
    reasons = meter.finish_reasons[:_MOST_REASONS] if meter else []
    return {
        "status_code": outcome.status,
        "model": meter.model if meter else None,
        "id": meter.id if meter else None,
        "finish_reasons": [reason[:_LONGEST_REASON] for reason in reasons],
        "time_to_first_chunk": moments.time_to_first_chunk,
        "size": meter.size if meter else 0,
        "chunks": meter.chunks if meter else 0,
        "time_per_output_token": _time_per_output_token(outcome, moments),
    }


def _client(call: Call) -> "ClientData | None":
    """The `data.client` object: the key as its owner described it."""
    if call.key is None:
        return None
    client = call.key.to_event()
    tags = list(client["tags"].items())[:_MOST_TAGS]
    return {
        "key_id": text_of(client["key_id"], _LONGEST_TAG) or "",
        "name": text_of(client["name"], _LONGEST_DESCRIPTION) or "",
        "owner": text_of(client["owner"], _LONGEST_DESCRIPTION),
        "tags": {text_of(name, _LONGEST_TAG) or "": text_of(value, _LONGEST_DESCRIPTION) or "" for name, value in tags},
    }


def _tags(call: Call) -> dict[str, str]:
    """The request's tags. Where its key has a tag of the same name, the key's tag counts."""
    own = set(call.key.tags if call.key else ())
    return {name: value for name, value in call.tags.items() if name not in own}


def _limits(call: Call, outcome: Outcome, team: str = "") -> "LimitsData | None":
    """What the request took of the limits of its key, or of its team."""
    own = (call.key.team_limits if team else call.key.limits) if call.key else None
    reservation = outcome.reservation.of(team) if outcome.reservation else None
    limits = reservation.to_event() if reservation else nothing_taken(own) if own else None
    if limits and call.fetches_answer and not tells_batch(call, outcome):
        limits["has_budget"] = False  # a background answer's reservation of when it was begun stays in the budget
    return limits


def _end_user(call: Call) -> str | None:
    """The user who has signed in; else a pseudonym of the user whom the client names, which does not lead back to the
    name.
    """
    if call.key and call.key.end_user:
        return text_of(call.key.end_user, _LONGEST_END_USER)
    if not call.end_user or call.key is None:
        return None
    person = f"{call.key.client_id}\0{call.end_user}"
    return hashlib.sha256(person.encode(errors="replace")).hexdigest()[:32]


def _time_per_output_token(outcome: Outcome, moments: Moments) -> float | None:
    """Seconds from one token of a stream to the next, after the first chunk; None for fewer than two tokens."""
    tokens = outcome.usage.output_tokens
    if not (moments.first_chunk and outcome.meter and outcome.meter.is_stream and tokens > 1):
        return None
    return round((moments.ended - moments.first_chunk) / (tokens - 1), 6)


def _timings(moments: Moments) -> "TimingsData":
    total, upstream = moments.total, moments.upstream_waited
    authorization = moments.authorized - moments.started if moments.authorized else 0.0
    return {
        "total": round(total, 6),
        "authorization": round(authorization, 6),
        "upstream": round(upstream, 6),
        "proxy": round(max(0.0, total - upstream), 6),
    }
