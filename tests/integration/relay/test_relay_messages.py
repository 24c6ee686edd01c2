"""Anthropic's Messages API through the relay: passed on as it is, metered, and refused in its own form."""

import json
from typing import Any

import pytest

from tests.fakes import Connection, Received
from tests.recordings import STREAMS
from tests.relays import TOKEN, Proxy, proxy, streaming

PATH = "/up/v1/messages"
ASKED: dict[str, Any] = {"model": "claude", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello there"}]}
STREAM = (STREAMS / "anthropic-messages-tools.sse").read_bytes()
WHOLE = (STREAMS / "anthropic-messages-whole.json").read_bytes()
EVENTS = [event + b"\n\n" for event in STREAM.split(b"\n\n")[:-1]]
ANTHROPIC = """
claude: {url: 'URL/a/v1', token: secret, auth: {header: x-api-key}, headers: {anthropic-version: '1'}, model: ''}
"""


def error_of(relay: Proxy, body: object = None, path: str = PATH, **call: Any) -> tuple[int, str, dict[str, Any]]:
    """Status, type and the whole error of a request that is refused."""
    response = relay.call(ASKED if body is None else body, path=path, **call)
    document = json.loads(response.body)
    assert set(document) == {"type", "error", "request_id"}
    assert document["type"] == "error"
    assert document["request_id"] == response.headers["x-request-id"] == response.headers["request-id"]
    return response.status, document["error"]["type"], document["error"]


def test_a_stream_reaches_the_client_byte_by_byte_and_its_event_says_all() -> None:
    received: list[Received] = []

    def script(connection: Connection, request: Received) -> None:
        received.append(request)
        streaming(*EVENTS)(connection, request)

    with proxy(script) as (relay, _):
        asked = {**ASKED, "stream": True, "metadata": {"user_id": "u-1"}}
        headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "a-1,b-2"}
        response = relay.call(asked, path=PATH, headers=headers)
    assert (response.status, response.body) == (200, STREAM)
    assert json.loads(received[0].body) == asked
    assert {name: received[0].headers[name] for name in headers} == headers
    detail_type, data = relay.event
    assert (detail_type, data["operation"]["name"], data["request"]["path"]) == (
        "InferenceCompleted",
        "chat",
        "/messages",
    )
    assert data["response"]["model"] == "claude-opus-4-6"
    assert data["response"]["finish_reasons"] == ["tool_use"]
    assert data["end_user"]
    usage = data["usage"]
    counted = usage["input_tokens"], usage["output_tokens"], usage["cache_read"], usage["cache_creation"]
    assert counted == (5848, 89, {"input_tokens": 4096}, {"input_tokens": 1280, "ephemeral_1h_input_tokens": 256})


def test_a_stream_without_its_end_is_broken_off_in_the_clients_form_and_its_output_estimated() -> None:
    for cut in (len(EVENTS) - 1, 9):
        with proxy(streaming(*EVENTS[:cut])) as (relay, _):
            response = relay.call({**ASKED, "stream": True}, path=PATH)
        passed, last = response.body.rsplit(b"event: error\ndata: ", 1)
        assert passed == b"".join(EVENTS[:cut])
        error = json.loads(last)
        assert (error["type"], error["error"]["type"]) == ("error", "api_error")
        assert error["error"]["code"] == "upstream_broken_off"
        detail_type, data = relay.event
        assert (detail_type, data["error"]["type"]) == ("InferenceFailed", "upstream_broken_off")
        assert data["usage"]["input_tokens"] == 5848
        source, output = ("reported", 89) if cut > 9 else ("estimated", 6)
        assert (data["usage"]["source"], data["usage"]["output_tokens"]) == (source, output)


@pytest.mark.parametrize("ping_first", [False, True])
def test_an_error_in_the_place_of_the_first_event_has_its_status(ping_first: bool) -> None:
    ping = b'event: ping\ndata: {"type": "ping"}\n\n' if ping_first else b""
    said = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with proxy(streaming(ping + f"event: error\ndata: {json.dumps(said)}\n\n".encode())) as (relay, _):
        status, kind, error = error_of(relay, {**ASKED, "stream": True})
    assert (status, kind) == (529, "overloaded_error")
    assert "Overloaded" in error["message"]


