"""The response cache at the proxy: what is kept, who gets it, in which form, and what an event says of it."""

import base64
import gzip
import hashlib
import json
import time
from itertools import pairwise
from typing import Any

import pytest
from openai_proxy.key_context import CACHE_ONLY
from proxy.aws.client import AwsError
from proxy.cache.key import HEADERS_WITHOUT_INFLUENCE
from proxy.cache.response_cache import Settings
from proxy.metering.whole_message import events_of

from tests.caches import CHAT, STREAM, caches
from tests.fakes import Connection, Received, RecordedResponse, Script
from tests.relays import CONTENT, DONE, USAGE, USAGE_CHUNK, sse, streaming

ANSWER = {
    "id": "c-2",
    "object": "chat.completion",
    "created": 1,
    "model": "real-model",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hello world", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
}


def said(index: int, reason: str | None) -> dict[str, Any]:
    """A choice of a chat."""
    return {"index": index, "message": {"role": "assistant", "content": "a"}, "finish_reason": reason}


KEPT = "/kept/v1/chat/completions"


def answering(document: object) -> Script:
    return lambda connection, _: connection.answer(json.dumps(document).encode())


def each_its_own(connection: Connection, request: Received) -> None:
    """Says how many requests came before on this connection's server: no two answers are the same."""
    body = json.dumps(ANSWER | {"id": hashlib.sha256(request.body + str(id(request)).encode()).hexdigest()})
    connection.answer(body.encode())


def ask(proxied: Any, body: Any = None, **more: Any) -> RecordedResponse:
    return proxied.call(CHAT if body is None else body, path=more.pop("path", KEPT), **more)


def test_a_packed_request_has_the_key_of_the_plain_one() -> None:
    with caches(answering(ANSWER)) as cached:
        proxied = cached.proxy()
        assert ask(proxied).headers["x-cache"] == "MISS"
        packed = base64.b64encode(gzip.compress(json.dumps(CHAT).encode())).decode()
        event = {
            "version": "2.0",
            "rawPath": KEPT,
            "rawQueryString": "",
            "headers": {
                "authorization": "Bearer good",
                "content-type": "application/json",
                "content-encoding": "gzip",
            },
            "requestContext": {"http": {"method": "POST"}},
            "body": packed,
            "isBase64Encoded": True,
        }
        response = RecordedResponse()
        proxied.relay.serve(event, response, time.time() + 60)
    assert response.headers["x-cache"] == "HIT"


def test_a_stream_is_replayed_byte_for_byte_and_costs_nothing() -> None:
    with caches(streaming(*CONTENT, USAGE_CHUNK, DONE)) as cached:
        proxied = cached.proxy(clock=lambda: 1000.0)
        asked = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
        first, second = ask(proxied, asked), ask(proxied, asked)
        assert len(cached.server.received) == 1
    assert cached.bucket.calls == [], "a small answer is in the event itself"
    timing = cached.bus.captured[0]["response"]["timing"]
    assert timing[0] == [0, 0]
    assert all(later >= earlier for earlier, later in pairwise(timing)), "places and moments never go back"
    assert first.body == second.body == STREAM
    assert (first.headers["x-cache"], first.headers["x-cache-reason"]) == ("MISS", "not_found")
    assert (second.headers["x-cache"], second.headers["age"]) == ("HIT", "0")
    assert second.headers["x-cache-saved"] == "0.000015 USD"
    assert second.headers["content-type"] == "text/event-stream"
    assert second.headers["x-served-by"] == "kept"
    assert "x-cache-reason" not in second.headers
    assert "x-attempts" not in second.headers
    assert cached.bus.uses == [("MISS", "not_found"), ("HIT", None)]
    (_, missed), (detail_type, hit) = cached.bus.terminal
    assert detail_type == "InferenceCompleted"
    assert hit["usage"] == missed["usage"]
    assert hit["usage"]["input_tokens"] == 9
    assert hit["attempts"] == []
    assert (hit["response"]["model"], hit["response"]["finish_reasons"]) == ("real-model", ["stop"])
    assert hit["response"]["time_to_first_chunk"] > 0
    assert hit["timings"]["upstream"] == 0


