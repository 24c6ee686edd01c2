"""Retries and fallbacks against a plain model: who is asked, after which pauses, and what comes of it.

Servers answer as they are told, on a clock that only the test and the pauses move.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.servers import Server, TokenReference
from openai_proxy.servers.options import Breaker
from proxy.call import Call
from proxy.delivery import Delivery
from proxy.errors import ClientError, ProxyError, UnavailableError, UpstreamError
from proxy.http.wire import Outgoing
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target
from proxy.request.routing import Candidate
from proxy.timeline import Attempt, Clock, Timeline
from proxy.upstream.attempts import Attempts, _Turn
from proxy.upstream.breaker import Breakers
from proxy.upstream.opened import Expected as ExpectedAnswer
from proxy.upstream.opened import OpenedAnswer
from proxy.upstream.repeats import ENOUGH, told_of
from proxy.upstream.sign_in import with_token

from tests.examples import examples

JSON = "application/json"
WIRE = {"unreachable": 502, "broken_off": 502, "timeout": 504}
"""What goes wrong before there is a status, and the status of the error that the client gets."""
NOT_NOW = {408, 429, 500, 502, 503, 504, 529}
ILL = {502, 503, 504, 529}


@dataclass
class Answer:
    """What a server says: a fault of `WIRE`, or a status with a document, and perhaps when to ask again."""

    what: str | int
    retry_after: str | None = None
    should_retry: str | None = None
    patience: float = 1.0
    on_silence: Callable[[], None] = lambda: None
    closed: int = 0
    was_repeated: bool = False
    waits: float = 0.0
    is_silent: bool = False

    @property
    def status(self) -> int:
        assert isinstance(self.what, int)
        return self.what

    @property
    def headers(self) -> dict[str, str]:
        more = {"retry-after": self.retry_after, "x-should-retry": self.should_retry}
        kind = "text/event-stream" if self.is_silent else JSON
        return {"content-type": kind, **{name: value for name, value in more.items() if value is not None}}

    @property
    def document(self) -> dict[str, Any]:
        return {"id": "a"} if self.status < 300 else {"error": {"message": f"said {self.status}"}}

    def __iter__(self) -> Iterator[bytes]:
        if self.is_silent:
            self.on_silence()
        yield json.dumps(self.document).encode()

    def waited(self) -> float:
        waited, self.waits = self.waits, 0.0
        return waited

    def close(self) -> None:
        self.closed += 1


@dataclass
class World:
    """The servers' answers in their order, and the clock."""

    answers: dict[str, list[Answer]]
    now: float = 1000.0
    asked: list[tuple[str, str, bytes, str]] = field(default_factory=list[tuple[str, str, bytes, str]])
    slept: list[float] = field(default_factory=list[float])
    patience: float = math.inf
    patiences: list[float] = field(default_factory=list[float])
    headers: list[Mapping[str, str]] = field(default_factory=list[Mapping[str, str]])
    retries: list[int] = field(default_factory=list[int])
    newer: list[str | None] = field(default_factory=list[str | None])
    """What there is by now in the place of a token that was refused."""
    fault: UnavailableError | None = None

    def stream(self, server: Server, outgoing: Outgoing, deadline: float) -> Answer:
        assert deadline == DEADLINE
        method, url, headers, body = outgoing
        self.patiences.append(self.patience)
        self.asked.append((method, url, body, headers.get("authorization", "")))
        self.headers.append(headers)
        self.retries.append(server.retries)
        self.now += TOOK
        answer = self.answers[server.name].pop(0)
        if isinstance(answer.what, str):
            raise UpstreamError(WIRE[answer.what], f"upstream_{answer.what}", "gone")
        return answer

    def patient_for(self, seconds: float) -> "World":
        return replace(self, patience=seconds)  # of the same answers, and the same lists of what happened

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def token_for(self, server: Server) -> str:
        if self.fault:
            self.now += TOOK
            raise self.fault
        return f"token-{server.name}"

    def signed_in(self, server: Server, token: str, outgoing: Outgoing) -> Mapping[str, str]:
        return with_token(server, outgoing, token)

    def changed(self, server: Server, token: str) -> str | None:
        assert token == (self.asked[-1][3].removeprefix("Bearer "))
        return self.newer.pop(0) if self.newer else None


