"""The threads that write recordings, so that no chunk waits for a write.

Its one rule: a thread that has finished waits for the next recording, because starting a thread takes the time of many
chunks.
"""

from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from threading import Event, Thread

from proxy.log import log, trace_of
from proxy.streams.recording import Recording

_TICK_SECONDS = 1.0
_FIRST_SECONDS = 0.1
"""Before the first write: what it computes would take the CPU from the head and the first events of the answer."""


class Writers:
    """Writes recordings, with `pause` seconds between two writes of one."""

    def __init__(self, pause: float = _TICK_SECONDS) -> None:
        self._pause = pause
        self._idle: deque[SimpleQueue[tuple[Recording, Event]]] = deque()

    def __call__(self, recording: Recording) -> Callable[[float], object]:
        """Begin to write a recording. Returns a function that waits for its end, for at most so many seconds.

        Raises RuntimeError if no thread can be started.
        """
        done = Event()
        try:
            work = self._idle.pop()
        except IndexError:
            work = SimpleQueue[tuple[Recording, Event]]()
            Thread(target=self._write, args=(work,), daemon=True).start()
        work.put((recording, done))
        return done.wait

    def _write(self, work: "SimpleQueue[tuple[Recording, Event]]") -> None:
        while True:
            self._write_one(*work.get(), work)

    def _write_one(self, recording: Recording, done: Event, work: "SimpleQueue[tuple[Recording, Event]]") -> None:
        try:
            next_in = min(self._pause, _FIRST_SECONDS)
            while not recording.ended.wait(next_in):
                recording.tick()
                next_in = self._pause
            recording.write_rest()
        except Exception as failure:  # noqa: BLE001  # the outermost edge of a thread
            log("ERROR", "A resumable stream was not written down", trace=trace_of(failure))
        self._idle.append(work)
        done.set()
