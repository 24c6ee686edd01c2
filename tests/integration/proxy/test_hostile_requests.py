"""Requests that were written to do harm, at the relay, over real sockets.

Whatever the event: the proxy connects to servers of its file only, each gets its own token, and of the client's headers
those on the allow-list; and a key that is limited to some models has no way to say another.
"""

import base64
import email.message
import email.parser
import email.policy
import gzip
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from authorizer.authorizer import Authorizer as KeyAuthorizer
from aws_lambda_powertools import Logger
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai_proxy.client_keys import hash_client_key, new_client_key
from proxy.access.authenticator import Authorizer, AuthorizerFunction
from proxy.http.http1 import Connection as ClientConnection
from proxy.http.pool import Pool
from proxy.records.publisher import Publisher
from proxy.records.records import Records

from tests.examples import examples
from tests.fakes import Connection, Received, RecordedResponse, ScriptedServer
from tests.relays import TOKEN, USAGE, Proxy, error_of, proxy

ANSWER = json.dumps({"usage": USAGE}).encode()
TOKENS = {"base": TOKEN, "again": TOKEN, "first": "one", "named": "t", "spare": "t", "hasty": "t", "frail": "t"}
"""The first segment of a server's address in tests/relays.py, and the token of that server."""
FROM_CLIENT = {"accept", "content-type", "idempotency-key", "openai-beta", "anthropic-version", "anthropic-beta"}
OWN = {"host", "user-agent", "accept-encoding", "authorization", "content-length"}
CONTROLS = {chr(code) for code in [*range(32), 127]}
FORBIDDEN_IN_A_SEGMENT = CONTROLS | set("/\\")
LARGEST_EVENT = 256 * 1024
"""Bytes that EventBridge takes as one entry."""


def answering(connection: Connection, request: Received) -> None:
    connection.answer(b"" if request.method == "HEAD" else ANSWER)


class WatchedPool(Pool):
    """Keeps who was really connected to: the other end of each socket that a request went out on."""

    def __init__(self, pool: Pool) -> None:
        super().__init__(pool.tls)
        self.peers: set[tuple[str, int]] = set()

    def connect(self, url: str, timeout: float, *, fresh: bool = False) -> tuple[ClientConnection, str, str]:
        connected = super().connect(url, timeout, fresh=fresh)
        self.peers.add(connected[0].sock.getpeername()[:2])
        return connected


class QuickBus:
    """Takes events as they are: the schemas are checked often enough elsewhere, and take ten times a request's time."""

    def __init__(self, details: list[tuple[str, dict[str, Any]]]) -> None:
        self._details = details

    def put_events(self, entries: list[dict[str, str]], _timeout: float) -> list[dict[str, Any]]:
        self._details += [(entry["DetailType"], json.loads(entry["Detail"])) for entry in entries]
        return [{"EventId": "e"} for _ in entries]


class Watched:
    """A proxy, its upstream server and its pool, for one event after another."""

    def __init__(self, relay: Proxy, server: ScriptedServer) -> None:
        transport = relay.transport
        self.relay, self.server, self.pool = relay, server, WatchedPool(transport._pool)
        self.events: list[dict[str, Any]] = []
        transport._pool = self.pool
        relay.use(records=Records(Publisher(cast("Any", QuickBus(relay.bus.details)), "bus")))

    def serve(self, event: Any) -> tuple[RecordedResponse, list[Received]]:
        """The answer to `event`, and what servers got because of it; checked in every way that holds for all events."""
        received, response, published = len(self.server.received), RecordedResponse(), len(self.relay.bus.details)
        self.pool.peers.clear()
        self.relay.relay.serve(event, response, time.time() + 60)
        assert response.ended
        assert 200 <= response.status < 600
        assert all(f"{name}{value}".isprintable() for name, value in response.headers.items())
        self.events = [detail for _, detail in self.relay.bus.details[published:]]
        assert len(self.events) <= 1
        for request in self.server.received[received:]:
            self.check(request)
        assert self.pool.peers <= {("127.0.0.1", self.server.port)}
        return response, self.server.received[received:]

    def check(self, request: Received) -> None:
        """The request is for a server of the file, with its token, and without what the client must not say."""
        parts = urlsplit(request.target)
        _, base, *rest = parts.path.split("/")
        assert (parts.scheme, parts.netloc, parts.fragment) == ("", "", "")
        assert request.target.isascii()
        assert request.target.isprintable()
        names = "/".join(rest[2:]) if rest[1:2] == ["models"] else ""  # an encoded slash may stand in a model's name
        inner = unquote(names).split("/") if names else [unquote(each) for each in rest[2:]]
        for decoded in (rest, [unquote(each) for each in rest[:2]], inner):
            assert not {"", ".", ".."} & set(decoded)
            assert not [each for each in decoded if set(each) & FORBIDDEN_IN_A_SEGMENT]
        assert request.headers["host"] == f"127.0.0.1:{self.server.port}"
        assert request.headers["authorization"] == f"Bearer {TOKENS[base]}"
        assert request.headers.keys() <= FROM_CLIENT | OWN
        assert request.headers["user-agent"] == "openai-proxy"
        assert int(request.headers.get("content-length", "0")) == len(request.body)


ProxyFor = Callable[..., Watched]


@pytest.fixture(scope="module")
def proxy_for() -> Iterator[ProxyFor]:
    """A proxy for a key that may do this and that: `proxy_for(models="a,b")`; the same one for the same key."""
    made: dict[Any, Watched] = {}
    with ExitStack() as running:

        def get(**allowed: str) -> Watched:
            if (key := tuple(allowed.items())) not in made:
                made[key] = Watched(*running.enter_context(proxy(answering, allowed)))
            return made[key]

        yield get


@pytest.fixture(scope="module")
def watched(proxy_for: ProxyFor) -> Watched:
    return proxy_for()


