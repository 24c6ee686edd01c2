"""The limits table: what the proxy takes and gives back there, settle_limits settles, and `openai-proxy keys` shows.

    limits#<limits_id>    minute, requests, tokens     of the current minute; tokens are estimates until an answer is
                                                       complete
      of a key, or of a   live                         {lease: its end (Unix)} of requests that run, of keys that are
      line of rotated                                  given something back at their end; of keys with a budget
      keys                                             {lease: {end, cost, at}}: what is reserved (USD), and when
                          took                         {lease: its end} of other keys: requests of a moment ago
                          day, day_cost, day_spent     of the day (UTC) of the latest take: with what is reserved, and
                                                       settled alone; month, month_cost, month_spent likewise, and
                                                       week and total of keys that have a budget of them
                          r_<yyyymmdd>_<quarter>       cost of requests that were taken in that quarter of an hour,
                                                       that have ended, and are not settled yet; rw_, rt_ and rwt_ of
                                                       keys with a budget of the week, in total, or both
                          told_day, told_day_budget    the highest threshold that was told, and of which budget
                          parts                        {shard: {minute, requests, tokens}}: what shards have drawn of
                                                       the minute, of a key with so large a limit that it has some
                          divided                      in how many shards all takes are counted since the key was busy
    limits#<id>#<shard>   minute, requests, tokens     of a shard: what it has let through in the minute;
                          left_, drawn_, seen_         what it may still, what it has drawn of the counter above, and
                                                       what that had counted then: of requests and tokens each
    settled#<ulid>        expires_at                   is there when the inference is settled
    price#<server>#<model>  input, output, answer      USD per token, and the tokens that an answer usually has

A lease is called by the last characters of its inference's id. Its one rule: a reservation belongs to the day, the
other periods and the quarter in which it was taken, whenever it is settled. Pure.
"""

import time
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from openai_proxy.dynamodb import Item, from_attribute

Period = Literal["day", "week", "month", "total"]
PERIODS: tuple[Period, ...] = ("day", "week", "month", "total")

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
LAST_RESET_DAY = 28
"""Every month has it."""
EVER = "ever"
"""How the one period of a budget in total is called, which has no end."""

QUARTER = 900
"""Seconds. Also the longest invocation: what is reserved longer than two of them has nobody left to settle it."""
_QUARTERS_KEPT = 2

KEPT_EVER = 100 * 365 * 86400
"""Seconds for which a counter with a budget in total stays after its last request."""
_BUCKETS = ("r", "rw", "rt", "rwt")

MINUTE, REQUESTS, TOKENS = "minute", "requests", "tokens"
PARTS, DIVIDED = "parts", "divided"
LIVE: Literal["live"] = "live"
TOOK: Literal["took"] = "took"
EXPIRES_AT = "expires_at"

LONGEST_MODEL = 128
"""As many characters of a model's name as a price hint is called by."""
_LEASE_LENGTH = 10
"""50 random bits are enough to tell running requests apart, and 1 KB has room for some 25 of them: a write unit."""
_DAY = 86400
_END_OF_9999 = 253_402_300_799


class Calendar(NamedTuple):
    """In which periods a key's money is counted, beside days and months, and when they begin.

    `week` is the weekday (Monday is 0) that its weeks begin with, None without a budget of the week; `month` the day
    that its months begin with, 1 to 28; `total` whether it has a budget in total.
    """

    week: int | None = None
    month: int = 1
    total: bool = False

    def counting(self, letters: str) -> "Calendar":
        """The same for money that is counted in what `letters` say: w, t, wt or neither."""
        return self._replace(week=(self.week or 0) if "w" in letters else None, total="t" in letters)


USUAL = Calendar()