def test_usage_is_hidden_from_whom_it_was_not_shown_and_shown_to_whom_it_was() -> None:
    with caches(streaming(*CONTENT, USAGE_CHUNK, DONE)) as cached:
        proxied = cached.proxy()
        hidden, shown = {**CHAT, "stream": True}, {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
        bodies = [ask(proxied, asked).body for asked in (hidden, shown, hidden)]
    assert bodies == [b"".join([*CONTENT, DONE]), STREAM, b"".join([*CONTENT, DONE])]
    assert [status for status, _ in cached.bus.uses] == ["MISS", "HIT", "HIT"]


def test_a_document_is_replayed_byte_for_byte() -> None:
    with caches(answering(ANSWER)) as cached:
        proxied = cached.proxy()
        first, second = ask(proxied), ask(proxied)
    assert first.body == second.body == json.dumps(ANSWER).encode()
    assert second.headers["x-cache"] == "HIT"
    assert second.headers["content-type"] == first.headers["content-type"]


MESSAGE: dict[str, Any] = {
    "id": "msg",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "b"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 4},
}


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        (
            "embeddings",
            {"input": ["a", "b"]},
            {"data": [{"index": 0, "embedding": [0.1]}, {"index": 1, "embedding": "AACAPw=="}]},
        ),
        ("embeddings", {"input": [1, 2, 3]}, {"data": [{"embedding": [0.1]}]}),
        ("completions", {"prompt": "a", "temperature": 0.0}, {"choices": [{"text": "b", "finish_reason": "length"}]}),
        (
            "responses",
            {"input": "a", "temperature": 0, "store": False},
            {"object": "response", "status": "completed", "id": "r", "output": []},
        ),
        ("messages", {"temperature": 0, "messages": [], "model": "claude-named"}, MESSAGE),
        (
            "chat/completions",
            {"temperature": 0, "n": 2},
            {"choices": [said(1, "stop"), said(0, "length")]},
        ),
    ],
)
def test_every_cacheable_operation_is_kept(path: str, body: dict[str, Any], answer: dict[str, Any]) -> None:
    with caches(answering(answer)) as cached:
        proxied = cached.proxy()
        for _ in range(2):
            assert json.loads(ask(proxied, body, path=f"/kept/v1/{path}").body) == answer
    assert [status for status, _ in cached.bus.uses] == ["MISS", "HIT"]
    told = [event for _, event in cached.bus.terminal]
    for event in told:
        del event["response"]["time_to_first_chunk"], event["timings"], event["attempts"], event["cache"]
        del event["cold_start"]
    assert told[0] == told[1], "what was asked and answered is the same"


ANSWERED = json.dumps(ANSWER).encode()


def broken_off(connection: Connection) -> None:
    connection.stop()


MESSAGE_EVENTS = [f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events_of(MESSAGE)]


def test_a_message_is_replayed_and_its_other_form_told() -> None:
    asked = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 9, "temperature": 0}
    with caches(streaming(*MESSAGE_EVENTS)) as cached:
        proxied = cached.proxy()
        first, second = (ask(proxied, {**asked, "stream": True}, path="/kept/v1/messages") for _ in range(2))
        document = ask(proxied, asked, path="/kept/v1/messages")
        assert len(cached.server.received) == 1
    assert first.body == second.body == b"".join(MESSAGE_EVENTS)
    assert json.loads(document.body) == MESSAGE
    assert document.headers["content-type"] == "application/json"
    (_, missed), *hits = cached.bus.terminal
    assert [status for status, _ in cached.bus.uses] == ["MISS", "HIT", "HIT"]
    assert all(hit["usage"] == missed["usage"] and hit["usage"]["output_tokens"] == 4 for _, hit in hits)


