"""The HTTP client: framing that no chunking changes, and faults that are never an end."""

import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.http.http1 import Connection
from proxy.http.pool import Pool, open_socket
from proxy.http.wire import (
    BrokenError,
    ChunkedDecoder,
    ConnectError,
    HttpError,
    SilenceError,
    parse_head,
    request_head,
)

from tests.fakes import ScriptedServer


def encoded(pieces: list[bytes], extension: bytes = b"", trailers: bytes = b"") -> bytes:
    chunks = [b"%x%b\r\n%b\r\n" % (len(piece), extension, piece) for piece in pieces if piece]
    return b"".join(chunks) + b"0\r\n" + trailers + b"\r\n"


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(position % (len(data) + 1) for position in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(
    pieces=st.lists(st.binary(max_size=40)),
    cuts=st.lists(st.integers(0, 5000)),
    extension=st.sampled_from([b"", b";a=b", b'; x = "y;\\""', b"  "]),
    trailers=st.sampled_from([b"", b"a: b\r\n", b"a: b\r\nc: d\r\n"]),
    after=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n"]),
)
def test_chunked_content_is_the_same_however_it_arrives(
    pieces: list[bytes], cuts: list[int], extension: bytes, trailers: bytes, after: bytes
) -> None:
    decoder = ChunkedDecoder()
    data = encoded(pieces, extension, trailers) + after
    assert b"".join(decoder.feed(piece) for piece in cut(data, cuts)) == b"".join(pieces)
    assert decoder.ended
    assert decoder.rest == after


class Quick(ChunkedDecoder):
    """Does not look at lines one by one."""

    def _take_line(self, line: bytes) -> None:
        raise AssertionError(line)


def test_a_read_that_brings_one_chunk_is_not_looked_at_line_by_line() -> None:
    decoder = Quick()
    for size in (1, 9, 10, 255, 4096):
        assert decoder.feed(b"%x\r\n" % size + b"a" * size + b"\r\n") == b"a" * size
    for other in (b"0\r\n\r\n", b"1;a\r\na\r\n", b"1\r\na\r\n1\r\nb\r\n"):
        with pytest.raises(AssertionError):
            Quick().feed(other)


@pytest.mark.parametrize("inner", [b"3\r\nabc\r\n", b"0\r\n\r\n", b"\r\n", b"1\r\nx\r\n1\r\ny\r\n"])
def test_content_that_looks_like_chunks_is_content_wherever_it_is_cut(inner: bytes) -> None:
    data, size = encoded([inner, b"x"]), len(encoded([inner, b"x"]))
    for first in range(size):
        for second in range(first, size):
            decoder = ChunkedDecoder()
            parts = data[:first], data[first:second], data[second:]
            assert b"".join(decoder.feed(part) for part in parts if part) == inner + b"x", (first, second)
            assert (decoder.ended, decoder.fault, decoder.rest) == (True, None, b"")


def test_a_chunk_of_any_size_that_comes_at_once_is_its_content() -> None:
    decoder = ChunkedDecoder()
    for size in range(1, 300):
        for written in (b"%x", b"%X", b"0%x"):
            assert decoder.feed(written % size + b"\r\n" + b"x" * size + b"\r\n") == b"x" * size


@given(st.lists(st.binary(min_size=1, max_size=10), min_size=1), st.integers(1, 1000))
def test_chunked_content_that_is_cut_has_not_ended(pieces: list[bytes], missing: int) -> None:
    data = encoded(pieces)
    decoder = ChunkedDecoder()
    content = decoder.feed(data[: max(0, len(data) - missing)])
    assert not decoder.ended
    assert b"".join(pieces).startswith(content)


@pytest.mark.parametrize(
    "wrong",
    [
        b"x\r\n",
        b"-1\r\n",
        b"0x1\r\n",
        b"1_0\r\n",
        b"\r\n",
        b"+1\r\n",
        b"2\r\nabc\r\n",
        b"f" * 16 + b"\r\n",
        b"1" * 70_000,
        b"2\nab",
        b"2\r\nabc",
        b"2\r\nab\n",
        b"2;\r\nab\r\n",
        b"2 ;a\r\nab\r\n",
        b"2;a\rb\r\nab\r\n",
        b"2;a\nb\r\nab\r\n",
        b'2;a="\0"\r\nab\r\n',
        b'2;a="b\r\nab\r\n',
        b"0\r\nno colon\r\n\r\n",
        b"0\r\n a: b\r\n\r\n",
        b"0\r\na: b\r\n folded\r\n\r\n",
        b"0\r\na: b\rc\r\n\r\n",
        b"0\r\na: b\nc: d\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\ntransfer-encoding: chunked\r\n\r\n",
        b"0\r\n" + b"a: b\r\n" * 20_000,
    ],
)
def test_what_is_no_chunked_coding(wrong: bytes) -> None:
    decoder = ChunkedDecoder()
    decoder.feed(wrong)
    assert isinstance(decoder.fault, BrokenError)


def test_what_came_whole_before_a_fault_is_content() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"2\r\nab\r\n2\r\ncd\r\nx\r\n") == b"abcd"
    assert decoder.fault


