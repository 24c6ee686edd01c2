"""Texts that match a regular expression, as the `pattern` of a JSON Schema asks for. Pure.

It reads the plain part of the language: characters, classes, groups, alternatives, counts, anchors. Whatever else a
pattern has, its text is tried against the pattern, so that none is wrong.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

_PREFERRED = "a1A0_-. "
_CLASSES = {"d": "0", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a"}
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_MOST = 4096
_LONGEST = 200
"""How often a part without an upper limit is repeated at most."""


class _Counts(NamedTuple):
    fewest: int
    most: int

    def number(self, more: int) -> int:
        """How often a part comes that may come `more` times more often than it must."""
        return min(self.fewest + more, self.most)


class _UnreadError(Exception):
    """The pattern has a form that is not read here."""


def texts_for(pattern: str, shortest: int, longest: float) -> Iterator[str]:
    """Texts of a length from `shortest` to `longest` that match, the shortest first; none where none is found.

    Raises re.error for what is no pattern.
    """
    matches = re.compile(pattern)
    for more in range(_LONGEST + 1):
        try:
            text = _Reader(pattern, more).alternatives()
        except (_UnreadError, IndexError):
            return
        if len(text) > _MOST:
            return
        for each in dict.fromkeys((text, text.ljust(shortest, "e"))):
            if shortest <= len(each) <= longest and matches.search(each):
                yield each


@dataclass
class _Reader:
    """Reads a pattern from left to right and writes a text for it. `more` is how far counts go beyond their least."""

    pattern: str
    more: int
    place: int = 0

    def alternatives(self) -> str:
        """The first alternative's text, up to the end of the group."""
        found = [self._sequence()]
        while self._next() == "|":
            self.place += 1
            found.append(self._sequence())
        return found[0]

    def _sequence(self) -> str:
        text = ""
        while self._next() not in ("", "|", ")"):
            part = self._part()
            text += part * self._counts().number(self.more)
        return text

    def _next(self) -> str:
        return self.pattern[self.place : self.place + 1]

    def _take(self) -> str:
        self.place += 1
        return self.pattern[self.place - 1]

    def _part(self) -> str:
        match self._take():
            case "(":
                return self._group()
            case "[":
                return self._class()
            case "\\":
                return self._escape(self._take())
            case "." | "^" | "$" as sign:
                return "a" if sign == "." else ""
            case sign:
                return sign

    def _group(self) -> str:
        if self._next() == "?":
            match = re.compile(r"\?(?::|P?<\w+>)").match(self.pattern, self.place)
            if match is None:  # it looks ahead or back, or changes how the rest is read
                raise _UnreadError
            self.place = match.end()
        text = self.alternatives()
        self.place += 1
        return text

    def _escape(self, sign: str) -> str:
        if sign in "bB":
            return ""
        if sign in "xu":
            digits = 2 if sign == "x" else 4
            self.place += digits
            return chr(int(self.pattern[self.place - digits : self.place], 16))
        if sign.isdigit() or sign in "pP":
            raise _UnreadError
        return _CLASSES.get(sign) or _ESCAPED.get(sign, sign)

    def _class(self) -> str:
        """One of the characters of a class, a usual one where it has some."""
        begin = self.place
        self.place += self._next() == "^"
        self.place += self._next() == "]"
        while self._next() != "]":
            self.place += 2 if self._next() == "\\" else 1
            if self.place > len(self.pattern):
                raise _UnreadError
        written = f"[{self.pattern[begin : self.place]}]"
        self.place += 1
        fits = re.compile(written)
        signs = (*_PREFERRED, *map(chr, range(32, 0x10000)))
        found = next((sign for sign in signs if fits.fullmatch(sign)), None)
        if found is None:
            raise _UnreadError
        return found

    def _counts(self) -> _Counts:
        match = re.compile(r"([*+?]|\{\d+(?:,\d*)?\})[?+]?").match(self.pattern, self.place)
        if match is None:
            return _Counts(1, 1)
        self.place = match.end()
        signs = {"*": _Counts(0, _MOST), "+": _Counts(1, _MOST), "?": _Counts(0, 1)}
        if match[1] in signs:
            return signs[match[1]]
        fewest, comma, most = match[1][1:-1].partition(",")
        return _Counts(int(fewest), int(most) if most else _MOST if comma else int(fewest))