DEADLINE = 1009.0
TOOK = 0.125
"""Seconds that each call takes."""


def made(name: str, retries: int, failures: int = 0) -> Server:
    breaker = Breaker(failures=failures, seconds=30.0)
    return Server(name, f"https://{name}", TokenReference("literal", ""), f"{name}-model", retries, breaker=breaker)


def call_of(
    servers: Sequence[Server], door: Literal["function_url", "rest_api"] = "function_url", count: str = ""
) -> Call:
    headers = {"x-stainless-retry-count": count}
    request = InferenceRequest(door, "POST", "/v1/chat/completions", "", headers, b'{"messages":[]}', None)
    target = Target(None, "/chat/completions")
    body = RequestBody(request, target)
    candidates = [Candidate(server) for server in servers]
    return Call("id", DEADLINE, request=request, target=target, body=body, candidates=candidates)


def ask(
    world: World, servers: Sequence[Server], breakers: Breakers, chance: float, timeline: Timeline | None = None
) -> Delivery:
    attempts = Attempts(cast("Any", world), cast("Any", world), breakers, world.sleep, lambda: chance)
    timeline = timeline or Timeline(Clock(lambda: world.now, lambda: world.now))
    return attempts.ask(call_of(servers), timeline, lambda _: pytest.fail("no answer lets wait for itself"))


def test_at_the_rest_api_no_server_is_waited_for_longer_than_the_gateway_waits() -> None:
    for door, patience in (("function_url", math.inf), ("rest_api", 290.0)):
        servers = [made("a", 1), made("b", 0)]
        world = World({"a": [Answer(500), Answer(500)], "b": [Answer(200)]})
        attempts = Attempts(cast("Any", world), cast("Any", world), Breakers(), world.sleep, lambda: 0.5)
        timeline = Timeline(Clock(lambda: 1000.0, lambda: 1000.0))
        attempts.ask(call_of(servers, cast("Any", door)), timeline, lambda _: pytest.fail("nothing waits"))
        assert world.patiences == [patience] * 3


@pytest.mark.parametrize(
    ("count", "asked"), [("", 3), ("0", 3), ("00", 3), ("-1", 3), ("x", 3), ("1", 1), ("2", 1), ("01", 1)]
)
def test_a_client_that_repeats_a_call_is_not_helped_by_more_of_it(count: str, asked: int) -> None:
    world = World({"a": [Answer(500)] * 3})
    attempts = Attempts(cast("Any", world), cast("Any", world), Breakers(), world.sleep, lambda: 0.5)
    timeline = Timeline(Clock(lambda: 1000.0, lambda: 1000.0))
    attempts.ask(call_of([made("a", 2)], count=count), timeline, lambda _: pytest.fail("nothing waits"))
    assert world.retries == ([2] * 3 if asked > 1 else [0]), "nor is its old connection replaced"
    assert timeline.has_repeated is (asked > 1)


@pytest.mark.parametrize(("later", "asked"), [(1.5, 1), (19.9, 1), (20.0, 3)])
def test_a_call_that_failed_a_moment_ago_is_its_clients_to_repeat(later: float, asked: int) -> None:
    """One of a program that begins its SDK anew each time; after that time it is a call like any other."""
    world = World({"a": [Answer(500)] * 6})
    attempts = Attempts(cast("Any", world), cast("Any", world), Breakers(), world.sleep, lambda: 0.5)
    for pause in (0.0, later):
        world.now, world.retries = 980.0 + pause, []
        timeline = Timeline(Clock(lambda: world.now, lambda: world.now))
        attempts.ask(call_of([made("a", 2)]), timeline, lambda _: pytest.fail("nothing waits"))
    assert world.retries == ([2] * 3 if asked > 1 else [0])
    assert told_of(None, timeline) == ENOUGH


@dataclass
class Expected:
    """What the plain model says."""

    asked: list[str]
    slept: list[float]
    last: Answer
    ill: dict[str, int]
    statuses: list[int | None] = field(default_factory=list[int | None])


def pause_after(answer: Answer, tried: int, chance: float) -> float | None:
    if answer.what == "timeout" or not (isinstance(answer.what, str) or answer.what in NOT_NOW):
        return None
    if isinstance(answer.what, int) and (answer.retry_after or answer.should_retry == "false"):
        return None
    return min(5.0, 0.25 * 2**tried * (0.5 + chance))