def test_a_head() -> None:
    head = parse_head(b"HTTP/1.1 200 OK\r\nContent-Type: a/b \r\nX:\r\nx-a: 1\r\nX-A: 2\r\nX-U: \xfc")
    assert (head.status, head.keeps_alive) == (200, True)
    assert head.headers == {"content-type": "a/b", "x": "", "x-a": "1, 2", "x-u": "ü"}
    assert parse_head(b"HTTP/1.1 204").status == 204


@pytest.mark.parametrize(
    ("head", "keeps_alive"),
    [
        (b"HTTP/1.1 200 OK\r\nconnection: Close", False),
        (b"HTTP/1.1 200 OK\r\nconnection: keep-alive", True),
        (b"HTTP/1.0 200 OK", False),
        (b"HTTP/1.1 200 OK\r\nconnection: x,\tCLOSE ", False),
        (b"HTTP/1.1 200 OK\r\nconnection: disclosed", True),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive", False),
        (b"HTTP/1.1 204 No Content\r\ncontent-length: 0", True),
        (b"HTTP/1.1 204 No Content\r\ncontent-length: 1", False),
        (b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked", False),
    ],
)
def test_whether_a_connection_stays(head: bytes, keeps_alive: bool) -> None:
    assert parse_head(head).keeps_alive is keeps_alive


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"SSH-2.0-x",
        b"HTTP/2 200",
        b"HTTP/1.2 200",
        b"http/1.1 200 OK",
        b"HTTP/1.1 20",
        b"HTTP/1.1 600 x",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 200\tOK",
        b" HTTP/1.1 200 OK",
        b"\r\nHTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200 OK\r\n: x",
        b"HTTP/1.1 200 OK\r\na b: x",
        b"HTTP/1.1 200 OK\r\na : x",
        b"HTTP/1.1 200 OK\r\na\xfc: x",
        b"HTTP/1.1 200 OK\r\n folded: x",
        b"HTTP/1.1 200 OK\r\na: x\r\n folded",
        b"HTTP/1.1 200 OK\r\na: x\r\n\tfolded",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1",
        b"HTTP/1.1 200 OK\r\ncontent-length: ",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1_0",
        b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 19,
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 1",
        b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding:",
        b"HTTP/1.0 200 OK\r\ntransfer-encoding: chunked",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x",
        b"HTTP/1.1 103 Hints\r\ncontent-length: 5",
        b"HTTP/1.1 100 Continue\r\ntransfer-encoding: chunked",
        b"HTTP/1.0 100 Continue",
    ],
)
def test_heads_that_are_refused(head: bytes) -> None:
    with pytest.raises(BrokenError):
        parse_head(head)


