"""What an answer must be like to be kept. The same bounds hold where it is captured, stored and read. Pure.

Its one rule: an answer that could not be stored is not sent, because its content would stay in the queues.
"""

import re

LARGEST_BODY = 16 * 1024 * 1024
"""Bytes of an answer, uncompressed. The template's `CacheLargestAnswerBytes` may be no more."""
LONGEST_MODEL = 256
LONGEST_KEPT = 31_536_000
"""Seconds for which an answer is served, at most."""
MEDIA_TYPES = {True: "text/event-stream", False: "application/json"}
"""Of a stream, and of an answer that is none."""
MOST_MARKS = 256
"""Of the timing of a stream: where a piece begins, and when it came."""
CLOCKS_APART = 300
"""Seconds by which the clock of the sandbox that captured an answer may be ahead of another one's."""

_CLIENT_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_SCOPE = re.compile(r"(client|key-pool|server-pool):([A-Za-z0-9_.-]{1,64})")
_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LONGEST_CONTENT_TYPE = 256


def is_client_id(value: str) -> bool:
    """Whether this is fit to be the id of the client whose request made an answer."""
    return _CLIENT_ID.fullmatch(value) is not None


def is_scope_of(scope: str, client_id: str) -> bool:
    """Whether requests of this client may make answers for `scope`: its own, or that of a pool."""
    found = _SCOPE.fullmatch(scope)
    return found is not None and (found[1] != "client" or found[2] == client_id)


def is_namespace(value: str) -> bool:
    """Whether this may be a namespace."""
    return _NAMESPACE.fullmatch(value) is not None


def is_content_type(value: str, *, is_stream: bool) -> bool:
    """Whether this is the content type of such an answer, and fit to be sent as a header again."""
    is_fit = value.isascii() and value.isprintable() and len(value) <= _LONGEST_CONTENT_TYPE
    return is_fit and value.partition(";")[0].strip().lower() == MEDIA_TYPES[is_stream]


def is_text(value: str) -> bool:
    """Whether this is a text that a table accepts. JSON can hold half a character, UTF-8 cannot."""
    try:
        return bool(value.encode())
    except UnicodeError:
        return False


def model_name(name: str | None) -> str | None:
    """The name of a model as an event has it: cut to its bound; None for one that cannot be written."""
    cut = (name or "")[:LONGEST_MODEL]
    return cut if is_text(cut) else None
