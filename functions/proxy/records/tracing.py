"""What X-Ray is sent about a sampled request: one subsegment with the proxy's steps and every call of a server below
it.

Loaded only for a sampled request, after its client has the last byte. The document goes to the daemon beside the
function in one UDP datagram: nothing waits for it, and it may be lost. Its one rule: a trace holds nothing that an
event must not hold. Form: https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html.
"""

import contextlib
import json
import secrets
import socket
from typing import TYPE_CHECKING, Any

from proxy.request.trace_context import XRayContext
from proxy.timeline import Timeline

if TYPE_CHECKING:
    from openai_proxy.events.types import TerminalEvent

_HEADER = b'{"format": "json", "version": 1}\n'
_LARGEST = 64_000
"""Bytes of a document, which X-Ray and UDP both bound at 64 KB."""
_MOST_ATTEMPTS = 50
_ANNOTATIONS = (
    *("id", "request_id", "client_id", "key_id", "server", "model", "operation", "door", "outcome", "error"),
    *("throttle", "cache", "cold_start", "w3c_trace_id"),
)
"""The fields of the request's log line by which traces can be searched."""
_METADATA = ("usage", "time_to_first_chunk", "upstream", "proxy")


class Daemon:
    """The X-Ray daemon, at an address as Lambda names it: `host:port`, or `tcp:host:port udp:host:port`."""

    def __init__(self, address: str) -> None:
        addresses = address.split()
        udp = next((each for each in addresses if each.startswith("udp:")), addresses[0])
        host, _, port = udp.removeprefix("udp:").rpartition(":")
        self._address = (host.strip("[]"), int(port))

    def send(self, document: dict[str, Any]) -> None:
        """Send one document, if it is small enough. A request does not fail when there is no daemon."""
        data = _HEADER + json.dumps(document, separators=(",", ":")).encode()
        family = socket.AF_INET6 if ":" in self._address[0] else socket.AF_INET
        if len(data) <= _LARGEST:
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sender:
                sender.sendto(data, self._address)


def subsegment_of(
    timeline: Timeline, event: "TerminalEvent", line: dict[str, Any], context: XRayContext
) -> dict[str, Any]:
    """The subsegment of a request that has ended and whose `event` has just been published; `line` is its log line."""
    now, status = timeline.now(), event.data["response"]["status_code"]
    below = [*_steps(timeline), *_attempts(timeline), _part(timeline, "publish", timeline.ended, now)]
    below[-1]["fault"] = not line["published"]
    return {
        **_part(timeline, "openai-proxy", timeline.started, now),
        "type": "subsegment",
        "trace_id": context.trace_id,
        "parent_id": context.parent,
        **_flags(status, failed=line["outcome"] == "failed"),
        "annotations": {name: line[name] for name in _ANNOTATIONS if line[name] is not None},
        "metadata": {"openai-proxy": {name: line[name] for name in _METADATA}},
        "subsegments": below,
    }


def _steps(timeline: Timeline) -> list[dict[str, Any]]:
    """What the proxy did before it called a server, one after the other."""
    ends = [("authorization", timeline.authorized), *timeline.steps]
    begins = [timeline.started, *(end for _, end in ends)]
    return [_part(timeline, name, begin, end) for begin, (name, end) in zip(begins, ends, strict=False)]


def _attempts(timeline: Timeline) -> list[dict[str, Any]]:
    """Every call of a server; the one whose answer was passed on lasts until its last byte."""
    found: list[dict[str, Any]] = []
    for attempt in timeline.attempts[-_MOST_ATTEMPTS:]:
        status, error = attempt.status_code, attempt.error
        part = _part(timeline, attempt.server, attempt.end - attempt.duration, attempt.end)
        part |= {"namespace": "remote", **_flags(status or 502, failed=error is not None)}
        if status is not None:
            part["http"] = {"response": {"status": status}}
        if error is not None:
            part["annotations"] = {"error": error}
        found.append(part)
    if found and timeline.first_chunk:
        found[-1]["end_time"] = _moment(timeline, timeline.ended)
    return found


def _part(timeline: Timeline, name: str, begin: float, end: float) -> dict[str, Any]:
    begin, end = _moment(timeline, begin), _moment(timeline, end)
    return {"name": name, "id": secrets.token_hex(8), "start_time": begin, "end_time": max(begin, end)}


def _moment(timeline: Timeline, reading: float) -> float:
    """A reading of `time.perf_counter` in Unix seconds."""
    return round(timeline.unix(reading), 6)


def _flags(status: int, *, failed: bool) -> dict[str, bool]:
    """Whose fault it was, in X-Ray's terms: `fault` is the server's side, `error` the client's, `throttle` a 429."""
    error = 400 <= status < 500
    flags = {"fault": status >= 500 or (failed and not error), "error": error, "throttle": status == 429}
    return {name: True for name, is_so in flags.items() if is_so}
