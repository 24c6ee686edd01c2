"""Whether the claims of a genuine token let its user in, and with which plan. Pure.

Its one rule: a claim that is missing or of another type than it must be lets nobody in.
"""

from collections.abc import Mapping
from typing import Any

from openai_proxy.identity.issuer import Issuer, PlanChoice
from openai_proxy.identity.user import LONGEST_SUBJECT

from authorizer.refusal import TokenRefusedError

SKEW = 60
"""Seconds by which the clocks of issuer and authorizer may differ."""
_LATEST = 253_402_300_799
"""The end of the year 9999. Some systems write milliseconds, which would be good for ever."""
_OF_WORDS = ("scope", "scp")
"""Claims that hold several values in one text, with blanks between them (RFC 8693, section 4.2)."""
_MOST_AUDIENCES = 64


def check(claims: Mapping[str, Any], issuer: Issuer, now: float) -> None:
    """Raise TokenRefusedError for claims that let nobody in at `now` (Unix seconds)."""
    code = _of_time(claims, now) or _of_audience(claims, issuer) or _of_subject(claims)
    code = code or _of_binding(claims) or _of_require(claims, issuer)
    if code:
        raise TokenRefusedError(code, issuer.issuer)


def plan_of(claims: Mapping[str, Any], issuer: Issuer) -> str:
    """The name of the token's plan; of several values the one that the file lists first. Raises TokenRefusedError."""
    choice: PlanChoice = issuer.plan
    values = values_of(claims, choice.claim) if choice.claim else frozenset[str]()
    plan = next((plan for value, plan in choice.by_value.items() if value in values), choice.default)
    if not plan:
        raise TokenRefusedError("token_plan", issuer.issuer)
    return plan


def expires_at(claims: Mapping[str, Any]) -> int:
    """When a token that was checked ends, in Unix seconds."""
    return int(claims["exp"])


def values_of(claims: Mapping[str, Any], name: str) -> frozenset[str]:
    """The values of a claim, as texts. A claim inside an object is named with dots: realm_access.roles."""
    value = claims.get(name)
    if name not in claims:
        inner: Any = claims
        for part in name.split("."):
            inner = inner.get(part) if isinstance(inner, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        value = inner  # pyright: ignore[reportUnknownVariableType]
    if name in _OF_WORDS and isinstance(value, str):
        value = value.split(" ")
    each: list[Any] = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
    return frozenset(text for one in each if (text := _text(one)) is not None)


def _text(value: Any) -> str | None:
    """A text, a number or a boolean as YAML writes it; None for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**18 else None
    return value if isinstance(value, str) else None


def _of_time(claims: Mapping[str, Any], now: float) -> str | None:
    times = {name: claims[name] for name in ("exp", "nbf", "iat") if name in claims}
    if "exp" not in times or not all(map(_is_time, times.values())):
        return "token_malformed"
    if times["exp"] <= now - SKEW:
        return "token_expired"
    return "token_not_yet_valid" if max(times.get("nbf", 0), times.get("iat", 0)) > now + SKEW else None


def _is_time(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value <= _LATEST  # a comparison takes whole numbers of any size, and NaN fails it


def _of_audience(claims: Mapping[str, Any], issuer: Issuer) -> str | None:
    value = next((claims[name] for name in issuer.audience_claims if name in claims), None)
    audiences: list[Any] = value if isinstance(value, list) else [value]  # pyright: ignore[reportUnknownVariableType]
    is_fit = 0 < len(audiences) <= _MOST_AUDIENCES and all(isinstance(each, str) for each in audiences)
    return None if is_fit and not set(issuer.audiences).isdisjoint(audiences) else "token_audience"


def _of_subject(claims: Mapping[str, Any]) -> str | None:
    sub = claims.get("sub")
    fits = isinstance(sub, str) and sub.isprintable() and 0 < len(sub.strip()) == len(sub) <= LONGEST_SUBJECT
    return None if fits else "token_subject"


def _of_binding(claims: Mapping[str, Any]) -> str | None:
    """A token that is bound to its holder's own key (DPoP, mutual TLS: RFC 7800) is refused: here nobody could check
    that its sender has that key.
    """
    return None if claims.get("cnf") is None else "token_bound"


def _of_require(claims: Mapping[str, Any], issuer: Issuer) -> str | None:
    holds = all(not values_of(claims, name).isdisjoint(values) for name, values in issuer.require.items())
    return None if holds else "token_claims"
