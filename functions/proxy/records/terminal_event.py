"""The one event that states what came of a request. Pure.

Its one rule: sizes, counts, names and moments, and nothing of what was said; `events/README.md` lists its fields. Each
text is bounded and clean, whoever it is from, so the event has a largest size whatever a client asks and a server says.
"""

import hashlib
import time
from typing import Any

from openai_proxy.events.envelope import DetailType, Event, rfc3339
from openai_proxy.usage import MOST_SECONDS

from proxy.errors import LimitError, UpstreamError
from proxy.inference import Inference
from proxy.json_shapes import text_of
from proxy.limits.reservation import nothing_taken

LONGEST_NAME = 256
_LONGEST_DESCRIPTION = 128
_LONGEST_TAG = 64
_MOST_TAGS = 16
_LONGEST_REASON = 32
_MOST_REASONS = 16
_MOST_ATTEMPTS = 32


def terminal_event(inference: Inference) -> Event:
    """The terminal event: throttled (an upstream 429), failed (an error, or an upstream refusal) or completed."""
    ended = inference.heard() if inference.waiting_since else inference.ended or time.perf_counter()
    detail_type, outcome = _outcome(inference)
    data = _facts(inference, ended) | {"timings": _timings(inference, ended), "cache": inference.cache.to_event()}
    return Event(
        detail_type=detail_type,
        id=inference.event_id,
        timestamp=rfc3339(inference.started_at + ended - inference.started),
        request_id=inference.request_id,
        client_id=inference.key.client_id if inference.key else "",
        data=data | outcome,
    )


def _outcome(inference: Inference) -> tuple[DetailType, dict[str, Any]]:
    error, status, meter = inference.error, inference.status, inference.meter
    if isinstance(error, LimitError):
        return "InferenceThrottled", {"throttle": {"source": error.source, "retry_after": error.retry_after}}
    if status == 429 and (error is None or error.fault == "upstream"):
        seconds = None if inference.retry_after is None else min(inference.retry_after, float(MOST_SECONDS))
        return "InferenceThrottled", {"throttle": {"source": "upstream", "retry_after": seconds}}
    if error is None and (status >= 400 or (meter is not None and meter.error)):
        error = UpstreamError(status, "upstream_error", "", upstream_status=status)
    if error is None:
        return "InferenceCompleted", {}
    upstream_status = error.upstream_status if isinstance(error, UpstreamError) else None
    failure = {"type": error.code, "source": error.fault, "upstream_status": upstream_status}
    return "InferenceFailed", {"error": failure}


def _facts(inference: Inference, ended: float) -> dict[str, Any]:
    request, target, body, meter = inference.request, inference.target, inference.body, inference.meter
    usage = inference.usage
    reasons = meter.finish_reasons[:_MOST_REASONS] if meter else []
    first_chunk = round(inference.first_chunk - inference.started, 6) if inference.first_chunk else None
    return {
        "client": _client(inference),
        "end_user": _end_user(inference),
        "limits": _limits(inference),
        "operation": {"name": inference.operation},
        "door": request.door if request else "function_url",
        "server": {"name": inference.server},
        "request": {
            "method": request.method if request else "",
            "path": text_of(target.path, LONGEST_NAME) or "" if target else "",
            "model": text_of(body.model, LONGEST_NAME) if body else None,
            "stream": body.stream if body else False,
            "size": len(request.body) if request else 0,
        },
        "response": {
            "status_code": inference.status,
            "model": meter.model if meter else None,
            "id": meter.id if meter else None,
            "finish_reasons": [reason[:_LONGEST_REASON] for reason in reasons],
            "time_to_first_chunk": first_chunk,
            "size": meter.size if meter else 0,
            "chunks": meter.chunks if meter else 0,
            "time_per_output_token": _time_per_output_token(inference, ended),
        },
        "usage": usage.to_event(),
        "attempts": inference.attempts[-_MOST_ATTEMPTS:],
        "cold_start": inference.cold_start,
    }


def _client(inference: Inference) -> dict[str, Any] | None:
    """The `data.client` object: the key as its owner described it."""
    if inference.key is None:
        return None
    client = inference.key.to_event()
    tags = list(client["tags"].items())[:_MOST_TAGS]
    return {
        "key_id": text_of(client["key_id"], _LONGEST_TAG) or "",
        "name": text_of(client["name"], _LONGEST_DESCRIPTION) or "",
        "owner": text_of(client["owner"], _LONGEST_DESCRIPTION),
        "tags": {text_of(name, _LONGEST_TAG) or "": text_of(value, _LONGEST_DESCRIPTION) or "" for name, value in tags},
    }


def _limits(inference: Inference) -> dict[str, Any] | None:
    key, taken = inference.key, inference.taken
    limits = taken.to_event() if taken else nothing_taken(key.limits) if key and key.limits else None
    if limits and inference.fetches_answer:  # the estimate for the request that began it stays in the budget
        limits["has_budget"] = False
    return limits


def _end_user(inference: Inference) -> str | None:
    """A pseudonym: the same person of the same client always has it, and it does not lead back to them."""
    if not inference.end_user or inference.key is None:
        return None
    person = f"{inference.key.client_id}\0{inference.end_user}"
    return hashlib.sha256(person.encode(errors="replace")).hexdigest()[:32]


def _time_per_output_token(inference: Inference, ended: float) -> float | None:
    """Seconds from one token of a stream to the next, after the first chunk; None where there are no two."""
    tokens = inference.usage.output_tokens
    if not (inference.first_chunk and inference.meter and inference.meter.is_stream and tokens > 1):
        return None
    return round((ended - inference.first_chunk) / (tokens - 1), 6)


def _timings(inference: Inference, ended: float) -> dict[str, float]:
    total, upstream = ended - inference.started, inference.upstream_waited
    authorization = inference.authorized - inference.started if inference.authorized else 0.0
    return {
        "total": round(total, 6),
        "authorization": round(authorization, 6),
        "upstream": round(upstream, 6),
        "proxy": round(max(0.0, total - upstream), 6),
    }
