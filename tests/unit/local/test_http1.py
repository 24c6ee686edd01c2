"""The HTTP/1.1 of the local stack: the same bytes are the same requests, and what is unclear is refused."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.http.server import Exchange, HttpServer, PeerGoneError
from local.http.wire import Headers, MalformedError, Message, RequestReader, response_head

_CHUNKED = (
    b"POST /%d HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2;a=b\r\nab\r\n3\r\ncde\r\n0\r\nT: v\r\nU:\r\n\r\n"
)
_COUNTED = b"PUT /%d?q=%%20 HTTP/1.1\r\nhost:x\r\nX-A:  b c \r\ncontent-length: 5\r\nx-a:\xe9\t\r\n\r\nabcde"
_UPGRADE = (
    b"POST /%d HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
    b"HTTP2-Settings: AAMAAABkAAQ\r\nContent-Length: 5\r\n\r\nabcde"
)
_LARGE = 64 * 1024 * 1024


def _read(pieces: list[bytes]) -> list[Message]:
    """Every request in bytes that arrive in `pieces`. Raises MalformedError."""
    reader = RequestReader()
    for piece in pieces:
        reader.feed(piece)
    if reader.fault is not None:
        raise reader.fault
    return list(reader.messages)


def _said(messages: list[Message]) -> list[tuple[str, str, Headers, bytes, dict[str, str]]]:
    assert all(message.is_complete and message.keep_alive for message in messages)
    return [
        (message.method, message.target, message.headers, b"".join(message.pieces), message.trailers)
        for message in messages
    ]


@given(st.lists(st.integers(0, 600), max_size=12))
def test_requests_are_the_same_however_their_bytes_arrive(cuts: list[int]) -> None:
    data = b"".join(form % number for number, form in enumerate((_CHUNKED, _COUNTED, _UPGRADE, _CHUNKED)))
    ends = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunked, trailers = [("host", "x"), ("transfer-encoding", "chunked")], {"t": "v", "u": ""}
    counted = [("host", "x"), ("x-a", "b c"), ("content-length", "5"), ("x-a", "\xe9")]
    upgrade = [
        ("host", "x"),
        ("connection", "Upgrade, HTTP2-Settings"),
        ("http2-settings", "AAMAAABkAAQ"),
        ("content-length", "5"),
    ]
    none = dict[str, str]()
    expected = [
        ("POST", "/0", chunked, b"abcde", trailers),
        ("PUT", "/1?q=%20", counted, b"abcde", none),
        ("POST", "/2", upgrade, b"abcde", none),
        ("POST", "/3", chunked, b"abcde", trailers),
    ]
    assert _said(_read([data[start:end] for start, end in pairwise(ends)])) == expected
    assert _said(_read([bytes([byte]) for byte in data])) == expected


def test_the_body_is_there_before_its_end_and_the_trailers_after_it() -> None:
    reader = RequestReader()
    reader.feed(b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nab")
    (message,) = reader.messages
    assert (message.pieces.popleft(), message.is_complete) == (b"ab", False)
    reader.feed(b"cd\r\n0\r\nX-Trailer: value\r\n")
    assert (message.pieces.popleft(), message.is_complete, message.trailers) == (b"cd", False, {})
    reader.feed(b"\r\nGET")
    assert (message.is_complete, message.trailers) == (True, {"x-trailer": "value"})
    assert not message.pieces


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"\x16\x03\x01\x02\x00", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nhost: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"CONNECT x:443 HTTP/1.1\r\nhost: x\r\n\r\n", 501),
        (b"GET / HTTP/1.1\nhost: x\n\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: \x00\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1, 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %b1\r\n\r\n" % (b"0" * 5000), 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 40_000, 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"b" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a:\r\n" * 8_000 + b"\r\n", 431),
        (b"GET /" + b"a" * 40_000, 431),
    ],
)
def test_what_is_not_clearly_a_request_is_refused(head: bytes, status: int) -> None:
    for pieces in ([head], [bytes([byte]) for byte in head]):
        with pytest.raises(MalformedError) as refused:
            _read(pieces)
        assert refused.value.status == status


@pytest.mark.parametrize(
    "body",
    [
        b"zz\r\n",
        b"-1\r\n",
        b"1\r\nab\r\n",
        b"1;a\nX",
        b"1" * 5000,
        b"0\r\na : b\r\n\r\n",
        b"0\r\na: " + b"b" * 40_000,
        b"0\r\na: " + b"b" * 40_000 + b"\r\n\r\n",
    ],
)
def test_what_is_not_chunked_is_refused(body: bytes) -> None:
    with pytest.raises(MalformedError):
        _read([b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", body])


def test_requests_before_a_fault_are_served() -> None:
    reader = RequestReader()
    reader.feed(b"GET /1 HTTP/1.1\r\nhost: x\r\n\r\nnonsense\r\n\r\n")
    assert [message.target for message in reader.messages] == ["/1"]
    assert reader.fault is not None


def test_offers_of_another_protocol_are_declined_however_many_there_are() -> None:
    offer = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    assert len(_said(_read([offer * 2_000]))) == 2_000


def test_http10_is_answered_and_its_connection_closed() -> None:
    (message,) = _read([b"GET / HTTP/1.0\r\nconnection: keep-alive\r\nexpect: 100-continue\r\n\r\n"])
    assert (message.is_http10, message.keep_alive, message.expects_continue) == (True, False, False)


async def _exchange(data: list[bytes], handler: Callable[[Exchange], Awaitable[None]]) -> bytes:
    """What a server with `handler` sends to a client that sends `data`, each when something came back for the last."""
    server = HttpServer(handler, lambda fault: ([], fault.encode()))
    port = await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    async with asyncio.timeout(20):
        for number, each in enumerate(data):
            if number:
                received += await reader.read(65536)
            writer.write(each)
        received += await reader.read()
    writer.close()
    await server.close()
    return received


async def _echo(exchange: Exchange) -> None:
    await exchange.respond(200, [], exchange.request.target.encode() + await exchange.body(1000))


def test_pipelined_requests_are_answered_in_turn_the_last_one_a_refusal() -> None:
    two = b"POST /1 HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nabGET /2 HTTP/1.1\r\nhost: x\r\n\r\nnonsense\r\n"
    answer = asyncio.run(_exchange([two], _echo))
    first, second, third = answer.split(b"HTTP/1.1 ")[1:]
    assert (first[-6:], second[-6:], third[:4]) == (b"\r\n/1ab", b"\r\n\r\n/2", b"400 ")


def test_a_client_that_waits_before_it_sends_its_body_is_told_to_go_on() -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-Continue\r\nconnection: close\r\ncontent-length: 2\r\n\r\n"
    answer = asyncio.run(_exchange([head, b"ab"], _echo))
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"/ab")
    assert b"100" not in asyncio.run(_exchange([head + b"ab"], _echo))


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
