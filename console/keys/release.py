"""`keys release`: gives back at once what the requests of a key hold of its limits: places, and reserved money.

The counter is changed only if it is still as it was read, and what was spent stays spent. A request that runs goes on;
it only holds nothing any more.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from openai_proxy.dynamodb import to_item
from openai_proxy.limits import (
    DIVIDED,
    LIVE,
    PARTS,
    PERIODS,
    TOOK,
    Period,
    bucket_day,
    cost_in,
    counter_key,
    shard_id,
    spent_in,
)
from openai_proxy.shards.limits import PLACES, Whole, place_end

from console.arguments import add_yes, confirm
from console.errors import ConsoleError
from console.keys.counters import WHOLE, read_counters
from console.keys.store import KeyStore
from console.keys.text import whose
from console.keys.usage import Used
from console.stack import Table, add_place_option, chosen_table
from console.text import count, to_json, usd

_ATTEMPTS = 20
_HOLDING = (LIVE, TOOK, *map(cost_in, PERIODS))
"""The attributes that say how much is held, beside the buckets."""


def add_release_options(command: argparse.ArgumentParser) -> None:
    """The options of `keys release`, but for those of the key table."""
    command.add_argument("key_id", metavar="KEY_ID", help="as `keys list` shows it")
    add_place_option(command, "LimitsTable")
    add_yes(command)


def release(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run `keys release`."""
    key = KeyStore(chosen_table("KeysTable", options, environ)).find(options.key_id)
    confirm(f"This gives back what the requests of {whose(key)} hold, while they run.", options)
    used = give_back(chosen_table("LimitsTable", options, environ), key.limits_id, time.time())
    reserved = max(used.reserved.values())
    if options.json:
        given = {"places": used.running, "reserved": f"{reserved:f}"}
        print(to_json({"key_id": key.key_id, "limits_id": key.limits_id, **given}))
    else:
        print(f"{whose(key)}: {count(used.running)} places and {usd(reserved)} USD are given back.")
    return 0


def give_back(table: Table, limits_id: str, now: float) -> Used:
    """Take all that is held out of a counter, and return what that was. Raises ConsoleError and botocore's errors.

    What is reserved in shards is not: it comes back when it is settled, or half an hour later.
    """
    for _ in range(_ATTEMPTS):
        counter = read_counters(table, [limits_id]).get(limits_id, {})
        whole: Whole | None = counter.pop(WHOLE, None)
        used = Used.of(counter, now)
        if whole and (places := _free_places(table, limits_id, whole)):
            used = replace(used, running=used.running + places)
        if not any(name in counter for name in _HOLDING):
            return used
        try:
            table.client.update_item(TableName=table.name, **_emptying(limits_id, counter))
        except table.client.exceptions.ConditionalCheckFailedException:
            continue
        return used
    raise ConsoleError(
        "Nothing was done: requests change the counter all the time. Remedy: disable the key, or run it again."
    )


def _free_places(table: Table, limits_id: str, whole: Whole) -> int:
    """Free the places of all shards, and return how many they were."""
    freed = 0
    for number, shard in whole.shards.items():
        taken = {name: count for name, count in shard.items() if place_end(name) is not None}
        if not taken:
            continue
        count = sum(taken.values())
        values = {f":{name}": value for name, value in taken.items()} | {":free": count}
        names = {f"#{name}": name for name in (*taken, f"left_{PLACES}")}
        try:
            table.client.update_item(
                TableName=table.name,
                Key=counter_key(shard_id(limits_id, number)),
                UpdateExpression=f"REMOVE {', '.join(f'#{name}' for name in taken)} ADD #left_{PLACES} :free",
                ConditionExpression=" AND ".join(f"#{name} = :{name}" for name in taken),
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=to_item(values),
            )
        except table.client.exceptions.ConditionalCheckFailedException:
            continue  # its requests come and go: they hold nothing for longer than their lease
        freed += int(count)
    return freed


def _emptying(limits_id: str, counter: Mapping[str, Any]) -> dict[str, Any]:
    """The update of a counter, in plain values, unless it has changed since it was read."""
    before = {name: value for name, value in counter.items() if name in _HOLDING or bucket_day(name)}
    after = {cost_in(period): _kept(counter, period) for period in PERIODS if cost_in(period) in before}
    after |= {name: dict[str, Any]() for name in (LIVE, TOOK) if name in before}
    gone = [f"#{name}" for name in before if name not in after]
    setting = f"SET {', '.join(f'#{name} = :new_{name}' for name in after)}" if after else ""
    values = {f":{name}": value for name, value in before.items()}
    values |= {f":new_{name}": value for name, value in after.items()}
    return {
        "Key": counter_key(limits_id),
        "UpdateExpression": setting + (f" REMOVE {', '.join(gone)}" if gone else ""),
        "ConditionExpression": " AND ".join(f"#{name} = :{name}" for name in before),
        "ExpressionAttributeNames": {f"#{name}": name for name in before},
        "ExpressionAttributeValues": to_item(values),
    }


def _kept(counter: Mapping[str, Any], period: Period) -> Any:
    """What a counter still counts of a period: what was spent, and what its shards have drawn."""
    spent = counter.get(spent_in(period), 0)
    if DIVIDED not in counter:
        return spent
    parts = (part for part in counter.get(PARTS, {}).values() if part.get(period) == counter.get(period))
    return sum((part.get(cost_in(period), 0) for part in parts), spent)
