"""What is said, whole, of requests that are rarer: in the background, from the cache, under limits, traced, in time."""

import base64
import hashlib
import json
import socket
import zlib
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any, cast

import pytest
from openai_proxy.events.ulid import ulid_time
from proxy.cache.response_cache import ResponseCache, Settings
from proxy.cache.table import CacheTable
from proxy.records.content_log import ContentLog
from proxy.records.tracing import Daemon

from tests.caches import FakeTable, StoringBus
from tests.limits.table import LimitsItems
from tests.timed_relays import (
    BEGIN,
    Answer,
    Piece,
    Spent,
    TimedProxy,
    World,
    broken,
    document,
    rest_event,
    stream,
    timed_proxy,
    url_event,
)
from tests.unit.proxy.records.whole_records import (
    Asked,
    Said,
    Seen,
    event_of,
    headers_of,
    line_of,
    logged,
    moment,
    usage,
)

CONTEXT = {"client_id": "team-a", "client_name": "Chat", "key_id": "3f2a91c07be4"}
CHAT: dict[str, Any] = {"temperature": 0, "messages": [{"role": "user", "content": "Mail me@example.com"}]}
REPORTED = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}
WHOLE = {"id": "c-1", "object": "chat.completion", "model": "real-model", "choices": [CHOICE], "usage": REPORTED}
BODY = json.dumps(WHOLE).encode()
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def piece(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    facts = {"id": "c-1", "object": "chat.completion.chunk", "model": "real-model"}
    return f"data: {json.dumps({**facts, 'choices': [choice]})}\n\n".encode()


def asked(path: str = "/chat/completions", fields: Mapping[str, Any] | None = CHAT, **more: Any) -> Asked:
    operation = {"/chat/completions": "chat"}.get(path, "responses" if path.startswith("/responses") else "models")
    if fields is None:
        return Asked(path, operation, "GET", **more)
    return Asked(path, operation, "POST", json.dumps(fields).encode(), fields.get("stream") is True, **more)


def said(**more: Any) -> Said:
    """That `WHOLE` is the answer."""
    facts: dict[str, Any] = {
        "model": "real-model",
        "id": "c-1",
        "finish_reasons": ["stop"],
        "size": len(BODY),
        "chunks": 1,
    }
    facts |= {"server": "main", "asked_model": "main-model", "usage": usage("reported", 9, 3)}
    return Said(**{**facts, **more})


def ask(proxy: TimedProxy, event: dict[str, Any], *, is_first: bool = True, **how: Any) -> Seen:
    world = proxy.world
    before, began, tried = world.spent, world.unix(), len(world.tried)
    client = proxy.call(event, **how)
    return Seen(began, before, client, world.tried[tried:], is_first)


# ------------------------------------------------------------------------------------------------------- background


def response(status: str, **more: Any) -> bytes:
    facts = {"id": "resp_1", "object": "response", "created_at": int(BEGIN) - 60, "model": "real-model"}
    return json.dumps({**facts, "status": status, "background": True, "usage": None, **more}).encode()


def test_an_answer_in_the_background_first_without_and_then_with_usage(capsys: pytest.CaptureFixture[str]) -> None:
    reported = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
    queued, early, done = response("queued"), response("in_progress"), response("completed", usage=reported)
    world = World({"main": [document(each, 0.5) for each in (queued, early, done, done)]}, authorizing=0.125)
    begin, fetch = asked("/responses", {"input": "Hi", "background": True}), asked("/responses/resp_1", None)
    facts: dict[str, Any] = {"model": "real-model", "id": "resp_1", "chunks": 1}
    fetched: dict[str, Any] = {**facts, "finish_reasons": ["completed"], "usage": usage("reported", 11, 7)}
    expected = [
        (begin, Said("main", "main-model", size=len(queued), usage=usage("missing"), is_told_later=True, **facts)),
        (fetch, Said("main", None, size=len(early), **facts)),
        (fetch, Said("main", None, size=len(done), **fetched)),
        (fetch, Said("main", None, size=len(done), **fetched)),
    ]
    with timed_proxy(world, CONTEXT) as proxy:
        for place, (was_asked, was_said) in enumerate(expected):
            fields = {"input": "Hi", "background": True} if place == 0 else None
            seen = ask(proxy, url_event(f"/main/v1{was_asked.path}", fields), is_first=place == 0)
            if place > 1:  # so the ledger takes it once, on the day on which it was begun
                was_said.event_id = fact = str(proxy.bus.details[2][1]["metadata"]["id"])
                assert ulid_time(fact).timestamp() == int(BEGIN) - 60
                assert fact != seen.client.headers["x-inference-id"]
            assert proxy.bus.details[place:] == [event_of(was_asked, was_said, seen)]
            assert logged(capsys.readouterr().out) == [line_of(was_asked, was_said, seen)]
            assert seen.client.headers == headers_of(was_asked, was_said, seen)


DAY = 86_400


@pytest.mark.parametrize(
    ("age", "counts"), [(-299, True), (-301, False), (0, True), (30 * DAY - 1, True), (30 * DAY + 1, False)]
)
def test_usage_of_an_answer_of_another_time_is_nobodys(age: int, counts: bool) -> None:
    reported = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
    done = response("completed", usage=reported, created_at=int(BEGIN) - age)
    with timed_proxy(World({"main": [document(done)]}), CONTEXT) as proxy:
        seen = ask(proxy, url_event("/main/v1/responses/resp_1", None))
    found = Said("main", None, 200, "real-model", "resp_1", ["completed"], len(done), 1)
    if counts:
        found.usage, found.event_id = usage("reported", 11, 7), proxy.bus.details[0][1]["metadata"]["id"]
        assert ulid_time(str(found.event_id)).timestamp() == int(BEGIN) - age
    assert proxy.bus.details == [event_of(asked("/responses/resp_1", None), found, seen)]


# ------------------------------------------------------------------------------------------------------------ cache


def test_what_is_said_of_misses_hits_and_refreshes(capsys: pytest.CaptureFixture[str]) -> None:
    world, table = World({"kept": [document(BODY, 0.5)] * 3}, authorizing=0.125), FakeTable()
    bus, any_table = StoringBus(table), cast("Any", table)

    def sleep(seconds: float) -> None:
        world.pass_for("table", seconds)

    cache = ResponseCache(CacheTable(any_table, "cache"), None, Settings(wait=0), world.clock.unix, sleep)
    cases: list[tuple[dict[str, str], tuple[str, str | None], dict[str, str]]] = [
        ({}, ("MISS", "not_found"), {}),
        ({}, ("HIT", None), {"age": "0", "x-cache-saved": "0.000015 USD"}),
        ({"cache-control": "no-cache"}, ("REFRESH", "no_cache"), {}),
        ({"cache-control": "no-store"}, ("BYPASS", "no_store"), {}),
    ]
    with timed_proxy(world, CONTEXT, bus=bus, cache=lambda: cache) as proxy:
        for place, (headers, use, more) in enumerate(cases):
            seen = ask(proxy, url_event("/kept/v1/chat/completions", CHAT, headers), is_first=place == 0)
            found = said(cache=use, server="kept", asked_model="kept-model")
            assert bus.terminal_details[-1] == event_of(asked(), found, seen)
            assert logged(capsys.readouterr().out) == [line_of(asked(), found, seen)]
            reason = {"x-cache-reason": use[1]} if use[1] else {}
            expected = headers_of(asked(), found, seen, **{"x-cache": use[0]}, **reason, **more)
            assert seen.client.headers == expected
            assert seen.client.body == BODY
            if use[0] in ("MISS", "REFRESH"):
                check_captured(bus.details[-2:], seen)
    assert len(bus.details) == len(cases) + 2


def check_captured(details: list[tuple[str, dict[str, Any]]], seen: Seen) -> None:
    """With the event of a request comes its answer, whole; consumers find both by what they have in common."""
    [(_, terminal), (kind, captured)] = details
    now, data = seen.began + seen.took.total, captured["data"]
    own, key, digest = captured["metadata"]["id"], data["cache_key"], data["digest"]
    assert (kind, ulid_time(own).timestamp()) == ("ResponseCaptured", int(now * 1000) / 1000)
    assert own != terminal["metadata"]["id"]
    assert captured["metadata"] == terminal["metadata"] | {"id": own, "timestamp": moment(now)}
    assert zlib.decompress(base64.b64decode(data["response"].pop("body"))) == BODY
    assert data == {
        "cache_key": key,
        "digest": digest,
        "scope": "client:team-a",
        "server": {"name": "kept"},
        "request": {"path": "/chat/completions", "model": "kept-model", "stream": False},
        "response": {
            "status_code": 200,
            "content_type": "application/json",
            "model": "real-model",
            "encoding": "zlib",
            "body_size": len(BODY),
            "body_sha256": hashlib.sha256(BODY).hexdigest(),
        },
        "usage": usage("reported", 9, 3),
        "created_at": int(now),
        "expires_at": int(now) + 60,
    }


# ----------------------------------------------------------------------------------------------------------- limits


def test_what_is_said_of_a_key_with_limits(capsys: pytest.CaptureFixture[str]) -> None:
    world = World({"main": [document(BODY, 0.5)]}, authorizing=0.125)
    limits = LimitsItems()
    context = {**CONTEXT, "limits_id": "aaaaaaaaaaaa", "rpm": "1"}
    taken = {"id": "aaaaaaaaaaaa", "status": "checked", "reserved": None, "has_budget": False}
    budgets = {"budget_day": None, "budget_month": None, "currency": None}
    with timed_proxy(world, context, limits=limits) as proxy:
        first = ask(proxy, url_event("/main/v1/chat/completions", CHAT))
        second = ask(proxy, url_event("/main/v1/chat/completions", CHAT), is_first=False)
    question = asked(limits={**taken, "taken_at": int(BEGIN), **budgets})
    refused = asked(limits={**taken, "taken_at": None, **budgets})
    wait = 60 - int(BEGIN) % 60
    full = {"subject": {"type": "key", "id": "aaaaaaaaaaaa"}, "span": "minute", "limit": "1", "used": "1", "asked": "1"}
    unasked = Said(None, None, status=429, throttle={"source": "key_rpm", "retry_after": float(wait), **full})
    throttled = replace(unasked, server="main", asked_model="main-model")
    assert proxy.bus.details == [event_of(question, said(), first), event_of(refused, throttled, second)]
    left = {"x-ratelimit-limit-requests": "1", "x-ratelimit-remaining-requests": "0"}
    left["x-ratelimit-reset-requests"] = f"{wait}s"
    assert first.client.headers == headers_of(question, said(), first, **left)
    assert second.client.headers == headers_of(refused, unasked, second, **left, **{"retry-after": str(wait)})
    assert logged(capsys.readouterr().out) == [line_of(question, said(), first), line_of(refused, throttled, second)]


def test_what_is_said_of_a_budget_when_an_answer_is_only_fetched() -> None:
    """The request that began it has reserved its cost, and that is settled with what this one reports."""
    begun, done = response("queued"), response("completed", usage={"input_tokens": 11, "output_tokens": 7})
    context = {**CONTEXT, "limits_id": "aaaaaaaaaaaa", "budget_day": "5"}
    with timed_proxy(World({"main": [document(begun), document(done)]}), context, limits=LimitsItems()) as proxy:
        ask(proxy, url_event("/main/v1/responses", {"input": "Hi", "background": True}))
        ask(proxy, url_event("/main/v1/responses/resp_1", None))
    start, fetch = (detail["data"]["limits"] for _, detail in proxy.bus.details)
    assert start["has_budget"]
    assert fetch == start | {"reserved": {"cost": "0", "tokens": 0}, "has_budget": False}


# ----------------------------------------------------------------------------------------------------------- traces


@pytest.fixture
def daemon() -> Generator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(10)
        yield listener


def test_the_whole_trace_of_a_request(daemon: socket.socket, capsys: pytest.CaptureFixture[str]) -> None:
    answers = [broken(0.25), document(BODY, 0.5, waits=[0.75])]
    world = World({"main": answers}, authorizing=0.125, taking=0.0625, publishing=0.375)
    with timed_proxy(world, CONTEXT, daemon=f"127.0.0.1:{daemon.getsockname()[1]}") as proxy:
        seen = ask(proxy, url_event("/main/v1/chat/completions", CHAT, {"traceparent": PARENT}), trace=TRACE)
    found = said(chunks=2, attempt_errors={0: "upstream_broken_off"})
    line = line_of(asked(), found, seen, trace_id=TRACE[5:40], w3c=PARENT[3:35])
    assert logged(capsys.readouterr().out) == [line]
    segment: dict[str, Any] = json.loads(daemon.recv(65536).partition(b"\n")[2])
    ids = [segment.pop("id"), *(each.pop("id") for each in segment["subsegments"])]
    assert len(set(ids)) == 5
    assert all(len(bytes.fromhex(each)) == 8 for each in ids)
    annotated = ("id", "request_id", "client_id", "key_id", "server", "model", "operation", "door", "outcome", "cache")
    # 0.125 the authorizer, 0.25 a connection that broke, 0.25 a pause, 0.5 + 0.75 the answer, 2 * 0.0625 the client
    assert segment == {
        "name": "openai-proxy",
        "type": "subsegment",
        "trace_id": "1-5759e988-bd862e3fe1be46a994272793",
        "parent_id": "53995c3f42cd8ad8",
        "start_time": BEGIN,
        "end_time": BEGIN + 2.375,
        "annotations": {name: line[name] for name in (*annotated, "cold_start", "w3c_trace_id")},
        "metadata": {
            "openai-proxy": {name: line[name] for name in ("usage", "time_to_first_chunk", "upstream", "proxy")}
        },
        "subsegments": [
            {"name": "authorization", "start_time": BEGIN, "end_time": BEGIN + 0.125},
            {
                "name": "main",
                "start_time": BEGIN + 0.125,
                "end_time": BEGIN + 0.375,
                "namespace": "remote",
                "fault": True,
                "annotations": {"error": "upstream_broken_off"},
            },
            {
                "name": "main",
                "start_time": BEGIN + 0.625,
                "end_time": BEGIN + 2.0,
                "namespace": "remote",
                "http": {"response": {"status": 200}},
            },
            {"name": "publish", "start_time": BEGIN + 2.0, "end_time": BEGIN + 2.375, "fault": False},
        ],
    }


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "udp:127.0.0.1:{}", "tcp:127.0.0.1:1 udp:127.0.0.1:{}"])
def test_a_daemon_is_found_by_each_form_of_its_address(address: str, daemon: socket.socket) -> None:
    Daemon(address.format(daemon.getsockname()[1])).send({"name": "a", "b": [1]})
    assert daemon.recv(65536) == b'{"format": "json", "version": 1}\n{"name":"a","b":[1]}'


