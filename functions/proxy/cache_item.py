"""An item of the response cache as an answer, or the reason why it is none. Pure.

Its one rule: an item is not believed. It answers only the request whose digest it has, and only with the very bytes
that were kept: what is damaged, misplaced or cut short is a miss.
"""

import base64
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openai_proxy.usage import Usage

from proxy.json_shapes import array_of, object_of

LARGEST = 32 * 1024 * 1024
"""Bytes. No body is unpacked beyond that, whatever its item says."""

_OBJECT = re.compile(r"captured/[A-Za-z0-9_.-]{1,64}/[0-7][0-9A-HJKMNP-TV-Z]{25}")
_SAVED = re.compile(r"\d{1,12}(\.\d{1,24})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_CONTENT_TYPES = {True: "text/event-stream", False: "application/json"}


class Unusable(Exception):  # noqa: N818 - no error: a miss
    """An item does not answer the request. `reason` is one word; `is_damaged` when nobody could use it."""

    def __init__(self, reason: str, *, is_damaged: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_damaged = is_damaged


@dataclass(frozen=True, slots=True)
class Label:
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


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer to give. `timing` is as `capture` notes it; empty where the body was converted."""

    is_stream: bool
    content_type: str
    body: bytes
    usage: Usage
    age: int
    saved: str | None
    timing: tuple[tuple[int, int], ...] = ()


def label_of(item: Mapping[str, Any], digest: str, now: float, ttl: int, max_age: float) -> Label:
    """Read an item in DynamoDB's JSON. Raises Unusable."""
    try:
        if item["digest"]["S"] != digest:
            raise Unusable("digest", is_damaged=True)
        age = max(0, int(now) - int(item["created_at"]["N"]))
        if int(item["expires_at"]["N"]) <= now or age > ttl:
            raise Unusable("expired")
        if age > max_age:
            raise Unusable("too_old")
        return _label(item, age)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise Unusable("unreadable", is_damaged=True) from error


def _label(item: Mapping[str, Any], age: int) -> Label:
    is_stream, content_type, encoding = item["stream"]["BOOL"], item["content_type"]["S"], item["encoding"]["S"]
    size, object_key = int(item["body_size"]["N"]), item["object"]["S"] if "object" in item else ""
    if item["status_code"]["N"] != "200" or not content_type.startswith(_CONTENT_TYPES[is_stream]):
        raise ValueError("not an answer that is kept")
    if not content_type.isprintable() or encoding not in ("identity", "zlib") or not 0 < size <= LARGEST:
        raise ValueError("not a body that is kept")
    if ("body" in item) == bool(object_key) or (object_key and not _OBJECT.fullmatch(object_key)):
        raise ValueError("either body or object")
    return Label(
        is_stream=is_stream,
        content_type=content_type,
        is_compressed=encoding == "zlib",
        packed=base64.b64decode(item["body"]["B"], validate=True) if "body" in item else None,
        object=object_key,
        size=size,
        sha256=item["body_sha256"]["S"],
        usage=Usage.from_event(object_of(_plain(item["usage"]))),
        age=age,
        saved=_saved(item),
        timing=_timing(item["timing"], size) if "timing" in item else (),
    )


def stored_of(label: Label, packed: bytes) -> Stored:
    """The answer whose body is in `packed`. Raises Unusable unless it is the very one that was kept."""
    body = _unpacked(packed, label.size) if label.is_compressed else packed
    if len(body) != label.size:
        raise Unusable("size", is_damaged=True)
    if hashlib.sha256(body).hexdigest() != label.sha256:
        raise Unusable("sha256", is_damaged=True)
    return Stored(label.is_stream, label.content_type, body, label.usage, label.age, label.saved, label.timing)


def _unpacked(packed: bytes, size: int) -> bytes:
    """`packed` without its compression: one byte too many at most."""
    try:
        return zlib.decompressobj().decompress(packed, size + 1)
    except zlib.error as error:
        raise Unusable("unreadable", is_damaged=True) from error


def _saved(item: Mapping[str, Any]) -> str | None:
    if "cost" not in item or "currency" not in item:
        return None
    cost, currency = item["cost"]["S"], item["currency"]["S"]
    return f"{cost} {currency}" if _SAVED.fullmatch(cost) and _CURRENCY.fullmatch(currency) else None


def _timing(attribute: Any, size: int) -> tuple[tuple[int, int], ...]:
    marks = tuple((int(begin), int(passed)) for begin, passed in array_of(json.loads(attribute["S"])))
    if list(marks) != sorted(marks) or any(not 0 <= begin < size or passed < 0 for begin, passed in marks):
        raise ValueError("marks out of order")
    return marks


def _plain(attribute: Any) -> Any:
    """A value of DynamoDB's JSON as a plain one."""
    [(kind, value)] = object_of(attribute).items()
    if kind == "M":
        return {name: _plain(each) for name, each in object_of(value).items()}
    if kind == "N":
        return int(value) if value.isdecimal() else float(value)
    return None if kind == "NULL" else value
