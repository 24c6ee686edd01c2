"""Trace contexts: X-Ray's header as Lambda hands it over, W3C's headers as a client may send them. Pure.

Its one rule: a header that does not have exactly the right form is ignored, so no server, event or log ever sees it.
Forms: https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader and
https://www.w3.org/TR/trace-context/.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

_ROOT = re.compile(r"1-[0-9a-f]{8}-[0-9a-f]{24}")
_PARENT = re.compile(r"[0-9a-f]{16}")
_HEADER = re.compile(r"[A-Za-z0-9=;:|.,?_-]{1,500}")
"""What PutEvents takes as a trace header; 500 is its limit, and more of it would cost the event."""

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_STATE_KEY = r"[a-z0-9][a-z0-9_*/-]{0,240}(?:@[a-z][a-z0-9_*/-]{0,13})?"
_STATE_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER = re.compile(rf"{_STATE_KEY}={_STATE_VALUE}")
_LONGEST_STATE = 512
_MOST_MEMBERS = 32


class XRayContext(NamedTuple):
    """An X-Ray tracing header: the trace, the parent segment, and whether the request is sampled."""

    header: str
    trace_id: str
    parent: str | None
    sampled: bool


def xray_context(header: str | None) -> XRayContext | None:
    """Read `Root=1-…;Parent=…;Sampled=1`, other fields kept; None when there is no trace."""
    if not header or not _HEADER.fullmatch(header):
        return None
    fields = {name: value for name, _, value in (field.partition("=") for field in header.split(";"))}
    root, parent = fields.get("Root", ""), fields.get("Parent", "")
    if not _ROOT.fullmatch(root):
        return None
    return XRayContext(header, root, parent if _PARENT.fullmatch(parent) else None, fields.get("Sampled") == "1")


def w3c_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The client's `traceparent` and `tracestate`, if they are well formed; the second only together with the first."""
    if "traceparent" not in headers or not _TRACEPARENT.fullmatch(headers["traceparent"]):
        return {}
    found = {"traceparent": headers["traceparent"]}
    state = headers.get("tracestate", "")
    if state and _is_state(state):
        found["tracestate"] = state
    return found


def w3c_trace_id(headers: Mapping[str, str]) -> str | None:
    """The trace id in the client's `traceparent`: 32 hexadecimal digits."""
    match = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return match[1] if match else None


def _is_state(state: str) -> bool:
    members = [member.strip(" \t") for member in state.split(",")]
    fit = len(state) <= _LONGEST_STATE and len(members) <= _MOST_MEMBERS
    return fit and all(not member or _MEMBER.fullmatch(member) for member in members)
