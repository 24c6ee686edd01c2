"""What clients may ask for: both doors' events, paths that try to break out, bodies filled in."""

import base64
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.servers import Server, TokenReference
from openai_proxy.servers.sign_in import Auth
from proxy.errors import ClientError
from proxy.request.parse import MAX_BODY_BYTES, Target, parse, target_of, url_of

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


@pytest.mark.parametrize(
    ("sent", "below", "path"),
    [
        ("/openai/v1/models", "openai/v1/models", "/openai/v1/models"),
        ("/llm/openai/v1/models", "openai/v1/models", "/openai/v1/models"),
        ("/a/b/openai/v1/models", "openai/v1/models", "/openai/v1/models"),
        ("/openai/openai/v1/models", "openai/v1/models", "/openai/v1/models"),
        ("/llm/openai/v1/models/", "openai/v1/models", "/openai/v1/models/"),
        ("/llm/openai/v1/models/", "openai/v1/models/", "/openai/v1/models/"),
        ("/xopenai/v1/models", "openai/v1/models", "/xopenai/v1/models"),
        ("/llm/X/v1/models/aX", "X/v1/models/aX", "/X/v1/models/aX"),  # nothing but slashes is cut off
        ("/llm/X/v1/models/aX/", "X/v1/models/aX", "/X/v1/models/aX/"),
        ("/openai/v1/files/a%2Fb", "openai/v1/files/a/b", "/openai/v1/files/a%2Fb"),
        ("/openai/v1/models", None, "/openai/v1/models"),
        ("/openai/v1/models", 7, "/openai/v1/models"),
        ("/", "", "/"),
    ],
)
def test_the_base_path_of_a_custom_domain_is_no_part_of_the_path(sent: str, below: Any, path: str) -> None:
    parameters = None if below is None else {"proxy": below}
    assert parse({**REST_EVENT, "path": sent, "pathParameters": parameters}).path == path


def test_a_header_that_came_several_times_is_whole_at_both_doors() -> None:
    multiple = {"Cache-Control": ["no-store", "max-age=5"], "Accept": ["*/*"], "X-Odd": "text", "X-Numbers": [1, 2]}
    headers = {"Cache-Control": "max-age=5", "Accept": "*/*", "X-Numbers": "2"}
    rest = parse({**REST_EVENT, "headers": headers, "multiValueHeaders": multiple})
    url = parse({**URL_EVENT, "headers": {"cache-control": "no-store,max-age=5", "accept": "*/*", "x-numbers": "1,2"}})
    assert rest.headers == url.headers
    assert (
        parse({**REST_EVENT, "headers": headers, "multiValueHeaders": "text"}).headers["cache-control"] == "max-age=5"
    )


def test_a_query_cannot_end_the_request_line() -> None:
    request = parse({**URL_EVENT, "rawQueryString": "a=%20b&c= HTTP/1.1\r\nx: y#z"})
    assert request.clean_query == "a=%20b&c=%20HTTP/1.1%0D%0Ax:%20y%23z"


@pytest.mark.parametrize(
    ("own", "service", "query", "sent"),
    [
        ("", "", "", ""),
        ("", "", "a=1&a=2", "?a=1&a=2"),
        ("", "", "&a=%7e+b", "?&a=%7e+b"),
        ("v=1&x=y", "", "", "?v=1&x=y"),
        ("v=1&x=y", "", "a=1&v=2&%76=3&x&v.=4", "?v=1&x=y&a=1&v.=4"),
        ("v=1", "", "&&a", "?v=1&a"),
        ("", "bedrock", "&b+c=d/e=f&~g=%7e&h", "?b%20c=d%2Fe%3Df&~g=~&h"),
        ("v=1", "bedrock", "v=2&a b=1", "?v=1&a%20b=1"),
        ("", "bedrock", "&", ""),
    ],
)
def test_a_server_is_asked_with_its_own_query_and_what_else_the_client_says(
    own: str, service: str, query: str, sent: str
) -> None:
    server = Server("s", "http://a.test/v1", TokenReference("literal", ""), "m", auth=Auth(service=service), query=own)
    request = parse({**URL_EVENT, "rawQueryString": query})
    assert url_of(server, Target("s", "/x"), request) == f"http://a.test/v1/x{sent}"


