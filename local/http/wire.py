"""HTTP/1.1 on bytes: llhttp (`httptools`) reads requests out of what arrives, and heads of responses are written. Pure.

Its one rule: bytes that are not clearly one request are refused, because two readers must not understand them
differently. llhttp sees to most of that; what it leaves to its caller (Host, versions, codings, sizes) is checked here.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade, HttpRequestParser

MAX_HEAD_BYTES = 32 * 1024
_MAX_LENGTH_DIGITS = 20

Headers = Sequence[tuple[str, str]]


class MalformedError(Exception):
    """Bytes that are no HTTP request. `status` is what the client is answered."""

    def __init__(self, fault: str, status: int = 400) -> None:
        super().__init__(fault)
        self.status = status


@dataclass(slots=True)
class Message:
    """A request whose head is complete. `pieces` has the part of the body that has come and was not taken yet; `size`
    counts all of it.

    Header names are lower case, values latin-1, repeats kept. `length` is that of the body, None for a chunked one.
    """

    method: str
    target: str
    headers: Headers
    length: int | None
    is_http10: bool
    keep_alive: bool
    pieces: deque[bytes] = field(default_factory=deque[bytes])
    size: int = 0
    trailers: dict[str, str] = field(default_factory=dict[str, str])
    """Complete after the body."""
    is_complete: bool = False

    @property
    def expects_continue(self) -> bool:
        """Whether the client may be waiting for a `100 Continue` before it sends the body."""
        expectations = [value.lower() for name, value in self.headers if name == "expect"]
        return not self.is_http10 and "100-continue" in expectations


class RequestReader:
    """The requests in the bytes of one connection: `messages` in their order, and after them `fault`, if any."""

    def __init__(self) -> None:
        self.messages: deque[Message] = deque()
        self.fault: MalformedError | None = None
        self._parser = HttpRequestParser(self)
        self._message: Message | None = None
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._pending = 0
        """Bytes since the last that made sense: of a head, of trailers or of a chunk's extensions."""

    def feed(self, data: bytes | bytearray) -> None:
        """Read further bytes. After a fault nothing is read."""
        if self.fault is not None:
            return
        self._pending += len(data)
        try:
            self._parse(data)
            _limit(self._pending)
        except MalformedError as fault:
            self.fault = fault
        except HttpParserCallbackError as error:
            if not isinstance(error.__context__, MalformedError):
                raise
            self.fault = error.__context__
        except HttpParserError as error:
            self.fault = MalformedError(str(error))

    def _parse(self, data: bytes | bytearray) -> None:
        while data:
            try:
                self._parser.feed_data(data)
                data = b""
            except HttpParserUpgrade as offer:
                self._decline()
                data = data[offer.args[0] :]

    def _decline(self) -> None:
        """Read the head again without its offer of another protocol, which RFC 9110 (7.8) lets a server ignore.

        llhttp would leave the body to that protocol. `curl --http2` makes such an offer.
        """
        lines = [f"{name}: {value}\r\n" for name, value in self._headers if name != "upgrade"]
        old, target = self._parser, _text(self._target)
        first = f"{_text(old.get_method())} {target} HTTP/{old.get_http_version()}\r\n"
        self._target, self._headers, self._parser = b"", [], HttpRequestParser(self)
        self._parser.feed_data(f"{first}{''.join(lines)}\r\n".encode("latin-1"))

    # What llhttp calls. A fault raised here comes out of `feed_data` as the context of another.

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower().decode("latin-1"), value.strip(b" \t").decode("latin-1")))

    def on_headers_complete(self) -> None:
        parser = self._parser
        version, method = parser.get_http_version(), _text(parser.get_method())
        if version not in ("1.1", "1.0"):
            raise MalformedError("illegal request line")
        if method == "CONNECT":
            raise MalformedError("this server opens no tunnels", 501)
        if parser.should_upgrade():
            return
        is_http10 = version == "1.0"
        self._message = Message(
            method,
            _text(self._target),
            self._headers,
            _checked(self._headers, len(method) + len(self._target), needs_host=not is_http10),
            is_http10,
            keep_alive=not is_http10 and parser.should_keep_alive(),
        )
        self.messages.append(self._message)
        self._target, self._headers = b"", []
        self._pending = 0

    def on_body(self, piece: bytes) -> None:
        assert self._message is not None
        self._message.pieces.append(piece)
        self._message.size += len(piece)
        self._pending = 0

    def on_message_complete(self) -> None:
        message, self._message = self._message, None
        if message is not None:  # not an offer to upgrade
            if self._headers:
                _checked(self._headers, 0, needs_host=False)
                message.trailers, self._headers = dict(self._headers), []
            message.is_complete = True
            self._pending = 0


def _text(data: bytes) -> str:
    return data.decode("latin-1")


def _limit(size: int) -> None:
    if size > MAX_HEAD_BYTES:
        raise MalformedError("the headers are too long", 431)


def _checked(headers: Headers, size: int, *, needs_host: bool) -> int | None:
    """The length of the body, None for a chunked one. `size` is that of the head so far. Raises MalformedError."""
    length: int | None = 0
    hosts = 0
    for name, value in headers:
        size += len(name) + len(value) + len(": \r\n")
        if name == "host":
            hosts += 1
        elif name == "content-length":
            if len(value) > _MAX_LENGTH_DIGITS:
                raise MalformedError("bad Content-Length")
            length = int(value)
        elif name == "transfer-encoding":
            if value.lower() != "chunked":
                raise MalformedError("the only transfer encoding is chunked", 501)
            length = None
    _limit(size)
    if hosts > 1 or (needs_host and not hosts):
        raise MalformedError("a request has one Host header")
    return length


def response_head(status: int, headers: Headers) -> bytes:
    """Status line and headers as they are sent."""
    lines = [f"{name}: {value}\r\n" for name, value in headers]
    return f"HTTP/1.1 {status} {_reason(status)}\r\n{''.join(lines)}\r\n".encode("latin-1", "replace")


@cache
def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