def url_event(
    path: str = "/up/v1/chat/completions",
    *,
    method: str = "POST",
    headers: Any = None,
    query: str = "",
    body: str | bytes = '{"model": "m"}',
) -> dict[str, Any]:
    """A function URL's event for the key that tests/relays.py knows."""
    text = body if isinstance(body, str) else base64.b64encode(body).decode()
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": query,
        "headers": {"authorization": "Bearer good", "content-type": "application/json", **(headers or {})},
        "requestContext": {"http": {"method": method}},
        "body": text,
        "isBase64Encoded": isinstance(body, bytes),
    }


def rest_event(
    path: str, *, method: str = "POST", headers: dict[str, str] | None = None, query: Any = None
) -> dict[str, Any]:
    """The REST API's event for a key that its authorizer has let in."""
    return {
        "httpMethod": method,
        "path": path,
        "headers": {"Content-Type": "application/json", **(headers or {})},
        "multiValueHeaders": {name: [value] for name, value in (headers or {}).items()},
        "multiValueQueryStringParameters": query,
        "requestContext": {"authorizer": {"client_id": "team-a"}, "domainName": "evil.example"},
        "body": '{"model": "m"}',
        "isBase64Encoded": False,
    }


# ---------------------------------------------------------------------------------------------------- paths and methods


@pytest.mark.parametrize("door", [url_event, rest_event])
@pytest.mark.parametrize(
    "path",
    [
        "//evil.example/v1/models",
        "///evil.example/v1/models",
        "http://evil.example/v1/models",
        "/http://evil.example/v1/models",
        "/http:%2f%2fevil.example/v1/models",
        "/@evil.example/v1/models",
        "/up@evil.example/v1/models",
        "/up:8080/v1/models",
        "/up.evil.example/v1/models",
        "/evil.example/v1/models",
        "/169.254.169.254/v1/models",
        "/up%2e/v1/models",
        "/up%20/v1/models",
        "/up;x=1/v1/models",
        "/up%00/v1/models",
        "/up#/v1/models",
        "/UP/v1/models",
        "/ｕｐ/v1/models",  # noqa: RUF001  # full-width letters, which some normalisations make plain ones
        "/u\u0440/v1/models",
        "/..%2fup/v1/models",
        "/up/..%2f..%2fv1/models",
        "/up/v1/../../latest/meta-data",
        "/up/v1/%2e%2e/%2e%2e/latest/meta-data",
        "/up/v1/%252e%252e%255c/..",
        "/up/v1//evil.example/models",
        "/up/v1/files/..%5c..%5cadmin",
        "/up/v1/files/%c0%ae%c0%ae/admin",
        "/up/v1/..;/admin",
        "/up/v1/files/..;x=1/..;/admin",
        "/up/v1/%2e%2e;/admin",
    ],
)
def test_a_path_that_tries_to_leave_reaches_nobody(watched: Watched, path: str, door: Any) -> None:
    response, received = watched.serve(door(path, method="GET"))
    assert (response.status, received) == (404, [])
    assert watched.pool.peers == set()


@pytest.mark.parametrize("door", [url_event, rest_event])
@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/up/v1/@evil.example", "/base/v1/@evil.example"),
        ("/up/v1/evil.example:443", "/base/v1/evil.example:443"),
        ("/up/v1/http:evil", "/base/v1/http:evil"),
        ("/up/v1/%252e%252e/x", "/base/v1/%252e%252e/x"),
        ("/up/v1/models/a b?c#d", "/base/v1/models/a%20b%3Fc%23d"),
        ("/up/v1/models/meta%2Fllama-3", "/base/v1/models/meta%2Fllama-3"),
    ],
)
def test_a_strange_path_stays_with_its_server(watched: Watched, path: str, target: str, door: Any) -> None:
    _, [request] = watched.serve(door(path, method="GET"))
    assert request.target == target


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("url=http://evil.example&base_url=//evil", "url=http://evil.example&base_url=//evil"),
        ("a=1 HTTP/1.1\r\nhost: evil.example\r\n\r\n", "a=1%20HTTP/1.1%0D%0Ahost:%20evil.example%0D%0A%0D%0A"),
        ("#@evil.example/", "%23@evil.example/"),
        ("?//evil.example", "?//evil.example"),
    ],
)
def test_a_query_changes_nothing_but_the_query(watched: Watched, query: str, sent: str) -> None:
    _, [request] = watched.serve(url_event(query=query))
    assert request.target == f"/base/v1/chat/completions?{sent}"


@pytest.mark.parametrize("door", [url_event, rest_event])
@pytest.mark.parametrize(
    "method",
    [
        *("get", "Get", "GET /evil", "GET\r\n", "POST\n", "", "G", "PROPFIND", "M-SEARCH", "ＧＥＴ"),  # noqa: RUF001
        "TRACE",  # a server that obeys it repeats the request, token included
        "CONNECT",
        "PURGE",
    ],
)
def test_a_method_that_no_api_of_models_has(watched: Watched, method: str, door: Any) -> None:
    response, received = watched.serve(door("/up/v1/models", method=method))
    assert (response.status, received) == (400, [])


# ------------------------------------------------------------------------------------------------------------- headers


