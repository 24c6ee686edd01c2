"""What passes the relay, and when: heads, pieces and ends of streams, on a clock that the test's script moves."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.cache.capture import Capture
from proxy.cache.fill import Lookup
from proxy.delivery import CacheUse, Delivery
from proxy.endpoints.responder import Responder
from proxy.errors import ClientError
from proxy.metering.sse import LONGEST_EVENT

from tests.timed_relays import (
    Answer,
    Piece,
    TimedProxy,
    World,
    WorldClient,
    broken,
    document,
    stream,
    timed_proxy,
    url_event,
)

CONTEXT = {"client_id": "team-a"}
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
LINE_ENDS = {"LF": b"\n", "CRLF": b"\r\n", "CR": b"\r"}
QUESTIONS = ("/chat/completions", "/completions", "/responses")
OPERATIONS = (
    *QUESTIONS,
    "/embeddings",
    "/audio/speech",
    "/audio/transcriptions",
    "/images/generations",
    "/moderations",
)

seconds = st.integers(0, 4000).map(lambda milliseconds: milliseconds / 1000)


def event(data: object, name: str = "", line_end: bytes = b"\n") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    lines = [f"event: {name}".encode()] * bool(name) + [f"data: {text}".encode()]
    return line_end.join([*lines, b"", b""])


def chat(text: str = "", finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    return {"id": "c-1", "object": "chat.completion.chunk", "model": "real-model", "choices": [choice], **more}


def response(kind: str, **more: Any) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "id": "resp_1",
        "object": "response",
        "model": "real-model",
        "output": [],
        "usage": None,
        **more,
    }
    return {"type": f"response.{kind}", "sequence_number": 0, "response": {"status": kind, **answer}}


def ask(
    proxy: TimedProxy, fields: dict[str, Any] | None = None, path: str = "/chat/completions", server: str = "main"
) -> WorldClient:
    return proxy.call(url_event(f"/{server}/v1{path}", fields))


def asked(*pieces: bytes, path: str = "/chat/completions", **more: Any) -> tuple[WorldClient, str, dict[str, Any]]:
    """A stream of these pieces: what the client has, and the event's type and data."""
    with timed_proxy(World({"weak": [stream(0.0, *((0.0, piece) for piece in pieces))]}), CONTEXT) as proxy:
        client = ask(proxy, {**CHAT, "stream": True, **more}, path, "weak")
    [(kind, detail)] = proxy.bus.details
    return client, kind, detail["data"]


# ------------------------------------------------------------------------------------------------------------- flush


@given(st.lists(seconds, min_size=1, max_size=5), seconds)
def test_each_piece_is_with_the_client_before_the_next_is_waited_for(waits: list[float], before: float) -> None:
    events = [event(chat("Hello"))] * len(waits)
    pieces = [*zip(waits, events, strict=True), (0.0, event(chat("", "stop")))]
    with timed_proxy(World({"main": [stream(before, *pieces)]}), CONTEXT) as proxy:
        client = ask(proxy, {**CHAT, "stream": True})
    moments = [sum(waits[: place + 1]) + before for place in range(len(waits))]
    assert client.pieces == [piece for _, piece in pieces]
    assert client.arrivals == pytest.approx([*moments, moments[-1]])


@pytest.mark.parametrize("path", ["/chat/completions", "/responses", "/audio/speech"])
def test_a_server_that_sends_its_head_and_waits_lets_the_client_have_the_status(path: str) -> None:
    ends = {"/responses": event(response("completed"), "response.completed")}
    slow = stream(0.5, (9.0, ends.get(path, event(chat("Hello", "stop")))))
    with timed_proxy(World({"main": [slow]}), CONTEXT) as proxy:
        client = ask(proxy, {**CHAT, "stream": True}, path)
    assert client.at_flush is not None
    assert (client.at_head.total, client.at_flush.total, client.arrivals) == (1.5, 1.5, [9.5])
    assert (client.status, client.headers["content-type"]) == (200, "text/event-stream")


def test_a_file_that_lets_wait_for_itself_lets_the_client_have_the_status() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 2\r\n\r\n"
    slow = Answer([Piece(0.5, head), Piece(9.0, b"ab")], status=200)
    with timed_proxy(World({"main": [slow]}), CONTEXT) as proxy:
        client = ask(proxy, None, "/files/a/content")
    assert (client.at_head.total, client.arrivals, client.pieces) == (1.5, [9.5], [b"ab"])


