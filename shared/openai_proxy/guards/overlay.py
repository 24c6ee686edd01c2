"""Overlays: the restrictions that guards put on a client key, or a user, for a time. Each is an item of its own beside
the key's in the key table. Pure.

    key_hash guard#<key id>   acts: {<id>: {guard, act, limits, at, until, reason, told, undone_at}}   expires_at

Its one rule: the item of the key itself is never touched. So when an act ends, or is undone, exactly the operator's
settings remain, including those made meanwhile.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from openai_proxy.key_limits import Limits

GUARD_PREFIX = "guard#"
"""The key of an overlay in the key table begins with it."""
KEPT = 86400
"""Seconds after its end for which an act is still listed."""
MOST_ACTS = 50
"""Of one key: the oldest go first."""
_LOWERED = ("rpm", "tpm", "parallel")


class Held(NamedTuple):
    """The restrictions that hold now. `limits` are upper bounds of the key's own limits."""

    is_disabled: bool
    is_cache_only: bool
    limits: Mapping[str, int]


def overlay_key(key_id: str) -> str:
    """The key of an overlay's item."""
    return f"{GUARD_PREFIX}{key_id}"


def held_by(item: Mapping[str, Any], now: float) -> Held:
    """The restrictions in an item, in plain values, that hold at `now` (Unix seconds).

    Raises ValueError for a damaged item, because the missing part might be an act.
    """
    try:
        acts = [act for act in item["acts"].values() if float(act["until"]) > now and "undone_at" not in act]
        kinds = {str(act["act"]) for act in acts}
        limits: dict[str, int] = {}
        for act in acts:
            given: Mapping[str, Any] = act.get("limits") or {}
            for name, most in given.items():
                limits[name] = min(_limit(most), limits.get(name, _limit(most)))
        if not (kinds <= {"notify", "lower", "cache_only", "disable"} and limits.keys() <= set(_LOWERED)):
            raise ValueError("an act that is not known")
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError("an overlay that is damaged") from error
    return Held("disable" in kinds, "cache_only" in kinds, limits)


def lowered(limits: Limits | None, most: Mapping[str, int], limits_id: str) -> Limits | None:
    """The key's limits, none of them higher than `most`. `limits_id` is for a key that has none."""
    if not most:
        return limits
    found = limits or Limits(limits_id)
    own = {name: getattr(found, name) for name in most}
    return found._replace(**{name: min(own[name] or number, number) for name, number in most.items()})


def _limit(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or value != int(value) or value < 1:
        raise ValueError("a limit that lets nothing through")
    return int(value)
