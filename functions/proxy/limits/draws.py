"""How a shard draws from its key's counter what a request lacks, or finds that there is nothing left to draw.

Its one rule: first the counter notes what is drawn, then the shard is credited with it. If a sandbox dies in between,
the next one completes the draw.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from openai_proxy.dynamodb import Item, from_item, to_item
from openai_proxy.key_limits import Limits
from openai_proxy.limits import DIVIDED, PARTS, Windows, cost_in, shard_id, spent_in
from openai_proxy.shards.limits import LANES, PLACES, Whole, lane_id, place_end

from proxy.aws.client import NO_ANSWER, AwsError
from proxy.limits.counters import Calls, Counters
from proxy.limits.item import dividing, no_older_than, number_of, renewal
from proxy.limits.meters import Meter, Taking
from proxy.limits.reservation import Reservation
from proxy.limits.shard_item import crediting, drawing, room_in, shard_headers, shard_limits, to_draw
from proxy.limits.shard_returns import returning

_MOST_TRIES = 24
"""Each try fails only when another request has changed an item in between, in a way that matters."""
_MOST_GATHERED = 3
_MOST_READ = 100
"""DynamoDB's limit for one call."""


class Dry(NamedTuple):
    """A counter that has nothing left of `short`; and, if that was read, how much of the lasting limits each shard has
    left.
    """

    counter: Item
    windows: Windows
    short: Meter
    whole: Whole | None


def taking_of(taken: Reservation) -> Taking:
    """What a request takes from its shard."""
    assert taken.share
    return Taking(taken.limits, taken.windows, taken.share)


def done(taken: Reservation, shard: Item) -> Reservation:
    """The reservation after a take from a shard, whose item is now as given. The shard has less of a budget by what is
    reserved.
    """
    assert taken.share
    cost = taken.share.cost if taken.limits.has_budget else taken.cost
    return taken._replace(headers=shard_headers(taking_of(taken), shard), cost=cost)


def drawn(taken: Reservation, shard: Item, count: int, counters: Counters, calls: Calls) -> Reservation | Dry | None:
    """Draw what `shard`, one of `count`, lacks for a request, and then take the request's share from it.

    Returns None if the shard has changed since it was read. Raises AwsError, and the errors of reading a damaged item.
    """
    limits, number, whole = taken.limits, taken.shard, None
    in_shard, counter = shard_limits(limits, number), counters.item(limits, calls)
    for _ in range(_MOST_TRIES):
        taken = taken._replace(windows=no_older_than(taken.windows, counter))
        if stale := renewal(limits, counter, taken.windows):
            counters.update(limits, stale, calls)
            counter = counters.item(limits, calls)
            continue
        taking = taking_of(taken)
        if returned := returning(taking.meters, taken.windows, shard, number, counter):
            counters.update_once(in_shard, returned, calls)
            return None
        lacks = _lacks(taking, shard, number, counter)
        if whole is None and any(meter.lasts for meter in lacks):
            if DIVIDED not in counter:
                # otherwise others would take from the counter itself, and not see what shards have
                counters.update(limits, dividing(max(count, 2)), calls)
            counter, whole = _whole(limits, counter, count, counters, calls)
            continue
        found = _draw(taken, counter, lacks, whole, count)
        if isinstance(found, Dry):
            return found
        taken, request = found
        if request:
            applied, after = counters.update(limits, request, calls)
            counter, whole = counters.item(limits, calls) if after is None else after, None
            if not applied:
                continue
        applied, after = counters.update(in_shard, crediting(taking_of(taken), shard, number, counter), calls)
        return done(taken, after or {}) if applied else None
    raise AwsError("dynamodb:UpdateItem", NO_ANSWER, "others changed the counter each time")


def _lacks(taking: Taking, shard: Item, number: int, counter: Item) -> dict[Meter, Decimal]:
    """Which limits the shard has too little of, and how much is missing, counting what it has drawn but was not
    credited with yet.
    """
    windows, found = taking.windows, dict[Meter, Decimal]()
    for meter in taking.meters:
        fresh = meter.part(counter, number, windows) - meter.of_shard(shard, "drawn", windows)
        lack = meter.need - meter.of_shard(shard, "left", windows) - fresh
        if lack > 0:
            found[meter] = lack
    return found


