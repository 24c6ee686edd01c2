"""The options of a server besides url, token and model. Pure.

Values come as YAML's scalars were written, as texts. Its one rule: a value that is not understood is refused, with its
remedy.
"""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from openai_proxy.servers.option_error import OptionError
from openai_proxy.servers.sign_in import auth_of, headers_of, query_of
from openai_proxy.yaml_files import is_number

_MOST_RETRIES = 5
_LONGEST = 900.0
"""Seconds: no invocation lives longer."""
_MOST_FAILURES = 1000
_LONGEST_NAME = 128
_MOST_MEMBERS = 32
_HEAVIEST = 1000
_POOL = re.compile(r"[A-Za-z0-9_.-]{1,64}")
IGNORABLE = ("user", "safety_identifier", "metadata")
"""Fields of a body that say who asks. They are in the key of a cached answer unless `ignore` takes them out."""
KEEPABLE = ("stored", "searches", "references", "private")
"""What the response cache keeps only where `keep` says so; `docs/cache.md` says what each is."""


class Timers(NamedTuple):
    """Seconds that a server may take; None: what the deployment's parameters say."""

    connect: float | None = None
    """Until there is a connection."""
    first_byte: float | None = None
    """From the request to the status of the answer."""
    idle: float | None = None
    """Between two pieces of the answer."""
    keep_alive: float | None = None
    """Until a client is told, in the middle of a stream, that the server is still at work."""
    total: float | None = None
    """From the request to the end of the answer; None: until the invocation's own deadline."""


class Breaker(NamedTuple):
    """After `failures` in a row the server is not asked for `seconds`. No `failures`: it is always asked."""

    failures: int = 5
    seconds: float = 20.0


class Caching(NamedTuple):
    """Answers of a server may come from the response cache. `ttl` is in seconds; a `pool` is shared by all clients."""

    ttl: int = 3600
    pool: str | None = None
    any_temperature: bool = False
    """Whether answers are kept too that another try would give differently: those of a temperature above 0."""
    ignore: frozenset[str] = frozenset()
    """The members of `IGNORABLE` that change no answer of this server."""
    keep: frozenset[str] = frozenset()
    """The members of `KEEPABLE` that are kept all the same."""


def read_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options in `values` as fields of a Server. Raises OptionError."""
    return {key: _READERS[key](value) for key, value in values.items() if value is not None}


def weights_of(value: Any) -> dict[str, int]:
    """Read `pool`: its members and their weights. Raises OptionError."""
    remedy = (
        f"write {{name: weight, ...}}, 1 to {_MOST_MEMBERS} servers, each with a whole number from 1 to {_HEAVIEST}"
    )
    given = _mapping("pool", value, remedy)
    if not 1 <= len(given) <= _MOST_MEMBERS:
        raise OptionError("pool", f"has {len(given)} members", remedy)
    for name, weight in given.items():
        if not _is_whole(weight, 1, _HEAVIEST):
            raise OptionError("pool", f"'{name[:_LONGEST_NAME]}' has no usable weight", remedy)
    return {name: int(weight) for name, weight in given.items()}


def _retries(value: Any) -> int:
    return _whole("retries", value, 0, _MOST_RETRIES)


def _fallbacks(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):  # pyright: ignore[reportUnknownVariableType]
        raise OptionError("fallbacks", "not a list of other servers", "write [name, other-name]")
    return tuple(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _aliases(value: Any) -> dict[str, str]:
    remedy = "write {alias: model, ...}; an alias has no '/' and at most 128 characters"
    for alias, model in _mapping("aliases", value, remedy).items():
        if not _is_name(alias) or "/" in alias or len(alias) > _LONGEST_NAME:
            raise OptionError("aliases", f"{alias[:_LONGEST_NAME]!r} cannot be an alias", remedy)
        if not isinstance(model, str) or not _is_name(model):
            raise OptionError("aliases", f"'{alias}' stands for no model", remedy)
    return dict(value)


def _is_name(text: str) -> bool:
    """Whether it is fit to be a model's name, in requests of clients and to servers."""
    return bool(text) and text.isprintable() and text.strip() == text


def _timeouts(value: Any) -> Timers:
    names = Timers._fields
    remedy = f"write {{{', '.join(f'{name}: seconds' for name in names)}}}, any of them"
    given = _mapping("timeouts", value, remedy)
    for name in given:
        if name not in names:
            raise OptionError("timeouts", f"there is no '{name}'", remedy)
    return Timers(**{name: _seconds("timeouts", text) for name, text in given.items()})


