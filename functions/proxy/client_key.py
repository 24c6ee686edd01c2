"""`ClientKey`: who is calling, and what they may call. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from openai_proxy.servers import Server


@dataclass(frozen=True, slots=True)
class ClientKey:
    """What the authorizer said of a key. `servers` and `models` are allow-lists; None allows all.

    A model is listed by its name, as `server/model`, or by the beginning of either with a `*` at its end.
    """

    client_id: str
    servers: frozenset[str] | None = None
    models: frozenset[str] | None = None

    @classmethod
    def from_context(cls, context: Mapping[str, Any]) -> "ClientKey":
        """Read the authorizer's context: texts, because API Gateway passes nothing else on. Raises KeyError."""
        return cls(context["client_id"], _allowed(context.get("servers")), _allowed(context.get("models")))

    def may_use(self, server: Server) -> bool:
        """Whether the key is good for `server`."""
        return self.servers is None or server.name in self.servers

    def may_ask_for(self, server: Server, model: str, alias: str = "") -> bool:
        """Whether the key is good for `model` of `server`, which the client may have called by an `alias`.

        A limited key is not good for a request that names none.
        """
        if self.models is None:
            return True
        names = [name for name in (model, alias) if name]
        names += [f"{server.name}/{name}" for name in names]
        beginnings = tuple(listed[:-1] for listed in self.models if listed.endswith("*"))
        return any(name in self.models or name.startswith(beginnings) for name in names)


def _allowed(names: str | None) -> frozenset[str] | None:
    return frozenset(names.split(",")) if names else None