def test_no_header_changes_where_a_request_goes_or_what_it_says(watched: Watched) -> None:
    hostile = {
        **dict.fromkeys(("host", "Host ", "x-forwarded-host", "x-host", "x-forwarded-server"), "evil.example"),
        **dict.fromkeys(("x-original-url", "x-rewrite-url", "x-forwarded-prefix", "x-original-uri"), "/admin"),
        **dict.fromkeys(("forwarded", "via", "x-forwarded-for", "x-real-ip", "true-client-ip"), "for=127.0.0.1"),
        **dict.fromkeys(("x-http-method-override", "x-http-method", "x-method-override"), "DELETE"),
        **dict.fromkeys(("proxy-authorization", "x-api-key", "api-key", "x-goog-api-key"), "Bearer stolen"),
        **dict.fromkeys(("openai-organization", "openai-project", "x-litellm-api-key"), "other"),
        **dict.fromkeys(("base_url", "api_base", "x-base-url", "x-upstream", "x-portkey-custom-host"), "http://evil"),
        "connection": "authorization, content-length",
        "keep-alive": "x",
        "upgrade": "h2c",
        "te": "trailers",
        "transfer-encoding": "chunked",
        "content-length": "0",
        "trailer": "authorization",
        "expect": "100-continue",
        "accept-encoding": "gzip",
        "user-agent": "evil",
        "cookie": "session=1",
        "origin": "https://evil.example",
        "referer": "https://evil.example",
        "range": "bytes=0-1",
        "if-none-match": "*",
        "x-request-id": "r-1",
    }
    for event in (url_event(headers=hostile), rest_event("/up/v1/chat/completions", headers=hostile)):
        response, [request] = watched.serve(event)
        assert response.status == 200
        assert request.headers.keys() == OWN | {"content-type"}
        assert (request.method, request.target, request.body) == (
            "POST",
            "/base/v1/chat/completions",
            b'{"model": "m"}',
        )


def test_a_body_that_contains_a_request_is_a_body(watched: Watched) -> None:
    smuggled = "0\r\n\r\nGET /admin HTTP/1.1\r\nhost: evil.example\r\n\r\n"
    framing = {"transfer-encoding": "chunked", "content-length": "3", "content-type": "application/octet-stream"}
    for _ in range(2):
        _, [request] = watched.serve(url_event("/up/v1/files", headers=framing, body=smuggled))
        assert (request.method, request.target) == ("POST", "/base/v1/files")
        assert request.body == smuggled.encode()


@pytest.mark.parametrize("name", sorted(FROM_CLIENT))
@pytest.mark.parametrize(
    "value",
    [
        *(
            "a\r\nauthorization: Bearer x",
            "a\nb",
            "a\rb",
            "a\x00b",
            "a\x0bb",
            "a\x1fb",
            "a\x7fb",
            "\r\n\r\nGET / HTTP/1.1",
        ),
        *(f"a{character}b" for character in "\x85\xa0\u2028\u200b"),
    ],
)
def test_a_header_that_could_be_two_is_refused(watched: Watched, name: str, value: str) -> None:
    response, received = watched.serve(url_event(headers={name: value}))
    assert (response.status, received) == (400, [])


def test_a_header_beyond_latin_letters_is_still_one_header(watched: Watched) -> None:
    response, [request] = watched.serve(url_event(headers={"idempotency-key": "ключ-\u010d\u010a"}))
    assert response.status == 200
    assert request.headers["idempotency-key"] == "????-??", "U+010D and U+010A end in the bytes of CR and LF"


def test_a_server_cannot_speak_for_the_proxy_or_to_the_browser() -> None:
    def script(connection: Connection, _: Received) -> None:
        more = (
            "x-inference-id: forged\r\nx-served-by: forged\r\nx-attempts: 9\r\nx-request-id: theirs\r\n"
            "access-control-allow-origin: https://evil.example\r\naccess-control-allow-credentials: true\r\n"
            "set-cookie: s=1\r\nlocation: http://evil.example/\r\nwww-authenticate: Basic\r\n"
            "strict-transport-security: max-age=0\r\nalt-svc: h3=evil\r\nlink: <http://evil>\r\n"
            "connection: keep-alive, content-type\r\nkeep-alive: timeout=5\r\nopenai-x: a\x85b\r\nx-evil: 1\r\n"
            "x-cache: HIT\r\nx-cache-saved: 1 USD\r\nage: 9\r\n"
        )
        connection.send(
            f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n{more}\r\n{{}}".encode(
                "latin-1"
            )
        )

    with proxy(script) as (relay, _):
        response = relay.call({"model": "m"})
        inference_id = relay.bus.details[0][1]["metadata"]["id"]
    told_by_the_proxy = ("x-inference-id", "x-request-id", "x-served-by", "x-attempts")
    told = {name: response.headers[name] for name in told_by_the_proxy}
    assert told == {
        "x-inference-id": inference_id,
        "x-request-id": inference_id,
        "x-served-by": "up",
        "x-attempts": "1",
    }
    assert (response.headers["access-control-allow-origin"], response.headers["cache-control"]) == ("*", "no-cache")
    assert response.headers.keys() <= {
        *told,
        *("content-type", "x-upstream-request-id", "x-served-model", "server-timing", "cache-control"),
        *("access-control-allow-origin", "access-control-expose-headers", "x-content-type-options"),
    }


@pytest.mark.parametrize("status", ["400 Bad Request", "403 Forbidden", "429 Too Many Requests", "500 Oops"])
@pytest.mark.parametrize(
    ("body", "more"),
    [
        (b"<html>%s</html>", ""),
        (b'{"no": "error", "seen": "%s"}', ""),
        pytest.param(b'{"error": {"message": "Wrong key: %s", "type": "t", "code": null}}', ""),
        pytest.param(b'{"detail": "Wrong key: %s"}', ""),
        (b'{"error": {"message": "no"}}', f"openai-organization: {TOKEN}\r\n"),
    ],
)
def test_an_error_of_a_server_does_not_show_the_token(status: str, body: bytes, more: str) -> None:
    quoted = body.replace(b"%s", TOKEN.encode())
    kind = "text/html" if body.startswith(b"<") else "application/json"
    with proxy(lambda connection, _: connection.answer(quoted, status, kind, more)) as (relay, _):
        response = relay.call({"model": "m"})
    assert response.status == int(status[:3])
    assert TOKEN not in response.body.decode() + json.dumps(dict(response.headers)) + json.dumps(relay.bus.details)


