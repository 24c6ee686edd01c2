"""What clients may ask for: both doors' events, paths that try to break out, bodies filled in."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.errors import ClientError
from proxy.request import MAX_BODY_BYTES, InferenceRequest, OutgoingBody, Target, outgoing_body, parse, target_of

URL_EVENT: dict[str, Any] = {
    "version": "2.0",
    "rawPath": "/openai/v1/chat/completions",
    "rawQueryString": "a=1&a=2",
    "headers": {"Content-Type": "application/json", "authorization": "Bearer k", "cookie": "c=1"},
    "requestContext": {"http": {"method": "POST"}},
    "body": '{"model":"m"}',
    "isBase64Encoded": False,
}
REST_EVENT: dict[str, Any] = {
    "httpMethod": "GET",
    "path": "/openai/v1/models",
    "headers": None,
    "multiValueQueryStringParameters": {"a b": ["1", "ü&"]},
    "requestContext": {"authorizer": {"client_id": "c"}},
    "body": None,
    "isBase64Encoded": False,
}


def test_a_function_url_event() -> None:
    request = parse(URL_EVENT)
    assert (request.door, request.method, request.path) == ("function_url", "POST", "/openai/v1/chat/completions")
    assert (request.query, request.body, request.gateway_identity) == ("a=1&a=2", b'{"model":"m"}', None)
    assert request.forwarded_headers == {"content-type": "application/json"}


def test_a_rest_api_event() -> None:
    request = parse(REST_EVENT)
    assert (request.door, request.method, request.query) == ("rest_api", "GET", "a%20b=1&a%20b=%C3%BC%26")
    assert (request.body, request.gateway_identity) == (b"", {"client_id": "c"})


def test_a_query_cannot_end_the_request_line() -> None:
    request = parse({**URL_EVENT, "rawQueryString": "a=%20b&c= HTTP/1.1\r\nx: y#z"})
    assert request.clean_query == "a=%20b&c=%20HTTP/1.1%0D%0Ax:%20y%23z"


def test_a_base64_body_is_decoded() -> None:
    assert parse({**URL_EVENT, "body": base64.b64encode(b"\xff\0").decode(), "isBase64Encoded": True}).body == b"\xff\0"


@pytest.mark.parametrize(
    ("event", "code", "status"),
    [
        (None, "unknown_event", 400),
        ([], "unknown_event", 400),
        ({}, "unknown_event", 400),
        ({"version": "2.0", "requestContext": {}}, "unknown_event", 400),
        ({"Records": [{"eventSource": "aws:sqs"}]}, "unknown_event", 400),
        ({**URL_EVENT, "requestContext": {"http": {"method": "GET /x HTTP/1.1\r\n"}}}, "unknown_event", 400),
        ({**URL_EVENT, "requestContext": {"http": {"method": None}}}, "unknown_event", 400),
        ({**URL_EVENT, "headers": {"x": "a\r\nb"}}, "invalid_header", 400),
        ({**URL_EVENT, "headers": {"x": "a\0b"}}, "invalid_header", 400),
        ({**URL_EVENT, "body": "%", "isBase64Encoded": True}, "invalid_body", 400),
        ({**URL_EVENT, "body": "x" * (MAX_BODY_BYTES + 1)}, "request_too_large", 413),
    ],
)
def test_events_that_are_refused(event: object, code: str, status: int) -> None:
    with pytest.raises(ClientError) as refused:
        parse(event)
    assert (refused.value.code, refused.value.status) == (code, status)


@pytest.mark.parametrize(
    ("path", "target", "operation"),
    [
        ("/openai/v1/chat/completions", Target("openai", "/chat/completions"), "chat"),
        ("/a-b_1/v1/completions", Target("a-b_1", "/completions"), "text_completion"),
        ("/openai/v1/responses/resp_1/cancel", Target("openai", "/responses/resp_1/cancel"), "responses"),
        ("/openai/v1/models/ft:gpt%204:org", Target("openai", "/models/ft:gpt%204:org"), "models"),
        ("/openai/v1/%63hat/completions", Target("openai", "/chat/completions"), "chat"),
        ("/openai/v1/files/ü", Target("openai", "/files/%C3%BC"), "files"),
        ("/__proto__/v1/x", Target("__proto__", "/x"), "other"),
    ],
)
def test_paths_that_lead_to_a_server(path: str, target: Target, operation: str) -> None:
    assert target_of(path) == target
    assert target.operation == operation


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/openai",
        "/openai/v1",
        "/openai/v1/",
        "/openai/v2/models",
        "/v1/models",
        "openai/v1/models",
        "/openai/v1/../../admin",
        "/openai/v1/./models",
        "/openai/v1//models",
        "//openai/v1/models",
        "/openai/v1/models/",
        "/openai/v1/%2e%2e/x",
        "/openai/v1/a%2fb",
        "/openai%2Fv1/models",
        "/openai/v1/a%5cb",
        "/openai/v1/a\\b",
        "/openai/v1/a%00",
        "/openai/v1/a%0d%0ab",
        "/openai/v1/%ff",
        "/openai/%76%32/models",
    ],
)
def test_paths_that_lead_nowhere(path: str) -> None:
    with pytest.raises(ClientError) as refused:
        target_of(path)
    assert (refused.value.status, refused.value.code) == (404, "unknown_path")


@given(st.text())
def test_no_path_leaves_its_server(text: str) -> None:
    try:
        target = target_of("/s/v1/" + text)
    except ClientError:
        return
    segments = target.path.split("/")[1:]
    assert not {"", ".", ".."} & set(segments)
    assert target.path.isascii()
    assert not set(target.path) & set("?#\\% ".replace("%", ""))


def body_of(
    body: bytes, operation: str = "chat", model: str = "default", content_type: str = "application/json"
) -> OutgoingBody:
    request = InferenceRequest("function_url", "POST", "", "", {"content-type": content_type}, body, None)
    return outgoing_body(request, operation, model)


def test_a_body_that_needs_nothing_stays_as_it_is() -> None:
    body = b'{ "model" : "m", "temperature": 1.0E0, "stream":false }'
    assert body_of(body) == OutgoingBody(body, "m", stream=False, asks_usage_unasked=False)


def test_additions_leave_every_other_byte_alone() -> None:
    out = body_of(b' { "seed": 12345678901234567890.5, "stream": true}')
    added = b'"model":"default","stream_options":{"include_usage":true}'
    assert out.content == b" {" + added + b', "seed": 12345678901234567890.5, "stream": true}'
    assert (out.model, out.stream, out.asks_usage_unasked) == ("default", True, True)


@pytest.mark.parametrize("empty", [b"{}", b'{"model": ""}', b'{"model": null}'])
def test_the_default_model_is_for_requests_that_name_none(empty: bytes) -> None:
    assert json.loads(body_of(empty).content) == {"model": "default"}
    assert body_of(empty, model="").content == empty


@pytest.mark.parametrize(
    ("options", "sent", "hides"),
    [
        ({"include_usage": True}, {"include_usage": True}, False),
        ({"include_usage": False}, {"include_usage": True}, True),
        ({"include_obfuscation": False}, {"include_obfuscation": False, "include_usage": True}, True),
        (None, {"include_usage": True}, True),
        ("wrong", "wrong", False),
    ],
)
def test_usage_is_asked_for_once(options: object, sent: object, hides: bool) -> None:
    out = body_of(json.dumps({"model": "m", "stream": True, "stream_options": options}).encode())
    assert json.loads(out.content)["stream_options"] == sent
    assert out.asks_usage_unasked is hides


@pytest.mark.parametrize("operation", ["embeddings", "responses", "images"])
def test_stream_options_go_only_where_the_api_knows_them(operation: str) -> None:
    body = b'{"model":"m","stream":true}'
    assert body_of(body, operation).content == body


def test_stream_options_are_never_sent_without_stream() -> None:
    assert b"stream_options" not in body_of(b'{"model":"m","stream":false}').content


def test_uploads_pass_untouched() -> None:
    out = body_of(b"--b\r\n{", content_type="multipart/form-data; boundary=b")
    assert out == OutgoingBody(b"--b\r\n{", None, stream=False, asks_usage_unasked=False)


@pytest.mark.parametrize("broken", [b"{", b"[]", b'"x"', b"nul", b"[" * 100_000, b"\xff"])
def test_broken_json_is_refused(broken: bytes) -> None:
    with pytest.raises(ClientError) as refused:
        body_of(broken)
    assert (refused.value.status, refused.value.code) == (400, "invalid_json")
