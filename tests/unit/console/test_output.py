"""What commands print: the same text everywhere, with styles on terminals alone."""

import io
import re
import sys

import pytest

from console.output import can_redraw, painted, show
from console.tables import Columns, table

TABLE = table(
    Columns(("MODEL", "COST USD"), numbers=1),
    [("[red]m[/red] :smile:", "0.100000"), ("x", "unpriced"), ("TOTAL", "0.100000")],
    total=True,
)
TEXT = f"{TABLE}\n\nbars  ██▌  https://example.com 1.5 'x'"
STYLES = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    encoding = "utf-8"  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def usual(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO) -> str:
    monkeypatch.setattr(sys, "stdout", stream)
    show(TEXT)
    return stream.getvalue()


def test_a_pipe_gets_plain_text_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "10")

    assert shown(monkeypatch, io.StringIO()) == f"{TEXT}\n"


def test_a_terminal_gets_the_same_text_with_styles(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "10")  # the terminal breaks lines by itself

    text = shown(monkeypatch, Terminal())

    assert STYLES.sub("", text) == f"{TEXT}\n"
    assert "\x1b[1mMODEL" in text
    assert "\x1b[1mTOTAL" in text
    assert "\x1b[33munpriced" in text
    assert "\x1b[34m██▌" in text


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NO_COLOR", "1")

    text = shown(monkeypatch, Terminal())

    assert not re.search(r"\x1b\[[0-9;]*[34][0-9]m", text)
    assert STYLES.sub("", text) == f"{TEXT}\n"


def test_a_terminal_that_knows_no_commands_is_given_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TERM", "dumb")

    assert shown(monkeypatch, Terminal()) == f"{TEXT}\n"
    assert not can_redraw(Terminal())


def test_only_terminals_are_redrawn():
    assert can_redraw(Terminal())
    assert not can_redraw(io.StringIO())


def test_every_table_of_a_text_has_its_headings_and_total():
    lines = ["about", "", "A  B", "-" * 9, "1  2", "", "C  D", "-" * 9, "3  4", "-" * 9, "T  4", "more"]

    styles = {str(span.style): painted(lines).plain[span.start : span.end] for span in painted(lines).spans}

    assert [painted(lines).plain[span.start : span.end] for span in painted(lines).spans if span.style == "bold"] == [
        "A  B",
        "C  D",
        "T  4",
    ]
    assert styles.keys() == {"bold", "dim"}
