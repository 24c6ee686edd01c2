"""A client that sees what came over the wire: status, headers as they were, the body byte for byte, and how it ended.

Its one rule: it forgives nothing. A body is whole only when its framing says so.
"""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from conformance.case import Seen

_READ_SIZE = 65536
_MAX_HEAD = 65536


class NoAnswerError(Exception):
    """Nothing that could be called an answer came back."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request: `target` is path and query. Header names are lower case; without `host` and the body's length."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""
    chunked: bool = False


class HttpClient:
    """Calls one origin, one connection for each call. `timeout` (seconds) bounds every wait."""

    def __init__(self, origin: str, timeout: float = 60.0) -> None:
        parts = urlsplit(origin)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{origin!r} is no http(s) address")
        self._netloc = parts.netloc
        self._address = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._timeout = timeout

    def call(self, call: Call, on_body: Callable[[bytearray], bool] = lambda _: True) -> Seen:
        """Send a request and read its answer. `on_body` gets the body so far; when it says False, the client leaves.

        Raises NoAnswerError.
        """
        try:
            with self._connected() as sock:
                return _Answer(sock, call.method).read(self._request(call), on_body)
        except OSError as error:
            raise NoAnswerError(f"{type(error).__name__}: {error}") from error

    def _connected(self) -> socket.socket:
        sock = socket.create_connection(self._address, self._timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._tls.wrap_socket(sock, server_hostname=self._address[0]) if self._tls else sock

    def _request(self, call: Call) -> bytes:
        fields = {"host": self._netloc, **call.headers}
        body = call.body
        if call.chunked:
            fields["transfer-encoding"] = "chunked"
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in _pieces(body)) + b"0\r\n\r\n"
        elif body or call.method in ("POST", "PUT", "PATCH"):
            fields["content-length"] = str(len(body))
        lines = [f"{call.method} {call.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def _pieces(data: bytes, size: int = 8192) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


class _Answer:
    """Reading one answer."""

    def __init__(self, sock: socket.socket, method: str) -> None:
        self._socket = sock
        self._method = method
        self._buffer = b""
        self._body = bytearray()

    def read(self, request: bytes, on_body: Callable[[bytearray], bool]) -> Seen:
        with contextlib.suppress(OSError):  # refused before it was sent whole: the answer may be there
            self._socket.sendall(request)
        status, headers = self._head()
        named = dict(headers)
        whole = False
        try:
            for piece in self._content(status, named):
                self._body += piece
                if not on_body(self._body):
                    break
            else:
                whole = True
        except (OSError, ValueError):
            pass
        return Seen(status, headers, bytes(self._body), whole)

    def _head(self) -> tuple[int, list[tuple[str, str]]]:
        """The final head: interim ones (1xx) are passed over."""
        while True:
            while b"\r\n\r\n" not in self._buffer:
                received = self._socket.recv(_READ_SIZE)
                if not received or len(self._buffer) > _MAX_HEAD:
                    raise NoAnswerError(f"no answer, but {self._buffer[:200]!r}")
                self._buffer += received
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            if not first.startswith("HTTP/1.1 "):
                raise NoAnswerError(f"no answer, but {head[:200]!r}")
            status = int(first.split(" ")[1])
            if status >= 200:
                fields = (line.partition(":") for line in lines)
                return status, [(name.lower(), value.strip()) for name, _, value in fields]

    def _content(self, status: int, headers: Mapping[str, str]) -> Iterator[bytes]:
        """The body's pieces. Raises OSError or ValueError when it ends before its end."""
        if self._method == "HEAD" or status in (204, 304):
            return
        if headers.get("transfer-encoding", "").lower() == "chunked":
            yield from self._chunks()
        elif "content-length" in headers:
            yield from self._counted(int(headers["content-length"]))
        else:
            while piece := self._buffer or self._socket.recv(_READ_SIZE):
                self._buffer = b""
                yield piece

    def _chunks(self) -> Iterator[bytes]:
        while True:
            while b"\r\n" not in self._buffer:
                self._buffer += self._some()
            size, _, self._buffer = self._buffer.partition(b"\r\n")
            left = int(size.partition(b";")[0], 16)
            if not left:
                while not self._buffer.endswith(b"\r\n"):
                    self._buffer += self._some()
                return
            yield from self._counted(left)
            while len(self._buffer) < 2:
                self._buffer += self._some()
            if not self._buffer.startswith(b"\r\n"):
                raise ValueError("a chunk is longer than its size")
            self._buffer = self._buffer[2:]

    def _counted(self, left: int) -> Iterator[bytes]:
        while left:
            self._buffer = self._buffer or self._some()
            piece, self._buffer = self._buffer[:left], self._buffer[left:]
            left -= len(piece)
            yield piece

    def _some(self) -> bytes:
        received = self._socket.recv(_READ_SIZE)
        if not received:
            raise ValueError("closed before the end")
        return received