def test_a_file_that_lets_wait_for_its_rest_is_not_mixed_with_comments() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 2\r\n\r\n"
    slow = Answer([Piece(0.5, head + b"a"), Piece(40.0, b"b")], status=200)
    with timed_proxy(World({"main": [slow]}), CONTEXT) as proxy:
        client = ask(proxy, None, "/files/a/content")
    assert (client.pieces, client.arrivals) == ([b"a", b"b"], [0.5, 40.5])


def test_an_answer_that_comes_at_once_is_not_begun_without_its_first_piece() -> None:
    with timed_proxy(World({"main": [document(b'{"choices": []}', 0.5)]}), CONTEXT) as proxy:
        client = ask(proxy, CHAT)
    assert (client.at_flush, client.at_head.total, client.arrivals) == (None, 0.5, [0.5])


# -------------------------------------------------------------------------------------------------------------- ends

BEGUN = (response("in_progress") | {"type": "response.created"}, "response.created")
DELTA = ({"type": "response.output_text.delta", "sequence_number": 1, "delta": "Hello"}, "response.output_text.delta")
ENDS: dict[str, tuple[str, list[tuple[Any, str]], str]] = {
    "finish reason": ("/chat/completions", [(chat("Hello"), ""), (chat("", "stop"), "")], "InferenceCompleted"),
    "end mark": ("/chat/completions", [(chat("Hello"), ""), ("[DONE]", "")], "InferenceCompleted"),
    "error": ("/chat/completions", [(chat("Hello"), ""), ({"error": {"message": "x"}}, "")], "InferenceFailed"),
    **{
        kind: ("/responses", [BEGUN, DELTA, (response(kind), f"response.{kind}")], f"Inference{outcome}")
        for kind, outcome in [
            ("completed", "Completed"),
            ("incomplete", "Completed"),
            ("cancelled", "Completed"),
            ("failed", "Failed"),
        ]
    },
}


@pytest.mark.parametrize("line_end", LINE_ENDS.values(), ids=LINE_ENDS)
@pytest.mark.parametrize(("path", "events", "kind"), ENDS.values(), ids=ENDS)
def test_a_stream_that_says_its_end_is_passed_on_as_it_is(
    path: str, events: Sequence[tuple[Any, str]], kind: str, line_end: bytes
) -> None:
    pieces = [event(data, name, line_end) for data, name in events]
    client, found, data = asked(*pieces, path=path)
    assert (client.body, found) == (b"".join(pieces), kind)
    assert data["response"]["chunks"] == len(pieces)


@pytest.mark.parametrize("line_end", LINE_ENDS.values(), ids=LINE_ENDS)
@pytest.mark.parametrize(("path", "events", "kind"), ENDS.values(), ids=ENDS)
def test_the_same_stream_without_its_end_is_cut(
    path: str, events: Sequence[tuple[Any, str]], kind: str, line_end: bytes
) -> None:
    pieces = [event(data, name, line_end) for data, name in events]
    client, found, data = asked(*pieces[:-1], path=path)
    assert client.body.startswith(pieces[0])
    assert (found, data["error"]["type"]) == ("InferenceFailed", "upstream_broken_off")
    assert b"upstream_broken_off" in client.body.removeprefix(pieces[0])


@pytest.mark.parametrize("path", OPERATIONS)
def test_a_stream_without_any_event_is_whole_where_no_end_is_owed(path: str) -> None:
    client, kind, data = asked(path=path)
    if path in QUESTIONS:
        assert (client.status, kind, data["error"]["type"]) == (502, "InferenceFailed", "upstream_broken_off")
    else:
        assert (client.status, client.body, kind) == (200, b"", "InferenceCompleted")


