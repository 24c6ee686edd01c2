"""Servers that refuse `stream_options`: asked once more without it, remembered, and metered by what they report."""

import gzip
import json
from typing import Any

import pytest

from tests.fakes import Connection, Received, Script
from tests.relays import CONTENT, DONE, USAGE, proxy, sse

MISTRAL = {
    "object": "error",
    "message": {
        "detail": [
            {"type": "extra_forbidden", "loc": ["body", "stream_options"], "msg": "Extra inputs are not permitted"}
        ]
    },
    "type": "invalid_request_error",
    "param": None,
    "code": None,
}
CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": True}
LAST = sse(" world", "stop", usage=USAGE)


def asks_for_usage(request: Received) -> bool:
    return b"stream_options" in request.body


def refusing(status: str, said: bytes, *pieces: bytes, always: bool = False) -> Script:
    """Refuses what asks for usage, or everything; else streams."""

    def script(connection: Connection, request: Received) -> None:
        if always or asks_for_usage(request):
            connection.answer(said, status)
            return
        connection.start_chunked()
        for piece in pieces:
            connection.chunk(piece)
        connection.end_chunked()

    return script


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("422 Unprocessable Entity", json.dumps(MISTRAL).encode()),
        ("400 Bad Request", b'{"error": {"message": "Unrecognized request argument supplied: stream_options"}}'),
        ("400 Bad Request", b'{"error": {"message": "Extra inputs are not permitted"}}'),
        ("400 Bad Request", b'{"detail": "Additional properties are not allowed"}'),
        ("400 Bad Request", b"unknown field"),
        ("422 Unprocessable Entity", b""),
        ("500 Oops", b'{"detail": "create() got an unexpected keyword argument \'stream_options\'"}'),
        ("501 Not Implemented", b'{"error": "include_usage is not supported"}'),
        ("415 Unsupported", b"streamOptions"),
    ],
)
def test_a_server_that_refuses_the_question_is_asked_without_it_and_remembered(status: str, said: bytes) -> None:
    with proxy(refusing(status, said, CONTENT[0], LAST, DONE)) as (relay, server):
        first, second = relay.call(CHAT), relay.call(CHAT)
        received = [json.loads(request.body) for request in server.received]
    assert [first.body, second.body] == [CONTENT[0] + LAST + DONE] * 2
    assert [asks_for_usage(request) for request in server.received] == [True, False, False]
    assert received[1:] == [CHAT, CHAT]
    assert (first.headers["x-attempts"], second.headers["x-attempts"]) == ("2", "1")
    assert relay.slept == []
    (_, one), (_, other) = relay.bus.details
    for detail in (one, other):
        assert (detail["data"]["usage"]["source"], detail["data"]["usage"]["input_tokens"]) == ("reported", 9)
    attempts = [(each["status_code"], each["error"]) for each in one["data"]["attempts"]]
    assert attempts == [(int(status[:3]), "stream_options_refused"), (200, None)]


@pytest.mark.parametrize(
    ("status", "is_learnt"), [("200 OK", True), ("299 Odd", True), ("300 Multiple Choices", False), ("400 No", False)]
)
def test_a_server_is_remembered_only_where_it_takes_the_same_without_the_question(status: str, is_learnt: bool) -> None:
    def script(connection: Connection, request: Received) -> None:
        if asks_for_usage(request):
            connection.answer(b"", "422 Unprocessable Entity")
        else:
            connection.answer(b'{"choices": []}', status)

    with proxy(script) as (relay, server):
        for _ in range(2):
            relay.call(CHAT)
        asked = [asks_for_usage(request) for request in server.received]
    assert asked == ([True, False, False] if is_learnt else [True, False] * 2)


def test_what_such_a_server_does_not_report_is_estimated() -> None:
    with proxy(refusing("422 Unprocessable Entity", json.dumps(MISTRAL).encode(), *CONTENT, DONE)) as (relay, _):
        assert relay.call(CHAT).body == b"".join([*CONTENT, DONE])
    assert relay.event[1]["usage"]["source"] == "estimated"


