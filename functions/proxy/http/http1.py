"""HTTP/1.1 as a client over blocking sockets: what a relay needs of it, and nothing else.

Everything the proxy says to anybody goes through here: to upstream servers, to AWS, to the Runtime API. With a general
client a request cost two to three times the CPU; figures and decision are in `docs/adr/0004-own-http-client.md`. Its
rules: it follows the framing of RFC 9112 strictly (`wire`); one read of the socket is one piece of the body, so nothing
waits for a fuller buffer; no wait is longer than the caller allows; it follows no redirect, and knows no cookie, proxy
setting or compression, because a relay must not interfere with them.
"""

import math
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator

from proxy.http.wire import (
    LONGEST_HEAD,
    AnsweredEarlyError,
    BrokenError,
    ChunkedDecoder,
    Head,
    SilenceError,
    check_part_of_head,
    parse_head,
)

_READ_SIZE = 65536
_WRITE_SIZE = 65536
_TIMEVAL = struct.Struct("@ll")
"""The kernel's `struct timeval`: seconds and microseconds."""
_LONGEST_WAIT = 1e6
_TOLERANCE = 0.005
"""Seconds that a wait may be too long: so the kernel need not be told a new limit for every call of the same length."""
_NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Connection:
    """One connection: `send` a request, `read_head`, then the `body`, and again if `reusable`.

    Sending, the head, and what `receive_in_time` reads have to be done by the moment `until` (of `time.monotonic`).
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.until = math.inf
        self.reusable = False
        self.used_before = False
        self.received = False
        self.idle_since = 0.0
        self._buffer = b""
        self._unsent: list[memoryview] = []
        self._is_sent = self._was_sent = True
        self._limit: float | None = None
        self._limit_of_recv: float | None = None
        # The kernel's timeouts do not work for TLS sockets.
        self._is_plain = type(sock) is socket.socket
        sock.settimeout(None)

    def limit(self, seconds: float | None) -> None:
        """Limit every further wait for the peer to so many seconds; None waits for ever."""
        self._limit = seconds

    def _limit_until(self, latest: float) -> None:
        """Limit the next wait to a moment. Raises SilenceError when that moment has passed."""
        left = latest - time.monotonic()
        if left <= 0:
            raise SilenceError("the time is over")
        if left == math.inf:
            self._limit = None
        elif self._limit is None or not 0 <= self._limit - left < _TOLERANCE:
            self._limit = left

    def _set_limit(self) -> None:
        """Let the kernel limit a wait: if Python did it, every read would take a `poll` and a `recv`."""
        seconds = self._limit_of_recv = self._limit
        if seconds is not None:
            seconds = min(seconds, _LONGEST_WAIT)
        if self._is_plain:
            # A timeout of zero would mean: for ever.
            whole, part = (0, 0) if seconds is None else divmod(max(1, int(seconds * 1e6)), 1_000_000)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(whole, part))
        else:
            self.sock.settimeout(seconds)

    def send(self, data: bytes, more: bytes = b"") -> None:
        """Send all of `data`, and then all of `more`; two arguments spare a copy of a long body.

        Raises SilenceError, BrokenError, and AnsweredEarlyError when the peer does not wait for all of it.

        If an early answer interrupts the sending, the rest is sent while the answer is read.
        """
        rest = data
        if self._is_plain:
            try:
                # Usually the kernel takes all of it at once, without a wait.
                rest = data[self.sock.send(data, socket.MSG_DONTWAIT) :]
            except BlockingIOError:
                pass
            except OSError as error:
                self._is_sent = False
                raise BrokenError(type(error).__name__) from error
        if rest or more:
            self._send_slowly(rest, more)

    def _send_slowly(self, data: bytes, more: bytes) -> None:
        self._unsent, self._is_sent = [memoryview(part) for part in (data, more) if part], False
        try:
            received = self._pump(self.until)
        except OSError as error:
            self._unsent = []
            raise BrokenError(type(error).__name__) from error
        if received is None:
            self._is_sent = True
        elif received:
            self._buffer += received
            raise AnsweredEarlyError("an answer came before the request was sent")
        else:
            self._unsent = []
            self._raise_closed()

    def _pump(self, latest: float) -> bytes | None:
        """Send the rest until the peer says something. Returns that (empty: it has closed), or None when all is sent.

        Raises SilenceError when that takes too long, and OSError.
        """
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | select.POLLOUT)
        if not self._is_plain:
            self._limit_of_recv = math.nan  # the next wait sets its own timeout
            self.sock.settimeout(0.0)
        flags = socket.MSG_DONTWAIT if self._is_plain else 0
        while self._unsent:
            left = latest - time.monotonic()
            if left <= 0:
                raise SilenceError("nothing is taken")
            for _, events in poll.poll(min(left, _LONGEST_WAIT) * 1000):
                if events & ~select.POLLOUT:
                    try:
                        return self.sock.recv(_READ_SIZE, flags)
                    except _NOT_NOW:
                        pass  # it was a message of TLS itself
                try:
                    sent = self.sock.send(self._unsent[0][:_WRITE_SIZE], flags)
                except _NOT_NOW:
                    continue
                self._unsent[0] = self._unsent[0][sent:]
                if not self._unsent[0]:
                    del self._unsent[0]
        return None

    def read_head(self) -> Head:
        """The head of the answer; interim ones (1xx) are passed over. Raises SilenceError or BrokenError."""
        self.reusable, self.received = False, bool(self._buffer)
        checked = 0
        while True:
            while (end := self._buffer.find(b"\r\n\r\n", max(0, checked - 3))) < 0:
                if len(self._buffer) > LONGEST_HEAD:
                    raise BrokenError("the head does not end")
                check_part_of_head(self._buffer, checked)
                checked = len(self._buffer)
                self._buffer += self.receive_in_time() or self._raise_closed()
                self.received = True
            head = parse_head(self._buffer[:end])
            self._buffer, checked = self._buffer[end + 4 :], 0
            if head.status >= 200:
                self._was_sent = self._is_sent
                return head
            self._limit_until(self.until)

    def body(self, head: Head, method: str, receive: Callable[[], bytes] | None = None) -> Iterator[bytes]:
        """The body in pieces, as they arrive. `receive` may replace `receive_in_time`, to wait in its own way.

        Raises SilenceError, and BrokenError when the body ends before its end. A body without a length ends with the
        connection, so a cut looks like an end there, unless TLS shows the difference.
        """
        receive = receive or self.receive_in_time
        length = head.headers.get("content-length")
        if method == "HEAD" or head.status in (204, 304):
            return self._counted(0, receive, head)
        if "transfer-encoding" in head.headers:
            return self._chunked(receive, head)
        return self._until_closed(receive) if length is None else self._counted(int(length), receive, head)

    def _chunked(self, receive: Callable[[], bytes], head: Head) -> Iterator[bytes]:
        decoder = ChunkedDecoder()
        data, self._buffer = self._buffer, b""
        while True:
            if data and (content := decoder.feed(data)):
                yield content
            if decoder.fault:
                raise decoder.fault
            if decoder.ended:
                break
            data = receive() or self._raise_closed()
        self._buffer = decoder.rest
        self._ended(head)

    def _counted(self, left: int, receive: Callable[[], bytes], head: Head) -> Iterator[bytes]:
        data, self._buffer = self._buffer[:left], self._buffer[left:]
        while True:
            left -= len(data)
            if data:
                yield data
            if not left:
                break
            received = receive() or self._raise_closed()
            data, self._buffer = received[:left], received[left:]
        self._ended(head)

    def _until_closed(self, receive: Callable[[], bytes]) -> Iterator[bytes]:
        data, self._buffer = self._buffer, b""
        if data:
            yield data
        while data := receive():
            yield data

    def _ended(self, head: Head) -> None:
        self.reusable = head.keeps_alive and not self._buffer and self._was_sent

    def receive(self) -> bytes:
        """The bytes of one read of the socket; empty when the peer has closed. Raises SilenceError or BrokenError."""
        try:
            if self._unsent and (received := self._receive_while_sending()) is not None:
                return received
            if self._limit != self._limit_of_recv:
                self._set_limit()
            return self.sock.recv(_READ_SIZE)
        except (TimeoutError, BlockingIOError) as error:
            raise SilenceError("nothing came") from error
        except OSError as error:
            raise BrokenError(type(error).__name__) from error

    def receive_in_time(self) -> bytes:
        """Like `receive`, but until the moment `until` at the latest."""
        self._limit_until(self.until)
        return self.receive()

    def _receive_while_sending(self) -> bytes | None:
        """Send the rest of the request, and return what comes meanwhile; None when nothing is left to be sent."""
        latest = math.inf if self._limit is None else time.monotonic() + self._limit
        try:
            received = self._pump(latest)
            self._is_sent = received is None
        except OSError:  # the peer takes no more, but its answer may still be there to be read
            self._unsent, received = [], None
        if received is None and self._limit is not None:
            self._limit = max(1e-6, latest - time.monotonic())
        return received

    def _raise_closed(self) -> bytes:
        raise BrokenError("closed before the end")

    def close(self) -> None:
        """Close it, whatever state it is in."""
        self.reusable = False
        self.sock.close()
