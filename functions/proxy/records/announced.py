"""What a server says of its own limits: how much is left, and when they are full again. Pure.

OpenAI and many others say `x-ratelimit-remaining-requests`, Anthropic `anthropic-ratelimit-requests-remaining`. One
rule: a value that is no plain number counts as unknown; nothing that a server says here can fail a request.
"""

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from proxy.json_shapes import LONGEST_NAME, text_of
from proxy.timeline import Answer

if TYPE_CHECKING:
    from openai_proxy.events.throttle_types import AnnouncedData, LeftsData

_NAMES: tuple[Literal["requests", "tokens"], ...] = ("requests", "tokens")
_MOST = 10**12
_MOST_ANSWERS = 4
_LONGEST = 86400.0
_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def announced_of(answers: Sequence[Answer], now: float) -> "list[AnnouncedData]":
    """What each answer says of its server's limits, read at `now` (Unix seconds). Answers that say nothing are left
    out.
    """
    found: list[AnnouncedData] = []
    for server, model, status, headers in answers:
        left = announced(headers, now)
        wait = _seconds(headers.get("retry-after"), now) if status == 429 else None
        refused_for = (wait or 0.0) if status == 429 else None
        if left or refused_for is not None:
            found.append({"server": server, "model": text_of(model, LONGEST_NAME), "refused_for": refused_for, **left})
    return found[-_MOST_ANSWERS:]


def announced(headers: Mapping[str, str], now: float) -> "LeftsData":
    """What the headers of an answer say of the limits, read at `now` (Unix seconds)."""
    found: LeftsData = {}
    for name in _NAMES:
        remaining, limit, reset = (
            headers.get(f"x-ratelimit-{what}-{name}") or headers.get(f"anthropic-ratelimit-{name}-{what}")
            for what in ("remaining", "limit", "reset")
        )
        if (number := _count(remaining)) is not None:
            found[name] = {"remaining": number, "limit": _count(limit), "reset": _seconds(reset, now)}
    return found


def _count(text: str | None) -> int | None:
    if not text or not re.fullmatch(r"[0-9]{1,13}", text, re.ASCII):
        return None
    return number if (number := int(text)) <= _MOST else None


def _seconds(text: str | None, now: float) -> float | None:
    """Seconds of "6m0s", "20ms", "1.5s", "12" or of a moment, "2026-11-23T09:38:06Z"."""
    if not text:
        return None
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text, re.ASCII):
        seconds = float(text)
    elif re.fullmatch(rf"(?:{_PART.pattern})+", text, re.ASCII):
        seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        seconds = moment.timestamp() - now if moment.tzinfo else math.nan
    return round(min(max(0.0, seconds), _LONGEST), 3) if math.isfinite(seconds) else None
