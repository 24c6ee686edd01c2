"""A stored answer on its way to a client: at once, or as it came the first time.

Its one rule: a stream is replayed as the bytes that the server sent, in the server's own chunks; nothing is cut up to
look live.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from proxy.cache.item import CachedAnswer
from proxy.metering.sse import EventFrames


class Replay(NamedTuple):
    """A stored answer, and whether it is replayed at its original pace. It ends by `deadline` (Unix seconds), whatever
    that pace was.
    """

    stored: CachedAnswer
    original_pacing: bool
    deadline: float
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.time

    @property
    def content_type(self) -> str:
        """The media type of the stored answer."""
        return self.stored.content_type

    def pieces(self) -> Iterator[bytes]:
        """The body, in whole events where it is a stream.

        With the original pacing, each piece comes as long after the first as it did originally. If that would take too
        long, all pieces come at once.
        """
        stored, frames = self.stored, EventFrames()
        if not stored.is_stream:
            yield stored.body
            return
        for piece in self._paced():
            if events := frames.whole(piece):
                yield events
        if rest := frames.rest():
            yield rest

    def _paced(self) -> Iterator[bytes]:
        body, began = self.stored.body, self.clock()
        marks = self.stored.timing if self.original_pacing else ()
        if not marks or began + marks[-1][1] / 1000 > self.deadline:
            yield body
            return
        ends = [*(begin for begin, _ in marks[1:]), len(body)]
        for (begin, passed), end in zip(marks, ends, strict=True):
            if (wait := began + passed / 1000 - self.clock()) > 0:
                self.sleep(wait)
            yield body[begin:end]
