"""On which terms a request may be answered from the cache: each reason once, and a request that has none of them."""

from typing import Any

import pytest
from openai_proxy.cache.answers import LONGEST_KEPT
from openai_proxy.key_context import ClientKey, KeyCache
from openai_proxy.servers import Server, TokenReference
from openai_proxy.servers.options import Caching
from proxy.cache.policy import CacheDirectives, Policy, asked_of_cache, forbids_keeping, policy_of, refusal
from proxy.cache.response_cache import Settings
from proxy.request.parse import InferenceRequest, Target

INFINITE = float("inf")
OWN = Caching(60, None, True, frozenset({"user"}), frozenset({"private"}))


@pytest.mark.parametrize(
    ("of_key", "of_server", "policy"),
    [
        (None, None, None),
        (KeyCache(False), OWN, None),
        (None, OWN, Policy("client:acme", 60, True, OWN.ignore, OWN.keep, "line")),
        (None, OWN._replace(pool="p"), Policy("server-pool:p", 60, True, OWN.ignore, OWN.keep)),
        (KeyCache(True), None, Policy("client:acme", 3600, False, line="line")),
        (KeyCache(True, 5), OWN, Policy("client:acme", 5, True, OWN.ignore, OWN.keep, "line")),
        (KeyCache(True, 5, "q"), OWN._replace(pool="p"), Policy("key-pool:q", 5, True, OWN.ignore, OWN.keep)),
        (KeyCache(True, None), OWN._replace(pool="p"), Policy("client:acme", 3600, True, OWN.ignore, OWN.keep, "line")),
        (KeyCache(True, LONGEST_KEPT), None, Policy("client:acme", LONGEST_KEPT, False, line="line")),
        (KeyCache(True, LONGEST_KEPT + 1), None, Policy("client:acme", LONGEST_KEPT, False, line="line")),
    ],
)
def test_what_key_and_server_allow_together(
    of_key: KeyCache | None, of_server: Caching | None, policy: Policy | None
) -> None:
    server = Server("s", "http://host", TokenReference("literal", ""), "m", cache=of_server)
    found = policy_of(ClientKey("acme", cache=of_key, line="line"), server)
    assert found == policy
    if found and policy:
        assert found.sharers == (f"{policy.scope}#line" if policy.line else policy.scope)


CHAT: dict[str, Any] = {"messages": [], "temperature": 0}
NOTHING: dict[str, Any] = {}
POLICY = Policy("client:acme", 60, False)


def refused(
    path: str = "/chat/completions",
    fields: dict[str, Any] = CHAT,
    *,
    method: str = "POST",
    model: str = "m",
    policy: Policy = POLICY,
    **headers: str,
) -> str | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = InferenceRequest("function_url", method, path, "", named, b"", None)
    return refusal(request, Target("s", path), fields, model, policy)


@pytest.mark.parametrize(
    "path", ["/chat/completions", "/completions", "/responses", "/messages", "/embeddings", "/files"]
)
def test_where_answers_are_kept(path: str) -> None:
    kept = path != "/files"
    fields = CHAT | {"store": False}
    assert refused(path, fields) == (None if kept else "path")
    assert refused(path, fields, method="GET") == "path"
    assert refused(path, {}) == "path"
    chance = {"input": "x", "store": False}
    welcome = POLICY._replace(any_temperature=True)
    assert refused(path, chance) == ("path" if not kept else None if path == "/embeddings" else "temperature")
    assert refused(path, chance, policy=welcome) == (None if kept else "path")
    assert refused(path, chance, x_cache_any_temperature="true") == (None if kept else "path")


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"cache_control": "no-store"}, "no_store"),
        ({"cache_control": "no-cache"}, None),
        ({"x_cache_namespace": "a" * 64}, None),
        ({"x_cache_namespace": "a" * 65}, "namespace"),
        ({"x_cache_namespace": ""}, "namespace"),
        ({"idempotency_key": "x"}, "idempotency_key"),
        ({"model": "gpt-4o-search-preview"}, "hosted_tools"),
        ({"fields": CHAT | {"Store": True}}, "stateful"),
        ({"path": "/responses", "fields": CHAT}, "stateful"),
        ({"fields": CHAT | {"tools": [{"type": "web_search"}]}}, "hosted_tools"),
        ({"fields": CHAT | {"tools": [{"type": "code_interpreter"}]}}, "hosted_tools"),
        ({"fields": CHAT | {"web_search_options": NOTHING}}, "hosted_tools"),
        ({"fields": CHAT | {"image_url": "http://host/x"}}, "references"),
        ({"fields": CHAT | {"temperature": 0.0}}, None),
        ({"fields": CHAT | {"temperature": 1}}, "temperature"),
        ({"fields": CHAT | {"temperature": False}}, "temperature"),
        ({"fields": CHAT | {"temperature": "0"}}, "temperature"),
        ({"fields": {"messages": []}}, "temperature"),
        ({"fields": {"messages": []}, "x_cache_any_temperature": "1"}, "temperature"),
    ],
)
def test_why_a_request_passes_by(asked: dict[str, Any], reason: str | None) -> None:
    assert refused(**asked) == reason