# ------------------------------------------------------------------------------------------------------- authorization

KEY = new_client_key()
ITEM = {"key_hash": hash_client_key(KEY), "client_id": "team-a", "name": "Team A", "enabled": True}


@pytest.fixture(scope="module")
def judged(proxy_for: ProxyFor) -> Watched:
    """A proxy whose keys are judged by the real authorizer."""
    watched = proxy_for(key="judged by the real one")
    TwoFunctions(watched)
    return watched


class TwoFunctions:
    """The proxy's authorization and the authorizer function, one asking the other as on Lambda."""

    def __init__(self, watched: Watched) -> None:
        self.judge = KeyAuthorizer(self, Logger(service="test"))
        watched.relay.use(authenticator=Authorizer(AuthorizerFunction(self.invoke, "authorizer", "eu-central-1"), 60))

    def find(self, key_hash: str) -> dict[str, Any] | None:
        return ITEM if key_hash == ITEM["key_hash"] else None

    def invoke(self, _function: str, payload: bytes) -> tuple[bytes, bool]:
        try:
            return json.dumps(self.judge(json.loads(payload))).encode(), False
        except Exception as error:  # noqa: BLE001  # as Lambda's runtime does
            return json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)}).encode(), True


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"authorization": f"Bearer {KEY}"}, 200, None),
        ({"Authorization": f"bearer {KEY}"}, 200, None),
        ({"authorization": f"  BEARER   {KEY}  "}, 200, None),
        ({}, 401, "invalid_api_key"),
        ({"authorization": ""}, 401, "invalid_api_key"),
        ({"authorization": "Bearer"}, 401, "invalid_api_key"),
        ({"authorization": "Bearer "}, 401, "invalid_api_key"),
        ({"authorization": KEY}, 401, "invalid_api_key"),
        ({"authorization": f"Basic {base64.b64encode(KEY.encode()).decode()}"}, 401, "invalid_api_key"),
        ({"authorization": f"Basic {KEY}"}, 401, "invalid_api_key"),
        ({"authorization": f"Bearer {KEY},Bearer {KEY}"}, 401, "invalid_api_key"),
        ({"authorization": f"Bearer x,Bearer {KEY}"}, 401, "invalid_api_key"),
        ({"authorization": f"Bearer {KEY}, x"}, 401, "invalid_api_key"),
        ({"authorization": f"Bearer {KEY} x"}, 401, "invalid_api_key"),
        ({"authorization": f"Bearer Bearer {KEY}"}, 401, "invalid_api_key"),
        ({"authorization": f'Bearer "{KEY}"'}, 401, "invalid_api_key"),
        ({"authorization": f"Bearer {KEY.swapcase()}"}, 401, "invalid_api_key"),
        ({"authorization": f"Bearer {KEY[:-1]}"}, 401, "invalid_api_key"),
        ({"authorization": f"Bearer {KEY}\u00a0"}, 401, "invalid_api_key"),
        ({"authorization": f"Bearer {KEY.replace('o', chr(0x43E), 1)}"}, 401, "invalid_api_key"),
        ({"authorization": "Bearer ' OR '1'='1"}, 401, "invalid_api_key"),
        ({"authorization": f"Bearer {hash_client_key(KEY)}"}, 401, "invalid_api_key"),
        ({"authorization": f"Bearer {'a' * 100_000}"}, 401, "invalid_api_key"),
        ({"authorization": [f"Bearer {KEY}"]}, 401, "invalid_api_key"),
        ({"authorization": {"a": f"Bearer {KEY}"}}, 401, "invalid_api_key"),
        ({"authorization": f"Bearer {KEY}\r\n"}, 400, "invalid_header"),
        ({"authorization": f"Bearer {KEY}\x00"}, 400, "invalid_header"),
        ({"cookie": f"authorization=Bearer {KEY}; x-api-key={KEY}"}, 401, "invalid_api_key"),
        ({"x-api-key": KEY}, 200, None),
        ({"API-Key": f" {KEY} "}, 200, None),
        ({"x-api-key": KEY, "api-key": KEY}, 200, None),
        ({"x-api-key": KEY, "authorization": ""}, 200, None),
        ({"x-api-key": KEY, "api-key": "  "}, 200, None),
        ({"x-api-key": "another", "authorization": f"Bearer {KEY}"}, 200, None),
        ({"x-api-key": KEY, "authorization": "Bearer another"}, 401, "invalid_api_key"),
        ({"x-api-key": KEY, "authorization": "Bearer"}, 401, "invalid_api_key"),
        ({"x-api-key": KEY, "authorization": f"Basic {KEY}"}, 401, "invalid_api_key"),
        ({"x-api-key": KEY, "api-key": "another"}, 401, "invalid_api_key"),
        ({"x-api-key": "another", "api-key": KEY}, 401, "invalid_api_key"),
        ({"x-api-key": f"{KEY},{KEY}"}, 401, "invalid_api_key"),
        ({"x-api-key": f"Bearer {KEY}"}, 401, "invalid_api_key"),
        ({"x-api-key": ""}, 401, "invalid_api_key"),
        ({"api-key": f"{KEY}\u00a0"}, 401, "invalid_api_key"),
        ({"api-key": f"{KEY}\u200b"}, 401, "invalid_api_key"),
        ({"api-key": hash_client_key(KEY)}, 401, "invalid_api_key"),
        ({"x-api-key": [KEY]}, 401, "invalid_api_key"),
        ({"x-api-key": f"{KEY}\r\n"}, 400, "invalid_header"),
        ({"x_api_key": KEY, "apikey": KEY, "x-goog-api-key": KEY, "ocp-apim-subscription-key": KEY}, 401, None),
        ({"proxy-authorization": f"Bearer {KEY}", "x-authorization": f"Bearer {KEY}"}, 401, "invalid_api_key"),
        ({"authorization ": f"Bearer {KEY}"}, 401, "invalid_api_key"),
        ({"authorizat\u0131on": f"Bearer {KEY}"}, 401, "invalid_api_key"),
    ],
)
def test_one_good_key_and_nothing_else_lets_in(judged: Watched, headers: Any, status: int, code: str | None) -> None:
    event = url_event(query=f"api_key={KEY}&authorization=Bearer%20{KEY}")
    event["headers"] = {"content-type": "application/json", **headers}
    response, received = judged.serve(event)
    assert response.status == status
    assert bool(received) is (status == 200)
    assert code is None or error_of(response)["code"] == code
    assert KEY not in response.body.decode() + json.dumps(dict(response.headers)) + json.dumps(judged.events)


