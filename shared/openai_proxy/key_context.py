"""`ClientKey`: who is calling and what they may call, and the context in which the authorizer tells the proxy. Pure.

Its one rule: one context at both doors. It holds texts alone, because API Gateway passes nothing else on, and "" for
what is not set; the authorizer writes it with `to_context`, and the proxy reads with `from_context` what it wrote.
"""

import json
from collections.abc import Container, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # the authorizer knows neither
    from openai_proxy.events.types import ClientData
    from openai_proxy.servers import Server

CURRENCY = "USD"
"""Of budgets: that of the price book."""
MOST_MONEY = 10**9
"""USD that a budget, or a reservation, is at most."""
_MOST_DECIMALS = 24
_MOST_DIGITS = 15


def amount_of(text: str) -> Decimal:
    """An amount of money from its plain digits: 5, 0.25. Raises ValueError for every other form, and for too much.

    `Decimal` reads 1e5, 1_000 and the digits of other scripts too: who writes such an amount may mean another one.
    """
    whole, dot, rest = text.partition(".")
    if not (_are_digits(whole) and (_are_digits(rest) or not dot) and len(rest) <= _MOST_DECIMALS):
        raise ValueError("an amount that is not written in plain digits")
    if (amount := Decimal(text)) > MOST_MONEY:
        raise ValueError("an amount that is too large")
    return amount


class Limits(NamedTuple):
    """What a key may take; None: as much as it likes. Budgets are in USD. Rotated keys share one `id`."""

    id: str
    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None
    budget_day: Decimal | None = None
    budget_month: Decimal | None = None

    @property
    def has_budget(self) -> bool:
        """Whether money has to be counted."""
        return self.budget_day is not None or self.budget_month is not None

    @property
    def needs_estimate(self) -> bool:
        """Whether the tokens of a request matter before it is made."""
        return self.tpm is not None or self.has_budget

    @property
    def are_given_back(self) -> bool:
        """Whether a request holds something until it ends, or is counted by what it has used."""
        return self.parallel is not None or self.needs_estimate

    def to_context(self) -> dict[str, str]:
        """The limits in the authorizer's context."""
        return {
            "limits_id": self.id,
            "rpm": _text(self.rpm),
            "tpm": _text(self.tpm),
            "parallel": _text(self.parallel),
            "budget_day": _text(self.budget_day),
            "budget_month": _text(self.budget_month),
            "currency": CURRENCY if self.has_budget else "",
        }

    @classmethod
    def from_context(cls, context: Mapping[str, Any]) -> "Limits | None":
        """The limits in the authorizer's context, None when there are none. Raises ValueError."""
        limits = cls(
            context.get("limits_id") or "",
            rpm=_count(context.get("rpm")),
            tpm=_count(context.get("tpm")),
            parallel=_count(context.get("parallel")),
            budget_day=_money(context.get("budget_day")),
            budget_month=_money(context.get("budget_month")),
        )
        if limits == cls(limits.id):
            return None
        if not limits.id:
            raise ValueError("limits without an id")
        return limits


class KeyCache(NamedTuple):
    """What a key says of the response cache: `ttl` in seconds and `pool` where it names them."""

    is_on: bool
    ttl: int | None = None
    pool: str | None = None

    def to_context(self) -> str:
        """`on:<ttl>:<pool>`, without what is not named; `off` is another thing than nothing."""
        return f"on:{_text(self.ttl)}:{self.pool or ''}" if self.is_on else "off"

    @classmethod
    def from_context(cls, text: str | None) -> "KeyCache | None":
        """Read `off` or `on:<ttl>:<pool>`, both of which may be empty; None when the key says nothing.

        Raises ValueError: answers must not be shared by a policy that is not understood.
        """
        if not text:
            return None
        mode, ttl, pool = text.split(":") if ":" in text else (text, "", "")
        if mode not in ("on", "off"):
            raise ValueError("a cache policy that is neither on nor off")
        return cls(mode == "on", _count(ttl), pool or None)


_TEXTS = (
    *("client_id", "client_name", "key_id", "limits_id", "owner", "tags", "expires_at", "servers", "models"),
    *("rpm", "tpm", "parallel", "budget_day", "budget_month", "cache", "log_content"),
    "end_user",
)


