"""The one event that states what came of a request. Pure.

Its one rule: sizes, counts, names and moments, and nothing of what was said; `events/README.md` lists its fields.
"""

import hashlib
import time
from typing import Any

from openai_proxy.events import DetailType, Event, rfc3339

from proxy.errors import LimitError, UpstreamError
from proxy.inference import Inference
from proxy.limits_share import nothing_taken

_LONGEST_NAME = 256


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
        return "InferenceThrottled", {"throttle": {"source": "upstream", "retry_after": inference.retry_after}}
    if error is None and (status >= 400 or (meter is not None and meter.error)):
        error = UpstreamError(status, "upstream_error", "", upstream_status=status)
    if error is None:
        return "InferenceCompleted", {}
    upstream_status = error.upstream_status if isinstance(error, UpstreamError) else None
    failure = {"type": error.code, "source": error.fault, "upstream_status": upstream_status}
    return "InferenceFailed", {"error": failure}


def _facts(inference: Inference, ended: float) -> dict[str, Any]:
    request, target, body, meter = inference.request, inference.target, inference.body, inference.meter
    usage, key = inference.usage, inference.key
    first_chunk = round(inference.first_chunk - inference.started, 6) if inference.first_chunk else None
    return {
        "client": key.to_event() if key else None,
        "end_user": _end_user(inference),
        "limits": _limits(inference),
        "operation": {"name": inference.operation},
        "door": request.door if request else "function_url",
        "server": {"name": inference.server},
        "request": {
            "method": request.method if request else "",
            "path": target.path[:_LONGEST_NAME] if target else "",
            "model": body.model[:_LONGEST_NAME] if body and body.model else None,
            "stream": body.stream if body else False,
            "size": len(request.body) if request else 0,
        },
        "response": {
            "status_code": inference.status,
            "model": meter.model if meter else None,
            "id": meter.id if meter else None,
            "finish_reasons": meter.finish_reasons if meter else [],
            "time_to_first_chunk": first_chunk,
            "size": meter.size if meter else 0,
            "chunks": meter.chunks if meter else 0,
            "time_per_output_token": _time_per_output_token(inference, ended),
        },
        "usage": usage.to_event(),
        "attempts": inference.attempts,
        "cold_start": inference.cold_start,
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