# -------------------------------------------------------------------------------------------------------- packed bodies


@pytest.mark.parametrize("door", ["function_url", "rest_api"])
def test_a_server_gets_a_packed_body_as_it_was(watched: Watched, door: str) -> None:
    body = '{"model": "mödel", "messages": []}'.encode()
    event = url_event(headers={"Content-Encoding": "gzip, X-GZIP"}, body=gzip.compress(gzip.compress(body)))
    if door == "rest_api":
        rest = rest_event("/up/v1/chat/completions", headers=event["headers"])
        event = rest | {"body": event["body"], "isBase64Encoded": True}
    response, [request] = watched.serve(event)
    assert (response.status, request.body) == (200, body)
    assert "content-encoding" not in request.headers
    assert request.headers["content-length"] == str(len(body))
    [detail] = watched.events
    assert (detail["data"]["request"]["size"], detail["data"]["request"]["model"]) == (len(body), "mödel")


@pytest.mark.parametrize(
    ("encoding", "body", "status", "code"),
    [
        ("br", b"x", 415, "unsupported_encoding"),
        ("gzip", b"x", 400, "invalid_body"),
        ("gzip", gzip.compress(bytes(7 * 1024 * 1024)), 413, "request_too_large"),
        ("gzip", gzip.compress(b'{"model": "forbidden"}'), 403, "model_not_allowed"),
        ("gzip", gzip.compress(b'{"model": "allowed", "model": "forbidden"}'), 400, "invalid_json"),
    ],
    ids=["br", "broken", "bomb", "model", "twice"],
)
def test_a_packed_body_passes_no_check_unseen(
    proxy_for: ProxyFor, encoding: str, body: bytes, status: int, code: str
) -> None:
    relay = proxy_for(models="allowed")
    response, received = relay.serve(url_event(headers={"content-encoding": encoding}, body=body))
    assert (response.status, error_of(response)["code"], received) == (status, code, [])
    [detail] = relay.events
    assert detail["data"]["error"]["type"] == code, "the request was authorised: it has its event"


def test_a_packed_body_is_not_looked_at_without_a_key(judged: Watched) -> None:
    event = url_event(headers={"content-encoding": "gzip", "authorization": "Bearer x"}, body=b"no gzip")
    response, received = judged.serve(event)
    assert (response.status, error_of(response)["code"], received) == (401, "invalid_api_key", [])


# ---------------------------------------------------------------------------------------------------- model allow-lists


def part(disposition: str, value: str, more: str = "") -> str:
    return f"--b\r\nContent-Disposition: form-data; {disposition}\r\n{more}\r\n{value}\r\n"


FORM = "multipart/form-data; boundary=b"
GOOD = part('name="model"', "allowed")
TRICKS: dict[str, tuple[str, str | bytes]] = {
    "twice": ("application/json", '{"model": "allowed", "model": "forbidden"}'),
    "twice-backwards": ("application/json", '{"model": "forbidden", "model": "allowed"}'),
    "escaped": ("application/json", '{"model": "allowed", "\\u006d\\u006fdel": "forbidden"}'),
    "two-documents": ("application/json", '{"model": "allowed"}{"model": "forbidden"}'),
    "two-lines": ("application/x-ndjson", '{"model": "allowed"}\n{"model": "forbidden"}'),
    "no-type": ("", '{"model": "forbidden"}'),
    "text": ("text/plain", '{"model": "forbidden"}'),
    "form": ("application/x-www-form-urlencoded", "model=allowed&model=forbidden"),
    "utf-16": ("application/json; charset=utf-16", '{"model": "forbidden"}'.encode("utf-16")),
    "utf-7": ("application/json; charset=utf-7", b"+AHsAIg-model+ACIAOgAi-forbidden+ACIAfQ-"),
    "bom": ("application/json", '\ufeff{"model": "forbidden"}'),
    "upload-twice": (FORM, GOOD + part('name="model"', "forbidden") + "--b--\r\n"),
    "upload-quoted-boundary": (
        'multipart/form-data; boundary="b"; x=1',
        GOOD + part("name=model", "forbidden") + "--b--\r\n",
    ),
    "upload-bare-line-ends": (FORM, (GOOD + part('name="model"', "forbidden") + "--b--\r\n").replace("\r\n", "\n")),
}
OPEN_TRICKS: dict[str, tuple[str, str | bytes]] = {
    "other-case": ("application/json", '{"model": "allowed", "Model": "forbidden"}'),
    "other-case-alone": ("application/json", '{"MODEL": "forbidden"}'),
    "form-that-is-json": (
        "application/x-www-form-urlencoded; x=json",
        '{"model":"allowed","x":"&model=forbidden&y="}',
    ),
    "upload-other-parameter": (FORM, GOOD + part('name="model"; filenamex="a"', "forbidden") + "--b--\r\n"),
    "upload-empty-filename": (FORM, GOOD + part('name="model"; filename=""', "forbidden") + "--b--\r\n"),
    "upload-blanks": (FORM, GOOD + part('name = "model"', "forbidden") + "--b--\r\n"),
    "upload-blank-after": (FORM, GOOD + part("name=model ; x=1", "forbidden") + "--b--\r\n"),
    "upload-two-dispositions": (
        FORM,
        GOOD + part('name="x"\r\nContent-Disposition: form-data; name="model"', "forbidden") + "--b--\r\n",
    ),
    "upload-folded": (FORM, GOOD + part('x="1";\r\n name="model"', "forbidden") + "--b--\r\n"),
    "upload-extended": (FORM, GOOD + part("name*=utf-8''model", "forbidden") + "--b--\r\n"),
    "upload-two-boundaries": (
        "multipart/form-data; xboundary=a; boundary=b",
        GOOD.replace("--b", "--a") + "--a--\r\n" + part('name="model"', "forbidden") + "--b--\r\n",
    ),
}
"""Bodies that name a model of the key's to the proxy, and another to servers that read them in their own way."""


