"""What an event, its log line, a receipt and an answer's headers have to be, whole, without the code that writes them.

It is made of what the test has sent, of what its servers have answered, and of what the world saw meanwhile.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.timed_relays import Spent, Tried, WorldClient


@dataclass
class Asked:
    """What a client has sent, and with which key. `body` are the bytes."""

    path: str
    """Below `/v1`."""
    operation: str
    method: str = "POST"
    body: bytes = b""
    stream: bool = False
    client_id: str = "team-a"
    client: Mapping[str, Any] = field(
        default_factory=lambda: {"key_id": "3f2a91c07be4", "name": "Chat", "owner": None, "tags": dict[str, str]()}
    )
    own_id: str | None = None
    end_user: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    """Those that its key has not."""
    door: str = "function_url"
    wants_receipt: bool = False
    limits: Mapping[str, Any] | None = None


@dataclass
class Said:
    """What came of it: the last server's answer, as far as there was one, and what is known of its usage."""

    server: str | None
    asked_model: str | None
    status: int = 200
    model: str | None = None
    id: str | None = None
    finish_reasons: Sequence[str] = ()
    size: int = 0
    chunks: int = 0
    usage: Mapping[str, Any] = field(default_factory=lambda: usage("none"))
    error: Mapping[str, Any] | None = None
    throttle: Mapping[str, Any] | None = None
    cache: tuple[str, str | None] = ("BYPASS", "off")
    models: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    """Which model each server is asked for."""
    attempt_errors: Mapping[int, str] = field(default_factory=dict[int, str])
    """The errors of attempts, by their place."""
    is_stream: bool = False
    event_id: str | None = None
    """Of an event that has not the id of its request, but that of what it fetched."""
    is_told_later: bool = False
    """Whether the answer is still made, and who asks for it again is told what it used."""

    @property
    def outcome(self) -> str:
        """In one word."""
        return "throttled" if self.throttle else "failed" if self.error else "completed"


