"""The requests to DynamoDB about a shard of a counter. Pure.

A shard draws from its key's counter, much at a time, and lets requests through for what it has drawn. Its one rule: the
counter notes how much each shard has drawn in all, and the shard notes how much of that it has been credited with. So a
draw is credited exactly once, even if whoever made it has died.
"""

from collections.abc import Mapping
from decimal import ROUND_DOWN, Decimal
from typing import Any

from openai_proxy.dynamodb import Item, from_item, to_attribute
from openai_proxy.key_limits import Limits
from openai_proxy.limits import (
    EXPIRES_AT,
    KEPT_EVER,
    LIVE,
    MINUTE,
    PARTS,
    REQUESTS,
    TOKENS,
    Windows,
    bucket_windows,
    is_expired,
    leases,
    shard_id,
)
from openai_proxy.shards.limits import PLACES, place_in

from proxy.aws.dynamodb_update import Update
from proxy.limits.item import headers, number_of, text_of
from proxy.limits.meters import LEAST_COST, Meter, Taking, part_of

_DRAWS = 16
"""A shard draws so small a part of its share of what is left: the last requests are drawn singly."""
_AT_ONCE = 8
"""But for as many requests as this while there is enough: several may have found the shard empty at once."""
_KEPT, _KEPT_LONG = 86400, 40 * 86400
_NOTHING = Decimal(0)


def shard_limits(limits: Limits, shard: int) -> Limits:
    """The same limits, counted in a shard."""
    return limits._replace(id=shard_id(limits.id, shard))


def drawing_shards(counter: Item) -> list[int]:
    """The shards that have ever drawn from a counter."""
    return [int(name) for name in counter.get(PARTS, {}).get("M", {})]


def taking_of_shard(taking: Taking) -> dict[str, Any]:
    """The update of a shard that takes one request's share, if the shard has room for it."""
    update, windows = Update(), taking.windows
    if taking.counts_minutes:
        update.needs(f"#{MINUTE} = :{MINUTE}", {MINUTE: windows.minute})
    for meter in taking.meters:
        if meter.is_money:
            update.needs(*windows.within(meter.period))
        update.needs(f"#left_{meter.name} >= :need_{meter.name}", {f"need_{meter.name}": meter.need})
        if meter.lasts:
            update.needs(f"#of_{meter.name} <= :of_{meter.name}", {f"of_{meter.name}": meter.limit})
        update.adds({f"left_{meter.name}": -meter.need})
    _count(update, taking)
    return answered(update)


def _count(update: Update, taking: Taking, *, minute_begins: bool = False) -> None:
    """Add a request to the counts that a shard keeps beside its meters."""
    limits, windows, share = taking
    if taking.counts_minutes:
        counted = {REQUESTS: 1, TOKENS: share.tokens}
        if minute_begins:
            for name, amount in (counted | {MINUTE: windows.minute}).items():
                update.sets(f"#{name} = :{name}", {name: amount})
        else:
            update.adds(counted)
    if limits.parallel is not None:
        update.adds({place_in(share.lease_end): 1})
    if limits.has_budget:
        update.adds({windows.bucket: share.cost})


def to_draw(meter: Meter, room: Decimal, lack: Decimal, shards: int) -> Decimal | None:
    """How much a shard, one of so many, draws if it lacks so much; None if the counter has no room for it."""
    if meter.is_money:
        lack = min(lack, room)
    if lack > max(_NOTHING, room) or (meter.is_money and room <= 0):
        return None
    whole = LEAST_COST if meter.is_money else Decimal(1)
    parts = [room / (_DRAWS * shards), min(_AT_ONCE * lack, room / shards)]
    return max(lack, *(part.quantize(whole, ROUND_DOWN) for part in parts))


def room_in(meter: Meter, counter: Item, back: Decimal = _NOTHING) -> Decimal:
    """What is neither taken nor drawn, after so much has come `back`."""
    used = number_of(counter, meter.counted) + (len(leases(counter)) if meter.name == PLACES else 0)
    return meter.limit - used + back


def drawing(
    windows: Windows, shard: int, counter: Item, amounts: Mapping[Meter, Decimal], back: Mapping[str, Decimal]
) -> dict[str, Any]:
    """The update of a counter by which a shard draws, if nothing has been drawn for the shard since the counter was
    read.

    `amounts` are of all meters; `back` is what has come back of those that last.
    """
    update, own = Update(), {"shard": str(shard)}
    update.needs(f"#{MINUTE} = :{MINUTE}", {MINUTE: windows.minute})
    old = part_of(counter, shard)
    part: dict[str, Any] = {**from_item(old), "n": number_of(old, "n") + 1}
    if number_of(old, MINUTE) != windows.minute and any(not meter.lasts for meter in amounts):
        part |= {MINUTE: windows.minute, REQUESTS: 0, TOKENS: 0}
    for meter, amount in amounts.items():
        part |= {meter.counted: meter.part(counter, shard, windows) + amount}
        part |= {meter.name: text_of(counter, meter.name)} if meter.is_money else {}
        came_back = back.get(meter.name, _NOTHING)
        if meter.lasts:
            seen = number_of(counter, meter.counted) + amount - came_back
            now = {f"of_{meter.name}": meter.limit, f"seen_{meter.name}": seen}
            part |= now if amount else {}
        if amount:
            _draw(update, meter, amount, counter, came_back)
    if "n" in old:
        update.needs(f"#{PARTS}.#shard.#n = :n", {"n": number_of(old, "n")}, own)
    elif old:  # the form from before parts had numbers
        update.needs(f"attribute_not_exists(#{PARTS}.#shard.#n)", names=own)
    elif PARTS in counter:
        update.needs(f"attribute_exists(#{PARTS}) AND attribute_not_exists(#{PARTS}.#shard)", names=own)
    if PARTS in counter:
        update.sets(f"#{PARTS}.#shard = :part", {"part": part}, own)
    else:
        update.needs(f"attribute_not_exists(#{PARTS})")
        update.sets(f"#{PARTS} = :parts", {"parts": {str(shard): part}})
    return answered(update)


