"""What the limits table is told about a shard of a counter, as DynamoDB requests. Pure.

A shard draws requests and tokens of the minute from its key's counter, many at a time, and lets through what it has
drawn. Its one rule: the counter notes what each shard has drawn in all, and the shard how much of that it has been
credited with. So what is drawn is credited once, by whoever comes next, if the one that drew it died.
"""

from typing import Any, NamedTuple

from openai_proxy.dynamodb import Item
from openai_proxy.key_limits import Limits
from openai_proxy.limits import EXPIRES_AT, MINUTE, PARTS, REQUESTS, TOKENS, Windows, shard_id

from proxy.aws.dynamodb_update import Update
from proxy.limits.item import Share, Source, number_of

_NAMES = (REQUESTS, TOKENS)
_DRAWS = 16
"""A shard draws so small a part of its share of what is left: the last requests of a minute are drawn singly."""
_AT_ONCE = 8
"""But for as many requests as this while there is enough: several may have found the shard empty at once."""
_KEPT = 86400


class Amounts(NamedTuple):
    """Requests and tokens; 0 of what is not limited."""

    requests: int = 0
    tokens: int = 0

    def plus(self, other: "Amounts") -> "Amounts":
        """Both together."""
        return Amounts(self.requests + other.requests, self.tokens + other.tokens)

    def minus(self, other: "Amounts") -> "Amounts":
        """What is more here than there."""
        return Amounts(self.requests - other.requests, self.tokens - other.tokens)

    def covers(self, other: "Amounts") -> bool:
        """Whether there is no less of either."""
        return self.requests >= other.requests and self.tokens >= other.tokens


NOTHING = Amounts()


class Own(NamedTuple):
    """What one request takes of a shard: `need` of what is limited, and in all `requests`, 1, and its `tokens`."""

    need: Amounts
    requests: int
    tokens: int

    @classmethod
    def of(cls, limits: Limits, share: Share) -> "Own":
        """What a request with such a share takes."""
        need = Amounts(0 if limits.rpm is None else 1, 0 if limits.tpm is None else share.tokens)
        return cls(need, 1, share.tokens)


def shard_limits(limits: Limits, shard: int) -> Limits:
    """The same, counted in a shard."""
    return limits._replace(id=shard_id(limits.id, shard))


def left_in(shard: Item, windows: Windows) -> Amounts:
    """What a shard may still let through. Less than nothing of tokens, where requests have used more than thought."""
    return _amounts(shard, "left_") if _is_of(shard, windows) else NOTHING


def drawn_by(shard: Item, windows: Windows) -> Amounts:
    """What a shard has been credited with."""
    return _amounts(shard, "drawn_") if _is_of(shard, windows) else NOTHING


def part_of(counter: Item, shard: int, windows: Windows) -> Amounts:
    """What a counter says that a shard has drawn."""
    part = _part(counter, shard)
    return _amounts(part) if _is_of(part, windows) else NOTHING


def drawing_shards(counter: Item) -> list[int]:
    """The shards that have drawn of a counter, at any time."""
    return [int(name) for name in counter.get(PARTS, {}).get("M", {})]


def taking_of_shard(limits: Limits, windows: Windows, own: Own) -> dict[str, Any]:
    """The update of a shard that takes one request's share, if there is room for it."""
    update = Update()
    update.needs(f"#{MINUTE} = :{MINUTE}", {MINUTE: windows.minute})
    for name, amount in _limited(limits, own.need):
        update.needs(f"#left_{name} >= :need_{name}", {f"need_{name}": amount})
        update.adds({f"left_{name}": -amount})
    update.adds({REQUESTS: own.requests, TOKENS: own.tokens})
    return _answered(update)