NOT_KEPT: list[tuple[str, Any, dict[str, Any], Script]] = [
    ("a message that stops", "messages", {"stream": True}, streaming(*MESSAGE_EVENTS[:-1])),
    ("a refusal", "messages", {}, answering({**MESSAGE, "stop_reason": "refusal"})),
    ("an error instead of a message", "messages", {}, answering({"type": "error", "error": {"type": "api_error"}})),
    ("cut in the middle", "chat/completions", {"stream": True}, streaming(CONTENT[0], end=broken_off)),
    ("ended in the middle", "chat/completions", {"stream": True}, streaming(CONTENT[0])),
    ("without its end mark", "chat/completions", {"stream": True}, streaming(*CONTENT, USAGE_CHUNK)),
    ("filtered", "chat/completions", {"stream": True}, streaming(sse("x", "content_filter"), DONE)),
    (
        "an error in the stream",
        "chat/completions",
        {"stream": True},
        streaming(b'data: {"error": {"message": "x"}}\n\n', *CONTENT, DONE),
    ),
    ("one of two choices", "chat/completions", {"n": 2}, answering({"choices": [said(0, "stop")]})),
    ("one of two choices twice", "chat/completions", {"n": 2}, answering({"choices": [said(0, "stop")] * 2})),
    ("a number of choices that is no number", "chat/completions", {"n": "1"}, answering(ANSWER)),
    ("no finish reason", "chat/completions", {}, answering({"choices": [said(0, None)]})),
    ("an error as a text", "chat/completions", {}, answering({**ANSWER, "error": "x"})),
    ("an error event", "chat/completions", {"stream": True}, streaming(b"event: error\ndata: {}\n\n", *CONTENT, DONE)),
    ("cut behind a text", "chat/completions", {"stream": True}, streaming(*CONTENT, b'data: {"a": "[DONE]')),
    (
        "filtered, then stopped",
        "chat/completions",
        {"stream": True},
        streaming(sse("", "content_filter"), *CONTENT, DONE),
    ),
    ("a search", "chat/completions", {}, answering({**ANSWER, "citations": ["https://example.com"]})),
    (
        "jsonp",
        "chat/completions",
        {},
        lambda connection, _: connection.answer(ANSWERED, content_type="application/jsonp"),
    ),
    *(
        ("private", "chat/completions", {}, lambda connection, _, more=more: connection.answer(ANSWERED, more=more))
        for more in (
            "cache-control: max-age=0, No-Store\r\n",
            "cache-control: private\r\n",
            "vary: accept, *\r\n",
            "set-cookie: __cf_bm=a; path=/; expires=Fri, 03-Oct-25 23:23:26 GMT\r\nset-cookie: session=b\r\n",
            "set-cookie: nonsense\r\n",
            "set-cookie: __cf_bm=a\r\nset-cookie: nonsense\r\n",
            "cdn-cache-control: no-store\r\n",
            "surrogate-control: max-age=5, PRIVATE\r\n",
            "vary: accept\r\nvary: *\r\n",
            "vary: accept-encoding, TraceParent\r\n",
        )
    ),
    ("a document for a stream", "chat/completions", {"stream": True}, answering(ANSWER)),
    (
        "an incomplete response",
        "responses",
        {"input": "a", "store": False},
        answering({"object": "response", "status": "incomplete"}),
    ),
    ("an embedding too few", "embeddings", {"input": ["a", "b"]}, answering({"data": [{"embedding": [1]}]})),
    ("no document", "embeddings", {"input": "a"}, lambda connection, _: connection.answer(b"{")),
    (
        "a refusal of the server",
        "chat/completions",
        {},
        lambda connection, _: connection.answer(b'{"error": {"message": "slow down"}}', "429 Too Many Requests"),
    ),
    (
        "a packed answer",
        "chat/completions",
        {},
        lambda connection, _: connection.answer(json.dumps(ANSWER).encode(), more="content-encoding: br\r\n"),
    ),
    ("created, not answered", "chat/completions", {}, lambda connection, _: connection.answer(b"{}", "201 Created")),
]


