"""The parts of an access token, a signed JWT in its compact form, before its signature is checked. Pure.

Its one rule: a token that two readers could read in two ways is refused. That is one with a name twice in an object,
with NaN or Infinity, with text that is not UTF-8, or with a header that changes how the rest is read.
"""

import base64
import json
import re
from typing import Any, NamedTuple

from openai_proxy.identity.issuer import algorithm_of

from authorizer.refusal import TokenRefusedError

LONGEST = 8192
"""Characters. What is longer is not parsed."""
LONGEST_KID = 256

_FORM = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_UNREAD = ("crit", "b64", "zip", "enc")
"""Headers that ask for more than a signature over the text. Those that bring a key (`jwk`, `jku`, `x5u`, `x5c`) have no
effect at all.
"""
_TYPES = ("jwt", "at+jwt", "application/at+jwt", "application/jwt")


class Token(NamedTuple):
    """A token as it was read. Nothing in it may be believed before its signature is checked."""

    text: str
    algorithm: str
    kid: str | None
    claims: dict[str, Any]


def looks_like_token(sent: str) -> bool:
    """Whether the key that a client sent is meant as an access token."""
    return sent.count(".") >= 2 or sent.startswith("eyJ")


def read_token(text: str) -> Token:
    """The parts of a token. Raises TokenRefusedError."""
    if len(text) > LONGEST:
        raise TokenRefusedError("token_too_large")
    form = _FORM.fullmatch(text)
    if form is None:
        raise TokenRefusedError("token_malformed")
    try:
        header, claims = _object(form[1]), _object(form[2])
    except (ValueError, RecursionError) as error:
        raise TokenRefusedError("token_malformed") from error
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str):
        raise TokenRefusedError("token_algorithm")
    is_read = isinstance(kind, str) and kind.lower() in _TYPES and not any(name in header for name in _UNREAD)
    if not is_read or not (kid is None or (isinstance(kid, str) and len(kid) <= LONGEST_KID)):
        raise TokenRefusedError("token_malformed")
    return Token(text, algorithm_of(algorithm), kid, claims)


def _object(part: str) -> dict[str, Any]:
    decoded = base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)).decode()
    value: Any = json.loads(decoded, object_pairs_hook=_each_once, parse_constant=_no_number)
    if not isinstance(value, dict):
        raise ValueError("no object")  # noqa: TRY004 - of the token, not of the program
    return value  # pyright: ignore[reportUnknownVariableType]


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_number(name: str) -> float:
    raise ValueError("no number")
