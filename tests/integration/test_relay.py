"""The relay between a recorded client and a scripted upstream server on real sockets: every way a request can end."""

import json
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from jsonschema import validate
from openai_proxy.servers import parse_servers
from proxy.attempts import Attempts
from proxy.authorization import Authorizer
from proxy.cors import Cors
from proxy.publisher import Publisher
from proxy.relay import Relay
from proxy.tokens import ProviderTokens
from proxy.upstream import HttpTransport, Timeouts

from tests.fakes import Connection, Received, RecordedResponse, Script, ScriptedServer, envelope_of

SCHEMAS = Path(__file__).parents[2] / "events" / "schemas"
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
TOKEN = "provider-token"


def sse(text: str = "", finish: str | None = None, usage: object = None, choices: bool = True) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    answer = {"id": "c-1", "model": "real-model", "choices": [choice] if choices else [], "usage": usage}
    return f"data: {json.dumps(answer)}\n\n".encode()


CONTENT = [sse("Hello"), sse(" world", "stop")]
USAGE_CHUNK = sse(usage=USAGE, choices=False)
DONE = b"data: [DONE]\n\n"


class RecordingBus:
    """Takes every entry, checked against its schema."""

    def __init__(self) -> None:
        self.details: list[tuple[str, dict[str, Any]]] = []

    def put_events(self, entries: list[dict[str, str]], _timeout: float) -> list[dict[str, Any]]:
        for entry in entries:
            detail = json.loads(entry["Detail"])
            schema = json.loads((SCHEMAS / f"{entry['DetailType']}.v1.json").read_text())
            validate(envelope_of(entry), schema)
            self.details.append((entry["DetailType"], detail))
        return [{"EventId": "e"} for _ in entries]


class Proxy:
    """A relay and what it did: one request at a time."""

    def __init__(self, url: str, allowed: dict[str, str], transport: HttpTransport) -> None:
        self.bus = RecordingBus()
        self.slept: list[float] = []
        file = (
            f"up: {{url: '{url}/base/v1', token: {TOKEN}, model: default-model, retries: 0}}\n"
            "other: {url: 'http://127.0.0.1:9/v1', token: t, model: '', retries: 0}\n"
            f"again: {{url: '{url}/again', token: {TOKEN}, model: m, retries: 2}}\n"
            f"first: {{url: '{url}/first', token: one, model: m, retries: 1, fallbacks: [other, up]}}\n"
            "unset: {url: 'http://127.0.0.1:9/v1', token: '${UNSET}', model: m, fallbacks: [up]}"
        )
        context = {"client_id": "team-a", **allowed}
        policy = {"policyDocument": {"Statement": [{"Effect": "Allow"}]}, "context": context}

        def invoke(_: str, payload: bytes) -> tuple[bytes, bool]:
            if json.loads(payload)["headers"]["Authorization"] == "Bearer good":
                return json.dumps(policy).encode(), False
            return b'{"errorMessage": "Unauthorized"}', True

        bus: Any = self.bus
        self.relay = Relay(
            parse_servers(file),
            Authorizer(invoke, "authorizer", "eu-central-1", 60),
            Attempts(transport, ProviderTokens(bus, {}, None), self.slept.append, lambda: 0.5),
            Publisher(bus, "bus"),
            Cors("*"),
        )

    def call(
        self,
        body: object = None,
        *,
        path: str = "/up/v1/chat/completions",
        method: str = "POST",
        headers: dict[str, str] | None = None,
        response: RecordedResponse | None = None,
        seconds: float = 60,
        query: str = "",
    ) -> RecordedResponse:
        event = {
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": query,
            "headers": {"authorization": "Bearer good", "content-type": "application/json", **(headers or {})},
            "requestContext": {"http": {"method": method}},
            "body": body if isinstance(body, str) else json.dumps(body) if body is not None else "",
        }
        response = response or RecordedResponse()
        self.relay.serve(event, response, time.time() + seconds)
        assert response.ended or response.broken
        return response

    @property
    def event(self) -> tuple[str, dict[str, Any]]:
        """The one terminal event there is, and its data."""
        [(detail_type, detail)] = self.bus.details
        return detail_type, detail["data"]


@contextmanager
def proxy(
    script: Script, allowed: dict[str, str] | None = None, **timeouts: float
) -> Generator[tuple[Proxy, ScriptedServer]]:
    with ScriptedServer(script) as server:
        transport = HttpTransport(Timeouts(**timeouts))
        try:
            yield Proxy(server.url, allowed or {}, transport), server
        finally:
            transport.close()


