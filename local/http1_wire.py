"""HTTP/1.1 on bytes: heads of requests and responses, and the framing of bodies (RFC 9112). Pure.

Its one rule: what is not clearly one request is refused; two readers of the same bytes must not disagree about them.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from http import HTTPStatus

MAX_HEAD_BYTES = 32 * 1024
_MAX_SIZE_LINE_BYTES = 4 * 1024

_HEAD_END = re.compile(rb"\n\r?\n")
_REQUEST_LINE = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) HTTP/1\.([0-9])")
_HEADER = r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)\n"
# A line matches in one way only: what does not match is known at once, however many lines there are.
_HEADERS = re.compile(f"(?:{_HEADER})*")
_EACH_HEADER = re.compile(_HEADER)
_LENGTH = re.compile(r"[0-9]{1,20}")
_SIZE_LINE = re.compile(rb"([0-9a-fA-F]{1,20})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_NEXT_SIZE_LINE = re.compile(rb"\r\n" + _SIZE_LINE.pattern)

Headers = Sequence[tuple[str, str]]


class MalformedError(Exception):
    """Bytes that are no HTTP request. `status` is what says so to the client."""

    def __init__(self, fault: str, status: int = 400) -> None:
        super().__init__(fault)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request. `body_length` is None for a chunked body; header names are lower case."""

    method: str
    target: str
    headers: Headers
    body_length: int | None
    is_http10: bool
    keep_alive: bool
    expects_continue: bool


def take_head(buffer: bytearray) -> Head | None:
    """The head at the begin of `buffer`, removed from it. None: it is incomplete. Raises MalformedError."""
    if buffer and buffer[0] < 0x21:
        raise MalformedError("illegal request line")  # known before its end: a TLS handshake has none
    text = _take_block(buffer)
    if text is None:
        return None
    first, _, lines = text.partition("\n")
    request = _REQUEST_LINE.fullmatch(first)
    if request is None:
        raise MalformedError("illegal request line")
    headers = _headers(lines)
    is_http10 = request[3] == "0"
    hosts = _values(headers, "host")
    if len(hosts) > 1 or not (hosts or is_http10):
        raise MalformedError("a request has one Host header")
    options = [option.strip().lower() for value in _values(headers, "connection") for option in value.split(",")]
    expectations = [value.lower() for value in _values(headers, "expect")]
    return Head(
        request[1],
        request[2],
        headers,
        _body_length(headers),
        is_http10,
        keep_alive=not is_http10 and "close" not in options,
        expects_continue=not is_http10 and "100-continue" in expectations,
    )


def _take_block(buffer: bytearray) -> str | None:
    """The lines before the empty line, each with its line feed; a return before that is optional, and removed."""
    end = _HEAD_END.search(buffer, 0, MAX_HEAD_BYTES)
    if end is None:
        if len(buffer) >= MAX_HEAD_BYTES:
            raise MalformedError("the headers are too long", 431)
        return None
    text = buffer[: end.start()].decode("latin-1").removesuffix("\r").replace("\r\n", "\n")
    del buffer[: end.end()]
    return f"{text}\n"


def _headers(lines: str) -> Headers:
    if not _HEADERS.fullmatch(lines):
        raise MalformedError("illegal header line")
    return [(name.lower(), value.strip(" \t")) for name, value in _EACH_HEADER.findall(lines)]


def _values(headers: Headers, name: str) -> list[str]:
    return [header[1] for header in headers if header[0] == name]


def _body_length(headers: Headers) -> int | None:
    codings = _values(headers, "transfer-encoding")
    lengths = {each.strip() for value in _values(headers, "content-length") for each in value.split(",")}
    if codings:
        if [coding.lower() for coding in codings] != ["chunked"]:
            raise MalformedError("the only transfer encoding is chunked", 501)
        if lengths:
            raise MalformedError("a chunked body has no Content-Length")
        return None
    if not lengths:
        return 0
    length = lengths.pop()
    if lengths or not _LENGTH.fullmatch(length):
        raise MalformedError("bad Content-Length")
    return int(length)


@dataclass(slots=True)
class Body:
    """The body of a request on its way out of a buffer. `length` is None for a chunked one."""

    length: int | None
    is_complete: bool = False
    trailers: dict[str, str] = field(default_factory=dict[str, str])
    _left: int = 0
    """What is missing of the body, or of the current chunk."""
    _size_line: re.Pattern[bytes] = _SIZE_LINE
    _in_trailers: bool = False

    def __post_init__(self) -> None:
        self._left = self.length or 0
        self.is_complete = self.length == 0

    def take(self, buffer: bytearray) -> bytes:
        """What `buffer` has of the body or the current chunk, removed from it. b"" when more must arrive, or nothing.

        Raises MalformedError.
        """
        if self.length is None and not self._left and not self._begin_chunk(buffer):
            return b""
        piece = bytes(buffer[: self._left])
        del buffer[: self._left]
        self._left -= len(piece)
        self.is_complete = self.length is not None and not self._left
        return piece

    def _begin_chunk(self, buffer: bytearray) -> bool:
        """Read the size of the next chunk, or what comes after the last one. False: there is no chunk (yet)."""
        if self._in_trailers:
            self._take_trailers(buffer)
            return False
        line = self._size_line.match(buffer)
        if line is None:
            if buffer.find(b"\n", 2) >= 0 or len(buffer) > _MAX_SIZE_LINE_BYTES:
                raise MalformedError("illegal chunk header")
            return False
        self._left = int(line[1], 16)
        self._size_line = _NEXT_SIZE_LINE
        del buffer[: line.end()]
        if not self._left:
            self._in_trailers = True
            self._take_trailers(buffer)
        return self._left > 0

    def _take_trailers(self, buffer: bytearray) -> None:
        if buffer.startswith(b"\r\n"):
            del buffer[:2]
            self.is_complete = True
        elif not b"\r\n".startswith(buffer) and (text := _take_block(buffer)) is not None:
            self.trailers = dict(_headers(text))
            self.is_complete = True


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