def models_in(content_type: str, body: bytes, query: str = "") -> set[str]:
    """Every model that some server would read: first or last of two names, in any case, in any of the formats."""
    found = (
        set(parse_qs(query).get("model", [])) | set(_models_in_json(body)) | set(_models_in_form(content_type, body))
    )
    return found | set(parse_qs(body.decode("latin-1")).get("model", []))


def _models_in_json(body: bytes) -> Iterator[str]:
    for encoding in ("utf-8-sig", "utf-16", "utf-7"):
        try:
            text = body.decode(encoding)
        except UnicodeDecodeError:
            continue
        decoder = json.JSONDecoder(object_pairs_hook=lambda pairs: pairs)
        for start in (position for position, character in enumerate(text) if character == "{"):
            try:
                pairs, _ = decoder.raw_decode(text, start)
            except ValueError:
                continue
            yield from (str(value) for name, value in pairs if name.lower() == "model")


def _models_in_form(content_type: str, body: bytes) -> Iterator[str]:
    """As lenient servers read them: continued lines, blanks, other parameters, and the last of two headers."""
    for data in (body, body.replace(b"\n", b"\r\n")):
        head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
        document = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(head + data)
        for each in document.walk():
            for disposition in each.get_all("content-disposition") or []:
                field = email.message.Message()
                field["content-disposition"] = disposition
                name = field.get_param("name", header="content-disposition")
                if (name[2] if isinstance(name, tuple) else name) == "model" and not field.get_filename():
                    yield str(each.get_payload()).strip()


def as_bytes(body: str | bytes) -> bytes:
    return body if isinstance(body, bytes) else body.encode()


@pytest.mark.parametrize("trick", TRICKS | OPEN_TRICKS)
def test_the_tricks_are_tricks(trick: str) -> None:
    content_type, body = (TRICKS | OPEN_TRICKS)[trick]
    assert "forbidden" in models_in(content_type, as_bytes(body))


@pytest.mark.parametrize("path", ["/up/v1/chat/completions", "/up/v1/audio/transcriptions"])
@pytest.mark.parametrize("trick", [*TRICKS, *OPEN_TRICKS])
def test_a_key_of_one_model_cannot_say_another(proxy_for: ProxyFor, trick: str, path: str) -> None:
    content_type, body = (TRICKS | OPEN_TRICKS)[trick]
    event = url_event(path, headers={"content-type": content_type}, body=as_bytes(body))
    response, received = proxy_for(models="allowed,default-model").serve(event)
    assert received or response.status in (400, 403)
    for request in received:
        assert "forbidden" not in models_in(request.headers.get("content-type", ""), request.body)


def json_with(**fields: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps({"model": "allowed", "messages": [], **fields}).encode()


ANOTHER_MODEL: dict[str, tuple[str, bytes]] = {
    "openrouter": json_with(models=["forbidden"], route="fallback"),
    "openrouter-preset": json_with(preset="forbidden"),
    "litellm": json_with(fallbacks=["forbidden"]),
    "litellm-of-one-kind": json_with(context_window_fallbacks=[{"allowed": ["forbidden"]}]),
    "vercel": json_with(providerOptions={"gateway": {"models": ["forbidden"]}}),
    "in-an-array": json_with(plugins=[{"id": "x", "config": [{"Model": "forbidden"}]}]),
    "azure": json_with(deployment_id="forbidden", engine="forbidden"),
    "brackets": json_with(**{"model[]": "forbidden"}),
    "encoded-brackets": json_with(**{"model%5B%5D": "forbidden"}),
    "too-many-fields": json_with(x=[{"a": 1}] * 10_001),
    "upload": (FORM, (GOOD + part('name="model[]"', "forbidden") + "--b--\r\n").encode()),
    "upload-encoded": (FORM, (GOOD + part('name="%6dodel%5B0%5D"', "forbidden") + "--b--\r\n").encode()),
    "upload-encoded-twice": (FORM, (GOOD + part('name="model%255B%255D"', "forbidden") + "--b--\r\n").encode()),
    "upload-list": (FORM, (part('name="MODELS"', "forbidden") + GOOD + "--b--\r\n").encode()),
}


@pytest.mark.parametrize("trick", ANOTHER_MODEL)
def test_a_key_of_one_model_names_it_in_one_place(proxy_for: ProxyFor, trick: str) -> None:
    content_type, body = ANOTHER_MODEL[trick]
    path = "/up/v1/audio/transcriptions" if content_type == FORM else "/up/v1/chat/completions"

    def event() -> dict[str, Any]:
        return url_event(path, headers={"content-type": content_type}, body=body)

    response, received = proxy_for(models="allowed,default-model").serve(event())
    assert (response.status, error_of(response)["code"], received) == (403, "model_not_allowed", [])
    response, [request] = proxy_for().serve(event())
    assert (response.status, request.body) == (200, body)


NO_OTHER_MODEL: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "x", "model": "a"}], "metadata": {"model": "a", "fallback": "b"}},
    {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": {"model": {}}}}}]},
    {"response_format": {"type": "json_schema", "json_schema": {"schema": {"properties": {"models": {}}}}}},
    {"modalities": ["text"], "models": [], "fallbacks": None, "preset": "", "reasoning": {"effort": "low"}},
]


