"""`ClientKey`: who is calling and what they may call, and the context in which the authorizer tells the proxy. Pure.

Its one rule: one context at both doors. It holds texts alone, because API Gateway passes nothing else on, and "" for
what is not set; the authorizer writes it with `to_context`, and the proxy reads with `from_context` what it wrote.
"""

import json
from collections.abc import Container, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from openai_proxy.key_limits import Limits, count_of, team_limits_id, text_of, whole_of

if TYPE_CHECKING:  # the authorizer knows neither
    from openai_proxy.events.types import ClientData
    from openai_proxy.servers import Server


class KeyCache(NamedTuple):
    """What a key says of the response cache: `ttl` in seconds and `pool` where it names them."""

    is_on: bool
    ttl: int | None = None
    pool: str | None = None

    def to_context(self) -> str:
        """`on:<ttl>:<pool>`, each part empty if it is not set; or `off`, which differs from saying nothing."""
        return f"on:{text_of(self.ttl)}:{self.pool or ''}" if self.is_on else "off"

    @classmethod
    def from_context(cls, text: str | None) -> "KeyCache | None":
        """Read `off` or `on:<ttl>:<pool>`, both of which may be empty; None when the key says nothing.

        Raises ValueError, because answers must not be shared under a policy that is not understood.
        """
        if not text:
            return None
        mode, ttl, pool = text.split(":") if ":" in text else (text, "", "")
        if mode not in ("on", "off"):
            raise ValueError("a cache policy that is neither on nor off")
        return cls(mode == "on", count_of(ttl), pool or None)


_OF_TEAM = "team_"
"""What the limits of a team are called in the context begins with it. Only a key with a team has them."""
_TEXTS = (
    *("client_id", "client_name", "key_id", "limits_id", "owner", "tags", "expires_at", "servers", "models"),
    *("rpm", "tpm", "parallel", "budget_day", "budget_month", "cache", "log_content", "resumable", "on_disconnect"),
    *("end_user", "budget_week", "budget_total", "reset_weekday", "reset_day", "team", "guards"),
)
CACHE_ONLY = "cache_only"


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
    resumable: bool = False
    """Whether its streams can be read again, where its client does not say."""
    on_disconnect: str = ""
    """What becomes of a resumable stream that nobody is there to read: `finish` or `stop`; "": what its server says."""
    line: str = ""
    """The line of keys that it was rotated from and into: made once, never for another client of the same name."""
    end_user: str = ""
    """Who has signed in, as the ledger calls them; "" is for a client key. The limits are that user's alone."""
    team: str = ""
    team_limits: Limits | None = None
    """What all of the team's keys and users may take together."""
    guards: str = ""
    """"on" where guards watch; "cache_only" where one of them lets it have answers of the response cache alone."""

    @property
    def limits_to_take(self) -> Limits | None:
        """What a request takes of: the key's limits and its team's together, or those that there are."""
        shared = self.team_limits
        if shared is not None and self.end_user:
            shared = shared._replace(is_users_team=True)
        return self.limits._replace(shared=shared) if self.limits and shared else self.limits or shared

    def to_context(self) -> dict[str, str]:
        """The authorizer's context."""
        return {
            "client_id": self.client_id,
            "client_name": self.name,
            "key_id": self.key_id,
            "owner": self.owner or "",
            "tags": json.dumps(dict(self.tags), separators=(",", ":")) if self.tags else "",
            "expires_at": text_of(self.expires_at),
            "servers": ",".join(self.servers or ()),
            "models": ",".join(self.models or ()),
            "cache": self.cache.to_context() if self.cache else "",
            "log_content": "on" if self.logs_content else "",
            "resumable": "on" if self.resumable else "",
            "on_disconnect": self.on_disconnect,
            "end_user": self.end_user,
            **(self.limits or Limits(self.line or self.key_id)).to_context(),
            **(self._team_context() if self.team else {}),
            **({"guards": self.guards} if self.guards else {}),
        }

    def _team_context(self) -> dict[str, str]:
        limits = (self.team_limits or Limits("")).to_context()
        return {"team": self.team} | {_OF_TEAM + name: text for name, text in limits.items() if name != "limits_id"}

    @classmethod
    def from_context(cls, context: Mapping[str, Any]) -> "ClientKey":
        """The inverse of `to_context`.

        Raises KeyError or ValueError: a context that is not understood allows nothing.
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
            expires_at=whole_of(context["expires_at"]) if context.get("expires_at") else None,
            limits=Limits.from_context(context),
            cache=KeyCache.from_context(context.get("cache")),
            logs_content=context.get("log_content") == "on",
            resumable=context.get("resumable") == "on",
            on_disconnect=context.get("on_disconnect") or "",
            line=context.get("limits_id") or context.get("key_id") or "",
            end_user=context.get("end_user") or "",
            team=context.get("team") or "",
            team_limits=_team_limits(context),
            guards=_guards(context.get("guards")),
        )

    def to_event(self) -> "ClientData":
        """The `data.client` object of an event."""
        return {"key_id": self.key_id, "name": self.name, "owner": self.owner, "tags": dict(self.tags)}

    def may_use(self, server: "Server") -> bool:
        """Whether the key may use `server`."""
        return self.servers is None or server.name in self.servers

    def may_ask_for(self, server: "Server", model: str, servers: Container[str], alias: str = "") -> bool:
        """Whether the key may use `model` of `server`, which the client may have called by an `alias`.

        A key with a list of models may not make a request that names none. A model that is listed under the name of one
        of `servers` is allowed at that server alone.
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


def _team_limits(context: Mapping[str, Any]) -> Limits | None:
    """Raises ValueError."""
    name = context.get("team")
    if not name:
        return None
    given = {each.removeprefix(_OF_TEAM): text for each, text in context.items() if each.startswith(_OF_TEAM)}
    if not all(text is None or isinstance(text, str) for text in given.values()):
        raise ValueError("a context that holds something else than texts")
    limits = Limits.from_context(given | {"limits_id": team_limits_id(name)})
    return limits and limits._replace(team=name)


def _guards(text: str | None) -> str:
    """Raises ValueError, because a restriction by a guard must not be ignored."""
    if text not in (None, "", "on", CACHE_ONLY):
        raise ValueError("guards that are not understood")
    return text or ""


def _allowed(names: str | None) -> tuple[str, ...] | None:
    return tuple(names.split(",")) if names else None


def _tags(text: str | None) -> dict[str, str]:
    """Tags only describe, so tags that cannot be read count as none."""
    try:
        tags = json.loads(text) if text else None
    except (ValueError, RecursionError):
        return {}
    return tags if isinstance(tags, dict) else {}  # pyright: ignore[reportUnknownVariableType]