@pytest.mark.parametrize("host", ["[::1]", "::1"])
def test_a_daemon_may_have_an_address_of_version_six(host: str) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as listener:
        listener.bind(("::1", 0))
        listener.settimeout(10)
        Daemon(f"{host}:{listener.getsockname()[1]}").send({})
        assert listener.recv(65536).endswith(b"\n{}")


# ---------------------------------------------------------------------------------------------------------- content


class Objects:
    """Takes what is put, with all that is said of it."""

    def __init__(self) -> None:
        self.put_with: list[Any] = []

    def put(self, bucket: str, key: str, body: bytes, timeout: float, content_type: str) -> None:
        self.put_with.append((bucket, key, json.loads(body), timeout, content_type))


def test_the_whole_content_of_a_request(capsys: pytest.CaptureFixture[str]) -> None:
    world, s3 = World({"main": [document(BODY, 0.5)]}, authorizing=0.125), Objects()
    log = ContentLog(cast("Any", s3), "bucket", lambda: "salt")
    with timed_proxy(world, {**CONTEXT, "log_content": "on"}, content_log=log) as proxy:
        seen = ask(proxy, url_event("/main/v1/chat/completions", CHAT))
    _, detail = event_of(asked(), said(), seen)
    line = line_of(asked(), said(), seen)
    facts = ("id", "request_id", "client", "client_id", "key_id", "server", "model", "operation", "stream", "outcome")
    facts = (*facts, "status", "error", "usage", "duration", "cache", "trace_id", "w3c_trace_id")
    [(bucket, key, content, timeout, content_type)] = s3.put_with
    assert (bucket, timeout, content_type) == ("bucket", 3.0, "application/json")
    assert key == f"content/{moment(BEGIN)[:10]}/team-a/{detail['metadata']['id']}.json"
    mail = content["request"]["content"]["messages"][0]["content"]
    assert mail.startswith("Mail [email:")
    assert content == {
        "version": "1.0",
        "timestamp": detail["metadata"]["timestamp"],
        **{name: line[name] for name in facts},
        "request": {
            "size": len(world.received[0][2]),
            "content": {"model": "main-model", **CHAT, "messages": [{"role": "user", "content": mail}]},
            "is_cut": False,
        },
        "response": {"size": len(BODY), "content_type": "application/json", "content": WHOLE, "is_cut": False},
        "redacted": {"email": 1},
    }
    assert logged(capsys.readouterr().out) == [line]


