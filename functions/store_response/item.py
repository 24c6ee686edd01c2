"""A cached answer as an item of the cache table, in DynamoDB's JSON. Pure.

One rule: what the proxy needs to answer with is in the item alone, but for a body that is too large for one.
"""

import json
from collections.abc import Mapping
from typing import Any

from store_response.cached_response import CURRENCY, CachedResponse

LARGEST_ITEM = 400 * 1024
"""DynamoDB's limit, names of attributes included."""

_NUMBER_SIZE = 21
_CONTAINER_OVERHEAD = 3


def item_of(response: CachedResponse) -> dict[str, Any]:
    """The item. The proxy reads it back; `openai-proxy cache` finds it by `client_id` and `created_at`."""
    item: dict[str, Any] = {
        "cache_key": {"S": response.cache_key},
        "digest": {"S": response.digest},
        "event_id": {"S": response.event_id},
        "client_id": {"S": response.client_id},
        "scope": {"S": response.scope},
        "server": {"S": response.server},
        "path": {"S": response.path},
        "stream": {"BOOL": response.stream},
        "status_code": {"N": str(response.status_code)},
        "content_type": {"S": response.content_type},
        "encoding": {"S": response.encoding},
        "body_size": {"N": str(response.body_size)},
        "body_sha256": {"S": response.body_sha256},
        "usage": _attribute(response.usage.to_event()),
        "created_at": {"N": str(response.created_at)},
        "expires_at": {"N": str(response.expires_at)},
    }
    if response.body is not None:
        item |= {"body": {"B": response.body}, "stored_size": {"N": str(len(response.body))}}
    if response.object is not None:
        item["object"] = {"S": response.object}
    if response.namespace:
        item["namespace"] = {"S": response.namespace}
    if response.model:
        item["model"] = {"S": response.model}
    if response.timing:
        item["timing"] = {"S": json.dumps(response.timing, separators=(",", ":"))}  # a list would take three times that
    if response.cost is not None:
        item |= {"cost": {"S": f"{response.cost.normalize():f}"}, "currency": {"S": CURRENCY}}
    return item


def item_size(item: Mapping[str, Any]) -> int:
    """The size of an item as DynamoDB counts it, rounded up: names and values in bytes, 21 for any number."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Mapping[str, Any]) -> int:
    [(kind, content)] = value.items()
    match kind:
        case "M":
            return _CONTAINER_OVERHEAD + len(content) + item_size(content)
        case "N":
            return _NUMBER_SIZE
        case "NULL" | "BOOL":
            return 1
        case _:
            return len(content.encode() if isinstance(content, str) else content)


def _attribute(value: Any) -> dict[str, Any]:
    match value:
        case None:
            return {"NULL": True}
        case int() | float():
            return {"N": str(value)}
        case str():
            return {"S": value}
        case _:
            return {"M": {name: _attribute(each) for name, each in value.items()}}