def streaming(*pieces: bytes, end: Callable[[Connection], None] = Connection.end_chunked) -> Script:
    def script(connection: Connection, request: Received) -> None:
        connection.start_chunked()
        for piece in pieces:
            connection.chunk(piece)
        end(connection)

    return script


def error_of(response: RecordedResponse) -> dict[str, Any]:
    return json.loads(response.body)["error"]


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
        "cache_creation": {"input_tokens": 0},
        "reasoning": {"output_tokens": 0},
        "source": "reported",
    }
    assert data["server"] == {"name": "up"}
    assert data["operation"] == {"name": "chat"}
    assert data["request"]["model"] == "default-model"
    assert data["response"]["model"] == "real-model"
    assert data["response"]["finish_reasons"] == ["stop"]
    assert 0 < data["response"]["time_to_first_chunk"] <= data["timings"]["total"]
    assert data["timings"]["upstream"] + data["timings"]["proxy"] == pytest.approx(data["timings"]["total"], abs=1e-5)


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
            "openai-bad: a\x00b\r\nx-request-id: up-1\r\nx-ratelimit-remaining-requests: 5\r\nopenai-version: 1\r\n"
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
        "x-attempts",
        "server-timing",
        "x-request-id",
        "access-control-allow-origin",
        "access-control-expose-headers",
    }
    metadata = relay.bus.details[0][1]["metadata"]
    assert first.headers["x-request-id"] == first.headers["x-inference-id"] == metadata["id"] == metadata["request_id"]
    assert first.headers["x-served-by"] == "up"


@pytest.mark.parametrize(("sent", "kept"), [("my-id_1:2.3", True), ("x" * 129, False), ("a b", False), ("", False)])
def test_a_clients_own_request_id_is_kept_when_it_is_one(sent: str, kept: bool) -> None:
    with proxy(lambda connection, _: connection.answer(b"{}")) as (relay, server):
        response = relay.call({"model": "m"}, headers={"x-request-id": sent})
        assert "x-request-id" not in server.received[0].headers
    metadata = relay.bus.details[0][1]["metadata"]
    assert response.headers["x-inference-id"] == metadata["id"]
    assert response.headers["x-request-id"] == metadata["request_id"] == (sent if kept else metadata["id"])


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
        response = relay.call({"model": "m"})
    assert (response.status, response.body) == (200, b"{")
    assert response.failure is not None
    assert relay.event[1]["error"]["type"] == "upstream_broken_off"


def test_a_server_that_falls_silent_in_mid_stream() -> None:
    with proxy(streaming(CONTENT[0], end=Connection.wait_for_end), idle=0.2) as (relay, _):
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
        connection.wait_for_end()

    with proxy(script) as (relay, _):
        response = relay.call({"stream": True}, seconds=1)
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
    assert relay.event[1]["throttle"] == {"source": "upstream", "retry_after": 7.0}


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
            relay.relay._attempts = None  # type: ignore[assignment]
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


def test_other_operations_pass_and_use_no_tokens() -> None:
    with proxy(lambda connection, _: connection.answer(b'{"data": []}')) as (relay, server):
        response = relay.call(method="GET", path="/up/v1/models")
    assert (response.status, response.body) == (200, b'{"data": []}')
    assert (server.received[0].method, server.received[0].target) == ("GET", "/base/v1/models")
    assert (relay.event[0], relay.event[1]["usage"]["source"]) == ("InferenceCompleted", "none")


def failing(times: int, status: str, more: str = "") -> Script:
    """Fails so many times, then answers."""
    served = iter(range(1000))

    def script(connection: Connection, request: Received) -> None:
        if next(served) < times:
            connection.answer(b'{"error": {"message": "not now"}}', status, more=more)
        else:
            connection.answer(json.dumps({"usage": USAGE}).encode())

    return script


@pytest.mark.parametrize("status", ["408 Timeout", "429 Too Many", "500 Oops", "503 Later", "529 Overloaded"])
def test_a_server_that_cannot_now_is_asked_again(status: str) -> None:
    with proxy(failing(2, status)) as (relay, server):
        response = relay.call({"model": "m"}, path="/again/v1/chat/completions")
        assert len(server.received) == 3
    assert (response.status, response.headers["x-attempts"]) == (200, "3")
    assert relay.slept == [0.25, 0.5]
    assert relay.event[0] == "InferenceCompleted"
    attempts = [(attempt["server"], attempt["status_code"]) for attempt in relay.event[1]["attempts"]]
    assert attempts == [("again", int(status[:3]))] * 2 + [("again", 200)]