@pytest.mark.parametrize(
    "said", [b'{"error": {"message": "stream_options"}}', b'{"error": {"message": "Unknown field"}}']
)
def test_the_clients_own_mistake_is_told_in_the_words_of_the_second_answer_and_not_remembered(said: bytes) -> None:
    with proxy(refusing("400 Bad Request", said, always=True)) as (relay, server):
        responses = [relay.call(CHAT), relay.call(CHAT)]
    assert [(each.status, each.body) for each in responses] == [(400, said)] * 2
    assert [asks_for_usage(request) for request in server.received] == [True, False, True, False]
    assert [detail_type for detail_type, _ in relay.bus.details] == ["InferenceFailed"] * 2


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (CHAT, "400 Bad Request", b'{"error": {"message": "The prompt is too long."}}'),
        (CHAT, "422 Unprocessable Entity", b'{"error": {"message": "messages: 7 is not of type array"}}'),
        (CHAT, "401 Unauthorized", b'{"error": {"message": "stream_options"}}'),
        (CHAT, "429 Too Many", b'{"error": {"message": "stream_options"}}'),
        (CHAT | {"stream": False}, "400 Bad Request", b'{"error": {"message": "stream_options"}}'),
        (CHAT | {"stream_options": {"include_usage": True}}, "422 No", json.dumps(MISTRAL).encode()),
        (CHAT | {"stream_options": 7}, "422 No", json.dumps(MISTRAL).encode()),
    ],
)
def test_other_refusals_and_the_clients_own_wish_are_not_repeated(body: Any, status: str, said: bytes) -> None:
    with proxy(refusing(status, said, always=True)) as (relay, server):
        relay.call(body)
        assert len(server.received) == 1


def test_the_clients_other_stream_options_stay() -> None:
    own = {"include_obfuscation": False}

    def script(connection: Connection, request: Received) -> None:
        if b"include_usage" in request.body:
            connection.answer(b'{"error": {"message": "stream_options.include_usage"}}', "400 Bad Request")
        else:
            connection.answer(b"{}")

    with proxy(script) as (relay, server):
        relay.call(CHAT | {"stream_options": own})
        sent = [json.loads(request.body)["stream_options"] for request in server.received]
    assert sent == [own | {"include_usage": True}, own]


def test_an_error_that_was_looked_at_reaches_the_client_whole() -> None:
    said = json.dumps({"error": {"message": "too long " + "x" * 3000, "code": "c"}}).encode()

    def script(connection: Connection, request: Received) -> None:
        connection.send(
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for start in range(0, len(said), 1000):
            connection.chunk(said[start : start + 1000])
        connection.end_chunked()

    with proxy(script) as (relay, _):
        response = relay.call(CHAT)
    assert (response.status, response.body) == (400, said)


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
def test_a_refusal_that_calls_itself_a_success_is_one_too(content_type: str) -> None:
    said = b'{"error": {"message": "stream_options is not supported", "code": 400}}'

    def script(connection: Connection, request: Received) -> None:
        if asks_for_usage(request):
            connection.answer(
                b"data: " + said + b"\n\n" if "stream" in content_type else said, content_type=content_type
            )
        else:
            connection.answer(b"".join([CONTENT[0], LAST, DONE]), content_type="text/event-stream")

    with proxy(script) as (relay, server):
        responses = [relay.call(CHAT), relay.call(CHAT)]
        assert [asks_for_usage(request) for request in server.received] == [True, False, False]
    assert [(each.status, each.body) for each in responses] == [(200, CONTENT[0] + LAST + DONE)] * 2


def test_a_refusal_that_is_packed_unasked_is_read_too() -> None:
    def script(connection: Connection, request: Received) -> None:
        if asks_for_usage(request):
            said = gzip.compress(json.dumps(MISTRAL).encode())
            connection.answer(said, "422 Unprocessable Entity", more="content-encoding: gzip\r\n")
        else:
            connection.answer(b"{}")

    with proxy(script) as (relay, server):
        assert relay.call(CHAT).headers["x-attempts"] == "2"
        assert len(server.received) == 2


def test_a_refusal_is_no_failure_for_the_breaker_and_no_retry() -> None:
    with proxy(refusing("422 No", json.dumps(MISTRAL).encode(), *CONTENT, DONE)) as (relay, server):
        for _ in range(2):
            assert relay.call(CHAT, path="/guarded/v1/chat/completions").status == 200
    assert [request.target for request in server.received] == ["/frail/chat/completions"] * 3
