"""Reads an item of the response cache as an answer, or says why it cannot be used. Pure.

Its one rule: an item is not trusted. It answers only the request whose digest it has, and only with the very bytes that
were kept; an item that is damaged, misplaced or cut short is a miss. Every attribute is read by a reader that knows its
one type and its bounds, so whatever is in an `ItemHeader` can be served without another check.
"""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from openai_proxy.cache.answers import CLOCKS_APART, LARGEST_BODY, MEDIA_TYPES, MOST_MARKS
from openai_proxy.cache.keys import is_object_key
from openai_proxy.dynamodb import from_attribute
from openai_proxy.events.ulid import ulid_time
from openai_proxy.usage import Usage

if TYPE_CHECKING:
    from openai_proxy.cache.types import CachedAttributes

LONGEST_PACE = 900_000
"""Milliseconds: as long as Lambda lets a function run. No stream took longer."""

_COST = re.compile(r"[0-9]{1,15}(\.[0-9]{1,48})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_WHOLE = re.compile(r"[0-9]{1,15}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CONTENT_TYPE = re.compile(r"(text/event-stream|application/json)[ \t]*(;[\t\x20-\x7e]{0,200})?", re.IGNORECASE)
_DAMAGES = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What reading an item of any shape may come to."""


class Unusable(Exception):  # noqa: N818 - no error: a miss
    """An item does not answer the request. `reason` is one word; `is_damaged`: it could answer no request at all.

    `may_be_renewed`: the item has expired for everybody, so the first who asks fetches a new one for all.
    """

    def __init__(self, reason: str, *, is_damaged: bool = False, may_be_renewed: bool = False) -> None:
        self.reason = reason
        self.is_damaged = is_damaged
        self.may_be_renewed = may_be_renewed


class ItemHeader(NamedTuple):
    """All of an item but its body. `age` is in seconds; `packed` is None where `object` names what holds it on S3."""

    is_stream: bool
    content_type: str
    is_compressed: bool
    packed: bytes | None
    object: str
    size: int
    sha256: str
    usage: Usage
    age: int
    saved: str | None
    timing: tuple[tuple[int, int], ...]


class CachedAnswer(NamedTuple):
    """An answer to serve. `timing` is as `capture` notes it; empty where the body was converted."""

    is_stream: bool
    content_type: str
    body: bytes
    usage: Usage
    age: int
    saved: str | None
    timing: tuple[tuple[int, int], ...] = ()


def header_of(item: Mapping[str, Any], digest: str, now: float, ttl: int, max_age: float) -> ItemHeader:
    """Read an item in DynamoDB's JSON. Raises Unusable.

    Unusable says `expired` when the item's own time is over, or when it is older than `ttl` seconds, the policy of the
    caller's key. It says `too_old` when the item is older than `max_age`, which the request asks for.
    """
    attributes = cast("CachedAttributes", item)
    try:
        if _text(attributes["digest"]) != digest:
            raise Unusable("digest", is_damaged=True)
        if _whole(attributes["expires_at"]) <= now:
            raise Unusable("expired", may_be_renewed=True)
        header = _header(attributes, now)
    except _DAMAGES as error:
        raise Unusable("unreadable", is_damaged=True) from error
    if header.age > ttl:
        raise Unusable("expired")
    if header.age > max_age:
        raise Unusable("too_old")
    return header


def _header(item: "CachedAttributes", now: float) -> ItemHeader:
    is_stream, content_type = _flag(item["stream"]), _fit(_CONTENT_TYPE, item["content_type"])
    size, encoding, created_at = _whole(item["body_size"]), _text(item["encoding"]), _whole(item["created_at"])
    if _whole(item["status_code"]) != 200 or content_type.partition(";")[0].strip().lower() != MEDIA_TYPES[is_stream]:
        raise ValueError("not an answer that is kept")
    if encoding not in ("identity", "zlib") or not 0 < size <= LARGEST_BODY:
        raise ValueError("not a body that is kept")
    made_at = ulid_time(_text(item["event_id"])).timestamp()
    if max(created_at, made_at) > now + CLOCKS_APART:
        raise ValueError("from the future")
    if ("body" in item) == ("object" in item):
        raise ValueError("either body or object")
    return ItemHeader(
        is_stream=is_stream,
        content_type=content_type,
        is_compressed=encoding == "zlib",
        packed=base64.b64decode(_only("B", item["body"]), validate=True) if "body" in item else None,
        object=_object(item["object"]) if "object" in item else "",
        size=size,
        sha256=_fit(_SHA256, item["body_sha256"]),
        usage=Usage.from_event(from_attribute(item["usage"], _number)),
        age=max(0, int(now) - created_at),
        saved=_saved(item),
        timing=_timing(item["timing"], size) if "timing" in item else (),
    )


def answer_of(header: ItemHeader, packed: bytes) -> CachedAnswer:
    """The answer whose body is in `packed`. Raises Unusable unless it is the very one that was kept."""
    body = _unpacked(packed, header.size) if header.is_compressed else packed
    if len(body) != header.size:
        raise Unusable("size", is_damaged=True)
    if hashlib.sha256(body).hexdigest() != header.sha256:
        raise Unusable("sha256", is_damaged=True)
    return CachedAnswer(
        header.is_stream, header.content_type, body, header.usage, header.age, header.saved, header.timing
    )


def _unpacked(packed: bytes, size: int) -> bytes:
    """`packed` without its compression. At most one byte more than is allowed is unpacked."""
    unpacking = zlib.decompressobj()
    try:
        body = unpacking.decompress(packed, size + 1)
    except zlib.error as error:
        raise Unusable("unreadable", is_damaged=True) from error
    if not unpacking.eof or unpacking.unused_data:
        raise Unusable("size", is_damaged=True)
    return body


def _object(attribute: Any) -> str:
    if not is_object_key(key := _text(attribute)):
        raise ValueError("not the key of an object")
    return key


def _saved(item: "CachedAttributes") -> str | None:
    if "cost" not in item and "currency" not in item:
        return None
    return f"{_fit(_COST, item['cost'])} {_fit(_CURRENCY, item['currency'])}"


def _timing(attribute: Any, size: int) -> tuple[tuple[int, int], ...]:
    """When each piece of the body came. The pieces have to begin with the first byte and go forward, within the body
    and within the longest run of a function.
    """
    read = json.loads(_text(attribute))
    if not isinstance(read, list) or not 0 < len(marks := cast("list[Any]", read)) <= MOST_MARKS:
        raise ValueError("no marks, or too many")
    begins = [_exactly_int(begin) for begin, _ in marks]
    passed = [_exactly_int(each) for _, each in marks]
    if (begins[0], passed[0]) != (0, 0) or begins != sorted(begins) or passed != sorted(passed):
        raise ValueError("marks out of order")
    if begins[-1] >= size or passed[-1] > LONGEST_PACE:
        raise ValueError("marks out of bounds")
    return tuple(zip(begins, passed, strict=True))


def _exactly_int(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("no whole number")
    return value


def _only(kind: str, attribute: Any) -> Any:
    """The value of an attribute that has exactly this type."""
    [(found, value)] = attribute.items()
    if found != kind:
        raise TypeError(f"no attribute of type {kind}")
    return value


def _text(attribute: Any) -> str:
    value = _only("S", attribute)
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _flag(attribute: Any) -> bool:
    value = _only("BOOL", attribute)
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return value


def _whole(attribute: Any) -> int:
    """A whole number of up to 15 digits, which is not negative."""
    value = _only("N", attribute)
    if not _WHOLE.fullmatch(value):
        raise ValueError("no whole number")
    return int(value)


def _fit(form: re.Pattern[str], attribute: Any) -> str:
    value = _text(attribute)
    if not form.fullmatch(value):
        raise ValueError("not in its form")
    return value


def _number(digits: str) -> float:
    """One of the numbers in `usage`, where counts are whole numbers."""
    return int(digits) if _WHOLE.fullmatch(digits) else float(digits)