def model(servers: Sequence[Server], answers: Mapping[str, Sequence[Answer]], chance: float) -> Expected:
    found = Expected([], [], Answer(0), {})
    now = 1000.0
    for server in servers:
        tried = 0
        for answer in answers[server.name]:
            found.asked.append(server.name)
            found.statuses.append(answer.what if isinstance(answer.what, int) else None)
            found.last, now = answer, now + TOOK
            status = WIRE[answer.what] if isinstance(answer.what, str) else answer.what
            if status >= 300:
                found.ill[server.name] = found.ill.get(server.name, 0) + 1 if status in ILL else 0
            pause = pause_after(answer, tried, chance)
            is_out = 0 < server.breaker.failures <= found.ill.get(server.name, 0)
            if pause is None or tried >= server.retries or now + pause >= DEADLINE or is_out:
                break
            found.slept.append(pause)
            now, tried = now + pause, tried + 1
        last = found.last.what
        if isinstance(last, int) and last not in NOT_NOW and last != 401:
            break
    return found


ANSWERS = st.builds(
    Answer,
    st.sampled_from([*WIRE, 200, 200, 400, 401, 404, 408, 429, 500, 502, 503, 504, 529]),
    st.sampled_from([None, None, None, "0", "1.5", "60"]),
    st.sampled_from([None, None, None, "true", "false"]),
)
SERVERS = st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0, 0, 1, 2, 3])), min_size=1, max_size=3)


@settings(max_examples=examples(40))
@given(SERVERS, st.lists(ANSWERS, min_size=15, max_size=15), st.sampled_from([0.0, 0.5, 0.999]))
def test_servers_are_asked_as_the_model_says(kinds: list[tuple[int, int]], said: list[Answer], chance: float) -> None:
    servers = [made(f"s{number}", *kind) for number, kind in enumerate(kinds)]
    answers = {server.name: said[5 * number : 5 * number + 5] for number, server in enumerate(servers)}
    for answer in said:
        answer.closed = 0
    expected = model(servers, answers, chance)
    world, clock = World({name: list(of) for name, of in answers.items()}), lambda: world.now
    breakers, timeline = Breakers(clock), Timeline(Clock(clock, clock))
    attempts = Attempts(cast("Any", world), cast("Any", world), breakers, world.sleep, lambda: chance)
    delivery = attempts.ask(call_of(servers), timeline, lambda _: pytest.fail("no answer lets wait for itself"))
    told = [(each.server, each.status_code, each.duration) for each in timeline.attempts]
    assert told == [(*each, TOOK) for each in zip(expected.asked, expected.statuses, strict=True)]
    answered = [each for each in zip(expected.asked, expected.statuses, strict=True) if each[1]]
    announced = [(server, model, status) for server, model, status, _ in timeline.answers]
    assert announced == [(name, f"{name}-model", status) for name, status in answered]
    assert timeline.calls_made == len(expected.asked)
    assert timeline.has_repeated is any(expected.asked.count(name) > 1 for name in expected.asked)
    assert timeline.upstream_waited == pytest.approx(TOOK * len(expected.asked) + sum(expected.slept), abs=1e-6)
    urls = [f"https://{name}/chat/completions" for name in expected.asked]
    assert [(method, url) for method, url, _, _ in world.asked] == [("POST", url) for url in urls]
    assert [token for *_, token in world.asked] == [f"Bearer token-{name}" for name in expected.asked]
    assert [json.loads(body)["model"] for _, _, body, _ in world.asked] == [f"{name}-model" for name in expected.asked]
    assert world.slept == expected.slept
    assert_delivered(delivery, expected)
    used = [answer for name, of in answers.items() for answer in of[: expected.asked.count(name)]]
    assert all(answer.closed for answer in used if isinstance(answer.what, int) and answer is not expected.last)
    assert not expected.last.closed or isinstance(expected.last.what, str)
    for server in servers:
        is_out = 0 < server.breaker.failures <= expected.ill.get(server.name, 0)
        assert (breakers.out_for(server) > 0) is is_out
    world.answers, again = {server.name: [Answer(200)] for server in servers}, Timeline(Clock(clock, clock))
    attempts.ask(call_of(servers), again, lambda _: pytest.fail("no answer lets wait for itself"))
    has_failed = isinstance(expected.last.what, str) or expected.last.what >= 400
    assert again.comes_again is (timeline.has_repeated and has_failed)


