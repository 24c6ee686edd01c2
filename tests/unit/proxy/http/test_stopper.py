"""What ends an exchange from another thread: at once, for the reason that is given first, and nobody else's."""

import select
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any

import pytest
from proxy.errors import ClientError, ProxyError
from proxy.http.exchange import Exchange
from proxy.http.http1 import Connection
from proxy.http.stopper import Stopper
from proxy.http.wire import BrokenError, Outgoing

STOPPED, LATE = (ClientError(499, code, "The stream was stopped.") for code in ("stopped", "late"))


@dataclass
class Pool:
    """Gives connections to the other side of `peers`; `meanwhile` happens while it connects."""

    peers: list[socket.socket] = field(default_factory=list[socket.socket])
    meanwhile: Any = None
    given: list[Connection] = field(default_factory=list[Connection])
    connected: Event = field(default_factory=Event)

    def connect(self, _url: str, _timeout: float, *, fresh: bool = False) -> tuple[Connection, str, str]:
        own, peer = socket.socketpair()
        self.peers.append(peer)
        connection = Connection(own)
        connection.used_before = not fresh
        self.given.append(connection)
        self.connected.set()
        if self.meanwhile:
            self.meanwhile()
        return connection, "host", "/"

    def close(self) -> None:
        for each in (*self.peers, *self.given):
            each.close()


@pytest.fixture
def pool() -> Any:
    pool = Pool()
    yield pool
    pool.close()


def exchange(pool: Any) -> Exchange:
    return Exchange(pool, Outgoing("POST", "http://host/", {}, b"{}"))


def run(it: Exchange) -> None:
    it.run(60.0, 60.0, time.monotonic() + 60)


def asked(pool: Pool) -> bytes:
    """What the other side has been sent, once something was."""
    assert pool.connected.wait(60)
    return pool.peers[-1].recv(10_000)


def test_who_waits_for_an_answer_is_told_at_once_and_nothing_goes_again(pool: Pool) -> None:
    stopper, it = Stopper(), exchange(pool)
    stopper.watch(it)
    with ThreadPoolExecutor(1) as thread:
        waits = thread.submit(run, it)
        assert asked(pool).startswith(b"POST / HTTP/1.1\r\n")
        stopper.stop(STOPPED)
        with pytest.raises(BrokenError):
            waits.result(60)
    assert (it.stopped_by, stopper.error, len(pool.given)) == (STOPPED, STOPPED, 1)
    assert pool.peers[0].recv(1) == b"", "the server hears of it too"


def test_what_is_stopped_before_it_is_connected_is_never_sent(pool: Pool) -> None:
    stopper, it = Stopper(), exchange(pool)
    stopper.watch(it)
    pool.meanwhile = lambda: stopper.stop(STOPPED)
    with pytest.raises(BrokenError):
        run(it)
    assert (it.stopped_by, it.was_sent, len(pool.given)) == (STOPPED, False, 1)
    assert pool.peers[0].recv(1) == b""


def test_the_first_reason_counts_and_another_exchange_of_the_request_does_not_begin(pool: Pool) -> None:
    stopper, first, second = Stopper(), exchange(pool), exchange(pool)
    stopper.watch(first)
    stopper.watch(second)
    for error in (STOPPED, LATE):
        stopper.stop(error)
    assert (first.stopped_by, second.stopped_by, stopper.error) == (None, STOPPED, STOPPED)
    with pytest.raises(ProxyError) as raised:
        stopper.watch(exchange(pool))
    assert raised.value is STOPPED


def test_what_is_over_is_stopped_no_more(pool: Pool) -> None:
    stopper, it = Stopper(), exchange(pool)
    stopper.watch(it)
    stopper.over()
    stopper.stop(LATE)
    assert (it.stopped_by, stopper.error) == (None, None)


def test_a_connection_that_is_closed_already_can_be_stopped(pool: Pool) -> None:
    it = exchange(pool)
    it.connection, *_ = pool.connect("", 1.0)
    it.connection.close()
    it.stop(STOPPED)
    assert it.stopped_by is STOPPED


class Watched(Stopper):
    """Notes what is read or written of it while nobody holds its lock."""

    def __init__(self) -> None:
        object.__setattr__(self, "unlocked", list[str]())
        object.__setattr__(self, "_lock", Lock())
        super().__init__()
        self.unlocked.clear()

    def __getattribute__(self, name: str) -> Any:
        self_of = object.__getattribute__
        if name in ("error", "_exchange", "_is_over") and not self_of(self, "_lock").locked():
            self_of(self, "unlocked").append(name)
        return self_of(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not self._lock.locked():
            self.unlocked.append(name)
        object.__setattr__(self, name, value)

    unlocked: list[str]


def test_what_two_threads_share_is_touched_by_one_at_a_time(pool: Pool) -> None:
    stopper = Watched()
    held = list[bool]()

    class Held(Exchange):
        def stop(self, error: ProxyError) -> None:
            held.append(stopper._lock.locked())
            super().stop(error)

    stopper.watch(Held(pool, Outgoing("POST", "http://host/", {})))  # pyright: ignore[reportArgumentType]
    for error in (STOPPED, LATE):
        stopper.stop(error)
    stopper.over()
    stopper.stop(LATE)
    assert (stopper.unlocked, held) == ([], [True]), "so no other request has the connection while it is stopped"


def test_why_is_known_before_the_connection_ends(pool: Pool) -> None:
    """Who waits would otherwise take a stopped request for a broken one, and send it again."""
    open_when_told = list[bool]()

    class Told(Exchange):
        def __setattr__(self, name: str, value: Any) -> None:
            if name == "stopped_by" and value:
                open_when_told.append(not select.select([pool.peers[0]], [], [], 0)[0])
            super().__setattr__(name, value)

    it = Told(pool, Outgoing("POST", "http://host/", {}))  # pyright: ignore[reportArgumentType]
    it.connection, *_ = pool.connect("", 1.0)
    it.stop(STOPPED)
    assert (open_when_told, pool.peers[0].recv(1)) == ([True], b"")


def test_what_is_stopped_just_after_it_looked_is_ended_all_the_same(pool: Pool) -> None:
    class Late(Exchange):
        """Is stopped as soon as it has looked whether it was."""

        def __getattribute__(self, name: str) -> Any:
            found = object.__getattribute__(self, name)
            if name == "stopped_by" and found is None and pool.given:
                self.stop(STOPPED)
                pool.peers[0].shutdown(socket.SHUT_WR)
            return found

    it = Late(pool, Outgoing("POST", "http://host/", {}, b"{}"))  # pyright: ignore[reportArgumentType]
    with pytest.raises(BrokenError):
        run(it)
    assert (it.stopped_by, len(pool.given), pool.peers[0].recv(10_000)) == (STOPPED, 1, b"")
