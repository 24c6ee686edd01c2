"""Streams that are not what they should be: packed, cut without a sound, slow, without usage, with an error inside."""

import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import Connection, Received, Script
from tests.relays import CONTENT, DONE, USAGE, USAGE_CHUNK, error_of, failing, proxy, sse, streaming

STREAM = b"".join([*CONTENT, USAGE_CHUNK, DONE])
CREATED = b'data: {"type":"response.created","response":{"object":"response","status":"in_progress","error":null}}\n\n'
STREAMED: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


def chat_chunk(text: str = "", finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    document = {"id": "c-1", "object": "chat.completion.chunk", "model": "real-model", "choices": [choice], **more}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def packed(body: bytes, coding: str, content_type: str = "text/event-stream") -> Script:
    def script(connection: Connection, _: Received) -> None:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-encoding: {coding}\r\n"
        connection.send(head.encode() + b"transfer-encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 7):
            connection.chunk(body[start : start + 7])
        connection.end_chunked()

    return script


def bare_deflate(body: bytes) -> bytes:
    return zlib.compress(body, wbits=-zlib.MAX_WBITS)


def thrice(body: bytes) -> bytes:
    return gzip.compress(gzip.compress(gzip.compress(body)))


def deflate_in_gzip(body: bytes) -> bytes:
    return gzip.compress(zlib.compress(body))


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("GZIP", gzip.compress),
        ("deflate", zlib.compress),
        ("deflate", bare_deflate),
        ("identity, gzip", gzip.compress),
        ("gzip, identity,", gzip.compress),
        ("deflate, x-gzip", deflate_in_gzip),
        ("gzip , gzip,gzip", thrice),
        ("identity", bytes),
        ("UTF-8", bytes),
        ("gzip, none", gzip.compress),
    ],
)
def test_a_packed_stream_is_unpacked_metered_and_hidden_from(coding: str, pack: Callable[[bytes], bytes]) -> None:
    with proxy(packed(pack(STREAM), coding)) as (relay, _):
        response = relay.call({"stream": True})
    assert response.body == b"".join([*CONTENT, DONE])
    assert "content-encoding" not in response.headers
    assert relay.event[1]["usage"]["input_tokens"] == USAGE["prompt_tokens"]


@pytest.mark.parametrize(
    ("body", "ended"),
    [
        (gzip.compress(STREAM) + gzip.compress(b": more\n\n"), STREAM + b": more\n\n"),
        (gzip.compress(STREAM) + b"garbage", STREAM),
    ],
)
def test_what_follows_a_packed_body(body: bytes, ended: bytes) -> None:
    with proxy(packed(body, "gzip")) as (relay, _):
        assert relay.call(STREAMED).body == ended
    assert relay.event[0] == "InferenceCompleted"


@pytest.mark.parametrize(("body", "status"), [(gzip.compress(STREAM)[:-12], 200), (b"no gzip at all", 502)])
def test_a_packed_stream_that_is_cut_is_an_error(body: bytes, status: int) -> None:
    with proxy(packed(body, "gzip")) as (relay, _):
        response = relay.call(STREAMED)
    assert b"upstream_broken_off" in response.body
    assert response.body.endswith(DONE) == (status == 200)
    assert response.status == status
    assert relay.event[0] == "InferenceFailed"


def test_a_packed_document_and_a_bomb() -> None:
    document = json.dumps({"usage": USAGE, "text": "0" * 20_000_000}).encode()
    with proxy(packed(gzip.compress(document), "gzip", "application/json")) as (relay, _):
        response = relay.call({})
    assert response.body == document
    assert max(len(piece) for piece in response.pieces) <= 1024 * 1024


@pytest.mark.parametrize("coding", ["br", "gzip, br", "br,identity", "gzip, gzip, gzip, gzip, gzip", "utf-16"])
def test_an_unknown_coding_passes_as_it_is(coding: str) -> None:
    with proxy(packed(b"\x1b\x00brotli", coding, "application/json")) as (relay, _):
        response = relay.call({})
    assert (response.body, response.headers["content-encoding"]) == (b"\x1b\x00brotli", coding)
    assert (relay.event[0], relay.event[1]["usage"]["source"]) == ("InferenceCompleted", "missing")


@pytest.mark.parametrize("body", [b"", b": thinking\n\n", b"no event at all"])
def test_a_stream_in_which_nothing_is_said_is_no_answer(body: bytes) -> None:
    with proxy(streaming(*([body] if body else []))) as (relay, _):
        response = relay.call(STREAMED)
    assert b"upstream_broken_off" in response.body
    assert relay.event[0] == "InferenceFailed"


@pytest.mark.parametrize("rest", [b"", b'data: {"cho'])
def test_a_stream_that_stops_without_saying_that_it_ends_is_no_clean_end(rest: bytes) -> None:
    with proxy(streaming(chat_chunk("Hello"), rest or b": nothing\n\n")) as (relay, _):
        response = relay.call(STREAMED)
    assert response.body.startswith(chat_chunk("Hello"))
    assert b"upstream_broken_off" in response.body
    assert response.body.endswith(DONE)
    assert b'{"cho' not in response.body
    detail_type, data = relay.event
    assert (detail_type, data["error"]["type"]) == ("InferenceFailed", "upstream_broken_off")


