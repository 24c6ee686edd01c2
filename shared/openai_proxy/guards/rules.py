"""What a guard watches for, and what it does then. Pure.

One rule: every time is of UTC, as everywhere in the ledger; a window ends before its length is over.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Literal, NamedTuple

from openai_proxy.limits import WEEKDAYS

Act = Literal["notify", "lower", "cache_only", "disable"]
Kind = Literal["repeat", "refused", "hours", "spend"]
HOUR = 3600
WEEK = 7 * 24
"""Hours."""


class Hours(NamedTuple):
    """When a model is usually asked: on these `days` (0 is Monday) from `start` to `end`, in minutes of the day.

    Where `end` is not after `start`, it is that of the next day.
    """

    days: frozenset[int]
    start: int
    end: int

    def has(self, at: float) -> bool:
        """Whether a moment (Unix seconds) is within them."""
        moment = datetime.fromtimestamp(at, UTC)
        minute, day = moment.hour * 60 + moment.minute, moment.weekday()
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        return (day in self.days and minute >= self.start) or ((day - 1) % 7 in self.days and minute < self.end)

    @property
    def text(self) -> str:
        """As people read it: monday, friday 07:00-19:00 UTC."""
        days = "every day" if len(self.days) == len(WEEKDAYS) else ", ".join(WEEKDAYS[day] for day in sorted(self.days))
        return f"{days} {_clock(self.start)}-{_clock(self.end)} UTC"


class Counting(NamedTuple):
    """So many requests of a kind within so many seconds. `repeat`: equal ones; `refused`: with one of `statuses`;
    `hours`: outside those.
    """

    kind: Literal["repeat", "refused", "hours"]
    times: int
    within: int
    statuses: frozenset[int] = frozenset()
    hours: Hours | None = None


class Spending(NamedTuple):
    """In an hour `factor` times as much as in the key's usual one of the last week, and no less than `at_least` USD."""

    factor: Decimal
    at_least: Decimal


class Doing(NamedTuple):
    """What is done, and for how many seconds it `lasts`. `limits` are those of `lower`."""

    act: Act
    lasts: int
    limits: Mapping[str, int]


class Guard(NamedTuple):
    """A rule, whom it watches (None: everybody), of which models, and what it does."""

    name: str
    rule: Counting | Spending
    doing: Doing
    clients: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None

    @property
    def kind(self) -> Kind:
        """The rule as the file calls it."""
        return "spend" if isinstance(self.rule, Spending) else self.rule.kind


def fits(name: str, patterns: Iterable[str] | None) -> bool:
    """Whether a name is one of these, whose last character may be a `*`."""
    if patterns is None:
        return True
    return any(name == each or (each.endswith("*") and name.startswith(each[:-1])) for each in patterns)


def length_text(seconds: int) -> str:
    """A length as the file writes it: 90s, 1m, 6h, 7d."""
    for size, unit in ((86400, "d"), (HOUR, "h"), (60, "m")):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
