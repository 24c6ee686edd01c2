"""Usage: asked for where the client did not, hidden from it again, and read wherever servers put it."""

from typing import Any

from conformance.case import Ask, Case, Sees, Told
from conformance.cases.streams import CHAT, COMPLETED, unchanged
from conformance.chat import (
    BEGINNING,
    DONE,
    ROLE,
    STOP,
    STOP_WITH_USAGE,
    STREAM,
    USAGE,
    USAGE_ONLY,
    WITHOUT_USAGE,
    chunk_of,
    completion,
    error_body,
    event,
    reporting,
    text,
    text_chunk,
)
from conformance.checks import received
from conformance.wire import JSON, Answer, Received, Reply, Step

_MESSAGES = [{"role": "user", "content": "Say hello."}]
_UNASKED = Ask(fields={"stream": True, "messages": _MESSAGES})
_WHOLE = Ask(fields={"messages": _MESSAGES})
_UNKNOWN = Told("InferenceCompleted", usage="unknown")
_DETAILS = Told(
    "InferenceCompleted",
    usage=(9, 3),
    fields={
        "usage.cache_read.input_tokens": 4,
        "usage.reasoning.output_tokens": 2,
        "response.model": "conformance-model-2026-11-01",
        "response.finish_reasons": ["stop"],
    },
)


def _asking(**fields: Any) -> Ask:
    return Ask(fields={"messages": _MESSAGES, **fields})


_LONG = "x" * 1_200_000
_NAMED_LONG = {**chunk_of({}, "stop"), "id": _LONG, "model": _LONG}
_INFINITE = b'data: {"choices":[],"usage":{"prompt_tokens":1e999,"completion_tokens":NaN,"total_tokens":1}}\n\n'


def _if_asked(asked: tuple[Step, ...], unasked: tuple[Step, ...] = WITHOUT_USAGE, **reply: Any) -> Answer:
    """Reports usage to who asks for it, as OpenAI does, and refuses to be asked for it without a stream."""

    def answer(request: Received) -> Reply:
        fields = request.fields
        options = fields.get("stream_options")
        if options is not None and fields.get("stream") is not True:
            message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
            return Reply((error_body(message),), 400, JSON, framing="length")
        if fields.get("stream") is not True:
            return Reply((completion(),), content_type=JSON, framing="length")
        wants = isinstance(options, dict) and options.get("include_usage") is True  # pyright: ignore[reportUnknownMemberType]
        return Reply(asked if wants else unasked, **reply)

    return answer


def _hidden(name: str, about: str, ask: Ask = _UNASKED, usage: tuple[Step, ...] = (USAGE_ONLY,), **reply: Any) -> Case:
    """The client sees the stream without its usage, the bus learns of it."""
    return Case(
        name,
        about,
        _if_asked((*BEGINNING, STOP, *usage, DONE), **reply),
        Sees(body=b"".join(WITHOUT_USAGE)),
        COMPLETED,
        ask,
    )