# ----------------------------------------------------------------------------------------------------- time and keys


def silent(*pieces: bytes) -> Answer:
    """A stream that says nothing more after these."""
    begun = stream(0.5, *((0.0, each) for each in pieces))
    return Answer([*begun.pieces[:-1], Piece(10_000.0, None)], status=200)


def test_a_server_that_falls_silent_is_told_of_whole(capsys: pytest.CaptureFixture[str]) -> None:
    world = World({"main": [silent(piece("Hello"))]}, authorizing=0.125)
    fields = {**CHAT, "stream": True}
    with timed_proxy(world, CONTEXT) as proxy:
        seen = ask(proxy, url_event("/main/v1/chat/completions", fields))
    found = said(is_stream=True, size=len(piece("Hello")), finish_reasons=[], usage=usage("estimated", 9, 2))
    found.error = {"type": "upstream_timeout", "source": "upstream", "upstream_status": None}
    assert proxy.bus.details == [event_of(asked(fields=fields), found, seen)]
    assert logged(capsys.readouterr().out) == [line_of(asked(fields=fields), found, seen)]
    first, *pings, error = seen.client.pieces
    assert (first, pings) == (piece("Hello"), [b": keep-alive\n\n"] * 7)  # every 15 seconds, of 120
    assert b'"code": "upstream_timeout"' in error
    assert seen.took.total == 0.125 + 0.5 + 120


