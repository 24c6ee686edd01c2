"""What makes two requests equal: the key of an answer in the response cache. Pure.

    SHA-256 of  kind, version, scope, namespace, server, url, path, query, beta, body    each with its length before it

The body is the whole JSON that the client sent, in one certain form: keys sorted, no blanks, numbers as they were
written. Its model is the one that the server is asked for. Its one rule: what is not in the short list below is in the
key, also what nobody has heard of yet; a parameter too many costs a miss, one too few another's answer.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, cast

_VERSION = "1"
WITHOUT_INFLUENCE = frozenset(
    {
        *("user", "safety_identifier", "metadata"),
        *("prompt_cache_key", "prompt_cache_retention"),
        "stream",
    }
)
"""Fields of the body that do not change an answer: who asks, notes, hints for the server's own prompt cache, and the
form of the answer. Of `stream_options` the same holds for `include_usage` alone, which the proxy adds and hides."""


class UnclearBodyError(ValueError):
    """Of this body two readers might make different things: somewhere in it a name stands twice."""


@dataclass(frozen=True, slots=True)
class Identity:
    """What, besides its body, makes a request the one it is. `url` is that of the server, `beta` a header."""

    scope: str
    namespace: str
    server: str
    url: str
    path: str
    query: str
    beta: str


@dataclass(frozen=True, slots=True)
class Keys:
    """The key of an answer, and another hash of the same that is kept with it. Both are 64 hexadecimal digits."""

    key: str
    digest: str


def keys_of(identity: Identity, body: bytes, model: str | None) -> Keys:
    """The keys of a request with this JSON body. Raises UnclearBodyError."""
    parts = [_VERSION, *astuple(identity), canonical(body, model)]
    return Keys(_hash(["key", *parts]), _hash(["digest", *parts]))


def canonical(body: bytes, model: str | None) -> str:
    """The one form of all bodies that ask for the same. ASCII."""
    fields, is_exact = _read(body)
    kept = {name: value for name, value in fields.items() if name not in WITHOUT_INFLUENCE}
    if isinstance(options := kept.get("stream_options"), dict):
        others = {name: value for name, value in _object(options).items() if name != "include_usage"}
        kept["stream_options"] = others
        if not others:
            del kept["stream_options"]
    if model:
        kept["model"] = model
    try:
        return json.dumps(kept, sort_keys=True, separators=(",", ":")) if is_exact else _written(kept)
    except RecursionError as error:
        raise UnclearBodyError("nested too deeply") from error


class _Number:
    """A number that Python's floats would round, or write in another way than it was written."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def _read(body: bytes) -> tuple[dict[str, Any], bool]:
    """The fields, and whether `json.dumps` gives every number as it was written."""
    is_exact = True

    def number(text: str) -> float | _Number:
        nonlocal is_exact
        value = float(text)
        if repr(value) == text:
            return value
        is_exact = False
        return _Number(text)

    try:
        fields = json.loads(body.decode(), object_pairs_hook=_unique, parse_float=number)
    except RecursionError as error:
        raise UnclearBodyError("nested too deeply") from error
    return fields, is_exact


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise UnclearBodyError("a name stands twice")
    return fields


def _written(value: Any) -> str:
    """As `json.dumps` with sorted keys and no blanks, numbers as they were written."""
    if isinstance(value, dict):
        return (
            "{"
            + ",".join(f"{json.dumps(name)}:{_written(each)}" for name, each in sorted(_object(value).items()))
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(_written, cast("list[Any]", value))) + "]"
    return value.text if isinstance(value, _Number) else json.dumps(value)


def _object(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value)


def _hash(parts: list[str]) -> str:
    hashed = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogatepass")
        hashed.update(len(data).to_bytes(8, "big"))
        hashed.update(data)
    return hashed.hexdigest()
