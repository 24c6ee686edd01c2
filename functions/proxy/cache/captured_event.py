"""`ResponseCaptured`: an answer that is to be kept, packed small. Pure.

An event has limited room, so a larger body goes into an object whose name the event holds. Its one rule: whatever this
module captures, store_response can store (`openai_proxy.cache.answers`).
"""

import base64
import hashlib
import zlib
from typing import TYPE_CHECKING

from openai_proxy.cache.answers import LARGEST_BODY, is_client_id, is_content_type, is_scope_of, model_name
from openai_proxy.cache.keys import object_key
from openai_proxy.events.envelope import Event, rfc3339
from openai_proxy.events.ulid import new_ulid
from openai_proxy.usage import Usage

from proxy.cache.capture import Capture
from proxy.cache.fill import CacheFill
from proxy.call import Call
from proxy.json_shapes import LONGEST_NAME, text_of
from proxy.outcome import Outcome

if TYPE_CHECKING:
    from openai_proxy.events.types import CapturedEvent, CapturedResponseData, Encoding, ResponseCaptured

LARGEST_IN_EVENT = 140 * 1024
"""Bytes, packed: in base64, with all else, less than 200 kB. One call of PutEvents has room for that and for others."""
_LEVEL = 1
"""Of compression: 1 MiB in 5 ms. Level 6 takes three times as long to save another sixteenth (`docs/benchmarks.md`)."""


def captured_event(
    fill: CacheFill, call: Call, outcome: Outcome, now: float, *, has_bucket: bool
) -> "tuple[CapturedEvent | None, bytes | None]":
    """The event, and the packed body that has to be put into the object that the event names; None for an answer that
    is too large or cannot be stored.

    `now` is in Unix seconds.
    """
    capture = fill.capture
    if not _is_storable(fill, call, outcome):
        return None, None
    packed, encoding, digest = _packed(capture)
    event_id, client_id = new_ulid(now), call.key.client_id if call.key else ""
    in_event = len(packed) <= LARGEST_IN_EVENT
    if not in_event and not has_bucket:
        return None, None
    response = _response_of(fill, outcome, encoding, digest)
    if in_event:
        response["body"] = base64.b64encode(packed).decode()
    else:
        response["object"] = object_key(client_id, event_id)
    data: ResponseCaptured = {
        "cache_key": fill.keys.key,
        "digest": fill.keys.digest,
        "scope": fill.policy.scope,
        "server": {"name": outcome.delivery.server_name or ""},
        "request": {
            "path": text_of(call.path, LONGEST_NAME) or "",
            "model": model_name(outcome.delivery.model),
            "stream": fill.wanted.is_stream,
        },
        "response": response,
        "usage": outcome.usage.to_event(),
        "created_at": int(now),
        "expires_at": int(now) + fill.policy.ttl,
    }
    if fill.namespace:
        data["namespace"] = fill.namespace
    timestamp = rfc3339(now)
    event = Event("ResponseCaptured", event_id, timestamp, call.request_id, client_id, data)
    return event, None if in_event else packed


def _is_storable(fill: CacheFill, call: Call, outcome: Outcome) -> bool:
    """Whether everything that the event will say may be stored. Model names are shortened so that they always may."""
    client_id, size = call.key.client_id if call.key else "", fill.capture.size
    try:
        Usage.from_event(outcome.usage.to_event())
    except ValueError:
        return False
    is_whose = is_client_id(client_id) and is_scope_of(fill.policy.scope, client_id)
    content_type = outcome.delivery.headers.get("content-type", "")
    is_what = is_content_type(content_type, is_stream=fill.wanted.is_stream) and 0 < size <= LARGEST_BODY
    return is_whose and is_what and bool(outcome.delivery.server)


def _response_of(fill: CacheFill, outcome: Outcome, encoding: "Encoding", digest: str) -> "CapturedResponseData":
    """The answer without its body."""
    response: CapturedResponseData = {
        "status_code": 200,
        "content_type": outcome.delivery.headers.get("content-type", ""),
        "model": model_name(outcome.meter.model if outcome.meter else None),
        "encoding": encoding,
        "body_size": fill.capture.size,
        "body_sha256": digest,
    }
    if fill.wanted.is_stream:
        response["timing"] = fill.capture.timing
    return response


def _packed(capture: Capture) -> "tuple[bytes, Encoding, str]":
    """The body, compressed if that makes it smaller; its encoding; and the SHA-256 of the original body."""
    digest, packer, packed = hashlib.sha256(), zlib.compressobj(_LEVEL), bytearray()
    for piece in capture.pieces:
        digest.update(piece)
        packed += packer.compress(piece)
    packed += packer.flush()
    if len(packed) >= capture.size:
        return b"".join(capture.pieces), "identity", digest.hexdigest()
    return bytes(packed), "zlib", digest.hexdigest()
