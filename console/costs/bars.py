"""Bars of text, for a terminal or a log. What has no known cost has no bar, and its line says so."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from console.costs.summary import attribute, known_cost
from console.tables import padded, shortened, width_of
from console.text import count, harmless, usd

Item = dict[str, Any]

_EIGHTHS = " ▏▎▍▌▋▊▉"
_LONGEST_NAME = 32
_SHORTEST_BAR = 10
_LEGIBLE = len("2026-11-30")
"""Where a name has fewer characters of room, the counts at the end of the lines are left out."""
_USUAL_WIDTH = 100


def bar_chart(rows: Sequence[Item], by: str, width: int | None = None, *, blocks: bool = True) -> str:
    """The cost of each row as a bar, in lines of `width` characters, with its requests where there is room. Without
    `blocks` it is drawn in ASCII.
    """
    names = [harmless(str(row[attribute(by)])) for row in rows]
    costs = [known_cost(row) for row in rows]
    notes = [f"{count(row['requests'])} req{_unpriced(row)}" for row in rows]
    amounts = [usd(cost) for cost in costs]
    room = (width or _USUAL_WIDTH) - max(map(len, amounts)) - max(map(len, notes)) - 6
    longest_name = min(_LONGEST_NAME, max(map(width_of, names)))
    if room - _SHORTEST_BAR < min(longest_name, _LEGIBLE):  # half of a date tells nothing
        room += max(map(len, notes)) + 2
        notes = [""] * len(notes)
    label = max(4, min(longest_name, room - _SHORTEST_BAR))
    longest = max(_SHORTEST_BAR, room - label)
    most = max((cost for cost in costs if cost is not None), default=Decimal(0))
    lines: list[str] = []
    for name, cost, amount, note in zip(names, costs, amounts, notes, strict=True):
        share = float(cost / most) if cost and most else 0.0
        bar = _bar(share, longest, blocks=blocks)
        amount_cell = amount.rjust(max(map(len, amounts)))
        note_cell = note.rjust(max(map(len, notes)))
        name_cell = padded(shortened(name, label) if blocks else _ascii(name)[:label], label)
        lines.append(f"{name_cell}  {bar}  {amount_cell}  {note_cell}".rstrip())
    return "\n".join(lines)


def _bar(share: float, longest: int, *, blocks: bool) -> str:
    if not blocks:
        return ("#" * max(round(share * longest), share > 0)).ljust(longest)
    eighths = max(round(share * longest * 8), int(share > 0))
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(longest)


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()


def _unpriced(row: Item) -> str:
    return f", {count(row['unpriced'])} unpriced" if row["unpriced"] else ""
