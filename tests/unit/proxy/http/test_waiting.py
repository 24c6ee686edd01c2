"""How long an answer's body is waited for, against a plain model, on a clock that only waits move."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.errors import UpstreamError
from proxy.http.transport import Timeouts, UpstreamResponse, Waiting
from proxy.http.wire import BrokenError, ConnectError, Head, HttpError, Outgoing, SilenceError


@dataclass
class Slow:
    """An exchange and its connection: a piece comes at each of these moments, and nothing after them."""

    stopped_by = None
    outgoing = Outgoing("POST", "/", {})

    moments: list[int]
    now: float = 0.0
    _limit: float = 0.0
    told: list[float] = field(default_factory=list[float])

    @property
    def connection(self) -> "Slow":
        return self

    def limit(self, seconds: float) -> None:
        assert seconds > 0
        self._limit = seconds

    def receive(self) -> bytes:
        if self.moments and self.moments[0] < self.now + self._limit:
            self.now = max(self.now, self.moments.pop(0))
            return b"x"
        self.now += self._limit
        raise SilenceError("nothing")

    def body(self, _head: Head, _method: str, receive: Callable[[], bytes]) -> Iterator[bytes]:
        while True:
            yield receive()

    def hear_of_silence(self) -> None:
        self.told.append(self.now)


@given(
    st.lists(st.integers(0, 60), max_size=5).map(sorted),
    st.integers(1, 40),
    st.integers(1, 15),
    st.integers(1, 90),
    st.sampled_from([None, 0.5, 1.0]),
)
def test_a_client_hears_of_silence_in_time_and_nothing_is_waited_for_beyond_its_limits(
    moments: list[int], idle: int, keep_alive: int, latest: int, patience: float | None
) -> None:
    slow = Slow(list(moments))
    timeouts = Timeouts(idle=idle, keep_alive=keep_alive)
    head = Head(200, {}, True)
    answer = UpstreamResponse(cast("Any", slow), head, "s", Waiting(timeouts, latest, lambda: slow.now))
    answer.on_silence = slow.hear_of_silence
    assert answer.patience == min(idle, keep_alive)
    answer.patience = first = min(idle, keep_alive, patience or 99)

    told: list[float] = []
    pieces, now = 0, 0.0
    for moment in [*moments, None]:
        end = min(latest, now + idle)
        comes = max(now, moment) if moment is not None and moment < end else None
        silence = now + first
        while silence < (end if comes is None else comes + 1e-9):
            told.append(silence)
            silence += keep_alive
        if comes is None:
            now = max(now, end)
            break
        pieces, now = pieces + 1, comes

    received: list[bytes] = []
    with pytest.raises(UpstreamError) as failed:
        received.extend(answer)
    assert received == [b"x"] * pieces
    assert slow.now == pytest.approx(now)
    assert slow.told == pytest.approx(told)
    assert answer.waited() == pytest.approx(now)
    assert answer.waited() == 0.0
    assert failed.value.status == 504
    assert failed.value.code == ("deadline_exceeded" if now >= latest else "upstream_timeout")


class Failing(Slow):
    """A connection that fails with an error of its own."""

    def __init__(self, error: HttpError) -> None:
        super().__init__([])
        self.error = error

    def receive(self) -> bytes:
        raise self.error


@pytest.mark.parametrize(
    ("error", "latest", "said"),
    [
        (BrokenError("x"), 9, (502, "upstream_broken_off", "The server 's' broke off the connection.")),
        (ConnectError("x"), 9, (502, "upstream_unreachable", "The server 's' cannot be reached.")),
        (SilenceError("x"), 0, (504, "deadline_exceeded", "The server 's' did not finish in time.")),
        (BrokenError("x"), 0, (504, "deadline_exceeded", "The server 's' did not finish in time.")),
    ],
)
def test_how_a_body_broke_is_said_whole(error: HttpError, latest: int, said: tuple[int, str, str]) -> None:
    failing = Failing(error)
    waiting = Waiting(Timeouts(idle=5), latest, lambda: failing.now)
    answer = UpstreamResponse(cast("Any", failing), Head(200, {}, True), "s", waiting)
    with pytest.raises(UpstreamError) as failed:
        list(answer)
    assert (failed.value.status, failed.value.code, str(failed.value)) == said