def assert_delivered(delivery: Delivery, expected: Expected) -> None:
    last = expected.last
    assert delivery.server is not None
    assert delivery.server.name == expected.asked[-1]
    if isinstance(last.what, str):
        assert delivery.error
        assert (delivery.error.status, delivery.error.code) == (WIRE[last.what], f"upstream_{last.what}")
    elif last.what == 401:
        assert delivery.error
        assert (delivery.error.status, delivery.error.code) == (502, "upstream_authentication_failed")
    else:
        assert (delivery.error, delivery.status) == (None, last.what)
        assert json.loads(b"".join(delivery.chunks)) == last.document
        assert delivery.retry_after == (float(last.retry_after) if last.retry_after else None)


@pytest.mark.parametrize(("waits", "seconds"), [(0.0, "30"), (0.5, "30"), (29.5, "1")])
def test_a_server_that_is_kept_out_is_not_asked_and_says_when_it_may_be(waits: float, seconds: str) -> None:
    server = made("out", 4, 1)
    world = World({"out": [Answer(503)]})
    breakers = Breakers(lambda: world.now)
    ask(world, [server], breakers, 0.5)
    world.now += waits
    timeline = Timeline(Clock(lambda: world.now, lambda: world.now))
    delivery = ask(world, [server], breakers, 0.5, timeline)
    assert timeline.attempts == [Attempt("out", None, "circuit_open", 0.0, world.now)]
    assert (len(world.asked), timeline.calls_made) == (1, 0)
    assert delivery.error
    assert (delivery.error.status, delivery.error.code) == (503, "upstream_unavailable")
    assert delivery.error.headers == {"retry-after": seconds, "x-should-retry": "false"}
    assert delivery.retry_after == float(seconds)


@pytest.mark.parametrize(("left", "asked"), [(TOOK + 0.25, 1), (TOOK + 0.375, 2)])
def test_nobody_waits_for_a_try_that_would_begin_when_the_time_is_over(left: float, asked: int) -> None:
    world = World({"a": [Answer(500)] * 2}, now=DEADLINE - left)
    ask(world, [made("a", 1)], Breakers(), 0.5)
    assert (len(world.asked), world.slept) == (asked, [0.25] * (asked - 1))


@pytest.mark.parametrize("status", [200, 429])
def test_what_a_body_lets_wait_before_it_is_passed_on_is_waiting(status: int) -> None:
    world = World({"a": [Answer(status, waits=0.5)]})
    timeline = Timeline(Clock(lambda: world.now, lambda: world.now))
    ask(world, [made("a", 0)], Breakers(), 0.5, timeline)
    assert timeline.upstream_waited == TOOK + 0.5


def test_what_a_silent_server_let_wait_is_known_when_its_client_gets_the_head() -> None:
    world = World({"a": [Answer(200, is_silent=True, waits=0.5)]})
    timeline, begun = Timeline(Clock(lambda: world.now, lambda: world.now)), list[float]()
    attempts = Attempts(cast("Any", world), cast("Any", world), Breakers(), world.sleep, lambda: 0.5)
    attempts.ask(call_of([made("a", 0)]), timeline, lambda _: begun.append(timeline.upstream_waited))
    assert [*begun, timeline.upstream_waited] == [TOOK + 0.5] * 2


def test_all_that_a_server_is_sent_and_all_that_is_told_of_its_answer() -> None:
    server, answer = made("a", 0), Answer(200, "7")
    world = World({"a": [answer]})
    timeline = Timeline(Clock(lambda: world.now, lambda: world.now))
    delivery = ask(world, [server], Breakers(), 0.5, timeline)
    sent = b'{"model":"a-model","messages":[]}'
    assert world.asked == [("POST", "https://a/chat/completions", sent, "Bearer token-a")]
    assert world.headers == [
        {"authorization": "Bearer token-a", "user-agent": "openai-proxy", "accept-encoding": "identity"}
    ]
    assert delivery.sent
    assert delivery.sent.content == sent
    assert (delivery.server, delivery.status, delivery.token, delivery.upstream) == (server, 200, "token-a", answer)
    assert (delivery.content_type, delivery.headers) == (JSON, {"content-type": JSON, "retry-after": "7"})
    assert (delivery.retry_after, delivery.document, delivery.error) == (7.0, answer.document, None)
    assert timeline.attempts == [Attempt("a", 200, None, TOOK, 1000.0 + TOOK)]


