"""A pool on real sockets: calls are spread, a conversation stays, and what fails leaves its calls to the others."""

import json
from collections import Counter
from typing import Any

import pytest

from tests.fakes import Connection, Received, Script
from tests.relays import CONTENT, DONE, USAGE, error_of, scripted_proxy, streaming

CHAT = "/pooled/v1/chat/completions"
ANSWER = json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": USAGE}).encode()
SERVERS = """
a: {url: 'URL/a', token: token-a, model: model-a, retries: 0, aliases: {small: a-small}, breaker: {failures: 1}}
b: {url: 'URL/b', token: token-b, model: model-b, retries: 0, aliases: {small: b-small}, breaker: {failures: 1}}
pooled: {pool: {a: 1, b: 1}, fallbacks: [up]}
"""


def down(*members: str) -> Script:
    def script(connection: Connection, request: Received) -> None:
        if request.target.split("/")[1] in members:
            connection.answer(b'{"error": {"message": "down"}}', "503 Down")
        else:
            connection.answer(ANSWER)

    return script


def test_calls_are_spread_with_each_members_own_token_and_model() -> None:
    with scripted_proxy(down(), SERVERS, {"servers": "pooled"}) as (relay, server):
        told = [relay.call({"model": "small"}, path=CHAT).headers["x-served-by"] for _ in range(40)]
        sent = {
            (each.target, each.headers["authorization"], json.loads(each.body)["model"]) for each in server.received
        }
    assert sent == {
        ("/a/chat/completions", "Bearer token-a", "a-small"),
        ("/b/chat/completions", "Bearer token-b", "b-small"),
    }
    assert Counter(told).keys() == {"a", "b"}
    assert [detail["data"]["server"]["name"] for _, detail in relay.bus.details] == told


def test_a_conversation_stays_until_its_member_fails_and_then_that_is_passed_over() -> None:
    with scripted_proxy(down(), SERVERS) as (relay, _):
        told = [relay.call({"user": "ann"}, path=CHAT).headers["x-served-by"] for _ in range(5)]
    assert len(set(told)) == 1
    first, second = told[0], "b" if told[0] == "a" else "a"
    with scripted_proxy(down(first), SERVERS) as (relay, server):
        answers = [relay.call({"user": "ann"}, path=CHAT) for _ in range(3)]
        assert [each.target.split("/")[1] for each in server.received] == [first, second, second, second]
    assert [each.headers["x-served-by"] for each in answers] == [second] * 3
    assert [each.headers["x-attempts"] for each in answers] == ["2", "1", "1"]
    attempts = [(each["server"], each["error"]) for each in relay.bus.details[-1][1]["data"]["attempts"]]
    assert attempts == [(first, "circuit_open"), (second, None)]


def test_the_pools_fallback_answers_when_no_member_can() -> None:
    with scripted_proxy(down("a", "b"), SERVERS) as (relay, _):
        for _ in range(2):
            answer = relay.call({"model": "pooled/small"}, path="/v1/chat/completions")
            assert (answer.status, answer.headers["x-served-model"]) == (200, "default-model")


def test_a_stream_passes_unchanged() -> None:
    with scripted_proxy(streaming(*CONTENT, DONE), SERVERS) as (relay, _):
        answer = relay.call({"stream": True, "prompt_cache_key": "7"}, path=CHAT)
    assert answer.body == b"".join([*CONTENT, DONE])
    assert relay.event[0] == "InferenceCompleted"


def test_what_is_not_for_a_pool_is_refused_before_anybody_is_asked() -> None:
    with scripted_proxy(down(), SERVERS) as (relay, server):
        answer = relay.call(path="/pooled/v1/files", method="GET")
    assert (answer.status, error_of(answer)["code"], server.received) == (400, "not_for_a_pool", [])
    assert relay.event[1]["error"]["type"] == "not_for_a_pool"


def listing(connection: Connection, request: Received) -> None:
    listed: list[Any] = [{"id": "both"}, {"id": f"only{request.target[1]}"}, {"id": 7}]
    connection.answer(json.dumps({"data": listed}).encode() if request.method == "GET" else ANSWER)


@pytest.mark.parametrize(
    ("allowed", "names"),
    [
        ({"servers": "pooled"}, ["small", "model-a", "model-b", "both"]),
        ({"servers": "pooled", "models": "pooled/both,a/small"}, ["small", "both"]),
        ({"servers": "pooled", "models": "b-small"}, ["small"]),
    ],
)
def test_the_models_of_a_pool_are_those_that_every_member_has_something_for(
    allowed: dict[str, str], names: list[str]
) -> None:
    with scripted_proxy(listing, SERVERS, allowed) as (relay, _):
        everywhere = json.loads(relay.call(path="/v1/models", method="GET").body)["data"]
        its_own = json.loads(relay.call(path="/pooled/v1/models", method="GET").body)["data"]
        assert [model["id"] for model in everywhere] == [f"pooled/{name}" for name in names]
        assert [model["id"] for model in its_own] == names
        assert {model["owned_by"] for model in everywhere + its_own} == {"pooled"}
        for model in its_own:
            assert relay.call({"model": model["id"]}, path=CHAT).status == 200
        assert relay.call(path="/pooled/v1/models/small", method="GET").status == 200
        assert error_of(relay.call(path="/pooled/v1/models/onlya", method="GET"))["code"] == "model_not_found"


def test_the_models_of_a_pool_that_a_key_may_not_use_are_not_told() -> None:
    with scripted_proxy(listing, SERVERS, {"servers": "a,b"}) as (relay, server):
        answer = relay.call(path="/pooled/v1/models", method="GET")
        assert (answer.status, error_of(answer)["code"], server.received) == (403, "server_not_allowed", [])
        assert relay.call({}, path=CHAT).status == 403
        listed = json.loads(relay.call(path="/v1/models", method="GET").body)["data"]
    assert not [model for model in listed if model["id"].startswith("pooled/")]
