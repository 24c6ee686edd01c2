"""Breaks before the client has anything, what they mean for the breaker, and what a failed request costs."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import Connection, Received, Script
from tests.relays import CONTENT, DONE, USAGE, Proxy, error_of, proxy, sse, streaming

STREAMED: dict[str, Any] = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "a" * 400}]}
GOOD = json.dumps({"id": "a", "choices": [{"finish_reason": "stop"}], "usage": USAGE}).encode()


def half_a_document(connection: Connection, _: Received) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n" + GOOD[:20])
    connection.close()


def only_a_head(connection: Connection, _: Received) -> None:
    connection.start_chunked("audio/mpeg")
    connection.reset()


BREAKS: dict[str, Script] = {
    "behind the head": streaming(end=Connection.reset),
    "behind a comment": streaming(b": thinking\n\n", end=Connection.close),
    "in the first event": streaming(CONTENT[0][:20], end=Connection.reset),
    "an end before the first event": streaming(),
    "in a document": half_a_document,
}


class FirstBreaks:
    """The first request meets a break, each later one an answer."""

    def __init__(self, first: Script) -> None:
        self._first: Script | None = first

    def __call__(self, connection: Connection, request: Received) -> None:
        first, self._first = self._first, None
        if first:
            first(connection, request)
        elif b'"stream": true' in request.body:
            streaming(*CONTENT, DONE)(connection, request)
        else:
            connection.answer(GOOD)


@pytest.mark.parametrize("first", BREAKS.values(), ids=BREAKS.keys())
def test_a_break_before_the_client_has_anything_is_tried_again(first: Script) -> None:
    body = {"model": "m"} if first is half_a_document else STREAMED
    with proxy(FirstBreaks(first)) as (relay, server):
        response = relay.call(body, path="/again/v1/chat/completions")
        assert len(server.received) == 2
    assert (response.status, response.headers["x-attempts"]) == (200, "2")
    assert response.body == (GOOD if first is half_a_document else b"".join([*CONTENT, DONE]))
    kind, event = relay.event
    assert kind == "InferenceCompleted"
    assert [(each["status_code"], each["error"]) for each in event["attempts"]] == [
        (200, "upstream_broken_off"),
        (200, None),
    ]


@pytest.mark.parametrize("first", BREAKS.values(), ids=BREAKS.keys())
def test_without_retries_it_is_a_502_and_costs_nothing(first: Script) -> None:
    body = {**STREAMED, "stream": first is not half_a_document}
    with proxy(first) as (relay, server):
        response = relay.call(body)
        assert len(server.received) == 1
    assert (response.status, error_of(response)["code"]) == (502, "upstream_broken_off")
    kind, event = relay.event
    assert (kind, event["usage"]["source"], event["usage"]["input_tokens"]) == ("InferenceFailed", "none", 0)


def test_other_operations_are_tried_again_too() -> None:
    def script(connection: Connection, request: Received) -> None:
        if len(server.received) == 1:
            only_a_head(connection, request)
        else:
            connection.answer(b"sound", content_type="audio/mpeg")

    with proxy(script) as (relay, server):
        response = relay.call({"model": "m"}, path="/again/v1/audio/speech")
    assert (response.status, response.body) == (200, b"sound")


def tries_until_circuit_open(relay: Proxy, path: str = "/frail/v1/chat/completions") -> int:
    """How many requests a server gets that is kept out after two failures in a row; at most five."""
    for number in range(5):
        if relay.call(STREAMED, path=path).status == 503:
            return number
    return 5


MID_STREAM: dict[str, tuple[Script, int]] = {
    "cut after content": (streaming(CONTENT[0], end=Connection.reset), 2),
    "ended too soon": (streaming(CONTENT[0].replace(b'"model"', b'"object": "chat.completion.chunk", "model"')), 2),
    "an error that says 503": (streaming(CONTENT[0], b'data: {"error": {"message": "m", "code": 503}}\n\n'), 2),
    "an error that says 429": (streaming(CONTENT[0], b'data: {"error": {"message": "m", "code": 429}}\n\n'), 5),
    "an error that says nothing": (streaming(CONTENT[0], b'data: {"error": "m"}\n\n'), 5),
    "good": (streaming(*CONTENT, DONE), 5),
}


@pytest.mark.parametrize(("script", "asked"), MID_STREAM.values(), ids=MID_STREAM.keys())
def test_a_server_is_judged_by_how_its_answers_end(script: Script, asked: int) -> None:
    with proxy(script) as (relay, server):
        assert tries_until_circuit_open(relay) == asked
        assert len(server.received) == asked


def test_a_break_before_the_client_has_anything_counts_for_the_breaker() -> None:
    with proxy(streaming(end=Connection.reset)) as (relay, server):
        assert relay.call(STREAMED, path="/frail/v1/chat/completions").status == 502
        assert relay.call(STREAMED, path="/frail/v1/chat/completions").status == 503
        assert len(server.received) == 2


def refusing(status: str, content_type: str, body: bytes) -> Script:
    return lambda connection, _: connection.answer(body, status, content_type)


@pytest.mark.parametrize(
    ("content_type", "body", "says"),
    [
        ("text/event-stream", b'data: {"error": {"message": "no such model"}}\n\ndata: [DONE]\n\n', "no such model"),
        ("text/event-stream", b': hi\r\n\r\nevent: error\r\ndata: {"message":"too long"}\r\n\r\n', "too long"),
        ("text/event-stream", b'\xef\xbb\xbfdata: {"detail": "cut off"}', "cut off"),
        ("application/json", b'data: {"error": "a text"}\n\n', "a text"),
        ("application/x-ndjson", b'{"error": "first"}\n{"done": true}\n', "first"),
        ("application/json", b'{"status": "loading"}\r\n{"error": {"message": "second"}}\r\n', "second"),
        ("application/json", b'{"error": "Not Found", "message": "no model x"}', "Not Found: no model x"),
        ("application/json", b'{"detail": "Not authenticated"}', "Not authenticated"),
        (
            "application/json",
            b'{"detail":[{"type":"missing","loc":["body","messages"],"msg":"Field required","input":{}}]}',
            "body.messages: Field required",
        ),
        ("application/problem+json", b'{"title": "Bad", "status": 400, "detail": "too many"}', "Bad: too many"),
        ("application/json", b'\n\n[{"error": {"code": 400, "message": "in a list"}}]', "in a list"),
    ],
)
@pytest.mark.parametrize("asks_stream", [True, False])
def test_what_an_error_says_reaches_the_client_in_the_form_of_openai(
    content_type: str, body: bytes, says: str, asks_stream: bool
) -> None:
    with proxy(refusing("404 Not Found", content_type, body)) as (relay, _):
        response = relay.call({**STREAMED, "stream": asks_stream})
    assert response.status == 404
    assert error_of(response)["message"] == f"The server 'up' answered 404: {says}"
    assert relay.event[1]["usage"]["source"] == "none"


@pytest.mark.parametrize("end", [Connection.close, Connection.end_chunked])
def test_a_stream_that_breaks_after_content_is_estimated_and_one_without_content_is_not(
    end: Callable[[Connection], None],
) -> None:
    role = sse().replace(b'"model"', b'"object": "chat.completion.chunk", "model"')
    for pieces, source in (([role, CONTENT[0]], "estimated"), ([role], "none")):
        with proxy(streaming(*pieces, end=end)) as (relay, _):
            relay.call(STREAMED)
        kind, event = relay.event
        assert (kind, event["error"]["type"]) == ("InferenceFailed", "upstream_broken_off")
        assert event["usage"]["source"] == source
