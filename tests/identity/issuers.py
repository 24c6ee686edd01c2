"""Issuers for tests: key pairs made once, tokens of any form, and an issuer that can change its keys or be down."""

import base64
import functools
import json
from typing import Any

from authorizer.https_get import FetchError
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://id.example.com/realms/chat"
NOW = 1_795_426_200
HASHES = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
CURVES = {"ES256": ec.SECP256R1, "ES384": ec.SECP384R1, "ES512": ec.SECP521R1}


def good(**changes: Any) -> dict[str, Any]:
    """The claims of a good token; None takes one away."""
    claims = {"iss": ISSUER, "aud": "chat", "sub": "ada", "exp": NOW + 300, "iat": NOW, **changes}
    return {name: value for name, value in claims.items() if value is not None}


@functools.cache
def private_key(algorithm: str, number: int = 0) -> Any:
    """A key for `algorithm`: the same for the same number."""
    if algorithm in CURVES:
        return ec.generate_private_key(CURVES[algorithm]())
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return _rsa(number)


@functools.cache
def _rsa(number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def jwk(algorithm: str, kid: str | None = "k", number: int = 0, **more: Any) -> dict[str, Any]:
    """The public key of `private_key` as a JWKS document has it."""
    public = private_key(algorithm, number).public_key()
    kinds: Any = {"R": RSAAlgorithm, "P": RSAAlgorithm}
    kind = ECAlgorithm if algorithm in CURVES else kinds.get(algorithm[0], OKPAlgorithm)
    found = kind.to_jwk(public, as_dict=True)
    found.pop("key_ops", None)
    return found | ({} if kid is None else {"kid": kid}) | {"use": "sig"} | more


def encoded(part: Any) -> str:
    """One part of a token: JSON of an object, or a text or bytes as they are."""
    raw = part if isinstance(part, bytes) else (part if isinstance(part, str) else json.dumps(part)).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signature(text: str, algorithm: str, number: int = 0) -> bytes:
    """The signature of `text`, made by cryptography itself."""
    key, message = private_key(algorithm, number), text.encode()
    if algorithm == "EdDSA":
        return key.sign(message)
    hash_of = HASHES[algorithm[2:]]()
    if algorithm in CURVES:
        size = (key.curve.key_size + 7) // 8
        return b"".join(
            each.to_bytes(size, "big") for each in decode_dss_signature(key.sign(message, ec.ECDSA(hash_of)))
        )
    padded = padding.PKCS1v15() if algorithm[0] == "R" else padding.PSS(padding.MGF1(hash_of), hash_of.digest_size)
    return key.sign(message, padded, hash_of)


def token(claims: Any = None, algorithm: str = "RS256", number: int = 0, header: Any = None, **headers: Any) -> str:
    """A signed token. `header` takes the place of the whole header; `headers` are added to the usual ones."""
    usual: dict[str, Any] = {"alg": algorithm, "typ": "JWT", "kid": "k"} | headers
    head: Any = {name: value for name, value in usual.items() if value is not None} if header is None else header
    text = f"{encoded(head)}.{encoded(good() if claims is None else claims)}"
    return f"{text}.{encoded(signature(text, algorithm, number))}"


def public_pem(algorithm: str = "RS256") -> bytes:
    """The public key as some libraries were made to take it for a secret."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private_key(algorithm).public_key().public_bytes(serialization.Encoding.PEM, form)


class FakeIssuer:
    """Answers for an issuer's two documents; counts what it is asked, and is down when told to be."""

    def __init__(self, *keys: dict[str, Any], issuer: str = ISSUER, jwks_uri: str = "") -> None:
        self.keys = list(keys)
        self.issuer = issuer
        self.jwks_uri = jwks_uri or f"{ISSUER}/keys"
        self.is_down = False
        self.asked: list[str] = []

    def __call__(self, address: str, seconds: float) -> dict[str, Any]:
        assert 0 < seconds <= 3
        self.asked.append(address)
        if self.is_down:
            raise FetchError("down")
        if address == f"{ISSUER}/.well-known/openid-configuration":
            return {"issuer": self.issuer, "jwks_uri": self.jwks_uri}
        assert address == self.jwks_uri
        return {"keys": list(self.keys)}


class Clock:
    """A clock that is moved by hand."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
