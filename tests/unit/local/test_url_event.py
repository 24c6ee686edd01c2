import base64
import json
from typing import Any

import pytest

from local.http.server import Headers, Request
from local.lambda_.url_event import UrlIdentity, build_event

URL = UrlIdentity.from_url("https://abc123.lambda-url.us-east-1.on.aws/")


def event_of(target: str = "/", headers: Headers = (), body: bytes = b"", method: str = "POST") -> dict[str, Any]:
    return json.loads(
        build_event(Request(method, target, headers, "127.0.0.1"), body, URL, "Root=1-a-b", 1583348638.39)
    )


def test_envelope_is_that_of_a_function_url():
    event = event_of("/my/path?a=1", [("user-agent", "agent")], method="GET")
    assert event["version"] == "2.0"
    assert event["routeKey"] == "$default"
    assert event["headers"]["host"] == "abc123.lambda-url.us-east-1.on.aws"
    assert event["headers"]["x-amzn-trace-id"] == "Root=1-a-b"
    context = event["requestContext"]
    assert context["http"] == {
        "method": "GET",
        "path": "/my/path",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "agent",
    }
    assert (context["accountId"], context["apiId"], context["domainPrefix"]) == ("anonymous", "abc123", "abc123")
    assert (context["time"], context["timeEpoch"]) == ("04/Mar/2020:19:03:58 +0000", 1583348638390)


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/a%2Fb/../c//d%20e?x=%20y&x", "/a%2Fb/../c//d%20e", "x=%20y&x"),
        ("/?", "/", ""),
        ("http://127.0.0.1:8080/a?b=c", "/a", "b=c"),
        ("http://127.0.0.1:8080", "/", ""),
        ("*", "/*", ""),
        ("//host/path", "//host/path", ""),
    ],
)
def test_path_and_query_stay_as_sent(target: str, path: str, query: str):
    event = event_of(target)
    assert (event["rawPath"], event["requestContext"]["http"]["path"], event["rawQueryString"]) == (path, path, query)


def test_query_parameters_are_decoded_and_joined():
    assert event_of("/?x=1&x=a%20b&empty=")["queryStringParameters"] == {"x": "1,a b", "empty": ""}
    assert event_of('/?te="%0a')["queryStringParameters"] == {"te": '"\n'}
    assert "queryStringParameters" not in event_of("/")


def test_repeated_headers_are_joined_and_those_of_the_connection_dropped():
    sent = [("x-a", "1"), ("connection", "keep-alive"), ("x-a", "2"), ("transfer-encoding", "chunked"), ("expect", "x")]
    headers = event_of(headers=sent)["headers"]
    assert headers["x-a"] == "1,2"
    assert not {"connection", "transfer-encoding", "expect"} & headers.keys()


def test_cookies_are_listed_too():
    event = event_of(headers=[("cookie", "a=1; b=2"), ("cookie", "c=3")])
    assert event["cookies"] == ["a=1", "b=2", "c=3"]
    assert event["headers"]["cookie"] == "a=1; b=2; c=3"
    assert "cookies" not in event_of()


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "Application/JSON; charset=utf-8"])
def test_text_arrives_as_text(content_type: str):
    event = event_of(headers=[("content-type", content_type)], body='{"a":"ü"}'.encode())
    assert (event["body"], event["isBase64Encoded"]) == ('{"a":"ü"}', False)
    assert event["headers"]["content-length"] == "10"


@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=x", "application/octet-stream", ""])
def test_other_bytes_arrive_as_base64(content_type: str):
    event = event_of(headers=[("content-type", content_type)] if content_type else [], body=b"\0\xff")
    assert base64.b64decode(event["body"]) == b"\0\xff"
    assert event["isBase64Encoded"] is True


def test_text_that_is_none_arrives_as_base64():
    event = event_of(headers=[("content-type", "application/json")], body=b'{"a":"\xff"}')
    assert base64.b64decode(event["body"]) == b'{"a":"\xff"}'
    assert event["isBase64Encoded"] is True


def test_no_body_is_no_member():
    event = event_of(method="GET")
    assert "body" not in event
    assert event["isBase64Encoded"] is False