@pytest.mark.parametrize(
    ("path", "body", "script"), [case[1:] for case in NOT_KEPT], ids=[case[0] for case in NOT_KEPT]
)
def test_only_whole_good_answers_are_kept(path: str, body: dict[str, Any], script: Script) -> None:
    with caches(script) as cached:
        proxied = cached.proxy(Settings(wait=0.1))
        ask(proxied, {**CHAT, **body}, path=f"/kept/v1/{path}")
        ask(proxied, {**CHAT, **body}, path=f"/kept/v1/{path}")
        assert len(cached.server.received) == 2
    assert cached.bus.captured == []
    assert cached.table.items == {}, "a lease that nothing comes of is given back"
    assert [status for status, _ in cached.bus.uses] == ["MISS", "MISS"]


def test_cookies_of_what_stands_before_a_server_do_not_matter() -> None:
    cookies = "".join(
        f"set-cookie: {name}=a; expires=Fri, 03-Oct-25 23:23:26 GMT\r\n" for name in ("__cf_bm", "_cfuvid")
    )
    more = cookies + "vary: accept-encoding\r\ncache-control: no-cache, must-revalidate\r\n"
    with caches(lambda connection, _: connection.answer(ANSWERED, more=more)) as cached:
        proxied = cached.proxy()
        assert [ask(proxied).headers["x-cache"] for _ in range(2)] == ["MISS", "HIT"]


def test_why_an_answer_is_not_kept_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    with caches(answering({**ANSWER, "citations": ["https://example.com"]})) as cached:
        ask(cached.proxy())
    [line] = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "not kept" in line]
    assert (line["level"], line["reason"]) == ("INFO", "searched")


def test_half_a_character_in_a_models_name_is_replaced() -> None:
    body = json.dumps({**ANSWER, "model": "m\ud83d"}).encode()
    with caches(lambda connection, _: connection.answer(body)) as cached:
        proxied = cached.proxy()
        assert [ask(proxied).body for _ in range(2)] == [body, body]
    assert [data["response"]["model"] for data in cached.bus.captured] == ["m\ufffd"]
    assert [status for status, _ in cached.bus.uses] == ["MISS", "HIT"]


def test_what_a_client_did_not_wait_for_is_not_kept() -> None:
    with caches(streaming(*CONTENT, USAGE_CHUNK, DONE)) as cached:
        ask(cached.proxy(), {**CHAT, "stream": True}, response=RecordedResponse(break_after=1))
    assert cached.bus.captured == []
    assert cached.bus.terminal[0][1]["error"]["type"] == "client_gone"


def test_the_answer_of_a_fallback_is_not_that_of_the_server() -> None:
    with caches(answering(ANSWER)) as cached:
        response = ask(cached.proxy(), path="/backed/v1/chat/completions")
    assert (response.status, response.headers["x-served-by"]) == (200, "kept")
    assert cached.bus.captured == []


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"temperature": 0.2}, "temperature"),
        ({"temperature": None}, "temperature"),
        ({"temperature": False}, "temperature"),
        ({"store": True}, "stateful"),
        ({"Store": True}, "stateful"),
        ({"tools": [{"type": "code_interpreter"}]}, "hosted_tools"),
        ({"background": True}, "stateful"),
        ({"previous_response_id": "r"}, "stateful"),
        ({"conversation": "c"}, "stateful"),
        ({"prompt": {"id": "p"}}, "stateful"),
        ({"input": [{"type": "item_reference", "id": "i"}]}, "stateful"),
        ({"input": [{"id": "i"}]}, "stateful"),
        ({"modalities": ["text", "audio"]}, "stateful"),
        ({"tools": [{"type": "function"}, {"type": "web_search"}]}, "hosted_tools"),
        ({"web_search_options": {}}, "hosted_tools"),
        ({"model": "sonar-pro"}, "hosted_tools"),
        ({"messages": [{"role": "user", "content": [{"file": {"file_id": "f"}}]}]}, "references"),
    ],
)
def test_what_might_not_be_the_same_again_passes_by(changed: dict[str, Any], reason: str) -> None:
    with caches(answering(ANSWER)) as cached:
        response = ask(cached.proxy(), {**CHAT, **changed})
    assert (response.headers["x-cache"], response.headers["x-cache-reason"]) == ("BYPASS", reason)
    assert cached.table.calls == []
    assert [name for name, _ in cached.bus.details] == ["InferenceCompleted"]


