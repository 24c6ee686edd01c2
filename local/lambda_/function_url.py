"""The function URL of the proxy on this machine: an HTTP request becomes an event for a sandbox, whose bytes go out as
they arrive.

Its one rule: the client sees what the function sent. As on Lambda, a client that leaves does not interrupt the
function: the rest of its answer is read and dropped.
"""

import json
import re
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from local.http.server import BodyTooLargeError, Exchange, HttpServer, PeerGoneError, TruncatedBodyError
from local.http.wire import Headers
from local.lambda_ import ids
from local.lambda_.invocation import Ended, Failed, Invocation, Part, Started
from local.lambda_.sandboxes import SandboxError
from local.lambda_.url_event import MAX_EVENT_BYTES, UrlIdentity, build_event

_PRELUDE_TYPE = "application/vnd.awslambda.http-integration-response"
_PRELUDE_END = b"\0" * 8
_MAX_PRELUDE_BYTES = 16 * 1024
_CONNECTION_HEADERS = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})
_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

_FAILURES = {
    "Runtime.ExitError": ("sandbox_crashed", "The proxy's sandbox ended before it answered."),
    "Sandbox.Timedout": ("function_timeout", "The proxy did not answer within the function's timeout."),
}

Invoke = Callable[[bytes, str], Awaitable[Invocation]]
"""The shape of `SandboxPool.invoke`: event and trace id to an invocation. Raises SandboxError."""


Own = Callable[[Exchange], Awaitable[bool]]
"""Answers a request that is for this machine alone, and returns whether it was one."""


class InvalidPreludeError(Exception):
    """The function's answer does not begin with a prelude that makes an HTTP response."""


class FunctionUrl:
    """Serves the function URL. Where AWS answers an error in a form of its own, it answers OpenAI's error JSON."""

    def __init__(self, invoke: Invoke, url: UrlIdentity, own: Own | None = None) -> None:
        """Serve what `invoke` answers, but for what is answered by `own`, which is no part of a function URL."""
        self._invoke = invoke
        self._url = url
        self._own = own
        self._server = HttpServer(
            self._handle, lambda fault: (_JSON, _error_body("invalid_http", f"This is not HTTP: {fault}."))
        )

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port. Raises OSError when the port is taken."""
        return await self._server.start(host, port)

    async def close(self) -> None:
        """Stop listening and end every connection."""
        await self._server.close()

    async def _handle(self, exchange: Exchange) -> None:
        if self._own and await self._own(exchange):
            return
        now = time.time()
        trace_id = f"Root=1-{int(now):08x}-{ids.hex_id(24)}"
        try:
            body = await exchange.body(MAX_EVENT_BYTES)
        except BodyTooLargeError:
            await _refuse(exchange, 413, "request_too_large", _TOO_LARGE)
            return
        except TruncatedBodyError:
            return
        event = build_event(exchange.request, body, self._url, trace_id, now)
        if len(event) > MAX_EVENT_BYTES:
            await _refuse(exchange, 413, "request_too_large", _TOO_LARGE)
            return
        try:
            invocation = await self._invoke(event, f"{trace_id};Parent={ids.hex_id(16)};Sampled=0")
        except SandboxError as error:
            await _refuse_without_sandbox(exchange, error)
            return
        await _Answer(exchange, invocation, trace_id).relay()


class _Answer:
    """One answer on its way from its sandbox to the client."""

    def __init__(self, exchange: Exchange, invocation: Invocation, trace_id: str) -> None:
        self._exchange = exchange
        self._invocation = invocation
        self._trace_id = trace_id
        self._last: Ended | Failed | None = None
        self._listens = True
        """Whether the client still wants bytes: it has not left, and was not given an error instead."""

    async def relay(self) -> None:
        part = await self._invocation.get()
        if isinstance(part, Failed):
            await self._refuse(*_FAILURES.get(part.error_type, ("function_failed", "The proxy failed.")))
            return
        assert isinstance(part, Started)
        try:
            status, headers, rest = await self._read_head(part)
        except InvalidPreludeError as error:
            await self._refuse("invalid_function_response", f"The proxy's answer is not an HTTP response: {error}.")
        else:
            await self._tell(self._exchange.start, status, self._with_own(headers), rest)
        while isinstance(part := await self._next(), bytes):
            await self._tell(self._exchange.send, part)
        if isinstance(part, Ended):
            await self._tell(self._exchange.end)
        elif self._listens:
            self._exchange.cut()

    async def _next(self) -> Part:
        """The next part. After the last part it is that part again."""
        if self._last is not None:
            return self._last
        part = await self._invocation.get()
        if isinstance(part, (Ended, Failed)):
            self._last = part
        return part

    async def _read_head(self, begin: Started) -> tuple[int, Headers, bytes]:
        """Status, headers, and the first bytes of the body. Raises InvalidPreludeError."""
        if begin.content_type != _PRELUDE_TYPE:
            return 200, [], b""
        prelude = b""
        while _PRELUDE_END not in prelude:
            part = await self._next()
            if not isinstance(part, bytes):
                raise InvalidPreludeError("it ended within its prelude")
            prelude += part
            if len(prelude) > _MAX_PRELUDE_BYTES and _PRELUDE_END not in prelude[:_MAX_PRELUDE_BYTES]:
                raise InvalidPreludeError("its prelude is too long")
        head, _, rest = prelude.partition(_PRELUDE_END)
        status, headers = _parsed(head)
        return status, headers, rest

    async def _tell(self, action: Callable[..., Awaitable[None]], *arguments: object) -> None:
        if self._listens:
            try:
                await action(*arguments)
            except PeerGoneError:
                self._listens = False

    async def _refuse(self, code: str, message: str) -> None:
        await self._tell(_refuse, self._exchange, 502, code, message)
        self._listens = False

    def _with_own(self, headers: Headers) -> Headers:
        """`headers` with those that the URL adds on AWS, and without what is the connection's own business."""
        names = {name.lower() for name, _ in headers}
        own = {
            "date": _http_date(int(time.time())),
            "content-type": "application/octet-stream",
            "x-amzn-requestid": self._invocation.request_id,
            "x-amzn-trace-id": self._trace_id,
        }
        added = [(name, value) for name, value in own.items() if name not in names]
        if _CONNECTION_HEADERS.isdisjoint(names):
            return [*added, *headers]
        return [*added, *((name, value) for name, value in headers if name.lower() not in _CONNECTION_HEADERS)]