def test_a_connection_that_breaks_is_made_again() -> None:
    def script(connection: Connection, request: Received) -> None:
        if len(server.received) == 1:
            connection.reset()
        else:
            connection.answer(b"{}")

    with proxy(script) as (relay, server):
        assert relay.call({"model": "m"}, path="/again/v1/chat/completions").status == 200
    assert [attempt["error"] for attempt in relay.event[1]["attempts"]] == ["upstream_broken_off", None]


def test_what_does_not_get_better_is_passed_on_as_it_came() -> None:
    with proxy(failing(9, "503 Later")) as (relay, server):
        response = relay.call({"model": "m"}, path="/again/v1/chat/completions")
        assert len(server.received) == 3
    assert (response.status, response.body) == (503, b'{"error": {"message": "not now"}}')
    assert relay.event[1]["error"]["upstream_status"] == 503


@pytest.mark.parametrize(("more", "slept"), [("retry-after: 3\r\n", [3.0]), ("retry-after: 60\r\n", [])])
def test_a_server_says_when_to_ask_again(more: str, slept: list[float]) -> None:
    with proxy(failing(1, "429 Too Many", more)) as (relay, _):
        response = relay.call({"model": "m"}, path="/again/v1/chat/completions")
    assert relay.slept == slept
    assert response.status == (200 if slept else 429)


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "422 Unprocessable"])
def test_a_wrong_request_is_not_repeated(status: str) -> None:
    with proxy(failing(9, status)) as (relay, server):
        assert relay.call({"model": "m"}, path="/first/v1/chat/completions").status == int(status[:3])
        assert len(server.received) == 1


def test_a_silent_server_is_not_asked_twice() -> None:
    with proxy(lambda connection, _: connection.wait_for_end(), first_byte=0.2) as (relay, server):
        assert relay.call({"model": "m"}, path="/again/v1/chat/completions").status == 504
        assert len(server.received) == 1


def test_fallbacks_are_asked_in_their_order_with_their_own_token_and_model() -> None:
    def script(connection: Connection, request: Received) -> None:
        if request.target.startswith("/first"):
            connection.answer(b"{}", "401 Unauthorized")
        else:
            connection.answer(json.dumps({"usage": USAGE}).encode())

    with proxy(script) as (relay, server):
        response = relay.call({"model": "mine", "seed": 1}, path="/first/v1/chat/completions")
        first, up = server.received
    assert (response.status, response.headers["x-served-by"], response.headers["x-attempts"]) == (200, "up", "3")
    assert (first.headers["authorization"], json.loads(first.body)["model"]) == ("Bearer one", "mine")
    assert (up.target, up.headers["authorization"]) == ("/base/v1/chat/completions", f"Bearer {TOKEN}")
    assert json.loads(up.body) == {"model": "default-model", "seed": 1}
    assert relay.event[1]["server"] == {"name": "up"}
    attempts = [
        (attempt["server"], attempt["status_code"] or attempt["error"]) for attempt in relay.event[1]["attempts"]
    ]
    assert attempts == [("first", 401), ("other", "upstream_unreachable"), ("up", 200)]


def test_a_server_without_a_token_leaves_the_request_to_its_fallback() -> None:
    with proxy(failing(0, "")) as (relay, server):
        response = relay.call({"model": "mine"}, path="/unset/v1/chat/completions")
        assert [request.target for request in server.received] == ["/base/v1/chat/completions"]
    assert (response.status, response.headers["x-served-by"]) == (200, "up")
    assert relay.event[1]["attempts"][0]["error"] == "server_not_configured"


@pytest.mark.parametrize("allowed", [{"servers": "first"}, {"models": "mine"}])
def test_a_key_does_not_reach_by_a_fallback_what_it_may_not_use(allowed: dict[str, str]) -> None:
    with proxy(failing(9, "503 Later"), allowed) as (relay, server):
        assert relay.call({"model": "mine"}, path="/first/v1/chat/completions").status == 503
        assert {request.target for request in server.received} == {"/first/chat/completions"}


def test_nothing_is_tried_when_the_time_is_up() -> None:
    with proxy(failing(9, "503 Later")) as (relay, server):
        assert relay.call({"model": "m"}, path="/again/v1/chat/completions", seconds=0.3).status == 503
        assert len(server.received) == 1


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
        connection.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{")
        silent.wait(timeout=0.3)
        connection.send(b"}")

    with proxy(script, keep_alive=0.05) as (relay, _):
        assert relay.call({"model": "m"}).body == b"{}"