def test_a_request_with_an_idempotency_key_is_its_own() -> None:
    with caches(answering(ANSWER)) as cached:
        response = ask(cached.proxy(), headers={"idempotency-key": "k"})
        assert [request.headers["idempotency-key"] for request in cached.server.received] == ["k"]
    assert (response.headers["x-cache"], response.headers["x-cache-reason"]) == ("BYPASS", "idempotency_key")
    assert cached.table.calls == []


def test_a_response_that_the_server_remembers_is_not_shared() -> None:
    with caches(answering(ANSWER)) as cached:
        for store in ({}, {"store": None}, {"store": "false"}):
            response = ask(cached.proxy(), {"input": "a", "temperature": 0, **store}, path="/kept/v1/responses")
            assert (response.headers["x-cache"], response.headers["x-cache-reason"]) == ("BYPASS", "stateful")
    assert cached.table.calls == []


OWN_HEADERS = {"host", "content-length", "authorization", "user-agent", "accept-encoding"}
"""What the server gets from the proxy and not from the client: the same for every request but its credentials."""


def test_what_reaches_the_server_tells_requests_apart() -> None:
    sent = {
        "accept": "a/a",
        "content-type": "application/json",
        "openai-beta": "x",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "x",
        "traceparent": f"00-{'1' * 32}-{'2' * 16}-01",
    }
    with caches(each_its_own) as cached:
        proxied = cached.proxy()
        first = ask(proxied, headers=sent)
        [received] = cached.server.received
        for name in received.headers.keys() - OWN_HEADERS - HEADERS_WITHOUT_INFLUENCE.keys():
            changed = ask(proxied, headers={**sent, name: sent[name] + "; charset=x"})
            assert changed.headers["x-cache"] == "MISS", name
        same = [
            ask(proxied, headers={**sent, name: "00" + "-" + "3" * 32 + "-" + "4" * 16 + "-00"})
            for name in ("traceparent",)
        ]
        changed = [ask(proxied, headers=sent, query="a=b"), ask(proxied, {**CHAT, "user": "u"}, headers=sent)]
    assert [each.body for each in same] == [first.body]
    assert [each.headers["x-cache"] for each in changed] == ["MISS", "MISS"]


def test_a_name_twice_anywhere_in_the_body_passes_by() -> None:
    body = '{"temperature": 0, "messages": [{"role": "user", "role": "system", "content": "Hello"}]}'
    with caches(answering(ANSWER)) as cached:
        assert ask(cached.proxy(), body).headers["x-cache-reason"] == "unclear"
    assert cached.table.calls == []


@pytest.mark.parametrize(
    ("path", "headers"),
    [("/kept/v1/chat/completions", {"x-cache-any-temperature": "true"}), ("/free/v1/chat/completions", {})],
)
def test_chance_may_be_welcome(path: str, headers: dict[str, str]) -> None:
    with caches(each_its_own) as cached:
        proxied = cached.proxy()
        bodies = {ask(proxied, {"messages": []}, path=path, headers=headers).body for _ in range(3)}
    assert len(bodies) == 1


