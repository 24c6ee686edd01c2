"""Every endpoint of the OpenAI API passes, and usage is read wherever it reports it."""

from collections.abc import Mapping

from conformance.case import Ask, Case, Sees, Told
from conformance.cases.streams import unchanged
from conformance.chat import (
    MODEL,
    RESPONSE_BEGINNING,
    RESPONSES_USAGE,
    USAGE,
    compact,
    echo,
    event,
    response,
    response_end,
)
from conformance.checks import received, received_exactly, received_target
from conformance.wire import JSON, PLACE, Reply

NOTHING_USED = Told("InferenceCompleted", usage="none")
NOT_REPORTED = Told("InferenceCompleted", usage="unknown")
USED = Told("InferenceCompleted", usage=(9, 3))
IMAGE_USAGE = {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12, "input_tokens_details": {"text_tokens": 9}}
AUDIO_USAGE = {"type": "tokens", "input_tokens": 9, "output_tokens": 3, "total_tokens": 12}
QUERY = f"user={PLACE.decode()}"
"""Says which run a request without a body belongs to."""


def _document(name: str, about: str, ask: Ask, document: object, told: Told = USED) -> Case:
    """A request and an answer in JSON."""
    body = compact(document)
    reply = Reply((body,), content_type=JSON, framing="length")
    return Case(name, about, reply, Sees(body=body, headers={"content-type": JSON}), told, ask)


def _asks(path: str, fields: Mapping[str, object]) -> Ask:
    return Ask(path=path, fields=fields)


def _bare(name: str, about: str, ask: Ask, reply: Reply, sees: Sees) -> Case:
    """A request without a body, which uses nothing."""
    return Case(name, about, reply, sees, NOTHING_USED, ask)


def _at(path: str, method: str = "GET") -> Ask:
    """A request without a body: the case stands in the path."""
    return Ask(method, f"{path}?{QUERY}")


def _json(document: object, status: int = 200) -> Reply:
    return Reply((compact(document),), status, JSON, framing="length")


_EMBEDDINGS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1, -2.5e-07]}],
    "model": MODEL,
    "usage": {"prompt_tokens": 9, "total_tokens": 9},
}
_RESPONSE = {**response("completed", RESPONSES_USAGE), "output": [{"type": "message"}]}
_TEXT_CHOICES = [{"text": "x", "index": 0, "finish_reason": "stop"}]
_TEXT = {"object": "text_completion", "model": MODEL, "choices": _TEXT_CHOICES, "usage": USAGE}
_IMAGES = {"created": 1795000000, "data": [{"b64_json": "aGVsbG8="}], "usage": IMAGE_USAGE}
_MODERATION = {"id": "modr-1", "model": MODEL, "results": [{"flagged": False}]}
_BATCH = {"id": "batch_1", "object": "batch"}
_BATCH_OF = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions"}
_EVERY_TEXT = {"text": "Grüße 世界 🌍 \u2028 \x7f \\u0000", "usage": USAGE, "number": 1e-7}
_FILE = {"id": "file-1", "object": "file", "bytes": 3, "purpose": "batch", "filename": "a.jsonl"}
_MODEL = {"id": "conformance-model", "object": "model", "created": 1795000000, "owned_by": "conformance"}
_ASSISTED = "/threads/{case}/runs"

_PARTIAL_IMAGE = event({"type": "image_generation.partial_image", "b64_json": "aGVs"}, "image_generation.partial_image")
_LAST_IMAGE = event(
    {"type": "image_generation.completed", "b64_json": "aGVsbG8=", "usage": IMAGE_USAGE}, "image_generation.completed"
)
_SPEECH = (
    event({"type": "speech.audio.delta", "audio": "aGVs"}),
    event({"type": "speech.audio.done", "usage": AUDIO_USAGE}),
)

