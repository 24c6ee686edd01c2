"""What a request says of caches in its headers: `Cache-Control` and `Pragma` (RFC 9111, 5.2.1 and 5.4). Pure.

Its one rule: in doubt a client gets a newer answer, never an older one than it asked for.
"""

import re
from collections.abc import Mapping

from proxy.errors import ClientError, NotAllowedError

_DIRECTIVE = re.compile(r'([^\s=,;"]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,;"]*)))?')
"""Some write a semicolon where a comma belongs: what stands behind it counts all the same."""
_SECONDS = re.compile(r"[0-9]+")


def directives_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Each directive with its value, "" where it has none. If a directive is repeated, the first counts.

    `Pragma: no-cache` counts where there is no other. Names and values are in lower case.
    """
    found: dict[str, str] = {}
    for name, quoted, value in _DIRECTIVE.findall(headers.get("cache-control", "").lower()):
        found.setdefault(name, quoted or value)
    if not found and "no-cache" in (each[0] for each in _DIRECTIVE.findall(headers.get("pragma", "").lower())):
        return {"no-cache": ""}
    return found


def is_seconds(value: str) -> bool:
    """Whether this is a number of seconds."""
    return _SECONDS.fullmatch(value) is not None


def seconds_of(value: str) -> float:
    """A number of seconds: infinity if it is too large for a float, 0 if it is no number (RFC 9111, 1.2.2 and
    4.2.1).
    """
    return float(value) if is_seconds(value) else 0.0


def check_may_be_fetched(headers: Mapping[str, str], *, is_held: bool) -> None:
    """Raise ClientError for a request that only the cache may answer, when the cache has no answer.

    Either the client asks for that (504), or a guard has restricted its key to it (403).
    """
    if is_held:
        message = (
            "For a time this client may have answers of the response cache alone, and it has none to this request."
        )
        raise NotAllowedError("cache_only", message)
    if "only-if-cached" in directives_of(headers):
        message = "The response cache has no answer to this request, and 'only-if-cached' allows no other."
        raise ClientError(504, "not_cached", message, headers={"x-should-retry": "false"})
