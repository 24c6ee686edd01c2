"""What a ResponseCaptured event may say: the one rule of who sends it and of who stores it. Pure.

Its one rule: what would not be stored is not sent, because it would go round between the queues with its content.
"""

import re

LARGEST_BODY = 16 * 1024 * 1024
"""Bytes of an answer, uncompressed. The template's `CacheLargestAnswerBytes` may be no more."""
LONGEST_MODEL = 256
LONGEST_KEPT = 31_536_000
"""Seconds for which an answer is served, at most."""
MEDIA_TYPES = {True: "text/event-stream", False: "application/json"}
"""Of a stream, and of an answer that is none."""

_LEASE = "lease#"

_CLIENT_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SCOPE = re.compile(r"(client|key-pool|server-pool):([A-Za-z0-9_.-]{1,64})")
_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LONGEST_CONTENT_TYPE = 256


def is_client_id(value: str) -> bool:
    """Whether this may be the client whose request made an answer."""
    return _CLIENT_ID.fullmatch(value) is not None


def is_scope_of(scope: str, client_id: str) -> bool:
    """Whether requests of this client may make answers for `scope`: its own, or that of a pool."""
    found = _SCOPE.fullmatch(scope)
    return found is not None and (found[1] != "client" or found[2] == client_id)


def is_namespace(value: str) -> bool:
    """Whether this may be a namespace."""
    return _NAMESPACE.fullmatch(value) is not None


def is_content_type(value: str, *, is_stream: bool) -> bool:
    """Whether this is the content type of such an answer, in words that may be a header again."""
    is_fit = value.isascii() and value.isprintable() and len(value) <= _LONGEST_CONTENT_TYPE
    return is_fit and value.partition(";")[0].strip().lower() == MEDIA_TYPES[is_stream]


def is_text(value: str) -> bool:
    """Whether this is a text that a table takes. JSON has room for half a character, UTF-8 has not."""
    try:
        return bool(value.encode())
    except UnicodeError:
        return False


def model_name(name: str | None) -> str | None:
    """The name of a model as an event has it: cut to its bound; None for one that cannot be written."""
    cut = (name or "")[:LONGEST_MODEL]
    return cut if is_text(cut) else None


def lease_key(name: str) -> str:
    """The key in the cache table of the lease that has this name."""
    return _LEASE + name


def lease_name(cache_key: str, *, is_stream: bool | None) -> str:
    """The name of the lease of who fetches an answer; `is_stream` is None where any form will do for all who wait."""
    return cache_key + ("" if is_stream is None else "#stream" if is_stream else "#document")


def lease_keys_of(cache_key: str) -> list[str]:
    """The keys in the cache table of all leases that there may be for an answer."""
    return [lease_key(lease_name(cache_key, is_stream=form)) for form in (None, True, False)]
