"""How a key's counter in the limits table keeps its budgets: windows, names, and when a reservation expires. Pure.

    limits#<limits_id>        day, day_cost, day_spent       of the day (UTC) of the latest take: with what is reserved,
                                                             and settled alone; month, month_cost, month_spent likewise
                              live                           {lease: {end, cost, at}}: what running requests reserve
                              r_<yyyymmdd>_<quarter>         cost of those that were taken in that quarter of an hour,
                                                             that have ended, and are not settled yet
                              told_day, told_day_budget      the highest threshold that was told, and of which budget
    settled#<ulid>            is there when the inference is settled
    price#<server>#<model>    input, output, answer          USD per token, and the tokens that an answer usually has

One rule: a reservation belongs to the day, the month and the quarter in which it was taken, whenever it is settled.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

Period = Literal["day", "month"]
PERIODS: tuple[Period, ...] = ("day", "month")

QUARTER = 900
"""Seconds, and no less than an invocation may take."""
_QUARTERS_KEPT = 2

_BUCKET = re.compile(r"r_(\d{8})_(\d{1,12})")


@dataclass(frozen=True, slots=True)
class BudgetWindows:
    """The windows that a moment falls into. `bucket` is the attribute that sums up what was reserved in its quarter."""

    day: str
    month: str
    bucket: str

    @classmethod
    def of(cls, unix_time: int) -> "BudgetWindows":
        """The windows that `unix_time` falls into, in UTC."""
        day = datetime.fromtimestamp(unix_time, tz=UTC).strftime("%Y-%m-%d")
        return cls(day, day[:7], f"r_{day.replace('-', '')}_{unix_time // QUARTER}")

    def start(self, period: Period) -> str:
        """The day, or the month."""
        return self.day if period == "day" else self.month


def counter_pk(limits_id: str) -> str:
    """The key of a counter."""
    return f"limits#{limits_id}"


def bucket_day(attribute: str) -> str | None:
    """The day (YYYY-MM-DD) of a bucket of reservations; None when `attribute` is something else."""
    found = _BUCKET.fullmatch(attribute)
    return f"{found[1][:4]}-{found[1][4:6]}-{found[1][6:]}" if found else None


def is_expired(bucket: str, unix_time: int) -> bool:
    """Whether nobody is left to settle a bucket: its reservations no longer count."""
    found = _BUCKET.fullmatch(bucket)
    return found is not None and int(found[2]) < unix_time // QUARTER - _QUARTERS_KEPT
