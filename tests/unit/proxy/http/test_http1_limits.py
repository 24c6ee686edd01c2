"""How long one read may take, as the kernel or TLS is told, on a clock that the test moves."""

import errno
import math
import select
import socket
import ssl
import struct
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.http.http1 import Connection
from proxy.http.wire import AnsweredEarlyError, BrokenError, SilenceError, check_part_of_head

from tests.fakes import Clock

TOLERANCE = 0.005
LONGEST = 1e6


class Tls:
    """A socket that is no plain one: it keeps the limits that it is told, and gives `data` or fails."""

    def __init__(self, data: bytes = b"x", fault: Exception | None = None) -> None:
        self.data, self.fault = data, fault
        self.told: list[float | None] = []

    def settimeout(self, seconds: float | None) -> None:
        self.told.append(seconds)

    def recv(self, _size: int) -> bytes:
        if self.fault:
            raise self.fault
        return self.data


def over_tls(sock: Any) -> Connection:
    return Connection(sock)


TICKS = st.sampled_from([0, 1, 4, 5, 6, 3 * 1024]).map(lambda ticks: ticks / 1024)
"""Seconds that floats add without a rest, so that the clock of these tests stays exact; six ticks are too many."""


@given(st.lists(st.tuples(TICKS, st.sampled_from([None, 5.0, 9.0]))))
def test_a_read_is_told_what_is_left_and_no_more_than_five_milliseconds_longer(
    clock: Clock, steps: list[tuple[float, float | None]]
) -> None:
    sock = Tls()
    connection = over_tls(sock)
    told: list[float | None] = [None]
    connection.until = clock.now + 9
    for passed, anew in steps:
        clock.now += passed
        if anew:
            connection.until = clock.now + anew
        left = connection.until - clock.now
        if left <= 0:
            with pytest.raises(SilenceError, match="the time is over"):
                connection.receive_in_time()
        else:
            connection.receive_in_time()
            if told[-1] is None or not 0 <= told[-1] - left < TOLERANCE:
                told.append(left)
    assert sock.told == told


def test_a_read_without_an_end_is_told_nothing(clock: Clock) -> None:
    sock = Tls()
    connection = over_tls(sock)
    connection.receive_in_time()
    connection.until = clock.now + 4
    connection.receive_in_time()
    connection.until = math.inf
    connection.receive_in_time()
    assert sock.told == [None, 4.0, None]


def test_a_moment_that_has_just_come_is_over(clock: Clock) -> None:
    connection = over_tls(Tls())
    connection.until = clock.now
    with pytest.raises(SilenceError):
        connection.receive_in_time()


@pytest.mark.parametrize(("seconds", "told"), [(3.0, 3.0), (LONGEST, LONGEST), (1e300, LONGEST), (None, None)])
def test_tls_is_told_a_limit_that_it_can_keep(seconds: float | None, told: float | None) -> None:
    sock = Tls()
    connection = over_tls(sock)
    connection.limit(1.0)
    connection.receive()
    connection.limit(seconds)
    connection.receive()
    connection.receive()
    assert sock.told == [None, 1.0, told], "once for each limit"


class Kept(socket.socket):
    """One that is no plain one to its user, and keeps the limits that it is told."""

    told: list[float | None]

    def settimeout(self, value: float | None, /) -> None:
        self.told = [*getattr(self, "told", []), value]
        super().settimeout(value)


