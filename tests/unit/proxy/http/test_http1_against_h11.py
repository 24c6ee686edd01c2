"""The HTTP client beside h11: what h11 refuses is never a whole answer here, and no connection is kept after it."""

import random
from itertools import pairwise

import h11
from hypothesis import given
from hypothesis import strategies as st
from proxy.http.http1 import Connection
from proxy.http.wire import HttpError

Answer = tuple[int, bytes]
"""Status and body of an answer that came whole."""

ODD_BYTES = [bytes([byte]) for byte in (0, 1, 9, 10, 11, 12, 13, 32, 34, 44, 48, 58, 59, 61, 127, 128, 0x85, 0xA0, 255)]
STATUS_LINES = [
    *(b"HTTP/1.1 200 OK", b"HTTP/1.1 200", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 Not Modified"),
    *(b"HTTP/1.0 200 OK", b"HTTP/1.1 599 \xfc", b"HTTP/1.1 100 Continue", b"HTTP/1.1 101 Switching Protocols"),
    *(b"HTTP/1.2 200 OK", b"HTTP/2.0 200 OK", b"HTTP/11 200 OK", b"http/1.1 200 OK", b"HTTP/1.1 099 "),
]  # fmt: skip
FIELDS = [
    *(b"content-length: 3", b"Content-Length:3", b"content-length: 3, 3", b"content-length: 4", b"content-length: +3"),
    *(b"content-length:", b"content-length: 0", b"content-length: 3 3", b"content-length: \xb2"),
    *(b"transfer-encoding: chunked", b"Transfer-Encoding: CHUNKED", b"transfer-encoding: gzip, chunked"),
    *(b"transfer-encoding: identity", b"transfer-encoding:\tchunked ", b"transfer-encoding: chunked;q=1"),
    *(b"transfer-encoding : chunked", b" folded", b"\tfolded", b"x:", b"x: \xfc", b"x: a\tb", b"x", b": x", b"x y: z"),
    *(b"connection: close", b"connection: keep-alive", b"connection: x, CLOSE", b"connection: disclosed"),
]  # fmt: skip
CHUNK_SIZES = [
    *(b"3", b"03", b"3;a", b"3;a=b", b'3;a="b;c"', b"3 ", b"3 ;a", b"3;", b"+3", b"-3", b"0x3", b"3g", b"", b"0", b"4"),
    *(b"3;a\rb", b"3;a\nb", b"3;\0", b"0" * 17 + b"3"),
]
TRAILERS = [
    b"",
    b"a: b\r\n",
    b"a\r\n",
    b" a: b\r\n",
    b"a: b\r\n c\r\n",
    b"a: b\n",
    b"content-length: 9\r\n",
    b"a: \0\r\n",
]


class Peer:
    """A socket whose other side sends `pieces`, each of which is one read, and then is silent, or closes it."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.closes = False

    def settimeout(self, seconds: float | None) -> None:
        """Nothing here ever waits."""

    def recv(self, size: int) -> bytes:
        if not self.pieces and not self.closes:
            raise TimeoutError
        return self.pieces.pop(0) if self.pieces else b""


def ours(answers: list[list[bytes]], method: str) -> tuple[list[Answer], bool]:
    """The whole answers that the proxy's client finds, and whether it would use the connection again."""
    peer = Peer()
    connection = Connection(peer)  # type: ignore[arg-type]
    found: list[Answer] = []
    for pieces in answers:
        peer.pieces, peer.closes = [*peer.pieces, *pieces], pieces is answers[-1]
        try:
            head = connection.read_head()
            found.append((head.status, b"".join(connection.body(head, method))))
        except HttpError:
            return found, False
        if not connection.reusable:
            return found, False
        if peer.pieces:  # more has come, or would have: the pool looks before it hands a connection out
            return found, False
    return found, True


def h11s(answers: list[list[bytes]], method: str) -> tuple[list[Answer], bool]:
    """The same of h11."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=10**6)
    found: list[Answer] = []
    for pieces in answers:
        connection.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
        connection.send(h11.EndOfMessage())
        answer = h11s_answer(connection, [*pieces, b""] if pieces is answers[-1] else pieces)
        if answer is None:
            return found, False
        found.append(answer)
        if connection.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE} or connection.trailing_data[0]:
            return found, False
        if pieces is not answers[-1]:
            connection.start_next_cycle()
    return found, True


def h11s_answer(connection: h11.Connection, pieces: list[bytes]) -> Answer | None:
    status, body = 0, b""
    unread = iter(pieces)
    while True:
        try:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                connection.receive_data(next(unread))
        except (h11.RemoteProtocolError, StopIteration):
            return None
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            for piece in unread:
                connection.receive_data(piece)
            return status, body
        elif isinstance(event, h11.ConnectionClosed):
            return None


def generated(chance: random.Random) -> bytes:
    """One answer, right or nearly right."""
    is_plain = chance.random() < 0.5
    fields = chance.choices(
        [b"x: a\tb", b"connection: keep-alive"] if is_plain else FIELDS, k=chance.choice((0, 1, 1, 2))
    )
    framing = [b"content-length: 3", b"transfer-encoding: chunked", b"x: y"]
    lines = [chance.choice(STATUS_LINES[:5] if is_plain else STATUS_LINES), *fields, chance.choice(framing)]
    if chance.random() < 0.1:
        lines.insert(0, chance.choice([b"HTTP/1.1 100 Continue\r\n", b"HTTP/1.1 103 Hints\r\nlink: a\r\n", b""]))
    chunks = b"".join(
        (b"3" if is_plain else chance.choice(CHUNK_SIZES)) + b"\r\nabc\r\n" for _ in range(chance.randrange(3))
    )
    chunked = chunks + b"0\r\n" + (b"" if is_plain else chance.choice(TRAILERS)) + b"\r\n"
    body = chunked if b"chunked" in lines[-1] else chance.choice([b"abc", b"abc", b"", b"ab", b"abcd", chunked])
    answer = bytearray(b"\r\n".join(lines) + b"\r\n\r\n" + body)
    for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 3))):
        position = chance.randrange(len(answer) + 1)
        match chance.randrange(4):
            case 0:
                answer[position:position] = chance.choice(ODD_BYTES)
            case 1:
                answer[position : position + 1] = chance.choice(ODD_BYTES)
            case 2:
                del answer[position : position + chance.randrange(1, 4)]
            case _:
                answer[position:position] = answer[position : position + chance.randrange(1, 40)]
    return bytes(answer)


def pieces_of(data: bytes, chance: random.Random) -> list[bytes]:
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice((0, 0, 1, 5))))
    edges = [0, *cuts, len(data)]
    return [piece for start, end in pairwise(edges) if (piece := data[start:end])]


def compare(seed: int) -> tuple[int, int]:
    """Compare one generated exchange. How many whole answers our client found, and how many h11."""
    chance = random.Random(seed)
    method = chance.choice(("GET", "GET", "POST", "HEAD"))
    answers = [pieces_of(generated(chance), chance) for _ in range(chance.choice((1, 2)))]
    we_found, we_keep = ours([[*pieces] for pieces in answers], method)
    h11_found, h11_keeps = h11s(answers, method)
    assert we_found == h11_found[: len(we_found)], answers
    assert h11_keeps or not we_keep, answers
    return len(we_found), len(h11_found)


@given(st.integers(0, 2**32))
def test_nothing_is_whole_that_h11_refuses(seed: int) -> None:
    compare(seed)


def test_the_comparison_is_one_of_answers() -> None:
    found = [compare(seed) for seed in range(1000)]
    assert sum(count for count, _ in found) > 200
    assert sum(count for _, count in found) > 200
