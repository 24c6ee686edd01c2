"""Which connection a request gets, how one is opened, and what is kept: sockets that only look like a network's."""

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.http.http1 import Connection
from proxy.http.pool import Address, Pool, _parts, open_socket, tls_context
from proxy.http.wire import ConnectError

URL = "http://host/a?b=c"


class Opening(Pool):
    """A pool whose connections lead to `others`, one for each that it has opened."""

    def __init__(self) -> None:
        super().__init__(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self.opened: list[tuple[Address, float]] = []
        self.others: list[socket.socket] = []

    def _open(self, address: Address, timeout: float) -> Connection:
        self.opened.append((address, timeout))
        ours, theirs = socket.socketpair()
        self.others.append(theirs)
        return Connection(ours)

    def finish(self) -> None:
        for each in (*self._idle.values(), *self.others):
            each.close()


@pytest.fixture
def pool() -> Iterator[Opening]:
    pool = Opening()
    yield pool
    pool.finish()


@pytest.mark.parametrize(
    ("url", "address", "host", "target"),
    [
        (URL, ("http", "host", 80), "host", "/a?b=c"),
        ("https://host", ("https", "host", 443), "host", "/"),
        ("https://Host:8443/v1/", ("https", "host", 8443), "Host:8443", "/v1/"),
        ("http://[::1]:81?x", ("http", "::1", 81), "[::1]:81", "/?x"),
        ("http:///a", ("http", "", 80), "", "/a"),
    ],
)
def test_where_a_url_leads(pool: Opening, url: str, address: Address, host: str, target: str) -> None:
    connection, *said = pool.connect(url, 3.0)
    connection.close()
    assert (pool.opened, said) == ([(address, 3.0)], [host, target])


def kept(pool: Opening, *, idle: float = 0.0) -> Connection:
    """A connection that was used for `URL` and given back `idle` seconds ago."""
    connection, _, _ = pool.connect(URL, 3.0)
    assert not connection.used_before
    connection.reusable = True
    pool.release(URL, connection)
    connection.idle_since -= idle
    return connection


@pytest.mark.parametrize("url", [URL, "http://host/other", "http://HOST:80/"])
@pytest.mark.parametrize("idle", [0.0, 40.0])
def test_a_connection_that_was_kept_is_used_for_the_same_address(pool: Opening, url: str, idle: float) -> None:
    connection = kept(pool, idle=idle)
    assert pool.connect(url, 3.0)[0] is connection
    assert connection.used_before
    another, _, _ = pool.connect(url, 3.0)
    assert another is not connection, "one request at a time"
    connection.close()
    another.close()


@pytest.mark.parametrize("url", ["https://host/", "http://host:81/", "http://other/"])
def test_a_connection_that_was_kept_is_not_used_for_another_address(pool: Opening, url: str) -> None:
    connection = kept(pool)
    another, _, _ = pool.connect(url, 3.0)
    another.close()
    assert another is not connection
    assert pool.connect(URL, 3.0)[0] is connection
    connection.close()


@pytest.mark.parametrize("why", ["fresh", "old", "spoken", "closed"])
def test_a_connection_that_may_be_out_of_step_is_closed_and_another_opened(pool: Opening, why: str) -> None:
    connection = kept(pool, idle=60.0 if why == "old" else 0.0)
    if why == "spoken":
        pool.others[0].send(b"HTTP/1.1 408 Too Slow\r\n\r\n")
    elif why == "closed":
        pool.others[0].close()
    another, _, _ = pool.connect(URL, 3.0, fresh=why == "fresh")
    assert another is not connection
    assert not another.used_before
    assert (connection.sock.fileno(), len(pool.opened)) == (-1, 2)
    another.close()


def test_what_cannot_be_used_again_or_has_no_place_is_closed(pool: Opening) -> None:
    unread, _, _ = pool.connect(URL, 3.0)
    pool.release(URL, unread)
    first, second = pool.connect(URL, 3.0)[0], pool.connect(URL, 3.0)[0]
    for each in (first, second):
        each.reusable = True
        pool.release(URL, each)
    assert [each.sock.fileno() for each in (unread, second)] == [-1, -1]
    assert pool.connect(URL, 3.0)[0] is first
    first.close()


def test_a_pool_that_is_closed_keeps_nothing_and_goes_on(pool: Opening) -> None:
    connection = kept(pool)
    pool.close()
    assert connection.sock.fileno() == -1
    kept(pool)
    assert len(pool.opened) == 2


# ------------------------------------------------------------------------------------------------------------- sockets


@dataclass
class Network:
    """Addresses that take or refuse a connection after so many seconds, on a clock of its own."""

    answers: list[tuple[float, bool]]
    now: float = 1000.0
    asked_for: tuple[Any, ...] = ()
    waits: list[float] = field(default_factory=list[float])
    sockets: list["Socket"] = field(default_factory=list["Socket"])

    def getaddrinfo(self, host: str | bytes, port: int, *, type: int) -> list[Any]:  # as of socket
        self.asked_for = (host, port, type)
        return [(number, type, 6, "", (f"address {number}", port)) for number in range(len(self.answers))]

    def socket(self, *kind: int) -> "Socket":
        self.sockets.append(Socket(self, kind))
        return self.sockets[-1]

    def monotonic(self) -> float:
        return self.now


@dataclass
class Socket:
    """What `open_socket` does to a socket."""

    network: Network
    kind: tuple[int, ...]
    timeout: float | None = None
    address: tuple[str, int] | None = None
    settings: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    is_closed: bool = False

    def settimeout(self, seconds: float) -> None:
        self.timeout = seconds
        self.network.waits.append(seconds)

    def connect(self, address: tuple[str, int]) -> None:
        self.address = address
        seconds, takes = self.network.answers[self.kind[0]]
        self.network.now += min(seconds, self.timeout or 0.0)
        if seconds >= (self.timeout or 0.0):
            raise TimeoutError
        if not takes:
            raise ConnectionRefusedError

    def setsockopt(self, *setting: int) -> None:
        self.settings.append(setting)  # type: ignore[arg-type]

    def close(self) -> None:
        self.is_closed = True


def reached(network: Network, host: str, seconds: float) -> "Socket | str":
    """The socket that `open_socket` gives, or what it says."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", network.getaddrinfo)
        patch.setattr(socket, "socket", network.socket)
        patch.setattr(time, "monotonic", network.monotonic)
        try:
            found: Any = open_socket(host, 81, seconds)
        except ConnectError as error:
            return str(error)
        return found


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 1.0, 2.0, 5.0, 50.0]), st.booleans()), max_size=4),
    st.sampled_from([2.0, 6.0, 20.0]),
)
def test_the_first_address_that_takes_it_is_used_and_all_of_them_have_the_time_together(
    answers: list[tuple[float, bool]], seconds: float
) -> None:
    network = Network(answers)
    found = reached(network, "host", seconds)
    assert network.asked_for == (b"host", 81, socket.SOCK_STREAM)
    left, waits, reason, number = seconds, list[float](), "the host has no address", -1
    for number, (took, takes) in enumerate(answers):
        if left <= 0:
            reason = "the time is over"
            break
        waits.append(left / (len(answers) - number))
        if took < waits[-1] and takes:
            reason = ""
            break
        reason = "ConnectionRefusedError" if took < waits[-1] else "TimeoutError"
        left -= min(took, waits[-1])
    assert network.waits == pytest.approx(waits)
    assert sum(min(took, wait) for (took, _), wait in zip(answers, waits, strict=False)) <= seconds + 1e-9
    if reason:
        assert found == reason
        assert all(each.is_closed for each in network.sockets)
    else:
        assert isinstance(found, Socket)
        assert (found.kind, found.address) == ((number, socket.SOCK_STREAM, 6), (f"address {number}", 81))
        assert found.settings == [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
        assert [each.is_closed for each in network.sockets] == [True] * number + [False]


def test_no_address_is_tried_without_time() -> None:
    network = Network([(0.0, True)])
    assert reached(network, "host", 0.0) == "the time is over"
    assert network.sockets == []


def test_a_name_of_another_script_is_left_to_the_resolver() -> None:
    network = Network([(0.0, True)])
    reached(network, "bücher", 5.0)
    assert network.asked_for[0] == "bücher"


@pytest.mark.parametrize("fault", [socket.gaierror(-2, "x"), UnicodeError("x"), OverflowError("x")])
def test_a_name_that_cannot_be_looked_up_is_no_connection(fault: Exception) -> None:
    class Nowhere(Network):
        def getaddrinfo(self, host: str | bytes, port: int, *, type: int) -> list[Any]:
            raise fault

    assert reached(Nowhere([]), "host", 5.0) == type(fault).__name__


class Tls:
    """In the place of a context: what it is given, and what it makes of that."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.fault = fault
        self.given: list[tuple[Any, ...]] = []

    def wrap_socket(self, sock: socket.socket, **options: Any) -> socket.socket:
        self.given.append((sock, sock.gettimeout(), options))
        if self.fault:
            raise self.fault
        return sock


@pytest.mark.parametrize("fault", [None, ssl.SSLError("x"), ValueError("x"), TimeoutError()])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_is_over_tls_where_its_scheme_says_so(fault: Exception | None, scheme: str) -> None:
    tls: Any = Tls(fault)
    pool = Pool(tls)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"{scheme}://127.0.0.1:{listening.getsockname()[1]}/"
        if fault and scheme == "https":
            with pytest.raises(ConnectError, match=type(fault).__name__):
                pool.connect(url, 500.0)
        else:
            connection, _, _ = pool.connect(url, 500.0)
            assert connection.sock.getpeername() == listening.getsockname()
            assert connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            connection.close()
    if scheme == "https":
        ((sock, seconds, options),) = tls.given
        assert 100.0 < seconds <= 500.0, "what is left of the time"
        assert options == {"server_hostname": b"127.0.0.1", "suppress_ragged_eofs": False}
        assert sock.fileno() == -1
    else:
        assert tls.given == []


def test_who_shakes_hands_has_what_is_left_of_the_time_and_a_moment_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    tls: Any = Tls()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for passed, left in ((2.0, 5.0), (7.0, 0.001), (9.0, 0.001)):
            moments = [1000.0, 1000.0, 1000.0, 1000.0 + passed]
            with monkeypatch.context() as patch:
                patch.setattr(time, "monotonic", partial(moments.pop, 0))
                connection, _, _ = Pool(tls).connect(f"https://127.0.0.1:{listening.getsockname()[1]}/", 7.0)
            connection.close()
            assert tls.given[-1][1] == pytest.approx(left)


def test_tls_checks_whom_it_talks_to() -> None:
    context = Pool().tls
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)


def test_small_pieces_go_out_at_once() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    with listening, open_socket("127.0.0.1", listening.getsockname()[1], 5.0) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_a_server_with_tls_is_told_that_it_is_asked_in_http_1_1() -> None:
    """Or one that has HTTP/2, too, might take that."""
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        tls_context().wrap_bio(ours, theirs, server_hostname="a.example").do_handshake()
    assert theirs.read().count(b"\x00\x10\x00\x0b\x00\x09\x08http/1.1") == 1, "its extension, with this one name"


def test_an_address_is_taken_apart_once() -> None:
    url = "https://once.test:8443/v1/chat?a=b"
    assert _parts(url) == (("https", "once.test", 8443), "once.test:8443", "/v1/chat?a=b")
    assert _parts(url) is _parts(url), "every request of a sandbox goes to one of few"