@contextmanager
def peer(*pieces: bytes, closes: bool = True) -> Generator[Connection]:
    """A connection whose other side sends `pieces` and is silent or gone afterwards."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for piece in pieces:
            theirs.sendall(piece)
        if closes:
            theirs.shutdown(socket.SHUT_WR)
        connection = Connection(ours)
        connection.until = time.monotonic() + 0.2
        yield connection


CONTROLS = [bytes([byte]) for byte in range(128) if byte != 9 and (byte < 32 or byte == 127)]


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("place", [b"HTTP/1.1 200 O%bK", b"HTTP/1.1 200 OK\r\na: b%bc", b"HTTP/1.1 200 OK\r\na%bb: c"])
def test_control_characters_are_refused(place: bytes, control: bytes) -> None:
    with pytest.raises(BrokenError):
        parse_head(place % control)


@pytest.mark.parametrize(
    "beginning",
    [
        b"SSH-2.0-x\r\n",
        b"\x15\x03\x01\0\x02\x02\n",
        b"HTTP/2",
        b"\r\n",
        b"HTTP/1.1 200 OK\n",
        b"HTTP/1.1 200 OK\ra",
        b"HTTP/1.1 200 OK\r\na: b\0",
    ],
)
def test_what_cannot_become_a_head_is_refused_at_once(beginning: bytes) -> None:
    for pieces in ([beginning], [beginning[index : index + 1] for index in range(len(beginning))]):
        with peer(*pieces, closes=False) as connection, pytest.raises(BrokenError):
            connection.read_head()


def test_a_request_head() -> None:
    head = request_head("POST", "/a?b=c", "host:1", {"x": "ü", "y": "€"}, 3)
    assert head == b"POST /a?b=c HTTP/1.1\r\nhost: host:1\r\nx: \xfc\r\ny: ?\r\ncontent-length: 3\r\n\r\n"


@pytest.mark.parametrize(("target", "value"), [("/a\r\nb", ""), ("/", "a\r\nx: y"), ("/", "a\0"), ("/\n", "")])
def test_nothing_can_be_smuggled_into_a_request(target: str, value: str) -> None:
    with pytest.raises(ValueError, match="control character"):
        request_head("GET", target, "host", {"x": value}, None)


def read(connection: Connection, method: str = "GET") -> bytes:
    return b"".join(connection.body(connection.read_head(), method))


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("answer", "method", "body", "reusable"),
    [
        (OK + b"content-length: 3\r\n\r\nabc", "GET", b"abc", True),
        (OK + b"content-length: 0\r\n\r\n", "GET", b"", True),
        (OK + b"content-length: 3\r\nconnection: close\r\n\r\nabc", "GET", b"abc", False),
        (OK + b"content-length: 3\r\n\r\nabcd", "GET", b"abc", False),
        (OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "GET", b"abc", True),
        (OK + b"\r\nuntil closed", "GET", b"until closed", False),
        (OK + b"content-length: 3\r\n\r\n", "HEAD", b"", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "GET", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", "GET", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n", "GET", b"", True),
        (b"HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n", "GET", b"", True),
        (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 199 Hints\r\na: b\r\n\r\n" + OK + b"content-length: 1\r\n\r\nx",
            "GET",
            b"x",
            True,
        ),
    ],
)
def test_bodies(answer: bytes, method: str, body: bytes, reusable: bool) -> None:
    for pieces in ([answer], [answer[index : index + 1] for index in range(len(answer))]):
        with peer(*pieces) as connection:
            assert read(connection, method) == body
            assert connection.reusable is reusable


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP",
        OK,
        OK + b"content-length: 3\r\n\r\nab",
        OK + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ],
)
def test_a_cut_is_never_an_end_and_silence_is_not_a_cut(answer: bytes) -> None:
    with peer(answer) as connection, pytest.raises(BrokenError):
        read(connection)
    assert not connection.reusable
    with peer(answer, closes=False) as connection, pytest.raises(SilenceError):
        read(connection)


def test_a_head_without_end_is_refused() -> None:
    with peer(OK + b"a: " + b"x" * 70_000, closes=False) as connection, pytest.raises(BrokenError):
        connection.read_head()


def test_a_peer_that_takes_nothing_is_silent() -> None:
    with peer(closes=False) as connection, pytest.raises(SilenceError):
        connection.send(b"x" * 50_000_000)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/", "http://no-such-host.invalid/", "http://" + "a" * 64 + ".x/"])
def test_no_connection(url: str) -> None:
    with pytest.raises(ConnectError):
        Pool().connect(url, 5.0)


def test_a_server_without_tls_is_no_connection() -> None:
    with ScriptedServer(lambda connection, _: connection.close()) as server, pytest.raises(HttpError):
        Pool().connect(server.url.replace("http:", "https:"), 5.0)


def test_connections_are_kept_per_address_until_the_server_closes_them() -> None:
    pool = Pool()
    with ScriptedServer(lambda connection, _: connection.answer(b"x")) as server:
        first, host, target = pool.connect(f"{server.url}/a/b?c=d", 5.0)
        assert (host, target) == (f"127.0.0.1:{server.port}", "/a/b?c=d")
        first.send(request_head("GET", target, host, {}, None))
        assert read(first) == b"x"
        pool.release(server.url, first)
        second, _, _ = pool.connect(server.url, 5.0)
        assert second is first
        pool.release(server.url, second)
    with pytest.raises(ConnectError):
        pool.connect(server.url, 5.0)
    pool.close()


def test_an_answer_that_was_not_read_to_its_end_closes_its_connection() -> None:
    pool = Pool()
    with ScriptedServer(lambda connection, _: connection.answer(b"x")) as server:
        first, host, target = pool.connect(server.url, 5.0)
        first.send(request_head("GET", target, host, {}, None))
        first.read_head()
        pool.release(server.url, first)
        second, _, _ = pool.connect(server.url, 5.0)
        assert second is not first
        second.close()


@given(
    status=st.integers(100, 599),
    version=st.sampled_from([0, 1]),
    framing=st.sampled_from(["", "content-length: 0", "content-length: 5", "transfer-encoding: chunked"]),
)
def test_an_interim_answer_has_no_body_and_changes_no_protocol(status: int, version: int, framing: str) -> None:
    head = f"HTTP/1.{version} {status} X" + (f"\r\n{framing}" if framing else "")
    is_interim_with_more = status < 200 and (status == 101 or version == 0 or framing != "")
    if is_interim_with_more or (version == 0 and "chunked" in framing):
        with pytest.raises(BrokenError):
            parse_head(head.encode())
    else:
        assert parse_head(head.encode()).status == status


@pytest.mark.parametrize("port", [65536, 70_000, 2**31, 2**63, 2**80])
def test_a_port_that_cannot_be_is_no_connection(port: int) -> None:
    with pytest.raises(ConnectError):
        open_socket("127.0.0.1", port, 1.0)


def test_a_connection_is_given_no_more_time_than_is_left() -> None:
    for timeout in (0.0, -1.0):
        with pytest.raises(ConnectError, match="the time is over"):
            open_socket("127.0.0.1", 9, timeout)
    with ScriptedServer(lambda connection, _: connection.close()) as server:
        sock = open_socket("127.0.0.1", server.port, 60.0)
        try:
            limit = sock.gettimeout()
            assert limit is not None
            assert 0 < limit <= 60.0
        finally:
            sock.close()


def test_a_connection_that_was_closed_is_not_used_again() -> None:
    with peer(OK + b"content-length: 3\r\n\r\nabc", closes=False) as connection:
        assert read(connection) == b"abc"
        assert connection.reusable
        connection.close()
        assert not connection.reusable


def test_an_answer_to_what_could_not_be_sent_is_read_and_its_connection_not_used_again() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(OK + b"content-length: 3\r\n\r\nabc")
        theirs.close()
        connection = Connection(ours)
        with pytest.raises(BrokenError):
            connection.send(b"GET / HTTP/1.1\r\n\r\n")
        assert read(connection) == b"abc"
        assert not connection.reusable
