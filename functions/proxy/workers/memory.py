"""A text that a worker shares with the process that started it, and that outlives the worker.

Its one rule: whenever a worker is killed, a reader finds a whole text or none.
"""

import mmap

_LENGTH = 8
_ROOM = 1 << 20
"""Bytes. Only those that are written take memory, a page of 4 KB at a time."""


class SharedText:
    """A shared text, which is empty at first. It has to be made before the fork."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _ROOM)

    def put(self, text: bytes) -> None:
        """Replace the text. If there is no room for `text`, the result is empty."""
        self.clear()
        if len(text) <= _ROOM - _LENGTH:
            self._memory[_LENGTH : _LENGTH + len(text)] = text
            self._memory[:_LENGTH] = len(text).to_bytes(_LENGTH, "little")

    def get(self) -> bytes:
        """The text; empty if there is none."""
        size = int.from_bytes(self._memory[:_LENGTH], "little")
        return self._memory[_LENGTH : _LENGTH + size]

    def clear(self) -> None:
        """Remove the text."""
        self._memory[:_LENGTH] = bytes(_LENGTH)
