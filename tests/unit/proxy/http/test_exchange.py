"""One exchange on a clock that the test moves: what each step may take, what is sent, and when it goes once more."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.http.exchange import Exchange
from proxy.http.wire import AnsweredEarlyError, BrokenError, Head, HttpError, Outgoing, SilenceError

from tests.fakes import Clock

HEAD = Head(200, {}, True)


@dataclass
class Line:
    """A connection that takes a request for `sending` seconds and answers after `reading` seconds, or fails."""

    clock: Clock
    sending: float = 0.0
    reading: float = 0.0
    fails_to_send: HttpError | None = None
    fails_to_read: BaseException | None = None
    used_before: bool = False
    received: bool = False
    until: float = 0.0
    sent: bytes = b""
    limits: list[float] = field(default_factory=list[float])
    is_closed: bool = False

    def send(self, data: bytes, more: bytes = b"") -> None:
        self.sent += data + more
        self.limits.append(self.until)
        self.clock.now += self.sending
        if self.fails_to_send:
            raise self.fails_to_send

    def read_head(self) -> Head:
        self.limits.append(self.until)
        self.clock.now += self.reading
        if self.fails_to_read:
            raise self.fails_to_read
        return HEAD

    def close(self) -> None:
        self.is_closed = True


@dataclass
class Lines:
    """A pool that takes `connecting` seconds for each of these connections."""

    clock: Clock
    lines: list[Line]
    connecting: float = 0.0
    asked: list[tuple[str, float, bool]] = field(default_factory=list[tuple[str, float, bool]])
    released: list[tuple[str, Line]] = field(default_factory=list[tuple[str, Line]])

    def connect(self, url: str, timeout: float, *, fresh: bool = False) -> tuple[Line, str, str]:
        self.asked.append((url, timeout, fresh))
        self.clock.now += self.connecting
        return self.lines[len(self.asked) - 1], "host", "/target"

    def release(self, url: str, connection: Line) -> None:
        self.released.append((url, connection))


def exchange(lines: Lines, method: str = "POST", body: bytes = b"{}", **more: Any) -> Exchange:
    pool: Any = lines
    return Exchange(pool, Outgoing(method, "http://host/", {"a": "b"}, body), **more)


SECONDS = st.integers(0, 12).map(float)


@given(SECONDS, SECONDS, SECONDS, st.integers(1, 30).map(float), st.integers(1, 10).map(float))
def test_no_step_may_take_longer_than_it_was_given_or_go_on_beyond_the_last_moment(
    clock: Clock, connecting: float, sending: float, reading: float, left: float, timeout: float
) -> None:
    line, began = Line(clock, sending, reading), clock.now
    lines, latest = Lines(clock, [line], connecting), clock.now + left
    assert exchange(lines).run(7.0, timeout, latest) == HEAD
    assert lines.asked == [("http://host/", min(7.0, left), False)]
    connected = began + connecting
    assert line.limits == [min(latest, connected + timeout), min(latest, connected + sending + timeout)]
    assert (line.until, line.is_closed) == (latest, False), "the body may be read until the end"


@pytest.mark.parametrize("left", [0.0, -1.0])
def test_nobody_is_asked_when_the_time_is_over(clock: Clock, left: float) -> None:
    lines = Lines(clock, [])
    asking = exchange(lines)
    with pytest.raises(SilenceError):
        asking.run(7.0, 7.0, clock.now + left)
    assert (lines.asked, asking.was_sent) == ([], False)


@pytest.mark.parametrize("size", [0, 2, 65_535, 65_536, 65_537, 200_000])
def test_what_is_sent_is_the_head_and_the_body_of_any_size(clock: Clock, size: int) -> None:
    line, body = Line(clock), bytes(size)
    asking = exchange(lines := Lines(clock, [line]), body=body)
    asking.run(7.0, 7.0, clock.now + 9)
    assert line.sent == b"POST /target HTTP/1.1\r\nhost: host\r\na: b\r\ncontent-length: %d\r\n\r\n" % size + body
    assert asking.was_sent
    asking.release()
    assert lines.released == [("http://host/", line)]


FAULTS = [BrokenError("x"), SilenceError("x"), AnsweredEarlyError("x"), KeyboardInterrupt()]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("used_before", [True, False])
@pytest.mark.parametrize("received", [True, False])
def test_a_request_goes_once_more_where_a_kept_connection_breaks_before_a_byte_of_an_answer(
    clock: Clock, fault: BaseException, repeats: bool, used_before: bool, received: bool
) -> None:
    first = Line(clock, fails_to_read=fault, used_before=used_before, received=received)
    lines = Lines(clock, [first, Line(clock)])
    asking = exchange(lines, repeats=repeats)
    if isinstance(fault, BrokenError) and repeats and used_before and not received:
        assert asking.run(7.0, 7.0, clock.now + 9) == HEAD
        assert [fresh for _, _, fresh in lines.asked] == [False, True]
        assert lines.lines[1].sent == first.sent
    else:
        with pytest.raises(type(fault)):
            asking.run(7.0, 7.0, clock.now + 9)
        assert len(lines.asked) == 1
    assert first.is_closed, "nothing stays open of what has failed"


@pytest.mark.parametrize(("connecting", "bounds"), [(7.0, [7.0, 5.0]), (3.0, [3.0, 3.0])])
def test_a_request_that_goes_once_more_has_no_time_of_its_own(
    clock: Clock, connecting: float, bounds: list[float]
) -> None:
    first, second = Line(clock, sending=4.0, fails_to_read=BrokenError("x"), used_before=True), Line(clock)
    lines, latest = Lines(clock, [first, second]), clock.now + 9
    exchange(lines).run(connecting, 30.0, latest)
    assert [timeout for _, timeout, _ in lines.asked] == bounds
    assert second.limits == [latest, latest]
    with pytest.raises(SilenceError):
        exchange(Lines(clock, [Line(clock, reading=4.0, fails_to_read=BrokenError("x"), used_before=True)])).run(
            7.0, 30.0, clock.now + 4
        )


@pytest.mark.parametrize("fault", FAULTS[:3])
def test_an_answer_is_read_though_the_request_was_not_taken_unless_nobody_takes_it_in_time(
    clock: Clock, fault: HttpError
) -> None:
    line = Line(clock, fails_to_send=fault)
    asking = exchange(Lines(clock, [line]))
    if isinstance(fault, SilenceError):
        with pytest.raises(SilenceError):
            asking.run(7.0, 7.0, clock.now + 9)
        assert line.is_closed
    else:
        assert asking.run(7.0, 7.0, clock.now + 9) == HEAD
    assert asking.was_sent
