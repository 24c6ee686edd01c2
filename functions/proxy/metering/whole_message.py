"""A message of Anthropic's API, in one piece or in a stream, and whether it is whole and good. Pure.

    message_start  (content_block_start  content_block_delta*  content_block_stop)*  message_delta+  message_stop

(https://docs.claude.com/en/docs/build-with-claude/streaming). Its one rule: a message is understood exactly or not at
all: an unknown event, or an unknown part of one, is an error.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from proxy.json_shapes import array_of, object_of

_GOOD_REASONS = frozenset({"end_turn", "max_tokens", "stop_sequence", "tool_use"})
"""Why a message ended that would be the same again; `max_tokens` because its bound is in the key."""
_TEXTS = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature"}


def flaw_of_message(documents: list[dict[str, Any]], *, is_stream: bool) -> str | None:
    """Why an answer is not proven to be a whole good message, in one word; or None.

    Raises ValueError, TypeError or LookupError if it is no message.
    """
    if is_stream and not (documents and documents[-1].get("type") == "message_stop"):
        return "cut"
    message = message_of(documents) if is_stream else documents[0]
    if message["type"] != "message" or not isinstance(message["content"], list):
        raise ValueError("no message")
    if message.get("stop_reason") not in _GOOD_REASONS or not object_of(message.get("usage")):
        return "unended"
    blocks = [object_of(block) for block in array_of(message["content"])]
    calls = [block for block in blocks if block["type"] == "tool_use"]
    if any(not (call["id"] and call["name"] and isinstance(call["input"], dict)) for call in calls):
        return "cut"
    return "cut" if message["stop_reason"] == "tool_use" and not calls else None


def message_of(events: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The message that the events of a whole stream make. Raises ValueError, TypeError or LookupError."""
    message: dict[str, Any] = {}
    is_open = is_over = False
    inputs: str | None = None
    for event in events:
        kind = event["type"]
        if kind == "ping":
            continue
        if is_over or (kind == "message_start") == bool(message):
            raise ValueError("out of order")
        content: list[dict[str, Any]] = message.get("content", [])
        if kind == "message_start":
            message = {**event["message"], "content": list(event["message"]["content"])}
        elif kind == "content_block_start" and not is_open and event["index"] == len(content):
            content.append(dict(event["content_block"]))
            is_open, inputs = True, None
        elif kind == "content_block_delta" and is_open and event["index"] == len(content) - 1:
            content[-1], inputs = _grown(content[-1], inputs, event["delta"])
        elif kind == "content_block_stop" and is_open and event["index"] == len(content) - 1:
            is_open = False
            _complete(content[-1], inputs)
        elif kind == "message_delta" and not is_open:
            message |= event["delta"]
            told = object_of(event.get("usage"))
            message["usage"] = {**message["usage"], **{name: each for name, each in told.items() if each is not None}}
        elif kind == "message_stop" and not is_open:
            is_over = True
        else:
            raise ValueError(kind)
    if not is_over:
        raise ValueError("cut")
    return message


def _complete(block: dict[str, Any], inputs: str | None) -> None:
    """Give a block the input that came in pieces, if any came. Raises ValueError."""
    if inputs:
        block["input"] = json.loads(inputs)
    elif inputs is None and block.get("input") == {}:
        raise ValueError("no input")  # an input that is empty comes as an empty piece


def _grown(block: dict[str, Any], inputs: str | None, delta: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """A block, and the input of its tool, with one more piece. The input is JSON only when it is whole."""
    if delta["type"] == "input_json_delta":
        return block, (inputs or "") + delta["partial_json"]
    if delta["type"] == "citations_delta":
        return {**block, "citations": [*array_of(block.get("citations")), delta["citation"]]}, inputs
    name = _TEXTS[delta["type"]]
    return {**block, name: block.get(name, "") + delta[name]}, inputs


def events_of(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream with a whole `message`, each block in one piece. Raises ValueError, LookupError …"""
    ended = {name: message[name] for name in ("stop_reason", "stop_sequence") if name in message}
    begun: dict[str, Any] = {**message, "content": [], **dict.fromkeys(ended)}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": begun}]
    for index, block in enumerate(map(object_of, message["content"])):
        empty, deltas = _pieces(block)
        events.append({"type": "content_block_start", "index": index, "content_block": empty})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    told = {"type": "message_delta", "delta": ended, "usage": message["usage"]}
    return [*events, told, {"type": "message_stop"}]


def _pieces(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The empty block at its beginning, and the pieces that fill it."""
    if block["type"] == "tool_use":
        return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
    if block["type"] not in ("text", "thinking") or block.get("citations"):
        return block, []
    said = {name: text for name, text in block.items() if name in _TEXTS.values()}
    deltas = [{"type": kind, name: said[name]} for kind, name in _TEXTS.items() if said.get(name)]
    return {**block, **dict.fromkeys(said, "")}, deltas
