"""Servers that break off, fall silent or speak no HTTP: a client must be able to tell, and must not wait for ever."""

from conformance.case import Ask, Case, Sees, Told, Usage
from conformance.cases.streams import CHAT, COMPLETED, unchanged
from conformance.chat import (
    BEGINNING,
    DONE,
    RESPONSE_BEGINNING,
    ROLE,
    STOP,
    STREAM,
    USAGE_ONLY,
    WORDS,
    completion,
    error_body,
    response_end,
    text,
    text_chunk,
)
from conformance.wire import EVENT_STREAM, JSON, Act, Raw, Reply, Step, Wait

BROKEN_OFF = "upstream_broken_off"
TIMEOUT = "upstream_timeout"

IMPATIENT = Ask(fields=CHAT.fields, server="-impatient")
WHOLE = Ask(fields={"messages": [{"role": "user", "content": "Say hello."}]})
_WHOLE_IMPATIENT = Ask(fields=WHOLE.fields, server="-impatient")
_RESPONSES = Ask(path="/responses", fields={"stream": True, "input": "Say hello."})
_COMPLETIONS = Ask(
    path="/completions", fields={"stream": True, "prompt": "Hello", "stream_options": {"include_usage": True}}
)
_REPORTING = Ask(fields=CHAT.fields, reports=True)

_HALF = text("never seen")[:60]
_FRAMED = b"".join(b"%x\r\n%b\r\n" % (len(step), step) for step in BEGINNING)
_PING = b": still thinking\n\n"


def broken(name: str, about: str, reply: Reply, whole: tuple[bytes, ...] = BEGINNING, ask: Ask = CHAT) -> Case:
    """A stream that ends before its end: what came `whole`, then an error frame and the end mark."""
    return Case(name, about, reply, _breaks_off(whole, BROKEN_OFF), _told(whole, BROKEN_OFF), ask)


def stalled(name: str, about: str, steps: tuple[Step, ...], whole: tuple[bytes, ...] = BEGINNING) -> Case:
    """A stream in which nothing more comes, and that ends in the same way."""
    return Case(name, about, Reply(steps), _breaks_off(whole, TIMEOUT), _told(whole, TIMEOUT), IMPATIENT)


def _breaks_off(whole: tuple[bytes, ...], code: str) -> Sees:
    return Sees(body=b"".join(whole), broken_off=code, headers={"content-type": "text/event-stream.*"})


def _told(whole: tuple[bytes, ...], code: str) -> Told:
    usage: Usage = (9, 3) if USAGE_ONLY in whole else "unknown" if whole else "none"
    return Told("InferenceFailed", code, usage)


def refused(name: str, about: str, head: bytes, *steps: Step) -> Case:
    """A server that does not come as far as an answer."""
    reply = Reply((*steps, Act.CUT), head=head, framing="none")
    return Case(name, about, reply, Sees(502, error=BROKEN_OFF), Told("InferenceFailed", BROKEN_OFF), CHAT)


def late(name: str, about: str, head: bytes, *steps: Step, others: tuple[str, ...] = ()) -> Case:
    """A server that has no answer in time: the error is a timeout, or one of `others`."""
    reply = Reply((*steps, Act.CUT), head=head, framing="none")
    sees = Sees(504, error=(TIMEOUT, *others) if others else TIMEOUT)
    return Case(name, about, reply, sees, Told("InferenceFailed", None if others else TIMEOUT), IMPATIENT)


def _nothing(name: str, about: str, reply: Reply) -> Case:
    """A stream of which nothing can be passed on."""
    return Case(name, about, reply, Sees(502, error=BROKEN_OFF), Told("InferenceFailed", BROKEN_OFF), CHAT)


def _dripping(piece: bytes, end: bytes) -> tuple[Step, ...]:
    """Send `piece` again and again for twice as long as an impatient proxy waits for a whole answer, then the `end`."""
    return (*(step for _ in range(50) for step in (Raw(piece), Wait(0.2))), Raw(end))


_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: " + EVENT_STREAM.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
_DOCUMENT = completion()
_NOISE = b"\x00\xff" * 50_000

_HELD_BACK = Told("InferenceFailed", BROKEN_OFF)

