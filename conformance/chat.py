"""Answers as OpenAI's API words them: chat chunks, text completions, Responses events, errors. Pure."""

import json
from typing import Any

from conformance.wire import JSON, PLACE, Received, Reply

MODEL = "conformance-model-2026-11-01"
INPUT, OUTPUT = 9, 3
USAGE: dict[str, Any] = {
    "prompt_tokens": INPUT,
    "completion_tokens": OUTPUT,
    "total_tokens": INPUT + OUTPUT,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": 0},
}
RESPONSES_USAGE: dict[str, Any] = {
    "input_tokens": INPUT,
    "input_tokens_details": {"cached_tokens": 4},
    "output_tokens": OUTPUT,
    "output_tokens_details": {"reasoning_tokens": 2},
    "total_tokens": INPUT + OUTPUT,
}
DONE = b"data: [DONE]\n\n"


def compact(document: object) -> bytes:
    """JSON as servers send it: no white space, text as it is."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def event(document: object, name: str | None = None) -> bytes:
    """One event of a stream."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + compact(document) + b"\n\n"


def chunk_of(
    delta: dict[str, Any] | None = None, finish: str | None = None, usage: object = None, **more: Any
) -> dict[str, Any]:
    """A chat chunk; one without `delta` has no choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    return {
        "id": f"chatcmpl-{PLACE.decode()}",
        "object": "chat.completion.chunk",
        "created": 1795000000,
        "model": MODEL,
        "choices": choices,
        "usage": usage,
        **more,
    }


def text(content: str) -> bytes:
    """An event with a piece of the answer."""
    return event(chunk_of({"content": content}))


ROLE = event(chunk_of({"role": "assistant", "content": "", "refusal": None}))
WORDS = (text("Hello"), text(" world"), text("!"))
STOP = event(chunk_of({}, "stop"))
USAGE_ONLY = event(chunk_of(usage=USAGE))
STOP_WITH_USAGE = event(chunk_of({}, "stop", USAGE))

BEGINNING = (ROLE, *WORDS)
"""A stream that is not over."""
WITHOUT_USAGE = (*BEGINNING, STOP, DONE)
"""What a client gets that did not ask for usage."""
STREAM = (*BEGINNING, STOP, USAGE_ONLY, DONE)
"""What a client gets that asked for it."""


def completion(content: str = "Hello world!", usage: object = USAGE) -> bytes:
    """A chat answer in one piece."""
    message = {"role": "assistant", "content": content, "refusal": None}
    return compact(
        {
            "id": f"chatcmpl-{PLACE.decode()}",
            "object": "chat.completion",
            "created": 1795000000,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": usage,
        }
    )


def text_chunk(content: str, finish: str | None = None) -> bytes:
    """An event of a text completion."""
    choices = [{"index": 0, "text": content, "logprobs": None, "finish_reason": finish}]
    return event({"id": f"cmpl-{PLACE.decode()}", "object": "text_completion", "model": MODEL, "choices": choices})


def response(status: str, usage: object = None) -> dict[str, Any]:
    """The answer object of the Responses API."""
    return {
        "id": f"resp_{PLACE.decode()}",
        "object": "response",
        "created_at": 1795000000,
        "status": status,
        "model": MODEL,
        "output": [],
        "usage": usage,
    }


def response_event(kind: str, number: int, **fields: Any) -> bytes:
    """An event of a Responses stream, which names its type twice."""
    return event({"type": kind, "sequence_number": number, **fields}, kind)


RESPONSE_BEGINNING = (
    response_event("response.created", 0, response=response("in_progress")),
    response_event("response.output_text.delta", 1, item_id="msg_1", output_index=0, content_index=0, delta="Hello"),
    response_event("response.output_text.delta", 2, item_id="msg_1", output_index=0, content_index=0, delta=" world"),
)


def response_end(status: str) -> bytes:
    """The last event of a Responses stream: `response.completed`, `response.incomplete` or `response.failed`."""
    return response_event(f"response.{status}", 3, response=response(status, RESPONSES_USAGE))


def error_body(message: str, kind: str = "invalid_request_error", code: str | None = None) -> bytes:
    """OpenAI's error object."""
    return compact({"error": {"message": message, "type": kind, "param": None, "code": code}})


def reporting(request: Received, status: int = 200, **fields: Any) -> Reply:
    """An answer that tells what the server received, beside what a client of that endpoint expects."""
    return Reply((compact({**fields, "received": request.report()}),), status, JSON, framing="length")


def echo(request: Received) -> Reply:
    """The same beside a chat answer's usage."""
    return reporting(request, id=f"chatcmpl-{PLACE.decode()}", model=MODEL, choices=[], usage=USAGE)
