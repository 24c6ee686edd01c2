"""Which servers a key reaches, and for which model: compared with the rules written down once more, without tricks."""

from itertools import combinations, permutations, product

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
