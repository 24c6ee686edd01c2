"""When things happened to one request: the `Timeline` changes while a request passes, and its `Moments` do not.

Readings are values of the clock's `reading`, which never goes back; 0.0 stands for something that has not happened.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from openai_proxy.events.envelope import calls_made

if TYPE_CHECKING:
    from openai_proxy.events.types import AttemptData


class Clock(NamedTuple):
    """`unix` gives Unix seconds, `reading` the seconds of a clock that never goes back."""

    unix: Callable[[], float] = time.time
    reading: Callable[[], float] = time.perf_counter


class Attempt(NamedTuple):
    """One call of a server: its status or its error, and the seconds until one of them was known."""

    server: str
    status_code: int | None
    error: str | None
    duration: float
    end: float
    """The moment at which the duration was over."""

    def to_event(self) -> "AttemptData":
        """One element of an event's `data.attempts`."""
        return {
            "server": self.server,
            "status_code": self.status_code,
            "error": self.error,
            "duration": self.duration,
        }


Answer = tuple[str, str | None, int, Mapping[str, str]]
"""Server, model, status and headers of an answer."""


class Moments(NamedTuple):
    """When one request was where, as far as it has come. The fields are those of `Timeline`; `ended` is the end, or the
    moment at which this was made.
    """

    started_at: float
    started: float
    authorized: float
    first_chunk: float
    ended: float
    upstream_waited: float
    attempts: Sequence[Attempt] = ()
    answers: Sequence[Answer] = ()

    @property
    def ended_at(self) -> float:
        """The end in Unix seconds."""
        return self.started_at + self.ended - self.started

    @property
    def total(self) -> float:
        """Seconds from the start to the end."""
        return self.ended - self.started

    @property
    def time_to_first_chunk(self) -> float | None:
        """Seconds; None where no chunk came."""
        return round(self.first_chunk - self.started, 6) if self.first_chunk else None


class Timeline:
    """The moments of one request, and the calls of servers that were made for it."""

    def __init__(self, clock: Clock = Clock()) -> None:  # noqa: B008  # it cannot be changed
        self._clock = clock
        self.started_at = clock.unix()
        """Unix seconds."""
        self.started = clock.reading()
        self.authorized = 0.0
        self.first_chunk = 0.0
        self.ended = 0.0
        """When the client had its last byte."""
        self.upstream_waited = 0.0
        """Seconds for which the proxy waited for servers."""
        self.steps: list[tuple[str, float]] = []
        """What the proxy did between the authorization and the first attempt, and when it was done with it."""
        self.attempts: list[Attempt] = []
        self.is_repeated = False
        """Whether a server may have had one call twice, over an old connection and a new one."""
        self.comes_again = False
        """Whether the same call has failed a moment ago, after a repetition: its client repeats it."""
        self._waiting_since = 0.0
        self.answers: list[Answer] = []

    def now(self) -> float:
        """A reading of the clock."""
        return self._clock.reading()

    def unix(self, reading: float) -> float:
        """A moment of `reading` in Unix seconds."""
        return self.started_at + reading - self.started

    def authorize(self) -> None:
        """Note that the client is known from now on."""
        self.authorized = self.now()

    def passed(self, step: str) -> None:
        """Note that a step is done: it took the time since the step before."""
        self.steps.append((step, self.now()))

    def wait(self) -> None:
        """Note that the proxy waits for a server from now on."""
        self._waiting_since = self.now()

    def heard(self) -> float:
        """Note that the server has answered: the wait is over. Returns the moment."""
        now = self.now()
        if self._waiting_since:
            self.upstream_waited += now - self._waiting_since
            self._waiting_since = 0.0
        return now

    def waited(self, seconds: float) -> None:
        """Add so many seconds of waiting for a server's body."""
        self.upstream_waited += seconds

    def attempted(self, server: str, status: int | None, error: str | None, duration: float | None = None) -> None:
        """Note that a call of a server has brought a status, or failed: the wait is over. Parallel calls give their
        `duration`.
        """
        if duration is None:
            since = self._waiting_since
            duration = self.heard() - since
        self.attempts.append(Attempt(server, status, error, round(duration, 6), self.now()))

    def announced(self, server: str, model: str | None, status: int, headers: Mapping[str, str]) -> None:
        """Keep the headers in which a server says what is left of its limits. They are read when the client has been
        served.
        """
        self.answers.append((server, model, status, headers))

    def attempt_failed(self, error: str) -> None:
        """Note that the latest attempt brought a status and then no answer."""
        self.attempts[-1] = self.attempts[-1]._replace(error=error)

    @property
    def calls_made(self) -> int:
        """How many calls of servers were made. A server with an open circuit, or without a token, is not called."""
        return calls_made(attempt.error for attempt in self.attempts)

    @property
    def has_repeated(self) -> bool:
        """Whether one server was called more than once, by the proxy or by its client."""
        if self.is_repeated or self.comes_again:
            return True
        called = [attempt.server for attempt in self.attempts if calls_made([attempt.error])]
        return len(called) > len(set(called))

    def chunk(self) -> None:
        """Note that a chunk is on its way to the client."""
        if not self.first_chunk:
            self.first_chunk = self.now()

    def end(self) -> None:
        """Note that the client has its last byte."""
        self.ended = self.heard()

    def moments(self) -> Moments:
        """What is known up to the end, or up to now."""
        return Moments(
            self.started_at,
            self.started,
            self.authorized,
            self.first_chunk,
            self.ended or self.now(),
            self.upstream_waited,
            tuple(self.attempts),
            tuple(self.answers),
        )

    @property
    def server_timing(self) -> str:
        """The `Server-Timing` header, in milliseconds up to now: what servers took, and what the proxy took."""
        now = self.now()
        waited = self.upstream_waited + (now - self._waiting_since if self._waiting_since else 0.0)
        upstream, proxy = waited * 1000, max(0.0, now - self.started - waited) * 1000
        return f"upstream;dur={upstream:.1f}, proxy;dur={proxy:.1f}"
