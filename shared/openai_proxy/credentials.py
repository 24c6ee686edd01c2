"""Which key a request carries: in the header of OpenAI's SDKs, or in those of Anthropic's and Azure's. Pure.

Its one rule: a request has one key or none. `Authorization` alone counts where there is one, because API Gateway has
keys of its own in `x-api-key`. Without it, two headers with different keys count as no key.
"""

from collections.abc import Mapping

_BARE = ("x-api-key", "api-key")
KEY_HEADERS = ("authorization", *_BARE)
"""In lower case."""

_BLANK = " \t"


def sent_key(headers: Mapping[str, str]) -> str | None:
    """The key in `headers`, whose names are in lower case; None where there is none, or where it is not clear."""
    if authorization := headers.get("authorization", "").strip(_BLANK):
        scheme, _, key = authorization.partition(" ")
        return key.strip(_BLANK) or None if scheme.lower() == "bearer" else None
    keys = {key for name in _BARE if (key := headers.get(name, "").strip(_BLANK))}
    return keys.pop() if len(keys) == 1 else None


def has_key(headers: Mapping[str, str]) -> bool:
    """Whether `headers` carry anything that may be meant as a key."""
    return any(headers.get(name, "").strip(_BLANK) for name in KEY_HEADERS)
