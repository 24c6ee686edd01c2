"""One request on one connection of the pool, and the head of its answer.

Its one rule: nothing goes on beyond the moment that it was given, and what the peer says is heard at once.
"""

import contextlib
import time
from collections.abc import Mapping

from proxy.http.http1 import Connection
from proxy.http.pool import Pool
from proxy.http.wire import AnsweredEarlyError, BrokenError, Head, SilenceError, request_head

_LARGE = 65536
"""Bytes of a body that is not worth a copy, to go out together with its head."""


class Exchange:
    """One request on one connection of the pool."""

    connection: Connection

    def __init__(
        self, pool: Pool, method: str, url: str, headers: Mapping[str, str], body: bytes, *, repeats: bool = True
    ) -> None:
        self.method = method
        self._repeats = repeats
        self._pool = pool
        self._url = url
        self._headers = headers
        self._body = body
        self.was_sent = False
        """Whether the other side may have the request, or some of it."""
        self.was_repeated = False
        """Whether it went out twice: the other side may have had it twice."""

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
            if not (self._repeats and self.connection.used_before) or self.connection.received:
                raise
        self.was_repeated = True
        return self._attempt(connect_timeout, timeout, latest, fresh=True)

    def _attempt(self, connect_timeout: float, timeout: float, latest: float, *, fresh: bool) -> Head:
        now = time.monotonic()
        if now >= latest:
            raise SilenceError("the time is over")
        connection, host, target = self._pool.connect(self._url, min(connect_timeout, latest - now), fresh=fresh)
        self.connection = connection
        length = len(self._body) if self._body or self.method in ("POST", "PUT", "PATCH") else None
        head = request_head(self.method, target, host, self._headers, length)
        try:
            connection.until = min(latest, time.monotonic() + timeout)
            self.was_sent = True
            # A server may answer before it has taken the whole body, and close: then the answer is there to be read.
            with contextlib.suppress(BrokenError, AnsweredEarlyError):
                if len(self._body) < _LARGE:  # one packet, mostly
                    connection.send(head + self._body)
                else:
                    connection.send(head, self._body)
            connection.until = min(latest, time.monotonic() + timeout)
            answer = connection.read_head()
        except BaseException:
            connection.close()
            raise
        connection.until = latest
        return answer

    def release(self) -> None:
        """Give the connection back, or close it when the answer was not read to its end."""
        self._pool.release(self._url, self.connection)
