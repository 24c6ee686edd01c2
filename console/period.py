"""The days that a command is about. A day is a UTC day, as the ledger counts it; both ends are included."""

import argparse
import calendar
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from console.errors import ConsoleError

MOST_DAYS = 3660
_AGE = re.compile(r"([0-9]{1,9})(s|min|h|d|w)")
_SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DAY = "YYYY-MM-DD, today or yesterday"
_MONTH = "YYYY-MM or this"
_LENGTH = f"a number of days or weeks, such as 7d or 4w, of at most {MOST_DAYS} days"


@dataclass(frozen=True, slots=True)
class Period:
    """From `first` to `last`, both included."""

    first: date
    last: date

    @property
    def days(self) -> list[date]:
        return [self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1)]

    @property
    def text(self) -> str:
        """The period in words, such as "on 2026-11-23 (UTC)"."""
        if self.first == self.last:
            return f"on {self.first} (UTC)"
        if self == month_of(self.first):
            return f"in {self.first:%Y-%m} (UTC)"
        return f"from {self.first} to {self.last} (UTC)"


def month_of(day: date) -> Period:
    """The calendar month of a day."""
    return Period(day.replace(day=1), day.replace(day=calendar.monthrange(day.year, day.month)[1]))


def add_period(command: argparse.ArgumentParser, *, inherited: bool = False, days: bool = True) -> None:
    """Add the options that name a period. With `inherited`, what stands before the command's name holds for it too.

    Without `days` there are no --from and --to, which mean something else to the command.
    """
    default = argparse.SUPPRESS if inherited else None
    group = command.add_argument_group("period", "Days are days of UTC.")
    which = group.add_mutually_exclusive_group()
    for option, kind, read, wanted, help_ in (
        ("--day", "DAY", read_day, _DAY, "YYYY-MM-DD, today or yesterday"),
        ("--month", "MONTH", _month, _MONTH, "YYYY-MM, or this"),
        ("--last", "LENGTH", last_days, _LENGTH, "such as 7d or 4w: so many days up to today"),
    ):
        read_period = _as_period(read, wanted)
        which.add_argument(option, dest="period", type=read_period, default=default, metavar=kind, help=help_)
    if not days:
        return
    which.add_argument("--from", dest="first", type=_date, default=default, metavar="DAY", help="this day and later")
    group.add_argument("--to", dest="last", type=_date, default=default, metavar="DAY", help="and up to this one")


def chosen_period(options: argparse.Namespace) -> Period | None:
    """The period that the options name, or None. Raises ConsoleError."""
    if options.first is None:
        if options.last is not None:
            raise ConsoleError("--to needs --from. Remedy: name the first day too.")
        return options.period
    if options.period is not None:
        raise ConsoleError(
            "More than one period is named. Remedy: name one: --day, --month, --last, or --from and --to."
        )
    period = Period(options.first, options.last or today())
    if period.last < period.first:
        raise ConsoleError(f"{period.last} is before {period.first}. Remedy: give --from the earlier day.")
    if (period.last - period.first).days >= MOST_DAYS:
        raise ConsoleError(f"That is more than {MOST_DAYS:,} days. Remedy: name a shorter period.")
    return period


def today() -> date:
    """The UTC day it is."""
    return datetime.now(UTC).date()


def read_day(text: str) -> Period:
    """A day of the command line as a period. Raises ValueError."""
    day = today() - timedelta(days=text == "yesterday") if text in ("today", "yesterday") else _iso(text)
    return Period(day, day)


def _month(text: str) -> Period:
    return month_of(today() if text == "this" else _iso(f"{text}-01"))


def last_days(text: str) -> Period:
    """The days up to today, for a length such as 7d or 4w. Raises ValueError."""
    length = re.fullmatch(r"([1-9][0-9]{0,3})([dw])", text)
    if not length:
        raise ValueError(text)
    days = int(length[1]) * (7 if length[2] == "w" else 1)
    if days > MOST_DAYS:
        raise ValueError(text)
    return Period(today() - timedelta(days=days - 1), today())


def _iso(text: str) -> date:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text, re.ASCII):
        raise ValueError(text)
    return date.fromisoformat(text)


def _as_period(read: Callable[[str], Period], wanted: str) -> Callable[[str], Period]:
    def typed(text: str) -> Period:
        try:
            return read(text)
        except (ValueError, OverflowError):
            raise argparse.ArgumentTypeError(f"'{text}' is not {wanted}") from None

    return typed


def _date(text: str) -> date:
    return _as_period(read_day, _DAY)(text).first


def age(text: str) -> int:
    """Reads a length of time, such as 12h, as seconds. Raises ArgumentTypeError."""
    found = _AGE.fullmatch(text)
    if not found:
        raise argparse.ArgumentTypeError("must be a number and s, min, h, d or w, as in 12h")
    return int(found[1]) * _SECONDS[found[2]]
