"""`keys release`: gives back at once what the requests of a key hold of its limits: places, and reserved money.

The counter is changed only if it is still as it was read, and what was spent stays spent. A request that runs goes on;
it only holds nothing any more.
"""

import argparse
import time
from collections.abc import Mapping
from typing import Any

from openai_proxy.dynamodb import to_item
from openai_proxy.limits import LIVE, PERIODS, TOOK, bucket_day, cost_in, counter_key, spent_in

from console.arguments import add_yes, confirm
from console.errors import ConsoleError
from console.keys.store import KeyStore
from console.keys.text import whose
from console.keys.usage import Used, read_counters
from console.stack import Table, add_place_option, chosen_table
from console.text import count, to_json, usd

_ATTEMPTS = 20
_HOLDING = (LIVE, TOOK, *map(cost_in, PERIODS))
"""What says how much is held, beside the buckets."""


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
    """Take all that is held out of a counter, and return what that was. Raises ConsoleError and botocore's errors."""
    for _ in range(_ATTEMPTS):
        counter = read_counters(table, [limits_id]).get(limits_id, {})
        used = Used.of(counter, now)
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


def _emptying(limits_id: str, counter: Mapping[str, Any]) -> dict[str, Any]:
    """The update of a counter, in plain values, unless it has changed since it was read."""
    before = {name: value for name, value in counter.items() if name in _HOLDING or bucket_day(name)}
    after = {cost_in(period): counter.get(spent_in(period), 0) for period in PERIODS if cost_in(period) in before}
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
