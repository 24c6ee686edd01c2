"""Which server a request goes to: by path, by `server/model`, by alias; and the list of all models."""

import json
from typing import Any

import pytest

from tests.fakes import Connection, Received
from tests.relays import USAGE, error_of, failing, proxy

ANSWER = json.dumps({"usage": USAGE}).encode()


def answering(connection: Connection, _: Received) -> None:
    connection.answer(ANSWER)


@pytest.mark.parametrize(
    ("path", "model", "asked", "sent"),
    [
        ("/v1/chat/completions", "named/real-7b", "/named/chat/completions", "real-7b"),
        ("/v1/chat/completions", "named/meta/llama", "/named/chat/completions", "meta/llama"),
        ("/v1/chat/completions", "named/fast", "/named/chat/completions", "real-fast"),
        ("/v1/chat/completions", "fast", "/named/chat/completions", "real-fast"),
        ("/v1/embeddings", "big", "/named/embeddings", "meta/real-big"),
        ("/named/v1/chat/completions", "fast", "/named/chat/completions", "real-fast"),
        ("/spare/v1/chat/completions", "fast", "/spare/chat/completions", "spare-fast"),
        ("/named/v1/chat/completions", "named/x", "/named/chat/completions", "named/x"),
        ("/named/v1/chat/completions", None, "/named/chat/completions", "real"),
    ],
)
def test_a_path_or_a_model_names_the_server(path: str, model: str | None, asked: str, sent: str) -> None:
    with proxy(answering) as (relay, server):
        body: dict[str, Any] = {"messages": []}
        response = relay.call(body | ({"model": model} if model else {}), path=path)
    assert (response.status, response.headers["x-served-model"]) == (200, sent)
    [request] = server.received
    assert (request.target, json.loads(request.body)) == (asked, {"model": sent, "messages": []})
    assert relay.event[1]["request"]["model"] == sent


def test_the_model_of_an_upload_names_the_server() -> None:
    form = '--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nnamed/fast\r\n--b--\r\n'
    with proxy(answering) as (relay, server):
        headers = {"content-type": "multipart/form-data; boundary=b"}
        assert relay.call(form, path="/v1/audio/transcriptions", headers=headers).status == 200
    assert server.received[0].target == "/named/audio/transcriptions"
    assert server.received[0].body.decode() == form.replace("named/fast", "real-fast")


def test_a_fallback_is_asked_for_its_own_model_of_the_alias() -> None:
    with proxy(failing(1, "503 Later")) as (relay, server):
        response = relay.call({"model": "fast"}, path="/v1/chat/completions")
    assert (response.headers["x-served-by"], response.headers["x-served-model"]) == ("spare", "spare-fast")
    assert [json.loads(request.body)["model"] for request in server.received] == ["real-fast", "spare-fast"]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/v1/chat/completions", {}, 400, "model_required"),
        ("/v1/files", None, 400, "model_required"),
        ("/v1/chat/completions", {"model": "gpt-5"}, 404, "model_not_found"),
        ("/v1/chat/completions", {"model": "nowhere/gpt-5"}, 404, "model_not_found"),
        ("/v1/chat/completions", {"model": "named/"}, 404, "model_not_found"),
        ("/v1/chat/completions", {"model": "/x"}, 404, "model_not_found"),
        ("/v1/chat/completions", {"model": ["named/x"]}, 400, "invalid_model"),
        ("/v1/models/named/none", None, 404, "model_not_found"),
    ],
)
def test_a_model_that_names_no_server_is_refused(path: str, body: Any, status: int, code: str) -> None:
    with proxy(answering) as (relay, server):
        response = relay.call(body, path=path, method="GET" if "models" in path else "POST")
        chats = [request for request in server.received if request.method == "POST"]
    assert (response.status, error_of(response)["code"]) == (status, code)
    assert not chats
    assert relay.event[1]["error"]["type"] == code


@pytest.mark.parametrize(
    ("models", "path", "body", "status"),
    [
        ("real-fast", "/v1/chat/completions", {"model": "fast"}, 200),
        ("fast", "/v1/chat/completions", {"model": "fast"}, 200),
        ("named/real-fast", "/named/v1/chat/completions", {"model": "fast"}, 200),
        ("named/*", "/named/v1/chat/completions", {"model": "x"}, 200),
        ("real*", "/named/v1/chat/completions", {}, 200),
        ("spare/*", "/named/v1/chat/completions", {"model": "x"}, 403),
        ("x", "/named/v1/chat/completions", {"model": "fast"}, 403),
        ("real", "/named/v1/batches", {"input_file_id": "f"}, 403),
        ("fast", "/up/v1/chat/completions", {"model": "other"}, 403),
    ],
)
def test_a_key_is_held_to_its_models_under_every_name(models: str, path: str, body: Any, status: int) -> None:
    with proxy(answering, {"models": models}) as (relay, _):
        assert relay.call(body, path=path).status == status