@pytest.mark.parametrize("door", ["function_url", "rest_api"])
def test_an_invocation_whose_time_is_over_is_told_of_whole(door: str, capsys: pytest.CaptureFixture[str]) -> None:
    pieces = [(100.0, piece("Hello"))] * 9
    world = World({"main": [stream(0.5, *pieces)]}, authorizing=0.125)
    fields, path = {**CHAT, "stream": True}, "/main/v1/chat/completions"
    with timed_proxy(world, CONTEXT) as proxy:
        seen = ask(proxy, url_event(path, fields) if door == "function_url" else rest_event(path, CONTEXT, fields))
    found = said(
        is_stream=True, finish_reasons=[], usage=usage("estimated", 9, 7), size=5 * len(piece("Hello")), chunks=5
    )
    found.error = {"type": "deadline_exceeded", "source": "upstream", "upstream_status": None}
    question = asked(fields=fields, door=door)
    assert proxy.bus.details == [event_of(question, found, seen)]
    assert logged(capsys.readouterr().out) == [line_of(question, found, seen)]
    assert seen.took.total == pytest.approx(597)  # three seconds are kept for what comes after it


def test_a_failure_of_the_proxys_own_is_told_of_whole(capsys: pytest.CaptureFixture[str]) -> None:
    fault = Answer([Piece(0.5, KeyError("me@example.com"))])
    with timed_proxy(World({"main": [fault]}, authorizing=0.125), CONTEXT) as proxy:
        seen = ask(proxy, url_event("/main/v1/chat/completions", CHAT))
    found = Said(None, None, 500, error={"type": "internal_error", "source": "proxy", "upstream_status": None})
    assert proxy.bus.details == [event_of(asked(), found, seen)]
    assert seen.client.headers == headers_of(asked(), found, seen)
    assert logged(capsys.readouterr().out)[-1] == line_of(asked(), found, seen)
    assert seen.took == Spent(authorization=0.125, upstream=0.5)