@pytest.mark.parametrize("path", OPERATIONS)
def test_one_that_has_begun_before_it_ends_without_any_is_told_of_in_the_stream(path: str) -> None:
    begun = stream(0.5)
    slow = Answer([*begun.pieces[:-1], Piece(9.0, b"0\r\n\r\n")], status=200)
    with timed_proxy(World({"weak": [slow]}), CONTEXT) as proxy:
        client = ask(proxy, {**CHAT, "stream": True}, path, "weak")
    [(kind, detail)] = proxy.bus.details
    assert (client.status, client.at_head.total) == (200, 1.5)
    assert kind == ("InferenceFailed" if path in QUESTIONS else "InferenceCompleted")
    assert (b"upstream_broken_off" in client.body) == (path in QUESTIONS)
    assert detail["data"].get("error", {}).get("type") == ("upstream_broken_off" if path in QUESTIONS else None)


OWN_ERROR = event({"error": {"message": "no"}})


@pytest.mark.parametrize("half", [b'data: {"choices"', b'data: {"error": {"message": "again'])
@pytest.mark.parametrize("whole", [[event(chat("Hello"))], [event(chat("Hello")), OWN_ERROR]])
def test_half_an_event_at_a_break_is_for_nobody(whole: list[bytes], half: bytes) -> None:
    said = [(0.0, piece) for piece in (*whole, half)]
    with timed_proxy(World({"weak": [stream(0.0, *said, ends=False)]}), CONTEXT) as proxy:
        client = ask(proxy, {**CHAT, "stream": True}, server="weak")
    [(kind, detail)] = proxy.bus.details
    has_own, is_told = OWN_ERROR in whole, b'"error"' in half
    chunks = len(whole) + (is_told and not has_own)
    assert (kind, detail["data"]["response"]["chunks"]) == ("InferenceFailed", chunks)
    told = client.body.removeprefix(b"".join(whole))
    assert (told == b"") is has_own
    assert half not in told


def test_what_the_proxy_itself_cannot_say_is_an_error_and_no_question_to_a_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> bool:
        raise LookupError("a secret")

    with timed_proxy(World({"main": [document(b'{"choices": []}')]}), CONTEXT) as proxy:
        monkeypatch.setattr(Responder, "serve", fail)
        client = ask(proxy, CHAT)
    assert (client.status, json.loads(client.body)["error"]["code"]) == (500, "internal_error")
    assert proxy.world.received == []
    assert b"a secret" not in client.body


# ------------------------------------------------------------------------------------------------------------- usage

REPORTED = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
FACTS = {"id": "c-1", "object": "chat.completion.chunk", "model": "real-model"}


@pytest.mark.parametrize("missing", [0, 1, 2])
@pytest.mark.parametrize("line_end", LINE_ENDS.values(), ids=LINE_ENDS)
@pytest.mark.parametrize("asks", [False, True])
def test_usage_at_the_very_end_is_for_who_asked_though_its_last_line_is_not_ended(
    asks: bool, line_end: bytes, missing: int
) -> None:
    last = event({**FACTS, "choices": [], "usage": REPORTED}, "", line_end)
    last = last[: len(last) - missing * len(line_end)]
    pieces = [event(chat("Hello"), "", line_end), event(chat("", "stop"), "", line_end)]
    options: dict[str, Any] = {"stream_options": {"include_usage": True}} if asks else {}
    client, kind, data = asked(*pieces, last, **options)
    assert client.body == b"".join([*pieces, last if asks else b""])
    told = data["usage"]
    assert (kind, told["source"], told["input_tokens"], told["output_tokens"]) == (
        "InferenceCompleted",
        "reported",
        9,
        3,
    )


@pytest.mark.parametrize("wrapped", [None, {}, "", 0, False, []])
def test_an_empty_response_beside_the_facts_does_not_hide_them(wrapped: object) -> None:
    """The Responses API wraps its answer in this field; others may have one that is empty."""
    whole = {
        **FACTS,
        "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "stop"}],
        "usage": REPORTED,
    }
    with timed_proxy(
        World({"main": [document(json.dumps({"response": wrapped, **whole}).encode())]}), CONTEXT
    ) as proxy:
        ask(proxy, CHAT)
    [(_, detail)] = proxy.bus.details
    data = detail["data"]
    assert (data["usage"]["source"], data["usage"]["input_tokens"], data["response"]["id"]) == ("reported", 9, "c-1")
    pieces = [event({"response": wrapped, **chat("Hello", "stop", usage=REPORTED)}), event("[DONE]")]
    _, _, data = asked(*pieces)
    assert (data["usage"]["source"], data["usage"]["input_tokens"], data["response"]["id"]) == ("reported", 9, "c-1")


