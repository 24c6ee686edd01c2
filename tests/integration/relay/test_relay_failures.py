"""Every way in which a request can fail, and how client and bus are told."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from proxy.records.records import UNAUTHORIZED

from tests.fakes import Connection, Received, RecordedResponse
from tests.relays import CONTENT, DONE, TOKEN, USAGE, USAGE_CHUNK, error_of, failing, proxy, sse, streaming


@pytest.mark.parametrize("cut", [Connection.close, Connection.reset])
def test_a_stream_that_is_cut_ends_in_an_error_frame(cut: Callable[[Connection], None]) -> None:
    def script(connection: Connection, request: Received) -> None:
        streaming(CONTENT[0], sse("half", usage=USAGE), CONTENT[1][:20], end=lambda _: None)(connection, request)
        assert taken.wait(timeout=20)
        cut(connection)

    taken = threading.Event()
    with proxy(script) as (relay, _):
        client = RecordedResponse(on_piece=lambda piece: taken.set() if b"half" in piece else None)
        response = relay.call({"stream": True}, response=client)
    content, frame, done = response.body.partition(b'data: {"error"')
    assert content == CONTENT[0] + sse("half", usage=USAGE)
    assert json.loads((frame + done).split(b"\n")[0].removeprefix(b"data: "))["error"]["code"] == "upstream_broken_off"
    assert done.endswith(b"\n\n" + DONE)
    assert response.failure is None
    detail_type, data = relay.event
    assert (detail_type, data["error"]) == (
        "InferenceFailed",
        {"type": "upstream_broken_off", "source": "upstream", "upstream_status": None},
    )
    assert data["usage"]["output_tokens"] == 3


def test_a_document_that_is_cut_is_a_failed_response() -> None:
    def script(connection: Connection, request: Received) -> None:
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
        connection.close()

    with proxy(script) as (relay, _):
        held = relay.call({"model": "m"})
        passed = relay.call(path="/up/v1/files/f/content", method="GET")
    assert (held.status, error_of(held)["code"]) == (502, "upstream_broken_off"), "half an answer is of no use"
    assert (passed.status, passed.body) == (200, b"{")
    assert passed.failure is not None
    assert [detail["data"]["error"]["type"] for _, detail in relay.bus.details] == ["upstream_broken_off"] * 2


def test_a_server_that_falls_silent_in_mid_stream() -> None:
    with proxy(streaming(CONTENT[0], end=Connection.wait_for_end), idle=1) as (relay, _):
        response = relay.call({"stream": True})
    assert response.body.startswith(CONTENT[0] + b'data: {"error"')
    assert relay.event[1]["error"]["type"] == "upstream_timeout"


def test_a_server_that_never_answers() -> None:
    with proxy(lambda connection, _: connection.wait_for_end(), first_byte=0.2) as (relay, _):
        response = relay.call({"stream": True})
    assert (response.status, error_of(response)["code"]) == (504, "upstream_timeout")
    assert relay.event[0] == "InferenceFailed"


@pytest.mark.parametrize("chatty", [True, False])
def test_the_deadline_ends_a_stream_while_there_is_time_to_say_so(chatty: bool) -> None:
    def script(connection: Connection, request: Received) -> None:
        connection.start_chunked()
        connection.chunk(CONTENT[0])
        while chatty:
            connection.chunk(CONTENT[0])
            time.sleep(0.001)  # as fast as it could, it would keep the relay from running
        connection.wait_for_end()

    with proxy(script) as (relay, _):
        response = relay.call({"stream": True}, seconds=3)
    assert b'"code": "deadline_exceeded"' in response.body
    assert response.body.endswith(DONE)
    assert relay.event[1]["error"]["type"] == "deadline_exceeded"


def test_a_server_that_is_not_there() -> None:
    with proxy(streaming()) as (relay, _):
        response = relay.call({"model": "m"}, path="/other/v1/chat/completions")
        assert (response.status, error_of(response)["code"]) == (502, "upstream_unreachable")
        assert "127.0.0.1" not in response.body.decode()
    assert relay.event[1]["server"] == {"name": "other"}


def test_what_is_not_http() -> None:
    with proxy(lambda connection, _: (connection.send(b"SSH-2.0\r\n\r\n"), connection.close())[0]) as (relay, _):
        response = relay.call({"model": "m"})
    assert (response.status, error_of(response)["code"]) == (502, "upstream_broken_off")


def test_an_openai_error_passes_unchanged() -> None:
    body = b'{"error": {"message": "bad", "type": "invalid_request_error", "code": null}}'
    with proxy(lambda connection, _: connection.answer(body, "400 Bad Request")) as (relay, _):
        response = relay.call({"model": "m"})
    assert (response.status, response.body) == (400, body)
    assert relay.event[0] == "InferenceFailed"
    assert relay.event[1]["error"] == {"type": "upstream_error", "source": "upstream", "upstream_status": 400}
    assert relay.event[1]["usage"]["source"] == "none"


@pytest.mark.parametrize("content_type", ["application/json", "text/html"])
def test_a_throttle_of_the_server_is_a_throttle(content_type: str) -> None:
    def script(connection: Connection, request: Received) -> None:
        connection.answer(b'{"error": {}}', "429 Too Many Requests", content_type, "retry-after: 7\r\n")

    with proxy(script) as (relay, _):
        assert relay.call({"model": "m"}).status == 429
    assert relay.event[0] == "InferenceThrottled"
    assert relay.event[1]["throttle"] == {
        "source": "upstream",
        "retry_after": 7.0,
        "subject": {"type": "server", "id": "up"},
    }


@pytest.mark.parametrize(
    ("status", "content_type", "seen", "code"),
    [
        ("500 Internal Server Error", "text/html", 500, "upstream_error"),
        ("503 Service Unavailable", "text/plain", 503, "upstream_error"),
        ("401 Unauthorized", "application/json", 502, "upstream_authentication_failed"),
        ("302 Found", "text/html", 502, "upstream_redirect"),
    ],
)
def test_answers_that_are_replaced(status: str, content_type: str, seen: int, code: str) -> None:
    body = f"<html>Incorrect API key: {TOKEN}</html>".encode()
    with proxy(lambda connection, _: connection.answer(body, status, content_type, "location: http://evil/\r\n")) as (
        relay,
        server,
    ):
        response = relay.call({"model": "m"})
        assert len(server.received) == 1
    assert (response.status, error_of(response)["code"]) == (seen, code)
    assert TOKEN not in response.body.decode() + json.dumps(relay.event)
    assert relay.event[1]["error"]["upstream_status"] == int(status[:3])


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        ({"path": "/nowhere/v1/models"}, 404, "unknown_server"),
        ({"path": "/constructor/v1/models"}, 404, "unknown_server"),
        ({"path": "/up/v1/../x"}, 404, "unknown_path"),
        ({"path": "/"}, 404, "unknown_path"),
        ({"body": "{"}, 400, "invalid_json"),
        ({"path": "/other/v1/chat/completions"}, 403, "server_not_allowed"),
        ({"body": {"model": "forbidden"}}, 403, "model_not_allowed"),
    ],
)
def test_requests_of_a_known_client_that_are_refused_are_events(call: dict[str, Any], status: int, code: str) -> None:
    with proxy(streaming(), {"servers": "up", "models": "m,default-model"}) as (relay, server):
        response = relay.call(call.get("body", {"model": "m"}), path=call.get("path", "/up/v1/chat/completions"))
        assert server.received == []
    assert (response.status, error_of(response)["code"]) == (status, code)
    assert relay.event[0] == "InferenceFailed"
    assert (relay.event[1]["error"]["type"], relay.event[1]["error"]["source"]) == (code, "client")


@pytest.mark.parametrize("key", ["", "Bearer wrong"])
def test_a_request_of_nobody_is_refused_and_no_event(key: str) -> None:
    with proxy(streaming()) as (relay, server):
        response = relay.call({"model": "m"}, headers={"authorization": key, "origin": "https://a.example"})
        assert server.received == []
    assert response.status == 401
    assert response.headers["access-control-allow-origin"] == "*"
    assert relay.bus.details == []


def test_what_is_no_request_is_refused_calmly() -> None:
    with proxy(streaming()) as (relay, _):
        response = RecordedResponse()
        relay.relay.serve({"source": "aws.events"}, response, time.time() + 60)
    assert (response.status, error_of(response)["code"]) == (400, "unknown_event")


def test_a_pre_flight_is_answered_before_authorization() -> None:
    with proxy(streaming()) as (relay, _):
        response = relay.call(method="OPTIONS", headers={"authorization": "", "origin": "https://a.example"})
    assert (response.status, response.headers["access-control-allow-origin"]) == (200, "*")
    assert relay.bus.details == []


def test_a_client_that_goes_away_is_metered_to_the_end() -> None:
    def script(connection: Connection, request: Received) -> None:
        connection.start_chunked()
        connection.chunk(CONTENT[0])
        assert taken.wait(timeout=20)
        for piece in (CONTENT[1], USAGE_CHUNK, DONE):
            connection.chunk(piece)
        connection.end_chunked()

    taken = threading.Event()
    with proxy(script) as (relay, _):
        client = RecordedResponse(break_after=1, on_piece=lambda _: taken.set())
        response = relay.call({"stream": True}, response=client)
    assert response.pieces == CONTENT[:1]
    assert relay.event[1]["error"] == {"type": "client_gone", "source": "client", "upstream_status": None}
    assert relay.event[1]["usage"]["output_tokens"] == 3


@pytest.mark.parametrize("after", [False, True])
def test_a_fault_of_the_proxy_is_an_answer_and_an_event(after: bool, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: bytes) -> None:
        raise ZeroDivisionError

    with proxy(streaming(*CONTENT)) as (relay, _):
        if after:
            response = RecordedResponse()
            response.on_piece = lambda piece: fail(piece) if piece.endswith(CONTENT[1]) else None
        else:
            relay.use(servers=None)
            response = None
        response = relay.call({"stream": True}, response=response)
    assert b'"code": "internal_error"' in response.body
    assert response.status == (200 if after else 500)
    assert relay.event[1]["error"] == {"type": "internal_error", "source": "proxy", "upstream_status": None}
    assert "Traceback" in capsys.readouterr().out
    assert "Traceback" not in response.body.decode()


def test_a_sandbox_serves_on_after_every_failure() -> None:
    def script(connection: Connection, request: Received) -> None:
        if len(server.received) % 2:
            connection.send(b"HTTP/1.1 ")
            connection.reset()
        else:
            connection.answer(json.dumps({"usage": USAGE}).encode())

    with proxy(script) as (relay, server):
        assert [relay.call({"model": "m"}).status for _ in range(6)] == [502, 200] * 3
    assert [kind for kind, _ in relay.bus.details] == ["InferenceFailed", "InferenceCompleted"] * 3
    assert len({detail["metadata"]["id"] for _, detail in relay.bus.details}) == 6


def test_a_kept_connection_that_the_server_has_closed_is_replaced_in_silence() -> None:
    closed = threading.Event()

    def script(connection: Connection, request: Received) -> None:
        connection.answer(json.dumps({"usage": USAGE}).encode())
        if len(server.received) == 1:
            connection.close()
            closed.set()

    with proxy(script) as (relay, server):
        assert relay.call({"model": "m"}).status == 200
        assert closed.wait(timeout=20)
        assert relay.call({"model": "m"}).status == 200
        assert len(server.received) == 2


def test_nothing_is_tried_when_the_time_is_up() -> None:
    with proxy(failing(9, "503 Later", "retry-after: 5\r\n")) as (relay, server):
        assert relay.call({"model": "m"}, path="/again/v1/chat/completions", seconds=5).status == 503
        assert len(server.received) == 1


def test_a_request_whose_key_cannot_be_checked_is_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    with proxy(streaming()) as (relayed, server):
        identity = {"client_id": "team-a", "rpm": "a damaged number"}
        event = {
            "httpMethod": "POST",
            "path": "/up/v1/chat/completions",
            "headers": {"Authorization": "Bearer k"},
            "requestContext": {"authorizer": identity, "httpMethod": "POST", "path": "/up/v1/chat/completions"},
            "body": "{}",
        }
        response = RecordedResponse()
        relayed.relay.serve(event, response, time.time() + 60)
    assert (response.status, error_of(response)["code"]) == (503, "authorization_unavailable")
    assert (server.received, relayed.bus.details) == ([], [])
    [line] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (line["message"], line["error"], line["requests"]) == (UNAUTHORIZED, "authorization_unavailable", 1)
    assert line["id"] == response.headers["x-inference-id"]
    assert "damaged number" not in str(line)
