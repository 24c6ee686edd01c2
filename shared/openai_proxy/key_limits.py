"""`Limits`: what a client key, or a user, may take, and how the authorizer's context says it. Pure.

Its one rule: a limit that is not understood is never left out; reading it raises ValueError.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from openai_proxy.limits import LAST_RESET_DAY, WEEKDAYS, Calendar

if TYPE_CHECKING:
    from openai_proxy.limits import Period

CURRENCY = "USD"
"""Of budgets: that of the price book."""
MOST_MONEY = 10**9
"""USD that a budget, or a reservation, is at most."""
REQUESTS_OF_A_SHARD = 30_000
"""A minute, 500 a second: up to so many all is counted in one item. DynamoDB writes one 1,000 times a second; of a key
with `tpm` or `parallel` a request writes twice, so a shard has half as many."""
_TOKENS_OF_A_REQUEST = 1000
"""How many there are thought to be, where only tokens are limited."""
_LEAST_SHARDS, _MOST_SHARDS = 2, 100
_SHARDS_OF_UNKNOWN = 16
"""Of a key whose requests a minute are not limited: 4,000 requests a second that have a place, 8,000 with a budget."""
_MOST_DECIMALS = 24
_MOST_DIGITS = 15
_USER_ID = re.compile(r"[0-9a-f]{32}")


def amount_of(text: str) -> Decimal:
    """An amount of money from its plain digits: 5, 0.25. Raises ValueError for every other form, and for too much.

    `Decimal` also reads 1e5, 1_000 and digits of other scripts, but whoever writes such an amount may mean another one.
    """
    whole, dot, rest = text.partition(".")
    if not (_are_digits(whole) and (_are_digits(rest) or not dot) and len(rest) <= _MOST_DECIMALS):
        raise ValueError("an amount that is not written in plain digits")
    if (amount := Decimal(text)) > MOST_MONEY:
        raise ValueError("an amount that is too large")
    return amount


def team_limits_id(name: str) -> str:
    """The id under which a team is counted. That of a key, or a user, is hexadecimal and has no point."""
    return f"team.{name}"


def is_user_id(text: str) -> bool:
    """Whether it is the id of a user; that of a client key is shorter."""
    return _USER_ID.fullmatch(text) is not None


class Limits(NamedTuple):
    """What a key may take; None stands for no limit. Budgets are in USD. Rotated keys share one `id`.

    Its weeks begin with `reset_weekday`, its months with `reset_day`. `team` is whose limits they are; "" is for a
    key's own. `shared` are those of the key's team, which are taken together with its own. `is_users_team`: that who
    takes of a team's limits is a user.
    """

    id: str
    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None
    budget_day: Decimal | None = None
    budget_month: Decimal | None = None
    budget_week: Decimal | None = None
    budget_total: Decimal | None = None
    reset_weekday: str | None = None
    reset_day: int | None = None
    team: str = ""
    shared: "Limits | None" = None
    is_users_team: bool = False

    @classmethod
    def of_team(cls, name: str, values: Mapping[str, Any]) -> "Limits | None":
        """The limits of a team, by the attributes that are set; None when there are none."""
        return cls(team_limits_id(name), **values, team=name) if values else None

    @property
    def budgets(self) -> "dict[Period, Decimal]":
        """The budgets that there are, by their periods."""
        found: dict[Period, Decimal | None] = {
            "day": self.budget_day,
            "week": self.budget_week,
            "month": self.budget_month,
            "total": self.budget_total,
        }
        return {period: budget for period, budget in found.items() if budget is not None}

    @property
    def calendar(self) -> Calendar:
        """In which periods its money is counted, and when they begin."""
        week = None if self.budget_week is None else WEEKDAYS.index(self.reset_weekday or WEEKDAYS[0])
        return Calendar(week, self.reset_day or 1, self.budget_total is not None)

    @property
    def has_budget(self) -> bool:
        """Whether money has to be counted."""
        return bool(self.budgets)

    @property
    def needs_estimate(self) -> bool:
        """Whether the tokens of a request matter before it is made."""
        return self.tpm is not None or self.has_budget

    @property
    def are_given_back(self) -> bool:
        """Whether a request holds something until it ends, or is counted by what it has used."""
        return self.parallel is not None or self.needs_estimate

    @property
    def shards(self) -> int:
        """In how many shards its requests are counted from the first; 1: in the one counter itself."""
        requests = self._requests
        return 1 if requests is None or requests <= REQUESTS_OF_A_SHARD else self._shards_for(requests)

    @property
    def shards_if_busy(self) -> int:
        """In how many they are counted once many of them run at a time."""
        requests = self._requests
        return _SHARDS_OF_UNKNOWN if requests is None else max(_LEAST_SHARDS, self._shards_for(requests))

    @property
    def _requests(self) -> int | None:
        """How many requests a minute the limits let through; None if no limit says that."""
        return self.rpm if self.rpm is not None or self.tpm is None else self.tpm // _TOKENS_OF_A_REQUEST

    def _shards_for(self, requests: int) -> int:
        is_written_twice = self.tpm is not None or self.parallel is not None
        a_shard = REQUESTS_OF_A_SHARD // 2 if is_written_twice else REQUESTS_OF_A_SHARD
        return min(-(-requests // a_shard), _MOST_SHARDS)

    def to_context(self) -> dict[str, str]:
        """The limits in the authorizer's context."""
        return {
            "limits_id": self.id,
            "rpm": text_of(self.rpm),
            "tpm": text_of(self.tpm),
            "parallel": text_of(self.parallel),
            "budget_day": text_of(self.budget_day),
            "budget_month": text_of(self.budget_month),
            "budget_week": text_of(self.budget_week),
            "budget_total": text_of(self.budget_total),
            "reset_weekday": self.reset_weekday or "",
            "reset_day": text_of(self.reset_day),
            "currency": CURRENCY if self.has_budget else "",
        }

    @classmethod
    def from_context(cls, context: Mapping[str, Any]) -> "Limits | None":
        """The limits in the authorizer's context, None when there are none. Raises ValueError."""
        limits = cls(
            context.get("limits_id") or "",
            rpm=count_of(context.get("rpm")),
            tpm=count_of(context.get("tpm")),
            parallel=count_of(context.get("parallel")),
            budget_day=_money(context.get("budget_day")),
            budget_month=_money(context.get("budget_month")),
            budget_week=_money(context.get("budget_week")),
            budget_total=_money(context.get("budget_total")),
            reset_weekday=_weekday(context.get("reset_weekday")),
            reset_day=_day_of_month(context.get("reset_day")),
        )
        if limits._replace(reset_weekday=None, reset_day=None) == cls(limits.id):
            return None
        if not limits.id:
            raise ValueError("limits without an id")
        return limits


def text_of(number: int | Decimal | None) -> str:
    """A number in the context; "" of none."""
    return "" if number is None else f"{Decimal(number).normalize():f}"


def count_of(text: str | None) -> int | None:
    """The inverse, of a whole number from 1 on. Raises ValueError."""
    if not text:
        return None
    if not (count := whole_of(text)):
        raise ValueError("a limit that lets nothing through")
    return count


def whole_of(text: str) -> int:
    """A whole number from its plain digits. Raises ValueError."""
    if not _are_digits(text) or len(text) > _MOST_DIGITS:
        raise ValueError("a number that is not written in plain digits")
    return int(text)


def _money(text: str | None) -> Decimal | None:
    if not text:
        return None
    if not (amount := amount_of(text)):
        raise ValueError("a budget of nothing")
    return amount


def _weekday(text: str | None) -> str | None:
    if text and text not in WEEKDAYS:
        raise ValueError("a day that is none of the week")
    return text or None


def _day_of_month(text: str | None) -> int | None:
    day = count_of(text)
    if day is not None and day > LAST_RESET_DAY:
        raise ValueError("a day that not every month has")
    return day


def _are_digits(text: str) -> bool:
    return text.isascii() and text.isdecimal()
