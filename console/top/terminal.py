"""The terminal as `top` uses it: a screen of its own, redrawn in place, and single keys.

One rule: whatever ends it, the terminal is left as it was found.
"""

import contextlib
import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Generator, Sequence
from typing import TextIO

_OWN_SCREEN, _BACK = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


class Terminal:
    """A person's terminal."""

    def __init__(self, output: TextIO, keyboard: TextIO) -> None:
        self._output = output
        self._keyboard = keyboard

    @property
    def size(self) -> tuple[int | None, int | None]:
        size = shutil.get_terminal_size()
        return size.columns, size.lines

    def draw(self, lines: Sequence[str]) -> None:
        text = f"{_REST_OF_LINE}\r\n".join(lines)
        self._output.write(f"{_HOME}{text}{_REST_OF_LINE}{_REST_OF_SCREEN}")
        self._output.flush()

    def key(self, seconds: float) -> str:
        ready, _, _ = select.select([self._keyboard], [], [], seconds)
        # Not through the text layer: it would keep what select then does not see.
        return os.read(self._keyboard.fileno(), 1).decode("ascii", "replace") or "q" if ready else ""


@contextlib.contextmanager
def terminal(output: TextIO = sys.stdout, keyboard: TextIO = sys.stdin) -> Generator[Terminal]:
    """The terminal, for the length of the block; Ctrl-C works as ever."""
    before = termios.tcgetattr(keyboard)
    try:
        tty.setcbreak(keyboard)
        output.write(_OWN_SCREEN)
        yield Terminal(output, keyboard)
    finally:
        output.write(_BACK)
        output.flush()
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
