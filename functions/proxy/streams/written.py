"""An answer that is stored while it is given: how its recordings begin, and what becomes of them when it has ended.

Its one rule: a recording is closed after the event of its inference is published, so that `end_streams` finds a process
that is killed between the two.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from openai_proxy.events.streams import signed

from proxy.call import Call
from proxy.http.stopper import Stopper
from proxy.log import log
from proxy.outcome import Outcome
from proxy.streams.detached import DetachedResponse
from proxy.streams.recording import Recording, Times
from proxy.streams.response import RecordedResponse
from proxy.streams.table import Ended
from proxy.streams.writers import Writers
from proxy.timeline import Timeline

if TYPE_CHECKING:
    from openai_proxy.events.stream_types import StreamData


def _stops_nothing(_: Stopper | None) -> None: ...


class Settings(NamedTuple):
    """`kept` is for how many seconds a stream can be read after its end; `start` begins to write a recording.

    `let_stop` names what may stop the current request. `sign` signs what a webhook is told when an answer is ready; it
    gives "" if that cannot be done.
    """

    kept: float = 600.0
    times: Times = Times()
    start: Callable[[Recording], Callable[[float], object]] = Writers()
    let_stop: Callable[[Stopper | None], None] = _stops_nothing
    sign: Callable[[str], str] | None = None


class Writing:
    """Begins to write recordings of a call's answer with `start`, and waits until they are written."""

    def __init__(self, start: Callable[[Recording], Callable[[float], object]], call_id: str) -> None:
        self._start, self._call_id = start, call_id
        self._waits: list[Callable[[float], object]] = []

    def begin(self, made: Recording) -> None:
        """Begin to write the recording `made`; if that cannot be, it is lost, and the answer goes on."""
        try:
            self._waits.append(self._start(made))
        except RuntimeError as error:  # no thread can be started
            made.is_lost = True
            log("ERROR", "A resumable stream is not written down", id=self._call_id, reason=str(error))

    def wait(self, seconds: float) -> None:
        """Wait until all is written, for at most so many seconds."""
        for each in self._waits:
            each(max(0.0, seconds))


class Written:
    """The answer to a request that asks for a resumable stream: `response` takes it, and `stopper` may end it."""

    def __init__(
        self,
        call: Call,
        response: RecordedResponse | DetachedResponse,
        stopper: Stopper,
        writing: Writing,
        settings: Settings,
    ) -> None:
        self.response = response
        self._call, self._stopper, self._writing, self._settings = call, stopper, writing, settings
        self._ended: tuple[Ended, str] = ("failed", "internal_error")

    def finish(self, outcome: Outcome, timeline: Timeline) -> "StreamData | None":
        """What the terminal event says of the stream, if there is one. Nothing can stop the request any more."""
        self._stopper.over()
        self._settings.let_stop(None)
        self._ended = _end_of(outcome)
        if self.response.recording is None:
            return None
        waits_not = self._call.wants_no_wait
        found: StreamData = {"status": self._ended[0], "events": self.response.number, "respond_async": waits_not}
        return signed(self._settings.sign, self._call.id, timeline.unix(timeline.ended), found)

    def is_told(self) -> bool:
        """Whether somebody has taken the writer for dead, and published the terminal event."""
        return self.response.recording is not None and self.response.recording.is_given_up

    def close(self, seconds: float) -> None:
        """End the recording, and wait until all is written, for at most so many seconds."""
        if self.response.recording is not None:
            self.response.recording.end(*self._ended)
        self._writing.wait(seconds)


def _end_of(outcome: Outcome) -> tuple[Ended, str]:
    """How a stream has ended, and by which error."""
    if outcome.error:
        is_stopped = outcome.error.code in ("stream_stopped", "client_absent")
        return "stopped" if is_stopped else "failed", outcome.error.code
    is_error = outcome.status >= 400 or (outcome.meter is not None and outcome.meter.error)
    return ("failed", "upstream_error") if is_error else ("completed", "")
