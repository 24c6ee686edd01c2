"""Charts as pictures: PNG files, and SVG that takes its colours from the page it stands in.

A chart is drawn once for both. Its colours are those of a light page; SVG has CSS variables in their place. matplotlib
is loaded when the first chart is drawn, because it takes longer than everything else here.
"""

import importlib
import io
import re
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.errors import file_error
from console.tables import shortened
from console.text import harmless

SERIES = ("#2f6fd0", "#c8661f", "#328a60", "#b0508e", "#8a7d12", "#2e8fa8", "#8a6bd1", "#7d8087")
"""At least 3:1 against what they stand on, as those of a dark page in `page.css` are."""
TEXT, GRID, CARD = "#1f2430", "#d9dce3", "#ffffff"
VARIABLES = {colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, 1)} | {
    TEXT: "var(--text)",
    GRID: "var(--grid)",
    CARD: "var(--card)",
}
SMALLEST = 11
"""Points of every text. A page shows a drawing no smaller than it is, so they are at least as many pixels."""
_SETTINGS = {
    "font.family": ["DejaVu Sans"],
    "font.size": SMALLEST,
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "text.parse_math": False,  # a name may have dollar signs in it, which would begin a formula
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": GRID,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "legend.frameon": False,
    "legend.fontsize": SMALLEST,
    "xtick.labelsize": SMALLEST,
    "ytick.labelsize": SMALLEST,
}
_LONGEST_NAME = 34
_WIDTH = 7.6
_POINTS = (("o", 200), ("s", 64), ("^", 30))
"""Shape and size of the points of each series: where several coincide, each shows within the one before."""

Draw = Callable[[Any], None]
"""Draws on a matplotlib figure."""


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one kind, in the order of the labels that they belong to."""

    name: str
    values: Sequence[float]


def columns_chart(
    labels: Sequence[str], series: Sequence[Series], unit: str, title: str = "", *, narrow: bool = False
) -> Draw:
    """Stacked columns over time. A `narrow` chart has fewer labels, and its legend in one column."""
    legend_columns, room = (1, 24) if narrow else (2, 62)

    def draw(figure: Any) -> None:
        axes = _axes(figure, 3.3 + 0.36 / legend_columns * max(0, len(series) - 2 * legend_columns), title)
        floor = [0.0] * len(labels)
        for number, each in enumerate(series):
            axes.bar(range(len(labels)), each.values, bottom=floor, width=0.78, color=_colour(number), label=each.name)
            floor = [below + value for below, value in zip(floor, each.values, strict=True)]
        step = max(1, -(-len(labels) * max(map(len, labels)) // room))  # as many labels as fit beside each other
        axes.set_xticks(range(0, len(labels), step), labels[::step])
        axes.tick_params(length=0)
        axes.set_xlim(-0.6, max(len(labels), 4) - 0.4)
        axes.set_ylim(0, 1.08 * max([*floor, 0]) or 1)
        axes.set_title(unit, loc="left", fontsize=SMALLEST)
        axes.yaxis.grid(visible=True, color=GRID, linewidth=0.7)
        axes.yaxis.set_major_formatter(_short_number)
        if len(series) > 1:
            handles, names = axes.get_legend_handles_labels()
            shown = [_name(name) for name in names]
            axes.legend(
                handles, shown, loc="upper left", bbox_to_anchor=(0, -0.12), ncols=legend_columns, borderaxespad=0.4
            )

    return draw


def bars_chart(
    labels: Sequence[str], series: Sequence[Series], unit: str, texts: Sequence[str], title: str = ""
) -> Draw:
    """Stacked bars, the first one on top, with a text at the end of each."""

    def draw(figure: Any) -> None:
        axes = _axes(figure, 0.75 + 0.36 * len(labels) + 0.25 * (len(series) > 1), title)
        places = range(len(labels))
        ends = [0.0] * len(labels)
        for number, each in enumerate(series):
            axes.barh(places, each.values, left=ends, height=0.62, color=_colour(number), label=_name(each.name))
            ends = [before + value for before, value in zip(ends, each.values, strict=True)]
        longest = max(ends, default=0) or 1
        for place, end, text in zip(places, ends, texts, strict=True):
            axes.text(end + 0.012 * longest, place, text, va="center")
        axes.set_xlim(0, 1.22 * longest)
        _name_rows(axes, labels, unit)
        if len(series) > 1:
            axes.legend(loc="lower right", ncols=1)

    return draw


def ranges_chart(labels: Sequence[str], series: Sequence[Series], unit: str) -> Draw:
    """Several points on a line for each label, such as percentiles."""

    def draw(figure: Any) -> None:
        axes = _axes(figure, 1.1 + 0.36 * len(labels))
        axes.xaxis.grid(visible=True, color=GRID, linewidth=0.7)
        places = range(len(labels))
        low = [min(values) for values in zip(*(each.values for each in series), strict=True)]
        high = [max(values) for values in zip(*(each.values for each in series), strict=True)]
        axes.hlines(places, low, high, color=GRID, linewidth=3, zorder=1)
        for number, each in enumerate(series):
            shape, size = _POINTS[min(number, len(_POINTS) - 1)]
            style: dict[str, Any] = {"s": size, "marker": shape, "color": _colour(number), "edgecolors": CARD}
            axes.scatter(each.values, places, label=each.name, zorder=2 + number, **style)
        axes.set_xlim(0, 1.08 * max(high, default=0) or 1)
        _name_rows(axes, labels, unit)
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(series), handletextpad=0.2, columnspacing=1)

    return draw


def write_png(draw: Draw, path: Path) -> None:
    """Draw a picture of 1,216 pixels' width for a light background. Raises ConsoleError."""
    with _figure(draw) as figure:
        try:
            figure.savefig(path, format="png", dpi=160, facecolor="white")
        except OSError as error:
            raise file_error(path, error, "written") from error


