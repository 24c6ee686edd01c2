"""Opening connections, and keeping them alive between requests."""

import select
import socket
import ssl
import time
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from proxy.clock import lasting
from proxy.http.http1 import Connection
from proxy.http.wire import ConnectError

if TYPE_CHECKING:
    from proxy.http.stopper import Stopper

_IDLE_SECONDS = 50.0
"""How long an unused connection is kept. A frozen sandbox sleeps for minutes; servers close after about one."""

Address = tuple[str, str, int]
"""Scheme, host, port."""


class Pool:
    """Connections by address, kept alive between requests. Not thread-safe: a sandbox has one request at a time."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._idle: dict[Address, Connection] = {}
        self.tls = tls or tls_context()
        self.stopper: Stopper | None = None
        """What may end the exchange with an upstream server before its end; few requests have one."""

    def connect(self, url: str, timeout: float, *, fresh: bool = False) -> tuple[Connection, str, str]:
        """A connection to the host of `url`, its Host header, and the request target. Raises ConnectError.

        `timeout` (seconds) bounds the whole opening, TLS included, except the look-up of the host's name, for which the
        system's resolver has limits of its own. The look-up's time counts, so that what follows has only the rest.
        """
        address, host, target = _parts(url)
        connection = self._idle.pop(address, None)
        if connection and (fresh or not _is_alive(connection)):
            connection.close()
            connection = None
        return connection or self._open(address, timeout), host, target

    def release(self, url: str, connection: Connection) -> None:
        """Keep `connection` for the next request to the host of `url` if its last answer was read to its end."""
        address, _, _ = _parts(url)
        if not connection.reusable or address in self._idle:
            connection.close()
            return
        connection.used_before, connection.idle_since = True, lasting()
        self._idle[address] = connection

    def close(self) -> None:
        """Close every idle connection."""
        for connection in self._idle.values():
            connection.close()
        self._idle.clear()

    def _open(self, address: Address, timeout: float) -> Connection:
        scheme, host, port = address
        latest = time.monotonic() + timeout
        sock = open_socket(host, port, timeout)
        if scheme == "https":
            try:
                sock.settimeout(max(0.001, latest - time.monotonic()))
                # With TLS, a body that ends with its connection is whole only if TLS says that it has ended (RFC 9112,
                # 9.8).
                sock = self.tls.wrap_socket(sock, server_hostname=_plain(host), suppress_ragged_eofs=False)
            except (OSError, ValueError) as error:
                sock.close()
                raise ConnectError(type(error).__name__) from error
        return Connection(sock)


def tls_context() -> ssl.SSLContext:
    """A context that checks certificates against the system's authorities. Reading those takes milliseconds, so all
    pools share one context.
    """
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def open_socket(host: str, port: int, timeout: float) -> socket.socket:
    """A TCP connection that sends small pieces at once, to the first address of `host` that takes it.

    `timeout` (seconds) is for all addresses together; each may use its share of the time that is left. Raises
    ConnectError.
    """
    latest = time.monotonic() + timeout
    reason = "the host has no address"
    try:
        addresses = socket.getaddrinfo(_plain(host), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, OverflowError) as error:
        raise ConnectError(type(error).__name__) from error
    for number, (family, kind, protocol, _, address) in enumerate(addresses):
        left = latest - time.monotonic()
        if left <= 0:
            raise ConnectError("the time is over")
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(left / (len(addresses) - number))
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            reason = type(error).__name__
        else:
            return sock
    raise ConnectError(reason)


def _plain(host: str) -> str | bytes:
    """`host` as bytes. Given a text, the first request would have Python load its codec of international names."""
    return host.encode() if host.isascii() else host


@lru_cache(64)
def _parts(url: str) -> tuple[Address, str, str]:
    """Address, Host header and request target of a URL. They are remembered, because the same few URLs are called again
    and again.
    """
    parts = urlsplit(url)
    address = parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    return address, parts.netloc, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def is_quiet(connection: Connection) -> bool:
    """Whether nothing has arrived on an idle connection. Whatever arrives then is a close, or out of step with the
    requests.
    """
    return not select.select([connection.sock], [], [], 0)[0]


def _is_alive(connection: Connection) -> bool:
    return lasting() - connection.idle_since <= _IDLE_SECONDS and is_quiet(connection)
