"""The HTTP/1.1 of the local stack: the same bytes are the same requests, and what is unclear is refused."""

import asyncio
import socket
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.http1 import Exchange, HttpServer, PeerGoneError
from local.http1_wire import Body, MalformedError, response_head, take_head

_CHUNKED = (
    b"POST /%d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nab\r\n3\r\ncde\r\n0\r\nT: v\r\n\r\n"
)
_COUNTED = b"PUT /%d?q=%%20 HTTP/1.1\nhost:x\nX-A:  b c \ncontent-length: 5\n\nabcde"
_LARGE = 64 * 1024 * 1024


def _read(pieces: list[bytes]) -> list[tuple[str, str, bytes]]:
    """Method, target and body of every request in bytes that arrive in `pieces`."""
    buffer, found = bytearray(), list[tuple[str, str, bytes]]()
    head, body, content = None, Body(0), b""
    for piece in pieces:
        buffer += piece
        while True:
            if head is None:
                if (head := take_head(buffer)) is None:
                    break
                body, content = Body(head.body_length), b""
            while taken := body.take(buffer):
                content += taken
            if not body.is_complete:
                break
            found.append((head.method, head.target, content))
            head = None
    assert not buffer
    return found


@given(st.lists(st.integers(0, 400), max_size=12))
def test_requests_are_the_same_however_their_bytes_arrive(cuts: list[int]) -> None:
    data = b"".join(form % number for number, form in enumerate((_CHUNKED, _COUNTED, _CHUNKED)))
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    expected = [("POST", "/0", b"abcde"), ("PUT", "/1?q=%20", b"abcde"), ("POST", "/2", b"abcde")]
    assert _read([data[start:end] for start, end in pairwise(ends)]) == expected
    assert _read([bytes([byte]) for byte in data]) == expected


def test_trailers_are_read_behind_the_last_chunk() -> None:
    body = Body(None)
    buffer = bytearray(b"1\r\na\r\n0\r\nX-Trailer: value\r\n\r\nGET")
    assert body.take(buffer) == b"a"
    assert body.take(buffer) == b""
    assert (body.is_complete, body.trailers, bytes(buffer)) == (True, {"x-trailer": "value"}, b"GET")


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nhost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: \x00\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1, 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 40_000, 431),
    ],
)
def test_what_is_not_clearly_a_request_is_refused(head: bytes, status: int) -> None:
    with pytest.raises(MalformedError) as refused:
        take_head(bytearray(head))
    assert refused.value.status == status


@pytest.mark.parametrize("body", [b"zz\r\n", b"-1\r\n", b"1\r\nab\r\n", b"1;a\nX", b"1" * 5000])
def test_what_is_not_chunked_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedError):
        _read([b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", body])


def test_a_status_without_a_name_has_a_head() -> None:
    assert response_head(599, [("a", "b")]) == b"HTTP/1.1 599 \r\na: b\r\n\r\n"


def test_a_client_that_does_not_read_holds_its_sender_and_one_that_leaves_tells_it() -> None:
    async def try_it() -> tuple[int, bool]:
        sent, gone = 0, asyncio.Event()

        async def stream(exchange: Exchange) -> None:
            nonlocal sent
            await exchange.start(200, [])
            try:
                while sent < _LARGE:
                    await exchange.send(b"x" * 65536)
                    sent += 65536
            except PeerGoneError:
                gone.set()

        server = HttpServer(stream, lambda fault: ([], fault.encode()))
        port = await server.start("127.0.0.1", 0)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            before = -1
            while sent != before:  # until nothing moves any more
                before = sent
                await asyncio.sleep(0.2)
        async with asyncio.timeout(20):
            await gone.wait()
        await server.close()
        return before, gone.is_set()

    held, is_told = asyncio.run(try_it())
    assert 0 < held < _LARGE
    assert is_told
