"""What the bench prints: tables as docs/benchmarks.md shows them, and in the end every bound beside its figure."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table; floats with two decimals."""
    print("\n|", " | ".join(header), "|")
    print("|---" * len(header) + "|")
    for row in rows:
        print("|", " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row), "|")
    sys.stdout.flush()


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure that must not be larger than its bound. `shown` is a format for both: `{:.1f} MB`."""

    what: str
    bound: float
    measured: float
    shown: str = "{:.2f}"

    @property
    def row(self) -> tuple[str, str, str, str]:
        """What is measured, the bound, the figure, and whether it keeps to it."""
        verdict = "OK" if self.measured <= self.bound else "over"
        return self.what, f"≤ {self.shown.format(self.bound)}", f"**{self.shown.format(self.measured)}**", verdict


def summary(figures: Sequence[Figure]) -> None:
    """Print every figure that has a bound."""
    if figures:
        table(["what", "bound", "measured", ""], [figure.row for figure in figures])
