"""Exchanges on connections that end early: what was answered counts, and what was kept too long is replaced."""

import contextlib
import math
import socket
import threading
import time
from typing import Any

import pytest
from openai_proxy.servers import Server, TokenReference
from openai_proxy.servers.options import Timers
from proxy.errors import UpstreamError
from proxy.http.exchange import Exchange
from proxy.http.http1 import Connection
from proxy.http.transport import ConnectionFailedError, HttpTransport, Timeouts
from proxy.http.wire import ConnectError, Outgoing

ANSWER = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}"


def gone(said: bytes, *, used_before: bool = False) -> Connection:
    """A connection whose peer has said something and closed it, so that nothing can be sent any more."""
    ours, theirs = socket.socketpair()
    theirs.sendall(said)
    theirs.close()
    connection = Connection(ours)
    connection.used_before, connection.received = used_before, used_before
    return connection


class FakePool:
    """Hands out prepared connections and takes them back."""

    stopper = None

    def __init__(self, *connections: Connection) -> None:
        self.connections = list(connections)
        self.asked: list[bool] = []

    def connect(self, url: str, timeout: float, *, fresh: bool = False) -> tuple[Connection, str, str]:
        self.asked.append(fresh)
        return self.connections.pop(0), "host", "/"

    def release(self, url: str, connection: Connection) -> None:
        connection.close()


def transport(pool: Any) -> HttpTransport:
    made = HttpTransport(Timeouts())
    made._pool = pool
    return made


def test_no_server_is_waited_for_longer_than_whoever_asks_can_wait() -> None:
    def server(**timers: float) -> Server:
        return Server("s", "http://host", TokenReference("literal", ""), "m", timeouts=Timers(**timers))

    own = Timeouts(first_byte=400.0, idle=120.0, longest_silence=290.0)
    patient, quick = server(first_byte=600.0, idle=900.0), server(first_byte=3.0)
    for asked, first_byte, idle in ((patient, 290.0, 290.0), (quick, 3.0, 120.0), (server(), 290.0, 120.0)):
        waited = own.of(asked)
        assert (waited.first_byte, waited.idle) == (first_byte, idle)
    assert Timeouts() == (5.0, 300.0, 120.0, 15.0, math.inf, math.inf)
    whole = HttpTransport(Timeouts(first_byte=400.0))
    assert whole.patient_for(290.0)._timeouts == Timeouts(first_byte=400.0, longest_silence=290.0)
    assert whole.patient_for(290.0)._pool is whole._pool


def test_an_answer_that_came_before_the_body_was_taken_counts() -> None:
    for size in (1, 1_000_000):
        connection = gone(ANSWER)
        status, _, body = transport(FakePool(connection)).post("http://host/", {}, b"x" * size, 5.0)
        assert (status, body) == (413, b"{}")
        assert not connection.reusable


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_short_answer_has_a_bound(beyond: int) -> None:
    size = 16 * 1024 * 1024 + beyond
    ours, theirs = socket.socketpair()
    said = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + bytes(size)
    saying = threading.Thread(target=say, args=(theirs, said))
    with ours, theirs:
        saying.start()
        post = transport(FakePool(Connection(ours))).post
        if beyond:
            with pytest.raises(ConnectionFailedError, match="too long"):
                post("http://host/", {}, b"", 20.0)
        else:
            assert len(post("http://host/", {}, b"", 20.0)[2]) == size
        ours.close()
        saying.join()


def say(sock: socket.socket, said: bytes) -> None:
    with contextlib.suppress(OSError):
        sock.sendall(said)


def test_a_kept_connection_that_is_dead_is_replaced_once() -> None:
    pool = FakePool(gone(b"", used_before=True), gone(ANSWER))
    assert transport(pool).post("http://host/", {}, b"{}", 5.0)[0] == 413
    assert pool.asked == [False, True]


@pytest.mark.parametrize(("said", "used_before"), [(b"", False), (b"HTTP", False), (b"HTTP", True)])
def test_a_request_that_may_have_been_taken_is_not_repeated(said: bytes, used_before: bool) -> None:
    pool = FakePool(gone(said, used_before=used_before))
    with pytest.raises(ConnectionFailedError):
        transport(pool).post("http://host/", {}, b"{}", 5.0)
    assert pool.asked == [False]


def test_a_request_that_its_caller_counts_is_not_repeated_at_all() -> None:
    pool = FakePool(gone(b"", used_before=True))
    with pytest.raises(ConnectionFailedError) as error:
        transport(pool).post("http://host/", {}, b"{}", 5.0, repeats=False)
    assert (pool.asked, error.value.was_sent) == ([False], True)


def test_a_request_that_found_nobody_was_not_sent() -> None:
    with pytest.raises(ConnectionFailedError) as error:
        HttpTransport(Timeouts()).post("http://127.0.0.1:9/", {}, b"{}", 5.0)
    assert not error.value.was_sent


def test_a_request_that_was_sent_before_nobody_was_found_may_have_been_taken() -> None:
    class Vanished(FakePool):
        def connect(self, url: str, timeout: float, *, fresh: bool = False) -> tuple[Connection, str, str]:
            if fresh:
                raise ConnectError("refused")
            return super().connect(url, timeout)

    with pytest.raises(ConnectionFailedError) as error:
        transport(Vanished(gone(b"", used_before=True))).post("http://host/", {}, b"{}", 5.0)
    assert error.value.was_sent


@pytest.mark.parametrize(
    ("method", "length"),
    [
        *[(method, b"content-length: 0\r\n") for method in ("POST", "PUT", "PATCH")],
        *[(method, b"") for method in ("GET", "HEAD", "DELETE", "OPTIONS")],
    ],
)
def test_whether_a_body_that_is_empty_is_announced(method: str, length: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        pool: Any = FakePool(Connection(ours))
        Exchange(pool, Outgoing(method, "http://host/", {"a": "b"})).run(5.0, 5.0, time.monotonic() + 5.0)
        assert theirs.recv(1000) == f"{method} / HTTP/1.1\r\nhost: host\r\na: b\r\n".encode() + length + b"\r\n"


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_a_server_that_may_be_asked_again_is_asked_again_where_a_kept_connection_was_dead(retries: int) -> None:
    pool = FakePool(gone(b"", used_before=True), gone(ANSWER))
    server = Server("s", "http://host", TokenReference("literal", ""), "m", retries=retries)
    asking = transport(pool)
    if retries:
        with asking.stream(server, Outgoing("POST", "http://host/", {}, b"{}"), time.time() + 500) as answer:
            assert (answer.status, answer.was_repeated) == (413, True)
    else:
        with pytest.raises(UpstreamError):
            asking.stream(server, Outgoing("POST", "http://host/", {}, b"{}"), time.time() + 500)
        pool.connections.pop().close()
    assert pool.asked == [False, True][: 1 + bool(retries)]


def test_an_answer_that_came_at_once_was_not_repeated_and_what_may_stop_it_is_told_of_it() -> None:
    watched = list[Exchange]()

    class Stopper:
        watch = watched.append

    stopper: Any = Stopper()
    pool = FakePool(gone(ANSWER), gone(ANSWER))
    server = Server("s", "http://host", TokenReference("literal", ""), "m")
    asking = transport(pool)
    for each, count in ((stopper, 1), (None, 1)):
        asking.let_stop(each)
        with asking.stream(server, Outgoing("POST", "http://host/", {}, b"{}"), time.time() + 500) as answer:
            assert not answer.was_repeated
        assert (pool.stopper, len(watched)) == (each, count)
