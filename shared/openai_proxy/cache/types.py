"""An answer in the cache table, as types. Only type checkers load this module, under `TYPE_CHECKING`.

A contract test holds the names of `Attribute` and of `CachedItem` together.
"""

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

from openai_proxy.events.types import Encoding
from openai_proxy.events.usage_types import UsageData

Attribute = Literal[
    "cache_key",
    "digest",
    "event_id",
    "client_id",
    "scope",
    "namespace",
    "server",
    "path",
    "model",
    "stream",
    "status_code",
    "content_type",
    "encoding",
    "body",
    "stored_size",
    "object",
    "body_size",
    "body_sha256",
    "timing",
    "usage",
    "cost",
    "currency",
    "created_at",
    "expires_at",
]


class CachedItem(TypedDict):
    """The plain values of an item. Sizes are in bytes, moments in Unix seconds, `cost` is a decimal number.

    `body` is in its `encoding`, and `stored_size` is its size in that; `timing` is JSON.
    """

    cache_key: str
    digest: str
    event_id: str
    client_id: str
    scope: str
    namespace: NotRequired[str]
    server: str
    path: str
    model: NotRequired[str]
    stream: bool
    status_code: int
    content_type: str
    encoding: Encoding
    body: NotRequired[bytes]
    stored_size: NotRequired[int]
    object: NotRequired[str]
    body_size: int
    body_sha256: str
    timing: NotRequired[str]
    usage: UsageData
    cost: NotRequired[str]
    currency: NotRequired[str]
    created_at: int
    expires_at: int


CachedAttributes = Mapping[Attribute, Any]
"""An item in DynamoDB's JSON."""
