"""HTTP/1.1 as a client over blocking sockets: what a relay needs of it, and nothing else.

Everything the proxy says to anybody goes through here: to upstream servers, to AWS, to the Runtime API. With a general
client a request cost two to three times the CPU; figures and decision are in `docs/adr/0004-own-http-client.md`. The
rules it keeps: RFC 9112 framing, strictly; one read of the socket is one piece of the body, so nothing waits for a
fuller buffer; no redirect, cookie, proxy setting or compression, because a relay must not have opinions on them.
"""

import re
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

_READ_SIZE = 65536
_MAX_HEAD = 65536
_ENDS_OF_CHUNK = (b"\n\n\r\n", b"\r\n0\r\n\r\n")
_TIMEVAL = struct.Struct("@ll")
"""The kernel's `struct timeval`: seconds and microseconds."""
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: .*)?")
_LENGTH = re.compile(r"[0-9]{1,18}")
_HEADER_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_CHUNK_START = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")


class HttpError(Exception):
    """An exchange failed on the wire."""


class ConnectError(HttpError):
    """There is no connection: refused, unknown host, no TLS, or not in time. Nothing has been sent."""


class SilenceError(HttpError):
    """The peer said nothing for as long as it may be silent."""


class BrokenError(HttpError):
    """The peer closed or reset the connection in the middle of an exchange, or what it says is not HTTP."""


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of an answer. Names are lower case; a repeated header is joined by commas."""

    status: int
    headers: Mapping[str, str]
    keeps_alive: bool


class ChunkedDecoder:
    """Takes the chunked coding off a body. `ended` after the last chunk and its trailers, which are dropped."""

    def __init__(self) -> None:
        self.ended = False
        self.fault: BrokenError | None = None
        """What came is no chunked coding any more; the content before it is whole."""
        self._rest: bytes = b""
        self._left = 0
        self._after_chunk = False
        self._in_trailers = False
        self._is_between = True

    def feed(self, data: bytes) -> bytes:
        """The content in `data`, of as many chunks as it holds."""
        if self._is_between and data.endswith(b"\r\n") and (start := _CHUNK_START.match(data)):
            whole = data[start.end() : -2]
            if whole and len(whole) == int(start[1], 16):  # most often: one read brings one chunk
                return whole
        self._is_between = False
        data = self._rest + data if self._rest else data
        content: list[bytes] = []
        position = 0
        while not (self.ended or self.fault):
            if self._left:
                piece = data[position : position + self._left]
                content.append(piece)
                position += len(piece)
                self._left -= len(piece)
                if self._left:
                    break
                self._after_chunk = True
            end = data.find(b"\r\n", position)
            if end < 0:
                if len(data) - position > _MAX_HEAD:
                    self.fault = BrokenError("a chunk has no size")
                break
            self._take_line(data[position:end])
            position = end + 2
        self._rest = data[position:]
        self._is_between = not (self._rest or self._left or self._after_chunk or self._in_trailers)
        return content[0] if len(content) == 1 else b"".join(content)

    def _take_line(self, line: bytes) -> None:
        if self._after_chunk:
            if line:
                self.fault = BrokenError("a chunk is longer than its size")
            self._after_chunk = False
        elif self._in_trailers:
            self.ended = not line
        elif size := _CHUNK_SIZE.fullmatch(line):
            self._left = int(size[1], 16)
            self._in_trailers = self._left == 0
        else:
            self.fault = BrokenError("a chunk has no size")

    @property
    def rest(self) -> bytes:
        """What came after the end: nothing, from a server that keeps to the protocol."""
        return self._rest


class Connection:
    """One connection: `send` a request, `read_head`, then the `body`, and again if `reusable`."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.reusable = False
        self.used_before = False
        self.received = False
        self.idle_since = 0.0
        self._buffer = b""
        self._limit: float | None = None
        self._limit_of_recv: float | None = None
        self._limit_of_send: float | None = None
        # TLS knows nothing of the kernel's timeouts.
        self._is_plain = type(sock) is socket.socket
        sock.settimeout(None)

    def limit(self, seconds: float | None) -> None:
        """Bound every further wait for the peer; None waits for ever."""
        self._limit = seconds

    def _set_limit(self, option: int) -> None:
        """Have the kernel bound a wait: where Python does it, every read is a `poll` and a `recv`."""
        seconds = self._limit
        if self._is_plain:
            # Nothing but zeros would mean: for ever.
            whole, part = (0, 0) if seconds is None else divmod(max(1, int(seconds * 1e6)), 1_000_000)
            self.sock.setsockopt(socket.SOL_SOCKET, option, _TIMEVAL.pack(whole, part))
        else:
            self.sock.settimeout(seconds)

    def send(self, data: bytes) -> None:
        """Send all of `data`. Raises SilenceError or BrokenError."""
        try:
            if self._limit != self._limit_of_send:
                self._set_limit(socket.SO_SNDTIMEO)
                self._limit_of_send = self._limit
            self.sock.sendall(data)
        except (TimeoutError, BlockingIOError) as error:
            raise SilenceError("nothing is taken") from error
        except OSError as error:
            raise BrokenError(type(error).__name__) from error

    def read_head(self, within: float | None = None) -> Head:
        """The head of the answer, whole `within` seconds; interim ones (1xx) are passed over.

        Raises SilenceError or BrokenError.
        """
        self.reusable = self.received = False
        latest = None if within is None else time.monotonic() + within
        if within is not None:
            self.limit(within)
        while True:
            while (end := self._buffer.find(b"\r\n\r\n")) < 0:
                if len(self._buffer) > _MAX_HEAD:
                    raise BrokenError("the head does not end")
                if self.received:
                    self._limit_until(latest)
                self._buffer += self.receive() or self._raise_closed()
                self.received = True
            head = parse_head(self._buffer[:end])
            self._buffer = self._buffer[end + 4 :]
            if head.status >= 200:
                return head
            self._limit_until(latest)

    def _limit_until(self, latest: float | None) -> None:
        if latest is not None:
            left = latest - time.monotonic()
            if left <= 0:
                raise SilenceError("no whole head came")
            self.limit(left)

    def body(self, head: Head, method: str, receive: Callable[[], bytes] | None = None) -> Iterator[bytes]:
        """The body in pieces, as they arrive. `receive` may take the place of `self.receive`, to wait in its own way.

        Raises SilenceError, and BrokenError when the body ends before its end. A body without a length ends with the
        connection, so there a cut cannot be told from an end.
        """
        receive = receive or self.receive
        length = head.headers.get("content-length")
        if method == "HEAD" or head.status in (204, 304):
            return self._counted(0, receive, head)
        if "transfer-encoding" in head.headers:
            return self._chunked(receive, head)
        return self._until_closed(receive) if length is None else self._counted(int(length), receive, head)

    def has_whole_piece(self, head: Head) -> bool:
        """Whether the first piece of the body has come with the head: all of it, or a chunk with a whole event."""
        length = head.headers.get("content-length")
        return self._buffer.endswith(_ENDS_OF_CHUNK) if length is None else 0 < int(length) <= len(self._buffer)

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
        self.reusable = head.keeps_alive and not self._buffer

    def receive(self) -> bytes:
        """What one read of the socket brings; nothing when the peer has closed. Raises SilenceError or BrokenError."""
        try:
            if self._limit != self._limit_of_recv:
                self._set_limit(socket.SO_RCVTIMEO)
                self._limit_of_recv = self._limit
            return self.sock.recv(_READ_SIZE)
        except (TimeoutError, BlockingIOError) as error:
            raise SilenceError("nothing came") from error
        except OSError as error:
            raise BrokenError(type(error).__name__) from error

    def _raise_closed(self) -> bytes:
        raise BrokenError("closed before the end")

    def close(self) -> None:
        """Close it, whatever state it is in."""
        self.reusable = False
        self.sock.close()


def parse_head(head: bytes) -> Head:
    """Read a head without its blank line. Raises BrokenError for anything that RFC 9112 does not allow."""
    status_line, *lines = head.split(b"\r\n")
    status = _STATUS_LINE.fullmatch(status_line)
    if not status:
        raise BrokenError("not HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _HEADER_NAME.fullmatch(name):
            raise BrokenError("a header is malformed")
        key, text = name.decode().lower(), value.strip(b" \t").decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if (coding is not None and coding.lower() != "chunked") or (length is not None and not _LENGTH.fullmatch(length)):
        raise BrokenError("the length of the body is not clear")
    connection = headers.get("connection", "").lower()
    keeps_alive = "close" not in connection if status[1] == b"1" else "keep-alive" in connection
    return Head(int(status[2]), headers, keeps_alive)


def request_head(method: str, target: str, host: str, headers: Mapping[str, str], length: int | None) -> bytes:
    """The head of a request, blank line included; `length` is that of its body. Control characters cannot pass."""
    fields = {"host": host, **headers}
    if length is not None:
        fields["content-length"] = str(length)
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if not "".join(lines).isprintable():
        raise ValueError("a request line or header holds a control character")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