def svg(draw: Draw, salt: str) -> str:
    """An SVG element to put into a page. `salt` tells its ids from those of the page's other charts."""
    text = io.StringIO()
    with _figure(draw, {"svg.hashsalt": salt}) as figure:
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    element = text.getvalue()
    element = element[element.index("<svg") :].strip()
    element = re.sub(r"\s*<metadata>.*?</metadata>", "", element, count=1, flags=re.DOTALL)
    element = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{salt}-", element)
    element = re.sub(r"^<svg ", '<svg aria-hidden="true" focusable="false" ', element)
    element = element.replace("'DejaVu Sans'", "inherit-font, system-ui, sans-serif")
    for colour, variable in VARIABLES.items():
        element = element.replace(colour, variable)
    return element


@contextmanager
def _figure(draw: Draw, settings: dict[str, Any] | None = None) -> Generator[Any]:
    matplotlib: Any = importlib.import_module("matplotlib")
    figures: Any = importlib.import_module("matplotlib.figure")
    with matplotlib.rc_context(_SETTINGS | (settings or {})), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")  # names in scripts that its font lacks
        figure = figures.Figure(figsize=(_WIDTH, 4), layout="constrained")
        draw(figure)
        yield figure


def _axes(figure: Any, height: float, title: str = "") -> Any:
    figure.set_size_inches(_WIDTH, height + 0.4 * (1 + title.count("\n")) * bool(title))
    axes = figure.subplots()
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_axisbelow(True)
    if title:
        figure.suptitle("\n".join(map(harmless, title.split("\n"))), x=0.01, ha="left", fontsize=12)
    return axes


def _name_rows(axes: Any, labels: Sequence[str], unit: str) -> None:
    axes.set_yticks(range(len(labels)), [_name(label) for label in labels])
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(length=0)
    axes.set_xlabel(unit, loc="right")
    axes.xaxis.set_major_formatter(_short_number)


def _name(text: str) -> str:
    # A name that begins with "_" would be left out of a legend.
    name = shortened(harmless(text), _LONGEST_NAME)
    return f"\u200b{name}" if name.startswith("_") else name


def _colour(number: int) -> str:
    return SERIES[min(number, len(SERIES) - 1)]


def _short_number(value: float, _position: object = None) -> str:
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:,.3g}{suffix}" if value / size < 1000 else f"{value / size:,.0f}{suffix}"
    return f"{value:.3g}" if abs(value) >= 1e-4 or not value else f"{value:.1e}"