class Windows(NamedTuple):
    """The windows that a moment falls into, in UTC; `now` is the moment, in whole Unix seconds.

    A period is called by the day that it begins with, a month that begins with the first by its name: 2026-11. One in
    which nothing is counted is "".
    """

    minute: int
    day: str
    month: str
    now: int
    week: str = ""
    total: str = ""
    calendar: Calendar = USUAL

    @classmethod
    def of(cls, unix_time: float, calendar: Calendar = USUAL) -> "Windows":
        """The windows that `unix_time` falls into."""
        now, moment = int(unix_time), time.gmtime(unix_time)
        day, month, week = time.strftime("%Y-%m-%d", moment), time.strftime("%Y-%m", moment), ""
        if calendar.month > 1:
            last = moment if moment.tm_mday >= calendar.month else time.gmtime(now - moment.tm_mday * _DAY)
            month = f"{time.strftime('%Y-%m', last)}-{calendar.month:02}"
        if calendar.week is not None:
            passed = (moment.tm_wday - calendar.week) % 7
            week = time.strftime("%Y-%m-%d", time.gmtime(now - passed * _DAY))
        return cls(now // 60, day, month, now, week, EVER if calendar.total else "", calendar)

    @property
    def periods(self) -> tuple[Period, ...]:
        """Those in which money is counted."""
        return tuple(period for period in PERIODS if self.start(period))

    def start(self, period: Period) -> str:
        """What the period is called that goes on; "" where nothing is counted in it."""
        return {"day": self.day, "week": self.week, "month": self.month, "total": self.total}[period]

    def is_in(self, period: Period, start: str) -> bool:
        """Whether the moment is in the period that a counter calls `start`.

        A period that began under an older calendar goes on until a later one begins.
        """
        own = self.start(period)
        return own != "" and (own == start if period in ("day", "total") else own <= start <= self.day)

    def within(self, period: Period) -> tuple[str, dict[str, str]]:
        """The same as a condition on a counter, and its values."""
        if period in ("day", "total"):
            return f"#{period} = :{period}", {period: self.start(period)}
        return f"#{period} BETWEEN :{period} AND :day", {period: self.start(period), "day": self.day}

    @property
    def counted(self) -> str:
        """In which periods money is counted, beside days and months: w, t, wt or neither."""
        return ("w" if self.week else "") + ("t" if self.total else "")

    @property
    def bucket(self) -> str:
        """The attribute that sums up what was taken in this quarter of an hour, has ended, and is not settled."""
        return f"r{self.counted}_{self.day.replace('-', '')}_{self.now // QUARTER}"

    @property
    def to_next_minute(self) -> int:
        """Seconds."""
        return 60 - self.now % 60

    def to_next(self, period: Period) -> int | None:
        """Seconds until the next one begins; None of the one that has no end."""
        if period == "total":
            return None
        midnight = self.now - self.now % _DAY + _DAY
        if period == "week":
            return midnight - self.now + ((self.calendar.week or 0) - time.gmtime(midnight).tm_wday) % 7 * _DAY
        while period == "month" and time.gmtime(midnight).tm_mday != self.calendar.month:
            midnight += _DAY
        return midnight - self.now


def bucket_day(attribute: str) -> str | None:
    """The day (YYYY-MM-DD) of a bucket of reservations; None when `attribute` is something else."""
    day, _ = _bucket(attribute)
    return f"{day[:4]}-{day[4:6]}-{day[6:]}" if day else None


def bucket_windows(attribute: str, calendar: Calendar) -> Windows | None:
    """The windows of what a bucket sums up, with the periods that it is counted in; None of what is no bucket.

    `calendar` says when weeks and months begin.
    """
    day, quarter = _bucket(attribute)
    if not day or quarter * QUARTER > _END_OF_9999:
        return None
    return Windows.of(quarter * QUARTER, calendar.counting(attribute.partition("_")[0]))


def is_expired(bucket: str, unix_time: int) -> bool:
    """Whether nobody is left to settle a bucket: its reservations no longer count."""
    day, quarter = _bucket(bucket)
    return bool(day) and quarter < unix_time // QUARTER - _QUARTERS_KEPT


def _bucket(attribute: str) -> tuple[str, int]:
    """The day (YYYYMMDD) and the quarter of a bucket; "" and 0 of another attribute. Without `re`, because loading it
    would slow a cold start.
    """
    prefix, _, rest = attribute.partition("_")
    day, _, quarter = rest.partition("_")
    is_one = prefix in _BUCKETS and len(day) == 8 and len(quarter) <= 12 and _are_digits(day) and _are_digits(quarter)
    return (day, int(quarter)) if is_one else ("", 0)


def _are_digits(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def counter_key(limits_id: str) -> dict[str, Any]:
    """The key of a counter, or of a shard where that is what `shard_id` calls it."""
    return _key(f"limits#{limits_id}")


def shard_id(limits_id: str, shard: int) -> str:
    """What a shard of a counter is called, from 1 on; 0 is the counter itself."""
    return f"{limits_id}#{shard}" if shard else limits_id


def limits_id_of(pk: str) -> str:
    """Whose counter it is."""
    return pk.removeprefix("limits#")


def settled_key(event_id: str) -> dict[str, Any]:
    """The key of the marker of a settled inference."""
    return _key(f"settled#{event_id}")


def hint_key(server: str, model: str) -> dict[str, Any]:
    """The key of a price hint."""
    return _key(f"price#{server}#{model[:LONGEST_MODEL]}")


def cost_in(period: Period) -> str:
    """The attribute with all of a budget that is gone: what is settled, and what is reserved."""
    return f"{period}_cost"


def spent_in(period: Period) -> str:
    """The attribute with what is settled."""
    return f"{period}_spent"


def told_in(period: Period) -> str:
    """The attribute with the highest threshold that was told."""
    return f"told_{period}"


def told_budget_in(period: Period) -> str:
    """The attribute with the budget that this threshold was of."""
    return f"told_{period}_budget"


def lease_of(inference_id: str) -> str:
    """The name of an inference's lease."""
    return inference_id[-_LEASE_LENGTH:]


class Leased(NamedTuple):
    """A lease as it is found: its end and when it was taken (Unix), and what it reserves (USD).

    `counted` is w, t or wt where that is reserved of a budget of the week, in total, or both, too.
    """

    end: int
    cost: Decimal = Decimal(0)
    at: int = 0
    counted: str = ""

    def windows(self, calendar: Calendar) -> Windows:
        """The windows in which it was taken. `calendar` says when weeks and months begin."""
        return Windows.of(self.at, calendar.counting(self.counted))

    @classmethod
    def of(cls, value: Any) -> "Leased":
        """A lease in plain values: a map of keys with a budget, else the number of its end.

        Raises KeyError, TypeError, ValueError or ArithmeticError for what is none.
        """
        if isinstance(value, Mapping):
            parts: dict[str, Any] = {"cost": 0, "at": 0, "counted": "", **value}
            return cls(int(parts["end"]), Decimal(parts["cost"]), int(parts["at"]), str(parts["counted"]))
        return cls(int(value))


def leases(counter: Item, place: Literal["live", "took"] = LIVE) -> dict[str, Leased]:
    """The leases of a counter in DynamoDB's JSON. Raises as `Leased.of`."""
    found: Any = from_attribute(counter[place]) if place in counter else None
    return {name: Leased.of(value) for name, value in found.items()} if isinstance(found, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def hint_values(per_input: Decimal, per_output: Decimal, answer: int | None) -> dict[str, Any]:
    """The attributes of a price hint: USD per token, and the tokens of an answer where they are known."""
    return {"input": per_input, "output": per_output} | ({} if answer is None else {"answer": answer})


def read_hint(values: Mapping[str, Any]) -> tuple[Decimal, Decimal, int | None]:
    """The inverse of `hint_values`. Raises KeyError, TypeError, ValueError or ArithmeticError for what is none."""
    answer = int(values["answer"]) if "answer" in values else None
    return Decimal(values["input"]), Decimal(values["output"]), answer


def _key(pk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}}
