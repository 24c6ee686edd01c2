"""`GET /v1/models` without a server: the models of all servers that a key may use, as `server/model`; for a pool, the
pool's models.

Its one rule: a server that does not answer does not hold up the others. All are asked at once, and their answers are
remembered for a while.
"""

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from openai_proxy.key_context import ClientKey
from openai_proxy.servers import Server

from proxy.aws.client import AwsError
from proxy.clock import lasting
from proxy.errors import ClientError, UpstreamError
from proxy.http.transport import ConnectionFailedError, HttpTransport
from proxy.http.wire import Outgoing
from proxy.json_shapes import array_of, loads_or_none, object_of
from proxy.request.parse import Target
from proxy.request.routing import asked_of_members, reached, server_not_allowed
from proxy.timeline import Timeline
from proxy.upstream.provider_tokens import ProviderTokens, TokenNotFoundError

_PATH = "/models"
_KEPT = 300.0
_KEPT_FAILURE = 30.0
_PATIENCE = 4.0
"""Seconds for asking one server."""
_MOST_MODELS = 2000
_LONGEST_LIST = 8 * 1024 * 1024
_DEEPEST = 16
"""Levels of an entry that are passed on."""
_NAMES = ("id", "model", "name")
"""The fields of an entry that may name its model; the first of them counts."""

NameFor = Callable[[str], str | None]
"""By which name a key may ask for a model; None: by none."""


class _Listing(NamedTuple):
    """The models that a server listed, and until when that is remembered. `models` is None when the server could not be
    asked; `reason` says why.
    """

    until: float
    models: list[dict[str, Any]] | None
    reason: str | None = None


class ModelList:
    """The models of all servers."""

    def __init__(
        self,
        servers: Mapping[str, Server],
        transport: HttpTransport,
        tokens: ProviderTokens,
        clock: Callable[[], float] = lasting,
    ) -> None:
        self._servers = servers
        self._transport = transport
        self._tokens = tokens
        self._clock = clock
        self._known: dict[str, _Listing] = {}

    def document(self, target: Target, key: ClientKey, timeline: Timeline) -> bytes:
        """The list, or the model that the path names, as JSON. If the path names a pool, the list is the pool's.

        Raises ClientError (403, 404).
        """
        pool = self._servers[target.server] if target.server else None
        if pool and not key.may_use(pool):
            raise server_not_allowed(pool)
        meant = [pool] if pool else [server for server in self._servers.values() if key.may_use(server)]
        asked = {name: self._servers[name] for server in meant for name in server.pool or (server.name,)}
        self._ask([server for server in asked.values() if self._is_stale(server)], timeline)
        listings = {name: self._known[name] for name in asked}
        models: dict[str, dict[str, Any]] = {}
        for server in meant:
            prefix = "" if pool else f"{server.name}/"
            found = (
                _models_of_pool(server, prefix, listings, key, self._servers)
                if server.pool
                else _models(server, listings[server.name], key, self._servers)
            )
            models |= {model["id"]: model for model in found}
        wanted = unquote(target.path.removeprefix(_PATH).removeprefix("/"))
        if not wanted:
            unavailable = [
                {"server": name, "reason": listing.reason} for name, listing in listings.items() if listing.reason
            ]
            return json.dumps({"object": "list", "data": list(models.values()), "unavailable": unavailable}).encode()
        if wanted not in models:
            raise ClientError(404, "model_not_found", f"There is no model '{wanted[:128]}' that this key may use.")
        return json.dumps(models[wanted]).encode()

    def _is_stale(self, server: Server) -> bool:
        listing = self._known.get(server.name)
        return listing is None or listing.until <= self._clock()

    def _ask(self, servers: Sequence[Server], timeline: Timeline) -> None:
        """Ask all `servers` at once, each in a thread. Their tokens are looked up before, because AWS is called over
        one connection.
        """
        from threading import Thread  # noqa: PLC0415  # no other request needs it

        threads: list[Thread] = []
        timeline.wait()
        for server in servers:
            self._known[server.name] = self._failure("upstream_timeout")
            try:
                token = self._tokens.find(server)
            except (AwsError, TokenNotFoundError) as error:
                is_set_up = isinstance(error, AwsError)
                self._known[server.name] = self._failure("token_unavailable" if is_set_up else "server_not_configured")
                continue
            threads.append(Thread(target=self._ask_one, args=(server, token, timeline), daemon=True))
            threads[-1].start()
        latest = time.monotonic() + 2 * _PATIENCE
        for thread in threads:
            thread.join(max(0.0, latest - time.monotonic()))
        timeline.heard()

    def _ask_one(self, server: Server, token: str, timeline: Timeline) -> None:
        headers = {"user-agent": "openai-proxy", "accept": "application/json", "accept-encoding": "identity"}
        url = f"{server.url}{_PATH}?{server.query}" if server.query else server.url + _PATH
        transport, started = self._transport.sibling(), timeline.now()
        status, reason = None, None
        try:
            headers = self._tokens.signed_in(server, token, Outgoing("GET", url, headers))
            status, _, body = transport.get(url, headers, _PATIENCE)
            listed = array_of(object_of(loads_or_none(body)).get("data")) if status == 200 else []
            found = [object_of(_bounded(model)) for model in listed[:_MOST_MODELS]]
            self._known[server.name] = _Listing(self._clock() + (_KEPT if status == 200 else _KEPT_FAILURE), found)
        except (ConnectionFailedError, AwsError):
            reason = "upstream_unreachable"
            self._known[server.name] = self._failure(reason)
        finally:
            transport.close()
        timeline.attempted(server.name, status, reason, timeline.now() - started)

    def _failure(self, reason: str) -> _Listing:
        return _Listing(self._clock() + _KEPT_FAILURE, None, reason)


