"""What the limits table is told and asked, as DynamoDB requests: one item for each key, or line of rotated keys. Pure.

    minute, requests, tokens            of the current minute; tokens are estimates until an answer is complete
    live                                {inference id: end of its lease}, of keys with a limit for parallel requests
    day, day_cost, month, month_cost    reserved and spent
    r_<yyyymmdd>_<quarter>              reserved in that quarter of an hour, and not settled yet

Its one rule: what is checked is taken in the same step, by one conditional update. Nothing is read first.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from proxy.client_key import Limits
from proxy.dynamodb_update import Update
from proxy.json_shapes import object_of

Source = Literal["key_rpm", "key_tpm", "key_parallel", "key_budget"]

QUARTER = 900
"""Seconds. Also the longest invocation: what is reserved longer than two of them has nobody left to settle it."""
_KEPT = 40 * 86400
_MOMENT = 1
"""Seconds after which a request for one of several parallel places may try again."""

Item = Mapping[str, Mapping[str, Any]]
"""An item in DynamoDB's JSON."""


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows that a moment falls into."""

    minute: int
    day: str
    month: str
    now: int

    @classmethod
    def of(cls, unix_time: float) -> "Windows":
        """Those of `unix_time`, in UTC."""
        moment = time.gmtime(unix_time)
        return cls(
            int(unix_time) // 60, time.strftime("%Y-%m-%d", moment), time.strftime("%Y-%m", moment), int(unix_time)
        )

    @property
    def bucket(self) -> str:
        """The attribute that sums up what is reserved now."""
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


def key_of(limits: Limits) -> dict[str, Any]:
    """The item's key."""
    return {"pk": {"S": f"limits#{limits.id}"}}


def taking(limits: Limits, windows: Windows, share: "Share") -> dict[str, Any]:
    """The update that takes one request's share, if every limit has room for it and the item is of these windows."""
    update = Update()
    update.needs("#minute = :minute", {"minute": windows.minute})
    update.adds({"requests": 1, "tokens": share.tokens})
    if limits.rpm is not None:
        update.needs("#requests < :rpm", {"rpm": limits.rpm})
    if limits.tpm is not None:
        update.needs("#tokens <= :tpm", {"tpm": max(0, limits.tpm - share.tokens)})
    if limits.parallel is not None:
        update.needs("size(#live) < :parallel", {"parallel": limits.parallel})
        update.sets("#live.#lease = :lease", {"lease": share.lease_end}, {"lease": share.inference_id})
    if limits.has_budget:
        update.needs("#day = :day AND #month = :month", {"day": windows.day, "month": windows.month})
        update.adds({"day_cost": share.cost, "month_cost": share.cost, windows.bucket: share.cost})
    if limits.budget_day is not None:
        update.needs("#day_cost < :budget_day", {"budget_day": limits.budget_day})
    if limits.budget_month is not None:
        update.needs("#month_cost < :budget_month", {"budget_month": limits.budget_month})
    update.sets("#expires_at = :expires_at", {"expires_at": windows.now + _KEPT})
    return update.request() | {"ReturnValues": "ALL_NEW", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}


def renewal(limits: Limits, item: Item, windows: Windows) -> dict[str, Any] | None:
    """The update that brings a stale item up to date, if it is still as it was read; None when it is not stale.

    A window begins with nothing in it; what nobody is left to settle, or to release, is given back.
    """
    update = Update()
    if not item:
        update.needs("attribute_not_exists(pk)")
    if limits.parallel is not None and "live" not in item:
        update.needs("attribute_not_exists(#live)")
        update.sets("#live = :live", {"live": dict[str, int]()})
    if windows.minute > _number(item, "minute"):
        _begin(update, item, "minute", windows.minute, ("requests", "tokens"))
    if limits.has_budget:
        if windows.day > _text(item, "day"):
            _begin(update, item, "day", windows.day, ("day_cost", "day_spent", "told_day"))
        if windows.month > _text(item, "month"):
            _begin(update, item, "month", windows.month, ("month_cost", "month_spent", "told_month"))
        _give_back(update, item, windows)
    for place, (inference_id, lease_end) in enumerate(leases(item).items()):
        if lease_end < windows.now:
            update.removes(f"#live.#gone{place}", {f"gone{place}": inference_id})
    return update.request() if update.does_something else None


def _begin(update: Update, item: Item, name: str, value: int | str, counters: tuple[str, ...]) -> None:
    if name in item:
        old = _number(item, name) if "N" in item[name] else _text(item, name)
        update.needs(f"#{name} = :old_{name}", {f"old_{name}": old})
    else:
        update.needs(f"attribute_not_exists(#{name})")
    update.sets(f"#{name} = :{name}", {name: value})
    for counter in counters:
        update.sets(f"#{counter} = :zero", {"zero": 0})


