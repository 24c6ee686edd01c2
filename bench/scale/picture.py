"""The picture of docs/scale.md: how long an event of one busy client is on its way to the ledger, at which rate."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from console.report.plot import GRID, SERIES, write_png

FILE = Path(__file__).parents[2] / "docs" / "images" / "scale.png"
_SHOWN = (1, 10, 60)
"""Seconds on the axis."""


def points(runs: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Rates and the p99 of the lag, in their order."""
    return sorted((run["rate"], run["lag_p99"]) for run in runs)


def draw_lags(lines: Mapping[str, Sequence[tuple[float, float]]]) -> Any:
    """What draws one line for each name."""

    def draw(figure: Any) -> None:
        figure.set_size_inches(7.6, 3.4)
        axes = figure.subplots()
        axes.spines[["top", "right"]].set_visible(False)
        axes.set(xscale="log", yscale="log")
        for colour, (name, line) in zip(SERIES, lines.items(), strict=False):
            rates, lags = zip(*line, strict=True)
            axes.plot(rates, lags, marker="o", markersize=5, color=colour, label=name)
        axes.set_yticks(_SHOWN, [f"{seconds} s" for seconds in _SHOWN])
        axes.set_xticks((10, 100, 1000, 10_000), ("10", "100", "1,000", "10,000"))
        axes.minorticks_off()
        axes.grid(visible=True, color=GRID, linewidth=0.7)
        axes.set_xlabel("requests/s of one client")
        axes.set_title("from the last byte to the ledger, p99", loc="left", fontsize=11)
        axes.legend(loc="upper left")

    return draw


def write(before: Sequence[Mapping[str, Any]], now: Sequence[Mapping[str, Any]]) -> None:
    """Draw the lags of before, and those of now that do not grow: beyond them it takes more consumers."""
    lines = {
        "one partition, 2 consumers at a time; after 20 s": points(before),
        "shards, 8 at a time, 150 at 10,000": points([run for run in now if run["keeps_up"]]),
    }
    write_png(draw_lags(lines), FILE)
