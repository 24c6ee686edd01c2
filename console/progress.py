"""A bar for work that takes long. One rule: it is drawn on standard error, and only when that is a terminal."""

import shutil
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol, TextIO

_WIDTH = 24
_PAUSE = 0.1


class Advance(Protocol):
    """Tells that so many more are done."""

    def __call__(self, done: int, /) -> None: ...


class Bars:
    """Makes bars on `stream`, standard error by default."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    @contextmanager
    def __call__(self, label: str, total: int) -> Generator[Advance]:
        """A bar that is there for the length of the block; what is said is a label and how many of `total` are done."""
        stream = self._stream or sys.stderr
        if not stream.isatty():
            yield lambda _: None
            return
        bar = _Bar(stream, label, total)
        try:
            bar.advance(0)
            yield bar.advance
        finally:
            stream.write("\r\x1b[K")
            stream.flush()


class _Bar:
    def __init__(self, stream: TextIO, label: str, total: int) -> None:
        self._stream, self._label, self._total = stream, label, total
        self._done = 0
        self._drawn = float("-inf")

    def advance(self, done: int) -> None:
        self._done += done
        now = time.monotonic()
        if now - self._drawn < _PAUSE and self._done < self._total:
            return
        self._drawn = now
        share = min(self._done / self._total, 1.0) if self._total else 1.0
        bar = ("#" * round(share * _WIDTH)).ljust(_WIDTH, ".")
        text = f"{self._label} [{bar}] {self._done:,}/{self._total:,}"
        self._stream.write(f"\r\x1b[K{text[: shutil.get_terminal_size().columns - 1]}")
        self._stream.flush()