def _crlf(steps: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(step.replace(b"\n", b"\r\n") for step in steps)


_PROMPT = Ask(path="/completions", fields={"stream": True, "prompt": "Say hello."})
_TEXTS = (text_chunk("Hello"), text_chunk(" world!", "stop"))
_RUNNING = tuple(
    event(chunk_of({"content": word}, usage={**USAGE, "completion_tokens": number}))
    for number, word in enumerate(("Hello", " world", "!"), start=1)
)
_LIKE_USAGE = '{"usage": {"prompt_tokens": 999999, "completion_tokens": 999999}, "choices": []}'
_BROKEN_UP = b'data: {"id":"x","model":"m","choices":[],"usage":\ndata: {"prompt_tokens":9,"completion_tokens":3}}\n\n'
_REPORTS = Ask(fields={"stream": True, "messages": _MESSAGES, "stream_options": {"include_obfuscation": False}})


def _tells_options(request: Received) -> Reply:
    """What the server received, as JSON, which can be read whole."""
    return reporting(request, id="x", choices=[], usage=USAGE)


CASES = (
    Case(
        "usage-asked",
        "asked for by the client: it comes",
        _if_asked(STREAM),
        Sees(body=b"".join(STREAM)),
        _DETAILS,
        CHAT,
    ),
    _hidden("usage-unasked", "not asked for: the proxy asks, and hides the chunk that has only usage"),
    _hidden(
        "usage-declined",
        "declined: asked for all the same, and hidden",
        _asking(stream=True, stream_options={"include_usage": False}),
    ),
    _hidden("usage-options-null", "stream_options is null", _asking(stream=True, stream_options=None)),
    _hidden("usage-unasked-split", "hidden from a stream of one-byte chunks", piece=1),
    _hidden("usage-unasked-gzip", "hidden from a compressed stream", encoding="gzip"),
    Case(
        "usage-unasked-one-chunk",
        "hidden from a stream that comes in one chunk",
        _if_asked((b"".join(STREAM),)),
        Sees(body=b"".join(WITHOUT_USAGE)),
        COMPLETED,
        _UNASKED,
    ),
    Case(
        "usage-unasked-crlf",
        "hidden where lines end with CR LF",
        _if_asked(_crlf(STREAM)),
        Sees(body=b"".join(_crlf(WITHOUT_USAGE))),
        COMPLETED,
        _UNASKED,
    ),
    _hidden(
        "usage-unasked-several-lines",
        "hidden where its JSON is spread over data lines, within a member",
        usage=(_BROKEN_UP,),
    ),
    Case(
        "usage-unasked-completions",
        "hidden from a stream of text completions",
        _if_asked((*_TEXTS, USAGE_ONLY, DONE), (*_TEXTS, DONE)),
        Sees(body=b"".join((*_TEXTS, DONE))),
        COMPLETED,
        _PROMPT,
    ),
    Case(
        "usage-with-choices",
        "usage in the last chunk that has choices: it stays, asked for or not",
        Reply((*BEGINNING, STOP_WITH_USAGE, DONE)),
        Sees(body=b"".join((*BEGINNING, STOP_WITH_USAGE, DONE))),
        _DETAILS,
        _UNASKED,
    ),
    unchanged(
        "usage-with-choices-asked", "the same for a client that asked", (*BEGINNING, STOP_WITH_USAGE, DONE), _DETAILS
    ),
    unchanged(
        "usage-running",
        "running totals in every chunk: the last one counts",
        (ROLE, *_RUNNING, STOP, DONE),
        ask=_UNASKED,
    ),
    unchanged("usage-before-stop", "usage comes before the finish_reason", (*BEGINNING, USAGE_ONLY, STOP, DONE)),
    unchanged(
        "empty-choices-without-usage",
        "a first chunk with no choices and no usage, as content filters send it, is not hidden",
        (event(chunk_of(prompt_filter_results=[{"prompt_index": 0}])), *WITHOUT_USAGE),
        _UNKNOWN,
        _UNASKED,
    ),
    unchanged("usage-never", "the server never says: not zero, but unknown", WITHOUT_USAGE, _UNKNOWN),
    unchanged(
        "usage-odd",
        "usage that is none: a list, a text, negative figures",
        (*BEGINNING, event(chunk_of({}, usage=[1])), event(chunk_of({}, "stop", "many")), DONE),
        _UNKNOWN,
    ),
    unchanged(
        "usage-nonsense",
        "usage whose figures are none does not spoil the event",
        (
            *BEGINNING,
            event(chunk_of({}, "stop", {"prompt_tokens": True, "completion_tokens": 1.5, "total_tokens": -4})),
            _INFINITE,
            DONE,
        ),
        Told("InferenceCompleted"),
    ),
    unchanged(
        "names-without-end",
        "a model and an id of a megabyte do not spoil the event",
        (event(_NAMED_LONG), DONE),
        Told("InferenceCompleted", usage="unknown"),
    ),
    Case(
        "model-without-end",
        "nor does a client's model of that length",
        Reply(STREAM),
        Sees(body=b"".join(STREAM)),
        COMPLETED,
        Ask(fields=CHAT.fields, model="{case}/" + _LONG),
    ),
    unchanged(
        "usage-in-text",
        "generated text that looks like usage is text",
        (ROLE, text(_LIKE_USAGE), text(f"\n\ndata: {_LIKE_USAGE}\n\n"), STOP, DONE),
        _UNKNOWN,
    ),
    Case(
        "stream-false",
        "stream: false is not asked for usage, which would be an error",
        _if_asked(STREAM),
        Sees(body=completion()),
        _DETAILS,
        _asking(stream=False),
    ),
    Case(
        "stream-absent", "nor is a request without stream", _if_asked(STREAM), Sees(body=completion()), _DETAILS, _WHOLE
    ),
    Case(
        "stream-options-without-stream",
        "stream_options without stream is the server's to refuse",
        _if_asked(STREAM),
        Sees(400, error_body("The 'stream_options' parameter is only allowed when 'stream' is enabled.")),
        Told("InferenceFailed", "upstream_error"),
        _asking(stream_options={"include_usage": True}),
    ),
    Case(
        "stream-options-kept",
        "the client's other stream_options reach the server",
        _tells_options,
        Sees(also=(received(stream_options={"include_obfuscation": False, "include_usage": True}),)),
        COMPLETED,
        _REPORTS,
    ),
)