@pytest.mark.parametrize("fields", NO_OTHER_MODEL)
def test_what_only_looks_like_another_model_is_none(proxy_for: ProxyFor, fields: dict[str, Any]) -> None:
    _, body = json_with(**fields)
    response, [request] = proxy_for(models="allowed").serve(url_event(body=body))
    assert (response.status, request.body) == (200, body)


@pytest.mark.parametrize(
    ("model", "status"),
    [
        ("allowed", 200),
        *((name, 403) for name in ("Allowed", "allowed ", " allowed", "allowed\x00", "allowed\n", "ａllowed")),  # noqa: RUF001
        *((name, 403) for name in ("allowed,forbidden", "allowed/../forbidden", "*", "allowed*", "up/other", "")),
        *((name, 400) for name in (0, 1e400, True, ["allowed"], {"model": "allowed"})),
    ],
)
def test_a_model_is_the_one_that_is_listed_or_none(proxy_for: ProxyFor, model: Any, status: int) -> None:
    relay = proxy_for(models="allowed,up/allowed")
    response, received = relay.serve(url_event(body=json.dumps({"model": model})))
    assert response.status == status
    assert len(received) == (status == 200)


@pytest.mark.parametrize(
    ("path", "method", "query", "models"),
    [
        ("/spare/v1/chat/completions", "POST", "", "up/*"),
        # As a name of its own, `named/x` may mean anything to another server.
        pytest.param("/up/v1/chat/completions", "POST", "", "named/*"),
        # Other deployments of proxies read the model from here.
        pytest.param("/up/v1/chat/completions", "POST", "model=forbidden", "named/x"),
        pytest.param("/named/v1/chat/completions", "POST", "model[]=forbidden", "named/x"),
        pytest.param("/named/v1/chat/completions", "POST", "a=1&model%5B%5D=forbidden", "named/x"),
        pytest.param("/named/v1/chat/completions", "POST", "model%255B0%255D=forbidden", "named/x"),
        pytest.param("/named/v1/chat/completions", "POST", "a=1;%6DODEL.id=forbidden", "named/x"),
        pytest.param("/named/v1/chat/completions", "POST", "models=forbidden", "named/x"),
        pytest.param("/named/v1/chat/completions", "POST", "+model=forbidden", "named/x"),
        pytest.param("/named/v1/chat/completions", "POST", "body[model]=forbidden", "named/x"),
        pytest.param("/named/v1/chat/completions", "POST", "?model", "named/x"),
        # A batch names its models in a file; a field too many makes it look like an inference.
        pytest.param("/up/v1/batches", "POST", "", "named/x"),
        pytest.param("/up/v1/fine_tuning/jobs", "POST", "", "named/x"),
        # What other clients of the same provider account have stored.
        pytest.param("/up/v1/files", "GET", "", "named/x"),
        pytest.param("/up/v1/files/file-1/content", "GET", "", "named/x"),
        pytest.param("/up/v1/models/ft:forbidden", "DELETE", "", "named/x"),
    ],
)
def test_a_key_of_one_model_can_do_nothing_else(
    proxy_for: ProxyFor, path: str, method: str, query: str, models: str
) -> None:
    event = url_event(path, method=method, query=query, body='{"model": "named/x", "input_file_id": "file-1"}')
    response, received = proxy_for(models=models).serve(event)
    assert (response.status, received) == (403, [])


@pytest.mark.parametrize("model", ["named/fast", "named/x", "fast", "big"])
def test_a_model_does_not_open_a_server_that_the_key_may_not_use(proxy_for: ProxyFor, model: str) -> None:
    event = url_event("/v1/chat/completions", body=json.dumps({"model": model}))
    response, received = proxy_for(servers="up,other").serve(event)
    assert (response.status, error_of(response)["code"], received) == (403, "server_not_allowed", [])


# ------------------------------------------------------------------------------------------------- bodies that do harm


@pytest.mark.parametrize(
    "body",
    [
        '{"model": "fast", "x": ' + "1" * 5000 + "}",
        '{"model": "fast", "x": ' + "[" * 100_000 + "}",
        '{"model": "fast", "x": "\x00"}',
        "{'model': 'fast'}",
        '{"model": "fast",}',
        '{"model": "fast"} // x',
        '\ufeff{"model": "fast"}',
        "null",
        '"model"',
    ],
)
def test_json_that_is_none_is_refused(watched: Watched, body: str) -> None:
    response, received = watched.serve(url_event("/named/v1/chat/completions", body=body))
    assert (response.status, error_of(response)["code"], received) == (400, "invalid_json", [])


@pytest.mark.parametrize(
    "body",
    [
        '{"model": "fast", "x": [[[[1]]]], "y": 1e3, "z": 0.1}',
        pytest.param('{"model": "fast", "x": NaN}', id="not-a-number"),
        pytest.param('{"model": "fast", "x": 1e999}', id="infinite"),
        pytest.param('{"model": "fast", "messages": [{"content": "\\ud800"}]}', id="half-a-character"),
    ],
)
def test_an_alias_is_replaced_in_json_that_stays_json(watched: Watched, body: str) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    response, received = watched.serve(url_event("/named/v1/chat/completions", body=body))
    assert response.status in (200, 400), "a fault of the client's is none of the proxy's"
    for request in received:
        assert json.loads(request.body, parse_constant=refuse)["model"] == "real-fast"


