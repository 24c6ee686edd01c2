"""The terminal as `top` uses it: rich redraws a screen in place, and keys come one by one.

Whatever ends it, the terminal is left as it was found.
"""

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Generator, Sequence
from typing import TextIO

from rich.live import Live

from console.output import console_on, has_blocks, painted


class Terminal:
    """A person's terminal. `blocks` says whether it takes the characters that bars are drawn with."""

    def __init__(self, live: Live, keyboard: TextIO, *, blocks: bool) -> None:
        self._live = live
        self._keyboard = keyboard
        self.blocks = blocks

    @property
    def size(self) -> tuple[int | None, int | None]:
        return self._live.console.size

    def draw(self, lines: Sequence[str]) -> None:
        self._live.update(painted(lines), refresh=True)

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
        with Live(console=console_on(output), screen=True, auto_refresh=False) as live:
            yield Terminal(live, keyboard, blocks=has_blocks(output))
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
