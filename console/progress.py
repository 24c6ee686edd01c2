"""A bar for work that takes long. It is drawn on standard error, and only when that is a terminal."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol, TextIO

from console.output import console_on


class Advance(Protocol):
    """Tells that so many more are done."""

    def __call__(self, done: int, /) -> None: ...


class Bars:
    """Makes bars on `stream`, standard error by default."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    @contextmanager
    def __call__(self, label: str, total: int) -> Generator[Advance]:
        """A bar that is there for the length of the block. It shows the label and how many of `total` are done, or
        of as many as there were, if that is more.
        """
        stream = self._stream or sys.stderr
        if not stream.isatty():
            yield lambda _: None
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f}/{task.total:,.0f}"),
            TimeRemainingColumn(),
        )
        with Progress(
            *columns,
            console=console_on(stream),
            transient=True,
            redirect_stdout=False,  # what is printed meanwhile goes where it belongs, which may be a file
            redirect_stderr=False,
        ) as progress:
            task, seen = progress.add_task(label, total=total), 0

            def advance(done: int) -> None:
                nonlocal seen
                seen += done
                progress.update(task, completed=seen, total=max(total, seen))

            yield advance