def usage(
    source: str, went_in: int = 0, came_out: int = 0, cached: int = 0, reasoning: int = 0, **more: Any
) -> dict[str, Any]:
    """The `usage` of an event."""
    return {
        "input_tokens": went_in,
        "output_tokens": came_out,
        "cache_read": {"input_tokens": cached},
        "cache_creation": {"input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "reasoning": {"output_tokens": reasoning},
        "audio": {"input_tokens": 0, "output_tokens": 0},
        "image": {"input_tokens": None, "output_tokens": None},
        "duration": None,
        "reason": None,
        "cost_reported": None,
        "service_tier": None,
        "units": {},
        "source": source,
    } | more


def moment(unix: float) -> str:
    """RFC 3339 with milliseconds."""
    at = datetime.fromtimestamp(math.floor(unix * 1000 + 0.5) / 1000, tz=UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


@dataclass
class Seen:
    """What the world saw of one request: before it, at its end, and at the client."""

    began: float
    """Unix seconds."""
    before: Spent
    client: WorldClient
    tried: Sequence[Tried]
    is_first: bool = True

    @property
    def took(self) -> Spent:
        """Until the client had its last byte."""
        return self.client.at_end.since(self.before)

    @property
    def to_first_chunk(self) -> float | None:
        """Seconds until there was something of a server for the client."""
        return None if self.client.at_first is None else round(self.client.at_first.since(self.before).total, 6)


def event_of(asked: Asked, said: Said, seen: Seen) -> tuple[str, dict[str, Any]]:
    """The terminal event: its type and its detail."""
    event_id, took = seen.client.headers["x-inference-id"], seen.took
    first = seen.to_first_chunk if said.chunks else None
    tokens = said.usage["output_tokens"]
    pace = (
        round((took.total - first) / (tokens - 1), 6) if first is not None and said.is_stream and tokens > 1 else None
    )
    data: dict[str, Any] = {
        "client": dict(asked.client),
        "tags": dict(asked.tags),
        "end_user": asked.end_user and hashlib.sha256(f"{asked.client_id}\0{asked.end_user}".encode()).hexdigest()[:32],
        "limits": asked.limits,
        "operation": {"name": asked.operation},
        "door": asked.door,
        "server": {"name": said.server},
        "request": {
            "method": asked.method,
            "path": asked.path,
            "model": said.asked_model,
            "stream": asked.stream,
            "size": len(asked.body),
        },
        "response": {
            "status_code": said.status,
            "model": said.model,
            "id": said.id,
            "finish_reasons": list(said.finish_reasons),
            "time_to_first_chunk": first,
            "size": said.size,
            "chunks": said.chunks,
            "time_per_output_token": pace,
        },
        "usage": dict(said.usage),
        "attempts": [
            {"server": each.server, "status_code": each.status, "error": error, "duration": round(each.seconds, 6)}
            for place, each in enumerate(seen.tried)
            for error in [said.attempt_errors.get(place)]
        ],
        "cold_start": seen.is_first,
        "timings": {
            "total": round(took.total, 6),
            "authorization": round(took.authorization, 6),
            "upstream": round(took.upstream, 6),
            "proxy": round(took.total - took.upstream, 6),
        },
        "cache": {"status": said.cache[0], "reason": said.cache[1]},
    }
    data |= {"error": said.error} if said.error else {}
    data |= {"throttle": said.throttle} if said.throttle else {}
    refusing = [(place, each.server) for place, each in enumerate(seen.tried) if each.status == 429]
    if refusing:
        wait = said.throttle["retry_after"] if said.throttle else 0.0
        last = len(seen.tried) - 1
        data["announced"] = [
            {"server": server, "model": said.models.get(server), "refused_for": wait if place == last else 0.0}
            for place, server in refusing
        ]
    data |= {"fetched": {"names": [said.id], "others": []}} if said.event_id or said.is_told_later else {}
    metadata = {
        "id": said.event_id or event_id,
        "version": "1.0",
        "timestamp": moment(seen.began + took.total),
        "request_id": asked.own_id or event_id,
        "client_id": asked.client_id,
    }
    name = {"throttled": "InferenceThrottled", "failed": "InferenceFailed", "completed": "InferenceCompleted"}
    return name[said.outcome], {"metadata": metadata, "data": data}


def line_of(
    asked: Asked, said: Said, seen: Seen, *, trace_id: str | None = None, w3c: str | None = None
) -> dict[str, Any]:
    """The request's line in the log, but for the moment at which it was written."""
    _, detail = event_of(asked, said, seen)
    data = detail["data"]
    return {
        "level": "INFO",
        "message": "request",
        "id": detail["metadata"]["id"],
        "request_id": detail["metadata"]["request_id"],
        "client": asked.client["name"],
        "client_id": asked.client_id,
        "key_id": asked.client["key_id"],
        "door": asked.door,
        "server": said.server,
        "model": said.asked_model,
        "operation": asked.operation,
        "stream": asked.stream,
        "outcome": said.outcome,
        "status": said.status,
        "error": said.error["type"] if said.error else None,
        "throttle": said.throttle["source"] if said.throttle else None,
        "usage": {name: value for name, value in said.usage.items() if name != "source"},
        "usage_source": said.usage["source"],
        "time_to_first_chunk": data["response"]["time_to_first_chunk"],
        "duration": data["timings"]["total"],
        "upstream": data["timings"]["upstream"],
        "proxy": data["timings"]["proxy"],
        "attempts": len(seen.tried),
        "cache": said.cache[0],
        "cold_start": seen.is_first,
        "published": True,
        "queued": False,
        "trace_id": trace_id,
        "w3c_trace_id": w3c,
    }


def logged(output: str) -> list[dict[str, Any]]:
    """The lines of a log without their moments, which are those of the machine's own clock."""
    found: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines()]
    now = datetime.now(UTC)
    for line in found:
        assert now - timedelta(minutes=5) < datetime.fromisoformat(line.pop("timestamp")) <= now
    return found


def headers_of(asked: Asked, said: Said, seen: Seen, **more: str) -> dict[str, str]:
    """The headers of the answer; `more` are those that the server or an error has."""
    is_repeated = len(seen.tried) > len({each.server for each in seen.tried})
    at_head = seen.client.at_head.since(seen.before)
    upstream, proxy = at_head.upstream * 1000, (at_head.total - at_head.upstream) * 1000
    event_id = seen.client.headers["x-inference-id"]
    found: dict[str, str] = {
        "content-type": "text/event-stream" if said.is_stream else "application/json",
        "x-request-id": asked.own_id or event_id,
        "x-inference-id": event_id,
        "cache-control": "no-cache",
        "server-timing": f"upstream;dur={upstream:.1f}, proxy;dur={proxy:.1f}",
        "access-control-allow-origin": "*",
        "access-control-expose-headers": "*",
        "x-content-type-options": "nosniff",
        "x-served-by": said.server or "",
        "x-served-model": said.asked_model or "",
        "x-attempts": str(len(seen.tried) or ""),
        "x-should-retry": "false" if is_repeated and said.status >= 400 else "",
    }
    return {name: value for name, value in found.items() if value} | more


def receipt_of(asked: Asked, said: Said, seen: Seen) -> dict[str, Any]:
    """The receipt in a comment at the end of a stream."""
    _, detail = event_of(asked, said, seen)
    return {
        "id": seen.client.headers["x-inference-id"],
        "server": said.server,
        "model": said.asked_model,
        "usage": dict(said.usage),
        "time_to_first_chunk": detail["data"]["response"]["time_to_first_chunk"],
        "duration": round(seen.client.at_last.since(seen.before).total, 6),  # it is the last that the client gets
        "attempts": len(seen.tried),
    }
