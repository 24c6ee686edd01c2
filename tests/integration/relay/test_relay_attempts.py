"""Retries and fallbacks: attempts before the first byte."""

import json

import pytest
from proxy.http.transport import HttpTransport, Timeouts
from proxy.upstream.provider_tokens import UNAVAILABLE

from tests.fakes import Connection, Received, Script, ScriptedServer
from tests.relays import TOKEN, USAGE, Proxy, RecordingBus, error_of, failing, proxy

SPARED = "spared: {url: 'URL/spared', token: t, model: m, fallbacks: [up]}\n"


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
            connection.answer(b'{"id": "a"}')

    with proxy(script) as (relay, server):
        assert relay.call({"model": "m"}, path="/again/v1/chat/completions").status == 200
    assert [attempt["error"] for attempt in relay.event[1]["attempts"]] == ["upstream_broken_off", None]


def test_what_does_not_get_better_is_passed_on_as_it_came() -> None:
    with proxy(failing(9, "503 Later")) as (relay, server):
        response = relay.call({"model": "m"}, path="/again/v1/chat/completions")
        assert len(server.received) == 3
    assert (response.status, response.body) == (503, b'{"error": {"message": "not now"}}')
    assert relay.event[1]["error"]["upstream_status"] == 503


def test_what_was_repeated_says_so_and_what_was_not_does_not() -> None:
    for status, path, told in (
        ("503 Later", "/again", "false"),
        ("503 Later", "/up", None),
        ("400 No", "/again", None),
    ):
        with proxy(failing(9, status)) as (relay, _):
            response = relay.call({"model": "m"}, path=f"{path}/v1/chat/completions")
        assert response.headers.get("x-should-retry") == told


def test_who_says_when_to_come_back_is_passed_on_at_once_or_another_is_asked_at_once() -> None:
    with proxy(failing(1, "429 Too Many", "retry-after: 3\r\n")) as (relay, _):
        response = relay.call({"model": "m"}, path="/again/v1/chat/completions")
    assert (response.status, response.headers["retry-after"], response.headers["x-attempts"]) == (429, "3", "1")
    assert "x-should-retry" not in response.headers
    with proxy(failing(1, "429 Too Many", "retry-after: 3\r\n"), more_servers=SPARED) as (other, server):
        response = other.call({"model": "m"}, path="/spared/v1/chat/completions")
        assert [request.target.split("/")[1] for request in server.received] == ["spared", "base"]
    assert (response.status, relay.slept, other.slept) == (200, [], [])


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
    assert (response.status, response.headers["x-served-by"], response.headers["x-attempts"]) == (200, "up", "1")
    assert relay.event[1]["attempts"][0]["error"] == "server_not_configured"


def test_a_server_that_its_breaker_keeps_out_is_no_call() -> None:
    def script(connection: Connection, request: Received) -> None:
        failing(1 if request.target.startswith("/frail") else 0, "503 Later")(connection, request)

    with proxy(script) as (relay, server):
        told = [relay.call({"model": "m"}, path="/guarded/v1/chat/completions") for _ in range(2)]
        assert [request.target.split("/")[1] for request in server.received] == ["frail", "base", "base"]
    assert [response.headers["x-attempts"] for response in told] == ["2", "1"]
    assert [len(detail["data"]["attempts"]) for _, detail in relay.bus.details] == [2, 2]


@pytest.mark.parametrize("allowed", [{"servers": "first"}, {"models": "first/mine"}])
def test_a_key_does_not_reach_by_a_fallback_what_it_may_not_use(allowed: dict[str, str]) -> None:
    with proxy(failing(9, "503 Later"), allowed) as (relay, server):
        assert relay.call({"model": "mine"}, path="/first/v1/chat/completions").status == 503
        assert {request.target for request in server.received} == {"/first/chat/completions"}


class RotatingSecrets(RecordingBus):
    """A bus, and a secret that has another value each time it is read."""

    def __init__(self, *values: str) -> None:
        super().__init__()
        self.values = list(values)

    def get_secret(self, secret_id: str, timeout: float | None = None) -> str:
        return self.values.pop(0) if len(self.values) > 1 else self.values[0]


def takes(token: str) -> Script:
    def script(connection: Connection, request: Received) -> None:
        if request.headers["authorization"] == f"Bearer {token}":
            connection.answer(json.dumps({"choices": [], "usage": USAGE}).encode())
        else:
            connection.answer(b'{"error": {"message": "no"}}', "401 Unauthorized")

    return script


@pytest.mark.parametrize(
    ("values", "sent", "status"),
    [(("old", "new"), ["old", "new"], 200), (("old", "old"), ["old"], 502), (("old", "wrong"), ["old", "wrong"], 502)],
)
def test_a_refused_token_is_read_again_and_a_newer_one_sent_once(
    values: tuple[str, ...], sent: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    bus = RotatingSecrets(*values)
    with ScriptedServer(takes("new")) as server:
        transport = HttpTransport(Timeouts())
        more = f"rotated: {{url: '{server.url}/v1', token: 'secretsmanager:openai-proxy/x', model: m, retries: 0}}\n"
        response = Proxy(server.url, {}, transport, bus=bus, more_servers=more).call(
            {"messages": []}, path="/rotated/v1/chat/completions"
        )
        transport.close()
    assert [request.headers["authorization"] for request in server.received] == [f"Bearer {each}" for each in sent]
    assert response.status == status
    [(_, detail)] = bus.details
    assert [attempt["status_code"] for attempt in detail["data"]["attempts"]] == [401] * (len(sent) - 1) + [
        200 if status == 200 else 401
    ]
    if status != 200:
        assert error_of(response)["code"] == "upstream_authentication_failed"
    assert (UNAVAILABLE in capsys.readouterr().out) == (status != 200)
