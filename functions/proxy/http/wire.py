"""The bytes of HTTP/1.1 as a client writes and reads them: heads, the chunked coding, and what can be wrong. Pure.

Its one rule: bytes that RFC 9112 does not allow raise BrokenError; nothing is guessed. Where the RFC lets a recipient
choose, this one refuses: nothing that h11 refuses is accepted here, and a connection is not kept after anything
doubtful.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

LONGEST_HEAD = 65536
"""Bytes of a head, of the trailers of a body, and of the line with a chunk's size."""

_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_FIELD = re.compile(_TOKEN + rb":" + _TEXT)
_HEAD = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: " + _TEXT + rb")?(?:\r\n" + _FIELD.pattern + rb")*")
_NO_TEXT = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")
_LENGTH = re.compile(r"[0-9]{1,18}")
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_EXTENSION = rb";[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
# RFC 9112 allows blanks before the ";", but h11 refuses them. Some servers do send blanks after a size without a ";".
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})(?:" + _EXTENSION + rb")*[ \t]*")
_CHUNK_START = re.compile(rb"([0-9A-Fa-f]{1,15})\r\n")
_FRAMING = (b"content-length", b"transfer-encoding")


class HttpError(Exception):
    """An exchange failed on the wire."""


class ConnectError(HttpError):
    """No connection could be opened: refused, unknown host, no TLS, or not in time. Nothing has been sent."""


class SilenceError(HttpError):
    """The peer has sent or taken nothing for too long, or the time of the exchange is over."""


class BrokenError(HttpError):
    """The peer closed or reset the connection in the middle of an exchange, or sent something that is not HTTP."""


class AnsweredEarlyError(HttpError):
    """The peer answers although it has not taken the whole request: its answer is there to be read."""


class Outgoing(NamedTuple):
    """A request to be sent. `headers` are without those that belong to its connection: host and length."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


class Head(NamedTuple):
    """Status and headers of an answer. Names are lower case; a repeated header is joined by commas."""

    status: int
    headers: Mapping[str, str]
    keeps_alive: bool


def parse_head(head: bytes) -> Head:
    """Read a head without its blank line. Raises BrokenError for anything that RFC 9112 does not allow."""
    found = _HEAD.fullmatch(head)
    if not found:
        raise BrokenError("what came is no head of HTTP/1.1")
    status, is_old = int(found[2]), found[1] == b"0"
    headers: dict[str, str] = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        key, text = name.decode().lower(), value.strip(b" \t").decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    coding, length = headers.get("transfer-encoding"), headers.get("content-length")
    if coding is not None and (coding.lower() != "chunked" or length is not None or is_old):
        raise BrokenError("the length of the body is not clear")
    if length is not None and not _LENGTH.fullmatch(length):
        raise BrokenError("the length of the body is not clear")
    has_body = coding is not None or length not in (None, "0")
    if status < 200 and (status == 101 or is_old or coding is not None or length is not None):
        raise BrokenError("an interim answer that nobody asked for")
    options = {option.strip() for option in headers.get("connection", "").lower().split(",")}
    keeps_alive = not (is_old or "close" in options or (status == 204 and has_body))
    return Head(status, headers, keeps_alive)


def check_part_of_head(part: bytes, since: int) -> None:
    """Raise BrokenError when `part` cannot become a valid head any more. The first `since` bytes have been checked
    before.
    """
    if part[:7] != b"HTTP/1."[: len(part)] or _NO_TEXT.search(part, max(0, since - 1)):
        raise BrokenError("what came is no head of HTTP/1.1")


def request_head(method: str, target: str, host: str, headers: Mapping[str, str], length: int | None) -> bytes:
    """The head of a request, blank line included; `length` is that of its body. Raises an error for control
    characters.
    """
    fields = {"host": host, **headers}
    if length is not None:
        fields["content-length"] = str(length)
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if not "".join(lines).isprintable():
        raise ValueError("a request line or header holds a control character")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


class ChunkedDecoder:
    """Decodes a chunked body. `ended` is true after the last chunk and its trailers, which are dropped."""

    def __init__(self) -> None:
        self.ended = False
        self.fault: BrokenError | None = None
        """What came is no chunked coding any more; the content before it is whole."""
        self._rest: bytes = b""
        self._left = 0
        self._after_chunk = False
        self._in_trailers = False
        self._size_of_trailers = 0
        self._is_between = True

    def feed(self, data: bytes) -> bytes:
        """The content in `data`, of as many chunks as it holds."""
        if self._is_between and data.endswith(b"\r\n") and (start := _CHUNK_START.match(data)):
            whole = data[start.end() : -2]
            if whole and len(whole) == int(start[1], 16):  # the most frequent case: one read brings one chunk
                return whole
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
                if part := data[position:]:
                    self._check_part(part)
                break
            self._take_line(data[position:end])
            position = end + 2
        self._rest = data[position:]
        self._is_between = not (self._rest or self._left or self._after_chunk or self._in_trailers)
        return content[0] if len(content) == 1 else b"".join(content)

    def _check_part(self, line: bytes) -> None:
        """Check a line that has not ended yet. Raises BrokenError if it cannot become a valid one any more."""
        if self._after_chunk and line != b"\r":
            self.fault = BrokenError("a chunk is longer than its size")
        elif b"\n" in line or len(line) + self._size_of_trailers > LONGEST_HEAD:
            self.fault = BrokenError("a trailer is malformed" if self._in_trailers else "a chunk has no size")

    def _take_line(self, line: bytes) -> None:
        if self._after_chunk:
            if line:
                self.fault = BrokenError("a chunk is longer than its size")
            self._after_chunk = False
        elif self._in_trailers:
            self._take_trailer(line)
        elif size := _CHUNK_SIZE.fullmatch(line):
            self._left = int(size[1], 16)
            self._in_trailers = self._left == 0
        else:
            self.fault = BrokenError("a chunk has no size")

    def _take_trailer(self, line: bytes) -> None:
        """Check a trailer: it has to be a valid header, and must not say how long the body is, because the body has
        ended.
        """
        self._size_of_trailers += len(line)
        self.ended = not line
        if line and (not _FIELD.fullmatch(line) or line.partition(b":")[0].lower() in _FRAMING):
            self.fault = BrokenError("a trailer is malformed")
        elif self._size_of_trailers > LONGEST_HEAD:
            self.fault = BrokenError("the trailers do not end")

    @property
    def rest(self) -> bytes:
        """The bytes that came after the end: none, if the server keeps to the protocol."""
        return self._rest
