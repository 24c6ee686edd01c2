"""Changes that do not matter, each with its reason, and no others: `accepted.toml`.

An entry names the module, the function and the changed lines. It holds wherever in its file the function stands, and
ends when the line that it changes is another, but for a comment. One with an `operator` and without added lines holds
for all changes that this operator makes of its line: any other number of seconds, say. A run names the entries that
have ended, and those whose change a test notices now.
"""

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mutants.changes import Change
from mutants.source import source_of, without_comment

FILE = Path(__file__).with_name("accepted.toml")


@dataclass(frozen=True)
class Accepted:
    """Of one change: `diff` has the removed lines, each after `-`, and the added ones, each after `+`."""

    module: str
    function: str
    diff: str
    reason: str
    operator: str = ""

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError(f"{FILE.name}: {self.module} {self.function}: a reason is missing")

    def holds_for(self, change: Change) -> bool:
        if (self.module, self.function) != (change.module, change.function):
            return False
        lines = _lines(change.diff)
        if self.operator == change.operator:
            lines = [line for line in lines if line.startswith("-")]
        return _lines(self.diff) == lines


def accepted(text: str) -> list[Accepted]:
    """The entries of the file's text. A missing or strange field is a TypeError, an empty reason a ValueError."""
    entries = tomllib.loads(text).get("accepted", [])
    return [Accepted(**{name: value.strip() for name, value in entry.items()}) for entry in entries]


def outdated(entries: Iterable[Accepted], root: Path) -> list[Accepted]:
    """The entries whose module, function or line is no longer there."""
    return [entry for entry in entries if not _stands(entry, root / entry.module)]


def useless(entries: Iterable[Accepted], noticed: Iterable[Change], root: Path) -> Iterator[tuple[str, Accepted]]:
    """The entries that may go, each after why: their line is no longer there, or tests have noticed their change."""
    entries, noticed = list(entries), list(noticed)
    gone = outdated(entries, root)
    yield from (("its line is no longer there.", entry) for entry in gone)
    for entry in entries:
        if not entry.operator and entry not in gone and any(entry.holds_for(change) for change in noticed):
            yield "a test notices this change, so take the entry away.", entry


def _stands(entry: Accepted, path: Path) -> bool:
    lines = source_of(path.read_text(), entry.function) if path.is_file() else None
    removed = {line[1:] for line in _lines(entry.diff) if line.startswith("-")}
    return lines is not None and removed <= set(map(without_comment, lines))


def _lines(diff: str) -> list[str]:
    return [without_comment(line) for line in diff.splitlines()]


def as_entry(change: Change) -> str:
    """A change as it would stand in the file: whoever accepts it writes the reason."""
    return "\n".join(
        (
            "[[accepted]]",
            f'module = "{change.module}"',
            f'function = "{change.function}"',
            f"diff = '''\n{change.diff}\n'''",
            'reason = ""',
        )
    )
