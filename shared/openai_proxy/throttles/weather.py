"""What is left of a server's limits for a model, how fast it goes, and when it is gone. Pure.

    pk weather   sk <server>#<model>   seen_at, full_until, told_at (Unix seconds); of requests and of tokens
                                       what is left, the limit, seconds until it is full again, and the pace

One rule: nobody waits for it. Whoever reads it does so now and then, and does without it where it is not there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from openai_proxy.events.incoming import MalformedEventError
from openai_proxy.ledger.entries import count_of, seconds_of, text_of
from openai_proxy.ledger.entry_cost import UNNAMED

if TYPE_CHECKING:
    from openai_proxy.events.throttle_types import AnnouncedData
    from openai_proxy.events.types import TerminalEvent

Resource = Literal["requests", "tokens"]
RESOURCES: tuple[Resource, ...] = ("requests", "tokens")
PARTITION = "weather"
KEPT = 86400
"""Seconds for which an item is kept after the latest answer of its server."""
SOON = 120.0
"""A forecast is told when a limit is gone within so many seconds …"""
SCARCE = 0.2
"""… and no more than this part of it is left."""
TOLD_AGAIN = 3600.0
"""Seconds between two forecasts for one server and model."""
FULL = 20.0
"""Seconds for which a server is passed over when it is about to have nothing left."""
_LONGEST_WAIT = 600.0
_STALE = 120.0
_LONGEST_MODEL = 128
_LONGEST_SERVER = 64
_MOST_SAMPLES = 8
_RISE = 0.5


@dataclass(frozen=True, slots=True)
class Left:
    """What is left of one limit, and the `pace` at which it goes, a second. `limit` and `reset` None: nobody said."""

    remaining: int
    limit: int | None = None
    reset: float | None = None
    pace: float = 0.0

    @property
    def seconds(self) -> float | None:
        """Seconds until it is gone at the present pace; None: it is not going."""
        return self.remaining / self.pace if self.pace > 0 else None

    @property
    def is_going(self) -> bool:
        """Whether it is gone soon, before it is full again."""
        seconds, is_scarce = self.seconds, self.limit is None or self.remaining <= SCARCE * self.limit
        if seconds is None or not is_scarce or seconds > SOON:
            return False
        return self.reset is None or seconds < self.reset

    def after(self, before: "Left | None", passed: float) -> "Left":
        """The same with a pace, after what was left `passed` seconds before."""
        if before is None or passed > _STALE:
            return self
        if passed < 1.0:  # too short for a pace
            return replace(self, pace=before.pace)
        gone = (before.remaining - self.remaining) / passed
        pace = before.pace + _RISE * (gone - before.pace) if before.pace else gone
        return replace(self, pace=max(0.0, pace) if gone > 0 else 0.0)


@dataclass(frozen=True, slots=True)
class Weather:
    """The limits of one model at one server, `seen_at` a moment; until `full_until` it will refuse (0: it will not)."""

    server: str
    model: str
    seen_at: float
    left: Mapping[Resource, Left] = field(default_factory=dict[Resource, Left])
    full_until: float = 0.0
    told_at: float = 0.0

    def after(self, before: "Weather | None") -> "Weather":
        """The same with paces, and with what was known before and still holds."""
        known: Mapping[Resource, Left] = before.left if before else {}
        passed = self.seen_at - before.seen_at if before else 0.0
        left: dict[Resource, Left] = {name: each.after(known.get(name), passed) for name, each in self.left.items()}
        kept: dict[Resource, Left] = {
            name: each for name, each in known.items() if name not in left and passed <= _STALE
        }
        full = max(self.full_until, before.full_until if before else 0.0)
        found = replace(self, left={**kept, **left}, full_until=full, told_at=before.told_at if before else 0.0)
        going = found.going
        if going and (seconds := going[1].seconds) is not None and seconds <= FULL:
            return replace(found, full_until=max(full, self.seen_at + min(going[1].reset or FULL, _LONGEST_WAIT)))
        return found

    @property
    def going(self) -> tuple[Resource, Left] | None:
        """What is gone first, if anything is gone soon."""
        found: list[tuple[Resource, Left]] = [(name, each) for name, each in self.left.items() if each.is_going]
        return min(found, key=lambda each: each[1].seconds or 0.0, default=None)

    def is_full(self, now: float) -> bool:
        """Whether it is to be passed over."""
        return self.full_until > now

    @property
    def is_news(self) -> bool:
        """Whether a forecast is to be told."""
        return self.going is not None and self.seen_at - self.told_at >= TOLD_AGAIN

    @property
    def name(self) -> str:
        """What its item is called by."""
        return sort_key(self.server, self.model)

    def as_told(self) -> "Weather":
        """The same, when its forecast is told."""
        return replace(self, told_at=self.seen_at)

    def to_item(self) -> dict[str, Any]:
        """Attributes of the item."""
        item: dict[str, Any] = {
            "pk": PARTITION,
            "sk": self.name,
            "server": self.server,
            "model": self.model,
            **{name: _number(getattr(self, name)) for name in ("seen_at", "full_until", "told_at")},
            "expires_at": int(self.seen_at) + KEPT,
        }
        for name, each in self.left.items():
            facts = {"remaining": each.remaining, "limit": each.limit, "reset": each.reset, "pace": each.pace}
            item[name] = {key: _number(value) for key, value in facts.items() if value is not None}
        return item

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> "Weather":
        """An item. Raises KeyError, TypeError, ValueError or ArithmeticError for what is none."""
        left: dict[Resource, Left] = {}
        for name in RESOURCES:
            if (each := item.get(name)) is not None:
                limit, reset = each.get("limit"), each.get("reset")
                left[name] = Left(
                    int(each["remaining"]),
                    None if limit is None else int(limit),
                    None if reset is None else float(reset),
                    float(each["pace"]),
                )
        times = (float(item[name]) for name in ("full_until", "told_at"))
        return cls(item["server"], item["model"], float(item["seen_at"]), left, *times)


def sort_key(server: str, model: str) -> str:
    """What the item of a model at a server is called by."""
    return f"{server}#{model[:_LONGEST_MODEL]}"


def samples_of(event: "TerminalEvent") -> "list[Weather]":
    """What the answers of an event announce. Raises MalformedEventError."""
    try:
        at = datetime.fromisoformat(event.timestamp)
        if at.tzinfo is None:
            raise ValueError(event.timestamp)
        announced = event.data.get("announced") or ()
        return [_sample_of(each, at.timestamp()) for each in announced[:_MOST_SAMPLES]]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise MalformedEventError(f"not a {event.detail_type} event: {error!r}") from error


def _sample_of(announced: "AnnouncedData", seen_at: float) -> Weather:
    left: dict[Resource, Left] = {}
    for name in RESOURCES:
        if each := announced.get(name):
            limit, reset = each["limit"], each["reset"]
            left[name] = Left(
                count_of(each["remaining"]),
                None if limit is None else count_of(limit),
                None if reset is None else float(seconds_of(reset)),
            )
    server, model = text_of(announced["server"], _LONGEST_SERVER) or UNNAMED, announced["model"]
    name = text_of(model, _LONGEST_MODEL) or UNNAMED
    gone = [each.reset or FULL for each in left.values() if each.remaining == 0]
    refused_for = announced["refused_for"]
    waits = gone + ([] if refused_for is None else [float(seconds_of(refused_for)) or FULL])
    full = seen_at + min(max(waits), _LONGEST_WAIT) if waits else 0.0
    return Weather(server, name, seen_at, left, full)


def _number(value: float) -> Decimal | int:
    return value if isinstance(value, int) else Decimal(repr(round(value, 6)))
