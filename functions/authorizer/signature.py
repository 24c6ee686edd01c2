"""Checks with PyJWT whether a token was signed with a key. Loaded only where identity.yaml names an issuer.

Its one rule: the key decides which algorithm it may be used with, never the token. Each algorithm fits one type of key,
and a key that names an algorithm or a use is good for nothing else.
"""

import base64
from collections.abc import Mapping
from typing import Any

from jwt import PyJWK, PyJWTError
from openai_proxy.identity.issuer import ALGORITHMS, algorithm_of

_ED25519 = ("OKP", "Ed25519")
_TYPES: Mapping[str, tuple[str, str]] = {
    **{name: ("RSA", "") for name in ALGORITHMS if name[:2] in ("RS", "PS")},
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": _ED25519,
}
_PUBLIC = ("kty", "n", "e", "crv", "x", "y")
"""What is read of a key. A document may hold certificates too, which are not used."""
_PRIVATE = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
_SHORTEST_RSA = 2048
"""Bits (RFC 7518, section 3.3)."""
_LONGEST_RSA = 8192
"""Bits: a longer key costs more time than it is worth."""

_PRIME = 2**255 - 19
_OF_EIGHT = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL = frozenset({0, 1, _PRIME - 1, _OF_EIGHT, _PRIME - _OF_EIGHT})
"""The y of the points of Ed25519 whose order is 8 or less. If a key is one of them, anybody can sign for it."""

Jwk = Mapping[str, Any]
"""A public key as a JWKS document has it."""


def is_private(jwk: Jwk) -> bool:
    """Whether a document tells, by mistake, with what to sign: then anybody may have signed."""
    return any(name in jwk for name in _PRIVATE)


def fits(jwk: Jwk, algorithm: str) -> bool:
    """Whether a key may have signed with `algorithm`."""
    kind, curve = _TYPES[algorithm]
    named, operations = jwk.get("alg", algorithm), jwk.get("key_ops", ["verify"])
    return (
        jwk.get("kty") == kind
        and jwk.get("crv", "") == curve
        and jwk.get("use", "sig") == "sig"
        and isinstance(named, str)
        and algorithm_of(named) == algorithm
        and isinstance(operations, list)
        and "verify" in operations
    )


def loaded(jwk: Jwk, algorithm: str) -> PyJWK | None:
    """The key, prepared for `algorithm`; None if it is damaged, too weak, or too long to be used."""
    try:
        key = PyJWK({name: jwk[name] for name in _PUBLIC if name in jwk}, algorithm)
    except PyJWTError:
        return None
    if algorithm == "EdDSA" and int.from_bytes(key.key.public_bytes_raw(), "little") % 2**255 % _PRIME in _SMALL:
        return None
    size = getattr(key.key, "key_size", None) if jwk.get("kty") == "RSA" else _SHORTEST_RSA
    return key if size is not None and _SHORTEST_RSA <= size <= _LONGEST_RSA else None


def is_signed(token: str, key: PyJWK, algorithm: str) -> bool:
    """Whether `key` made the signature of a token whose parts have been read.

    The library's `decode` would read the parts once more, character by character, which takes longer than verifying.
    """
    text, _, encoded = token.rpartition(".")
    try:
        signature = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except ValueError:
        return False
    if base64.urlsafe_b64encode(signature).decode().partition("=")[0] != encoded:
        # one signature can be written in one way only
        return False
    return key.algorithm_name == algorithm and key.Algorithm.verify(text.encode(), key.key, signature)
