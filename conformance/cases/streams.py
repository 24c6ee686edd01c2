"""Event streams in every form that the format allows: what comes in goes out, and its usage is read."""

import json

from conformance.case import Ask, Case, Sees, Told
from conformance.chat import (
    BEGINNING,
    DONE,
    ROLE,
    STOP,
    STREAM,
    USAGE,
    USAGE_ONLY,
    WORDS,
    chunk_of,
    event,
    text,
)
from conformance.wire import Act, Raw, Reply, Step, Wait

CHAT = Ask(
    fields={
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "Say hello."}],
    }
)
COMPLETED = Told("InferenceCompleted", usage=(9, 3))

_WORLD = "Grüße, 世界 🌍🌎🌏 " * 20


def unchanged(
    name: str, about: str, steps: tuple[Step, ...], told: Told = COMPLETED, ask: Ask = CHAT, **reply: object
) -> Case:
    """A stream that must pass as it is."""
    answer = Reply(steps, **reply)  # pyright: ignore[reportArgumentType]
    body = b"".join(step for step in steps if isinstance(step, bytes))
    sees = Sees(
        body=body,
        headers={"content-type": "(?i)text/event-stream.*"},
        without=("content-encoding",) if reply.get("encoding") else (),
    )
    return Case(name, about, answer, sees, told, ask)


def _with_line_ends(end: bytes) -> tuple[bytes, ...]:
    return tuple(step.replace(b"\n", end) for step in STREAM)


def _in_lines(document: object) -> bytes:
    """An event whose JSON is spread over several data lines."""
    lines = json.dumps(document, indent=1).encode().split(b"\n")
    return b"".join(b"data: " + line + b"\n" for line in lines) + b"\n"


_MIXED = (
    ROLE.replace(b"\n", b"\r\n"),
    WORDS[0].replace(b"\n", b"\r"),
    WORDS[1][:-1] + b"\r\n",
    WORDS[2],
    STOP[:-1] + b"\r",
    USAGE_ONLY.replace(b"\n", b"\r\n"),
    DONE,
)
_COMMENTS = (
    b": waiting\n\n",
    ROLE,
    b":\n\n",
    b": a\n: b\n\n",
    *WORDS,
    b": in it\n" + STOP,
    USAGE_ONLY,
    b": end\n\n",
    DONE,
)
_FIELDS = (
    b"retry: 3000\n\n",
    b"event: message\nid: 1\n" + ROLE,
    b"id: 2\n" + text("Hello"),
    b"data:" + text("no space")[6:],
    text("after")[:-1] + b"id: 3\nunknown: x\n\n",
    b"event: message\n" + STOP,
    b"id\n" + USAGE_ONLY,
    DONE,
)
_TINY = tuple(event({"choices": [{"index": 0, "delta": {"content": letter}}]}) for letter in "abcdefghij" * 500)

