"""A stored stream as the document it would have been, and the other way round. Pure.

Its one rule: a conversion is exact, or it does not happen. An answer with a field that is not known here is not
converted, and nothing is invented: a document becomes a stream of one chunk for each choice, not of invented tokens.
"""

import json
from collections.abc import Mapping
from typing import Any

from proxy.json_shapes import object_of
from proxy.metering.sse import data_of, split_events

DOCUMENT, STREAM = "application/json", "text/event-stream; charset=utf-8"
_CHAT = "/chat/completions"
_RESPONSES = "/responses"
_MESSAGES = "/messages"

_OF_ANSWERS = frozenset({"id", "object", "created", "model", "choices", "usage", "service_tier", "system_fingerprint"})
_PADDING = "obfuscation"
"""Random characters that hide the length of a chunk: part of a stream, of no document."""
_TEXTS = ("content", "refusal", "reasoning_content", "reasoning")
"""What a message and the deltas of a stream both hold as text, under the same name."""


_OF_EVENTS: Mapping[str, frozenset[str]] = {
    "message_start": frozenset({"message"}),
    "content_block_start": frozenset({"index", "content_block"}),
    "content_block_delta": frozenset({"index", "delta"}),
    "content_block_stop": frozenset({"index"}),
    "message_delta": frozenset({"delta", "usage"}),
}
"""What the events of a message hold, beside `type`; the others hold nothing."""
_OF_DELTAS = frozenset({"type", "text", "thinking", "signature", "partial_json", "citation"})
_NOTHING: tuple[Any, ...] = (None, "", [], {})


class _Inexact(Exception):  # noqa: N818 - no error: there is no conversion
    """The answer cannot be converted exactly."""


def is_possible(path: str, *, to_stream: bool) -> bool:
    """Whether answers of `path` may be had in the other form at all."""
    return path in (_CHAT, _MESSAGES) or (path == _RESPONSES and not to_stream)


