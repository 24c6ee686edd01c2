"""The servers that a request may go to, and the model that each is asked for. Pure, apart from the chance that is
passed in.

A path names its server (`/{server}/v1/…`); without one (`/v1/…`) the model does: as `server/model`, or as an alias. A
pool stands for its members. Its one rule: clients can choose only among the servers of the file that their key allows.
"""

import random
from collections.abc import Callable, Container, Mapping, Sequence
from typing import NamedTuple

from openai_proxy.key_context import ClientKey
from openai_proxy.servers import Server

from proxy.errors import ClientError, NotAllowedError
from proxy.request.body import RequestBody
from proxy.request.parse import Target

_SHOWN = 128


class Candidate(NamedTuple):
    """A server that may be asked. `replacement` is the model that it is asked for; "" for the one that the client
    named.
    """

    server: Server
    replacement: str = ""


class Routes:
    """The servers of the file, by the names that clients use. `chance` gives numbers from 0 to 1."""

    def __init__(self, servers: Mapping[str, Server], chance: Callable[[], float] = random.random) -> None:
        self._servers = servers
        self._chance = chance
        self.pools = frozenset(name for name, server in servers.items() if server.pool)
        self._by_alias: dict[str, list[Server]] = {}
        for server in servers.values():
            for alias in server.aliases:
                self._by_alias.setdefault(alias, []).append(server)

    def candidates(self, target: Target, body: RequestBody, key: ClientKey) -> list[Candidate]:
        """The server that the request is for, then those of its fallbacks that the key may use. Raises ClientError
        (4xx).
        """
        model = body.model
        if target.server is None:
            server, name = self._by_model(model, key)
        else:
            server, name = self._by_name(target.server), model or ""
        if not key.may_use(server):
            raise server_not_allowed(server)
        if server.pool:
            return self._of_pool(server, name, body, key)
        if key.models is not None and body.looks_up is not None:
            return [self._looked_up(server, body.looks_up, key)]
        asked = server.aliases.get(name, name) or (server.model if body.takes_default else "")
        alias = name if name in server.aliases else ""
        is_limited = key.models is not None
        if is_limited and (not body.is_for_a_model or body.names_another_model):
            raise _not_in_model_alone()
        if not key.may_ask_for(server, asked, self._servers, alias):
            raise _not_allowed(asked)
        replacement = asked if model and asked != model else ""
        return [Candidate(server, replacement), *self._fallbacks(server, name, body, key)]

    def _of_pool(self, pool: Server, name: str, body: RequestBody, key: ClientKey) -> list[Candidate]:
        """The members that the key may ask, then the pool's fallbacks. Raises ClientError."""
        from proxy.request.pools import conversation_of, in_turn  # noqa: PLC0415  # most stacks have no pool

        if not (body.is_posted and (body.model or body.takes_default)):
            raise _not_for_a_pool(pool)
        if key.models is not None and (not body.is_for_a_model or body.names_another_model):
            raise _not_in_model_alone()
        conversation = conversation_of(body)
        seed = f"{key.client_id}\0{conversation}" if conversation else repr(self._chance())
        asked = asked_of_members(pool, name, key, self._servers)
        if not asked:
            raise _not_allowed(name)
        order = [member for member in in_turn(pool.pool, seed) if member in asked]
        found = [Candidate(self._servers[member], _replacement(asked[member], body)) for member in order]
        return found + self._fallbacks(pool, name or pool.model, body, key)

    def _fallbacks(self, server: Server, name: str, body: RequestBody, key: ClientKey) -> list[Candidate]:
        """The server's fallbacks that the key may use; none if the request is about something that only this server
        has.

        A fallback does not know the first server's model: it is asked for its own model with the same alias, or for its
        default.
        """
        if not server.fallbacks or _is_bound(body):
            return []
        found: list[Candidate] = []
        for other in (self._servers[each] for each in server.fallbacks):
            asked, alias = other.aliases.get(name, other.model or name), name if name in other.aliases else ""
            if key.may_use(other) and key.may_ask_for(other, asked, self._servers, alias):
                found.append(Candidate(other, _replacement(asked, body)))
        return found

    def name_for(self, model: str, server: Server, key: ClientKey) -> str | None:
        """The name by which a key may ask for a `model` that `server` lists: the model's own, or else an alias; None if
        it may not.

        Gemini lists its models as `models/…`, but is asked for them without that.
        """
        if any(key.may_ask_for(server, name, self._servers) for name in (model, model.removeprefix("models/"))):
            return model
        aliases = [alias for alias, name in server.aliases.items() if name == model]
        return next((alias for alias in aliases if key.may_ask_for(server, model, self._servers, alias)), None)

    def _looked_up(self, server: Server, model: str, key: ClientKey) -> Candidate:
        """The server that is asked about its models, without fallbacks: their models have other names."""
        if model and self.name_for(model, server, key) != model:
            raise _not_allowed(model)
        return Candidate(server)

    def _by_name(self, name: str) -> Server:
        if name not in self._servers:
            raise ClientError(404, "unknown_server", f"There is no server '{name[:64]}' at this proxy.")
        return self._servers[name]

    def _by_model(self, model: str | None, key: ClientKey) -> tuple[Server, str]:
        """The server that a model's name leads to, and the model's name there."""
        if not model:
            message = "Name the server: as 'server/model' in the model, or in the path as /{server}/v1/...."
            raise ClientError(400, "model_required", message)
        prefix, _, rest = model.partition("/")
        if rest and prefix in self._servers:
            return self._servers[prefix], rest
        if model in self._by_alias:
            return reached(model, self._by_alias[model], key, self._servers), model
        message = f"There is no model '{model[:_SHOWN]}' at this proxy. GET /v1/models lists them, as 'server/model'."
        raise ClientError(404, "model_not_found", message)