CASES = (
    unchanged("clean", "a stream as OpenAI sends it", STREAM),
    unchanged("one-byte-chunks", "every byte is a chunk of its own", STREAM, piece=1),
    unchanged("one-byte-writes", "every byte, chunk sizes included, is written alone", STREAM, segment=1),
    unchanged("split-events", "chunks end anywhere in events", STREAM, piece=11),
    unchanged("one-chunk", "the whole stream is one chunk", (b"".join(STREAM),)),
    unchanged(
        "split-utf8",
        "chunks end within characters of several bytes",
        (ROLE, text(_WORLD), STOP, USAGE_ONLY, DONE),
        piece=3,
    ),
    unchanged("crlf", "lines end with CR LF", _with_line_ends(b"\r\n")),
    unchanged("crlf-split", "lines end with CR LF, and chunks between the two", _with_line_ends(b"\r\n"), piece=1),
    unchanged("cr", "lines end with CR", _with_line_ends(b"\r")),
    unchanged("mixed-line-ends", "lines end with CR LF, CR and LF in one stream", _MIXED),
    unchanged("mixed-line-ends-split", "the same, byte by byte", _MIXED, piece=1),
    unchanged("comments", "comments between events and in them", _COMMENTS),
    unchanged(
        "multi-line-data",
        "JSON spread over several data lines, usage too",
        (ROLE, *WORDS, STOP, _in_lines(chunk_of(usage=USAGE)), DONE),
    ),
    unchanged("fields", "event, id and retry fields, unknown ones, data without a space", _FIELDS),
    unchanged("byte-order-mark", "a byte order mark before the first event", (b"\xef\xbb\xbf" + ROLE, *STREAM[1:])),
    unchanged(
        "empty-data",
        "events without data, and with data that is no JSON",
        (ROLE, b"data:\n\n", b"data: \n\n", b"data: {not json\n\n", b"data: \xff\xfe\n\n", *STREAM[1:]),
    ),
    unchanged(
        "blank-lines",
        "more blank lines than needed",
        (b"\n\n", ROLE + b"\n\n\n", *WORDS, STOP + b"\n", USAGE_ONLY, DONE + b"\n\n"),
    ),
    unchanged("megabyte-event", "one event of a megabyte", (ROLE, text("é" * 524_288), STOP, USAGE_ONLY, DONE)),
    unchanged(
        "megabyte-event-in-packets",
        "one event of a megabyte in chunks of 1,400 bytes",
        (ROLE, text("x" * 1_048_576), STOP, USAGE_ONLY, DONE),
        piece=1400,
    ),
    unchanged(
        "thousands-of-tiny-events", "5,000 events of one letter, each a chunk", (ROLE, *_TINY, STOP, USAGE_ONLY, DONE)
    ),
    unchanged("missing-done", "a finish_reason and then the end, without [DONE]", STREAM[:-1]),
    unchanged("missing-last-blank-line", "the last event lacks its blank line", (*STREAM[:-1], b"data: [DONE]")),
    unchanged("done-without-finish", "[DONE] without a finish_reason", (*BEGINNING, USAGE_ONLY, DONE)),
    unchanged(
        "comments-after-done",
        "[DONE] is the end without a finish_reason, whatever comes behind it",
        (*BEGINNING, USAGE_ONLY, DONE, *(step for _ in range(3) for step in (Wait(0.02), b": more\n\n"))),
    ),
    unchanged("garbage-after-done", "more bytes after [DONE]", (*STREAM, b"garbage\n\nmore: {garbage}\n\n\x00\xff")),
    unchanged(
        "close-delimited", "no length and no chunks: the stream ends with the connection", STREAM, framing="close"
    ),
    unchanged("content-length", "a stream with a content length", STREAM, framing="length"),
    unchanged(
        "http-1-0",
        "an answer of HTTP/1.0",
        STREAM,
        framing="close",
        head=b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\n",
    ),
    unchanged(
        "head-without-reason",
        "a status line without a reason, header names in capitals",
        STREAM,
        head=b"HTTP/1.1 200\r\nCONTENT-TYPE: text/event-stream\r\nTRANSFER-ENCODING: Chunked\r\n\r\n",
    ),
    unchanged(
        "interim-answers",
        "100 and 103 come before the answer",
        STREAM,
        head=(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        ),
    ),
    unchanged(
        "content-type-in-capitals",
        "Text/Event-Stream is an event stream",
        STREAM,
        content_type="Text/Event-Stream;Charset=UTF-8",
    ),
    unchanged(
        "after-the-last-chunk",
        "trailers, and bytes that belong to no answer",
        (*STREAM, Raw(b"0\r\nx-late: 1\r\n\r\nHTTP/1.1 500 Oops\r\n\r\n"), Act.CUT),
    ),
    Case(
        "chunk-extensions",
        "chunks with extensions",
        Reply(
            (
                Raw(b"%x;name=value\r\n%b\r\n" % (len(b"".join(WORDS)) + len(STOP), b"".join(WORDS) + STOP)),
                Raw(b'e;q="a;b"\r\n' + DONE + b"\r\n"),
            )
        ),
        Sees(body=b"".join(WORDS) + STOP + DONE),
        Told("InferenceCompleted", usage="unknown"),
        CHAT,
    ),
    unchanged(
        "as-they-come",
        "each event reaches the client before the server sends the next",
        tuple(step for each in STREAM for step in (each, Act.RELEASE)),
        ask=Ask(fields=CHAT.fields, reports=True),
    ),
    unchanged("gzip", "compressed although identity was asked for", STREAM, encoding="gzip"),
    unchanged("gzip-split", "compressed, byte by byte", STREAM, encoding="gzip", piece=1),
    unchanged(
        "encoding-identity",
        "a content encoding that changes nothing",
        STREAM,
        headers=(("Content-Encoding", "identity"),),
    ),
    unchanged(
        "gzip-close-delimited", "compressed, and ended with the connection", STREAM, encoding="gzip", framing="close"
    ),
    unchanged(
        "gzip-thousands-of-tiny-events",
        "5,000 compressed events",
        (ROLE, *_TINY, STOP, USAGE_ONLY, DONE),
        encoding="gzip",
    ),
)