def converted(path: str, body: bytes, *, to_stream: bool) -> bytes | None:
    """`body` in the other form; None when it cannot be converted exactly."""
    try:
        if path == _MESSAGES:
            return _message(body, to_stream=to_stream)
        if to_stream:
            return _stream_of(_known(_read(body), _OF_ANSWERS, "chat.completion"))
        return _written(_response_of(body) if path == _RESPONSES else _document_of(body)).encode()
    except (_Inexact, LookupError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def _message(body: bytes, *, to_stream: bool) -> bytes:
    """A message of Anthropic's in the other form."""
    from proxy.metering.whole_message import events_of, message_of  # noqa: PLC0415  # most answers are chats

    if not to_stream:
        events = [_known_event(object_of(event)) for event in _documents(body)]
        return _written(message_of(events)).encode()
    texts = [f"event: {each['type']}\ndata: {_written(each)}\n\n" for each in events_of(_read(body))]
    return "".join(texts).encode()


def _known_event(event: dict[str, Any]) -> dict[str, Any]:
    kind = event["type"]
    _known(event, _OF_EVENTS.get(kind, frozenset()) | {"type"})
    if kind == "content_block_delta":
        _known(_object(event["delta"]), _OF_DELTAS)
    _object(event.get("usage") or {})
    return event


def _documents(stream: bytes) -> list[Any]:
    """The JSON of every event, without the end mark."""
    data = [found for event in split_events(stream) if (found := data_of(event).strip())]
    return [json.loads(each, object_pairs_hook=_each_once) for each in data if each != b"[DONE]"]


def _read(document: bytes) -> dict[str, Any]:
    return _object(json.loads(document, object_pairs_hook=_each_once))


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Inexact
    return found


def _written(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _response_of(stream: bytes) -> dict[str, Any]:
    """The last event of a Responses stream holds the whole response."""
    last = object_of(_documents(stream)[-1])
    if last["type"] != "response.completed" or not object_of(last["response"]):
        raise _Inexact
    return object_of(last["response"])


def _document_of(stream: bytes) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    choices: dict[int, dict[str, Any]] = {}
    for chunk in _documents(stream):
        fields = _known(_object(chunk), _OF_ANSWERS | {_PADDING}, "chat.completion.chunk")
        if answer and (fields["id"], fields["model"]) != (answer["id"], answer["model"]):
            raise _Inexact
        answer.setdefault("created", fields["created"])
        for name in ("id", "model", "service_tier", "system_fingerprint"):
            if name in fields:
                answer[name] = _the_one(answer.get(name), fields[name])
        if fields.get("usage") not in _NOTHING:
            answer["usage"] = _object(fields["usage"])
        for each in _array(fields["choices"]):
            _add(choices, _known(_object(each), {"index", "delta", "finish_reason", "logprobs"}))
    if not answer.get("usage") or not choices or any(not each["finish_reason"] for each in choices.values()):
        raise _Inexact
    own = {"id": answer.pop("id"), "object": "chat.completion", "created": answer.pop("created")}
    own |= {"model": answer.pop("model"), "choices": [choices[index] for index in sorted(choices)]}
    return own | answer


def _add(choices: dict[int, dict[str, Any]], part: Mapping[str, Any]) -> None:
    """Add a chunk's part of one choice."""
    index = _index(part["index"])
    new: dict[str, Any] = {"index": index, "message": {"role": None, "content": None}}
    choice = choices.setdefault(index, new | {"logprobs": None, "finish_reason": None})
    message, delta = choice["message"], _known(_object(part["delta"]), {"role", "tool_calls", *_TEXTS})
    if part.get("logprobs") is not None:
        raise _Inexact
    message["role"] = _the_one(message["role"], _text(delta.get("role")))
    for name in _TEXTS:
        if name in delta:
            text = _text(delta[name])
            message[name] = message.get(name) if text is None else (message.get(name) or "") + text
    for call in _array(delta.get("tool_calls") or []):
        _add_call(message.setdefault("tool_calls", []), _known(_object(call), {"index", "id", "type", "function"}))
    choice["finish_reason"] = _the_one(choice["finish_reason"], _text(part.get("finish_reason")))
    if choice["finish_reason"]:
        message["role"] = message["role"] or "assistant"


def _add_call(calls: list[dict[str, Any]], part: Mapping[str, Any]) -> None:
    """Add a chunk's part of one tool call. They come in their order."""
    index, function = _index(part["index"]), _known(_object(part.get("function") or {}), {"name", "arguments"})
    if index > len(calls) or part.get("type", "function") not in ("function", None):
        raise _Inexact
    if index == len(calls):
        calls.append({"id": part["id"], "type": part["type"], "function": {"name": "", "arguments": ""}})
    calls[index]["id"] = _the_one(calls[index]["id"], part.get("id"))
    whole: dict[str, str] = calls[index]["function"]
    for name in ("name", "arguments"):
        whole[name] += _text(function.get(name)) or ""


def _stream_of(answer: Mapping[str, Any]) -> bytes:
    common = {name: value for name, value in answer.items() if name not in ("choices", "usage")}
    common["object"] = "chat.completion.chunk"
    events: list[Mapping[str, Any]] = []
    for choice in _array(answer["choices"]):
        fields = _known(_object(choice), {"index", "message", "finish_reason", "logprobs"})
        index, logprobs = fields["index"], fields.get("logprobs")
        part = {"index": index, "delta": _delta_of(_object(fields["message"])), "logprobs": logprobs}
        events.append(common | {"choices": [part | {"finish_reason": None}]})
        last: dict[str, Any] = {"index": index, "delta": {}, "logprobs": None, "finish_reason": fields["finish_reason"]}
        events.append(common | {"choices": [last]})
    if not events:
        raise _Inexact
    if answer.get("usage") not in _NOTHING:
        events.append(common | {"choices": [], "usage": _object(answer["usage"])})
    texts = map(_written, events)
    return "".join(f"data: {text}\n\n" for text in [*texts, "[DONE]"]).encode()


def _delta_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """A whole message as one delta."""
    fields = _known(
        {name: value for name, value in message.items() if name in _TEXTS or value not in _NOTHING},
        {"role", "tool_calls", *_TEXTS},
    )
    delta = dict(fields)
    if "tool_calls" in delta:
        calls = [_known(_object(call), {"id", "type", "function"}) for call in _array(delta["tool_calls"])]
        if any(call["type"] != "function" for call in calls):
            raise _Inexact
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
    return delta


def _known(fields: dict[str, Any], names: set[str] | frozenset[str], kind: str = "") -> dict[str, Any]:
    """`fields`, if all of them are known."""
    if not fields.keys() <= names or (kind and fields.get("object") != kind):
        raise _Inexact
    return fields


def _the_one(before: Any, now: Any) -> Any:
    """What several pieces say of one thing; one that says nothing changes nothing."""
    if now in _NOTHING or now == before:
        return before
    if before not in _NOTHING:
        raise _Inexact
    return now


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _Inexact
    return value  # pyright: ignore[reportUnknownVariableType]


def _array(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise _Inexact
    return value  # pyright: ignore[reportUnknownVariableType]


def _index(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _Inexact
    return value


def _text(value: Any) -> str | None:
    """`value` if it is a text or null. Some servers send what a model says as a list of parts."""
    if value is not None and not isinstance(value, str):
        raise _Inexact
    return value