def reached(alias: str, servers: Sequence[Server], key: ClientKey, names: Container[str]) -> Server:
    """Of `servers`, which have this `alias`, the one that a request of `key` goes to: the first that the key may use.

    `names` are the names of all servers.
    """
    good = (s for s in servers if key.may_use(s) and key.may_ask_for(s, s.aliases[alias], names, alias))
    return next(good, servers[0])


def asked_of_members(pool: Server, name: str, key: ClientKey, servers: Mapping[str, Server]) -> dict[str, str]:
    """The members of `pool` that `key`, which may use the pool, may ask for `name`; "" stands for no name.

    A member's model is allowed by its name at the member, or by its name at the pool.
    """
    from proxy.request.pools import model_at  # noqa: PLC0415  # most stacks have no pool

    members, name, found = [servers[member] for member in pool.pool], name or pool.model, dict[str, str]()
    for member in members:
        asked, alias = model_at(member, name, members), name if name in member.aliases else ""
        if any(key.may_ask_for(server, asked, servers, alias) for server in (member, pool)):
            found[member.name] = asked
    return found


def _is_bound(body: RequestBody) -> bool:
    from proxy.request.kept import is_bound  # noqa: PLC0415  # most servers have no fallback

    return is_bound(body)


def server_not_allowed(server: Server) -> ClientError:
    """The refusal of a key that may not use `server`."""
    message = f"This client key may not use the server '{server.name}'."
    return NotAllowedError("server_not_allowed", message)


def _not_for_a_pool(pool: Server) -> ClientError:
    message = (
        f"'{pool.name}' is a pool: it takes POST requests to a model. What a server keeps is found where it was made: "
        "call /{server}/v1/... of the server that x-served-by named."
    )
    return ClientError(400, "not_for_a_pool", message)


def _not_allowed(model: str) -> ClientError:
    message = f"This client key may not use the model '{model[:_SHOWN]}'."
    return NotAllowedError("model_not_allowed", message)


def _not_in_model_alone() -> ClientError:
    message = (
        "This client key may use certain models only: a request has to name one of them in 'model', and nowhere else."
    )
    return NotAllowedError("model_not_allowed", message)


def _replacement(asked: str, body: RequestBody) -> str:
    """`asked`, unless the client has named it, or names no model and needs none."""
    return asked if asked != body.model and (body.model or body.takes_default) else ""
