"""Signs in an answer that it must not be served again from the cache: an error, a filter, a search. Pure.

Its one rule: a sign counts wherever it stands. The only exceptions are what the client sent and the server repeats, and
what a model wrote: the schema of a tool may have a field called `error`.
"""

import re
from collections.abc import Mapping
from typing import Any

from proxy.json_shapes import MESSAGE_EVENTS, array_of, object_of
from proxy.metering.reported_error import reported_error

_REPEATED = frozenset(
    {"tools", "tool_choice", "response_format", "metadata", "instructions", "input", "prompt", "parameters"}
)
_WRITTEN = frozenset({"arguments", "embedding", "logprobs", "top_logprobs", "delta_logprobs"})
_ERROR_NAMES = re.compile(r"error|exception|fail", re.IGNORECASE)
"""In the name of a field: `error`, `errors`, `error_code`, `errorMessage`, `last_error`, …"""
_FILTER_NAMES = re.compile(
    r"filtered|blocked|flagged|block_?reason|sensitive|violat|unsafe|censored|truncated", re.IGNORECASE
)
_BAD_REASON = re.compile(
    r"filter|safety|error|exception|fail|block|prohibit|recitation|spii|sensitive|cancel|abort|guardrail|moderat|unsafe|"
    r"timeout|malformed",
    re.IGNORECASE,
)
"""In the reason why a choice ended, and in the name of an event."""
_SAYS_HOW_IT_IS = frozenset({"status", "state", "type", "object", "outcome", "result"})
_BAD_STATE = re.compile(r"error|exception|fail|cancel|abort", re.IGNORECASE)
_SEARCH_NAMES = re.compile(r"citation|search|grounding|retriev|executed_tools|annotations|sources", re.IGNORECASE)
_CALL = re.compile(r"(?:^|\.)(\w+)_call(?:_output)?(?:$|\.)")
_SHOWS_SOURCE = re.compile(r"citation|annotation|web_search_result|server_tool")
_PURE_CALLS = frozenset({"function", "custom_tool"})
_SEARCHING_CALL = "web_search"


def sign_in(document: Any, event_name: str = "", *, may_search: bool = False) -> str | None:
    """The first sign in one JSON answer or one event of a stream: `error`, `filtered`, `searched` or None.

    With `may_search`, a web search by the server is no sign.
    """
    if is_bad_event(event_name) or reported_error(document, event_name):
        return "error"
    waiting: list[Any] = [document]
    while waiting:
        value = waiting.pop()
        fields = object_of(value)
        for name, each in fields.items():
            if name in _REPEATED or name in _WRITTEN:
                continue
            if sign := _sign_of(name, each, may_search=may_search):
                return sign
            # A response repeats the request's `text` options, which hold the requested schema.
            if isinstance(each, dict | list) and not (name == "text" and isinstance(each, dict)):
                waiting.append(each)
        waiting += [each for each in array_of(value) if isinstance(each, dict | list)]
    return None


def is_bad_event(name: str) -> bool:
    """Whether the name of an event says that something went wrong."""
    # the word `block` in the usual events of a message, as content_block_start, is no sign
    return name not in MESSAGE_EVENTS and _BAD_REASON.search(name) is not None


def _sign_of(name: str, value: Any, *, may_search: bool) -> str | None:
    """The sign in one field."""
    if _ERROR_NAMES.search(name) and _says_something(value):
        return "error"
    if _FILTER_NAMES.search(name) and _says_something(value):
        return "filtered"
    if isinstance(value, str):
        if name.lower().endswith("reason") and _BAD_REASON.search(value):
            return "filtered"
        if name in _SAYS_HOW_IT_IS and _BAD_STATE.search(value):
            return "error"
        if name == "type" and _is_of_search(value, may_search=may_search):
            return "searched"
    if not may_search and _SEARCH_NAMES.search(name) and _says_something(value):
        return "searched"
    return None


def _is_of_search(kind: str, *, may_search: bool) -> bool:
    """Whether this `type` belongs to a tool call that the server ran, or to a source that it found."""
    call = _CALL.search(kind)
    if call and call[1] not in _PURE_CALLS:
        return not (may_search and call[1] == _SEARCHING_CALL)
    return not may_search and _SHOWS_SOURCE.search(kind) is not None


def _says_something(value: Any) -> bool:
    """Whether `value` holds anything but empty lists, zeros and the like, which many servers send."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict | list):
            inner: Mapping[str, Any] = object_of(each)
            waiting += inner.values() or array_of(each)
        elif each:
            return True
    return False
