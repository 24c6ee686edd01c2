"""Gets a small JSON document of an issuer, within a bounded time and size. Loaded only where there is an issuer.

Its one rule: it goes where identity.yaml says, and nowhere else. It follows no redirect, uses no proxy, and returns in
time whatever the other side does. A socket's timeout counts for each piece, so a server that sends a byte now and then
could hold the caller for hours. Therefore a thread of its own makes the request, and the caller shuts that thread's
socket down when the time is over. The client is PyJWT's own; it bounds neither the whole time nor the size, so only the
reading of the bytes is replaced.
"""

import contextlib
import functools
import json
import socket
import ssl
import threading
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from jwt import PyJWKClient, PyJWKClientError

_LARGEST = 256 * 1024
"""Bytes. Those of the large issuers have 2 to 20 KB."""
Wait = Callable[[threading.Thread, float], None]
_SCHEMES = ("http", "https")
_HEADERS = {"accept": "application/json", "connection": "close", "user-agent": "openai-proxy-lambda"}


class FetchError(Exception):
    """The document cannot be had. The message is for the owner."""


class HttpsGet:
    """Gets documents. `wait(thread, seconds)` waits for a thread, for at most so many seconds."""

    def __init__(self, wait: Wait = threading.Thread.join) -> None:
        self._wait = wait

    def __call__(self, address: str, seconds: float) -> dict[str, Any]:
        """The JSON object at `address`, which has `seconds` to arrive. Raises FetchError."""
        try:
            context = self._context if address.startswith("https:") else None
            return _Client(address, seconds, self._wait, context).fetch_data()
        except PyJWKClientError as error:
            # the address has another scheme than http or https, or the document is no object
            raise FetchError("no JSON object" if urlsplit(address).scheme in _SCHEMES else "no web address") from error

    @functools.cached_property
    def _context(self) -> ssl.SSLContext:
        """A context that checks certificates and host names. It is made once, because reading the certificate
        authorities takes longer than connecting.
        """
        return ssl.create_default_context()


class _Client(PyJWKClient):
    """The library's client for one document, which it does not cache."""

    def __init__(self, address: str, seconds: float, wait: Wait, context: ssl.SSLContext | None) -> None:
        super().__init__(address, cache_jwk_set=False, headers=_HEADERS, timeout=seconds, ssl_context=context)
        self._wait = wait

    def fetch_data(self) -> dict[str, Any]:
        """The JSON object at the address. Raises FetchError and PyJWKClientError."""
        visit = _Visit(self._connection(), urlsplit(self.uri).path or "/")
        thread = threading.Thread(target=visit.go, daemon=True)
        thread.start()
        self._wait(thread, self.timeout)
        if thread.is_alive():
            visit.end()
            raise FetchError("too slow")
        if isinstance(visit.outcome, FetchError):
            raise visit.outcome
        return self._as_jwk_set_payload(visit.outcome)

    def _connection(self) -> HTTPConnection:
        parts = urlsplit(self.uri)
        host = parts.hostname or ""
        if parts.scheme == "https":
            return HTTPSConnection(host, parts.port, timeout=self.timeout, context=self.ssl_context)
        return HTTPConnection(host, parts.port, timeout=self.timeout)


class _Visit:
    """One request, in a thread of its own."""

    def __init__(self, connection: HTTPConnection, path: str) -> None:
        self.outcome: Any = FetchError("broken off")
        """What the document is as JSON, or a FetchError."""
        self._connection = connection
        self._path = path
        self._socket: socket.socket | None = None
        self._is_over = False

    def go(self) -> None:
        try:
            self._connection.connect()
            self._socket = self._connection.sock  # the connection forgets it before the body is read
            if not self._is_over:
                self._connection.request("GET", self._path, headers=_HEADERS)
                self.outcome = _json_of(self._connection.getresponse())
        except FetchError as error:
            self.outcome = error
        except (HTTPException, OSError) as error:
            self.outcome = FetchError(type(error).__name__)
        except (ValueError, RecursionError):
            self.outcome = FetchError("no JSON object")
        finally:
            self._connection.close()

    def end(self) -> None:
        """Shut the socket down, so that the thread stops waiting. Connecting, TLS included, has a time limit of its
        own.
        """
        self._is_over = True
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # the method of a TLS socket would drop the TLS state, which the thread still reads with
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


def _json_of(response: HTTPResponse) -> Any:
    """Raises FetchError, ValueError, and what reading raises."""
    with response:
        if response.status != 200:
            raise FetchError(f"status {response.status}")
        body = response.read(_LARGEST + 1)
    if len(body) > _LARGEST:
        raise FetchError(f"more than {_LARGEST} bytes")
    return json.loads(body.decode())