def _give_back(update: Update, item: Item, windows: Windows) -> None:
    """Reservations that are too old to be settled. A window that has just begun has none of them in it."""
    is_same_day, is_same_month = _text(item, "day") == windows.day, _text(item, "month") == windows.month
    day_cost = month_cost = Decimal(0)
    for name in buckets(item):
        day, quarter = name.split("_")[1:]
        if int(quarter) >= windows.now // QUARTER - 2:
            continue
        amount = _number(item, name)
        update.needs(f"#{name} = :{name}", {name: amount})
        update.removes(f"#{name}")
        day_cost += amount if is_same_day and day == windows.day.replace("-", "") else 0
        month_cost += amount if is_same_month and day[:6] == windows.month.replace("-", "") else 0
    if day_cost:
        update.adds({"day_cost": -day_cost})
    if month_cost:
        update.adds({"month_cost": -month_cost})


def refusal(limits: Limits, item: Item, windows: Windows, tokens: int) -> tuple[Source, int] | None:
    """Which limit has no room in an item of these windows, and in how many seconds it may have."""
    if limits.budget_month is not None and _number(item, "month_cost") >= limits.budget_month:
        return "key_budget", windows.to_next_month
    if limits.budget_day is not None and _number(item, "day_cost") >= limits.budget_day:
        return "key_budget", windows.to_next_day
    if limits.rpm is not None and _number(item, "requests") >= limits.rpm:
        return "key_rpm", windows.to_next_minute
    if limits.tpm is not None and _number(item, "tokens") > max(0, limits.tpm - tokens):
        return "key_tpm", windows.to_next_minute
    if limits.parallel is not None and len(leases(item)) >= limits.parallel:
        return "key_parallel", _MOMENT
    return None


def release(windows: Windows, share: "Share", tokens: int, *, has_lease: bool, same_minute: bool) -> dict[str, Any]:
    """The update at the end of a request: its place is free, and its tokens are what they really were."""
    update = Update()
    if has_lease:
        update.needs("attribute_exists(#live.#lease)", names={"lease": share.inference_id})
        update.removes("#live.#lease", {"lease": share.inference_id})
    if same_minute:
        update.needs("#minute = :minute", {"minute": windows.minute})
        update.adds({"tokens": tokens - share.tokens})
    return update.request()


def headers(limits: Limits, item: Item, windows: Windows) -> dict[str, str]:
    """What is left, as OpenAI says it (https://platform.openai.com/docs/guides/rate-limits)."""
    found: dict[str, str] = {}
    for name, attribute, limit in (("requests", "requests", limits.rpm), ("tokens", "tokens", limits.tpm)):
        if limit is not None:
            found[f"x-ratelimit-limit-{name}"] = str(limit)
            found[f"x-ratelimit-remaining-{name}"] = str(max(0, limit - int(_number(item, attribute))))
            found[f"x-ratelimit-reset-{name}"] = f"{windows.to_next_minute}s"
    return found


@dataclass(frozen=True, slots=True)
class Share:
    """What one request takes: estimates of its tokens and its cost (USD), and a place until `lease_end` (Unix)."""

    inference_id: str
    lease_end: int
    tokens: int
    cost: Decimal


@dataclass(frozen=True, slots=True)
class Taken:
    """What a request has taken, for its event and its end. `share` None: nothing, because the table did not answer."""

    limits: Limits
    windows: Windows
    share: Share | None
    headers: Mapping[str, str]

    def to_event(self) -> dict[str, Any]:
        """The `data.limits` object of an event."""
        share, limits = self.share, self.limits
        reserved = {"cost": f"{share.cost:f}", "tokens": share.tokens} if share and limits.needs_estimate else None
        return _event(limits, "checked" if share else "unchecked", reserved, self.windows.now)


def nothing_taken(limits: Limits) -> dict[str, Any]:
    """The `data.limits` object of an event of a request that was refused before, or by, its limits."""
    return _event(limits, "checked", None, None)


def _event(limits: Limits, status: str, reserved: dict[str, Any] | None, taken_at: int | None) -> dict[str, Any]:
    return {
        "id": limits.id,
        "status": status,
        "reserved": reserved,
        "has_budget": limits.has_budget and taken_at is not None,
        "taken_at": taken_at,
        "budget_day": None if limits.budget_day is None else f"{limits.budget_day:f}",
        "budget_month": None if limits.budget_month is None else f"{limits.budget_month:f}",
        "currency": "USD" if limits.has_budget else None,
    }


def leases(item: Item) -> dict[str, int]:
    """The running requests, and when the lease of each ends (Unix seconds)."""
    return {name: int(end["N"]) for name, end in object_of(item.get("live", {}).get("M")).items()}


def buckets(item: Item) -> list[str]:
    """The names of the sums of what is reserved and not settled."""
    return [name for name in item if _BUCKET.fullmatch(name)]


_BUCKET = re.compile(r"r_\d{8}_\d+")


def _number(item: Item, name: str) -> Decimal:
    return Decimal(item[name]["N"]) if name in item else Decimal(0)


def _text(item: Item, name: str) -> str:
    return item[name]["S"] if name in item else ""
