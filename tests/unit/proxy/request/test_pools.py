"""Pools: the laws of who is asked first, and what a key reaches by them."""

import json
from collections import Counter
from collections.abc import Callable
from math import sqrt
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.key_context import ClientKey
from openai_proxy.servers import Server, TokenReference
from proxy.errors import ClientError
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, target_of
from proxy.request.pools import in_turn
from proxy.request.routing import Candidate, Routes

NO_TOKEN = TokenReference("literal", "")
KEY = ClientKey("team-a")
NAMES = ("first", "second", "third")

weights = st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(1, 1000), min_size=2, max_size=6)
seeds = st.text(max_size=20)


def server(name: str, model: str = "", **options: Any) -> Server:
    return Server(name, f"http://{name}.test/v1", NO_TOKEN, model, **options)


def pool(weights: dict[str, int], model: str = "", fallbacks: tuple[str, ...] = ()) -> Server:
    return Server("pool", "", NO_TOKEN, model, fallbacks=fallbacks, pool=weights)


def routes(*servers: Server, chance: Callable[[], float] = lambda: 0.5) -> Routes:
    return Routes({each.name: each for each in servers}, chance)


def asked(
    of: Routes, fields: Any, key: ClientKey = KEY, path: str = "/pool/v1/chat/completions", method: str = "POST"
) -> list[tuple[str, str | None]]:
    """Who would be asked, and what for."""
    content = b"" if fields is None else json.dumps(fields).encode()
    request, target = InferenceRequest("function_url", method, path, "", {}, content, None), target_of(path)
    body = RequestBody(request, target)
    found = of.candidates(target, body, key)
    return [(each.server.name, body.outgoing(each.server.model, each.replacement).model) for each in found]


def refusal(*args: Any, **more: Any) -> str:
    with pytest.raises(ClientError) as refused:
        asked(*args, **more)
    return f"{refused.value.status} {refused.value.code}"


def asked_or_none(of: Routes, fields: Any, key: ClientKey) -> list[tuple[str, str | None]]:
    try:
        return asked(of, fields, key)
    except ClientError as refused:
        if refused.status != 403:
            raise
        return []


@settings(max_examples=10)
@given(weights)
def test_each_member_is_first_as_often_as_its_weight_says(members: dict[str, int]) -> None:
    count, whole = 1000, sum(members.values())
    found = Counter(in_turn(members, f"conversation {number}")[0] for number in range(count))
    for name, weight in members.items():
        share = weight / whole
        assert abs(found[name] - count * share) <= 6 * sqrt(count * share * (1 - share)) + 1


@settings(max_examples=30)
@given(weights, seeds)
def test_without_a_member_the_others_keep_their_order(members: dict[str, int], seed: str) -> None:
    order = in_turn(members, seed)
    assert sorted(order) == sorted(members)
    for gone in members:
        rest = {name: weight for name, weight in members.items() if name != gone}
        assert in_turn(rest, seed) == [name for name in order if name != gone]


@settings(max_examples=30)
@given(weights, seeds, st.integers(1, 1000))
def test_another_weight_moves_one_member_and_never_the_wrong_way(
    members: dict[str, int], seed: str, weight: int
) -> None:
    name = min(members)
    before, after = in_turn(members, seed), in_turn({**members, name: weight}, seed)
    assert [each for each in after if each != name] == [each for each in before if each != name]
    moved = before.index(name) - after.index(name)
    assert moved >= 0 if weight >= members[name] else moved <= 0


FAST = {"fast": "first-fast"}
MEMBERS = (
    server("first", "first-model", aliases=FAST),
    server("second", "second-model"),
    server("third", "", aliases={"fast": "third-fast"}),
)
ALL = routes(pool({"first": 1, "second": 1, "third": 1}), *MEMBERS)


@pytest.mark.parametrize(
    "said",
    [
        {"user": "ann"},
        {"prompt_cache_key": "chat-7"},
        {"safety_identifier": "ann"},
        {"metadata": {"user_id": "ann"}},
        {"user": "\ud800"},
    ],
)
def test_a_conversation_stays_with_one_member_whatever_chance_says(said: dict[str, Any]) -> None:
    def never() -> float:
        raise AssertionError("there was something to go by")

    of = routes(pool({"first": 1, "second": 1, "third": 1}), *MEMBERS, chance=never)
    first = asked(of, {**said, "messages": ["a"]})
    assert asked(of, {**said, "messages": ["a", "b"], "temperature": 1}) == first
    spread = [asked(of, {**said, "metadata": {"user_id": str(n)}, "user": str(n)})[0] for n in range(30)]
    assert (len(set(spread)) > 1) == ("user" in said or "metadata" in said)


def test_the_conversations_of_two_clients_are_not_the_same() -> None:
    found = {asked(ALL, {"user": "1"}, ClientKey(f"team-{number}"))[0] for number in range(30)}
    assert len(found) == 3


@pytest.mark.parametrize("said", [{}, {"user": ""}, {"user": 7}, {"prompt_cache_key": None}, {"metadata": "ann"}])
def test_without_a_conversation_chance_decides(said: dict[str, Any]) -> None:
    drawn = iter(number / 200 for number in range(200))
    of = routes(pool({"first": 3, "second": 1}), *MEMBERS, chance=lambda: next(drawn))
    found = Counter(asked(of, said)[0][0] for _ in range(200))
    assert 120 < found["first"] < 180
    assert found.total() == 200


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (None, {"first": "first-model", "second": "second-model", "third": None}),
        ("fast", {"first": "first-fast", "second": "second-model", "third": "third-fast"}),
        ("first-model", {"first": "first-model", "second": "second-model", "third": "first-model"}),
        ("first-fast", {"first": "first-fast", "second": "second-model", "third": "first-fast"}),
        ("third-fast", {"first": "first-model", "second": "second-model", "third": "third-fast"}),
        ("unheard-of", {"first": "unheard-of", "second": "unheard-of", "third": "unheard-of"}),
    ],
)
def test_members_are_asked_for_their_own_models(named: str | None, expected: dict[str, str]) -> None:
    fields = {"model": named} if named else {}
    assert dict(asked(ALL, fields)) == expected
    if named:
        assert dict(asked(ALL, {"model": f"pool/{named}"}, path="/v1/chat/completions")) == expected