@lru_cache(maxsize=1)
def _http_date(unix_seconds: int) -> str:
    return formatdate(unix_seconds, usegmt=True)


def _parsed(prelude: bytes) -> tuple[int, Headers]:
    """Status and headers. Raises InvalidPreludeError."""
    try:
        fields: dict[str, Any] = json.loads(prelude)
        named: dict[str, Any] = fields.get("headers") or {}
        cookies: list[Any] = fields.get("cookies") or []
        headers = [(name, str(value)) for name, value in [*named.items(), *(("set-cookie", each) for each in cookies)]]
        status = int(fields.get("statusCode", 200))
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidPreludeError("its prelude is not the JSON of a status and headers") from error
    if not 200 <= status <= 599:
        raise InvalidPreludeError(f"{status} is not a final status")
    for name, value in headers:
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise InvalidPreludeError(f"the header {name!r} is malformed")
    return status, headers


_JSON: Headers = [("content-type", "application/json")]
_TOO_LARGE = (
    f"The request is larger than the {MAX_EVENT_BYTES} bytes that Lambda takes, its headers and encoding included."
)


def _error_body(code: str, message: str, kind: str = "invalid_request_error") -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "param": None, "code": code}}).encode()


async def _refuse(exchange: Exchange, status: int, code: str, message: str) -> None:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    await exchange.respond(status, _JSON, _error_body(code, message, kind))


async def _refuse_without_sandbox(exchange: Exchange, error: SandboxError) -> None:
    if error.error_type == "TooManyRequestsException":
        body = _error_body("too_many_requests", f"Too many requests at once: {error}.", "rate_limit_error")
        await exchange.respond(429, [*_JSON, ("retry-after", "1")], body)
    else:
        await _refuse(exchange, 502, "sandbox_failed", f"No sandbox could be started: {error}.")