# ------------------------------------------------------------------------------------------------------- connections


@pytest.mark.parametrize(("server", "is_repeated"), [("main", True), ("weak", False)])
def test_a_kept_connection_that_closes_after_it_took_the_request(server: str, is_repeated: bool) -> None:
    """Nobody knows whether the server works on it: where the owner wants no retries, it is not sent once more."""
    good = document(b'{"choices": []}')
    with timed_proxy(World({server: [good, broken(0.25), good]}), CONTEXT) as proxy:
        assert ask(proxy, CHAT, server=server).status == 200
        client = ask(proxy, CHAT, server=server)
    assert client.status == (200 if is_repeated else 502)
    assert len(proxy.world.received) == (3 if is_repeated else 2)
    _, detail = proxy.bus.details[1]
    attempts = [(each["status_code"], each["error"], each["duration"]) for each in detail["data"]["attempts"]]
    assert attempts == [(200, None, 0.25) if is_repeated else (None, "upstream_broken_off", 0.25)]


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize("body", [b"", b"{}"])
def test_a_request_that_may_have_a_body_says_how_long_it_is(method: str, body: bytes) -> None:
    with timed_proxy(World({"main": [document(b"{}")]}), CONTEXT) as proxy:
        sent = url_event("/main/v1/files")
        sent["requestContext"], sent["body"] = {"http": {"method": method}}, body.decode()
        assert proxy.call(sent).status == 200
    [(_, head, received)] = proxy.world.received
    lengths = [line for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
    owed = bool(body) or method in ("POST", "PUT", "PATCH")
    assert (lengths, received) == ([b"content-length: %d" % len(body)] if owed else [], body)


@given(
    st.lists(
        st.tuples(st.sampled_from([200, 400, 429, 500, 502, 503, 504, 529, "cut", "nobody"]), seconds), max_size=10
    )
)
def test_two_failures_in_a_row_keep_a_server_out_for_its_time_and_a_success_heals(steps: list[Any]) -> None:
    refusal, in_a_row, out_until = b'{"error": {"message": "no"}}', 0, 0.0
    world = World()
    with timed_proxy(world, CONTEXT) as proxy:
        for outcome, wait in steps:
            world.pass_for("client", wait * 5)
            is_out = world.spent.total < out_until
            is_ill = outcome in (502, 503, 504, 529, "cut", "nobody")
            if outcome == "cut":
                answer = stream(0.0, (0.0, event(chat("Hello"))))
            elif outcome == "nobody":
                proxy.transport.close()
                answer = Answer(())
            else:
                body = b'{"choices": []}' if outcome == 200 else refusal
                answer = document(body, 0.0, f"{outcome} Said", "connection: close\r\n")
            world.answers = {"weak": [answer]}
            ask(proxy, {**CHAT, "stream": outcome == "cut"}, server="weak")
            _, detail = proxy.bus.details[-1]
            [attempt] = detail["data"]["attempts"]
            assert (attempt["error"] == "circuit_open") == is_out
            assert len(world.answers["weak"]) == is_out
            if not is_out:
                in_a_row = in_a_row + 1 if is_ill else 0
                out_until = world.spent.total + 30 if in_a_row >= 2 else 0.0


@pytest.mark.parametrize("status", [200, 299])
def test_of_a_list_of_models_a_key_sees_its_own_whatever_the_success_is_called(status: int) -> None:
    listed = json.dumps({"data": [{"id": "mine"}, {"id": "other"}]}).encode()
    world = World({"weak": [document(listed, 0.0, f"{status} Said")]})
    with timed_proxy(world, {**CONTEXT, "models": "weak/mine"}) as proxy:
        client = ask(proxy, None, "/models", "weak")
    assert (client.status, json.loads(client.body)) == (status, {"data": [{"id": "mine"}]})


def test_a_stream_that_its_client_ended_says_nothing_of_the_health_of_its_server() -> None:
    ill, ended = Answer(()), ClientError(499, "client_gone", "The client went away.")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    begun = event(chat("Hello"))
    cut = Answer([Piece(0.0, head + b"%x\r\n%b\r\n" % (len(begun), begun)), Piece(0.0, ended)], status=200)
    world = World({"weak": [ill, cut, ill, ill]})
    with timed_proxy(world, CONTEXT) as proxy:
        for _ in range(4):
            ask(proxy, {**CHAT, "stream": True}, server="weak")
            proxy.transport.close()
    [*_, third, last] = [detail["data"]["attempts"] for _, detail in proxy.bus.details]
    assert [attempt["error"] for attempt in (*third, *last)] == ["upstream_unreachable", "circuit_open"]


@pytest.mark.parametrize(
    "spelt", [b"main-token", rb"m\u0061in-token", b"".join(rb"\u%04x" % byte for byte in b"main-token")]
)
@pytest.mark.parametrize("ends", [True, False])
def test_a_token_that_a_server_quotes_in_the_middle_of_a_stream_stays_here(ends: bool, spelt: bytes) -> None:
    quoted = event({"error": {"message": "main-token is not known", "code": 401}}).replace(b"main-token", spelt)
    pieces = ((0.0, event(chat("main-token")) + quoted[:30]), (0.5, quoted[30:]))
    world = World({"main": [stream(0.5, *pieces, ends=ends)]})
    with timed_proxy(world, CONTEXT) as proxy:
        client = proxy.call(url_event("/main/v1/chat/completions", {**CHAT, "stream": True}))
    assert client.body.startswith(event(chat("main-token")) + quoted.replace(spelt, b"..."))
    [(kind, detail)] = proxy.bus.details
    assert kind == "InferenceFailed"
    assert "main-token" not in json.dumps(detail)


# ------------------------------------------------------------------------------- what outlives its connection


@pytest.mark.parametrize("is_told", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_what_is_written_down_is_closed_in_the_time_that_is_left_and_told_once(is_told: bool, fails: bool) -> None:
    world = World({"main": [stream(2.0, (3.0, event(chat("Hello", "stop"))))]}, authorizing=0.5)
    left: list[float] = []

    class Written:
        """A stream that is written down: its response, and what the relay does with it."""

        def __init__(self, response: Any) -> None:
            self.response = response

        def finish(self, _outcome: object, _timeline: object) -> None:
            world.pass_for("table", 1.25)

        def is_told(self) -> bool:
            if fails:
                raise OSError("no table")
            return is_told

        def close(self, seconds: float) -> None:
            left.append(seconds)

    def begun(call: Any, response: Any, *_: object) -> Any:
        return call, Written(response)

    with timed_proxy(world, CONTEXT) as proxy:
        proxy.relay = proxy.relay._replace(streams=lambda: cast("Any", SimpleNamespace(begun=begun)))
        deadline = world.unix() + 600
        asking = url_event("/main/v1/chat/completions", {**CHAT, "stream": True}, {"x-resumable": "true"})
        with pytest.raises(OSError, match="no table") if fails else nullcontext():
            proxy.call(asking)
        assert left == [pytest.approx(deadline - world.unix())]
    assert len(proxy.bus.details) == (not fails and not is_told)


@pytest.mark.parametrize("path", ["/main/v1/chat/completions", "/v1/streams/01ARZ3NDEKTSV4RRFFQ69G5FAV"])
def test_streams_that_cannot_be_built_fail_the_calls_that_are_for_them_and_no_other(path: str) -> None:
    def streams() -> Any:
        raise KeyError("CACHE_BUCKET")

    world = World({"main": [document(json.dumps(chat("Hello", "stop")).encode())]})
    with timed_proxy(world, CONTEXT) as proxy:
        proxy.relay = proxy.relay._replace(streams=streams)
        body = None if "streams" in path else CHAT
        failed = proxy.call(url_event(path, body, {"x-resumable": "true"}))
        assert (failed.status, json.loads(failed.body)["error"]["code"]) == (500, "internal_error")
        assert proxy.call(url_event("/main/v1/chat/completions", CHAT)).status == 200
    assert [kind for kind, _ in proxy.bus.details] == ["InferenceFailed", "InferenceCompleted"]


# ------------------------------------------------------------------------------------------- a cache that fails


class FailingCache:
    """A response cache that fails at one of its steps."""

    def __init__(self, step: str) -> None:
        self.step = step

    def find(self, _call: object, _timeline: object) -> Lookup:
        if self.step == "find":
            raise LookupError("a secret")

        return Lookup(CacheUse("MISS", "not_found"), cast("Any", SimpleNamespace(capture=Capture(100))))

    def captured(self, *_: object) -> Any:
        raise LookupError("a secret")


@pytest.mark.parametrize(
    ("step", "message"), [("find", "The response cache failed"), ("captured", "An answer was not cached")]
)
def test_a_cache_that_fails_costs_nobody_an_answer_and_is_in_the_log(
    step: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = document(b'{"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}')
    with timed_proxy(World({"kept": [answer]}), CONTEXT, cache=lambda: FailingCache(step)) as proxy:
        client = ask(proxy, CHAT, server="kept")
    assert (client.status, client.body[:12]) == (200, b'{"choices": ')
    [(kind, detail)] = proxy.bus.details
    assert kind == "InferenceCompleted"
    first, request = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (first.pop("timestamp"), request["message"]) != ("", "")
    assert f"in {step}" in first.pop("trace")
    assert first == {"level": "ERROR", "message": message, "id": detail["metadata"]["id"], "error": "LookupError"}
    assert "a secret" not in json.dumps([first, request])


@pytest.mark.parametrize(("silent", "comments"), [(14.0, 0), (31.0, 2)])
@pytest.mark.parametrize("is_inside", [False, True])
def test_no_comment_ends_an_event_that_is_so_large_that_it_passes_in_pieces(
    is_inside: bool, silent: float, comments: int
) -> None:
    large = event(chat("x" * (LONGEST_EVENT + 1000)))
    cut = LONGEST_EVENT + 500 if is_inside else len(large)
    waits = [(0.0, large[:cut]), (silent, large[cut:] + event(chat("", "stop")))]
    with timed_proxy(World({"weak": [stream(0.0, *waits)]}), CONTEXT) as proxy:
        client = ask(proxy, {**CHAT, "stream": True}, server="weak")
    assert client.body.count(b": keep-alive") == (0 if is_inside else comments)
    assert client.body.replace(b": keep-alive\n\n", b"") == large + event(chat("", "stop"))


@pytest.mark.parametrize(("coding", "comments"), [("", 2), ("content-encoding: br\r\n", 0)])
def test_nothing_is_put_into_a_stream_that_its_server_has_packed(coding: str, comments: int) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{coding}\r\n".encode()
    end = event(chat("Hello", "stop"))
    pieces = [Piece(0.0, head), Piece(40.0, end), Piece(0.0, None)]
    with timed_proxy(World({"weak": [Answer(pieces, status=200)]}), CONTEXT) as proxy:
        client = ask(proxy, {**CHAT, "stream": True}, server="weak")
    assert client.body == b": keep-alive\n\n" * comments + end


SAID = "a secret"


class Unreadable:
    """An answer of a server that cannot be read any more."""

    on_silence = None

    @property
    def headers(self) -> Any:
        raise LookupError(SAID)

    def waited(self) -> float:
        return 0.0

    def close(self) -> None: ...


class UnreadableCache(FailingCache):
    """Has an answer for every question, which cannot be read."""

    def find(self, call: Any, _timeline: object) -> Lookup:
        [candidate, *_] = call.candidates
        upstream: Any = Unreadable()
        found = Delivery(candidate.server, call.body.outgoing("m"), 200, {}, "application/json", [b"{}"], upstream)
        return Lookup(CacheUse("HIT"), delivery=found)


def test_what_an_answer_says_of_its_usage_costs_nobody_the_event(capsys: pytest.CaptureFixture[str]) -> None:
    with timed_proxy(World(), CONTEXT, cache=lambda: UnreadableCache("")) as proxy:
        client = ask(proxy, CHAT, server="kept")
    [(kind, detail)] = proxy.bus.details
    usage = detail["data"]["usage"]
    assert (client.status, kind, usage["source"], usage["reason"]) == (500, "InferenceFailed", "invalid", "unreadable")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["message"] for line in lines][1:] == ["The usage of an answer cannot be told", "request"]
    assert SAID not in json.dumps([lines[1:], client.body.decode()])
