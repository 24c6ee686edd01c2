"""A page of tiles, charts and tables as one HTML file: `page.html` filled in, with `page.css` inside it.

Nothing here knows what the figures mean. Every text is escaped where the template puts it in, because names of models
and clients are what others made them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from markupsafe import Markup

from console.report.plot import Draw, svg
from console.text import harmless

_FOLDER = Path(__file__).parent

Drawn = Callable[[Draw, str], str]
"""Gives the element that shows a chart, from how it is drawn and what its ids begin with."""


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure that matters, and a little about it."""

    name: str
    figure: str
    note: str


@dataclass(frozen=True, slots=True)
class Chart:
    """How it is drawn on a screen and where there is little room, and what it shows, for those who do not see it."""

    draw: Draw
    shows: str
    on_phone: Draw


@dataclass(frozen=True, slots=True)
class Table:
    """Rows whose first cell names them; the others are figures."""

    caption: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Section:
    """A chart and its table, one below the other if `wide`. `missing` says what is not there, and why."""

    title: str
    text: str
    chart: Chart | None
    table: Table
    wide: bool = False
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """All that stands on a page."""

    title: str
    subtitle: str
    tiles: Sequence[Tile]
    notes: Sequence[str]
    sections: Sequence[Section]
    footer: str

    def to_html(self, drawn: Drawn = svg) -> str:
        """The page as HTML, without scripts and without links to anything."""
        css = (_FOLDER / "page.css").read_text(encoding="utf-8")
        parts = {name: getattr(self, name) for name in self.__slots__}
        return _environment().get_template("page.html").render(parts, css=css, drawn=drawn)


@cache
def _environment() -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # noqa: PLC0415 - only a report needs it

    return Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        finalize=_harmless,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )


def _harmless(value: Any) -> Any:
    """What the template is about to put in, without control characters. Jinja escapes it afterwards."""
    return value if isinstance(value, Markup) else harmless(str(value))
