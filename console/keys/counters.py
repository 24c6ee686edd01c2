"""Counters as commands read them: one that is in shards as a whole.

Its one rule: an item is as it was read. What shards and lanes say besides lies beside it, under `WHOLE`.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from openai_proxy.dynamodb import from_item
from openai_proxy.limits import DIVIDED, MINUTE, PARTS, REQUESTS, TOKENS, counter_key, limits_id_of, shard_id
from openai_proxy.shards.limits import LANES, Whole, lane_id

from console.stack import Table

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import BatchGetItemInputTypeDef

WHOLE = "#whole"
"""The key under which a counter in shards has its `Whole`, beside its attributes; no attribute has this name."""
_MOST_GETS = 100
"""DynamoDB's limit for one call."""


def read_counters(table: Table, limits_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Counters in plain values, by the ids under which keys are counted. An unused id has none.

    What shards have drawn of the minute, and not let through, is not counted.
    """
    found = _read(table, limits_ids)
    in_shards = {limits_id: Whole.numbers(counter, 0) for limits_id, counter in found.items() if PARTS in counter}
    wanted = [shard_id(limits_id, number) for limits_id, numbers in in_shards.items() for number in numbers]
    wanted += [lane_id(each, lane) for each in in_shards if DIVIDED in found[each] for lane in range(1, LANES + 1)]
    others = _read(table, wanted)
    for limits_id, numbers in in_shards.items():
        counter = found[limits_id]
        shards = {number: others.get(shard_id(limits_id, number), {}) for number in numbers}
        lanes = [others.get(lane_id(limits_id, lane), {}) for lane in range(1, LANES + 1)]
        counter[WHOLE] = Whole(dict(counter), shards, lanes)
        for number, shard in shards.items():
            part = counter[PARTS][str(number)]
            for amount in (REQUESTS, TOKENS) if part.get(MINUTE) == counter[MINUTE] else ():
                used = shard.get(amount, 0) if shard.get(MINUTE) == counter[MINUTE] else 0
                counter[amount] += used - part[amount]
    return found


def _read(table: Table, limits_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    wanted = list(dict.fromkeys(limits_ids))
    found: dict[str, dict[str, Any]] = {}
    for start in range(0, len(wanted), _MOST_GETS):
        part = wanted[start : start + _MOST_GETS]
        keys = [counter_key(limits_id) for limits_id in part]
        request: BatchGetItemInputTypeDef = {"RequestItems": {table.name: {"Keys": keys, "ConsistentRead": True}}}
        while request["RequestItems"]:
            response = table.client.batch_get_item(**request)
            for item in response["Responses"].get(table.name, []):
                values = from_item(item)
                found[limits_id_of(values["pk"])] = values
            request = {"RequestItems": response["UnprocessedKeys"]}
    return found
