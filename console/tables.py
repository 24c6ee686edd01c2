"""Tables of text in aligned columns, cut to the width of a terminal.

Columns give way in an order that their caller names, then names are shortened. A number is never shortened: half an
amount would be another amount. Nor is a text that its caller calls whole.
"""

import textwrap
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

_SHORTEST = 4
_LEGIBLE = 8
"""A name of fewer characters says little, so the columns of `last` go first."""


class Columns(NamedTuple):
    """The columns of a table by their headings; the last `numbers` of them are aligned right.

    While there is no room for names of `least` characters, the columns named in `drop` are left out one by one; by
    default all but the first, from the last one on. Then the longest names are shortened, but those named in `whole`.
    The columns in `last` are left out only where names would be too short to be read.
    """

    headings: Sequence[str]
    numbers: int = 0
    drop: Sequence[str] | None = None
    whole: Collection[str] = ()
    least: int = 12
    last: Sequence[str] = ()


def table(
    columns: Columns,
    rows: Iterable[Sequence[str]],
    *,
    width: int | None = None,
    total: bool = False,
    tell: bool = True,
) -> str:
    """A table on at most `width` places, None is any number; with `total` the last row is set apart.

    A line below says which columns were left out or shortened, or that the rows are wider all the same, unless `tell`
    is False.
    """
    headings = columns.headings
    lines = [list(headings), *(list(row) for row in rows)]
    needed_widths = [max(map(width_of, column)) for column in zip(*lines, strict=True)]
    widths = list(needed_widths)
    first_number = len(headings) - columns.numbers
    kept = list(range(len(headings)))
    names = {each for each in range(first_number) if headings[each] not in columns.whole}
    if width is not None:
        drop = headings[:0:-1] if columns.drop is None else columns.drop
        for name, least in [*((name, columns.least) for name in drop), *((name, _LEGIBLE) for name in columns.last)]:
            needed = (min(widths[each], least) if each in names else widths[each] for each in kept)
            if sum(needed) + 2 * (len(kept) - 1) > width and name in headings:
                kept.remove(headings.index(name))
        _shorten(widths, names.intersection(kept), width - _room(widths, kept))
    hidden = [headings[each] for each in range(len(headings)) if each not in kept]
    cut = [headings[each] for each in kept if widths[each] < needed_widths[each]]
    texts = [_aligned(line, widths, kept, first_number) for line in lines]
    rule = "-" * _room(widths, kept)
    texts.insert(1, rule)
    if total:
        texts.insert(-1, rule)
    return "\n".join([*texts, *(_told(hidden, cut, len(rule), width) if tell else [])])


def records(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Each row as lines of a name and a value, below a line that counts it: for what is wider than any terminal."""
    names = [padded(name, max(map(width_of, headings), default=0)) for name in headings]
    parts = [
        "\n".join([f"-- {number} --", *(f"{name}  {cell}".rstrip() for name, cell in zip(names, row, strict=True))])
        for number, row in enumerate(rows, 1)
    ]
    return "\n\n".join(parts) or "Nothing was found."


def _told(hidden: Sequence[str], cut: Sequence[str], room: int, width: int | None) -> list[str]:
    """What a narrow terminal has no room for, whole columns and parts of them, in lines that fit it. `room` is what the
    rows take.
    """
    if width is None or not (hidden or cut or room > width):
        return []
    missing = [", ".join(hidden)] if hidden else []
    missing += [f"all of {' and '.join(cut)}"] if cut else []
    says = f"No room for {', nor for '.join(missing)}: a wider terminal, --json or a pipe has it." if missing else ""
    says += f" The rows take {room} places all the same." if missing and room > width else ""
    says = says or f"The rows take {room} places, which is more than the terminal has."
    return ["", *textwrap.wrap(says, max(width, 20), break_long_words=False)]


def width_of(text: str) -> int:
    """How many places of a terminal a text takes: Chinese characters take two, accents of their own none."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - few texts need it

    return cell_len(text)


def shortened(text: str, most: int) -> str:
    """`text`, or its beginning and an ellipsis, on at most `most` places."""
    if width_of(text) <= most:
        return text
    cut = text[: most - 1]
    while width_of(cut) > most - 1:
        cut = cut[:-1]
    return f"{cut}…"


def padded(text: str, width: int, *, right: bool = False) -> str:
    """`text` on so many places, or on more if it has more."""
    space = " " * (width - width_of(text))
    return space + text if right else text + space


def _room(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[each] + 2 for each in kept) - 2


def _shorten(widths: list[int], names: Collection[int], spare: int) -> None:
    """Take from the widest of the columns `names` what is too much: `spare` is below 0 by that."""
    while spare < 0 and names and widths[widest := max(names, key=lambda each: widths[each])] > _SHORTEST:
        widths[widest] -= 1
        spare += 1


def _aligned(line: Sequence[str], widths: Sequence[int], kept: Sequence[int], first_number: int) -> str:
    cells = (
        padded(line[each], widths[each], right=True)
        if each >= first_number
        else padded(shortened(line[each], widths[each]), widths[each])
        for each in kept
    )
    return "  ".join(cells).rstrip()