@pytest.mark.parametrize(
    ("named", "own"),
    [("a", "a"), ("A-z_0.9:x", "A-z_0.9:x"), ("a" * 128, "a" * 128), ("a" * 129, None), ("a b", None), ("", None)],
)
def test_an_id_of_the_clients_is_kept_if_it_may_stand_in_a_header(named: str, own: str | None) -> None:
    assert parse({**URL_EVENT, "headers": {"x-request-id": named}}).own_id == own


def test_servers_see_these_headers_of_the_client_and_no_others() -> None:
    passed = {name: name for name in ("accept", "content-type", "idempotency-key", "openai-beta")}
    passed |= {"anthropic-version": "2023-06-01", "anthropic-beta": "x"}
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=b"}
    own = {
        "authorization": "Bearer k",
        "x-api-key": "k",
        "cookie": "c",
        "host": "h",
        "x-tags": "a=b",
        "user-agent": "u",
    }
    assert parse({**URL_EVENT, "headers": own | passed | trace}).forwarded_headers == passed | trace


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_the_methods_of_http_are_taken(method: str) -> None:
    assert parse({**REST_EVENT, "httpMethod": method}).method == method
    with pytest.raises(ClientError):
        parse({**REST_EVENT, "httpMethod": method.lower()})


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", ""])
def test_other_methods_are_not(method: str) -> None:
    with pytest.raises(ClientError):
        parse({**REST_EVENT, "httpMethod": method})


def test_a_body_of_the_limit_is_taken() -> None:
    assert len(parse({**URL_EVENT, "body": "x" * MAX_BODY_BYTES}).body) == MAX_BODY_BYTES == 6_291_456


@pytest.mark.parametrize(("packed", "body"), [(True, b"a"), ("true", b"a"), (False, b"YQ=="), ("false", b"YQ==")])
def test_what_says_that_a_body_is_packed(packed: Any, body: bytes) -> None:
    assert parse({**URL_EVENT, "body": "YQ==", "isBase64Encoded": packed}).body == body


@pytest.mark.parametrize(
    ("name", "is_refused"), [("accept", True), ("idempotency-key", True), ("x-odd", False), ("user-agent", False)]
)
def test_what_is_passed_on_is_printable(name: str, is_refused: bool) -> None:
    event = {**URL_EVENT, "headers": {name: "a\u200bb"}}
    if not is_refused:
        assert parse(event).headers[name] == "a\u200bb"
        return
    with pytest.raises(ClientError) as refused:
        parse(event)
    assert (refused.value.status, refused.value.code) == (400, "invalid_header")


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
        ("/v1/chat/completions", Target(None, "/chat/completions"), "chat"),
        ("/v1/models/openai/gpt-5", Target(None, "/models/openai/gpt-5"), "models"),
        ("/replicate/v1/models/meta%2Fllama-3", Target("replicate", "/models/meta%2Fllama-3"), "models"),
        ("/replicate/v1/models/meta%2fllama%2F3:x", Target("replicate", "/models/meta%2Fllama%2F3:x"), "models"),
        ("/v1/models/replicate%2Fmeta%2Fllama", Target(None, "/models/replicate%2Fmeta%2Fllama"), "models"),
        ("/openai/v1/files/v1/content", Target("openai", "/files/v1/content"), "files"),
        ("/openai/v1/models/v1", Target("openai", "/models/v1"), "models"),
        ("/openai/v1/files/v1/chat", Target("openai", "/files/v1/chat"), "files"),
        ("/openai/v1/threads/runs/v1/steps", Target("openai", "/threads/runs/v1/steps"), "other"),
        ("/a/v1/messages", Target("a", "/messages"), "chat"),
        ("/a/v1/messages/count_tokens", Target("a", "/messages/count_tokens"), "other"),
        ("/a/v1/messages/batches", Target("a", "/messages/batches"), "batches"),
        ("/a/v1/messages/batches/b_1/results", Target("a", "/messages/batches/b_1/results"), "batches"),
        ("/a/v1/messages/batcheses", Target("a", "/messages/batcheses"), "other"),
        ("/a/v1/embeddings", Target("a", "/embeddings"), "embeddings"),
        ("/a/v1/images/edits", Target("a", "/images/edits"), "images"),
        ("/a/v1/audio/speech", Target("a", "/audio/speech"), "audio"),
        ("/a/v1/moderations", Target("a", "/moderations"), "moderations"),
        ("/a/v1/batches/b", Target("a", "/batches/b"), "batches"),
        ("/a/v1/completions/x", Target("a", "/completions/x"), "text_completion"),
        ("/a/v1/chat/x", Target("a", "/chat/x"), "other"),
        ("/a/v1/models/Chat", Target("a", "/models/Chat"), "models"),
        ("/a/v1/models/a/Chat.1", Target("a", "/models/a/Chat.1"), "models"),
        ("/a/v1/files/Results.jsonl/content", Target("a", "/files/Results.jsonl/content"), "files"),
        ("/a/v1/files/completion.Search-1", Target("a", "/files/completion.Search-1"), "files"),
        ("/a/v1/a!$&'()*+,-.:;=@_~b", Target("a", "/a!$&'()*+,-.:;=@_~b"), "other"),
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
        "/v1",
        "/v1/",
        "//v1/models",
        "/v1/../models",
        "openai/v1/models",
        "/openai/v1/../../admin",
        "/openai/v1/./models",
        "/openai/v1//models",
        "//openai/v1/models",
        "/openai/v1/models/",
        "/openai/v1/%2e%2e/x",
        "/openai/v1/a%2fb",
        "/openai%2Fv1/models",
        "/a%2Fb/v1/models",
        "/openai/v1%2Fmodels",
        "/openai/v1/models%2Fa",
        "/openai/v1/models%2Fa%2Fb/c",
        "/openai/v1/x/models/a%2Fb",
        "/openai/v1/models/..%2f..%2fadmin",
        "/openai/v1/models/%2e%2e%2Fx",
        "/openai/v1/models/a%2F%2E%2E",
        "/openai/v1/models/a%2F..;x%2Fb",
        "/openai/v1/models/a%2F%2Fb",
        "/openai/v1/models/%2Fa",
        "/openai/v1/models/a%2F",
        "/openai/v1/models/a%2Fb%5c..",
        "/openai/v1/models/a%2Fb%00",
        "/v1/models/a%2F..%2Fb",
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