@pytest.mark.parametrize("path", ["/up/v1/chat/completions", "/v1/models"])
def test_without_a_policy_nothing_is_even_loaded(path: str) -> None:
    asked_for: list[bool] = []

    def never() -> Any:
        asked_for.append(True)
        raise AssertionError

    with caches(answering(ANSWER)) as cached:
        proxied = cached.proxy()
        proxied.use(cache=never)
        method = "GET" if path.endswith("models") else "POST"
        response = ask(proxied, None if method == "POST" else "", path=path, method=method)
    assert response.status == 200
    said = {name: value for name, value in response.headers.items() if name.startswith("x-cache")}
    assert said == {}, "a stack without a cache says nothing of one"
    assert cached.bus.uses == [("BYPASS", "off")]
    assert asked_for == []


def test_a_fault_of_the_cache_leaves_the_request_to_its_server(capsys: pytest.CaptureFixture[str]) -> None:
    def broken() -> Any:
        raise ZeroDivisionError

    with caches(answering(ANSWER)) as cached:
        proxied = cached.proxy()
        proxied.use(cache=broken)
        response = ask(proxied)
    assert response.status == 200
    assert len(cached.server.received) == 1
    assert cached.bus.uses == [("BYPASS", "off")]
    assert "The response cache failed" in capsys.readouterr().out


def test_two_tenants_never_share_but_in_a_pool() -> None:
    with caches(each_its_own) as cached:
        a, b = cached.proxy(client_id="a"), cached.proxy(client_id="b")
        assert ask(a).body != ask(b).body
        shared = "/pooled/v1/chat/completions"
        assert ask(a, path=shared).body == ask(b, path=shared).body
        pooled = [cached.proxy(client_id=name, cache="on:60:team") for name in "ab"]
        one, other = (ask(each, path="/up/v1/chat/completions").body for each in pooled)
        assert one == other
        assert ask(cached.proxy(client_id="c", cache="on::other"), path="/up/v1/chat/completions").body != one
        assert ask(cached.proxy(client_id="c", cache="on:60:all"), path=shared).headers["x-cache"] == "MISS"


def test_a_client_that_is_made_again_has_none_of_the_old_ones_answers() -> None:
    with caches(each_its_own) as cached:
        old = ask(cached.proxy(client_id="a", key_id="0123456789ab", limits_id="0123456789ab"))
        rotated = ask(cached.proxy(client_id="a", key_id="111111111111", limits_id="0123456789ab"))
        again = ask(cached.proxy(client_id="a", key_id="ba9876543210", limits_id="ba9876543210"))
    assert rotated.body == old.body, "a key that takes the place of another keeps its answers"
    assert again.headers["x-cache"] == "MISS"
    assert {data["scope"] for data in cached.bus.captured} == {"client:a"}


def test_a_pool_is_shared_by_all_keys_that_name_it() -> None:
    with caches(each_its_own) as cached:
        keys = [cached.proxy(client_id="a", key_id=12 * digit, cache="on:60:docs") for digit in "12"]
        one, other = (ask(key) for key in keys)
    assert one.body == other.body


@pytest.mark.parametrize(("policy", "use"), [("off", None), ("on::", "HIT"), ("on:60:", "HIT"), ("", "HIT")])
def test_a_keys_policy_goes_before_the_servers(policy: str, use: str | None) -> None:
    with caches(answering(ANSWER)) as cached:
        ask(cached.proxy())
        assert ask(cached.proxy(cache=policy)).headers.get("x-cache") == use


@pytest.mark.parametrize("policy", ["perhaps", "on:soon:", "on:0:", "on:1:2:3"])
def test_a_policy_that_is_not_understood_lets_nobody_in(policy: str) -> None:
    with caches(answering(ANSWER)) as cached:
        assert ask(cached.proxy(cache=policy)).status == 503
        assert cached.server.received == []


def test_a_namespace_keeps_apart() -> None:
    with caches(each_its_own) as cached:
        proxied = cached.proxy()
        bodies = [ask(proxied, headers={"x-cache-namespace": name}).body for name in ("a", "b", "a")]
        bad = ask(proxied, headers={"x-cache-namespace": "a b"})
    assert bodies[0] == bodies[2] != bodies[1]
    assert (bad.headers["x-cache"], bad.headers["x-cache-reason"]) == ("BYPASS", "namespace")