@pytest.mark.parametrize(
    "event",
    [
        url_event(body=json.dumps({"model": "m" * 1_000_000})),
        url_event(body=json.dumps({"model": "\x00" * 100_000})),
        url_event("/up/v1/" + "a" * 500_000),
        url_event("/nowhere/v1/" + "a/" * 100_000 + "a"),
        url_event(headers={"x-request-id": "r" * 500_000}),
    ],
)
def test_what_a_client_sends_cannot_keep_its_event_from_the_bus(watched: Watched, event: dict[str, Any]) -> None:
    watched.serve(event)
    [detail] = watched.events
    assert len(json.dumps(detail)) < LARGEST_EVENT / 10


@pytest.mark.parametrize("retry_after", ["7", "nan", "-1", "inf", "1e999"])
def test_what_a_server_says_cannot_keep_an_event_from_the_bus(retry_after: str) -> None:
    def script(connection: Connection, _: Received) -> None:
        body = b'{"error": {"message": "later"}}'
        connection.answer(body, "429 Too Many Requests", more=f"retry-after: {retry_after}\r\n")

    with proxy(script) as (relay, _):
        relay.call({"model": "m"})
    json.dumps(relay.bus.details, allow_nan=False)


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(url_event("/up/v1/\ud800"), id="path"),
        pytest.param(url_event(query="a=\ud800"), id="query"),
        pytest.param(url_event(headers={"authorization": "Bearer \ud800"}), id="authorization"),
        pytest.param(url_event(body='{"model": "\\ud800"}'), id="model"),
    ],
)
def test_half_a_character_is_a_fault_of_the_clients(watched: Watched, event: dict[str, Any]) -> None:
    response, _ = watched.serve(event)
    assert response.status < 500


# ----------------------------------------------------------------------------------------------------------- any event

SEGMENTS = st.sampled_from(
    [
        *("up", "named", "first", "again", "frail", "spare", "unset", "other", "v1", "v1", "v1", "models", "chat"),
        *("completions", "..", ".", "", "%2e%2e", "%2E.", "%252e", "%2f", "%5c", "\\", "@evil.example", "http:", "%00"),
        *("evil.example:80", "%0d%0a", "?x", "#x", " ", "%", "%zz", "..%2f", "\u2024\u2024", "\uff0e\uff0e", "+"),
    ]
)
PATHS = st.one_of(
    st.builds("/{}/v1/{}".format, st.sampled_from(["up", "named", "first", "again"]), st.text()),
    st.lists(SEGMENTS, max_size=6).map(lambda parts: "/" + "/".join(parts)),
    st.text(),
)
NAMES = st.sampled_from(
    [
        *("host", "Host", "authorization", "Authorization", "content-type", "Content-Type", "content-length", "accept"),
        *("transfer-encoding", "connection", "cookie", "idempotency-key", "openai-beta", "x-request-id", "origin"),
        *("x-forwarded-host", "user-agent", "accept-encoding", "te", "upgrade", "proxy-authorization", "expect"),
    ]
)
VALUES = st.sampled_from(["evil.example", "chunked", "Bearer good", "*/*", "application/json", FORM, "0", "x\r\ny: z"])
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20)
HEADERS = st.dictionaries(NAMES | st.text(max_size=10), VALUES | PRINTABLE | st.text(max_size=20), max_size=5)
METHODS = st.sampled_from(["GET", "POST", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "get", "GET / HTTP/1.1"])
BODIES = st.one_of(
    st.sampled_from(['{"model": "m"}', '{"model": "fast", "stream": true}', '{"model": "named/x"}', "{", "", GOOD]),
    st.text(max_size=50),
    st.binary(max_size=50),
)
QUERIES = st.sampled_from(["", "a=1", "a=1#x", "@evil.example", " HTTP/1.1\r\nx: y"]) | st.text(max_size=20)


CHANGES: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "path": PATHS.map(lambda path: {"rawPath": path, "path": path}),
    "method": METHODS.map(lambda method: {"requestContext": {"http": {"method": method}}, "httpMethod": method}),
    "headers": HEADERS.map(lambda headers: {"headers": {"authorization": "Bearer good"} | headers}),
    "query": QUERIES.map(lambda query: {"rawQueryString": query, "multiValueQueryStringParameters": {query: [query]}}),
    "body": BODIES.map(lambda body: {name: url_event(body=body)[name] for name in ("body", "isBase64Encoded")}),
}


@st.composite
def any_event(draw: st.DrawFn) -> dict[str, Any]:
    """A good event of one of the doors with one to three of its parts replaced by hostile ones."""
    path = draw(st.sampled_from(["/up/v1/models", "/first/v1/chat/completions", "/v1/audio/speech", "/again/v1/x"]))
    event = draw(st.sampled_from([url_event(path, body='{"model": "named/x"}'), rest_event(path)]))
    for name in draw(st.lists(st.sampled_from(sorted(CHANGES)), min_size=1, max_size=3, unique=True)):
        change = draw(CHANGES[name])
        if "httpMethod" in event:
            change.pop("requestContext", None)  # there the authorizer's answer stands
        event = {**event, **change}
    return event


def test_whatever_comes_goes_to_a_listed_server_with_its_token(watched: Watched) -> None:
    arrived: list[str] = []

    @settings(max_examples=examples(120), suppress_health_check=[HealthCheck.too_slow])
    @given(any_event())
    def serve(event: dict[str, Any]) -> None:
        _, received = watched.serve(event)
        arrived.extend(request.target.split("/")[1] for request in received)

    serve()
    assert len(arrived) > 30, "much of it has to arrive, or little was tried"
    assert len(set(arrived)) > 2
