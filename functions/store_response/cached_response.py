"""From a ResponseCaptured event to an item of the response cache. Pure."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openai_proxy.events import Event, MalformedEventError
from openai_proxy.ulid import ulid_time
from openai_proxy.usage import Usage

LARGEST_ITEM = 400 * 1024
"""DynamoDB's limit, names of attributes included."""

_CACHE_KEY = re.compile(r"[0-9a-f]{64}")
_NUMBER_SIZE = 21
_MAP_OVERHEAD = 3


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """One answer. `event_id` is a ULID: of two answers for one key the one with the greater id is newer."""

    cache_key: str
    event_id: str
    server: str
    path: str
    model: str | None
    status_code: int
    content_type: str
    body: bytes
    usage: Usage
    expires_at: int

    def to_item(self) -> dict[str, Any]:
        """The item in DynamoDB's JSON. The cache reads `body`, `content_type`, `status_code` and `usage` back."""
        item = {
            "cache_key": {"S": self.cache_key},
            "event_id": {"S": self.event_id},
            "server": {"S": self.server},
            "path": {"S": self.path},
            "status_code": {"N": str(self.status_code)},
            "content_type": {"S": self.content_type},
            "body": {"B": self.body},
            "usage": {"M": _attributes(self.usage.to_event())},
            "expires_at": {"N": str(self.expires_at)},
        }
        return item | {"model": {"S": self.model}} if self.model else item


def cached_response_of(event: Event) -> CachedResponse:
    """Read a ResponseCaptured event. Raises MalformedEventError."""
    try:
        data, response = event.data, event.data["response"]
        body = base64.b64decode(response["body"], validate=True)
        if not _CACHE_KEY.fullmatch(data["cache_key"]) or len(body) != response["body_size"]:
            raise ValueError("cache_key or body_size")
        ulid_time(event.id)  # raises ValueError: nothing else tells the newer of two answers
        return CachedResponse(
            cache_key=data["cache_key"],
            event_id=_text(event.id),
            server=_text(data["server"]["name"]),
            path=_text(data["request"]["path"]),
            model=data["request"]["model"] and _text(data["request"]["model"]),
            status_code=_whole(response["status_code"]),
            content_type=_text(response["content_type"]),
            body=body,
            usage=Usage.from_event(data["usage"]),
            expires_at=_whole(data["expires_at"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MalformedEventError(f"not a {event.detail_type} event: {error!r}") from error


def item_size(item: Mapping[str, Any]) -> int:
    """The size of an item as DynamoDB counts it, rounded up: names and values in bytes, 21 for any number."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Mapping[str, Any]) -> int:
    [(kind, content)] = value.items()
    if kind == "M":
        return _MAP_OVERHEAD + len(content) + item_size(content)
    if kind == "N":
        return _NUMBER_SIZE
    if kind == "NULL":
        return 1
    return len(content.encode() if isinstance(content, str) else content)


def _attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _attribute(value) for name, value in values.items()}


def _attribute(value: Any) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {"M": _attributes(value)}  # pyright: ignore[reportUnknownArgumentType]
    if value is None:
        return {"NULL": True}
    return {"N": str(value)} if isinstance(value, int | float) else {"S": value}


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r} is not a text")
    value.encode()  # raises ValueError: half a character that JSON lets through and a table does not
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is not a whole number")
    return value