def test_a_document_and_a_servers_own_error_pass_unchanged() -> None:
    refusal = b'{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: Field required"}}'
    headers = "request-id: req-1\r\nanthropic-ratelimit-requests-remaining: 7\r\nanthropic-organization-id: o-1\r\n"
    answers = [("200 OK", WHOLE), ("400 Bad Request", refusal)]

    def script(connection: Connection, _: Received) -> None:
        status, body = answers[0]
        connection.answer(body, status, more=headers)

    with proxy(script) as (relay, _):
        while answers:
            response = relay.call(ASKED, path=PATH)
            assert (f"{response.status}", response.body) == (answers[0][0][:3], answers[0][1])
            assert response.headers["request-id"] == "req-1"
            assert response.headers["anthropic-ratelimit-requests-remaining"] == "7"
            assert "anthropic-organization-id" not in response.headers
            answers.pop(0)
    [(_, whole), (kind, _)] = [(name, each["data"]) for name, each in relay.bus.details]
    assert whole["usage"]["input_tokens"] == 189131
    assert kind == "InferenceFailed"


def test_every_refusal_of_the_proxy_has_anthropics_form() -> None:
    with proxy(lambda connection, _: connection.answer(b"", "503 Unavailable")) as (relay, _):
        assert error_of(relay, headers={"authorization": "Bearer bad"})[:2] == (401, "authentication_error")
        assert error_of(relay, "{")[:2] == (400, "invalid_request_error")
        assert error_of(relay, path="/nobody/v1/messages")[:2] == (404, "not_found_error")
        assert error_of(relay, path="/v1/messages")[:2] == (404, "not_found_error")
        assert error_of(relay, path="/up/v1/v1/messages")[:2] == (404, "not_found_error")
        assert error_of(relay, path="/up/v1/messages/count_tokens")[:2] == (503, "api_error")
        assert error_of(relay, path="/other/v1/messages")[:2] == (502, "api_error")
        assert error_of(relay, seconds=-1)[:2] == (504, "timeout_error")
        assert error_of(relay)[2]["code"] == "upstream_error"
        other = json.loads(relay.call(ASKED, path="/nobody/v1/threads/t/messages").body)
        assert set(other) == {"error"}
    with proxy(streaming(), {"servers": "other"}) as (relay, _):
        assert error_of(relay)[:2] == (403, "permission_error")


def test_a_key_for_certain_models_may_ask_and_count_with_these_alone() -> None:
    with proxy(lambda connection, _: connection.answer(WHOLE), {"models": "up/claude"}) as (relay, _):
        for path in (PATH, f"{PATH}/count_tokens"):
            assert relay.call(ASKED, path=path).status == 200
            assert error_of(relay, {**ASKED, "model": "other"}, path=path)[:2] == (403, "permission_error")
        adviser = {**ASKED, "tools": [{"type": "advisor", "name": "advisor", "model": "other"}]}
        assert error_of(relay, adviser)[:2] == (403, "permission_error")
        plain: list[Any] = [{"name": "t", "input_schema": {"model": {}}}]
        assert relay.call({**ASKED, "tools": plain}, path=PATH).status == 200


def test_counting_is_free_and_the_version_of_the_client_goes_before_that_of_the_file() -> None:
    received: list[dict[str, str]] = []

    def script(connection: Connection, request: Received) -> None:
        received.append(request.headers)
        connection.answer(b'{"input_tokens": 12}')

    with proxy(script, more_servers=ANTHROPIC) as (relay, _):
        for version in ({}, {"anthropic-version": "2"}):
            relay.bus.details.clear()
            path = "/v1/messages/count_tokens"
            response = relay.call({**ASKED, "model": "claude/opus"}, path=path, headers={"x-api-key": "own", **version})
            assert (response.status, response.body) == (200, b'{"input_tokens": 12}')
            assert relay.event[1]["usage"]["source"] == "none"
    assert [each["anthropic-version"] for each in received] == ["1", "2"]
    assert [each["x-api-key"] for each in received] == ["secret", "secret"]
    assert all(TOKEN not in str(each) and "authorization" not in each for each in received)
