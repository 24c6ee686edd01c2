"""Which servers a key reaches, and for which model: compared with the rules written down once more, without tricks."""

from itertools import combinations, permutations, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.key_context import ClientKey
from openai_proxy.servers import Server, TokenReference
from proxy.errors import ClientError
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target
from proxy.request.routing import Routes

NAMES = ("first", "second", "third")
MODELS: tuple[str, ...] = ("small", "small-2", "org/large", "first/small")
ALIASES: tuple[str, ...] = ("fast", "small", "f")
LISTED = (
    *MODELS,
    "fast",
    "small*",
    "f*",
    "*",
    "second/*",
    "second/small",
    "third/fast",
    "third/*",
    "org/*",
    "first/f*",
)

PAIRS = [
    dict(zip(names, models, strict=True)) for names in combinations(ALIASES, 2) for models in combinations(MODELS, 2)
]

servers_of_file = st.tuples(
    *[
        st.builds(
            Server,
            st.just(name),
            st.just(f"http://{name}.test/v1"),
            st.just(TokenReference("literal", "t")),
            st.sampled_from(["", *MODELS]),
            fallbacks=st.sampled_from([(), *permutations([each for each in NAMES if each != name])]),
            aliases=st.sampled_from([{}, *PAIRS]),
            pool=st.just({}),
        )
        for name in NAMES
    ]
)
allowed_servers = st.sampled_from([None, *((name,) for name in NAMES), *combinations(NAMES, 2)])
allowed_models = st.none() | st.lists(st.sampled_from(LISTED), min_size=1, max_size=3, unique=True).map(tuple)


def is_good_for(key: ClientKey, server: Server, model: str, alias: str | None) -> bool:
    """Whether the key's owner has allowed this: the server, and by some entry of the list the model or its alias."""
    if key.servers is not None and server.name not in key.servers:
        return False
    if key.models is None:
        return True
    entries = list(key.models)
    for_one = {entry: entry.split("/", 1) for entry in entries if "/" in entry and entry.split("/", 1)[0] in NAMES}
    patterns = [entry for entry in entries if entry not in for_one]
    patterns += [rest for owner, rest in for_one.values() if owner == server.name]
    asked = [each for each in (model, alias) if each]
    return any(
        each.startswith(pattern[:-1]) if pattern.endswith("*") else each == pattern
        for pattern in patterns
        for each in asked
    )


def reached(servers: dict[str, Server], server: Server, named: str, key: ClientKey) -> list[tuple[str, str]] | None:
    """Every server that may be asked, with the model it is asked for; None where the first may not be."""
    model = server.aliases.get(named) or named or server.model
    if not is_good_for(key, server, model, named if named in server.aliases else None):
        return None
    found = [(server.name, model)]
    for other in (servers[each] for each in server.fallbacks):
        own = other.aliases.get(named) or other.model or named
        if is_good_for(key, other, own, named if named in other.aliases else None):
            found.append((other.name, own))
    return found


def asked_of(routes: Routes, target: str, model: str, key: ClientKey) -> list[tuple[str, str]] | None:
    """The same, of the routes: what each candidate would really be sent."""
    fields = b'{"messages": [], "model": "%b"}' % model.encode() if model else b'{"messages": []}'
    path = Target(target, "/chat/completions")
    request = InferenceRequest("function_url", "POST", f"/{target}/v1{path.path}", "", {}, fields, None)
    body = RequestBody(request, path)
    try:
        candidates = routes.candidates(path, body, key)
    except ClientError as error:
        if error.status != 403:
            raise
        return None
    sent = [body.outgoing(each.server.model, each.replacement).model or "" for each in candidates]
    return [(each.server.name, name) for each, name in zip(candidates, sent, strict=True)]


@settings(max_examples=15)
@given(servers_of_file, allowed_servers, allowed_models)
def test_a_key_reaches_what_its_owner_allowed_by_fallbacks_too(
    known: tuple[Server, ...], allowed: tuple[str, ...] | None, models: tuple[str, ...] | None
) -> None:
    servers = {server.name: server for server in known}
    routes = Routes(servers)
    for listed, server, model in product((models, *((each,) for each in LISTED)), known, ("", *MODELS, *ALIASES)):
        key = ClientKey("team-a", servers=allowed, models=listed)
        assert asked_of(routes, server.name, model, key) == reached(servers, server, model, key)


