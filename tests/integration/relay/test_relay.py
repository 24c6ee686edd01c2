"""What passes the relay: streams, documents, headers, and what the event says of them."""

import json
import threading
from typing import Any

import pytest

from tests.fakes import Connection, Received, RecordedResponse
from tests.relays import CONTENT, DONE, TOKEN, USAGE, USAGE_CHUNK, proxy, streaming


def test_a_stream_passes_unchanged_and_its_usage_is_the_event() -> None:
    with proxy(streaming(*CONTENT, USAGE_CHUNK, DONE)) as (relay, server):
        body: dict[str, Any] = {"messages": [], "stream": True, "stream_options": {"include_usage": True}}
        response = relay.call(body)
    assert (response.status, response.body) == (200, b"".join([*CONTENT, USAGE_CHUNK, DONE]))
    assert json.loads(server.received[0].body) == {**body, "model": "default-model"}
    detail_type, data = relay.event
    assert detail_type == "InferenceCompleted"
    assert data["usage"] == {
        "input_tokens": 9,
        "output_tokens": 3,
        "cache_read": {"input_tokens": 0},
        "cache_creation": {"input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "reasoning": {"output_tokens": 0},
        "audio": {"input_tokens": 0, "output_tokens": 0},
        "image": {"input_tokens": None, "output_tokens": None},
        "duration": None,
        "reason": None,
        "cost_reported": None,
        "service_tier": None,
        "units": {},
        "source": "reported",
    }
    assert data["server"] == {"name": "up"}
    assert data["operation"] == {"name": "chat"}
    assert data["request"]["model"] == "default-model"
    assert data["response"]["model"] == "real-model"
    assert data["response"]["finish_reasons"] == ["stop"]
    assert 0 < data["response"]["time_to_first_chunk"] <= data["timings"]["total"]
    assert data["timings"]["upstream"] + data["timings"]["proxy"] == pytest.approx(data["timings"]["total"], abs=1e-5)


@pytest.mark.parametrize("reported", [USAGE, None], ids=["reported", "estimated"])
def test_the_service_tier_of_the_answer_is_in_the_event(reported: dict[str, int] | None) -> None:
    choices = [{"message": {"content": "some words"}, "finish_reason": "stop"}]
    answer = {"id": "c", "model": "m", "choices": choices, "usage": reported, "service_tier": "flex"}
    with proxy(lambda connection, _: connection.answer(json.dumps(answer).encode())) as (relay, _):
        relay.call({"messages": [{"role": "user", "content": "Hello"}], "service_tier": "auto"})
    usage = relay.event[1]["usage"]
    assert (usage["source"], usage["service_tier"]) == ("reported" if reported else "estimated", "flex")


@pytest.mark.parametrize(
    ("asked", "usage", "units"),
    [
        ({"web_search_options": {}}, {}, {"web_search": 1}),
        ({"web_search_options": {}}, {"num_search_queries": 4}, {"web_search": 4}),
        ({"web_search_options": {}}, {"cost": 0.25}, {}),
        ({"web_search_options": None}, {}, {}),
        ({}, {}, {}),
    ],
)
def test_a_chat_that_searches_and_counts_no_search_had_one(
    asked: dict[str, Any], usage: dict[str, Any], units: dict[str, int]
) -> None:
    answer = {"id": "c", "model": "m", "choices": [{"message": {"content": "a"}}], "usage": USAGE | usage}
    with proxy(lambda connection, _: connection.answer(json.dumps(answer).encode())) as (relay, _):
        body: dict[str, Any] = {"messages": []}
        relay.call(body | asked)
    assert relay.event[1]["usage"]["units"] == units


def test_usage_that_the_client_did_not_ask_for_is_asked_for_and_hidden() -> None:
    with proxy(streaming(*CONTENT, USAGE_CHUNK, DONE)) as (relay, server):
        response = relay.call({"model": "m", "stream": True})
    assert response.body == b"".join([*CONTENT, DONE])
    assert json.loads(server.received[0].body)["stream_options"] == {"include_usage": True}
    assert relay.event[1]["usage"]["input_tokens"] == 9


class OneByOne:
    """A script that sends each piece after the client has got the one before; `taken` tells it so."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces
        self._taken = threading.Semaphore(0)

    def taken(self, _: bytes) -> None:
        self._taken.release()

    def __call__(self, connection: Connection, request: Received) -> None:
        connection.start_chunked()
        for piece in self._pieces:
            connection.chunk(piece)
            assert self._taken.acquire(timeout=20), "the client has not got the piece"
        connection.end_chunked()


def test_each_chunk_reaches_the_client_before_the_server_sends_the_next() -> None:
    script = OneByOne(*CONTENT, DONE)
    with proxy(script) as (relay, _):
        response = relay.call({"stream": True}, response=RecordedResponse(on_piece=script.taken))
    assert response.pieces == [*CONTENT, DONE]


def test_headers_pass_by_allow_list_both_ways() -> None:
    def script(connection: Connection, request: Received) -> None:
        secret = "set-cookie: s=1\r\nserver: nginx\r\n"
        public = (
            "openai-bad: a\x85b\r\nx-request-id: up-1\r\nx-ratelimit-remaining-requests: 5\r\nopenai-version: 1\r\n"
        )
        connection.answer(json.dumps({"usage": USAGE}).encode(), more=secret + public)

    with proxy(script) as (relay, server):
        sent = {"x-api-key": "good", "cookie": "c=1", "host": "evil", "openai-beta": "b", "x-forwarded-for": "1.2.3.4"}
        first = relay.call({"model": "m"}, headers=sent, query="api-version=1")
        relay.call({"model": "m"})
    request, second = server.received
    assert (request.method, request.target) == ("POST", "/base/v1/chat/completions?api-version=1")
    assert request.headers == {
        "host": f"127.0.0.1:{server.port}",
        "content-type": "application/json",
        "openai-beta": "b",
        "accept-encoding": "identity",
        "user-agent": "openai-proxy",
        "authorization": f"Bearer {TOKEN}",
        "content-length": "13",
    } | {"content-length": str(len(request.body))}
    assert "cookie" not in second.headers
    assert set(first.headers) == {
        "content-type",
        "x-ratelimit-remaining-requests",
        "openai-version",
        "cache-control",
        "x-upstream-request-id",
        "x-inference-id",
        "x-served-by",
        "x-served-model",
        "x-attempts",
        "server-timing",
        "x-request-id",
        "access-control-allow-origin",
        "access-control-expose-headers",
        "x-content-type-options",
    }
    metadata = relay.bus.details[0][1]["metadata"]
    assert first.headers["x-request-id"] == first.headers["x-inference-id"] == metadata["id"] == metadata["request_id"]
    assert first.headers["x-served-by"] == "up"


@pytest.mark.parametrize(("sent", "kept"), [("my-id_1:2.3", True), ("x" * 129, False), ("a b", False), ("", False)])
def test_a_clients_own_request_id_is_kept_when_it_is_one(sent: str, kept: bool) -> None:
    with proxy(lambda connection, _: connection.answer(b'{"id": "a"}')) as (relay, server):
        response = relay.call({"model": "m"}, headers={"x-request-id": sent})
        assert "x-request-id" not in server.received[0].headers
    metadata = relay.bus.details[0][1]["metadata"]
    assert response.headers["x-inference-id"] == metadata["id"]
    assert response.headers["x-request-id"] == metadata["request_id"] == (sent if kept else metadata["id"])


def test_other_operations_pass_and_use_no_tokens() -> None:
    with proxy(lambda connection, _: connection.answer(b'{"data": []}')) as (relay, server):
        response = relay.call(method="GET", path="/up/v1/models")
    assert (response.status, response.body) == (200, b'{"data": []}')
    assert (server.received[0].method, server.received[0].target) == ("GET", "/base/v1/models")
    assert (relay.event[0], relay.event[1]["usage"]["source"]) == ("InferenceCompleted", "none")


def test_the_cost_that_a_header_states_is_told() -> None:
    def script(connection: Connection, _: Received) -> None:
        header = stated[len(relay.bus.details)][0]
        connection.answer(json.dumps({"model": "m", "usage": USAGE}).encode(), more=f"{header}\r\n")

    stated = [
        ("x-litellm-response-cost: 0.000415", "0.000415"),
        ("X-LiteLLM-Response-Cost: 4.15e-05", "0.0000415"),
        ("x-litellm-key-spend: 9", None),
    ]
    with proxy(script) as (relay, _):
        for _, cost in stated:
            response = relay.call({"model": "m", "messages": []})
            assert "x-litellm-response-cost" not in response.headers
            assert relay.bus.details[-1][1]["data"]["usage"]["cost_reported"] == cost


def test_a_server_that_thinks_keeps_its_stream_alive_between_events() -> None:
    pinged = threading.Event()
    client = RecordedResponse(on_piece=lambda piece: pinged.set() if piece == b": keep-alive\n\n" else None)

    def script(connection: Connection, request: Received) -> None:
        connection.start_chunked()
        connection.chunk(CONTENT[0] + CONTENT[1][:20])
        assert pinged.wait(timeout=20)
        connection.chunk(CONTENT[1][20:])
        connection.end_chunked()

    with proxy(script, keep_alive=0.05) as (relay, _):
        response = relay.call({"stream": True}, response=client)
    content = [piece for piece in response.pieces if piece != b": keep-alive\n\n"]
    assert content == CONTENT
    assert relay.event[0] == "InferenceCompleted"
    assert relay.event[1]["response"]["size"] == len(b"".join(CONTENT))


def test_a_document_is_not_mixed_with_comments() -> None:
    silent = threading.Event()

    def script(connection: Connection, request: Received) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 12\r\n\r\n{")
        silent.wait(timeout=0.3)
        connection.send(b'"data": []}')

    with proxy(script, keep_alive=0.05) as (relay, _):
        assert relay.call({"model": "m"}).body == b'{"data": []}'