def listing(connection: Connection, request: Received) -> None:
    if request.target == "/named/models":
        listed = [
            {"id": "real", "object": "model", "created": 5, "owned_by": "them"},
            {"id": "meta/real-big"},
            {"id": 7},
        ]
        connection.answer(json.dumps({"object": "list", "data": listed}).encode())
    elif request.target == "/spare/models":
        connection.answer(b"{}", "404 Not Found")
    else:
        connection.answer(b"<html>", content_type="text/html")


def test_the_models_of_all_servers_that_a_key_may_use() -> None:
    with proxy(listing, {"servers": "named,spare,other,unset"}) as (relay, server):
        response = relay.call(path="/v1/models", method="GET")
        asked = len(server.received)
        again = relay.call(path="/v1/models/named/real", method="GET")
        assert relay.call(path="/v1/models/named%2Freal", method="GET").body == again.body
        assert len(server.received) == asked, "what was learned is kept for a while"
        relay.now += 31
        relay.call(path="/v1/models", method="GET")
        assert {request.target for request in server.received[asked:]} == {"/spare/models"}
    answer = json.loads(response.body)
    ids = [model["id"] for model in answer["data"]]
    assert ids == ["named/real", "named/meta/real-big", "fast", "big", "spare/spare-model"]
    assert answer["data"][0] == {"id": "named/real", "object": "model", "created": 5, "owned_by": "them"}
    assert json.loads(again.body) == answer["data"][0]
    assert all(model["object"] == "model" and isinstance(model["created"], int) for model in answer["data"])
    assert answer["unavailable"] == [
        {"server": "other", "reason": "upstream_unreachable"},
        {"server": "unset", "reason": "server_not_configured"},
    ]
    detail_type, data = relay.bus.details[0][0], relay.bus.details[0][1]["data"]
    assert (detail_type, data["operation"]["name"], data["server"]["name"]) == ("InferenceCompleted", "models", None)
    assert sorted(attempt["server"] for attempt in data["attempts"]) == ["named", "other", "spare"]
    assert data["usage"]["source"] == "none"


@pytest.mark.parametrize(
    ("allowed", "owner", "sent"),
    [
        ({}, "named", "real-fast"),
        ({"servers": "named,spare"}, "named", "real-fast"),
        ({"servers": "spare"}, "spare", "spare-fast"),
        ({"servers": "up,spare"}, "spare", "spare-fast"),
        ({"models": "spare/spare-fast"}, "spare", "spare-fast"),
        ({"models": "spare/*"}, "spare", "spare-fast"),
        ({"models": "fast"}, "named", "real-fast"),
        ({"servers": "spare,other", "models": "fast"}, "spare", "spare-fast"),
    ],
)
def test_an_alias_of_two_servers_reaches_the_first_that_a_key_may_use(
    allowed: dict[str, str], owner: str, sent: str
) -> None:
    def script(connection: Connection, request: Received) -> None:
        connection.answer(b'{"data": []}' if request.method == "GET" else ANSWER)

    with proxy(script, allowed) as (relay, _):
        listed = json.loads(relay.call(path="/v1/models", method="GET").body)["data"]
        response = relay.call({"model": "fast"}, path="/v1/chat/completions")
    assert [model["owned_by"] for model in listed if model["id"] == "fast"] == [owner]
    assert (response.status, response.headers["x-served-by"], response.headers["x-served-model"]) == (200, owner, sent)


def test_an_alias_of_servers_that_a_key_may_not_use_is_refused() -> None:
    with proxy(answering, {"servers": "up"}) as (relay, server):
        assert error_of(relay.call({"model": "fast"}, path="/v1/chat/completions"))["code"] == "server_not_allowed"
    assert server.received == []


def test_a_model_that_says_too_much_does_not_cost_the_others_their_list() -> None:
    def script(connection: Connection, _: Received) -> None:
        connection.answer(f'{{"data": [{{"id": "deep", "a": {{"b": [5]}}, "x": {nested}}}, {{"id": "b"}}]}}'.encode())

    with proxy(script, {"servers": "named"}) as (relay, _):
        for depth in range(940, 1000, 4):  # where it can just be read
            nested = "[" * depth + "]" * depth
            response = relay.call(path="/v1/models", method="GET")
            assert response.status == 200
            found = {model["id"]: model for model in json.loads(response.body)["data"]}
            assert "named/real" in found
            assert "named/deep" not in found or found["named/deep"]["a"] == {"b": [5]}
            relay.now += 301


def test_a_key_sees_only_the_models_that_it_may_ask_for() -> None:
    with proxy(listing, {"servers": "named", "models": "real,big"}) as (relay, _):
        answer = json.loads(relay.call(path="/v1/models", method="GET").body)
    assert [model["id"] for model in answer["data"]] == ["named/real", "big"]