def _breaker(value: Any) -> Breaker:
    remedy = "write {failures: 5, seconds: 20}; no failures to switch it off"
    given = _mapping("breaker", value, remedy)
    if not set(given) <= {"failures", "seconds"}:
        raise OptionError("breaker", "has another key than failures and seconds", remedy)
    default = Breaker()
    return Breaker(
        _whole("breaker", given.get("failures", str(default.failures)), 0, _MOST_FAILURES),
        _seconds("breaker", given.get("seconds", str(default.seconds))),
    )


def _cache(value: Any) -> Caching:
    from openai_proxy.cache.answers import LONGEST_KEPT  # noqa: PLC0415  # most servers have no cache

    names = Caching._fields
    remedy = "write {ttl: 3600, pool: name, any_temperature: true, ignore: [user], keep: [searches]}, any of them"
    given = _mapping("cache", value, remedy)
    if wrong := sorted(given.keys() - set(names)):
        raise OptionError("cache", f"there is no '{wrong[0]}'", remedy)
    pool, any_temperature = given.get("pool"), given.get("any_temperature", "false")
    if pool is not None and not (isinstance(pool, str) and _POOL.fullmatch(pool)):
        raise OptionError("cache", "not a usable pool", "name it with up to 64 letters, digits, '_', '.' and '-'")
    if any_temperature not in ("true", "false"):
        raise OptionError("cache", "any_temperature is neither true nor false", remedy)
    return Caching(
        _whole("cache", given.get("ttl", str(Caching().ttl)), 1, LONGEST_KEPT),
        pool,
        any_temperature == "true",
        _some_of("ignore", given.get("ignore"), IGNORABLE),
        _some_of("keep", given.get("keep"), KEEPABLE),
    )


def _some_of(name: str, value: Any, known: tuple[str, ...]) -> frozenset[str]:
    """A list of some of the `known` words; none of them where there is no `value`."""
    if value is None:
        return frozenset()
    if not isinstance(value, list) or not all(word in known for word in value):  # pyright: ignore[reportUnknownVariableType]
        raise OptionError(
            "cache", f"{name} is not a list of known words", f"write {name}: [{', '.join(known)}], or fewer"
        )
    return frozenset(value)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _switch(key: str, remedy: str) -> Callable[[Any], bool]:
    def read(value: Any) -> bool:
        if value not in ("true", "false"):
            raise OptionError(key, "neither true nor false", remedy)
        return value == "true"

    return read


def _on_disconnect(value: Any) -> str:
    if value not in ("finish", "stop"):
        raise OptionError("on_disconnect", "neither finish nor stop", "write stop to end streams that nobody reads")
    return value


def _mapping(key: str, value: Any, remedy: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise OptionError(key, "not a mapping", remedy)
    return value  # pyright: ignore[reportUnknownVariableType]


def _whole(key: str, value: Any, least: int, most: int) -> int:
    if not _is_whole(value, least, most):
        raise OptionError(key, "not a usable number", f"write a whole number from {least} to {most}")
    return int(value)


def _is_whole(value: Any, least: int, most: int) -> bool:
    is_number = isinstance(value, str) and len(value) <= len(str(most)) and value.isascii() and value.isdecimal()
    return is_number and least <= int(value) <= most


def _seconds(key: str, value: Any) -> float:
    seconds = float(value) if is_number(value) else math.nan
    if not 0 < seconds <= _LONGEST:
        raise OptionError(key, f"'{value}' is not a usable time", f"write seconds, above 0 and up to {_LONGEST:.0f}")
    return seconds


_READERS: dict[str, Callable[[Any], Any]] = {
    "retries": _retries,
    "fallbacks": _fallbacks,
    "aliases": _aliases,
    "timeouts": _timeouts,
    "breaker": _breaker,
    "cache": _cache,
    "include_usage": _switch("include_usage", "write false for a server that refuses stream_options"),
    "resumable": _switch("resumable", "write true for streams that can be read again"),
    "on_disconnect": _on_disconnect,
    "auth": auth_of,
    "query": query_of,
    "headers": headers_of,
}
OPTIONS = tuple(_READERS)
"""The keys."""
