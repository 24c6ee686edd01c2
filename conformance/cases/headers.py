"""Headers both ways, by allow-list: what a client may learn of a server, and a server of a client."""

from conformance.case import Ask, Case, Sees, Told
from conformance.cases.streams import CHAT, COMPLETED
from conformance.chat import STREAM, echo
from conformance.checks import received_headers, received_no_client_key, received_target, withheld
from conformance.wire import EVENT_STREAM, PLACE, Reply

_PUBLIC = {
    "openai-processing-ms": "180",
    "openai-version": "2020-10-01",
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-requests": "6ms",
    "retry-after": "3",
    "retry-after-ms": "2900",
}
_PRIVATE = {
    "OpenAI-Organization": "org-of-the-owner",
    "Set-Cookie": "__cf_bm=secret; path=/",
    "Server": "cloudflare",
    "X-Powered-By": "Express",
    "Via": "1.1 internal.example",
    "Alt-Svc": 'h3=":443"',
    "X-Internal-Host": "10.0.0.7",
    "Location": "https://elsewhere.example/",
    "WWW-Authenticate": "Basic",
    "Strict-Transport-Security": "max-age=1",
}
_HOP_BY_HOP = {
    "Keep-Alive": "timeout=5",
    "Proxy-Authenticate": "Basic",
    "Proxy-Connection": "close",
    "TE": "trailers",
    "Trailer": "x-late",
    "Upgrade": "websocket",
}
_CORS = {
    "Access-Control-Allow-Origin": "https://evil.example",
    "Access-Control-Allow-Credentials": "true",
    "Access-Control-Expose-Headers": "x-evil",
}
_SAID_ONCE = {"X-Content-Type-Options": "sniff"}
"""What the proxy says itself, whatever the server says."""
_SHOWN_UNDER_ANOTHER_NAME = {"X-Request-Id": "req_of_the_server"}

_CHUNKED = b"Content-Type: " + EVENT_STREAM.encode() + b"\r\nTransfer-Encoding: chunked\r\n\r\n"
_EVIL = (
    b"HTTP/1.1 200 OK\r\nopenai-bare-cr: a\rset-cookie: x=1\r\nopenai-zero: a\x00b\r\nopenai-escape: \x1b[31m\r\n"
    + _CHUNKED
)
_FOLDED = b"HTTP/1.1 200 OK\r\nopenai-folded: a\r\n set-cookie: x=1\r\n" + _CHUNKED
_LATIN = b"HTTP/1.1 200 OK\r\nopenai-name: Gr\xfc\xdfe\r\n" + _CHUNKED

_FORWARDED = {"openai-beta": "assistants=v2", "idempotency-key": "key-1", "accept": "application/json"}
_WITHHELD = {
    "cookie": "session=1",
    "origin": "https://app.example",
    "referer": "https://app.example/chat",
    "x-forwarded-for": "203.0.113.9",
    "x-forwarded-host": "evil.example",
    "forwarded": "for=203.0.113.9",
    "x-real-ip": "203.0.113.9",
    "x-stainless-lang": "python",
    "x-stainless-retry-count": "0",
    "x-custom": "1",
    "te": "trailers",
    "proxy-authorization": "Basic eDp5",
    "openai-organization": "org-of-the-client",
    "openai-project": "project-of-the-client",
}
_MESSAGES = [{"role": "user", "content": "Say hello."}]


CASES = (
    Case(
        "headers-to-client",
        "rate limits, OpenAI's headers and retry-after pass; cookies, CORS, hop-by-hop and server names do not",
        Reply(
            STREAM,
            headers=tuple(
                {
                    **_PUBLIC,
                    **_PRIVATE,
                    **_HOP_BY_HOP,
                    **_CORS,
                    **_SAID_ONCE,
                    **_SHOWN_UNDER_ANOTHER_NAME,
                }.items()
            ),
        ),
        Sees(
            body=b"".join(STREAM),
            headers={**_PUBLIC, "x-upstream-request-id": "req_of_the_server", "cache-control": ".*no-cache.*"},
            without=(
                *(name.lower() for name in {**_HOP_BY_HOP, **_PRIVATE} if name != "Server"),
                "access-control-allow-credentials",
            ),
            also=(
                lambda _, seen: "the server's name shows" if "cloudflare" in seen.values("server") else None,
                lambda _, seen: (
                    "the server's CORS shows" if any("evil" in value for _, value in seen.headers) else None
                ),
            ),
        ),
        COMPLETED,
        CHAT,
    ),
    Case(
        "headers-with-control-characters",
        "a header with CR, NUL or ESC does not reach the client",
        Reply(STREAM, head=_EVIL),
        Sees((200, 502), without=("openai-bare-cr", "openai-zero", "openai-escape")),
        Told(),
        CHAT,
    ),
    Case(
        "headers-folded",
        "a header that goes on in the next line does not bring another header",
        Reply(STREAM, head=_FOLDED),
        Sees((200, 502)),
        Told(),
        CHAT,
    ),
    Case(
        "headers-not-ascii",
        "a header in Latin-1 does no harm",
        Reply(STREAM, head=_LATIN),
        Sees(body=b"".join(STREAM)),
        COMPLETED,
        CHAT,
    ),
    Case(
        "headers-many",
        "a hundred headers",
        Reply(STREAM, headers=tuple((f"x-ratelimit-number-{number}", str(number)) for number in range(100))),
        Sees(body=b"".join(STREAM), headers={"x-ratelimit-number-99": "99"}),
        COMPLETED,
        CHAT,
    ),
    Case(
        "headers-to-server",
        "the server gets its own token and what it needs, never the client's key, cookies, origin or address",
        echo,
        Sees(
            also=(
                received_no_client_key,
                received_headers(**{name.replace("-", "_"): value for name, value in _FORWARDED.items()}),
                withheld(*_WITHHELD, "x-api-key", "x-request-id", "connection", "via", "x-amzn-trace-id"),
            )
        ),
        COMPLETED,
        Ask(fields={"messages": _MESSAGES}, headers=(*_FORWARDED.items(), *_WITHHELD.items())),
    ),
    Case(
        "request-id-made",
        "a request without an id of its own gets one",
        Reply(STREAM),
        Sees(headers={"x-request-id": "[0-9A-Za-z_.:-]{8,128}"}),
        COMPLETED,
        Ask(fields=CHAT.fields, headers=(("x-request-id", ""),)),
    ),
    Case(
        "request-id-replaced",
        "an id that is too long is replaced",
        Reply(STREAM),
        Sees(headers={"x-request-id": "[0-9A-Z]{26}"}),
        COMPLETED,
        Ask(fields=CHAT.fields, headers=(("x-request-id", "x" * 200),)),
    ),
    Case(
        "target-to-server",
        "path and query reach the server as they were sent, line ends encoded as they were",
        echo,
        Sees(
            also=(
                received_target(
                    f"/v1/models/conformance-target-to-server?user={PLACE.decode()}&a=%0d%0aX-Evil:%201&b=%2F+c"
                ),
            )
        ),
        Told("InferenceCompleted", usage="none"),
        Ask("GET", f"/models/{{case}}?user={PLACE.decode()}&a=%0d%0aX-Evil:%201&b=%2F+c"),
        url_only=True,
    ),
)
