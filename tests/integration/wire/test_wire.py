"""Servers that stall, drip, or answer before they have read: no call outlasts its time, and every answer is heard."""

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from openai_proxy.servers import Server, TokenReference
from proxy.errors import UpstreamError
from proxy.http.pool import Pool, open_socket
from proxy.http.transport import ConnectionFailedError, HttpTransport, Timeouts
from proxy.http.wire import ConnectError, Outgoing

from tests.integration.wire.test_tls import make_certificate

LARGE = b"x" * 8_000_000
"""More than the kernel takes for a peer that does not read."""
TOO_LARGE = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Peer:
    """A server whose connections are each handed to `script`, over TLS if there is a `certificate`."""

    def __init__(self, script: Callable[[socket.socket], object], certificate: Path | None) -> None:
        self._script = script
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if certificate else None
        if self._context and certificate:
            self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"{'https' if certificate else 'http'}://127.0.0.1:{self._listener.getsockname()[1]}/v1"
        self.connections = 0
        self.over = threading.Event()
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    def _run(self, target: Callable[..., None], *args: Any) -> None:
        self._threads.append(threading.Thread(target=target, args=args, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock = self._listener.accept()[0]
                self.connections += 1
                self._run(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            sock.settimeout(20)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a close would drop what waits to be sent
            if self._context:
                sock = self._context.wrap_socket(sock, server_side=True)
            with sock:
                self._script(sock)

    def close(self) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(timeout=20)
        self._listener.close()


@pytest.fixture(params=["http", "https"])
def certificate(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path | None:
    """Each test over TCP and over TLS."""
    if request.param == "http":
        return None
    made = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made))
    return made


@contextmanager
def serving(
    certificate: Path | None, script: Callable[[socket.socket], object], **timeouts: float
) -> Generator[tuple[HttpTransport, Peer]]:
    peer = Peer(script, certificate)
    transport = HttpTransport(Timeouts(**timeouts))
    try:
        yield transport, peer
    finally:
        transport.close()
        peer.close()


def ask(transport: HttpTransport, peer: Peer, body: bytes = LARGE, seconds: float = 20) -> tuple[int, bytes]:
    server = Server("s", peer.url, TokenReference("literal", "t"), "", retries=0)
    with transport.stream(server, Outgoing("POST", peer.url, {}, body), time.time() + seconds) as answer:
        return answer.status, b"".join(answer)


def read_request(sock: socket.socket, interim: bytes = b"") -> int:
    """Read one request, and say `interim` when its head is there; how long the body was."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += some(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    sock.sendall(interim)
    length, size = int(head.rpartition(b"content-length: ")[2].split(b"\r\n")[0]), len(body)
    while size < length:
        size += len(some(sock))
    return size


def some(sock: socket.socket) -> bytes:
    if data := sock.recv(65536):
        return data
    raise ConnectionError


def dripping(beginning: bytes, drop: bytes) -> Callable[[socket.socket], object]:
    """Answers for ever, a little at a time."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(beginning)
        while drop:
            sock.sendall(drop)
            time.sleep(0.01)
        sock.recv(1)

    return script


@pytest.mark.parametrize(
    ("beginning", "drop"),
    [
        (b"", b""),
        (b"HTTP/1.1 200 OK\r\na: ", b"b"),
        (b"", b"HTTP/1.1 103 Hints\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    ],
)
def test_a_short_call_ends_in_its_time(certificate: Path | None, beginning: bytes, drop: bytes) -> None:
    script = dripping(beginning, drop)
    with serving(certificate, script) as (transport, peer), pytest.raises(ConnectionFailedError, match="SilenceError"):
        transport.post(peer.url, {}, b"{}", 0.3)


def test_a_short_answer_that_is_long_is_given_up() -> None:
    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sock.sendall(LARGE)

    with serving(None, script) as (transport, peer), pytest.raises(ConnectionFailedError, match="too long"):
        transport.post(peer.url, {}, b"{}", 20.0)


@pytest.mark.parametrize("reads", [0, 1000])
def test_a_request_that_is_not_taken_ends_at_the_deadline(certificate: Path | None, reads: int) -> None:
    def script(sock: socket.socket) -> None:
        while not peer.over.wait(0.01):
            if reads:
                sock.recv(reads)

    with serving(certificate, script) as (transport, peer):
        with pytest.raises(UpstreamError) as raised:
            ask(transport, peer, seconds=0.5)
        assert raised.value.code == "deadline_exceeded"
        with pytest.raises(ConnectionFailedError):
            transport.post(peer.url, {}, LARGE, 0.3)


def test_a_server_has_as_long_to_take_a_request_as_to_answer(certificate: Path | None) -> None:
    def script(sock: socket.socket) -> None:
        peer.over.wait(20)

    with serving(certificate, script, first_byte=0.3) as (transport, peer):
        with pytest.raises(UpstreamError) as raised:
            ask(transport, peer)
        assert raised.value.code == "upstream_timeout"


@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("answer", [TOO_LARGE, OK, b"HTTP/1.1 103 Hints\r\n\r\n" + TOO_LARGE])
def test_an_answer_that_comes_before_the_request_is_read_is_heard(
    certificate: Path | None, answer: bytes, closes: bool
) -> None:
    def script(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(answer)
        if not closes:
            peer.over.wait(20)

    with serving(certificate, script) as (transport, peer):
        for number in (1, 2):
            assert ask(transport, peer) in [(413, b"{}"), (200, b"ok")]
            assert peer.connections == number, "the connection is not used again"
        assert transport.post(peer.url, {}, LARGE, 20.0)[0] in (413, 200)


def test_a_server_that_closes_before_it_has_read_is_heard_at_once(certificate: Path | None) -> None:
    with serving(certificate, lambda sock: sock.recv(1000)) as (transport, peer):
        with pytest.raises(UpstreamError) as raised:
            ask(transport, peer)
        assert raised.value.code == "upstream_broken_off"


@pytest.mark.parametrize("interim", [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Hints\r\na: b\r\n\r\n", b""])
def test_an_interim_answer_does_not_keep_the_request_from_being_sent(certificate: Path | None, interim: bytes) -> None:
    def script(sock: socket.socket) -> None:
        for _ in range(2):
            sizes.append(read_request(sock, interim))
            sock.sendall(OK)
        peer.over.wait(20)

    sizes: list[int] = []
    with serving(certificate, script) as (transport, peer):
        assert ask(transport, peer) == (200, b"ok")
        assert ask(transport, peer) == (200, b"ok")
        assert (peer.connections, sizes) == (1, [len(LARGE)] * 2)


def test_an_answer_that_begins_early_is_read_while_the_request_is_sent(certificate: Path | None) -> None:
    def script(sock: socket.socket) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        size = b"%d" % read_request(sock)
        sock.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(size), size))
        peer.over.wait(20)

    with serving(certificate, script) as (transport, peer):
        for number in (1, 2):
            assert ask(transport, peer) == (200, b"%d" % len(LARGE))
            assert peer.connections == number, "who answers first may have stopped reading"


@pytest.mark.parametrize("says_the_end", [True, False])
def test_only_an_end_that_tls_tells_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says_the_end: bool) -> None:
    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\nto its end")
        if says_the_end and isinstance(sock, ssl.SSLSocket):
            sock.unwrap()

    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(certificate, script) as (transport, peer):
        if says_the_end:
            assert ask(transport, peer, b"{}") == (200, b"to its end")
        else:
            with pytest.raises(UpstreamError) as raised:
                ask(transport, peer, b"{}")
            assert raised.value.code == "upstream_broken_off"


def test_a_deadline_that_is_over_is_not_waited_for(certificate: Path | None) -> None:
    with serving(certificate, lambda sock: sock.recv(1)) as (transport, peer):
        with pytest.raises(UpstreamError) as raised:
            ask(transport, peer, b"{}", seconds=-1)
        assert (raised.value.code, peer.connections) == ("deadline_exceeded", 0)


def test_a_server_that_never_shakes_hands_is_no_connection() -> None:
    with serving(None, lambda sock: peer.over.wait(20)) as (_, peer), pytest.raises(ConnectError):
        Pool().connect(peer.url.replace("http:", "https:"), 0.3)


def test_the_address_that_listens_is_found() -> None:
    with serving(None, lambda sock: sock.recv(1)) as (_, peer):
        open_socket("localhost", int(peer.url.split(":")[2].split("/")[0]), 5.0).close()
