"""A plan of `identity.yaml`: what each of its users may do, in the words of a client key. Pure.

Its one rule: a plan keeps to the rules of a stored client key (`client_keys.ATTRIBUTES`), so that both mean the same.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from openai_proxy.client_keys import LIMITS, CachePolicy, limits_in, read_attributes
from openai_proxy.identity.values import EntryError, check_names, mapping
from openai_proxy.key_context import ClientKey, KeyCache
from openai_proxy.key_limits import Limits

_NUMBERS = tuple(name for name in LIMITS if name != "reset_weekday")
_LISTS = ("servers", "models")
_KEYS = (
    "client_id",
    "name",
    "owner",
    "tags",
    *_LISTS,
    *LIMITS,
    "cache",
    "log_content",
    "resumable",
    "on_disconnect",
    "team",
)
_PLAIN_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,24})?")
_FLAGS = {"true": True, "false": False}
_DEFAULT_TTL = 3600
_NO_KEY = {"key_hash": "0" * 64, "enabled": True}
"""What a stored key has and a plan has not."""


class Plan(NamedTuple):
    """What the users of a plan may do. `template` is a client key without a user."""

    name: str
    template: ClientKey
    limits: Mapping[str, Any]
    """Those of `client_keys.LIMITS` that are set. Each user has them alone."""

    def key_of(self, user_id: str, end_user: str, expires_at: int) -> ClientKey:
        """The client key of one user: a client of the plan, with limits, receipts and cached answers of its own."""
        return self.template._replace(
            key_id=user_id,
            end_user=end_user,
            expires_at=expires_at,
            limits=Limits(user_id, **self.limits) if self.limits else None,
            line=user_id,
        )


def read_plan(name: str, value: Any) -> Plan:
    """Read the plan `name`. Raises EntryError."""
    given = mapping("", value, "write {servers: [openai], rpm: 10}, or {name: Free} for a plan without limits")
    check_names(given, _KEYS)
    item = {**_NO_KEY, "client_id": name, "name": name}
    item |= {key: _typed(key, each) for key, each in given.items() if each is not None}
    values, problems = read_attributes(item)
    if problems:
        key, _, rule = problems[0].partition(" must be ")
        is_name = key not in given
        raise EntryError("" if is_name else key, "not usable" if not is_name else "not a usable name", f"write {rule}")
    limits = limits_in(values)
    template = ClientKey(
        client_id=values["client_id"],
        servers=values.get("servers"),
        models=values.get("models"),
        name=values["name"],
        owner=values.get("owner"),
        tags=values.get("tags") or {},
        cache=_policy(values.get("cache")),
        logs_content=values.get("log_content") is True,
        resumable=values.get("resumable") is True,
        on_disconnect=values.get("on_disconnect") or "",
        team=values.get("team") or "",
    )
    return Plan(name, template, limits)


def _typed(key: str, value: Any) -> Any:
    """A value of the file, whose scalars are texts, as the key table would have it."""
    if key in _NUMBERS:
        return Decimal(value) if isinstance(value, str) and _PLAIN_NUMBER.fullmatch(value) else value
    if key in _LISTS and isinstance(value, str):
        return [value]
    if key in ("log_content", "resumable"):
        return _FLAGS.get(value, value) if isinstance(value, str) else value
    return _cache(value) if key == "cache" else value


def _cache(value: Any) -> Any:
    """`on`, `off` or {ttl: 3600, pool: name}."""
    if isinstance(value, str):
        return {"mode": value, "ttl": _DEFAULT_TTL} if value == "on" else {"mode": value}
    if not isinstance(value, dict):
        return value
    given: dict[str, Any] = value  # pyright: ignore[reportUnknownVariableType]
    ttl = given.get("ttl", str(_DEFAULT_TTL))
    number = int(ttl) if isinstance(ttl, str) and ttl.isascii() and ttl.isdecimal() and len(ttl) < 12 else ttl
    return {**given, "mode": "on", "ttl": number}


def _policy(cache: CachePolicy | None) -> KeyCache | None:
    if cache is None:
        return None
    return KeyCache(is_on=True, ttl=cache.ttl, pool=cache.pool) if cache.mode == "on" else KeyCache(is_on=False)
