"""Reads a client key from the key table, as the value that API Gateway and the proxy receive. Pure.

One rule: a damaged item is no client key. It is never read in part, because the missing part might be a limit.
"""

from collections.abc import Callable, Mapping
from typing import Any

from openai_proxy.client_keys import CachePolicy, key_id_of, limits_in, read_attributes, read_team, team_key
from openai_proxy.key_context import ClientKey, KeyCache
from openai_proxy.key_limits import Limits


class DamagedKeyError(Exception):
    """The item of a key has attributes that are missing or wrong. `problems` names them, but never what they hold."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("The item of a client key is damaged.")
        self.problems = problems


class UnknownTeamError(Exception):
    """A key or a plan names a team that does not exist. Nobody is let in, because the team might have had limits."""

    def __init__(self, team: str) -> None:
        super().__init__(f"There is no team '{team}'.")


def client_key_of(item: Mapping[str, Any]) -> ClientKey:
    """Read an item of the table, in plain values. Raises DamagedKeyError."""
    values, problems = read_attributes(item)
    if problems:
        raise DamagedKeyError(problems)
    key_id = key_id_of(values["key_hash"])
    line = values.get("limits_id") or key_id
    limits = limits_in(values)
    return ClientKey(
        client_id=values["client_id"],
        servers=values.get("servers"),
        models=values.get("models"),
        key_id=key_id,
        name=values["name"],
        owner=values.get("owner"),
        tags=values.get("tags") or {},
        expires_at=values.get("expires_at"),
        limits=Limits(line, **limits) if limits else None,
        cache=_policy(values.get("cache")),
        logs_content=values.get("log_content") is True,
        resumable=values.get("resumable") is True,
        on_disconnect=values.get("on_disconnect") or "",
        line=line,
        team=values.get("team") or "",
    )


def with_team(client: ClientKey, find: Callable[[str], Mapping[str, Any] | None]) -> ClientKey:
    """The key with the limits of its team, which `find` reads. Raises UnknownTeamError, DamagedKeyError."""
    if not client.team:
        return client
    item = find(team_key(client.team))
    if item is None:
        raise UnknownTeamError(client.team)
    values, problems = read_team(client.team, item)
    if problems:
        raise DamagedKeyError([f"team {client.team}: {problem}" for problem in problems])
    return client._replace(team_limits=Limits.of_team(client.team, limits_in(values)))


def _policy(cache: CachePolicy | None) -> KeyCache | None:
    if cache is None:
        return None
    return KeyCache(is_on=True, ttl=cache.ttl, pool=cache.pool) if cache.mode == "on" else KeyCache(is_on=False)
