"""Requests through a connection that takes little at a time: what is sent arrives whole and in order, whatever happens.

The peer is a thread that takes as much as it is told, answers when it is told, and keeps what it got.
"""

import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.http.http1 import Connection
from proxy.http.wire import AnsweredEarlyError, BrokenError, SilenceError

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
NARROW = 4608
"""Bytes that the socket holds: the least that Linux allows."""


class Peer:
    """Takes `early` bytes, then says `said`, and takes all that comes until the other side ends."""

    def __init__(self, sock: socket.socket, early: int, said: bytes) -> None:
        self.got = b""
        self._sock, self._early, self._said = sock, early, said
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(OSError):
            while len(self.got) < self._early and (data := self._sock.recv(min(3000, self._early - len(self.got)))):
                self.got += data
            self._sock.sendall(self._said)
            while data := self._sock.recv(3000):
                self.got += data

    def everything(self) -> bytes:
        self._thread.join(10)
        return self.got


@contextmanager
def narrow() -> Generator[tuple[Connection, socket.socket]]:
    """A connection that holds little, and the socket at its other end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
        connection = Connection(ours)
        connection.until = time.monotonic() + 20
        yield connection, theirs


@contextmanager
def to_a_peer(early: int, said: bytes) -> Generator[tuple[Connection, Peer]]:
    with narrow() as (connection, theirs):
        yield connection, Peer(theirs, early, said)


@contextmanager
def answered_early(said: bytes) -> Generator[tuple[Connection, socket.socket]]:
    """A connection to a peer that has said something, and takes nothing of what is sent to it."""
    with narrow() as (connection, theirs):
        theirs.sendall(said)
        with pytest.raises(AnsweredEarlyError):
            connection.send(b"", marked(400_000, 0))
        yield connection, theirs


def marked(size: int, offset: int) -> bytes:
    """Bytes of which no two stretches are alike."""
    return b"".join(b"%07d." % (offset + number) for number in range(size // 8 + 1))[:size]


SIZES = st.sampled_from([0, 1, 100, 5_000, 70_000, 150_000])


@settings(max_examples=25)
@given(SIZES, SIZES)
def test_a_request_arrives_whole_and_in_order_and_is_answered(first: int, second: int) -> None:
    data, more = marked(first, 0), marked(second, 500_000)
    with to_a_peer(first + second, ANSWER) as (connection, peer):
        connection.send(data, more)
        assert b"".join(connection.body(connection.read_head(), "POST")) == b"ok"
        assert connection.reusable
        connection.sock.shutdown(socket.SHUT_WR)
        assert peer.everything() == data + more


@settings(max_examples=15)
@given(st.sampled_from([1, 4_000, 90_000]))
def test_after_an_early_answer_the_rest_is_sent_while_it_is_read_and_the_connection_is_not_kept(early: int) -> None:
    data, more = marked(100, 0), marked(400_000, 500_000)
    with to_a_peer(early, ANSWER) as (connection, peer):
        with pytest.raises(AnsweredEarlyError):
            connection.send(data, more)
        assert b"".join(connection.body(connection.read_head(), "POST")) == b"ok"
        assert not connection.reusable
        connection.sock.close()
        got = peer.everything()
        assert len(got) >= early
        assert (data + more).startswith(got)


@pytest.mark.parametrize("cuts", [(1, 10), (10, 37), (20, 38), (38, 39)])
def test_what_comes_while_the_rest_is_sent_is_read_whole_and_in_order(cuts: tuple[int, int]) -> None:
    first, second = cuts
    with answered_early(ANSWER[:first]) as (connection, theirs):
        theirs.sendall(ANSWER[first:second])
        assert connection.receive_in_time() == ANSWER[first:second]
        theirs.sendall(ANSWER[second:])
        assert connection.receive_in_time() == ANSWER[second:], "though the peer takes nothing"


def test_a_peer_that_answers_early_and_takes_all_and_then_is_silent_is_waited_for_no_longer_than_was_said() -> None:
    with to_a_peer(1, ANSWER[:-1]) as (connection, _):
        with pytest.raises(AnsweredEarlyError):
            connection.send(b"", marked(400_000, 0))
        body = connection.body(connection.read_head(), "POST", connection.receive)
        assert next(body) == b"o"
        connection.limit(0.1)
        with pytest.raises(SilenceError):
            next(body)


@pytest.mark.parametrize("cut", [10, 30, len(ANSWER) - 1])
def test_a_peer_that_answers_early_and_takes_no_more_is_heard_to_the_end(cut: int) -> None:
    with answered_early(ANSWER[:cut]) as (connection, theirs):
        theirs.shutdown(socket.SHUT_RD)
        connection.limit(0.01)
        with pytest.raises(SilenceError):
            connection.receive()
        theirs.sendall(ANSWER[cut:])
        assert b"".join(connection.body(connection.read_head(), "POST")) == b"ok"
        assert not connection.reusable


def test_a_peer_that_goes_while_it_takes_has_broken_off() -> None:
    with narrow() as (connection, theirs):
        theirs.close()
        with pytest.raises(BrokenError):
            connection.send(b"x" * 100_000)
        assert not connection.reusable
