"""One request on one connection of the pool, and the head of its answer.

Its one rule: no step lasts beyond the moment that it was given, and whatever the peer sends is read at once.
"""

import contextlib
import socket
import time

from proxy.errors import ProxyError
from proxy.http.http1 import Connection
from proxy.http.pool import Pool
from proxy.http.wire import AnsweredEarlyError, BrokenError, Head, Outgoing, SilenceError, request_head

_LARGE = 65536
"""A body of at least so many bytes is sent without being copied behind its head."""


class Exchange:
    """One request on one connection of the pool."""

    connection: Connection

    def __init__(self, pool: Pool, outgoing: Outgoing, *, repeats: bool = True) -> None:
        self.outgoing = outgoing
        self._repeats = repeats
        self._pool = pool
        self.was_sent = False
        """Whether the other side may have the request, or some of it."""
        self.was_repeated = False
        """Whether it went out twice: the other side may have had it twice."""
        self.stopped_by: ProxyError | None = None
        """Why it was ended before its end, if it was."""

    def run(self, connect_timeout: float, timeout: float, latest: float) -> Head:
        """Send the request and read the head of its answer. Raises HttpError, and leaves no connection open then.

        Connecting may take `connect_timeout` seconds, sending and waiting for the head `timeout` each, and nothing may
        go on beyond `latest` (of `time.monotonic`).

        A kept-alive connection may have been closed by the server while nobody looked. When one breaks before a byte
        of the answer has come, the request goes once more, over a fresh connection, unless it must not be repeated.
        """
        try:
            return self._attempt(connect_timeout, timeout, latest, fresh=False)
        except BrokenError:
            repeats = self._repeats and self.stopped_by is None
            if not (repeats and self.connection.used_before) or self.connection.received:
                raise
        self.was_repeated = True
        return self._attempt(connect_timeout, timeout, latest, fresh=True)

    def _attempt(self, connect_timeout: float, timeout: float, latest: float, *, fresh: bool) -> Head:
        now = time.monotonic()
        if now >= latest:
            raise SilenceError("the time is over")
        method, url, headers, body = self.outgoing
        connection, host, target = self._pool.connect(url, min(connect_timeout, latest - now), fresh=fresh)
        self.connection = connection
        if self.stopped_by:
            connection.close()
            raise BrokenError("stopped")
        length = len(body) if body or method in ("POST", "PUT", "PATCH") else None
        head = request_head(method, target, host, headers, length)
        try:
            connection.until = min(latest, time.monotonic() + timeout)
            self.was_sent = True
            # A server may answer before it has taken the whole body, and then close: its answer can still be read.
            with contextlib.suppress(BrokenError, AnsweredEarlyError):
                if len(body) < _LARGE:  # usually this fits into one packet
                    connection.send(head + body)
                else:
                    connection.send(head, body)
            connection.until = min(latest, time.monotonic() + timeout)
            answer = connection.read_head()
        except BaseException:
            connection.close()
            raise
        connection.until = latest
        return answer

    def stop(self, error: ProxyError) -> None:
        """End the exchange, from another thread: the thread that waits for the peer then reads the end of the
        connection.

        The plain socket's method is called: that of a TLS socket would drop its TLS state, and the waiting thread would
        read encrypted bytes.
        """
        self.stopped_by = error
        connection: Connection | None = getattr(self, "connection", None)
        if connection is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def release(self) -> None:
        """Give the connection back, or close it when the answer was not read to its end."""
        self._pool.release(self.outgoing.url, self.connection)