class ClientKey(NamedTuple):
    """What the authorizer said of a key. `servers` and `models` are allow-lists; None allows all.

    A model is listed by its name, as `server/model`, or by the beginning of either with a `*` at its end.
    """

    client_id: str
    servers: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    key_id: str = ""
    name: str = ""
    owner: str | None = None
    tags: Mapping[str, str] = {}
    expires_at: int | None = None
    """Unix seconds. A door may remember a key for longer than it is good."""
    limits: Limits | None = None
    cache: KeyCache | None = None
    logs_content: bool = False
    """Whether its owner wants prompts and answers to be logged."""
    line: str = ""
    """The line of keys that it was rotated from and into: made once, never for another client of the same name."""
    end_user: str = ""
    """Who has signed in, as the ledger calls them; "" is for a client key. The limits are that user's alone."""

    def to_context(self) -> dict[str, str]:
        """The authorizer's context."""
        return {
            "client_id": self.client_id,
            "client_name": self.name,
            "key_id": self.key_id,
            "owner": self.owner or "",
            "tags": json.dumps(dict(self.tags), separators=(",", ":")) if self.tags else "",
            "expires_at": _text(self.expires_at),
            "servers": ",".join(self.servers or ()),
            "models": ",".join(self.models or ()),
            "cache": self.cache.to_context() if self.cache else "",
            "log_content": "on" if self.logs_content else "",
            "end_user": self.end_user,
            **(self.limits or Limits(self.line or self.key_id)).to_context(),
        }

    @classmethod
    def from_context(cls, context: Mapping[str, Any]) -> "ClientKey":
        """The inverse of `to_context`.

        Raises KeyError or ValueError: a context that is not understood is no leave to do anything.
        """
        texts = [context.get(name) for name in _TEXTS]
        if not context["client_id"] or not all(text is None or isinstance(text, str) for text in texts):
            raise ValueError("a context that holds something else than texts")
        return cls(
            client_id=context["client_id"],
            servers=_allowed(context.get("servers")),
            models=_allowed(context.get("models")),
            key_id=context.get("key_id") or "",
            name=context.get("client_name") or "",
            owner=context.get("owner") or None,
            tags=_tags(context.get("tags")),
            expires_at=_whole(context["expires_at"]) if context.get("expires_at") else None,
            limits=Limits.from_context(context),
            cache=KeyCache.from_context(context.get("cache")),
            logs_content=context.get("log_content") == "on",
            line=context.get("limits_id") or context.get("key_id") or "",
            end_user=context.get("end_user") or "",
        )

    def to_event(self) -> "ClientData":
        """The `data.client` object of an event."""
        return {"key_id": self.key_id, "name": self.name, "owner": self.owner, "tags": dict(self.tags)}

    def may_use(self, server: "Server") -> bool:
        """Whether the key is good for `server`."""
        return self.servers is None or server.name in self.servers

    def may_ask_for(self, server: "Server", model: str, servers: Container[str], alias: str = "") -> bool:
        """Whether the key is good for `model` of `server`, which the client may have called by an `alias`.

        A limited key is not good for a request that names none. What is listed under the name of one of `servers` is
        good for that server alone.
        """
        if self.models is None:
            return True
        names = [name for name in (model, alias) if name]
        for listed in self.models:
            owner, slash, rest = listed.partition("/")
            wanted = rest if slash and owner == server.name else listed
            if slash and owner in servers and owner != server.name:
                continue
            if any(name == wanted or (wanted.endswith("*") and name.startswith(wanted[:-1])) for name in names):
                return True
        return False


def _text(number: int | Decimal | None) -> str:
    return "" if number is None else f"{Decimal(number).normalize():f}"


def _allowed(names: str | None) -> tuple[str, ...] | None:
    return tuple(names.split(",")) if names else None


def _tags(text: str | None) -> dict[str, str]:
    """Tags only describe: such as cannot be read are none."""
    try:
        tags = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return {}
    return tags if isinstance(tags, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def _count(text: str | None) -> int | None:
    if not text:
        return None
    if not (count := _whole(text)):
        raise ValueError("a limit that lets nothing through")
    return count


def _whole(text: str) -> int:
    if not _are_digits(text) or len(text) > _MOST_DIGITS:
        raise ValueError("a number that is not written in plain digits")
    return int(text)


def _money(text: str | None) -> Decimal | None:
    if not text:
        return None
    if not (amount := amount_of(text)):
        raise ValueError("a budget of nothing")
    return amount


def _are_digits(text: str) -> bool:
    return text.isascii() and text.isdecimal()