MISSPELLED = (
    "Chat/completions",
    "chat/Completions",
    "CHAT/COMPLETIONS",
    "chat;a=b/completions",
    "chat/completions;",
    "chat/completions.json",
    "chat/completions%20",
    "chat/%2563ompletions",
    "chat/%252563ompletions",
    "responses;jsessionid=1",
    "vector_stores/vs_1/Search",
    "Models",
    "engines/a/Completions",
)
"""What some server takes for a path of the API."""


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("/v1/v1/chat/completions", "/v1 twice"),
        ("/v1/v1", "/v1 twice"),
        ("/openai/v1/v1/chat/completions", "/v1 twice"),
        ("/openai/v1/%76%31/models", "/v1 twice"),
        ("/openai/v1/openai/v1/chat/completions", "/v1 twice"),
        ("/v1/openai/v1/chat/completions", "/v1 twice"),
        ("/openai/openai/v1/chat/completions", "names its server twice"),
        ("/openai/v1/chat/completions/v1/chat/completions", "/v1 twice"),
        ("/openai/v1/chat/completions/v1/models", "/v1 twice"),
        ("/openai/v1/chat/completions/chat/completions", "endpoint twice"),
        ("/v1/responses/responses", "endpoint twice"),
        ("/v1/openai/v1/rerank", "/v1 twice"),
        ("/openai/v1/openai/v1/rerank/x", "/v1 twice"),
        *((f"/openai/v1/{path}", "as the API does") for path in MISSPELLED),
    ],
)
def test_a_path_with_a_part_twice_gets_the_remedy(path: str, remedy: str) -> None:
    with pytest.raises(ClientError) as refused:
        target_of(path)
    assert (refused.value.status, refused.value.code) == (404, "unknown_path")
    assert remedy in refused.value.message


@given(st.lists(st.sampled_from(["a", "..", ".", "", ";", "..;x", "%2f", "%2F", "/", "%2e", "%5C", "models"])))
def test_no_model_leaves_its_segment(parts: list[str]) -> None:
    path = "/s/v1/models/" + "".join(parts)
    try:
        target = target_of(path)
    except ClientError:
        return
    assert target.path.count("/") == path.count("/") - 2, "no slash was made or lost"
    assert not {"", ".", ".."} & {name.partition(";")[0] for name in unquote(target.path[1:]).split("/")}


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
