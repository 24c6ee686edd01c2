"""What the key table says of a client key, and what of it API Gateway and the proxy are told. Pure.

One rule: a damaged item is no client key. It is not read in part, for what is missing might be the limit.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

from openai_proxy.client_keys import CachePolicy, key_id_of, read_attributes


class DamagedKeyError(Exception):
    """The item of a key has attributes that are missing or unfit: `problems` says which, never what they hold."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("The item of a client key is damaged.")
        self.problems = problems


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A client key as stored: what is not set is None. `expires_at` is in Unix seconds, budgets are in `currency`."""

    key_hash: str
    client_id: str
    name: str
    enabled: bool
    owner: str | None = None
    tags: Mapping[str, str] | None = None
    created_at: str | None = None
    expires_at: int | None = None
    servers: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    limits_id: str | None = None
    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None
    budget_day: Decimal | None = None
    budget_month: Decimal | None = None
    currency: str | None = None
    cache: CachePolicy | None = None
    log_content: bool | None = None
    rotated_at: str | None = None
    replaced_by: str | None = None

    @classmethod
    def from_item(cls, item: Mapping[str, Any]) -> Self:
        """Read an item of the table, in plain values. Raises DamagedKeyError."""
        values, problems = read_attributes(item)
        if problems:
            raise DamagedKeyError(problems)
        return cls(**values)

    def to_context(self) -> dict[str, str]:
        """The authorizer's context: texts, because API Gateway passes nothing else on; "" is for what is not set."""
        key_id = key_id_of(self.key_hash)
        has_budget = self.budget_day is not None or self.budget_month is not None
        return {
            "client_id": self.client_id,
            "client_name": self.name,
            "key_id": key_id,
            "limits_id": self.limits_id or key_id,
            "owner": self.owner or "",
            "tags": json.dumps(dict(self.tags), separators=(",", ":")) if self.tags else "",
            "expires_at": _number(self.expires_at),
            "servers": ",".join(self.servers or ()),
            "models": ",".join(self.models or ()),
            "rpm": _number(self.rpm),
            "tpm": _number(self.tpm),
            "parallel": _number(self.parallel),
            "budget_day": _number(self.budget_day),
            "budget_month": _number(self.budget_month),
            "currency": self.currency or ("USD" if has_budget else ""),
            "cache": _policy(self.cache),
            "log_content": "on" if self.log_content else "",
        }


def _policy(cache: CachePolicy | None) -> str:
    """`on:<ttl>:<pool>`, without a pool where there is none; `off` is another thing than nothing."""
    if cache is None:
        return ""
    return f"on:{cache.ttl}:{cache.pool or ''}" if cache.mode == "on" else "off"


def _number(number: int | Decimal | None) -> str:
    return "" if number is None else f"{Decimal(number).normalize():f}"
