"""From a ResponseCaptured event to an answer that the response cache may give. Pure.

One rule: nothing in an event is believed. If its parts do not fit together, it is no answer: a body with another digest
than stated, a scope of another client, or a content type that could break a header.
"""

import base64
import binascii
import hashlib
import re
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from openai_proxy.cache.answers import (
    LARGEST_BODY,
    MOST_MARKS,
    is_client_id,
    is_content_type,
    is_namespace,
    is_scope_of,
    is_text,
)
from openai_proxy.cache.keys import is_object_key
from openai_proxy.events.incoming import MalformedEventError
from openai_proxy.events.ulid import ulid_time
from openai_proxy.pricing.price_book import Cost, PriceBook, Unpriced
from openai_proxy.usage import Usage

if TYPE_CHECKING:
    from openai_proxy.events.types import CapturedEvent, CapturedResponseData, Encoding

CURRENCY = "USD"

_DIGEST = re.compile(r"[0-9a-f]{64}")


class AnswerTooLargeError(Exception):
    """The answer is too large to be stored, ever. `size` is in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(f"{size} bytes")
        self.size = size


@dataclass(frozen=True, slots=True)
class CachedResponse:
    """One answer. `event_id` is a ULID: of two answers for one key, the one with the greater id is newer.

    `body` is in its `encoding`; it is None where `object` names what holds it on S3. `body_size` and `body_sha256` are
    those of the body that the client had. `cost` is what the answer cost in USD; None when that is not known.
    """

    cache_key: str
    digest: str
    event_id: str
    client_id: str
    scope: str
    namespace: str | None
    server: str
    path: str
    model: str | None
    stream: bool
    status_code: int
    content_type: str
    encoding: "Encoding"
    body: bytes | None
    object: str | None
    body_size: int
    body_sha256: str
    timing: tuple[tuple[int, int], ...]
    usage: Usage
    cost: Decimal | None
    created_at: int
    expires_at: int


def cached_response_of(event: "CapturedEvent", prices: PriceBook) -> CachedResponse:
    """Read a ResponseCaptured event. Raises MalformedEventError and AnswerTooLargeError."""
    try:
        return _read(event, prices)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        # Only the error's kind and place are told: a message of json, zlib or base64 may quote what it could not read.
        raise MalformedEventError(f"not a {event.detail_type} event: {_reason(error)}") from None


def _read(event: "CapturedEvent", prices: PriceBook) -> CachedResponse:
    data, request, response = event.data, event.data["request"], event.data["response"]
    ulid_time(event.id)  # raises ValueError if the id is no ULID: only a ULID says which of two answers is newer
    body_size, created_at = _whole(response["body_size"]), _whole(data["created_at"])
    if body_size > LARGEST_BODY:
        raise AnswerTooLargeError(body_size)
    encoding, digest = _encoding(response["encoding"]), _fit(_DIGEST, response["body_sha256"], "body_sha256")
    usage, server = Usage.from_event(data["usage"]), _text(data["server"]["name"])
    is_stream, content_type = _flag(request["stream"]), response["content_type"]
    answered, asked = (value and _text(value) for value in (response.get("model"), request["model"]))
    return CachedResponse(
        cache_key=_fit(_DIGEST, data["cache_key"], "cache_key"),
        digest=_fit(_DIGEST, data["digest"], "digest"),
        event_id=_text(event.id),
        client_id=_said(event.client_id, is_client_id(event.client_id), "client_id"),
        scope=_said(data["scope"], is_scope_of(data["scope"], event.client_id), "scope"),
        namespace=_namespace(data.get("namespace")),
        server=server,
        path=_text(request["path"]),
        model=asked,
        stream=is_stream,
        status_code=_success(response["status_code"]),
        content_type=_said(content_type, is_content_type(content_type, is_stream=is_stream), "content_type"),
        encoding=encoding,
        body=_body(response, encoding, body_size, digest),
        object=_object(response, event.client_id),
        body_size=body_size,
        body_sha256=digest,
        timing=_timing(response.get("timing"), body_size),
        usage=usage,
        cost=_known(prices.price_answer(usage, server, answered, asked, datetime.fromtimestamp(created_at, tz=UTC))[0]),
        created_at=created_at,
        expires_at=_later(_whole(data["expires_at"]), created_at),
    )


def _body(response: "CapturedResponseData", encoding: "Encoding", size: int, sha256: str) -> bytes | None:
    """The body that the event carries, as it is. Its unpacked form is compared with the size and digest that the event
    states.
    """
    text = response.get("body")
    if (text is None) == (response.get("object") is None):
        raise ValueError("either body or object")
    if text is None:
        return None
    encoded = base64.b64decode(text, validate=True)
    body = encoded if encoding == "identity" else _unpacked(encoded, size)
    if len(body) != size or hashlib.sha256(body).hexdigest() != sha256:
        raise ValueError("body")
    return encoded


def _unpacked(encoded: bytes, size: int) -> bytes:
    """`encoded` without its compression. At most one byte more than is allowed is unpacked, however large the whole
    would be.
    """
    unpacking = zlib.decompressobj()
    try:
        body = unpacking.decompress(encoded, size + 1)
    except zlib.error:
        raise ValueError("body") from None
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError("body")
    return body


def _object(response: "CapturedResponseData", client_id: str) -> str | None:
    key = response.get("object")
    if key is None:
        return None
    if not is_object_key(key, client_id):
        raise ValueError("object")
    return key


def _namespace(namespace: Any) -> str | None:
    return None if namespace is None else _said(namespace, is_namespace(namespace), "namespace")


def _timing(pieces: Any, body_size: int) -> tuple[tuple[int, int], ...]:
    read = tuple((_whole(offset), _whole(milliseconds)) for offset, milliseconds in pieces or ())
    if len(read) > MOST_MARKS or any(offset >= body_size for offset, _ in read):
        raise ValueError("timing")
    if any(later[0] < piece[0] or later[1] < piece[1] for piece, later in pairwise(read)):
        raise ValueError("timing")
    return read


def _known(cost: Cost | Unpriced) -> Decimal | None:
    return cost.total if isinstance(cost, Cost) and cost.pricing in ("priced", "reported") else None


def _encoding(value: Any) -> "Encoding":
    if value not in ("identity", "zlib"):
        raise ValueError("encoding")
    return value


def _success(status: Any) -> int:
    if not 200 <= _whole(status) < 300:
        raise ValueError("status_code")
    return status


def _later(expires_at: int, created_at: int) -> int:
    if expires_at < created_at:
        raise ValueError("expires_at")
    return expires_at


def _fit(form: re.Pattern[str], value: Any, name: str) -> str:
    if not form.fullmatch(value):
        raise ValueError(name)
    return value


def _said(value: str, is_fit: bool, name: str) -> str:
    if not is_fit:
        raise ValueError(name)
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return _said(value, is_text(value), "text")


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError("no whole number")
    return value


def _reason(error: Exception) -> str:
    quotes = isinstance(error, binascii.Error | UnicodeError)
    return type(error).__name__ if quotes else f"{type(error).__name__}({', '.join(map(str, error.args))[:80]})"
