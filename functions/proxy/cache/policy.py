"""Which requests the response cache is for, and on which terms. Pure.

Its one rule: the cache is off unless the owner has turned it on, for a server or a client key, and a request that is
not certainly repeatable bypasses it. A client's headers can only ask for less caching, or allow it for answers that are
sampled at random.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from openai_proxy.cache.answers import LONGEST_KEPT, is_namespace
from openai_proxy.key_context import ClientKey
from openai_proxy.servers import Server
from openai_proxy.servers.options import Caching

from proxy.cache.control import directives_of, is_seconds, seconds_of
from proxy.cache.outside_sources import is_remembered, is_stateful, lets_search, refers_elsewhere, uses_hosted_tools
from proxy.request.parse import InferenceRequest, Target

CACHEABLE = frozenset({"/chat/completions", "/completions", "/responses", "/messages", "/embeddings"})
_DEFAULT_TTL = 3600
_COMMA_OF_A_DATE = re.compile(r"(expires\s*=\s*\w+),", re.IGNORECASE)
_FOR_CACHES = ("cache-control", "cdn-cache-control", "surrogate-control")
"""Where a server says who may keep its answer (RFC 9111 and 9213, and what was there before)."""
_COOKIE_OF_THE_WAY = re.compile(r"__cf_bm|_cfuvid|__cflb|__cfruid|cf_clearance|AWSALB\w*|GCLB|ARRAffinity\w*")
"""Cookies of what stands before a server, which spreads load or keeps robots out; OpenAI's answers all have two."""


class Policy(NamedTuple):
    """What the owner allows. `scope` names the group of clients that share answers; `ttl` is in seconds.

    Where that is no pool, `line` says which of the client's keys share them. A client's name may be given to somebody
    else later; a line of rotated keys is never made again. `ignored` and `keeps` are the server's options `ignore` and
    `keep`.
    """

    scope: str
    ttl: int
    any_temperature: bool
    ignored: frozenset[str] = frozenset()
    keeps: frozenset[str] = frozenset()
    line: str = ""

    @property
    def sharers(self) -> str:
        """Who shares answers, in the form that is part of an answer's key."""
        return f"{self.scope}#{self.line}" if self.line else self.scope


class CacheDirectives(NamedTuple):
    """What a request's headers ask of the cache: no answer older than `max_age` seconds, or no stored answer at all
    (`is_refresh`).
    """

    namespace: str = ""
    max_age: float = float("inf")
    is_refresh: bool = False
    original_pacing: bool = False
    only_if_cached: bool = False


def policy_of(key: ClientKey, server: Server) -> Policy | None:
    """The key's policy, or else the server's; None when caching is off."""
    by_server = server.cache
    if key.cache is None and by_server is None:
        return None
    if key.cache is not None and not key.cache.is_on:
        return None
    options = by_server or Caching()
    if key.cache is not None:
        scope, ttl = (
            f"key-pool:{key.cache.pool}" if key.cache.pool else "",
            min(key.cache.ttl or _DEFAULT_TTL, LONGEST_KEPT),
        )
    else:
        scope, ttl = f"server-pool:{options.pool}" if options.pool else "", options.ttl
    policy = Policy(scope or f"client:{key.client_id}", ttl, options.any_temperature, options.ignore, options.keep)
    return policy if scope else policy._replace(line=key.line)


def refusal(
    request: InferenceRequest, target: Target, fields: Mapping[str, Any], model: str | None, policy: Policy
) -> str | None:
    """Why the cache is neither read nor filled for this request, in one word; None when it may be.

    `model` is the model that the server will be asked for.
    """
    if request.method != "POST" or target.path not in CACHEABLE or not fields:
        return "path"
    if "no-store" in directives_of(request.headers):
        return "no_store"
    if not is_namespace(request.headers.get("x-cache-namespace", "-")):
        return "namespace"
    if "idempotency-key" in request.forwarded_headers:
        return "idempotency_key"
    if reason := _needs_more_than_itself(target.path, fields, model, policy.keeps):
        return reason
    chance_is_welcome = policy.any_temperature or request.headers.get("x-cache-any-temperature") == "true"
    if target.path != "/embeddings" and not chance_is_welcome and not _is_zero(fields.get("temperature")):
        return "temperature"
    return None


def _needs_more_than_itself(
    path: str, fields: Mapping[str, Any], model: str | None, keeps: frozenset[str]
) -> str | None:
    """Why the same request may get another answer next time, or why its answer may not be shared."""
    read = {name.lower(): value for name, value in fields.items()}  # some servers search when this field is set
    if is_stateful(read) or ("stored" not in keeps and is_remembered(path, fields)):
        return "stateful"
    if uses_hosted_tools(read, may_search="searches" in keeps):
        return "hosted_tools"
    if "searches" not in keeps and lets_search(model, read):
        return "hosted_tools"
    if "references" not in keeps and refers_elsewhere(fields):
        return "references"
    return None


def asked_of_cache(request: InferenceRequest, ttl: int) -> CacheDirectives:
    """What the headers of a request ask of the cache, which serves answers for `ttl` seconds.

    A `max-age` or `min-fresh` that is no number allows no stored answer (RFC 9111, 4.2.1).
    """
    directives = directives_of(request.headers)
    allowed = seconds_of(directives["max-age"]) if "max-age" in directives else float("inf")
    if "min-fresh" in directives:
        is_time = is_seconds(directives["min-fresh"])
        allowed = min(allowed, max(0.0, ttl - seconds_of(directives["min-fresh"])) if is_time else 0.0)
    return CacheDirectives(
        namespace=request.headers.get("x-cache-namespace", ""),
        max_age=allowed,
        is_refresh="no-cache" in directives or allowed == 0,
        original_pacing=request.headers.get("x-cache-pacing") == "original",
        only_if_cached="only-if-cached" in directives,
    )


def forbids_keeping(headers: Mapping[str, str], uncounted: Collection[str]) -> bool:
    """Whether the headers of an answer say that it is for this one request alone.

    That is also so if the answer varies with one of the `uncounted` headers, in which two requests with the same key
    may differ.
    """
    if "set-cookie" in headers:
        cookies = _COMMA_OF_A_DATE.sub(r"\1", headers["set-cookie"]).split(",")
        if not all(_COOKIE_OF_THE_WAY.fullmatch(cookie.partition("=")[0].strip()) for cookie in cookies):
            return True
    said = [directives_of({"cache-control": headers[name]}) for name in _FOR_CACHES if name in headers]
    varies = {name.strip().lower() for name in headers.get("vary", "").split(",")}
    return any(each.keys() & {"no-store", "private"} for each in said) or not varies.isdisjoint({"*", *uncounted})


def _is_zero(temperature: Any) -> bool:
    return isinstance(temperature, int | float) and not isinstance(temperature, bool) and temperature == 0