def test_over_tls_nothing_waits_while_it_sends_and_what_comes_next_waits_as_it_is_told() -> None:
    ours, theirs = socket.socketpair()
    sock = Kept(fileno=ours.detach())
    with sock, theirs:
        connection = Connection(sock)
        for limit in (7.0, 7.0, None):
            connection.limit(limit)
            connection.send(b"x", b"y")
            assert sock.gettimeout() == 0.0
            theirs.sendall(b"z")
            assert (connection.receive(), sock.gettimeout()) == (b"z", limit)
        assert theirs.recv(9) == b"xyxyxy"
        assert sock.told == [None, 0.0, 7.0, 0.0, 7.0, 0.0, None]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.0, 1), (1e-9, 1), (0.25, 250_000), (2.0, 2_000_000), (1.5, 1_500_000), (1e300, 10**12), (None, 0)],
)
def test_the_kernel_is_told_a_limit_that_it_can_keep(seconds: float | None, told: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        connection = Connection(ours)
        theirs.send(b"x")
        connection.limit(1.0)
        connection.receive()
        theirs.send(b"x")
        connection.limit(seconds)
        assert connection.receive() == b"x"
        whole, part = struct.unpack("@ll", ours.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, 16))
        assert 0 <= whole * 1_000_000 + part - told <= 20_000, "the kernel counts in ticks"
        assert ours.gettimeout() is None
        assert (seconds is None) == (whole + part == 0)


def test_a_wait_without_a_limit_lasts_until_something_comes() -> None:
    ours, theirs = socket.socketpair()

    def answer() -> None:
        while data := theirs.recv(1):
            theirs.sendall(data)

    answering = threading.Thread(target=answer)
    answering.start()
    with ours, theirs:
        connection = Connection(ours)
        for seconds in (5.0, None):
            connection.limit(seconds)
            for _ in range(100):
                ours.sendall(b"x")
                assert connection.receive() == b"x"
        ours.shutdown(socket.SHUT_WR)
        answering.join()


@pytest.mark.parametrize(("left", "waits"), [(4.0, [4_000.0]), (3e6, [1e9, 1e9, 1e9])])
def test_nobody_looks_again_and_again_whether_a_peer_takes_something(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, left: float, waits: list[float]
) -> None:
    class Poll:
        """Nothing happens for as long as it may take."""

        def register(self, _sock: object, events: int) -> None:
            assert events == select.POLLIN | select.POLLOUT

        def poll(self, milliseconds: float) -> list[tuple[int, int]]:
            waited.append(milliseconds)
            clock.now += milliseconds / 1000
            return []

    waited: list[float] = []
    monkeypatch.setattr(select, "poll", Poll)
    connection = over_tls(Tls())
    connection.until = clock.now + left
    with pytest.raises(SilenceError, match="nothing is taken"):
        connection.send(b"x")
    assert waited == waits


class Taking(Tls):
    """One that takes and gives as it is told, each after a fault or none, and never waits."""

    def __init__(self, *faults: Exception | None) -> None:
        super().__init__()
        self.faults = list(faults)
        self.taken = b""

    def _fail(self, flags: int) -> None:
        assert flags == 0, "TLS knows no flags"
        if self.faults and (fault := self.faults.pop(0)):
            raise fault

    def recv(self, _size: int, flags: int = 0) -> bytes:
        self._fail(flags)
        return self.data

    def send(self, data: memoryview, flags: int) -> int:
        self._fail(flags)
        self.taken += data[:3]
        return min(3, len(data))


def happening(monkeypatch: pytest.MonkeyPatch, clock: Clock, *happens: tuple[float, int]) -> None:
    """After so many seconds each, a peer can be read or written to."""
    left = list(happens)

    class Poll:
        def register(self, _sock: object, _events: int) -> None: ...

        def poll(self, _milliseconds: float) -> list[tuple[int, int]]:
            passed, events = left.pop(0)
            clock.now += passed
            return [(0, events)]

    monkeypatch.setattr(select, "poll", Poll)


@pytest.mark.parametrize(("limit", "told"), [(2.0, 0.5), (1.75, 0.25), (1.5, 1e-6), (None, None)])
def test_what_the_rest_of_a_request_takes_is_not_waited_for_again(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, limit: float | None, told: float | None
) -> None:
    happening(monkeypatch, clock, (0.5, select.POLLIN), (1.0, select.POLLOUT), (0.5, select.POLLOUT))
    sock = Taking()
    connection = over_tls(sock)
    with pytest.raises(AnsweredEarlyError):
        connection.send(b"abcdef")
    connection.limit(limit)
    assert connection.receive() == b"x"
    assert (sock.taken, sock.told) == (b"abcdef", [None, 0.0, 0.0, told])