CASES = (
    broken("cut-between-events", "the connection is closed behind a whole event", Reply((*BEGINNING, Act.CUT))),
    broken("cut-in-event", "the connection is closed within an event", Reply((*BEGINNING, _HALF, Act.CUT))),
    broken(
        "cut-in-chunk",
        "the connection is closed within a chunk",
        Reply((*BEGINNING, Raw(b"40\r\n" + _HALF[:9]), Act.CUT)),
    ),
    broken(
        "cut-in-chunk-size", "the connection is closed within a chunk's size", Reply((*BEGINNING, Raw(b"4"), Act.CUT))
    ),
    broken(
        "cut-after-usage",
        "the usage that came before the cut counts",
        Reply((*BEGINNING, USAGE_ONLY, Act.CUT)),
        (*BEGINNING, USAGE_ONLY),
    ),
    broken(
        "cut-content-length",
        "the connection is closed before the announced length",
        Reply(BEGINNING, framing="length", missing=10),
    ),
    broken("cut-gzip", "a compressed stream is cut", Reply((*BEGINNING, Act.CUT), encoding="gzip")),
    broken("reset", "a TCP reset in mid-stream", Reply((*BEGINNING, Act.RELEASE, Act.RESET)), ask=_REPORTING),
    broken(
        "reset-in-event",
        "a TCP reset within an event",
        Reply((*BEGINNING, Act.RELEASE, _HALF, Act.RESET)),
        ask=_REPORTING,
    ),
    broken(
        "chunk-without-size", "what should be a chunk's size is none", Reply((Raw(_FRAMED + b"zz\r\n"), Act.SILENCE))
    ),
    broken(
        "chunk-too-long", "a chunk is longer than its size", Reply((Raw(_FRAMED + b"2\r\nabcd\r\n0\r\n\r\n"), Act.CUT))
    ),
    broken("no-end", "a stream ends cleanly, with neither finish_reason nor [DONE]", Reply(BEGINNING)),
    broken("no-end-gzip", "the same, compressed", Reply(BEGINNING, encoding="gzip")),
    broken("no-end-close-delimited", "the same, ended with the connection", Reply(BEGINNING, framing="close")),
    broken("no-end-in-event", "the same, within an event", Reply((*BEGINNING, _HALF))),
    broken("no-end-usage", "usage alone is no end either", Reply((*BEGINNING, USAGE_ONLY)), (*BEGINNING, USAGE_ONLY)),
    broken(
        "no-end-text",
        "text that looks like the end mark is none",
        Reply((*BEGINNING, text("[DONE]"))),
        (*BEGINNING, text("[DONE]")),
    ),
    _nothing("no-events", "a stream without a single event: the status can still say so", Reply(())),
    broken(
        "no-end-completions",
        "a stream of text completions that ends in its middle",
        Reply((text_chunk("Hello"),)),
        (text_chunk("Hello"),),
        _COMPLETIONS,
    ),
    broken(
        "no-end-responses",
        "a Responses stream without a last event",
        Reply(RESPONSE_BEGINNING),
        RESPONSE_BEGINNING,
        _RESPONSES,
    ),
    broken(
        "cut-responses",
        "a Responses stream is cut",
        Reply((*RESPONSE_BEGINNING, Act.CUT)),
        RESPONSE_BEGINNING,
        _RESPONSES,
    ),
    Case(
        "cut-after-done",
        "the connection is closed behind [DONE], but before the end of the body",
        Reply((*STREAM, Act.CUT)),
        Sees(begins=b"".join(STREAM)),
        Told(usage=(9, 3)),
        CHAT,
    ),
    Case(
        "error-in-stream",
        "the server's own error frame in mid-stream passes",
        Reply((*BEGINNING, b"data: " + error_body("overloaded", "server_error", "overloaded") + b"\n\n", DONE)),
        Sees(
            body=b"".join(
                (*BEGINNING, b"data: " + error_body("overloaded", "server_error", "overloaded") + b"\n\n", DONE)
            )
        ),
        Told(usage="unknown"),
        CHAT,
    ),
    *(
        unchanged(
            f"responses-{status}",
            f"a Responses stream that ends with response.{status}: its own end, and its usage",
            (*RESPONSE_BEGINNING, response_end(status)),
            Told(usage=(9, 3)),
            _RESPONSES,
        )
        for status in ("completed", "incomplete", "failed")
    ),
    Case(
        "cut-document",
        "a document is held back until it is whole: one that is cut is still an error",
        Reply((_DOCUMENT[:50],), content_type=JSON, framing="length", missing=100),
        Sees(502, error=BROKEN_OFF),
        _HELD_BACK,
        WHOLE,
    ),
    Case(
        "cut-document-chunked",
        "the same, chunked",
        Reply((_DOCUMENT[:50], Act.CUT), content_type=JSON),
        Sees(502, error=BROKEN_OFF),
        _HELD_BACK,
        WHOLE,
    ),
    Case(
        "reset-binary",
        "a download is reset: it has no room for an error, and must not look whole",
        Reply((_NOISE, Wait(0.5), Act.RESET), content_type="audio/mpeg"),
        Sees(cut=True),
        _HELD_BACK,
        Ask(path="/audio/speech", fields={"input": "Hello", "voice": "alloy"}),
    ),
    refused("cut-before-status", "the connection is closed instead of an answer", b"", Act.CUT),
    refused("reset-before-status", "the connection is reset instead of an answer", b"", Act.RESET),
    refused("cut-in-status", "the connection is closed within the status line", b"HTTP/1.1 2", Act.CUT),
    refused("cut-in-headers", "the connection is closed within the headers", _STREAM_HEAD[:-2], Act.CUT),
    refused("not-http", "the answer is of another protocol", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", Act.CUT),
    refused("malformed-header", "a header without a colon", b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", Act.CUT),
    refused(
        "unknown-transfer-coding",
        "a body whose length nobody can tell",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        Act.CUT,
    ),
    refused(
        "head-without-end",
        "headers that do not end",
        b"HTTP/1.1 200 OK\r\n" + b"x-more: and more\r\n" * 10_000,
        Act.CUT,
    ),
    late("silence", "nothing comes at all", b"", Act.SILENCE),
    late("silence-in-headers", "nothing comes behind the status line", b"HTTP/1.1 200 OK\r\n", Act.SILENCE),
    stalled("silence-after-headers", "nothing comes behind the headers", (Act.SILENCE,), ()),
    stalled("stall", "nothing more comes in mid-stream", (*BEGINNING, Act.SILENCE)),
    stalled("stall-in-event", "nothing more comes within an event", (*BEGINNING, _HALF, Act.SILENCE)),
    Case(
        "stall-document",
        "nothing more comes within a document",
        Reply((_DOCUMENT[:50], Act.SILENCE), content_type=JSON),
        Sees(504, error=TIMEOUT),
        Told("InferenceFailed", TIMEOUT),
        _WHOLE_IMPATIENT,
    ),
    unchanged(
        "server-keeps-alive",
        "a server that thinks longer than it may be silent, and says so in comments",
        (ROLE, *(step for _ in range(12) for step in (Wait(0.2), _PING)), *WORDS, STOP, USAGE_ONLY, DONE),
        ask=IMPATIENT,
    ),
    Case(
        "never-ends",
        "a stream that goes on for ever is ended when its time is up",
        Reply(tuple(step for number in range(400) for step in (text(str(number)), Wait(0.05)))),
        Sees(begins=text("0") + text("1"), broken_off=("deadline_exceeded", TIMEOUT)),
        Told("InferenceFailed", usage="unknown"),
        IMPATIENT,
    ),
    late(
        "headers-drip",
        "headers that come a line at a time for longer than an answer may take to begin",
        b"HTTP/1.1 200 OK\r\n",
        *_dripping(b"x-more: 1\r\n", b"content-length: 2\r\n\r\n{}"),
        others=("deadline_exceeded",),
    ),
    late(
        "interim-answers-only",
        "one 100 Continue after the other",
        b"",
        *_dripping(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"),
        others=("deadline_exceeded",),
    ),
    refused(
        "two-lengths",
        "two lengths that contradict each other",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 500\r\n\r\n12345",
        Act.CUT,
    ),
    _nothing(
        "gzip-that-is-none", "what is called gzip is none", Reply(BEGINNING, headers=(("Content-Encoding", "gzip"),))
    ),
    Case(
        "proxy-keeps-alive",
        "a server that thinks in silence: the proxy sends comments, between events and never in one",
        Reply((ROLE, text("slow")[:40], Wait(17), text("slow")[40:], STOP, USAGE_ONLY, DONE)),
        Sees(body=b"".join((ROLE, text("slow"), STOP, USAGE_ONLY, DONE)), keep_alive=True),
        COMPLETED,
        CHAT,
        seconds=17,
    ),
)