OPENAI: dict[str, Any] = {
    "object": "list",
    "data": [
        {"id": "gpt-5", "object": "model", "created": 5, "owned_by": "them", "price": 0.5},
        {"id": "gpt-5-pro", "object": "model"},
        {"id": "other"},
        {"name": "gpt-5-mini", "id": None},
        {"id": 7},
        {},
        None,
    ],
    "has_more": False,
    "last_id": "other",
    "extra": {"default": "other"},
}


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        (OPENAI, {"object": "list", "data": [OPENAI["data"][0], OPENAI["data"][3]], "has_more": False}),
        ([{"id": "gpt-5"}, {"id": "other"}], [{"id": "gpt-5"}]),
        ({"models": ["gpt-5", "other"], "data": []}, {"models": ["gpt-5"], "data": []}),
        (
            {"models": [{"model": "other", "name": "gpt-5"}], "data": [{"id": "gpt-5"}]},
            {"models": [], "data": [{"id": "gpt-5"}]},
        ),
        ({"data": [{"id": "models/gpt-5"}, {"id": "models/other"}]}, {"data": [{"id": "models/gpt-5"}]}),
        ({"object": "list", "data": []}, {"object": "list", "data": []}),
    ],
)
def test_a_limited_key_sees_its_models_in_the_servers_own_list_and_form(said: Any, seen: Any) -> None:
    def script(connection: Connection, request: Received) -> None:
        connection.answer(json.dumps(said).encode(), more="x-request-id: up-1\r\n")

    with proxy(script, {"models": "named/gpt-5,gpt-5-mini,up/other"}) as (relay, server):
        response = relay.call(path="/named/v1/models", method="GET", query="limit=5")
    assert (response.status, json.loads(response.body)) == (200, seen)
    assert response.headers["x-upstream-request-id"] == "up-1"
    assert [request.target for request in server.received] == ["/named/models?limit=5"]
    detail_type, data = relay.event
    assert (detail_type, data["operation"]["name"], data["usage"]["source"]) == ("InferenceCompleted", "models", "none")


def test_a_key_that_may_use_all_models_sees_the_list_as_it_came() -> None:
    said = b' {"data" : [{"id": 7}]}'
    with proxy(lambda connection, _: connection.answer(said)) as (relay, _):
        assert relay.call(path="/named/v1/models", method="GET").body == said


@pytest.mark.parametrize(
    "said", [b"", b"<html>", b"{}", b'"gpt-5"', b'{"data": {"gpt-5": {}}}', b'{"data": [', b"[" * 50_000]
)
def test_a_list_that_cannot_be_read_is_not_shown(said: bytes) -> None:
    with proxy(lambda connection, _: connection.answer(said), {"models": "gpt-5"}) as (relay, _):
        response = relay.call(path="/up/v1/models", method="GET")
    assert (response.status, error_of(response)["code"]) == (502, "upstream_no_answer")
    assert relay.event[0] == "InferenceFailed"


def test_the_error_of_a_server_that_does_not_list_its_models_is_told() -> None:
    said = b'{"error": {"message": "no list here"}}'
    with proxy(lambda connection, _: connection.answer(said, "404 Not Found"), {"models": "gpt-5"}) as (relay, _):
        response = relay.call(path="/up/v1/models", method="GET")
    assert (response.status, response.body) == (404, said)


@pytest.mark.parametrize(
    ("path", "query", "method", "status"),
    [
        ("/up/v1/models/owner%2Fname", "", "GET", 200),
        ("/up/v1/models/owner/name", "", "GET", 200),
        ("/up/v1/models/owner%2Fother", "", "GET", 403),
        ("/up/v1/models/other", "", "GET", 403),
        ("/up/v1/models/owner%2Fname", "", "DELETE", 403),
        ("/up/v1/models/owner%2Fname", "model=other", "GET", 403),
        ("/up/v1/models", "model[]=other", "GET", 403),
        ("/up/v1/models", "", "POST", 403),
        ("/up/v1/models", "", "HEAD", 403),
        ("/named/v1/models", "", "GET", 403),
        ("/up/v1/files", "", "GET", 403),
    ],
)
def test_a_limited_key_may_look_up_its_own_models_and_nothing_else(
    path: str, query: str, method: str, status: int
) -> None:
    with proxy(answering, {"models": "owner/name", "servers": "up"}) as (relay, server):
        assert relay.call(path=path, method=method, query=query).status == status
    assert len(server.received) == (status == 200)


def test_the_list_of_a_fallback_is_not_that_of_the_server() -> None:
    with proxy(failing(9, "503 Later"), {"models": "spare-model"}) as (relay, server):
        assert relay.call(path="/named/v1/models", method="GET").status == 503
    assert [request.target for request in server.received] == ["/named/models"]


def test_a_model_that_a_key_may_ask_for_by_an_alias_alone_is_listed_by_it() -> None:
    said = {"data": [{"id": "real-fast", "owned_by": "them"}, {"id": "real"}], "models": ["real-fast"]}
    with proxy(lambda connection, _: connection.answer(json.dumps(said).encode()), {"models": "fast"}) as (relay, _):
        seen = json.loads(relay.call(path="/named/v1/models", method="GET").body)
        assert relay.call(path="/named/v1/models/real-fast", method="GET").status == 403
    assert seen == {"data": [{"id": "fast", "owned_by": "them"}], "models": ["fast"]}