CASES = (
    _document(
        "embeddings",
        "embeddings, whose usage has no output",
        _asks("/embeddings", {"input": "Hello"}),
        _EMBEDDINGS,
        Told("InferenceCompleted", usage=(9, 0)),
    ),
    _document("responses", "a response in one piece", _asks("/responses", {"input": "Hello"}), _RESPONSE),
    _document("text-completion", "a text completion in one piece", _asks("/completions", {"prompt": "Hello"}), _TEXT),
    _document(
        "images", "images, whose usage is as in Responses", _asks("/images/generations", {"prompt": "A cat"}), _IMAGES
    ),
    _document(
        "moderations",
        "moderations, which use no tokens",
        _asks("/moderations", {"input": "x"}),
        _MODERATION,
        NOTHING_USED,
    ),
    _document("batches", "batches", _asks("/batches", _BATCH_OF), _BATCH, NOTHING_USED),
    _document(
        "unknown-path", "a path nobody has heard of", _asks("/some/new_endpoint/v2", {"x": 1}), {"y": 2}, NOT_REPORTED
    ),
    _document("every-text", "every kind of text and number", _asks("/chat/completions", {"messages": []}), _EVERY_TEXT),
    unchanged(
        "responses-stream",
        "a Responses stream, byte by byte",
        (*RESPONSE_BEGINNING, response_end("completed")),
        USED,
        Ask(path="/responses", fields={"stream": True, "input": "Hello"}),
        piece=1,
    ),
    unchanged(
        "images-stream",
        "a stream of images has neither finish_reason nor [DONE], and is whole",
        (_PARTIAL_IMAGE, _LAST_IMAGE),
        USED,
        Ask(path="/images/generations", fields={"stream": True, "prompt": "A cat"}),
    ),
    unchanged(
        "speech-stream",
        "nor has a stream of speech",
        _SPEECH,
        USED,
        Ask(path="/audio/speech", fields={"stream_format": "sse", "input": "Hello", "voice": "alloy"}),
    ),
    unchanged(
        "unknown-stream",
        "nor has a stream of a path nobody has heard of",
        (event({"type": "run.started"}, "run.started"), event({"type": "run.ended"}, "run.ended")),
        NOT_REPORTED,
        Ask(path=_ASSISTED, fields={"stream": True}),
    ),
    _bare("files-get", "a file", _at("/files/{case}"), _json(_FILE), Sees(body=compact(_FILE))),
    _bare("files-delete", "a deletion", _at("/files/{case}", "DELETE"), _json({}), Sees(body=b"{}")),
    _bare("model", "a model", _at("/models/{case}"), _json(_MODEL), Sees(body=compact(_MODEL))),
    _bare("created", "other good statuses pass", _at("/files/{case}"), _json({}, 201), Sees(201, b"{}")),
    _bare(
        "no-content",
        "an answer that has no body",
        _at("/files/{case}", "DELETE"),
        Reply(status=204, content_type=None, framing="none"),
        Sees(204, b""),
    ),
    _bare(
        "empty",
        "an answer whose body is empty; Lambda wants a byte of every answer, so white space may take its place",
        _at("/files/{case}"),
        Reply(content_type=JSON, framing="length"),
        Sees(also=(lambda _, seen: f"the body is {seen.body!r}" if seen.body.strip() else None,)),
    ),
    _bare(
        "head",
        "HEAD is answered without a body",
        _at("/models/{case}", "HEAD"),
        Reply(content_type=JSON, framing="none", headers=(("Content-Length", "100"),)),
        Sees(200, b""),
    ),
    _bare(
        "plain-text",
        "an answer in plain text",
        _at("/files/{case}/content"),
        Reply((b"Hello\n",), content_type="text/plain; charset=utf-8", framing="length"),
        Sees(body=b"Hello\n", headers={"content-type": "text/plain.*"}),
    ),
    *(
        Case(
            method.lower(),
            f"{method} passes with its body",
            echo,
            Sees(also=(received(method=method), received_exactly)),
            Told("InferenceCompleted"),
            Ask(method, "/some/thing", {"a": 1}),
        )
        for method in ("PUT", "PATCH", "DELETE")
    ),
    Case(
        "query",
        "a query reaches the server as it was sent",
        echo,
        Sees(also=(received_target(f"/v1/files/conformance-query?limit=2&after=a%20b&x=%2F&x=2&{QUERY}"),)),
        Told("InferenceCompleted"),
        Ask("GET", f"/files/{{case}}?limit=2&after=a%20b&x=%2F&x=2&{QUERY}"),
    ),
)