def test_a_pool_may_say_what_is_asked_for_when_nothing_is_named() -> None:
    of = routes(
        pool({"first": 1, "second": 1, "third": 1}, "fast", ("spare",)), server("spare", aliases=FAST), *MEMBERS
    )
    found = asked(of, {"user": "a"})
    assert dict(found[:3]) == {"first": "first-fast", "second": "second-model", "third": "third-fast"}
    assert found[3:] == [("spare", "first-fast")]


@pytest.mark.parametrize("path", ["/pool/v1/chat/completions", "/v1/chat/completions"])
def test_the_fallbacks_come_last_each_with_its_own_model(path: str) -> None:
    of = routes(
        pool({"first": 1, "second": 1}, "", ("spare", "plain")),
        server("spare", "spare-model"),
        server("plain"),
        *MEMBERS,
    )
    found = asked(of, {"model": "m" if path.startswith("/pool") else "pool/m"}, path=path)
    assert found[2:] == [("spare", "spare-model"), ("plain", "m")]
    key = ClientKey("team-a", servers=("pool", "plain"))
    assert [name for name, _ in asked(of, {"model": "pool/m"}, key, "/v1/chat/completions")][2:] == ["plain"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (ClientKey("a", servers=("pool",)), {"first", "second", "third"}),
        (ClientKey("a", servers=("first", "second", "third")), "403 server_not_allowed"),
        (ClientKey("a", models=("fast",)), {"first", "third"}),
        (ClientKey("a", models=("first-fast",)), {"first"}),
        (ClientKey("a", models=("pool/fast",)), {"first", "third"}),
        (ClientKey("a", models=("pool/*",)), {"first", "second", "third"}),
        (ClientKey("a", models=("second/*",)), {"second"}),
        (ClientKey("a", models=("pool/second-model", "third/fast")), {"second", "third"}),
        (ClientKey("a", models=("elsewhere/fast", "other")), "403 model_not_allowed"),
        (ClientKey("a", servers=("pool",), models=("second/*",)), {"second"}),
    ],
)
def test_a_key_reaches_by_a_pool_what_it_may_ask_for(key: ClientKey, expected: set[str] | str) -> None:
    if isinstance(expected, str):
        assert refusal(ALL, {"model": "fast"}, key) == expected
    else:
        assert {name for name, _ in asked(ALL, {"model": "fast"}, key)} == expected


LISTED = ("m", "n", "fast", "m*", "*", "pool/m", "pool/*", "second/*", "second/m", "third/n", "pool/fast")
some_servers = st.tuples(
    *[
        st.builds(
            server,
            st.just(name),
            st.sampled_from(["", "m", "n"]),
            aliases=st.sampled_from([{}, {"fast": "m"}, {"m": "n"}]),
        )
        for name in NAMES
    ]
)


@settings(max_examples=40)
@given(some_servers, st.lists(st.sampled_from(LISTED), min_size=1, max_size=3), st.sampled_from(["", "m", "n", "fast"]))
def test_never_a_model_that_the_owner_has_not_listed(
    members: tuple[Server, ...], listed: list[str], named: str
) -> None:
    of, key = routes(pool(dict.fromkeys(NAMES, 1)), *members), ClientKey("a", models=tuple(listed))
    reached = dict(asked_or_none(of, {"model": named} if named else {}, key))
    for member in members:
        names = {reached.get(member.name) or "", named if named in member.aliases else ""} - {""}
        patterns = [each.removeprefix(f"{member.name}/").removeprefix("pool/") for each in listed]
        good = any(
            name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1]))
            for pattern in patterns
            if "/" not in pattern
            for name in names
        )
        assert good or member.name not in reached


@pytest.mark.parametrize(
    ("method", "path", "fields"),
    [
        ("GET", "/pool/v1/files", None),
        ("POST", "/pool/v1/files", None),
        ("POST", "/pool/v1/batches", {"input_file_id": "f"}),
        ("GET", "/pool/v1/responses/resp_1", None),
        ("DELETE", "/pool/v1/models/m", None),
        ("GET", "/pool/v1/batches", {"model": "m"}),
    ],
)
def test_what_a_server_keeps_is_not_in_a_pool(method: str, path: str, fields: Any) -> None:
    assert refusal(ALL, fields, path=path, method=method) == "400 not_for_a_pool"


def test_what_is_posted_to_a_model_is_for_a_pool_whatever_its_path() -> None:
    assert len(asked(ALL, {"model": "m"}, path="/pool/v1/rerank")) == 3
    assert refusal(ALL, {"model": "fast"}, ClientKey("a", models=("fast",)), "/pool/v1/rerank") == (
        "403 model_not_allowed"
    )


def test_a_server_is_what_it_was_beside_a_pool() -> None:
    of = routes(pool({"first": 1}), *MEMBERS)
    assert of.pools == {"pool"}
    body = RequestBody(
        InferenceRequest("function_url", "POST", "/", "", {}, b"{}", None), target_of("/first/v1/chat/completions")
    )
    assert of.candidates(target_of("/first/v1/chat/completions"), body, KEY) == [Candidate(MEMBERS[0])]
