"""The line that the log keeps of each authorised request. Pure.

Its one rule: it is made of the terminal event, so it holds nothing that an event may not hold. `docs/logs.md` lists
its fields; saved queries and metric filters of the template read them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from openai_proxy.events.envelope import calls_made

if TYPE_CHECKING:
    from openai_proxy.events.types import TerminalEvent

    from proxy.records.publisher import Fate

MESSAGE = "request"

_OUTCOMES = {"InferenceCompleted": "completed", "InferenceFailed": "failed", "InferenceThrottled": "throttled"}


def request_line(
    event: "TerminalEvent", fate: "Fate", *, trace_id: str | None = None, w3c_trace_id: str | None = None
) -> dict[str, Any]:
    """The fields of the line, but for level, message and timestamp. `fate`: who has the event."""
    data = event.data
    client: Mapping[str, Any] = data["client"] or {}
    usage, timings = data["usage"], data["timings"]
    return {
        "id": event.id,
        "request_id": event.request_id,
        "client": client.get("name"),
        "client_id": event.client_id,
        "key_id": client.get("key_id"),
        **({"team": data["team"]["name"]} if "team" in data else {}),
        "door": data["door"],
        "server": data["server"]["name"],
        "model": data["request"]["model"],
        "operation": data["operation"]["name"],
        "stream": data["request"]["stream"],
        "outcome": _OUTCOMES[event.detail_type],
        "status": data["response"]["status_code"],
        "error": event.data["error"]["type"] if event.detail_type == "InferenceFailed" else None,
        "throttle": event.data["throttle"]["source"] if event.detail_type == "InferenceThrottled" else None,
        "usage": {name: count for name, count in usage.items() if name != "source"},
        "usage_source": usage["source"],
        "time_to_first_chunk": data["response"]["time_to_first_chunk"],
        "duration": timings["total"],
        "upstream": timings["upstream"],
        "proxy": timings["proxy"],
        "attempts": calls_made(attempt["error"] for attempt in data["attempts"]),
        "cache": data["cache"]["status"],
        "cold_start": data["cold_start"],
        "published": fate == "published",
        "queued": fate == "queued",
        "trace_id": trace_id,
        "w3c_trace_id": w3c_trace_id,
    }
