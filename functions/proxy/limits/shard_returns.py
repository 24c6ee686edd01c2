"""The requests to DynamoDB about what comes back to a shard, or goes back from it. Pure.

Its one rule: unlike a lease, nothing here has a name of its own, so no call here is repeated. If a call may have been
carried out, that is left as it is: the shard may then count too little as left, but never too much.
"""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from openai_proxy.dynamodb import Item
from openai_proxy.limits import MINUTE, REQUESTS, TOKENS, Windows
from openai_proxy.shards.limits import PLACES, back_in, place_end, place_in

from proxy.aws.dynamodb_update import Update
from proxy.limits.item import number_of
from proxy.limits.meters import Meter, Taking, part_of
from proxy.limits.shard_item import answered, as_read

_MOST_SWEPT = 40
"""Attributes in one update: an expression has room for 4 KB."""


def returning(
    meters: Sequence[Meter], windows: Windows, shard: Item, number: int, counter: Item
) -> dict[str, Any] | None:
    """The update by which a shard returns what it drew under larger limits than these; None if there is nothing to
    return.

    So a limit that was made smaller holds from the next request on, also for what was drawn before.
    """
    update, part = Update(), part_of(counter, number)
    for meter in meters:
        name, was = meter.name, number_of(shard, f"drawn_{meter.name}")
        if not meter.lasts or not meter.is_in(shard, windows):
            continue
        drawn, left = meter.part(counter, number, windows), max(Decimal(0), number_of(shard, f"left_{name}"))
        fresh = drawn - was
        if number_of(part if fresh else shard, f"of_{name}") <= meter.limit or not left + fresh:
            continue
        if meter.is_money:
            update.needs(*as_read(name, shard))
        update.needs(f"#drawn_{name} = :was_{name}", {f"was_{name}": was})
        update.needs(f"#left_{name} >= :left_{name}", {f"left_{name}": left})
        update.adds({f"left_{name}": -left, back_in(name): left + fresh})
        update.sets(f"#drawn_{name} = :drawn_{name}", {f"drawn_{name}": drawn})
    return answered(update) if update.does_something else None


def sweeping(shard: Item, now: int) -> dict[str, Any] | None:
    """The update of a shard that frees the places whose leases have ended; None if there are none."""
    update, freed = Update(), Decimal(0)
    ended = [name for name in shard if (end := place_end(name)) is not None and end < now]
    for name in ended[:_MOST_SWEPT]:
        update.needs(f"#{name} = :{name}", {name: number_of(shard, name)})
        update.removes(f"#{name}")
        freed += number_of(shard, name)
    if not ended:
        return None
    update.adds({f"left_{PLACES}": freed})
    return answered(update)


def giving_back(windows: Windows, tokens: int, place: str) -> dict[str, Any]:
    """The update of a shard that corrects the tokens of a request by so many, up or down, while its minute lasts.

    `place` is the attribute that counts the request, "" where none does.
    """
    update = Update()
    if tokens:
        update.needs(f"#{MINUTE} = :{MINUTE}", {MINUTE: windows.minute})
        update.adds({f"left_{TOKENS}": tokens, TOKENS: -tokens})
    if place:
        update.needs(f"#{place} >= :one", {"one": 1})
        update.adds({place: -1, f"left_{PLACES}": 1})
    return update.request()


def moving(old: str, new: str) -> dict[str, Any]:
    """The update of a shard that moves a running request from the place `old` to `new`; it adds the request if `old` is
    "".
    """
    update = Update()
    if old:
        update.needs(f"#{old} >= :one", {"one": 1})
        update.adds({old: -1, new: 1})
    else:
        update.needs(f"attribute_exists(#left_{PLACES})")
        update.adds({new: 1, f"left_{PLACES}": -1})
    return update.request()


def taking_back(taking: Taking) -> dict[str, Any]:
    """The update of a shard that reverses a take, while its windows last."""
    (limits, windows, share), update = taking, Update()
    if taking.counts_minutes:
        update.needs(f"#{MINUTE} = :{MINUTE}", {MINUTE: windows.minute})
        update.adds({REQUESTS: -1, TOKENS: -share.tokens})
    for meter in taking.meters:
        if meter.is_money:
            update.needs(*windows.within(meter.period))
        update.adds({f"left_{meter.name}": meter.need})
    if limits.parallel is not None:
        place = place_in(share.lease_end)
        update.needs(f"#{place} >= :one", {"one": 1})
        update.adds({place: -1})
    if limits.has_budget:
        update.adds({windows.bucket: -share.cost})
    return update.request()
