"""A stored stream as the document it would have been, and the other way round. Pure.

Its one rule: a conversion is exact, or it does not happen. An answer with a field that is not known here is not
converted, and nothing is invented: a document becomes a stream of one chunk for each choice, not of invented tokens.
"""

import json
from collections.abc import Mapping
from typing import Any

from proxy.json_shapes import array_of, loads_or_none, object_of
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
            return _stream_of(_known(object_of(loads_or_none(body)), _OF_ANSWERS, "chat.completion"))
        document = _response_of(body) if path == _RESPONSES else _document_of(body)
    except (_Inexact, LookupError, TypeError, ValueError, AttributeError):
        return None
    return json.dumps(document, separators=(",", ":")).encode()


def _message(body: bytes, *, to_stream: bool) -> bytes:
    """A message of Anthropic's in the other form."""
    from proxy.metering.whole_message import events_of, message_of  # noqa: PLC0415  # most answers are chats

    if not to_stream:
        return json.dumps(message_of(_documents(body)), separators=(",", ":")).encode()
    events = events_of(object_of(loads_or_none(body)))
    texts = [f"event: {each['type']}\ndata: {json.dumps(each, separators=(',', ':'))}\n\n" for each in events]
    return "".join(texts).encode()


def _documents(stream: bytes) -> list[Any]:
    """The JSON of every event, without the end mark."""
    data = [found for event in split_events(stream) if (found := data_of(event).strip())]
    return [json.loads(each) for each in data if each != b"[DONE]"]


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
        fields = _known(object_of(chunk), _OF_ANSWERS | {_PADDING}, "chat.completion.chunk")
        if answer and (fields["id"], fields["model"]) != (answer["id"], answer["model"]):
            raise _Inexact
        for name in ("id", "created", "model", "service_tier", "system_fingerprint"):
            if name in fields:
                answer.setdefault(name, fields[name])
        if object_of(fields.get("usage")):
            answer["usage"] = fields["usage"]
        for each in array_of(fields["choices"]):
            _add(choices, _known(object_of(each), {"index", "delta", "finish_reason", "logprobs"}))
    if not answer.get("usage") or not choices or any(not each["finish_reason"] for each in choices.values()):
        raise _Inexact
    own = {"id": answer.pop("id"), "object": "chat.completion", "created": answer.pop("created")}
    own |= {"model": answer.pop("model"), "choices": [choices[index] for index in sorted(choices)]}
    return own | answer


def _add(choices: dict[int, dict[str, Any]], part: Mapping[str, Any]) -> None:
    """Add a chunk's part of one choice."""
    new: dict[str, Any] = {"index": part["index"], "message": {"role": "assistant", "content": None}}
    choice = choices.setdefault(part["index"], new | {"logprobs": None, "finish_reason": None})
    message, delta = choice["message"], _known(object_of(part["delta"]), {"role", "tool_calls", *_TEXTS})
    if part.get("logprobs") is not None:
        raise _Inexact
    message["role"] = delta.get("role") or message["role"]
    for name in _TEXTS:
        if isinstance(text := delta.get(name), str):
            message[name] = (message.get(name) or "") + text
        elif name in delta:
            message.setdefault(name, None)
    for call in array_of(delta.get("tool_calls")):
        _add_call(message.setdefault("tool_calls", []), _known(object_of(call), {"index", "id", "type", "function"}))
    choice["finish_reason"] = part.get("finish_reason") or choice["finish_reason"]


def _add_call(calls: list[dict[str, Any]], part: Mapping[str, Any]) -> None:
    """Add a chunk's part of one tool call. They come in their order."""
    index, function = part["index"], _known(object_of(part.get("function")), {"name", "arguments"})
    if index not in range(len(calls) + 1) or part.get("type", "function") != "function":
        raise _Inexact
    if index == len(calls):
        calls.append({"id": part["id"], "type": part["type"], "function": {"name": "", "arguments": ""}})
    whole: dict[str, str] = calls[int(index)]["function"]
    for name in ("name", "arguments"):
        whole[name] += function.get(name) or ""


def _stream_of(answer: Mapping[str, Any]) -> bytes:
    common = {name: value for name, value in answer.items() if name not in ("choices", "usage")}
    common["object"] = "chat.completion.chunk"
    events: list[Mapping[str, Any]] = []
    for choice in array_of(answer["choices"]):
        fields = _known(object_of(choice), {"index", "message", "finish_reason", "logprobs"})
        index, logprobs = fields["index"], fields.get("logprobs")
        part = {"index": index, "delta": _delta_of(object_of(fields["message"])), "logprobs": logprobs}
        events.append(common | {"choices": [part | {"finish_reason": None}]})
        last: dict[str, Any] = {"index": index, "delta": {}, "logprobs": None, "finish_reason": fields["finish_reason"]}
        events.append(common | {"choices": [last]})
    if not events:
        raise _Inexact
    if usage := object_of(answer.get("usage")):
        events.append(common | {"choices": [], "usage": usage})
    texts = [json.dumps(event, separators=(",", ":")) for event in events]
    return "".join(f"data: {text}\n\n" for text in [*texts, "[DONE]"]).encode()


def _delta_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """A whole message as one delta."""
    fields = _known(
        {name: value for name, value in message.items() if value or name in _TEXTS}, {"role", "tool_calls", *_TEXTS}
    )
    delta = dict(fields)
    if "tool_calls" in delta:
        calls = [_known(object_of(call), {"id", "type", "function"}) for call in array_of(delta["tool_calls"])]
        if any(call["type"] != "function" for call in calls):
            raise _Inexact
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
    return delta


def _known(fields: dict[str, Any], names: set[str] | frozenset[str], kind: str = "") -> dict[str, Any]:
    """`fields`, if all of them are known."""
    if not fields.keys() <= names or (kind and fields.get("object") != kind):
        raise _Inexact
    return fields
