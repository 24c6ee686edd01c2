"""Discrete events in simulated time, in which real code runs as it is written.

One rule: whoever waits, waits here. Code that calls AWS, or sleeps, is a task of its own (a greenlet): it stands still
in the middle of a call while simulated time goes on, so that modules made for threads and sockets run unchanged.
"""

import contextlib
import heapq
import itertools
import random
from collections.abc import Callable, Generator
from typing import Any

from greenlet import getcurrent, greenlet


class Simulation:
    """A clock, and what happens when. `now` is in Unix seconds."""

    def __init__(self, began: float) -> None:
        self.began = self.now = began
        self._events: list[tuple[float, int, Callable[[], Any]]] = []
        self._numbers = itertools.count()
        self._hub: greenlet = getcurrent()

    def clock(self) -> float:
        """The time, as code asks for it."""
        return self.now

    def at(self, moment: float, do: Callable[[], Any]) -> None:
        """Do something at a moment; of one moment, in the order in which it was said."""
        heapq.heappush(self._events, (max(moment, self.now), next(self._numbers), do))

    def spawn(self, task: Callable[[], Any], moment: float | None = None) -> None:
        """Begin a task, which may sleep."""
        self.at(self.now if moment is None else moment, lambda: greenlet(task, self._hub).switch())

    def sleep(self, seconds: float) -> None:
        """Let simulated time pass for the task that calls."""
        task = getcurrent()
        self.at(self.now + seconds, task.switch)
        self._hub.switch()

    def run(self, until: float) -> None:
        """Let everything happen up to a moment."""
        self._hub = getcurrent()
        while self._events and self._events[0][0] <= until:
            self.now, _, do = heapq.heappop(self._events)
            do()
        self.now = until


@contextlib.contextmanager
def same_chances() -> Generator[None]:
    """What the code draws by chance, such as pauses between tries, comes out the same in every run."""
    before = random.getstate()
    random.seed(1)
    try:
        yield
    finally:
        random.setstate(before)
