"""A cached answer as an item of the cache table, in DynamoDB's JSON. Pure.

One rule: the item alone holds all that the proxy needs to answer, except a body that is too large for an item.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from openai_proxy.dynamodb import to_item

from store_response.cached_response import CURRENCY, CachedResponse

if TYPE_CHECKING:
    from openai_proxy.cache.types import CachedItem

LARGEST_ITEM = 400 * 1024
"""DynamoDB's limit, names of attributes included."""

_NUMBER_SIZE = 21
_CONTAINER_OVERHEAD = 3


def item_of(response: CachedResponse) -> dict[str, Any]:
    """The item. The proxy reads it back; `openai-proxy cache` finds it by `client_id` and `created_at`."""
    values: CachedItem = {
        "cache_key": response.cache_key,
        "digest": response.digest,
        "event_id": response.event_id,
        "client_id": response.client_id,
        "scope": response.scope,
        "server": response.server,
        "path": response.path,
        "stream": response.stream,
        "status_code": response.status_code,
        "content_type": response.content_type,
        "encoding": response.encoding,
        "body_size": response.body_size,
        "body_sha256": response.body_sha256,
        "usage": response.usage.to_event(),
        "created_at": response.created_at,
        "expires_at": response.expires_at,
    }
    if response.body is not None:
        values["body"], values["stored_size"] = response.body, len(response.body)
    if response.object is not None:
        values["object"] = response.object
    if response.namespace:
        values["namespace"] = response.namespace
    if response.model:
        values["model"] = response.model
    if response.timing:
        # as a list of DynamoDB it would take three times the room
        values["timing"] = json.dumps(response.timing, separators=(",", ":"))
    if response.cost is not None:
        values["cost"], values["currency"] = f"{response.cost.normalize():f}", CURRENCY
    return to_item(values)


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