SMALL = Server("first", "http://a.test", TokenReference("literal", "t"), "small", aliases={"fast": "small-2"}, pool={})
OTHER = SMALL._replace(name="second", model="", aliases={"fast": "large"})
TWO = Routes({"first": SMALL, "second": OTHER})
NEEDS_MODEL = "Name the server: as 'server/model' in the model, or in the path as /{server}/v1/...."
ALONE = "This client key may use certain models only: a request has to name one of them in 'model', and nowhere else."
FREE, NARROW = ClientKey("a"), ClientKey("a", models=("small",))


def candidates(server: str | None, fields: str, key: ClientKey = FREE, path: str = "/chat/completions") -> Any:
    """What each server that may be asked is asked for; else the refusal, whole."""
    method = "POST" if fields else "GET"
    request = InferenceRequest("function_url", method, "", "", {}, fields.encode(), None)
    target = Target(server, path)
    try:
        return [
            (each.server.name, each.replacement) for each in TWO.candidates(target, RequestBody(request, target), key)
        ]
    except ClientError as error:
        return error.status, error.code, error.type, error.message


@pytest.mark.parametrize(
    ("server", "fields", "key", "path", "expected"),
    [
        ("first", '{"model":"x"}', FREE, "/chat/completions", [("first", "")]),
        ("first", '{"model":"fast"}', FREE, "/chat/completions", [("first", "small-2")]),
        ("first", "{}", FREE, "/chat/completions", [("first", "")]),
        (None, '{"model":"first/x"}', FREE, "/chat/completions", [("first", "x")]),
        (None, '{"model":"first/x/y"}', FREE, "/chat/completions", [("first", "x/y")]),
        (None, '{"model":"fast"}', FREE, "/chat/completions", [("first", "small-2")]),
        (None, '{"model":"fast"}', ClientKey("a", servers=("second",)), "/chat/completions", [("second", "large")]),
        (None, '{"model":"fast"}', ClientKey("a", models=("large",)), "/chat/completions", [("second", "large")]),
        ("first", "", NARROW, "/models", [("first", "")]),
        ("first", "", NARROW, "/models/small", [("first", "")]),
        ("first", "", NARROW, "/files", (403, "model_not_allowed", "permission_error", ALONE)),
        (
            "first",
            '{"model":"small","models":["x"]}',
            NARROW,
            "/chat/completions",
            (403, "model_not_allowed", "permission_error", ALONE),
        ),
        (
            "first",
            "",
            NARROW,
            "/models/" + "x" * 129,
            (
                403,
                "model_not_allowed",
                "permission_error",
                f"This client key may not use the model '{'x' * 128}'.",
            ),
        ),
        (
            "first",
            '{"model":"x"}',
            NARROW,
            "/chat/completions",
            (403, "model_not_allowed", "permission_error", "This client key may not use the model 'x'."),
        ),
        (
            "second",
            '{"model":"x"}',
            ClientKey("a", servers=("first",)),
            "/chat/completions",
            (403, "server_not_allowed", "permission_error", "This client key may not use the server 'second'."),
        ),
        (None, "{}", FREE, "/chat/completions", (400, "model_required", "invalid_request_error", NEEDS_MODEL)),
        (
            "y" * 65,
            "{}",
            FREE,
            "/chat/completions",
            (404, "unknown_server", "invalid_request_error", f"There is no server '{'y' * 64}' at this proxy."),
        ),
        (
            None,
            '{"model":"first/"}',
            FREE,
            "/chat/completions",
            (
                404,
                "model_not_found",
                "invalid_request_error",
                "There is no model 'first/' at this proxy. GET /v1/models lists them, as 'server/model'.",
            ),
        ),
        (
            None,
            '{"model":"' + "x" * 129 + '"}',
            FREE,
            "/chat/completions",
            (
                404,
                "model_not_found",
                "invalid_request_error",
                f"There is no model '{'x' * 128}' at this proxy. GET /v1/models lists them, as 'server/model'.",
            ),
        ),
    ],
    ids=range(19),
)
def test_where_a_request_goes_or_why_it_goes_nowhere(
    server: str | None, fields: str, key: ClientKey, path: str, expected: Any
) -> None:
    assert candidates(server, fields, key, path) == expected


def test_a_model_of_a_list_is_known_by_a_name_that_the_key_may_ask_for() -> None:
    def known(model: str, *models: str) -> str | None:
        return TWO.name_for(model, SMALL, ClientKey("a", models=models))

    assert known("small", "small") == "small"
    assert known("models/small", "small") == "models/small"
    assert known("small-2", "fast") == "fast"
    assert known("small-2", "small-2") == "small-2"
    assert known("small", "fast") is None
    assert TWO.name_for("large", SMALL, FREE) == "large"