@pytest.mark.parametrize(
    ("status", "code"), [(299, None), (300, "upstream_redirect"), (399, "upstream_redirect"), (400, None)]
)
def test_the_client_is_told_of_a_redirect_and_never_sent_it(status: int, code: str | None) -> None:
    answer = Answer(status)
    delivery = ask(World({"a": [answer]}), [made("a", 0)], Breakers(), 0.5)
    assert (delivery.status, delivery.error and delivery.error.code) == (status, code)
    if not code:
        assert json.loads(b"".join(delivery.chunks)) == answer.document


@pytest.mark.parametrize(
    ("newer", "statuses", "tokens"),
    [
        ([None], [401], ["token-a"]),
        (["new"], [401, 200], ["token-a", "new"]),
        (["new", None], [401, 401], ["token-a", "new"]),
        (["new"], [401, 500], ["token-a", "new"]),
        (["new", "newest"], [401, 401, 200], ["token-a", "new", "newest"]),
        ([], [403], ["token-a"]),
    ],
)
def test_a_refused_token_is_tried_anew_with_another_at_once_whatever_the_retries(
    newer: list[str | None], statuses: list[int], tokens: list[str]
) -> None:
    answers = [Answer(status) for status in statuses]
    world = World({"a": list(answers)}, newer=newer)
    delivery = ask(world, [made("a", 0)], Breakers(), 0.5)
    assert [token for *_, token in world.asked] == [f"Bearer {token}" for token in tokens]
    assert (world.slept, delivery.token) == ([], tokens[-1])
    assert [answer.closed for answer in answers[:-1]] == [1] * (len(answers) - 1)


def test_a_server_without_a_token_is_not_asked_and_its_fallback_is() -> None:
    fault = UnavailableError(503, "token_unavailable", "no token", headers={"retry-after": "4"})
    world = World({"a": []}, fault=fault)
    timeline = Timeline(Clock(lambda: world.now, lambda: world.now))
    delivery = ask(world, [made("a", 3), made("b", 0)], Breakers(), 0.5, timeline)
    assert timeline.attempts == [
        Attempt("a", None, "token_unavailable", TOOK, 1000.0 + TOOK),
        Attempt("b", None, "token_unavailable", TOOK, 1000.0 + 2 * TOOK),
    ]
    assert (delivery.error, delivery.retry_after, delivery.token) == (fault, 4.0, "")
    assert (world.asked, world.slept) == ([], [])


@pytest.mark.parametrize("status", [200, 400, 429, 500, 502, 503, 504, 529])
def test_how_an_answer_ended_is_told_to_the_breaker(status: int) -> None:
    breakers, server = Breakers(lambda: 0.0), made("a", 0, 2)
    attempts = Attempts(cast("Any", None), cast("Any", None), breakers)
    for _ in range(2):
        breakers.failed(server)
        breakers.succeeded(server)
        attempts.judge(server, status)
    attempts.judge(server, 503)
    assert (breakers.out_for(server) > 0) is (status in ILL)
    attempts.judge(server, status)
    attempts.judge(server, 503)
    assert (breakers.out_for(server) > 0) is (status in ILL)


def test_what_was_never_let_in_is_asked_of_nobody() -> None:
    world = World({"a": [Answer(200)]})
    attempts = Attempts(cast("Any", world), cast("Any", world), Breakers(), world.sleep, lambda: 0.5)
    timeline = Timeline(Clock(lambda: world.now, lambda: world.now))
    whole = call_of([made("a", 0)])
    with pytest.raises(ValueError, match="no server to ask"):
        attempts.ask(whole._replace(candidates=()), timeline, lambda _: None)
    for missing in ("body", "request", "target"):
        with pytest.raises(ValueError, match="a call that was not let in"):
            attempts.ask(whole._replace(**{missing: None}), timeline, lambda _: None)
    assert world.asked == []


