"""The windows in which limits and budgets count: minute, day, month, and a reservation's quarter of an hour. Pure."""

import re
import time
from datetime import UTC, datetime
from typing import Literal, NamedTuple

Period = Literal["day", "month"]
PERIODS: tuple[Period, ...] = ("day", "month")

QUARTER = 900
"""Seconds. Also the longest invocation: what is reserved longer than two of them has nobody left to settle it."""
_QUARTERS_KEPT = 2

_BUCKET = re.compile(r"r_(\d{8})_(\d{1,12})")


class Windows(NamedTuple):
    """The windows that a moment falls into, in UTC; `now` is the moment, in whole Unix seconds."""

    minute: int
    day: str
    month: str
    now: int

    @classmethod
    def of(cls, unix_time: float) -> "Windows":
        """The windows that `unix_time` falls into."""
        moment = time.gmtime(unix_time)
        return cls(
            int(unix_time) // 60, time.strftime("%Y-%m-%d", moment), time.strftime("%Y-%m", moment), int(unix_time)
        )

    def start(self, period: Period) -> str:
        """The day, or the month."""
        return self.day if period == "day" else self.month

    @property
    def bucket(self) -> str:
        """The attribute that sums up what was taken in this quarter of an hour, has ended, and is not settled."""
        return f"r_{self.day.replace('-', '')}_{self.now // QUARTER}"

    @property
    def to_next_minute(self) -> int:
        """Seconds."""
        return 60 - self.now % 60

    @property
    def to_next_day(self) -> int:
        """Seconds."""
        return 86400 - self.now % 86400

    @property
    def to_next_month(self) -> int:
        """Seconds."""
        year, month = (int(part) for part in self.month.split("-"))
        return int(datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp()) - self.now


def bucket_day(attribute: str) -> str | None:
    """The day (YYYY-MM-DD) of a bucket of reservations; None when `attribute` is something else."""
    found = _BUCKET.fullmatch(attribute)
    return f"{found[1][:4]}-{found[1][4:6]}-{found[1][6:]}" if found else None


def is_expired(bucket: str, unix_time: int) -> bool:
    """Whether nobody is left to settle a bucket: its reservations no longer count."""
    found = _BUCKET.fullmatch(bucket)
    return found is not None and int(found[2]) < unix_time // QUARTER - _QUARTERS_KEPT