@pytest.mark.parametrize(
    "body",
    [
        chat_chunk("a") + chat_chunk("", "stop"),
        chat_chunk("a") + DONE,
        chat_chunk("a", "length") + DONE + b"garbage",
        chat_chunk("a", "stop").rstrip(b"\n"),
        b"data: 1\n\ndata: 2\n\n",
    ],
)
def test_what_a_server_ends_is_passed_on_as_it_ended(body: bytes) -> None:
    with proxy(streaming(body)) as (relay, _):
        assert relay.call(STREAMED).body == body
    assert relay.event[0] == "InferenceCompleted"


@pytest.mark.parametrize(
    "body",
    [
        chat_chunk("a") + b'data: {"error": {"message": "overloaded", "code": 529}}\n\n' + DONE,
        CREATED
        + b'data: {"type":"response.failed","response":{"object":"response","status":"failed","error":{"code":1}}}\n\n',
    ],
)
def test_an_error_inside_a_stream_is_a_failure(body: bytes) -> None:
    with proxy(streaming(body)) as (relay, _):
        response = relay.call(STREAMED)
    assert (response.status, response.body) == (200, body)
    detail_type, data = relay.event
    assert (detail_type, data["error"]) == (
        "InferenceFailed",
        {"type": "upstream_error", "source": "upstream", "upstream_status": 200},
    )


def test_usage_that_nobody_reports_is_estimated() -> None:
    body = {"messages": [{"role": "user", "content": "x" * 396}], "model": "m"}
    chunks = [chat_chunk("four"), chat_chunk("more text of twenty."), chat_chunk("", "stop"), DONE]
    with proxy(streaming(*chunks)) as (relay, _):
        relay.call({**body, **STREAMED})
    usage = relay.event[1]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["source"]) == (103, 6, "estimated")


def test_a_stream_that_is_cut_is_estimated_as_far_as_it_came() -> None:
    with proxy(streaming(*(chat_chunk(" word") for _ in range(1000)), end=Connection.reset)) as (relay, _):
        relay.call(STREAMED)
    detail_type, data = relay.event
    assert (detail_type, data["usage"]["source"]) == ("InferenceFailed", "estimated")
    assert data["usage"]["output_tokens"] >= data["response"]["chunks"] > 0


def test_time_per_output_token() -> None:
    with proxy(streaming(*CONTENT, USAGE_CHUNK, DONE)) as (relay, _):
        relay.call(STREAMED)
    response, timings = relay.event[1]["response"], relay.event[1]["timings"]
    expected = (timings["total"] - response["time_to_first_chunk"]) / (USAGE["completion_tokens"] - 1)
    assert response["time_per_output_token"] == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("speaks", [False, True])
def test_a_server_may_have_timers_of_its_own(speaks: bool) -> None:
    def script(connection: Connection, _: Received) -> None:
        if speaks:
            connection.start_chunked()
            connection.chunk(sse("Hello"))
        connection.wait_for_end()

    with proxy(script) as (relay, _):
        response = relay.call(STREAMED, path="/hasty/v1/chat/completions")
    assert response.status == (200 if speaks else 504)
    assert b"upstream_timeout" in response.body
    assert relay.event[1]["error"]["type"] == "upstream_timeout"


def test_the_head_does_not_wait_for_a_server_that_thinks() -> None:
    def silent(connection: Connection, _: Received) -> None:
        connection.start_chunked()
        connection.wait_for_end()

    def half_an_event(connection: Connection, _: Received) -> None:
        connection.send(HEAD + b"5\r\ndata:\r\n")
        connection.wait_for_end()

    def at_once(connection: Connection, _: Received) -> None:
        event = sse("Hello", "stop")
        connection.send(HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event))

    for script, goes_ahead in ((silent, True), (half_an_event, True), (at_once, False)):
        with proxy(script) as (relay, _):
            response = relay.call(STREAMED, path="/hasty/v1/chat/completions")
        assert (response.status, response.flushed) == (200, goes_ahead)


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def test_a_server_that_keeps_failing_is_not_asked_for_a_while() -> None:
    with proxy(failing(3, "503 Later")) as (relay, server):
        first = relay.call({}, path="/frail/v1/chat/completions")
        assert (first.status, len(server.received)) == (503, 2), "the second failure ends the retries too"
        second = relay.call({}, path="/frail/v1/chat/completions")
        assert (second.status, error_of(second)["code"]) == (503, "upstream_unavailable")
        assert (second.headers["retry-after"], len(server.received)) == ("30", 2)
        relay.now += 31
        third = relay.call({}, path="/frail/v1/chat/completions")
        assert (third.status, len(server.received)) == (503, 3), "one request tries it; it fails, and is out again"
        relay.now += 31
        assert relay.call({}, path="/frail/v1/chat/completions").status == 200
        assert relay.call({}, path="/frail/v1/chat/completions").status == 200
    attempts = [detail["data"]["attempts"] for _, detail in relay.bus.details]
    assert [attempt["error"] for attempt in attempts[1]] == ["circuit_open"]


def test_a_server_that_is_not_asked_leaves_requests_to_its_fallback() -> None:
    with proxy(failing(1, "503 Later")) as (relay, server):
        for _ in range(2):
            response = relay.call({}, path="/guarded/v1/chat/completions")
            assert (response.status, response.headers["x-served-by"]) == (200, "up")
    assert [request.target.split("/")[1] for request in server.received] == ["frail", "base", "base"]


@pytest.mark.parametrize("status", ["429 Too Many", "500 Oops", "400 Bad"])
def test_the_fault_of_one_request_keeps_no_server_out(status: str) -> None:
    with proxy(failing(8, status)) as (relay, server):
        for seed in range(2):  # the same again is not repeated
            relay.call({"seed": seed}, path="/frail/v1/chat/completions")
    assert len(server.received) == (2 if status == "400 Bad" else 8)
