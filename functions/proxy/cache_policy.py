"""Which requests the response cache is for, and on which terms. Pure.

Its one rule: off unless the owner turned it on, for a server or a client key, and a request that is not surely
repeatable passes by. A client's headers can only ask for less, or say that chance is welcome.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from openai_proxy.servers import Server

from proxy.client_key import ClientKey
from proxy.json_shapes import array_of, object_of
from proxy.request import InferenceRequest, Target

CACHEABLE = frozenset({"/chat/completions", "/completions", "/responses", "/embeddings"})
_DEFAULT_TTL = 3600
_NAMESPACE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MOMENT = re.compile(r"\d{1,9}")
_PURE_TOOLS = frozenset({"function", "custom"})
"""Tools that the client runs. All others the server runs, with answers from elsewhere and effects of their own."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the owner allows. `scope` names those who share answers; `ttl` is in seconds."""

    scope: str
    ttl: int
    any_temperature: bool


@dataclass(frozen=True, slots=True)
class Wish:
    """What a request wants of the cache: no answer older than `max_age` seconds, or none at all (`is_refresh`)."""

    namespace: str = ""
    max_age: float = float("inf")
    is_refresh: bool = False
    original_pacing: bool = False


def policy_of(key: ClientKey, server: Server) -> Policy | None:
    """The key's policy, or else the server's; None when it is off."""
    by_server = server.cache
    any_temperature = by_server is not None and by_server.any_temperature
    if key.cache is not None:
        scope = f"key-pool:{key.cache.pool}" if key.cache.pool else f"client:{key.client_id}"
        return Policy(scope, key.cache.ttl or _DEFAULT_TTL, any_temperature) if key.cache.is_on else None
    if by_server is None:
        return None
    scope = f"server-pool:{by_server.pool}" if by_server.pool else f"client:{key.client_id}"
    return Policy(scope, by_server.ttl, any_temperature)


def refusal(request: InferenceRequest, target: Target, fields: Mapping[str, Any], policy: Policy) -> str | None:
    """Why the cache is neither read nor filled for this request, in one word; None when it may be."""
    if request.method != "POST" or target.path not in CACHEABLE or not fields:
        return "path"
    if "no-store" in _directives(request):
        return "no_store"
    if not _NAMESPACE.fullmatch(request.headers.get("x-cache-namespace", "-")):
        return "namespace"
    if _is_stateful(fields):
        return "stateful"
    if _uses_hosted_tools(fields):
        return "hosted_tools"
    chance_is_welcome = policy.any_temperature or request.headers.get("x-cache-any-temperature") == "true"
    if target.path != "/embeddings" and not chance_is_welcome and not _is_zero(fields.get("temperature")):
        return "temperature"
    return None


def wish_of(request: InferenceRequest) -> Wish:
    """What the headers of a request ask for. A `max-age` that is no number allows no age (RFC 9111, 4.2.1)."""
    directives = _directives(request)
    max_age = directives.get("max-age")
    allowed = float("inf") if max_age is None else float(max_age) if _MOMENT.fullmatch(max_age) else 0.0
    return Wish(
        namespace=request.headers.get("x-cache-namespace", ""),
        max_age=allowed,
        is_refresh="no-cache" in directives or allowed == 0,
        original_pacing=request.headers.get("x-cache-pacing") == "original",
    )


def _directives(request: InferenceRequest) -> dict[str, str]:
    parts = (part.strip().partition("=") for part in request.headers.get("cache-control", "").lower().split(","))
    return {name.strip(): value.strip(' "') for name, _, value in parts}


def _is_stateful(fields: Mapping[str, Any]) -> bool:
    """Whether the answer depends on what the server remembers, or the server is to remember it."""
    if fields.get("store") is True or fields.get("background"):
        return True
    if any(fields.get(name) for name in ("previous_response_id", "conversation", "container")):
        return True
    if object_of(fields.get("prompt")):  # a prompt that the server keeps, in whichever version
        return True
    return any(object_of(item).get("type") == "item_reference" for item in array_of(fields.get("input")))


def _uses_hosted_tools(fields: Mapping[str, Any]) -> bool:
    if fields.get("web_search_options") is not None or fields.get("plugins"):
        return True
    tools: Iterable[Any] = array_of(fields.get("tools"))
    return any(object_of(tool).get("type") not in _PURE_TOOLS for tool in tools)


def _is_zero(temperature: Any) -> bool:
    return isinstance(temperature, int | float) and not isinstance(temperature, bool) and temperature == 0