def _draw(update: Update, meter: Meter, amount: Decimal, counter: Item, back: Decimal) -> None:
    most = meter.limit + back - amount
    if meter.is_money:
        update.needs(f"#{meter.name} = :{meter.name}", {meter.name: text_of(counter, meter.name)})
    if meter.name == PLACES:
        running = len(leases(counter))
        most -= running
        update.needs(f"size(#{LIVE}) <= :running", {"running": running})
    if meter.counted in counter:
        update.needs(f"#{meter.counted} <= :most_{meter.name}", {f"most_{meter.name}": most})
    else:
        update.needs(f"attribute_not_exists(#{meter.counted})")
    update.adds({meter.counted: amount})


def crediting(taking: Taking, shard: Item, number: int, counter: Item) -> dict[str, Any]:
    """The update of a shard, as it was read, that credits it with all it has drawn, and takes what a request needs."""
    windows, meters = taking.windows, taking.meters
    update, part = Update(), part_of(counter, number)
    is_of_minute = MINUTE in shard and number_of(shard, MINUTE) == windows.minute
    if taking.counts_minutes:
        update.needs(*as_read(MINUTE, shard))
    for meter in meters:
        name, drawn = meter.name, meter.part(counter, number, windows)
        fresh = drawn - meter.of_shard(shard, "drawn", windows)
        if meter.is_in(shard, windows):
            update.needs(*as_read(f"drawn_{name}", shard))
            if meter.need > fresh:
                update.needs(f"#left_{name} >= :lack_{name}", {f"lack_{name}": meter.need - fresh})
            update.adds({f"left_{name}": fresh - meter.need})
        else:
            update.sets(f"#left_{name} = :left_{name}", {f"left_{name}": fresh - meter.need})
            if meter.lasts:
                update.sets(f"#back_{name} = :back_{name}", {f"back_{name}": 0})
            if name == PLACES:
                update.needs(f"attribute_not_exists(#drawn_{name})")
        if meter.is_money:
            update.needs(*as_read(name, shard))
            update.sets(f"#{name} = :{name}", {name: text_of(counter, name)})
        update.sets(f"#drawn_{name} = :drawn_{name}", {f"drawn_{name}": drawn})
        seen = number_of(counter, meter.counted)
        if meter.lasts:
            latest = part if fresh else shard
            seen = number_of(latest, f"seen_{name}")
            update.sets(f"#of_{name} = :of_{name}", {f"of_{name}": number_of(latest, f"of_{name}")})
        update.sets(f"#seen_{name} = :seen_{name}", {f"seen_{name}": seen})
    _count(update, taking, minute_begins=not is_of_minute)
    for bucket in [name for name in shard if bucket_windows(name, windows.calendar) and is_expired(name, windows.now)]:
        update.removes(f"#{bucket}")
    kept = KEPT_EVER if windows.total else _KEPT_LONG if any(meter.lasts for meter in meters) else _KEPT
    update.sets(f"#{EXPIRES_AT} = :{EXPIRES_AT}", {EXPIRES_AT: windows.now + kept})
    return answered(update)


def as_read(name: str, item: Item) -> tuple[str, dict[str, Any]]:
    """The condition that an attribute has not changed since it was read."""
    if name not in item:
        return f"attribute_not_exists(#{name})", {}
    return f"#{name} = :old_{name}", {
        f"old_{name}": number_of(item, name) if "N" in item[name] else text_of(item, name)
    }


def shard_headers(taking: Taking, shard: Item) -> dict[str, str]:
    """Headers with what is left, as far as a shard knows: of the counter at the last draw, and of its own draws."""
    known: dict[str, dict[str, Any]] = {}
    for meter in taking.meters:
        used = number_of(shard, f"seen_{meter.name}") - number_of(shard, f"left_{meter.name}")
        known[meter.counted] = to_attribute(max(_NOTHING, used))
    return headers(taking.limits, known, taking.windows, taking.share.cost)


def answered(update: Update) -> dict[str, Any]:
    """The update, which returns the item after it, or the present item if its condition failed."""
    return update.request() | {"ReturnValues": "ALL_NEW", "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
