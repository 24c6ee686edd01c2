"""How the console shows things: aligned columns for people, JSON for programs."""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

SMALLEST_SHOWN = Decimal("0.000001")


def columns(headings: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: int = 0, total: bool = False) -> str:
    """A table of texts. The last `numbers` columns are aligned right; with `total` the last row is set apart."""
    lines = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    first_number = len(headings) - numbers

    def aligned(line: Sequence[str]) -> str:
        cells = (
            text.rjust(width) if column >= first_number else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        return "  ".join(cells).rstrip()

    texts = [aligned(line) for line in lines]
    rule = "-" * max(len(text) for text in texts)
    texts.insert(1, rule)
    if total:
        texts.insert(-1, rule)
    return "\n".join(texts)


def fitted(
    headings: Sequence[str], rows: Iterable[Sequence[str]], width: int | None, least: int
) -> tuple[list[str], list[list[str]]]:
    """A table's headings and rows cut to fit into `width` characters; None is any width.

    As many columns as there is room for when none has more than `least` characters; then the widest are shortened.
    """
    lines = [list(headings), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    if width is not None:
        while len(widths) > 1 and sum(min(each, least) + 2 for each in widths) - 2 > width:
            widths.pop()
        while sum(each + 2 for each in widths) - 2 > width and max(widths) > least:
            widths[widths.index(max(widths))] -= 1
    cut = [[shortened(text, each) for text, each in zip(line, widths, strict=False)] for line in lines]
    return cut[0], cut[1:]


def shortened(text: str, most: int) -> str:
    """`text`, or its beginning and an ellipsis."""
    return text if len(text) <= most else text[: most - 1] + "…"


def harmless(text: str) -> str:
    """`text` without what a terminal would obey, such as escape sequences."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def terminal_width() -> int | None:
    """How many characters a line has room for; None when nobody reads it on a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def usd(amount: Decimal | None) -> str:
    """An amount to a millionth of a dollar; what is smaller is shown as smaller, not as nothing."""
    if amount is None:
        return "unpriced"
    return "<0.000001" if 0 < amount < SMALLEST_SHOWN else f"{amount:.6f}"


def seconds(duration: Decimal | None) -> str:
    """A duration to a millisecond."""
    return "-" if duration is None else f"{duration:.3f}"


def count(number: int | Decimal) -> str:
    """A count with thousands separated."""
    return f"{int(number):,}"


def to_json(value: Any) -> str:
    """JSON with money as text, so that it stays exact, and other numbers as numbers."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False)


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item, key) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, Decimal):
        if name.startswith(("cost", "budget")):
            return f"{value.normalize():f}"
        return int(value) if value == value.to_integral_value() else float(value)
    return value