def test_a_request_without_a_good_key_is_told_to_its_client_alone(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(authorizing=0.125)
    with timed_proxy(world, CONTEXT) as proxy:
        seen = ask(proxy, url_event("/main/v1/chat/completions", CHAT, {"authorization": "Bearer bad"}))
    assert (proxy.bus.details, capsys.readouterr().out) == ([], "")
    assert seen.client.status == 401
    assert seen.client.headers == headers_of(asked(), Said(None, None), seen)
    error = {"message": "The client key is not valid.", "type": "authentication_error", "param": None}
    assert json.loads(seen.client.body) == {"error": {**error, "code": "invalid_api_key"}}


@pytest.mark.parametrize(
    ("status", "flags"),
    [
        ("200 OK", {}),
        ("400 No", {"error": True}),
        ("499 Gone", {"error": True}),
        ("501 Never", {"fault": True}),
    ],
)
def test_a_trace_says_whose_fault_it_was(status: str, flags: dict[str, bool], daemon: socket.socket) -> None:
    error = json.dumps({"error": {"message": "no", "code": "x"}}).encode()
    world = World({"main": [document(BODY if status[0] == "2" else error, 0.5, status)] * 3})
    with timed_proxy(world, CONTEXT, daemon=f"127.0.0.1:{daemon.getsockname()[1]}") as proxy:
        ask(proxy, url_event("/main/v1/chat/completions", CHAT, {"traceparent": PARENT}), trace=TRACE)
    segment: dict[str, Any] = json.loads(daemon.recv(65536).partition(b"\n")[2])
    tried = next(each for each in segment["subsegments"] if each["name"] == "main")
    for part in (segment, tried):
        assert {name: part[name] for name in ("fault", "error") if name in part} == flags