@pytest.mark.parametrize(
    ("keep", "asked", "reason"),
    [
        ("stored", {"path": "/responses", "fields": CHAT}, None),
        ("stored", {"path": "/responses", "fields": CHAT | {"store": True}}, "stateful"),
        ("searches", {"fields": CHAT | {"tools": [{"type": "web_search"}]}}, None),
        ("searches", {"fields": CHAT | {"tools": [{"type": "code_interpreter"}]}}, "hosted_tools"),
        ("searches", {"fields": CHAT | {"web_search_options": NOTHING}}, None),
        ("references", {"fields": CHAT | {"image_url": "http://host/x"}}, None),
    ],
)
def test_what_the_owner_wants_kept_all_the_same(keep: str, asked: dict[str, Any], reason: str | None) -> None:
    assert refused(**asked, policy=POLICY._replace(keeps=frozenset({keep}))) == reason
    assert refused(**asked, policy=POLICY._replace(keeps=frozenset({"private"}))) is not None


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, CacheDirectives()),
        ({"cache-control": "max-age=0"}, CacheDirectives(max_age=0.0, is_refresh=True)),
        ({"cache-control": "max-age=1"}, CacheDirectives(max_age=1.0)),
        ({"cache-control": "max-age=soon"}, CacheDirectives(max_age=0.0, is_refresh=True)),
        ({"cache-control": "no-cache"}, CacheDirectives(is_refresh=True)),
        ({"cache-control": "min-fresh=20"}, CacheDirectives(max_age=40.0)),
        ({"cache-control": "min-fresh=20, max-age=39"}, CacheDirectives(max_age=39.0)),
        ({"cache-control": "min-fresh=20, max-age=41"}, CacheDirectives(max_age=40.0)),
        ({"cache-control": "min-fresh=60"}, CacheDirectives(max_age=0.0, is_refresh=True)),
        ({"cache-control": "min-fresh=99"}, CacheDirectives(max_age=0.0, is_refresh=True)),
        ({"cache-control": "min-fresh=soon"}, CacheDirectives(max_age=0.0, is_refresh=True)),
        ({"cache-control": "only-if-cached"}, CacheDirectives(only_if_cached=True)),
        ({"x-cache-namespace": "n", "x-cache-pacing": "original"}, CacheDirectives("n", original_pacing=True)),
        ({"x-cache-pacing": "Original"}, CacheDirectives()),
    ],
)
def test_what_a_request_wants_of_the_cache(said: dict[str, str], wanted: CacheDirectives) -> None:
    assert asked_of_cache(InferenceRequest("function_url", "POST", "/", "", said, b"", None), 60) == wanted


@pytest.mark.parametrize(
    ("headers", "is_forbidden"),
    [
        ({}, False),
        ({"cache-control": "max-age=5"}, False),
        ({"cache-control": "max-age=5, private"}, True),
        ({"cdn-cache-control": "no-store"}, True),
        ({"surrogate-control": "no-store"}, True),
        ({"cache-control": "max-age=5", "surrogate-control": "private"}, True),
        ({"pragma": "private"}, False),
        ({"vary": "accept, Origin"}, False),
        ({"vary": "accept, *"}, True),
        ({"vary": "accept, TraceParent"}, True),
        ({"set-cookie": "session=1"}, True),
        ({"set-cookie": "__cf_bm=1; expires=Wed, 21 Oct 2026 07:28:00 GMT, _cfuvid=2; path=/"}, False),
        ({"set-cookie": "__cf_bm=1; expires=Wed, 21 Oct 2026 07:28:00 GMT, session=2"}, True),
        ({"set-cookie": "AWSALBTG=1, AWSALB=2"}, False),
        ({"set-cookie": "AWSALB=2", "cache-control": "private"}, True),
    ],
)
def test_whose_answer_is_for_one_request_alone(headers: dict[str, str], is_forbidden: bool) -> None:
    assert forbids_keeping(headers, {"traceparent": ""}) is is_forbidden


OF_THE_WAY = (
    *("__cf_bm", "_cfuvid", "__cflb", "__cfruid", "cf_clearance", "GCLB"),
    *("AWSALB", "AWSALBCORS", "AWSALBTG", "AWSALBTGCORS", "ARRAffinity", "ARRAffinitySameSite"),
)


@pytest.mark.parametrize("name", OF_THE_WAY)
def test_a_cookie_of_what_stands_before_a_server_is_not_for_one_request_alone(name: str) -> None:
    kept = [forbids_keeping({"set-cookie": f"{cookie}=1"}, ()) for cookie in (name, f"x{name}", f"{name}-x")]
    assert kept == [False, True, True]


def test_the_settings_are_those_of_the_environment_or_the_usual_ones() -> None:
    usual = Settings(4 * 1024 * 1024, 5.0, 0.5, 300.0)
    assert Settings() == Settings.from_environ({}) == Settings.from_environ({"CACHE_WAIT_SECONDS": ""}) == usual
    said = {"CACHE_LARGEST_ANSWER": "7", "CACHE_WAIT_SECONDS": "0", "UPSTREAM_FIRST_BYTE_SECONDS": "9.5"}
    assert Settings.from_environ(said, 0.25) == (7, 0.0, 0.25, 9.5)