@pytest.mark.parametrize("fault", [BlockingIOError(), ssl.SSLWantReadError(), ssl.SSLWantWriteError()])
def test_what_tls_has_to_say_to_itself_is_no_end_of_sending(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    happening(monkeypatch, clock, *[(0.0, select.POLLIN | select.POLLOUT)] * 2, (0.0, select.POLLOUT))
    sock = Taking(fault, fault, fault, None)  # neither read nor written, not read but written, written
    over_tls(sock).send(b"abcd")
    assert (sock.taken, sock.faults) == (b"abcd", [])


@pytest.mark.parametrize(
    ("fault", "is_silence"),
    [
        (TimeoutError(), True),
        (BlockingIOError(), True),
        (ConnectionResetError(), False),
        (OSError(errno.EIO, "x"), False),
    ],
)
def test_a_read_that_fails_is_a_silence_or_a_break(fault: Exception, is_silence: bool) -> None:
    said = "nothing came" if is_silence else type(fault).__name__
    with pytest.raises(SilenceError if is_silence else BrokenError, match=f"^{said}$"):
        over_tls(Tls(fault=fault)).receive()


# ------------------------------------------------------------------------------------------------------ interim answers

OK = b"HTTP/1.1 200 OK\r\n\r\n"
HINTS = b"HTTP/1.1 103 Hints\r\n\r\n"


class Slow(Tls):
    """Each read takes so many seconds of the clock and brings the next of the pieces."""

    def __init__(self, clock: Clock, seconds: float, pieces: list[bytes]) -> None:
        super().__init__()
        self._clock, self._seconds, self._pieces = clock, seconds, pieces

    def recv(self, _size: int) -> bytes:
        self._clock.now += self._seconds
        return self._pieces.pop(0)


@pytest.mark.parametrize(("seconds", "pieces"), [(2.0, [HINTS, HINTS, OK]), (4.0, [HINTS * 2 + OK])])
@pytest.mark.parametrize(("given_in_all", "is_enough"), [(4.0, False), (4.5, True)])
def test_interim_answers_have_no_time_of_their_own(
    clock: Clock, seconds: float, pieces: list[bytes], given_in_all: float, is_enough: bool
) -> None:
    connection = over_tls(Slow(clock, seconds, list(pieces)))
    connection.until = clock.now + given_in_all
    if is_enough:
        assert connection.read_head().status == 200
    else:
        with pytest.raises(SilenceError):
            connection.read_head()


@pytest.mark.parametrize("held", [b"", b"H"])
def test_whether_a_byte_of_the_answer_has_come_is_known(clock: Clock, held: bytes) -> None:
    sock = Tls(b"")
    connection = over_tls(sock)
    connection._buffer, connection.received = held, True
    with pytest.raises(BrokenError, match="closed before the end"):
        connection.read_head()
    assert connection.received is bool(held)
    sock.data = OK
    connection._buffer = b""
    connection.read_head()
    assert connection.received


STARTS = (b"HTTP/1.1 200 OK\r\na: b\r\n", b"HTTP/1.1 200 OK\r", b"HTTP/1.")
BAD = (b"\0", b"\n", b"\rx", b"\x7f", b"a\nb", b"\x01\x02")


@pytest.mark.parametrize("start", STARTS)
def test_what_is_wrong_in_a_head_is_seen_when_it_comes_whatever_was_checked_before(start: bytes) -> None:
    for since in range(len(start) + 1):
        check_part_of_head(start, since)
    for bad in BAD:
        if start.endswith(b"\r") and bad.startswith(b"\n"):
            continue
        with pytest.raises(BrokenError, match="no head"):
            check_part_of_head(start + bad, len(start))
