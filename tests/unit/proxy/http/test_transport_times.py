"""Calls on known clocks: how long each may take, what is said of one that fails, and what is read of its answer."""

import math
import ssl
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from openai_proxy.servers import Server, TokenReference
from proxy.errors import UpstreamError
from proxy.http.pool import Pool
from proxy.http.transport import ConnectionFailedError, HttpTransport, Timeouts
from proxy.http.wire import BrokenError, ConnectError, Head, HttpError, Outgoing, SilenceError
from proxy.timeline import Clock


class Line:
    """A connection that answers after `seconds` of `now`, or fails then; its body comes in these pieces."""

    def __init__(self, pieces: Sequence[bytes] = (), seconds: float = 0.0, fault: HttpError | None = None) -> None:
        self.pieces, self.seconds, self.fault = pieces, seconds, fault
        self.now, self.until = 0.0, 0.0
        self.used_before = self.received = False
        self.limits: list[float] = []
        self.sent = b""

    def send(self, data: bytes, more: bytes = b"") -> None:
        self.limits.append(self.until)
        self.sent += data + more

    def read_head(self) -> Head:
        self.now += self.seconds
        if self.fault:
            raise self.fault
        return Head(200, {"a": "b"}, True)

    def body(self, head: Head, method: str, receive: Any = None) -> Iterator[bytes]:
        assert (head.headers, method) == ({"a": "b"}, self.sent.partition(b" ")[0].decode())
        yield from self.pieces
        if self.fault:
            raise self.fault

    def close(self) -> None:
        """Nothing is open."""


class Asked:
    """A pool with one connection, which keeps how long it had to connect, and takes it back."""

    stopper = None

    def __init__(self, line: Line) -> None:
        self.line, self.seconds, self.released = line, [0.0], 0

    def connect(self, url: str, timeout: float, *, fresh: bool = False) -> tuple[Any, str, str]:
        self.seconds.append(timeout)
        return self.line, "host", url

    def release(self, url: str, connection: Any) -> None:
        self.released += 1


UNIX, READING, MONOTONIC = 1_800_000_000.0, 500.0, 90.0


def timed(line: Line, timeouts: Timeouts) -> tuple[HttpTransport, Asked]:
    """A transport whose three clocks are the line's, each with a beginning of its own."""
    pool: Any = Asked(line)
    return HttpTransport(timeouts, pool, Clock(lambda: UNIX + line.now, lambda: READING + line.now)), pool


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch) -> Line:
    line = Line([b"abc", b"de", b"f"], 2.0)
    monkeypatch.setattr(time, "monotonic", lambda: MONOTONIC + line.now)
    return line


SERVER = Server("s", "http://host", TokenReference("literal", ""), "m")


@pytest.mark.parametrize(("total", "left"), [(math.inf, 40.0), (30.0, 40.0), (50.0, 40.0)])
@pytest.mark.parametrize("first_byte", [7.0, 99.0])
def test_a_call_has_the_time_of_the_request_and_of_the_whole_call(
    line: Line, total: float, left: float, first_byte: float
) -> None:
    made, pool = timed(line, Timeouts(connect=3.0, first_byte=first_byte, total=total))
    answer = made.stream(SERVER, Outgoing("POST", "/", {}, b"{}"), UNIX + left)
    lasts = min(total, left)
    assert pool.seconds[1:] == [3.0]
    assert line.limits == [MONOTONIC + min(first_byte, lasts)]
    assert line.until == MONOTONIC + lasts
    assert answer._latest == READING + lasts
    assert (answer.status, answer.headers, list(answer)) == (200, {"a": "b"}, [b"abc", b"de", b"f"])
    answer.close()
    assert pool.released == 1


LATE = (504, "deadline_exceeded", "The server 's' did not finish in time.")


@pytest.mark.parametrize("total", [1.5, 2.0, 2.5])
@pytest.mark.parametrize("left", [1.5, 2.0, 2.5])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (BrokenError("x"), (502, "upstream_broken_off", "The server 's' broke off the connection.")),
        (SilenceError("x"), (504, "upstream_timeout", "The server 's' fell silent.")),
        (ConnectError("x"), (502, "upstream_unreachable", "The server 's' cannot be reached.")),
    ],
)
def test_a_call_that_fails_when_its_time_is_over_has_not_finished_in_time(
    line: Line, total: float, left: float, fault: HttpError, said: tuple[int, str, str]
) -> None:
    line.fault = fault
    made, _ = timed(line, Timeouts(total=total))
    with pytest.raises(UpstreamError) as failed:
        made.stream(SERVER, Outgoing("POST", "/", {}, b"{}"), UNIX + left)
    found = failed.value.status, failed.value.code, str(failed.value)
    assert found == (LATE if min(total, left) <= line.seconds else said)


@pytest.mark.parametrize(
    ("name", "arguments", "begins"),
    [
        ("post", [b"{}"], b"POST /x HTTP/1.1\r\nhost: host\r\nc: d\r\ncontent-length: 2\r\n\r\n{}"),
        ("get", [], b"GET /x HTTP/1.1\r\nhost: host\r\nc: d\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("fault", [None, BrokenError("why")])
def test_a_short_call_is_sent_and_answered_whole_in_its_time(
    line: Line, name: str, arguments: list[bytes], begins: bytes, fault: HttpError | None
) -> None:
    line.seconds, made_and_pool = 0.0, timed(line, Timeouts(connect=1.0, first_byte=1.0))
    made, pool = made_and_pool
    line.read_head = lambda: Head(200, {"a": "b"}, True)  # the body fails, if anything
    line.fault = fault
    call = getattr(made, name)
    if fault:
        with pytest.raises(ConnectionFailedError, match=r"^BrokenError: why$") as failed:
            call("/x", {"c": "d"}, *arguments, 9.0)
        assert failed.value.was_sent
    else:
        assert call("/x", {"c": "d"}, *arguments, 9.0) == (200, {"a": "b"}, b"abcdef")
    assert (line.sent, line.limits, line.until) == (begins, [MONOTONIC + 9.0], MONOTONIC + 9.0)
    assert (pool.seconds[1:], pool.released) == ([9.0], 1)


@pytest.mark.parametrize(("most", "held"), [(0, 3), (2, 3), (3, 5), (4, 5), (5, 6), (6, 6), (99, 6)])
@pytest.mark.parametrize("times", [1, 2])
def test_a_body_that_was_peeked_at_comes_whole(line: Line, most: int, held: int, times: int) -> None:
    answer = timed(line, Timeouts())[0].stream(SERVER, Outgoing("POST", "/", {}), UNIX + 9)
    for _ in range(times):
        assert answer.peek(most) == b"abcdef"[:held]
    assert b"".join(answer) == b"abcdef"


def test_a_body_that_broke_while_it_was_peeked_at_breaks_again_where_it_did(line: Line) -> None:
    answer = timed(line, Timeouts())[0].stream(SERVER, Outgoing("POST", "/", {}), UNIX + 9)
    line.fault = BrokenError("x")
    with pytest.raises(UpstreamError) as first:
        answer.peek(99)
    body = iter(answer)
    assert next(body) == b"abcdef"
    with pytest.raises(UpstreamError) as second:
        next(body)
    assert second.value is first.value


def test_another_thread_has_connections_of_its_own_with_the_same_certificates(line: Line) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    clock = Clock()
    made = HttpTransport(Timeouts(connect=3.0), Pool(tls), clock)
    other = made.sibling()
    assert other._pool is not made._pool
    assert (other._timeouts, other._pool.tls) == (made._timeouts, tls)
    assert made.patient_for(3.0)._clock is clock
