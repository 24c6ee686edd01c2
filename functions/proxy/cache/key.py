"""What makes two requests equal: the key of an answer in the response cache. Pure.

    SHA-256 of  kind, version, scope, namespace, server, method, url, headers, body    each with its length before it

Requests are compared by what their server gets: the method, the address with its query, every header that is forwarded
and the body as it is sent. Its one rule: everything is part of the key, unknown parameters too, except what stands in
one of the short lists below. A parameter too many in the key costs a miss; one too few would serve the answer to
another question.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

_VERSION = "2"
WITHOUT_INFLUENCE = frozenset({"prompt_cache_key", "prompt_cache_retention"})
"""Fields of the body that do not change an answer: hints for the server's own prompt cache."""
OF_FORM = frozenset({"stream", "stream_options.include_usage"})
"""Fields that choose the form of an answer, as far as they are true, false or null. The proxy adds and hides usage."""
HEADERS_WITHOUT_INFLUENCE: Mapping[str, str] = {
    "traceparent": "names the trace of one call, and is another one for each",
    "tracestate": "belongs to traceparent",
}
"""Headers that are forwarded and not in the key, and why they change no answer."""


class UnclearBodyError(ValueError):
    """Two readers might understand this body differently: a name stands twice in one of its objects."""


class SentRequest(NamedTuple):
    """A request as its server gets it, without credentials. `url` has path and query; `headers` are those forwarded."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class Sharing(NamedTuple):
    """Who may get the answer, and whose it is. `ignored` are fields of the body that the owner leaves out of the
    key.
    """

    scope: str
    namespace: str
    server: str
    ignored: frozenset[str] = frozenset()


class Keys(NamedTuple):
    """The key of an answer, and a second hash of the same input, which is stored in the item. Both are 64 hexadecimal
    digits.
    """

    key: str
    digest: str


def keys_of(sharing: Sharing, sent: SentRequest) -> Keys:
    """The keys of a request with a JSON body. Raises UnclearBodyError."""
    headers = [f"{name}:{sent.headers[name]}" for name in sorted(sent.headers.keys() - HEADERS_WITHOUT_INFLUENCE)]
    parts = [
        *(_VERSION, sharing.scope, sharing.namespace, sharing.server, ",".join(sorted(sharing.ignored))),
        *(sent.method, sent.url, str(len(headers)), *headers),
        canonical(sent.body, sharing.ignored),
    ]
    return Keys(_hash(["key", *parts]), _hash(["digest", *parts]))


def canonical(body: bytes, ignored: frozenset[str] = frozenset()) -> str:
    """A form that is the same for all bodies that ask for the same. It is ASCII.

    The top-level fields are sorted. Below them the order counts, because servers write schemas and tools into prompts
    as they are.
    """
    fields, is_exact = _read(body)
    kept = {name: fields[name] for name in sorted(fields.keys() - WITHOUT_INFLUENCE - ignored)}
    if _is_switch(kept.get("stream")):
        kept.pop("stream", None)
    options = kept.get("stream_options")
    if isinstance(options, dict) and _is_switch(_object(options).get("include_usage")):
        others = {name: value for name, value in _object(options).items() if name != "include_usage"}
        kept["stream_options"] = others
        if not others:
            del kept["stream_options"]
    try:
        return json.dumps(kept, separators=(",", ":")) if is_exact else _written(kept)
    except RecursionError as error:
        raise UnclearBodyError("nested too deeply") from error


def _is_switch(value: Any) -> bool:
    return value is None or isinstance(value, bool)


class _Number:
    """A number that a Python float would round, or write in another way than the client has."""

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

    def whole(text: str) -> int | _Number:
        return number(text) if text == "-0" else int(text)  # pyright: ignore[reportReturnType]

    try:
        fields = json.loads(body.decode(), object_pairs_hook=_unique, parse_float=number, parse_int=whole)
    except UnclearBodyError:
        raise
    except (ValueError, RecursionError) as error:
        raise UnclearBodyError("no JSON, or nested too deeply") from error
    if not isinstance(fields, dict):
        raise UnclearBodyError("no object")
    return cast("dict[str, Any]", fields), is_exact


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise UnclearBodyError("a name stands twice")
    return fields


def _written(value: Any) -> str:
    """Like `json.dumps` without blanks, but numbers are as the client wrote them."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_written(each)}" for name, each in _object(value).items()) + "}"
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