@pytest.mark.parametrize(
    ("directive", "use", "reason", "next_id"),
    [
        ("no-cache", "REFRESH", "no_cache", "new"),
        ("max-age=0", "REFRESH", "no_cache", "new"),
        ("max-age=soon", "REFRESH", "no_cache", "new"),
        ("no-store", "BYPASS", "no_store", "old"),
        ("max-age=30", "MISS", "too_old", "new"),
        ("max-age=50", "HIT", None, "old"),
        ("min-fresh=20", "HIT", None, "old"),
        ("min-fresh=21", "MISS", "too_old", "new"),
        ("max-age=39, min-fresh=1", "MISS", "too_old", "new"),
        ("min-fresh=60", "REFRESH", "no_cache", "new"),
        ("min-fresh=9999999999", "REFRESH", "no_cache", "new"),
        ("min-fresh=soon", "REFRESH", "no_cache", "new"),
        ("max-stale=900", "HIT", None, "old"),
        ("private", "HIT", None, "old"),
        ("max-age=9999999999", "HIT", None, "old"),
        ('MAX-AGE="30"', "MISS", "too_old", "new"),
        ("only-if-cached", "HIT", None, "old"),
    ],
)
def test_what_a_request_may_ask_of_the_cache(directive: str, use: str, reason: str | None, next_id: str) -> None:
    ids = iter(["old", "new"])
    with caches(lambda connection, _: connection.answer(json.dumps(ANSWER | {"id": next(ids)}).encode())) as cached:
        ask(cached.proxy(clock=lambda: 1000.0))
        late = cached.proxy(clock=lambda: 1040.0)
        second = ask(late, headers={"cache-control": directive})
        third = ask(late)
    assert (second.headers["x-cache"], second.headers.get("x-cache-reason")) == (use, reason)
    assert second.headers.get("age") == ("40" if use == "HIT" else None)
    assert json.loads(third.body)["id"] == next_id


def test_pragma_asks_for_a_new_answer_where_there_is_no_cache_control() -> None:
    with caches(each_its_own) as cached:
        proxied = cached.proxy()
        ask(proxied)
        old = ask(proxied, headers={"pragma": "no-cache", "cache-control": "max-age=60"})
        new = ask(proxied, headers={"pragma": "no-cache"})
    assert [response.headers["x-cache"] for response in (old, new)] == ["HIT", "REFRESH"]


@pytest.mark.parametrize(
    ("path", "directives", "said", "calls"),
    [
        (KEPT, "only-if-cached", ("MISS", "not_found"), ["get"]),
        (KEPT, "only-if-cached, no-store", ("BYPASS", "no_store"), []),
        (KEPT, "only-if-cached, no-cache", ("REFRESH", "no_cache"), []),
        ("/up/v1/chat/completions", "only-if-cached", (None, None), []),
    ],
)
def test_what_only_the_cache_may_answer_goes_nowhere(
    path: str, directives: str, said: tuple[str | None, str | None], calls: list[str]
) -> None:
    with caches(answering(ANSWER)) as cached:
        proxied = cached.proxy(Settings(wait=5))
        response = ask(proxied, path=path, headers={"cache-control": directives})
        assert cached.server.received == []
    error = json.loads(response.body)["error"]
    assert (response.status, error["code"], error["type"]) == (504, "not_cached", "invalid_request_error")
    assert (response.headers.get("x-cache"), response.headers.get("x-cache-reason")) == said
    assert cached.table.calls == calls
    [(detail_type, data)] = cached.bus.terminal
    assert (detail_type, data["error"]["type"], data["error"]["source"]) == ("InferenceFailed", "not_cached", "client")
    assert (data["usage"]["source"], data["usage"]["input_tokens"], data["attempts"]) == ("none", 0, [])


