"""Errors that a server calls a success: as a document, as the first event of a stream, and after the first one."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import Connection, Received, RecordedResponse, Script
from tests.relays import CONTENT, DONE, TOKEN, USAGE, USAGE_CHUNK, Proxy, error_of, proxy, sse, streaming

CHAT, TEXT, RESPONSES, EMBEDDINGS = "chat/completions", "completions", "responses", "embeddings"
STREAMED: dict[str, Any] = {"model": "m", "stream": True, "stream_options": {"include_usage": True}}
GOOD = json.dumps({"id": "a", "choices": [{"finish_reason": "stop"}], "usage": USAGE}).encode()
SAID = "The engine is tired."
ROLE = sse()


def data(document: Any, name: str = "", end: str = "\n") -> bytes:
    return f"{f'event: {name}{end}' if name else ''}data: {json.dumps(document)}{end}{end}".encode()


FRAMES = {
    "an object": data({"error": {"message": SAID, "type": "x"}}),
    "a text": data({"error": SAID}),
    "named, without its key": data({"message": SAID, "code": "x"}, "error"),
    "named, no JSON": f"event: error\ndata: {SAID}\n\n".encode(),
    "in a choice": data({"id": "c", "choices": [{"error": {"message": SAID}, "finish_reason": "error"}]}),
    "in the second choice": data({"choices": [{"index": 0}, {"index": 1, "error": {"message": SAID}}]}),
    "by its type": data({"type": "error", "code": "x", "message": SAID, "param": None, "sequence_number": 3}),
    "as Anthropic says it": data({"type": "error", "error": {"type": "overloaded_error", "message": SAID}}, "error"),
    "as a failed response": data(
        {"type": "response.failed", "response": {"object": "response", "status": "failed", "error": {"message": SAID}}}
    ),
    "in an array": data([{"error": {"message": SAID, "status": "UNAVAILABLE"}}]),
    "bare": data({"code": 5001, "message": SAID}),
    "with CR LF": data({"error": SAID}, "error", "\r\n"),
    "with CR": data({"error": SAID}, end="\r"),
    "in two lines of data": b'data: {"error":\ndata: {"message": "' + SAID.encode() + b'"}}\n\n',
    "without a blank": b'data:{"error":"' + SAID.encode() + b'"}\n\n',
    "under names of its own": data({"error_code": 336000, "error_msg": SAID}),
    "with its status": data({"message": SAID, "status": 503}),
    "as problem details": data({"type": "about:blank", "title": SAID, "status": 503}),
}

STATUSES = {"with its status": 503, "as problem details": 503, "as Anthropic says it": 529, "of its type": 529}
"""Of the errors that name one, by a number or by a type that stands for it."""


def answering(body: bytes, content_type: str = "application/json") -> Script:
    return lambda connection, _: connection.answer(body, content_type=content_type)


class Plan:
    """A script that answers with what is next: pieces of a stream, or a document. The last is sent again and again."""

    def __init__(self) -> None:
        self.next: list[Script] = []

    def __call__(self, connection: Connection, request: Received) -> None:
        (self.next.pop(0) if len(self.next) > 1 else self.next[0])(connection, request)


def latest(relay: Proxy) -> tuple[str, dict[str, Any]]:
    """The one event of the latest request. The breaker of its server lets the next one pass."""
    [(kind, detail)] = relay.bus.details
    relay.bus.details.clear()
    relay.now += 60
    return kind, detail["data"]


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_an_error_as_the_first_event_is_tried_again_as_a_status_is(cut: int) -> None:
    with proxy(plan := Plan()) as (relay, server):
        for name, frame in FRAMES.items():
            pieces = [frame[start : start + cut] for start in range(0, len(frame), cut)]
            plan.next = [
                streaming(b": keep-alive\n\n", *pieces, DONE),
                streaming(*CONTENT, USAGE_CHUNK, DONE),
            ]
            response = relay.call(STREAMED, path=f"/again/v1/{CHAT}")
            assert (response.status, response.body) == (200, b"".join([*CONTENT, USAGE_CHUNK, DONE])), name
            kind, event = latest(relay)
            assert (kind, event["usage"]["output_tokens"]) == ("InferenceCompleted", USAGE["completion_tokens"])
            attempts = [(each["status_code"], each["error"]) for each in event["attempts"]]
            assert attempts == [(200, "upstream_error"), (200, None)]
        assert len(server.received) == 2 * len(FRAMES)


@pytest.mark.parametrize("end", [Connection.end_chunked, Connection.close, Connection.reset])
def test_an_error_that_stays_is_a_status_with_what_the_server_says(end: Callable[[Connection], None]) -> None:
    with proxy(plan := Plan()) as (relay, _):
        for name, frame in FRAMES.items():
            plan.next = [streaming(frame, end=end)]
            response = relay.call(STREAMED)
            status = STATUSES.get(name, 502)
            assert (response.status, error_of(response)["code"]) == (status, "upstream_error"), name
            assert SAID in error_of(response)["message"]
            kind, event = latest(relay)
            assert (kind, event["error"]["type"], event["usage"]["source"]) == (
                "InferenceFailed",
                "upstream_error",
                "none",
            )


@pytest.mark.parametrize("done", [DONE, b""])
@pytest.mark.parametrize("usage", [USAGE_CHUNK, b""])
def test_an_error_after_the_first_event_passes_unchanged_and_is_a_failure(usage: bytes, done: bytes) -> None:
    asked = [STREAMED, {**STREAMED, "n": 2}, {"model": "m", "stream": True}]
    with proxy(plan := Plan()) as (relay, server):
        for name, frame in FRAMES.items():
            plan.next = [streaming(*filter(None, [*CONTENT, frame, usage, done]))]
            for body in asked:
                response = relay.call(body, path=f"/again/v1/{CHAT}")
                seen = usage if "stream_options" in body else b""
                assert response.body == b"".join([*CONTENT, frame, seen, done]), name
                kind, event = latest(relay)
                assert (kind, event["error"]["type"]) == ("InferenceFailed", "upstream_error"), name
                assert event["usage"]["source"] == ("reported" if usage else "missing"), name
        assert len(server.received) == len(asked) * len(FRAMES), "what has begun is not begun again"


@pytest.mark.parametrize("end", [Connection.close, Connection.reset])
def test_after_the_servers_own_error_its_break_is_not_told_too(end: Callable[[Connection], None]) -> None:
    with proxy(plan := Plan()) as (relay, _):
        for name, frame in FRAMES.items():
            plan.next = [streaming(ROLE, frame, b'data: {"ha', end=end)]
            response = relay.call(STREAMED)
            assert (response.body, response.failure) == (ROLE + frame, None), name
            kind, event = latest(relay)
            assert (kind, event["error"]["type"]) == ("InferenceFailed", "upstream_error"), name
            assert event["usage"]["source"] == "none", name


def test_nor_is_its_silence() -> None:
    with proxy(streaming(ROLE, FRAMES["a text"], end=Connection.wait_for_end), idle=0.4) as (relay, _):
        assert relay.call(STREAMED).body == ROLE + FRAMES["a text"]
    assert relay.event[1]["error"]["type"] == "upstream_error"


DOCUMENTS: dict[str, bytes] = {
    "an object": b'{"error": {"message": "The engine is tired.", "type": "x", "code": null}}',
    "a text": b'{"error": "The engine is tired."}',
    "after blank lines": b'\n\n \r\n\n{"error": {"message": "The engine is tired."}}',
    "after a byte order mark": b'\xef\xbb\xbf{"error": {"message": "The engine is tired."}}\n',
    "beside other fields": b'{"id": "a", "object": "chat.completion", "choices": [], "error": "The engine is tired."}',
    "in an array": b'[{"error": {"message": "The engine is tired."}}]',
    "in its choices": b'{"choices": [{"finish_reason": "error", "error": {"message": "The engine is tired."}}]}',
    "of its type": b'{"type": "error", "error": {"type": "overloaded_error", "message": "The engine is tired."}}',
    "as an object": b'{"object": "error", "message": "The engine is tired.", "code": 50001}',
    "bare": b'{"code": 1302, "msg": "The engine is tired.", "success": false}',
    "under names of its own": b'{"error_code": 336000, "error_msg": "The engine is tired.", "id": ""}',
    "in upper case": b'{"Error": {"Code": "InternalError", "Message": "The engine is tired."}}',
    "as problem details": b'{"type": "about:blank", "title": "The engine is tired.", "status": 503}',
    "as an exception": b'{"exception": "The engine is tired."}',
    "in details": b'{"detail": {"error": {"message": "The engine is tired."}}}',
}


@pytest.mark.parametrize("path", [CHAT, TEXT, RESPONSES, EMBEDDINGS])
def test_a_document_that_is_an_error_is_tried_again_and_then_a_status(path: str) -> None:
    with proxy(plan := Plan()) as (relay, _):
        for name, body in DOCUMENTS.items():
            plan.next = [answering(body), answering(GOOD)]
            assert relay.call({"model": "m"}, path=f"/again/v1/{path}").body == GOOD
            assert latest(relay)[0] == "InferenceCompleted"
            plan.next = [answering(body)]
            for asked in ({"model": "m"}, STREAMED):
                response = relay.call(asked, path=f"/up/v1/{path}")
                status = STATUSES.get(name, 502)
                assert (response.status, error_of(response)["code"]) == (status, "upstream_error"), name
                assert SAID in error_of(response)["message"]
                kind, event = latest(relay)
                assert (kind, event["error"]["upstream_status"]) == ("InferenceFailed", 200)
                assert event["usage"]["source"] == "none"


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request"])
def test_an_error_that_was_whole_before_the_connection_broke_is_told(status: str) -> None:
    unended = {"an event without its end": b'data: {"error": "The engine is tired."}'}

    def script(connection: Connection, _: Received) -> None:
        connection.start_chunked("text/event-stream" if name in unended else "application/json", status)
        connection.chunk(sent[name])
        connection.close()

    sent = DOCUMENTS | unended
    with proxy(script) as (relay, _):
        for name in sent:
            for asked in ({"model": "m"}, STREAMED):
                assert SAID in error_of(relay.call(asked))["message"], name
                kind, event = latest(relay)
                assert (kind, event["error"]["type"], event["usage"]["source"]) == (
                    "InferenceFailed",
                    "upstream_error",
                    "none",
                )


@pytest.mark.parametrize(
    ("named", "seen", "tries"),
    [
        ({"code": 400}, 400, 1),
        ({"code": "422"}, 422, 1),
        ({"status": 404}, 404, 1),
        ({"code": 429}, 429, 3),
        ({"status": 503, "code": "unavailable"}, 503, 3),
        ({"code": 529}, 529, 3),
        ({"code": 401}, 502, 1),
        ({"code": 200}, 502, 3),
        ({"code": 1302}, 502, 3),
        ({"code": "overloaded"}, 502, 3),
    ],
)
def test_an_error_is_treated_as_the_status_it_names(named: dict[str, object], seen: int, tries: int) -> None:
    error = {"error": {"message": SAID, **named}}
    for script, asked in ((streaming(data(error)), STREAMED), (answering(json.dumps(error).encode()), {"model": "m"})):
        with proxy(script) as (relay, server):
            response = relay.call(asked, path=f"/again/v1/{CHAT}")
            assert (response.status, len(server.received)) == (seen, tries)
        assert relay.event[0] == ("InferenceThrottled" if seen == 429 else "InferenceFailed")


def test_a_fallback_stands_in_for_a_server_whose_stream_begins_with_an_error() -> None:
    def script(connection: Connection, request: Received) -> None:
        first = request.target.startswith("/first")
        streaming(*([FRAMES["a text"]] if first else [*CONTENT, DONE]))(connection, request)

    with proxy(script) as (relay, server):
        response = relay.call(STREAMED, path=f"/first/v1/{CHAT}")
        assert [request.target.split("/")[1] for request in server.received] == ["first", "first", "base"]
    assert (response.status, response.headers["x-served-by"]) == (200, "up")
    assert response.body == b"".join([*CONTENT, DONE])


class Flushed(RecordedResponse):
    """A response that tells when its head has gone out."""

    def __init__(self) -> None:
        super().__init__()
        self.head_is_out = threading.Event()

    def flush(self) -> None:
        super().flush()
        self.head_is_out.set()


@pytest.mark.parametrize("late", [FRAMES["a text"], None], ids=["an error", "a break"])
def test_what_fails_after_a_server_was_silent_is_told_in_band(late: bytes | None) -> None:
    def script(connection: Connection, _: Received) -> None:
        connection.start_chunked()
        connection.chunk(b": thinking\n\n")
        assert response.head_is_out.wait(timeout=20)
        if late:
            connection.chunk(late)
            connection.end_chunked()
        else:
            connection.reset()

    response = Flushed()
    with proxy(script) as (relay, server):
        relay.call(STREAMED, path=f"/again/v1/{CHAT}", response=response)
        assert len(server.received) == 1, "the client has its status"
    assert response.status == 200
    assert response.body.startswith(b": thinking\n\n" + (late or b'data: {"error"'))
    kind, event = relay.event
    assert (kind, event["error"]["type"]) == ("InferenceFailed", "upstream_error" if late else "upstream_broken_off")
    assert event["usage"]["source"] == "none"


@pytest.mark.parametrize("content_type", ["audio/mpeg", "text/event-stream"])
def test_a_server_that_stays_silent_begins_one_answer(content_type: str) -> None:
    def script(connection: Connection, _: Received) -> None:
        connection.start_chunked(content_type)
        connection.wait_for_end()

    with proxy(script, keep_alive=0.2, idle=1) as (relay, _):
        response = relay.call({"model": "m"}, path="/up/v1/audio/speech")
    assert (response.status, response.flushed) == (200, True)
    assert relay.event[1]["error"]["type"] == "upstream_timeout"


def test_a_wrong_request_is_not_taken_to_a_fallback() -> None:
    with proxy(streaming(data({"error": {"message": SAID, "code": 400}}))) as (relay, server):
        assert relay.call(STREAMED, path=f"/first/v1/{CHAT}").status == 400
        assert len(server.received) == 1


NO_ANSWERS = [
    (b"", "application/json", "nothing"),
    (b" \r\n", "application/json", "nothing"),
    (b"upstream request timeout", "application/json", "neither JSON"),
    (b"upstream request timeout", "text/plain", "neither JSON"),
    (GOOD[:-1], "application/json", "neither JSON"),
    (b'{"choices": [{"message": {"content": "' + b"a" * 100_000, "application/json", "neither JSON"),
    (b"<!DOCTYPE html><html></html>", "application/json", "a web page"),
    (b"\n<html></html>", "", "a web page"),
    (b"<html></html>", "text/html; charset=utf-8", "a web page"),
    (b"null", "application/json", "no answer"),
    (b"[]", "application/json", "no answer"),
    (b'"text"', "application/json", "no answer"),
    (b"{}", "application/json", "no answer"),
    (b'{"detail": "Not Found"}', "application/json", "Not Found"),
    (b'{"message": "no Route matched"}', "application/json", "no Route matched"),
]


@pytest.mark.parametrize("path", [CHAT, TEXT, RESPONSES, EMBEDDINGS])
def test_a_document_that_is_no_answer_is_tried_again_and_then_a_status(path: str) -> None:
    with proxy(plan := Plan()) as (relay, _):
        for body, content_type, says in NO_ANSWERS:
            plan.next = [answering(body, content_type), answering(GOOD)]
            assert relay.call({"model": "m"}, path=f"/again/v1/{path}").body == GOOD
            assert latest(relay)[0] == "InferenceCompleted"
            plan.next = [answering(body, content_type)]
            response = relay.call({"model": "m"}, path=f"/up/v1/{path}")
            assert (response.status, error_of(response)["code"]) == (502, "upstream_no_answer"), body
            assert says in error_of(response)["message"]
            kind, event = latest(relay)
            assert (kind, event["error"]["type"]) == ("InferenceFailed", "upstream_no_answer")
            assert event["usage"]["source"] == "none"


@pytest.mark.parametrize(
    "fields",
    [
        {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}, {"error": {"message": SAID}}]},
        {"object": "response", "status": "failed", "error": {"code": "server_error", "message": SAID}, "output": []},
    ],
)
def test_what_is_of_use_in_spite_of_an_error_passes_and_is_a_failure(fields: dict[str, object]) -> None:
    body = json.dumps({"id": "a", **fields, "usage": USAGE}).encode()
    with proxy(answering(body)) as (relay, server):
        assert relay.call({"model": "m"}, path=f"/again/v1/{RESPONSES}").body == body
        assert len(server.received) == 1
    kind, event = relay.event
    assert (kind, event["error"]["type"]) == ("InferenceFailed", "upstream_error")
    assert event["usage"]["output_tokens"] == USAGE["completion_tokens"]


@pytest.mark.parametrize("content_type", ["application/json", "", "text/plain", "application/octet-stream"])
@pytest.mark.parametrize("cut", [1, 1000])
def test_a_stream_is_known_by_its_bytes_where_one_was_asked_for(content_type: str, cut: int) -> None:
    whole = b"".join([*CONTENT, USAGE_CHUNK, DONE])
    pieces = [whole[start : start + cut] for start in range(0, len(whole), cut)]

    def script(connection: Connection, request: Received) -> None:
        connection.start_chunked(content_type)
        for piece in pieces:
            connection.chunk(piece)
        connection.end_chunked()

    with proxy(script) as (relay, _):
        response = relay.call({"model": "m", "stream": True})
    assert response.body == b"".join([*CONTENT, DONE])
    kind, event = relay.event
    assert (kind, event["usage"]["source"], event["response"]["finish_reasons"]) == (
        "InferenceCompleted",
        "reported",
        ["stop"],
    )


@pytest.mark.parametrize("content_type", ["application/json", ""])
def test_a_stream_by_another_name_is_held_to_its_end(content_type: str) -> None:
    chunk = sse("a").replace(b'"model"', b'"object": "chat.completion.chunk", "model"')
    with proxy(answering(chunk, content_type)) as (relay, _):
        response = relay.call(STREAMED)
    assert response.body.startswith(chunk + b'data: {"error"')
    assert b"upstream_broken_off" in response.body
    assert relay.event[0] == "InferenceFailed"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "content_type", ["application/x-ndjson", "application/json", "text/event-stream", "text/plain"]
)
def test_an_error_among_lines_of_json_is_told_with_its_status(content_type: str, stream: bool) -> None:
    lines = b"".join(
        json.dumps(each).encode() + b"\n"
        for each in ({"choices": [{"delta": {"content": "a"}}]}, {"error": {"message": SAID, "code": 503}})
    )
    with proxy(answering(lines, content_type)) as (relay, _):
        response = relay.call({**STREAMED, "stream": stream})
        assert (response.status, error_of(response)["code"]) == (503, "upstream_error")
        assert SAID in error_of(response)["message"]
        assert relay.event[0] == "InferenceFailed"


@pytest.mark.parametrize(
    "document", [{"id": "c", "object": "chat.completion", "choices": None, "message": SAID}, {"Message": SAID}]
)
def test_a_document_of_nothing_but_facts_and_a_message_is_no_answer(document: dict[str, Any]) -> None:
    with proxy(answering(json.dumps(document).encode())) as (relay, _):
        response = relay.call({"model": "m"})
        assert (response.status, error_of(response)["code"]) == (502, "upstream_no_answer")
        assert SAID in error_of(response)["message"]
        assert (relay.event[0], relay.event[1]["usage"]["source"]) == ("InferenceFailed", "none")


def test_a_stream_of_an_end_mark_alone_is_no_answer() -> None:
    with proxy(plan := Plan()) as (relay, _):
        plan.next = [streaming(b": hello\n\n", DONE), streaming(*CONTENT, USAGE_CHUNK, DONE)]
        assert relay.call(STREAMED, path=f"/again/v1/{CHAT}").status == 200
        assert latest(relay)[0] == "InferenceCompleted"
        plan.next = [streaming(DONE)]
        assert error_of(relay.call(STREAMED))["code"] == "upstream_broken_off"
        assert latest(relay)[0] == "InferenceFailed"


@pytest.mark.parametrize(
    "content_type", ["text/plain", "text/json", "application/problem+json", "", "APPLICATION/JSON"]
)
@pytest.mark.parametrize("size", [1, 100_000])
def test_an_answer_is_read_as_what_it_is(content_type: str, size: int) -> None:
    body = json.dumps({"id": "a", "choices": [{"message": {"content": "a" * size}}], "usage": USAGE}).encode()
    with proxy(answering(body, content_type)) as (relay, _):
        response = relay.call({"model": "m"})
        assert (response.body, response.headers.get("content-type", "")) == (body, content_type)
        assert relay.event[1]["usage"]["output_tokens"] == USAGE["completion_tokens"]


@pytest.mark.parametrize("stream", [True, False])
def test_half_a_character_in_an_answer_costs_neither_it_nor_its_usage(stream: bool) -> None:
    piece = {"id": "a", "object": "chat.completion.chunk", "choices": [{"delta": {"content": "CUT"}}], "usage": USAGE}
    document = json.dumps(piece).encode().replace(b"CUT", b"\xe2\x82")
    body = b"data: " + document + b"\n\n" + DONE if stream else document
    with proxy(answering(body, "text/event-stream" if stream else "application/json")) as (relay, _):
        assert relay.call({**STREAMED, "stream": stream}).body == body
        assert (relay.event[0], relay.event[1]["usage"]["source"]) == ("InferenceCompleted", "reported")


@pytest.mark.parametrize("spelt", [TOKEN, "".join(f"\\u{ord(each):04x}" for each in TOKEN)], ids=["plain", "escaped"])
@pytest.mark.parametrize(
    ("path", "document"),
    [
        (
            RESPONSES,
            '{"object": "response", "status": "failed", "output": [], "error": {"code": "x", "message": "%s é"}}',
        ),
        (CHAT, '{"choices": [{"finish_reason": "stop"}], "error": {"message": "%s"}}'),
        (CHAT, '{"choices": [{"finish_reason": "stop"}], "error": {"message": "x", "code": "%s"}}'),
    ],
    ids=["failed response", "message", "code"],
)
def test_an_answer_that_says_what_failed_comes_without_the_token(path: str, document: str, spelt: str) -> None:
    body = (document % spelt).encode()
    with proxy(lambda connection, _: connection.answer(b"\n" + body)) as (relay, _):
        response = relay.call({"model": "m"}, path=f"/up/v1/{path}")
    assert (response.status, response.body) == (200, b"\n" + (document % "...").encode())
    assert TOKEN not in json.dumps(relay.bus.details)


def test_an_answer_that_has_the_token_beside_its_error_comes_as_it_is() -> None:
    body = json.dumps({"choices": [{"finish_reason": "stop", "text": TOKEN}], "error": {"message": SAID}}).encode()
    with proxy(lambda connection, _: connection.answer(body)) as (relay, _):
        assert relay.call({"model": "m"}, path=f"/up/v1/{TEXT}").body == body
