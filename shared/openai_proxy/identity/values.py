"""A value of `identity.yaml` that cannot be used, and what its readers share. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

LONGEST_TEXT = 256
"""Characters of a name or a value in the file."""


class EntryError(ValueError):
    """A value that cannot be used: its `key`, the `problem`, the `remedy`."""

    def __init__(self, key: str, problem: str, remedy: str) -> None:
        super().__init__(problem)
        self.key = key
        self.problem = problem
        self.remedy = remedy


def mapping(key: str, value: Any, remedy: str) -> Mapping[str, Any]:
    """`value` if it is a mapping with something in it. Raises EntryError."""
    if not isinstance(value, dict) or not value:
        raise EntryError(key, "not a mapping", remedy)
    return value  # pyright: ignore[reportUnknownVariableType]


def check_names(names: Iterable[str], known: Iterable[str]) -> None:
    """Raise EntryError for a key that is not known."""
    known = tuple(known)
    for name in names:
        if name not in known:
            raise EntryError(name[:64], "unknown key", f"use only {', '.join(known)}")


def text(key: str, value: Any, remedy: str) -> str:
    """`value` if it is a printable text of a bounded length. Raises EntryError."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TEXT or not value.isprintable():
        raise EntryError(key, f"not a text of 1 to {LONGEST_TEXT} printable characters", remedy)
    return value


def texts(key: str, value: Any, most: int, remedy: str) -> tuple[str, ...]:
    """One text, or a list of them. Raises EntryError."""
    given: list[Any] = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
    if not 0 < len(given) <= most:
        raise EntryError(key, f"not 1 to {most} texts", remedy)
    return tuple(text(key, each, remedy) for each in given)