@pytest.mark.parametrize(("path", "is_question"), [("/chat/completions", True), ("/files", False)])
def test_only_a_question_has_to_be_answered_as_one(path: str, is_question: bool) -> None:
    @dataclass
    class Odd(Answer):
        @property
        def document(self) -> dict[str, Any]:
            return {"message": "no answer to anything"}

    world = World({"a": [Odd(200)]})
    attempts = Attempts(cast("Any", world), cast("Any", world), Breakers(), world.sleep, lambda: 0.5)
    timeline = Timeline(Clock(lambda: world.now, lambda: world.now))
    asked = call_of([made("a", 0)])._replace(target=Target(None, path))
    delivery = attempts.ask(asked, timeline, lambda _: pytest.fail("nothing waits"))
    assert delivery.error is None or delivery.error.code == "upstream_no_answer"
    assert (delivery.error is not None) is is_question
    assert [each.error for each in timeline.attempts] == ["upstream_no_answer" if is_question else None]


@pytest.mark.parametrize(
    ("method", "path", "sent", "expected"),
    [
        ("POST", "/chat/completions", b'{"messages":[],"stream":true}', ExpectedAnswer(True, True, True, True)),
        ("POST", "/chat/completions", b'{"messages":[]}', ExpectedAnswer(True, True, False, True)),
        ("POST", "/embeddings", b'{"input":""}', ExpectedAnswer(True, True, False, False)),
        ("POST", "/files", b"{}", ExpectedAnswer(False, True, False, False)),
        ("GET", "/files", b"", ExpectedAnswer(False, False, False, False)),
    ],
)
def test_what_an_answer_should_be_is_told_by_what_was_asked(
    method: str, path: str, sent: bytes, expected: ExpectedAnswer, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def opened(answer: Any, server: Server, token: str, told: ExpectedAnswer, _: object) -> OpenedAnswer:
        seen.extend((server.name, token, told))
        return OpenedAnswer(answer, server, token)

    monkeypatch.setattr("proxy.upstream.attempts.opened", opened)
    world, target = World({"a": [Answer(200)]}), Target(None, path)
    request = InferenceRequest("function_url", method, f"/v1{path}", "", {}, sent, None)
    call = call_of([made("a", 0)])._replace(request=request, target=target, body=RequestBody(request, target))
    attempts = Attempts(cast("Any", world), cast("Any", world), Breakers(), world.sleep, lambda: 0.5)
    attempts.ask(call, Timeline(Clock(lambda: world.now, lambda: world.now)), lambda _: None)
    assert seen == ["a", "token-a", expected]


@pytest.mark.parametrize("at_body", [False, True])
def test_a_call_that_is_stopped_is_no_answer_of_a_server_and_no_other_is_asked(at_body: bool) -> None:
    stop = ClientError(499, "client_gone", "The client went away.")

    class Stopped(Answer):
        def __iter__(self) -> Iterator[bytes]:
            raise stop

    class Stopping(World):
        def stream(self, server: Server, outgoing: Outgoing, deadline: float) -> Answer:
            answer = super().stream(server, outgoing, deadline)
            if not at_body:
                raise stop
            return answer

    answer = Stopped(200)
    world = Stopping({"a": [answer, answer], "b": [answer]})
    timeline = Timeline(Clock(lambda: world.now, lambda: world.now))
    with pytest.raises(ProxyError) as raised:
        ask(world, [made("a", 1), made("b", 1)], Breakers(), 0.5, timeline)
    assert (raised.value, len(world.asked), world.slept) == (stop, 1, [])
    assert [(each.server, each.error) for each in timeline.attempts] == [("a", "client_gone")]
    assert answer.closed == at_body


def test_no_value_on_the_way_shows_the_token_it_carries() -> None:
    server, sent = made("a", 0), cast("Any", None)
    turn, delivery = _Turn(server, sent, "a-secret"), Delivery(server, sent, token="a-secret")
    assert "a-secret" not in f"{turn} {turn!r} {delivery} {delivery!r}"
    assert f"{turn} {delivery}".count("'a'") == 2, "they say whose it is"
