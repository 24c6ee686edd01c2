"""What becomes of a request whose answer the Runtime API does not take, or whose time is over: one event, as it was."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from proxy.runtime_api import Invocation, ResponseStream, RuntimeApi

from tests.fakes import Connection, Received, RecordedResponse, Script, ScriptedServer
from tests.relays import CONTENT, DONE, USAGE, USAGE_CHUNK, error_of, proxy, streaming

LONG = json.dumps({"usage": USAGE, "choices": [{"message": {"content": "x" * 3_900_000}}]}).encode()
"""A document that the kernel does not take whole from somebody whose peer does not read."""


def refusing(status: str) -> Script:
    return lambda connection, _: connection.answer(b'{"errorType":"Runtime.X"}', status)


def closing(connection: Connection, request: Received) -> None:
    connection.close()


def silent(connection: Connection, request: Received) -> None:
    connection.wait_for_end()


def idle(connection: Connection, request: Received) -> None:
    connection.read(1000)
    over.wait(timeout=60)


def document(connection: Connection, request: Received) -> None:
    connection.answer(json.dumps({"usage": USAGE, "choices": []}).encode())


def long_document(connection: Connection, request: Received) -> None:
    connection.answer(LONG)


STREAM = streaming(*CONTENT, USAGE_CHUNK, DONE)
ANSWERS = pytest.mark.parametrize("upstream", [STREAM, document, long_document], ids=["stream", "document", "long"])
over = threading.Event()


@pytest.fixture(autouse=True)
def _ends() -> Iterator[None]:
    over.clear()
    yield
    over.set()


def serve(
    script: Script,
    upstream: Script,
    path: str = "/up/v1/chat/completions",
    reads_bodies: bool = True,
    seconds: float = 4,
) -> tuple[str, str | None, dict[str, Any]]:
    """Serve one request over a Runtime API that is `script`: the type of its one event, its error, and its data."""
    body = None if path.endswith("/models") else {"stream": upstream is STREAM}
    with ScriptedServer(script, reads_bodies=reads_bodies) as server, proxy(upstream) as (relay, _):
        api = RuntimeApi(f"127.0.0.1:{server.port}")
        api.until = time.monotonic() + seconds - 0.5
        response: Any = ResponseStream(api, Invocation("id-1", None, 0.0, None))
        method = "POST" if body else "GET"
        relay.call(body, path=path, method=method, response=response, seconds=seconds)
        api.close()
        over.set()
        kind, data = relay.event
    return kind, data.get("error", {}).get("type"), data


@pytest.mark.parametrize("status", ["400 Bad Request", "413 Too Large", "500 Internal Server Error", "302 Found"])
@ANSWERS
def test_a_refused_response_is_not_completed(status: str, upstream: Script) -> None:
    kind, error, data = serve(refusing(status), upstream)
    assert (kind, error) == ("InferenceFailed", "response_refused")
    assert data["error"] == {"type": "response_refused", "source": "proxy", "upstream_status": None}
    assert data["usage"]["output_tokens"] == 3, "the server's work is paid for all the same"


def test_a_document_of_the_proxys_own_that_is_refused_is_not_completed() -> None:
    assert serve(refusing("500 X"), document, "/v1/models")[:2] == ("InferenceFailed", "response_refused")


def test_a_response_that_is_refused_before_it_is_read_is_refused_at_once() -> None:
    def script(connection: Connection, request: Received) -> None:
        refusing("413 Too Large")(connection, request)
        over.wait(timeout=60)

    kind, error, _ = serve(script, long_document, reads_bodies=False, seconds=600)
    assert (kind, error) == ("InferenceFailed", "response_refused")


@ANSWERS
def test_a_response_that_is_cut_off_is_not_completed(upstream: Script) -> None:
    assert serve(closing, upstream)[:2] == ("InferenceFailed", "client_gone")


def test_a_refusal_that_is_not_said_to_its_end_ends_in_its_time() -> None:
    def script(connection: Connection, request: Received) -> None:
        connection.send(b"HTTP/1.1 413 Too")
        over.wait(timeout=60)

    assert serve(script, long_document, reads_bodies=False)[:2] == ("InferenceFailed", "client_too_slow")


@ANSWERS
def test_a_response_that_is_never_acknowledged_ends_in_its_time(upstream: Script) -> None:
    assert serve(silent, upstream)[:2] == ("InferenceFailed", "client_too_slow")


def test_a_client_that_stops_reading_is_told_from_a_server_that_is_late() -> None:
    def endless(connection: Connection, request: Received) -> None:
        connection.start_chunked()
        while True:
            connection.chunk(CONTENT[0] * 1000)

    kind, error, data = serve(idle, endless, reads_bodies=False)
    assert (kind, error) == ("InferenceFailed", "client_too_slow")
    assert data["error"]["source"] == "client"


@pytest.mark.parametrize("seconds", [-900, 0, 0.001, 0.5])
def test_a_request_that_comes_when_its_time_is_over_is_one_event(seconds: float) -> None:
    with proxy(STREAM) as (relay, server):
        response = relay.call({"stream": True}, seconds=seconds)
        assert server.received == []
    assert (response.status, error_of(response)["code"]) == (504, "deadline_exceeded")
    assert response.ended
    kind, data = relay.event
    assert (kind, data["error"]["type"], data["error"]["source"]) == ("InferenceFailed", "deadline_exceeded", "proxy")


def test_a_request_that_comes_late_is_served_in_what_is_left() -> None:
    with proxy(streaming(CONTENT[0], end=Connection.wait_for_end)) as (relay, _):
        response = relay.call({"stream": True}, response=RecordedResponse(), seconds=1.5)
    assert response.body.startswith(CONTENT[0] + b'data: {"error"')
    assert relay.event[1]["error"]["type"] == "deadline_exceeded"


def test_the_body_of_an_event_is_not_held_beside_the_requests() -> None:
    http = {"requestContext": {"http": {"method": "POST"}}, "rawPath": "/up/v1/chat/completions", "rawQueryString": ""}
    event = {"version": "2.0", "headers": {"authorization": "Bearer good"}, "body": '{"stream": true}', **http}
    with proxy(STREAM) as (relay, server):
        relay.relay.serve(event, RecordedResponse(), time.time() + 60)
    assert server.received[0].body.endswith(b'"stream": true}')
    assert "body" not in event