def _bounded(value: Any, depth: int = 0) -> Any:
    """`value` without parts that are nested so deeply that the list could not be written as JSON."""
    if depth >= _DEEPEST or not isinstance(value, dict | list):
        return None if isinstance(value, dict | list) else value
    if isinstance(value, list):
        return [_bounded(each, depth + 1) for each in array_of(value)]
    return {name: _bounded(each, depth + 1) for name, each in object_of(value).items()}


def allowed_models(body: Iterable[bytes], server: str, name_for: NameFor) -> bytes:
    """The list of models that `server` answered with, in its own form, without those that a key may not ask for.

    Raises UpstreamError if the answer is no list: nobody knows what else it might reveal.
    """
    held = bytearray()
    for piece in body:
        held += piece
        if len(held) > _LONGEST_LIST:
            break
    kept = _allowed_part(loads_or_none(held) if len(held) <= _LONGEST_LIST else None, name_for)
    with contextlib.suppress(RecursionError):  # it may be nested so deeply that it can be read, but not written
        if kept is not None:
            return json.dumps(kept).encode()
    message = f"The server '{server}' answered without a list of models."
    raise UpstreamError(502, "upstream_no_answer", message, upstream_status=200)


def _allowed_part(document: Any, name_for: NameFor) -> Any:
    """The part that the key may see: of a bare list its allowed entries, of an object its filtered lists and the fields
    that name no model. None if there is no list.
    """
    if isinstance(document, list):
        return _allowed_entries(array_of(document), name_for)
    fields = object_of(document)
    lists = {
        name: _allowed_entries(array_of(value), name_for) for name, value in fields.items() if isinstance(value, list)
    }
    if not lists:
        return None
    return {name: lists.get(name, value) for name, value in fields.items() if name in lists or _tells_no_model(value)}


def _allowed_entries(entries: Sequence[Any], name_for: NameFor) -> list[Any]:
    named = [(entry, name) for entry in entries if (name := _name_of(entry))]
    return [_renamed(entry, name, new) for entry, name in named if (new := name_for(name))]


def _renamed(entry: Any, name: str, new: str) -> Any:
    if isinstance(entry, str):
        return new
    return (
        entry
        if name == new
        else {field: new if field in _NAMES and value == name else value for field, value in entry.items()}
    )


def _name_of(entry: Any) -> str | None:
    names = [entry, *map(object_of(entry).get, _NAMES)]
    return next((name for name in names if name and isinstance(name, str)), None)


def _tells_no_model(value: Any) -> bool:
    """Whether a field beside the lists names no model. `last_id`, for example, names one."""
    return value == "list" or value is None or isinstance(value, bool | int | float)


def _models(server: Server, listing: _Listing, key: ClientKey, servers: Mapping[str, Server]) -> list[dict[str, Any]]:
    """The models of one server under the names for `/v1/...`: what it lists, its default, its aliases."""
    if listing.models is None:
        return []
    found = {model["id"]: model for model in listing.models if isinstance(model.get("id"), str)}
    if server.model:
        found.setdefault(server.model, {})
    entries = [
        {"created": 0, "owned_by": server.name, **model, "id": f"{server.name}/{name}", "object": "model"}
        for name, model in found.items()
        if key.may_ask_for(server, name, servers)
    ]
    return entries + [
        {"id": alias, "object": "model", "created": 0, "owned_by": server.name}
        for alias, name in server.aliases.items()
        if key.may_ask_for(server, name, servers, alias)
        and server is reached(alias, [each for each in servers.values() if alias in each.aliases], key, servers)
    ]


def _models_of_pool(
    pool: Server, prefix: str, listings: Mapping[str, _Listing], key: ClientKey, servers: Mapping[str, Server]
) -> list[dict[str, Any]]:
    """The models of a pool: names that every member can serve, whichever of them a call reaches.

    Those are the members' aliases and defaults, and the models that all members list that could be asked.
    """
    heard = [(servers[name], models) for name in pool.pool if (models := listings[name].models) is not None]
    lists = [dict.fromkeys(name for model in models if isinstance(name := model.get("id"), str)) for _, models in heard]
    own = dict.fromkeys(name for server, _ in heard for name in (*server.aliases, server.model) if name)
    common = (name for name in (lists[0] if lists else ()) if all(name in each for each in lists))
    return [
        {"id": prefix + name, "object": "model", "created": 0, "owned_by": pool.name}
        for name in dict.fromkeys((*own, *common))
        if asked_of_members(pool, name, key, servers)
    ]
