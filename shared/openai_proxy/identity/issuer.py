"""An issuer of `identity.yaml`: whose tokens are taken, for which audience, with which claims, for which plan. Pure.

Its one rule: what is trusted stands in the file. A token chooses neither the address of a key nor its algorithm.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from openai_proxy.identity.values import EntryError, check_names, mapping, text, texts

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""Signatures by a private key that the issuer alone has. `none` and HS* are in no list."""
_OTHER_NAMES: Mapping[str, str] = {"Ed25519": "EdDSA"}
"""EdDSA is taken with one curve alone, whose own name newer issuers write (RFC 9864, section 2.2)."""

_KEYS = ("issuer", "audience", "audience_claim", "jwks_url", "algorithms", "require", "plan", "plans", "pseudonyms")
_AUDIENCE_CLAIMS = ("aud", "client_id", "azp", "cid", "appid")
_COGNITO = re.compile(r"cognito-idp(?:-fips)?\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_MOST_VALUES = 32
_MOST_CLAIMS = 16
_MOST_PLANS = 100
_ADDRESS = "write an https address without user, query and fragment, exactly as the `iss` of its tokens"


class PlanChoice(NamedTuple):
    """The plan of a token: by the value of `claim` where one of `by_value` is there, else `default`; "" is no plan."""

    default: str
    claim: str = ""
    by_value: Mapping[str, str] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Every plan that a token may get."""
        return (*self.by_value.values(), *((self.default,) if self.default else ()))


class Issuer(NamedTuple):
    """Who may sign tokens. `issuer` is compared with `iss` character by character."""

    issuer: str
    audiences: tuple[str, ...]
    plan: PlanChoice
    audience_claims: tuple[str, ...] = ("aud",)
    """The first of these that a token has is its audience."""
    jwks_url: str = ""
    """Where its keys are; "" is for discovery."""
    algorithms: tuple[str, ...] = ALGORITHMS
    require: Mapping[str, tuple[str, ...]] = {}
    """Claims that a token must have, each with one of these values."""
    pseudonyms: bool = False
    """Whether its users are known by a keyed hash of their `sub` alone."""

    @property
    def discovery_url(self) -> str:
        """Where it describes itself (OpenID Connect Discovery 1.0, section 4)."""
        return f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"


def read_issuer(value: Any, *, allow_loopback: bool) -> Issuer:
    """Read one of `issuers`. With `allow_loopback`, plain HTTP is allowed on this machine. Raises EntryError."""
    given = mapping("", value, "write {issuer: …, audience: …, plan: …}")
    check_names(given, _KEYS)
    issuer = address_of("issuer", given.get("issuer"), _ADDRESS, allow_loopback=allow_loopback)
    audiences = texts("audience", given.get("audience"), _MOST_VALUES, "write the audience that its tokens are for")
    remedy = "write the https address of its JWKS document, or leave it out for discovery"
    jwks_url = given.get("jwks_url")
    return Issuer(
        issuer,
        audiences,
        _choice(given),
        audience_claims=_audience_claims(given.get("audience_claim"), issuer),
        jwks_url="" if jwks_url is None else address_of("jwks_url", jwks_url, remedy, allow_loopback=allow_loopback),
        algorithms=_algorithms(given.get("algorithms")),
        require=_require(given.get("require")),
        pseudonyms=_pseudonyms(given.get("pseudonyms")),
    )


def address_of(key: str, value: Any, remedy: str, *, allow_loopback: bool) -> str:
    """`value` if it is an https address, or plain http on this machine where that is allowed. Raises EntryError."""
    address = text(key, value, remedy)
    try:
        parts = urlsplit(address)
        is_local = allow_loopback and parts.scheme == "http" and parts.hostname in _LOOPBACK
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise EntryError(key, "not an address", remedy) from error
    if not (parts.scheme == "https" or is_local) or not has_host:
        raise EntryError(key, "not an https address", remedy)
    odd = parts.username is not None or "@" in parts.netloc or "?" in address or "#" in address
    odd |= "[" in parts.netloc[1:]  # Python takes x.[::1] for ::1
    if odd or not address.isascii() or " " in address or "\\" in address:
        raise EntryError(key, "has a user, a query, a fragment or odd characters", remedy)
    return address


def algorithm_of(name: str) -> str:
    """The algorithm that a token or a file calls `name`, as `ALGORITHMS` has it where it is there."""
    return _OTHER_NAMES.get(name, name)


def origin_of(address: str) -> tuple[str, str, int | None]:
    """Scheme, host and port. Two addresses with the same one are of the same origin."""
    parts = urlsplit(address)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def is_loopback(address: str) -> bool:
    """Whether the address is one of this machine."""
    return urlsplit(address).hostname in _LOOPBACK


def _choice(given: Mapping[str, Any]) -> PlanChoice:
    if ("plan" in given) == ("plans" in given):
        raise EntryError("plan", "neither or both of `plan` and `plans` are given", "write plan: NAME, or plans: {…}")
    if "plan" in given:
        return PlanChoice(text("plan", given["plan"], "write the name of one of `plans`"))
    remedy = "write {claim: NAME, VALUE: PLAN, …}, and default: PLAN for tokens without one of these values"
    plans = mapping("plans", given["plans"], remedy)
    if len(plans) > _MOST_PLANS:
        raise EntryError("plans", f"more than {_MOST_PLANS} values", remedy)
    named = {value: text("plans", plan, remedy) for value, plan in plans.items()}
    claim, default = named.pop("claim", ""), named.pop("default", "")
    if not claim or not named:
        raise EntryError("plans", "names no claim, or none of its values", remedy)
    return PlanChoice(default, claim, named)


def _audience_claims(value: Any, issuer: str) -> tuple[str, ...]:
    """Amazon Cognito's access tokens have no `aud`: they name the app client in `client_id`."""
    if value is None:
        return ("aud", "client_id") if _COGNITO.fullmatch(urlsplit(issuer).hostname or "") else ("aud",)
    if value not in _AUDIENCE_CLAIMS:
        raise EntryError(
            "audience_claim", "not a claim that holds an audience", f"write one of {', '.join(_AUDIENCE_CLAIMS)}"
        )
    return (value,)


def _algorithms(value: Any) -> tuple[str, ...]:
    remedy = f"write a list of {', '.join(ALGORITHMS)}, or leave it out for all of them"
    given = ALGORITHMS if value is None else texts("algorithms", value, len(ALGORITHMS), remedy)
    algorithms = tuple(map(algorithm_of, given))
    if wrong := [name for name in algorithms if name not in ALGORITHMS]:
        raise EntryError("algorithms", f"'{wrong[0][:32]}' is not allowed", remedy)
    return algorithms


def _require(value: Any) -> dict[str, tuple[str, ...]]:
    if value is None:
        return {}
    remedy = "write {email_verified: true, groups: [chat, admin]}: claims, each with a value or a list of values"
    given = mapping("require", value, remedy)
    if len(given) > _MOST_CLAIMS:
        raise EntryError("require", f"more than {_MOST_CLAIMS} claims", remedy)
    return {text("require", name, remedy): texts("require", each, _MOST_VALUES, remedy) for name, each in given.items()}


def _pseudonyms(value: Any) -> bool:
    if value not in (None, "true", "false"):
        raise EntryError(
            "pseudonyms", "neither true nor false", "write true, and deploy with UserPseudonymsEnabled=true"
        )
    return value == "true"