def _draw(
    taken: Reservation, counter: Item, lacks: Mapping[Meter, Decimal], whole: Whole | None, count: int
) -> tuple[Reservation, dict[str, Any] | None] | Dry:
    """The request with what it can have, and the update of the counter that draws it; or the limit of which nothing is
    left.
    """
    windows, taking = taken.windows, taking_of(taken)
    back = {meter.name: whole.back(meter.name, windows) for meter in taking.meters if whole and meter.lasts}
    amounts = dict.fromkeys(taking.meters, Decimal(0))
    for meter, lack in lacks.items():
        amount = to_draw(meter, room_in(meter, counter, back.get(meter.name, Decimal(0))), lack, count)
        has = meter.need - lack + (amount or 0)
        if has <= 0 if meter.is_money else amount is None:
            return Dry(counter, windows, meter, whole)
        if meter.is_money and taken.share and has < taken.share.cost:
            taken = taken._replace(share=taken.share._replace(cost=has))
        amounts[meter] = amount or Decimal(0)
    if not any(amounts.values()):
        return taken, None
    return taken, drawing(windows, taken.shard, counter, amounts, back)


def _whole(limits: Limits, counter: Item, count: int, counters: Counters, calls: Calls) -> tuple[Item, Whole]:
    """The counter, and it with all its shards and lanes."""
    numbers = Whole.numbers(from_item({name: counter[name] for name in (PARTS,) if name in counter}), count)
    ids = [limits.id, *(shard_id(limits.id, each) for each in numbers)]
    ids += [lane_id(limits.id, lane) for lane in range(1, LANES + 1)] if limits.has_budget else []
    items: list[Item] = []
    for start in range(0, len(ids), _MOST_READ):
        items += counters.items([limits._replace(id=each) for each in ids[start : start + _MOST_READ]], calls)
    plain = [from_item(item) for item in items]
    shards = dict(zip(numbers, plain[1:], strict=False))
    return items[0], Whole(plain[0], shards, plain[1 + len(numbers) :])


def room_for(dry: Dry) -> list[int]:
    """The shards that still have enough of a limit of which the counter has nothing left, as they were read."""
    return [number for number, shard in _shards_of(dry).items() if dry.short.has_room(_left(dry, number, shard))]


def _left(dry: Dry, number: int, shard: Item) -> Decimal:
    """What a shard has left, including what it has drawn but was not credited with yet, and places whose leases have
    ended.
    """
    meter, windows = dry.short, dry.windows
    left = meter.of_shard(shard, "left", windows) + meter.part(dry.counter, number, windows)
    left -= meter.of_shard(shard, "drawn", windows)
    if meter.name == PLACES:
        ended = [name for name in shard if (end := place_end(name)) is not None and end < windows.now]
        left += sum((number_of(shard, name) for name in ended), Decimal(0))
    return left


def _shards_of(dry: Dry) -> dict[int, Item]:
    shards: Mapping[int, Mapping[str, Any]] = dry.whole.shards if dry.whole else {}
    return {number: to_item(shard) for number, shard in shards.items()}


def gather(dry: Dry, taking: Taking, counters: Counters, calls: Calls) -> bool:
    """Make shards return to their counter what they drew under a larger limit; otherwise what they have left of a limit
    of which the counter has nothing. Returns whether any shard has returned something.
    """
    limits, shards = taking.limits, _shards_of(dry)
    rooms = room_for(dry)[:_MOST_GATHERED]
    without_limit = [dry.short._replace(limit=-1)]
    larger = {
        number: returning(taking.meters, dry.windows, shard, number, dry.counter) for number, shard in shards.items()
    }
    asked = {number: request for number, request in larger.items() if request}
    asked = asked or {n: returning(without_limit, dry.windows, shards[n], n, dry.counter) for n in rooms}
    has_any = False
    for number, request in asked.items():
        if request:
            has_any |= counters.update_once(shard_limits(limits, number), request, calls)
    return has_any


def as_told(dry: Dry, limits: Limits) -> Item:
    """The counter of a request that is refused: with what is settled and reserved, and with how many run."""
    if dry.whole is None:
        return dry.counter
    told: dict[str, Any] = {PLACES: dry.whole.running(dry.windows.now)}
    for period in limits.budgets:
        gone = (dry.whole.gone(period, dry.windows) + dry.whole.unused(period)).normalize()
        told |= {cost_in(period): gone, spent_in(period): dry.whole.spent(period)}
    return {**dry.counter, **to_item(told)}
