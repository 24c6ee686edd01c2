"""The terminal event and what is made of it, at their bounds: lengths, counts, times, and whose fault it was."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from openai_proxy.key_context import ClientKey
from openai_proxy.key_limits import Limits
from openai_proxy.servers import parse_servers
from openai_proxy.usage import Usage
from proxy.call import Call
from proxy.delivery import CacheUse, Delivery
from proxy.errors import ClientError, LimitError, LimitReached, UnavailableError, UpstreamError
from proxy.metering.meter import Meter
from proxy.outcome import Outcome
from proxy.records.digest import digest_of
from proxy.records.log_line import request_line
from proxy.records.terminal_event import terminal_event
from proxy.records.tracing import subsegment_of
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target
from proxy.request.routing import Candidate
from proxy.request.trace_context import xray_context
from proxy.timeline import Clock, Timeline

MOST_SECONDS = 1_000_000_000

SERVER = parse_servers("main: {url: 'http://up.test/v1', token: t, model: m}")["main"]
ID = "01M8K70092HVPK9KBPZFVGWRVG"
BODY = b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "Hi"}], "user": "ada"}'
TRACE = xray_context("Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1")


@dataclass
class Ticks:
    """A clock that goes on by a second with each reading, from 1000; it was 1_795_000_000 when it was 1000."""

    now: float = 999.0

    def reading(self) -> float:
        self.now += 1
        return self.now

    def clock(self) -> Clock:
        return Clock(lambda: 1_795_000_000.0, self.reading)


@dataclass
class Told:
    """Of which request an event is."""

    key: ClientKey | None = field(default_factory=lambda: ClientKey("team-a", key_id="0a", name="Chat"))
    path: str = "/chat/completions"
    tags: dict[str, str] = field(default_factory=dict[str, str])
    method: str = "POST"
    body: bytes = BODY
    is_read: bool = True
    """Whether there is a request, with a body."""
    timeline: Timeline = field(default_factory=lambda: Timeline(Ticks().clock()))
    candidates: list[Candidate] = field(default_factory=list[Candidate])

    def event(self, outcome: Outcome | None = None, *, cold: bool = False) -> Any:
        request = InferenceRequest("rest_api", self.method, "/main/v1", "", {}, self.body, None)
        target = Target("main", self.path)
        body = RequestBody(InferenceRequest("rest_api", self.method, "", "", JSON, self.body, None), target)
        call = Call(ID, 0.0, request, self.key, target, body if self.method == "POST" else None, tags=self.tags)
        call = call if self.is_read else Call(ID, 0.0, key=self.key)
        call = call._replace(candidates=self.candidates)
        if not self.timeline.ended:
            self.timeline.end()
        return terminal_event(call, outcome or Outcome(200), self.timeline.moments(), cold_start=cold)

    def data(self, outcome: Outcome | None = None) -> dict[str, Any]:
        return self.event(outcome).data


JSON = {"content-type": "application/json"}


def metered(answer: dict[str, Any]) -> Meter:
    meter = Meter("application/json", uses_tokens=True)
    meter.see(json.dumps(answer).encode())
    meter.end()
    return meter


# -------------------------------------------------------------------------------------------------------------- lengths


@pytest.mark.parametrize("size", [63, 64, 65, 127, 128, 129, 254, 255, 256, 257])
def test_what_the_owner_has_written_is_cut_at_its_length(size: int) -> None:
    text = "x" * size
    key = ClientKey("a", key_id=text, name=text, owner=text, tags={text: text}, end_user=text)
    data = Told(key).data()
    short, long = text[:64], text[:128]
    assert data["client"] == {"key_id": short, "name": long, "owner": long, "tags": {short: long}}
    assert data["end_user"] == text[:255]


@pytest.mark.parametrize("guards", ["on", "cache_only", ""])
@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_request_that_costs_has_a_digest_where_guards_are_on(guards: str, method: str) -> None:
    request = InferenceRequest("rest_api", method, "/main/v1", "", {}, BODY, None)
    digest = digest_of(Call(ID, 0.0, request, target=Target("main", "/chat/completions")))
    found = Told(ClientKey("team-a", guards=guards), method=method).data()["request"]
    assert found.get("digest") == (digest if guards else None)
    assert ("digest" in found) == (bool(guards) and method == "POST")


def test_a_stream_that_is_written_down_is_told_of() -> None:
    stream: Any = {"status": "completed", "events": 7, "respond_async": False}
    assert Told().data(Outcome(200, stream=stream))["stream"] == stream
    assert "stream" not in Told().data()


@pytest.mark.parametrize("size", [255, 256, 257])
def test_paths_and_models_are_cut_too(size: int) -> None:
    data = Told(path="/" + "x" * size).data()
    assert data["request"]["path"] == "/" + "x" * min(size, 255)


def test_what_is_not_there_is_said_to_be_so() -> None:
    data = Told(key=None, is_read=False).data()
    nothing = {"method": "", "path": "", "model": None, "stream": False, "size": 0}
    assert (data["request"], data["client"], data["end_user"], data["limits"]) == (nothing, None, None, None)
    assert (data["door"], data["operation"], data["server"]) == ("function_url", {"name": "other"}, {"name": None})
    assert "team" not in data
    assert "fetched" not in data
    event = Told(key=None).event(cold=True)
    assert (event.client_id, event.id, event.request_id, event.data["cold_start"]) == ("", ID, ID, True)
    assert event.data["end_user"] is None, "whose user it would be is not known"
    assert (event.data["door"], event.data["operation"]) == ("rest_api", {"name": "chat"})


@pytest.mark.parametrize("count", [15, 16, 17])
def test_there_are_so_many_tags_and_finish_reasons(count: int) -> None:
    tags = {f"{place:02}": "v" for place in range(count)}
    reasons = [f"{place:02}{'r' * 30}x" for place in range(count)]
    data = Told(ClientKey("a", tags=tags)).data(
        Outcome(200, meter=metered({"choices": [{"finish_reason": each} for each in reasons]}))
    )
    assert list(data["client"]["tags"]) == list(tags)[:16]
    assert data["response"]["finish_reasons"] == [reason[:32] for reason in reasons[:16]]


def test_the_key_has_the_last_word_on_a_tag() -> None:
    told = Told(ClientKey("a", tags={"env": "prod"}), tags={"env": "dev", "run": "7"})
    assert told.data()["tags"] == {"run": "7"}
    assert Told(None, tags={"run": "7"}).data()["tags"] == {"run": "7"}


def test_a_user_that_the_client_names_is_a_pseudonym_of_that_client() -> None:
    expected = hashlib.sha256(b"team-a\0ada").hexdigest()[:32]
    assert Told().data()["end_user"] == expected
    assert Told(ClientKey("team-a", end_user="grace")).data()["end_user"] == "grace"
    assert Told(method="GET").data()["end_user"] is None
    half = Told(body=json.dumps({"user": "ada\ud800"}).encode()).data()["end_user"]
    assert half == hashlib.sha256(b"team-a\0ada?").hexdigest()[:32]


@pytest.mark.parametrize("count", [1, 31, 32, 33, 49, 50, 51])
def test_the_last_attempts_are_told_of(count: int) -> None:
    told = Told()
    for place in range(count):
        told.timeline.wait()
        told.timeline.attempted(f"s{place}", 503, "broken" if place % 2 else None)
    told.timeline.chunk()
    event = told.event()
    assert [each["server"] for each in event.data["attempts"]] == [f"s{place}" for place in range(count)][-32:]
    assert {each["duration"] for each in event.data["attempts"]} == {1.0}
    line = request_line(event, "published")
    assert TRACE
    parts = subsegment_of(told.timeline, event, line, TRACE)["subsegments"]
    assert [each["name"] for each in parts[1:-1]] == [f"s{place}" for place in range(count)][-50:]
    assert all(each["end_time"] - each["start_time"] <= 2 for each in parts[1:-2])
    assert parts[-2]["end_time"] == told.timeline.ended - 1000 + 1_795_000_000
    assert [each.get("annotations") for each in parts[1:-1]] == [
        {"error": "broken"} if place % 2 else None for place in range(count)
    ][-50:]


# ---------------------------------------------------------------------------------------------------------------- times


def test_times_are_rounded_to_the_microsecond_and_none_is_below_nothing() -> None:
    timeline = Timeline(Clock(lambda: 0.0, lambda: 0.0))
    timeline.started, timeline.authorized, timeline.first_chunk, timeline.ended = 1.0, 1.1234567, 1.5000014, 3.1234567
    timeline.upstream_waited = 1.2345678
    data = Told(timeline=timeline).data()
    times = {"total": 2.123457, "authorization": 0.123457, "upstream": 1.234568, "proxy": 0.888889}
    assert data["timings"] == times
    assert data["response"]["time_to_first_chunk"] == 0.500001
    timeline.upstream_waited, timeline.authorized, timeline.first_chunk = 2.5, 0.0, 0.0
    data = Told(timeline=timeline).data()
    assert data["timings"] == {"total": 2.123457, "authorization": 0.0, "upstream": 2.5, "proxy": 0.0}
    assert data["response"]["time_to_first_chunk"] is None


@pytest.mark.parametrize(
    ("tokens", "is_stream", "first", "pace"),
    [
        (1, True, 2.0, None),
        (2, True, 2.0, 1.0),
        (4, True, 2.0, 0.333333),
        (4, False, 2.0, None),
        (4, True, 0.0, None),
    ],
)
def test_the_pace_of_a_stream_is_that_between_two_tokens(
    tokens: int, is_stream: bool, first: float, pace: float | None
) -> None:
    timeline = Timeline(Clock(lambda: 0.0, lambda: 0.0))
    timeline.started, timeline.first_chunk, timeline.ended = 1.0, first, 3.0
    usage = Usage(output_tokens=tokens, source="reported")
    meter = Meter("text/event-stream" if is_stream else "application/json", uses_tokens=True)
    told = Told(timeline=timeline)
    assert told.data(Outcome(200, meter=meter, usage=usage))["response"]["time_per_output_token"] == pace
    assert told.data(Outcome(200, usage=usage))["response"]["time_per_output_token"] is None


# --------------------------------------------------------------------------------------------------------- how it ended

LIMIT = LimitError("rate_limit_exceeded", "no", "key_rpm", 7, {})
LATER = Delivery(SERVER, retry_after=3.5)
MAIN = {"type": "server", "id": SERVER.name}
FOR_EVER = Delivery(SERVER, retry_after=1e308)
ERRORS: list[tuple[Outcome, str, dict[str, Any]]] = [
    (Outcome(200), "completed", {}),
    (Outcome(399), "completed", {}),
    (Outcome(400), "failed", {"type": "upstream_error", "source": "upstream", "upstream_status": 400}),
    (Outcome(500), "failed", {"type": "upstream_error", "source": "upstream", "upstream_status": 500}),
    (
        Outcome(200, meter=metered({"error": {"message": "no"}})),
        "failed",
        {"type": "upstream_error", "source": "upstream", "upstream_status": 200},
    ),
    (Outcome(429, error=LIMIT), "throttled", {"source": "key_rpm", "retry_after": 7}),
    (Outcome(200, error=LIMIT), "throttled", {"source": "key_rpm", "retry_after": 7}),
    (Outcome(429, LATER), "throttled", {"source": "upstream", "retry_after": 3.5, "subject": MAIN}),
    (Outcome(429, FOR_EVER), "throttled", {"source": "upstream", "retry_after": float(MOST_SECONDS), "subject": MAIN}),
    (Outcome(429), "throttled", {"source": "upstream", "retry_after": None, "subject": {"type": "server", "id": ""}}),
    (
        Outcome(429, LATER, error=UpstreamError(429, "x", "no", upstream_status=429)),
        "throttled",
        {"source": "upstream", "retry_after": 3.5, "subject": MAIN},
    ),
    (
        Outcome(429, LATER, error=ClientError(429, "own", "no")),
        "failed",
        {"type": "own", "source": "client", "upstream_status": None},
    ),
    (
        Outcome(502, LATER, error=UpstreamError(502, "upstream_error", "no", upstream_status=429)),
        "failed",
        {"type": "upstream_error", "source": "upstream", "upstream_status": 429},
    ),
    (
        Outcome(503, error=UnavailableError(503, "internal", "no")),
        "failed",
        {"type": "internal", "source": "proxy", "upstream_status": None},
    ),
    (
        Outcome(200, error=ClientError(400, "gone", "no")),
        "failed",
        {"type": "gone", "source": "client", "upstream_status": None},
    ),
]
TYPES = {
    "completed": ("InferenceCompleted", ""),
    "failed": ("InferenceFailed", "error"),
    "throttled": ("InferenceThrottled", "throttle"),
}


@pytest.mark.parametrize("place", range(len(ERRORS)))
def test_whose_fault_it_was_is_told_in_the_event_and_in_the_line(place: int) -> None:
    outcome, end, why = ERRORS[place]
    event = Told().event(outcome)
    kind, name = TYPES[end]
    assert event.detail_type == kind
    assert {each: event.data[each] for each in ("error", "throttle") if each in event.data} == (
        {name: why} if name else {}
    )
    assert event.data["response"]["status_code"] == outcome.status
    line = request_line(event, "lost", trace_id="t", w3c_trace_id="w")
    told = (line["outcome"], line["error"], line["throttle"], line["published"], line["trace_id"], line["w3c_trace_id"])
    error, throttle = (why.get("type"), None) if end == "failed" else (None, why.get("source"))
    assert told == (end, error, throttle, False, "t", "w")
    assert TRACE
    timeline = Told().timeline
    flags = {name for name in ("fault", "error", "throttle") if subsegment_of(timeline, event, line, TRACE).get(name)}
    status = outcome.status
    expected = {"fault"} if status >= 500 or (end == "failed" and status < 400) else set[str]()
    expected |= ({"error"} if 400 <= status < 500 else set()) | ({"throttle"} if status == 429 else set())
    assert flags == expected


@pytest.mark.parametrize(
    ("replacement", "named", "model"),
    [("", "gpt-5", "gpt-5"), ("gpt-5-2026", "gpt-5", "gpt-5-2026"), ("", None, SERVER.model)],
)
def test_what_a_limit_refused_is_told_with_server_model_subject_and_amounts(
    replacement: str, named: str | None, model: str | None
) -> None:
    full = LimitReached("team", "red", "day", "5", "4.75", "0.5")
    refused = LimitError("budget_reserved", "no", "team_budget_reserved", 5, {}).of(full)
    content = json.dumps({"messages": [], **({"model": named} if named else {})}).encode()
    told = Told(body=content, candidates=[Candidate(SERVER, replacement), Candidate(SERVER._replace(name="other"))])
    data = told.data(Outcome(429, error=refused))
    assert (data["server"]["name"], data["request"]["model"]) == (SERVER.name, model)
    assert data["throttle"] == {
        "source": "team_budget_reserved",
        "retry_after": 5,
        "subject": {"type": "team", "id": "red"},
        "span": "day",
        "limit": "5",
        "used": "4.75",
        "asked": "0.5",
    }
    failed = told.data(Outcome(503, error=UnavailableError(503, "limits_unavailable", "no")))
    assert (failed["server"]["name"], failed["request"]["model"]) == (None, None), "nobody refused it"


# --------------------------------------------------------------------------------------------------------- limits, team


def test_what_was_taken_of_limits_is_told_of_the_key_and_of_its_team() -> None:
    own, shared = Limits("line-1", rpm=5), Limits.of_team("red", {"tpm": 7})
    key = ClientKey("a", name="Chat", limits=own, team="red", team_limits=shared)
    data = Told(key).data()
    assert data["limits"]["id"] == "line-1"
    assert data["team"] == {"name": "red", "limits": {**data["limits"], "id": cast("Limits", shared).id}}
    assert Told(ClientKey("a", team="red")).data()["team"] == {"name": "red", "limits": None}
    event = Told(key).event()
    line = request_line(event, "published")
    assert (line["team"], line["client"], line["key_id"]) == ("red", "Chat", "")
    assert "team" not in request_line(Told().event(), "published")
    assert request_line(Told(None).event(), "published")["client"] is None


def test_what_is_fetched_leaves_the_budget_as_it_is() -> None:
    limits = Limits("line-1", budget_day=cast("Any", 5))
    told = Told(ClientKey("a", limits=limits), path="/responses/resp_1", method="GET")
    assert told.data()["limits"]["has_budget"] is False


def test_a_line_counts_calls_and_says_what_the_cache_did() -> None:
    told = Told()
    for error in (None, "circuit_open", "kept_out", "upstream_timeout", "token_unavailable", "server_not_configured"):
        told.timeline.attempted("s", None, error, 0.0)
    event = told.event(Outcome(200, cache=CacheUse("HIT", None), usage=Usage(3, 4, source="reported")))
    line = request_line(event, "published")
    assert (line["attempts"], line["cache"], line["usage_source"]) == (2, "HIT", "reported")
    assert "source" not in line["usage"]
    assert (line["usage"]["input_tokens"], line["usage"]["output_tokens"]) == (3, 4)
    assert event.data["cache"] == {"status": "HIT", "reason": None}