def to_draw(limits: Limits, counter: Item, lack: Amounts, shards: int) -> Amounts | None:
    """How much one of so many shards draws that lacks so much; None where the counter has less."""
    rest = rest_of(limits, counter)
    if any(amount > max(0, left) for (_, amount), left in zip(_limited(limits, lack), _of(limits, rest), strict=True)):
        return None
    parts = [
        max(amount, left // (_DRAWS * shards), min(_AT_ONCE * amount, left // shards)) if amount > 0 else 0
        for amount, left in zip(lack, rest, strict=True)
    ]
    return Amounts(*parts)


def rest_of(limits: Limits, counter: Item) -> Amounts:
    """What nobody has taken or drawn; 0 of what is not limited."""
    used = [int(number_of(counter, name)) for name in _NAMES]
    parts = [0 if limit is None else limit - each for limit, each in zip((limits.rpm, limits.tpm), used, strict=True)]
    return Amounts(*parts)


def drawing(limits: Limits, windows: Windows, shard: int, counter: Item, amounts: Amounts) -> dict[str, Any]:
    """The update of a counter by which a shard draws, if nobody has drawn for it since the counter was read."""
    update, own = Update(), {"shard": str(shard)}
    update.needs(f"#{MINUTE} = :{MINUTE}", {MINUTE: windows.minute})
    drawn = part_of(counter, shard, windows).plus(amounts)
    part = {MINUTE: windows.minute, REQUESTS: drawn.requests, TOKENS: drawn.tokens}
    if old := _part(counter, shard):
        for name in (MINUTE, *_NAMES):
            update.needs(f"#{PARTS}.#shard.#{name} = :old_{name}", {f"old_{name}": number_of(old, name)}, own)
    elif PARTS in counter:
        update.needs(f"attribute_exists(#{PARTS}) AND attribute_not_exists(#{PARTS}.#shard)", names=own)
    if PARTS in counter:
        update.sets(f"#{PARTS}.#shard = :part", {"part": part}, own)
    else:
        update.needs(f"attribute_not_exists(#{PARTS})")
        update.sets(f"#{PARTS} = :parts", {"parts": {str(shard): part}})
    for (name, limit), (_, amount) in zip(_limits(limits), _limited(limits, amounts), strict=True):
        update.needs(f"#{name} <= :most_{name}", {f"most_{name}": limit - amount})
    update.adds({REQUESTS: amounts.requests, TOKENS: amounts.tokens})
    return _answered(update)


def crediting(windows: Windows, shard: Item, part: Amounts, counter: Item, taken: Own) -> dict[str, Any]:
    """The update of a shard, as it was read, that credits it with all it has drawn, and takes what a request needs."""
    update, own = Update(), taken.need
    fresh = part.minus(drawn_by(shard, windows))
    counted = {REQUESTS: taken.requests, TOKENS: taken.tokens}
    added = {f"left_{name}": amount for name, amount in zip(_NAMES, fresh.minus(own), strict=True)} | counted
    if _is_of(shard, windows):
        update.needs(f"#{MINUTE} = :{MINUTE}", {MINUTE: windows.minute})
        for name, drawn, lack in zip(_NAMES, drawn_by(shard, windows), own.minus(fresh), strict=True):
            update.needs(f"#drawn_{name} = :was_{name}", {f"was_{name}": drawn})
            if lack > 0:
                update.needs(f"#left_{name} >= :lack_{name}", {f"lack_{name}": lack})
        update.adds(added)
    else:
        if MINUTE in shard:
            update.needs(f"#{MINUTE} = :old", {"old": number_of(shard, MINUTE)})
        else:
            update.needs(f"attribute_not_exists(#{MINUTE})")
        for name, amount in (added | {MINUTE: windows.minute}).items():
            update.sets(f"#{name} = :{name}", {name: amount})
    for name, drawn in zip(_NAMES, part, strict=True):
        update.sets(f"#drawn_{name} = :drawn_{name}", {f"drawn_{name}": drawn})
        update.sets(f"#seen_{name} = :seen_{name}", {f"seen_{name}": number_of(counter, name)})
    update.sets(f"#{EXPIRES_AT} = :{EXPIRES_AT}", {EXPIRES_AT: windows.now + _KEPT})
    return _answered(update)


def giving_back(windows: Windows, tokens: int) -> dict[str, Any]:
    """The update of a shard that has thought of so many tokens too many, or too few, while its minute lasts."""
    update = Update()
    update.needs(f"#{MINUTE} = :{MINUTE}", {MINUTE: windows.minute})
    update.adds({f"left_{TOKENS}": tokens, TOKENS: -tokens})
    return update.request()


def taking_back(windows: Windows, own: Own) -> dict[str, Any]:
    """The update of a shard that takes a take back, while its minute lasts."""
    update = Update()
    update.needs(f"#{MINUTE} = :{MINUTE}", {MINUTE: windows.minute})
    left = {f"left_{name}": amount for name, amount in zip(_NAMES, own.need, strict=True)}
    update.adds({REQUESTS: -own.requests, TOKENS: -own.tokens} | left)
    return update.request()


def source_of(limits: Limits, counter: Item) -> Source:
    """Which limit has no room, where a counter and the shards that were asked have none."""
    is_of_requests = limits.rpm is not None and rest_of(limits, counter).requests < 1
    return "key_rpm" if is_of_requests or limits.tpm is None else "key_tpm"


def shard_headers(limits: Limits, shard: Item, windows: Windows) -> dict[str, str]:
    """What is left, as far as a shard knows: of the counter when it last drew, and of what it has drawn itself."""
    found: dict[str, str] = {}
    left = left_in(shard, windows)
    for (name, limit), (_, own) in zip(_limits(limits), _limited(limits, left), strict=True):
        remaining = limit - int(number_of(shard, f"seen_{name}")) + own
        found[f"x-ratelimit-limit-{name}"] = str(limit)
        found[f"x-ratelimit-remaining-{name}"] = str(max(0, min(limit, remaining)))
        found[f"x-ratelimit-reset-{name}"] = f"{windows.to_next_minute}s"
    return found


def _limits(limits: Limits) -> list[tuple[str, int]]:
    return [(name, limit) for name, limit in ((REQUESTS, limits.rpm), (TOKENS, limits.tpm)) if limit is not None]


def _limited(limits: Limits, amounts: Amounts) -> list[tuple[str, int]]:
    """The amounts of what is limited, with their names."""
    return [(name, amount) for name, amount in zip(_NAMES, amounts, strict=True) if name in dict(_limits(limits))]


def _of(limits: Limits, amounts: Amounts) -> list[int]:
    return [amount for _, amount in _limited(limits, amounts)]


def _part(counter: Item, shard: int) -> Item:
    return counter.get(PARTS, {}).get("M", {}).get(str(shard), {}).get("M", {})


def _is_of(item: Item, windows: Windows) -> bool:
    return MINUTE in item and number_of(item, MINUTE) == windows.minute


def _amounts(item: Item, prefix: str = "") -> Amounts:
    return Amounts(*(int(number_of(item, f"{prefix}{name}")) for name in _NAMES))


def _answered(update: Update) -> dict[str, Any]:
    return update.request() | {"ReturnValues": "ALL_NEW", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
