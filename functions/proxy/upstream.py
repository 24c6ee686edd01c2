"""HTTP to upstream servers and to AWS: the only module that imports httpx, whose errors end here.

The transport is used without `httpx.Client`: the client would keep cookies of one caller for the next, follow
redirects and read proxy settings, and its bookkeeping costs more CPU than the rest of a short request.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from proxy.deadline import Watchdog
from proxy.errors import UpstreamError


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to wait for a connection, for the answer's status, and between two chunks of its body."""

    connect: float = 5.0
    first_byte: float = 300.0
    idle: float = 120.0


Answered = tuple[int, Mapping[str, str], bytes]
"""A short answer: status, headers, body."""

Post = Callable[[str, Mapping[str, str], bytes, float], Answered]
"""The shape of `HttpTransport.post`."""


class ConnectionFailedError(Exception):
    """An exchange that is no upstream call (AWS) failed on the wire."""


class Answer:
    """One upstream answer whose body has not been read. Iterating gives the body's bytes as they arrive."""

    def __init__(self, response: httpx.Response, server: str, deadline: float, watchdog: Watchdog) -> None:
        self._response = response
        self._server = server
        self._deadline = deadline
        self._watchdog = watchdog
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers

    def __iter__(self) -> Iterator[bytes]:
        with _mapped(self._server, self._deadline), self._watchdog.guarding(self._socket_of(), self._deadline):
            stream = self._response.stream
            assert isinstance(stream, httpx.SyncByteStream)
            for chunk in stream:
                yield chunk
                if time.time() > self._deadline:
                    raise httpx.ReadTimeout("the deadline has passed")
            if time.time() > self._deadline:
                raise httpx.ReadTimeout("the deadline has passed")

    def _socket_of(self) -> object:
        return self._response.extensions["network_stream"].get_extra_info("socket")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self._response.stream.close()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


class HttpTransport:
    """Keep-alive connections to everything the proxy calls. Not thread-safe: a sandbox has one request at a time."""

    def __init__(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        self._watchdog = Watchdog()
        self._transport = _new_transport()

    def stream(
        self, server: str, method: str, url: str, headers: Mapping[str, str], body: bytes, deadline: float
    ) -> Answer:
        """Send a request and wait for the answer's status, not for its body. `deadline` is in Unix seconds.

        Raises UpstreamError: unreachable, no status in time, or not HTTP.
        """
        left = max(0.001, deadline - time.time())
        limits = {
            "connect": min(self._timeouts.connect, left),
            "pool": left,
            "write": min(self._timeouts.idle, left),
            "read": min(self._timeouts.first_byte, left),
        }
        content, extensions = body or None, {"timeout": limits}
        request = httpx.Request(method, url, headers=dict(headers), content=content, extensions=extensions)
        with _mapped(server, deadline):
            response = self._transport.handle_request(request)
        limits["read"] = self._timeouts.idle
        return Answer(response, server, deadline, self._watchdog)

    def post(self, url: str, headers: Mapping[str, str], body: bytes, timeout: float) -> Answered:
        """One POST with a short answer. `timeout` (seconds) holds for each of its steps.

        Repeated once when a kept-alive connection turns out to be dead. Raises ConnectionFailedError.
        """
        limits = dict.fromkeys(("connect", "pool", "write", "read"), timeout)
        last: Exception | None = None
        for _ in range(2):
            request = httpx.Request("POST", url, headers=dict(headers), content=body, extensions={"timeout": limits})
            try:
                response = self._transport.handle_request(request)
                return response.status_code, response.headers, response.read()
            except httpx.TimeoutException as error:
                raise ConnectionFailedError(f"no answer in {timeout} s") from error
            except httpx.TransportError as error:
                last = error
        raise ConnectionFailedError(type(last).__name__) from last

    def get(self, url: str, headers: Mapping[str, str], timeout: float) -> tuple[int, bytes]:
        """One GET with a short answer. Raises ConnectionFailedError."""
        limits = dict.fromkeys(("connect", "pool", "write", "read"), timeout)
        try:
            request = httpx.Request("GET", url, headers=dict(headers), extensions={"timeout": limits})
            response = self._transport.handle_request(request)
            return response.status_code, response.read()
        except httpx.TransportError as error:
            raise ConnectionFailedError(type(error).__name__) from error

    def renew(self) -> None:
        """Forget every connection: after a SnapStart restore they belong to a machine that is gone."""
        self._transport.close()
        self._transport = _new_transport()

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()


def _new_transport() -> httpx.HTTPTransport:
    # A frozen sandbox may sleep for minutes; servers close idle connections after about one.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=50.0)
    return httpx.HTTPTransport(limits=limits, trust_env=False)


@contextmanager
def _mapped(server: str, deadline: float) -> Generator[None]:
    """Turn httpx's errors into the proxy's. The messages name the server, never its address."""
    try:
        yield
    except httpx.TransportError as error:
        raise _upstream_error(server, error, late=time.time() >= deadline) from error


def _upstream_error(server: str, error: httpx.TransportError, *, late: bool) -> UpstreamError:
    if late:
        return UpstreamError(504, "deadline_exceeded", f"The server '{server}' did not finish in time.")
    if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol)):
        return UpstreamError(502, "upstream_unreachable", f"The server '{server}' cannot be reached.")
    if isinstance(error, httpx.TimeoutException):
        return UpstreamError(504, "upstream_timeout", f"The server '{server}' fell silent.")
    return UpstreamError(502, "upstream_broken_off", f"The server '{server}' broke off the connection.")
