"""What the commands print: plain text into a pipe or a file, the same text with styles on a terminal.

What a program reads must not depend on who watches. So only terminals get styles; rich knows what each of them can
show, and obeys NO_COLOR.
"""

import shutil
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import argparse

    from rich.console import Console
    from rich.text import Text

_NOTICED = r"(?<![\w-])(unpriced|damaged|revoked|expired|unknown)(?![\w-])"
_BARS = r"[█▏▎▍▌▋▊▉▁▂▃▄▅▆▇]+"
_SHORTEST_RULE = 8


def terminal_width() -> int | None:
    """How many characters a line has room for; None when nobody reads it on a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def add_vertical(command: "argparse.ArgumentParser") -> None:
    """Add the option of a command whose rows may be wider than a terminal."""
    command.add_argument("--vertical", action="store_true", help="print each row as lines of a name and a value")


def has_blocks(stream: TextIO) -> bool:
    """Whether a stream takes the characters that bars are drawn with."""
    return (stream.encoding or "").lower().startswith("utf")


def can_redraw(stream: TextIO) -> bool:
    """Whether a stream is a terminal that can show something in the place of what was there."""
    return stream.isatty() and not console_on(stream).is_dumb_terminal


def show(text: str) -> None:
    """Print a text that may hold tables and bars."""
    if sys.stdout.isatty():
        console_on(sys.stdout).print(painted(text.split("\n")), soft_wrap=True)
    else:
        print(text)


def print_lines(lines: Sequence[tuple[str, str]]) -> None:
    """Print each text behind its label."""
    longest = max(len(label) for label, _ in lines)
    print("\n".join(f"{label.ljust(longest)}  {text}" for label, text in lines))


def say_nothing_found(text: str, options: "argparse.Namespace") -> None:
    """Say that nothing was found: where the table would be, or beside a document, which is what programs read."""
    is_document = options.json or getattr(options, "csv", False)
    print(text, file=sys.stderr if is_document else sys.stdout)


def console_on(stream: TextIO) -> "Console":
    """Rich's console on a stream, which takes every text as it is."""
    from rich.console import Console  # noqa: PLC0415 - only terminals need it

    return Console(file=stream, markup=False, emoji=False, highlight=False)


def painted(lines: Sequence[str]) -> "Text":
    """Lines with styles: headings and totals are bold, rules are faint, bars and what needs a look have a colour."""
    from rich.text import Text  # noqa: PLC0415 - only terminals need it

    text = Text()
    for number, (line, style) in enumerate(zip(lines, _styles(lines), strict=True)):
        text.append("\n" if number else "").append(line, style)
    text.highlight_regex(_BARS, "blue")
    text.highlight_regex(_NOTICED, "yellow")
    return text


def _styles(lines: Sequence[str]) -> Iterator[str]:
    """A style for each line. A table has a rule below its headings, and one above its total if it has one."""
    rules, before = 0, ""
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        rules = rules + _is_rule(line) if line else 0
        is_heading = rules == 0 and _is_rule(after)
        is_total = rules == 2 and _is_rule(before)
        yield "dim" if _is_rule(line) else "bold" if is_heading or is_total else ""
        before = line


def _is_rule(line: str) -> bool:
    return len(line) >= _SHORTEST_RULE and not line.strip("-")
