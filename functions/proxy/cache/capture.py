"""Keeping an answer while it passes. Pure.

Its one rule: a body that grows beyond the bound is dropped at once, so that memory stays bounded.
"""

import time
from collections.abc import Callable, Iterable, Iterator

MOST_MARKS = 128


class Capture:
    """The pieces of one body of up to `largest` bytes, and when they came."""

    def __init__(self, largest: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._largest = largest
        self._clock = clock
        self._first = 0.0
        self._every = 1
        self._taken = 0
        self.pieces: list[bytes] = []
        self.size = 0
        self.timing: list[tuple[int, int]] = []
        """Where pieces begin, and milliseconds since the first; of many pieces every second, fourth, … one."""

    def watch(self, body: Iterable[bytes]) -> Iterator[bytes]:
        """Pass `body` on, and keep each piece after it has been passed on."""
        for piece in body:
            yield piece
            self.take(piece)

    def take(self, piece: bytes) -> None:
        """Keep a piece, unless it is empty or the body has become too large."""
        if not piece:
            return
        begin, now = self.size, self._clock()
        self.size += len(piece)
        if self.is_too_large:
            self.pieces.clear()
            self.timing.clear()
            return
        self.pieces.append(piece)
        self._first = self._first or now
        if self._taken % self._every == 0:
            if len(self.timing) == MOST_MARKS:
                self.timing = self.timing[::2]
                self._every *= 2
            if self._taken % self._every == 0:
                self.timing.append((begin, int((now - self._first) * 1000)))
        self._taken += 1

    @property
    def is_too_large(self) -> bool:
        """Whether the body is larger than what is kept: then nothing of it is."""
        return self.size > self._largest