def test_a_key_that_a_guard_holds_to_the_cache_gets_what_is_there_and_nothing_else() -> None:
    with caches(answering(ANSWER)) as cached:
        ask(cached.proxy())
        held = cached.proxy(Settings(wait=5), guards=CACHE_ONLY)
        there, fresh = ask(held), ask(held, headers={"cache-control": "no-cache"})
        elsewhere = ask(held, path="/up/v1/chat/completions")
        assert len(cached.server.received) == 1
        freed = ask(cached.proxy(guards="on"), headers={"cache-control": "no-cache"})
    assert (there.status, there.headers["x-cache"], freed.status) == (200, "HIT", 200)
    for refused in (fresh, elsewhere):
        error = json.loads(refused.body)["error"]
        assert (refused.status, error["code"], error["type"]) == (403, "cache_only", "permission_error")
    told = [(kind, data.get("error", {}).get("type")) for kind, data in cached.bus.terminal[1:4]]
    assert told == [("InferenceCompleted", None), *[("InferenceFailed", "cache_only")] * 2]
    digests = [data["request"].get("digest") for _, data in cached.bus.terminal]
    assert digests[0] is None, "guards were off"
    assert len(set(digests[1:])) == 1, "the same was asked"


def test_an_answer_is_served_no_longer_than_its_policy_says() -> None:
    with caches(each_its_own) as cached:
        ask(cached.proxy(clock=lambda: 1000.0))
        assert ask(cached.proxy(clock=lambda: 1059.0)).headers["x-cache"] == "HIT"
        assert ask(cached.proxy(clock=lambda: 1040.0, cache="on:30:")).headers["x-cache-reason"] == "expired"
    with caches(each_its_own) as cached:
        ask(cached.proxy(clock=lambda: 1000.0))
        assert ask(cached.proxy(clock=lambda: 1060.0)).headers["x-cache-reason"] == "expired"


def test_a_limited_key_takes_and_gives_back_for_a_hit_as_for_a_miss() -> None:
    updates: list[dict[str, Any]] = []

    def update_item(arguments: dict[str, Any], _timeout: float) -> tuple[bool, dict[str, Any]]:
        updates.append(arguments)
        names, values = arguments["ExpressionAttributeNames"], arguments["ExpressionAttributeValues"]
        live = {names["#lease"]: values[":lease"]} if ":lease" in values else {}
        return True, {"tokens": {"N": "10"}, "requests": {"N": "1"}, "live": {"M": live}}

    with caches(answering(ANSWER)) as cached:
        proxied = cached.proxy(limits_id="l", tpm="1000", parallel="2")
        services: Any = cached.bus
        services.update_item = update_item
        ask(proxied)
        ask(proxied)
    assert cached.bus.uses == [("MISS", "not_found"), ("HIT", None)]
    _, release_miss, _, release_hit = (json.dumps(update) for update in updates)
    estimate = cached.bus.terminal[1][1]["limits"]["reserved"]["tokens"]
    assert estimate > 12
    assert f'"{12 - estimate}"' in release_miss
    assert f'"{-estimate}"' in release_hit, "a hit uses no tokens"
    assert "REMOVE" in release_hit


def test_a_failing_table_fails_no_request_and_is_left_alone_for_a_moment() -> None:
    now = 1000.0
    with caches(answering(ANSWER)) as cached:
        proxied = cached.proxy(clock=lambda: now)
        cached.table.failure = AwsError("dynamodb:GetItem", "SilenceError: nothing came")
        responses = [ask(proxied), ask(proxied)]
        assert cached.table.calls == ["get"], "asked once"
        cached.table.failure, now = None, 1006.0
        responses.append(ask(proxied))
    assert [response.status for response in responses] == [200] * 3
    assert cached.bus.uses == [("BYPASS", "table_error")] * 2 + [("MISS", "not_found")]
    assert len(cached.bus.captured) == 1
