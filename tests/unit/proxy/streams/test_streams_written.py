"""How a stream that is written down begins and ends: its state, what its client is told, and what its event says."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from openai_proxy.key_context import ClientKey
from proxy.aws.client import AwsError
from proxy.call import Call
from proxy.endpoints.cors import Cors
from proxy.endpoints.responder import Responder
from proxy.errors import ClientError, ProxyError, UpstreamError
from proxy.metering.meter import Meter
from proxy.metering.reported_error import ReportedError
from proxy.outcome import Outcome
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target
from proxy.streams.names import owner_of, stream_object
from proxy.streams.recording import Recording, Times
from proxy.streams.streams import Streams
from proxy.streams.table import State, StreamsTable
from proxy.streams.written import Settings, Written
from proxy.timeline import Clock, Timeline

from tests.fakes import RecordedResponse
from tests.streams.services import BUSY, FakeObjects, FakeStreamsTable

NOW = 1_469_922_850.0
STREAM = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
KEY = ClientKey(client_id="team-a", key_id="0123456789ab", line="0123456789ab")
EVENTS = {"content-type": "text/event-stream"}
STATE = State(STREAM, owner_of(KEY), "/chat/completions", created_at=NOW, expires_at=NOW + 60 + 30 + 90)


class World:
    """A call of a client, the table, who writes recordings, and what may stop the request."""

    def __init__(
        self, *, key: ClientKey = KEY, path: str = "/chat/completions", sign: Callable[[str], str] | None = None
    ) -> None:
        self.services: Any = FakeStreamsTable()
        table = StreamsTable(self.services, "streams", FakeObjects())
        self.recordings, self.waited, self.stoppers = list[Recording](), list[float](), list[Any]()
        self.starts: Callable[[], None] = lambda: None
        self.forgotten = 0
        self.response = RecordedResponse()
        self.reading = 7.0
        self.timeline = Timeline(Clock(lambda: NOW, lambda: self.reading))
        self.reading += 0.25
        request = InferenceRequest("function_url", "POST", f"/v1{path}", "", {}, b'{"model":"m"}', None)
        target = Target(None, path)
        self.call = Call(STREAM, NOW + 60, request, key, target, RequestBody(request, target))
        records: Any = self
        settings = Settings(90.0, Times(lambda: NOW, list[float]().append), self.start, self.stoppers.append, sign)
        self.streams = Streams(table, self.another, records, settings)
        self.table = table
        self.is_misconfigured = False

    def another(self) -> StreamsTable:
        if self.is_misconfigured:
            raise KeyError("CACHE_BUCKET")
        return self.table

    def forget(self) -> None:
        self.forgotten += 1

    def start(self, made: Recording) -> Callable[[float], object]:
        self.starts()
        self.recordings.append(made)
        return self.waited.append

    def begun(self, *, waits: bool = True) -> tuple[Call, Written | None]:
        if not waits and self.call.request:
            headers = {"x-respond-async": "true"}
            self.call = self.call._replace(request=self.call.request._replace(headers=headers))
        nothing: Any = None
        responder = Responder(Cors("*"), nothing)
        return self.streams.begun(self.call, self.response, responder, self.timeline, "Root=1-x")


def written(found: tuple[Call, Written | None]) -> Written:
    assert found[1] is not None
    return found[1]


def test_what_turns_out_to_be_no_stream_is_nowhere_written_down() -> None:
    world = World()
    found = written(world.begun())
    found.response.start(200, {"content-type": "application/json"})
    found.response.write(b"{}")
    found.response.end()
    assert (world.response.headers, world.response.body) == ({"content-type": "application/json"}, b"{}")
    assert found.finish(Outcome(200), world.timeline) is None
    assert not found.is_told()
    found.close(5.0)
    assert (world.recordings, world.waited, world.services.calls) == ([], [], [])


@pytest.mark.parametrize("policy", ["", "continue", "stop"])
def test_a_stream_is_begun_with_its_state_and_ended_with_what_became_of_it(policy: str) -> None:
    world = World(key=KEY._replace(on_disconnect=policy))
    call, found = world.begun()
    assert call is world.call
    response = written((call, found)).response
    response.start(200, EVENTS)
    response.write(b"data: a\n\n")
    [made] = world.recordings
    world.reading += 40.0
    told = {"x-resumable": "true", **({"x-on-disconnect": "stop"} if policy == "stop" else {})}
    assert world.response.headers == {**EVENTS, **told}
    made.tick()
    state = world.table.state(STREAM)
    assert state
    detail_type, *_, data = json.loads(state.unfinished)[2]
    assert data["timings"]["proxy"] == 0.25, "until its admission"
    expected = STATE._replace(on_disconnect="stop" if policy == "stop" else "", client_id="team-a")
    expected = expected._replace(owner=owner_of(KEY), expires_at=float(int(NOW + 180) + 1), lease_until=NOW + 30)
    assert state == expected._replace(unfinished=state.unfinished)
    assert (detail_type, json.loads(state.unfinished)[1], json.loads(state.unfinished)[3]) == (
        "InferenceFailed",
        "Root=1-x",
        False,
    )
    response.end()
    end = written((call, found))
    assert end.finish(Outcome(200), world.timeline) == {"status": "completed", "events": 1, "respond_async": False}
    assert [each is None for each in world.stoppers] == [False, True]
    assert not made.ended.is_set(), "its event goes first"
    end.close(3.5)
    end.close(-1.0)
    assert (made.ended.is_set(), world.waited) == (True, [3.5, 0.0])
    made.write_rest()
    state = world.table.state(STREAM)
    assert state
    assert (state.status, state.events, state.error, state.unfinished) == ("completed", 1, "", "")


def test_one_that_nobody_has_finished_has_failed() -> None:
    world = World()
    found = written(world.begun())
    found.response.start(200, EVENTS)
    found.close(1.0)
    [made] = world.recordings
    made.write_rest()
    state = world.table.state(STREAM)
    assert state
    assert (state.status, state.error) == ("failed", "internal_error")


def test_a_recording_that_was_taken_for_dead_has_been_told_of() -> None:
    world = World()
    found = written(world.begun())
    found.response.start(200, EVENTS)
    [made] = world.recordings
    assert not found.is_told()
    made.is_given_up = True
    assert found.is_told()


def test_without_a_thread_the_stream_goes_out_and_nothing_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()

    def fails() -> None:
        raise RuntimeError("can't start new thread")

    world.starts = fails
    found = written(world.begun())
    found.response.start(200, EVENTS)
    found.response.write(b"data: a\n\n")
    found.response.end()
    found.close(1.0)
    assert world.response.body == b"data: a\nid: 01ARZ3NDEKTSV4RRFFQ69G5FAV.1\n\n"
    assert (world.waited, world.services.calls) == ([], [])
    line = json.loads(capsys.readouterr().out)
    said = {name: line[name] for name in ("level", "message", "id", "reason")}
    message = "A resumable stream is not written down"
    assert said == {"level": "ERROR", "message": message, "id": STREAM, "reason": "can't start new thread"}


def erring(**meter: Any) -> Meter:
    made = Meter("application/json", uses_tokens=False)
    for name, value in meter.items():
        setattr(made, name, value)
    return made


@pytest.mark.parametrize(
    ("outcome", "status", "error"),
    [
        (Outcome(200), "completed", ""),
        (Outcome(399), "completed", ""),
        (Outcome(400), "failed", "upstream_error"),
        (Outcome(200, meter=erring()), "completed", ""),
        (Outcome(200, meter=erring(_error=ReportedError("no", None, None))), "failed", "upstream_error"),
        (Outcome(200, error=ClientError(499, "stream_stopped", "")), "stopped", "stream_stopped"),
        (Outcome(200, error=ClientError(499, "client_absent", "")), "stopped", "client_absent"),
        (Outcome(502, error=UpstreamError(502, "upstream_broken_off", "")), "failed", "upstream_broken_off"),
    ],
    ids=range(8),
)
def test_how_a_stream_has_ended(outcome: Outcome, status: str, error: str) -> None:
    world = World()
    found = written(world.begun())
    found.response.start(200, EVENTS)
    assert found.finish(outcome, world.timeline) == {"status": status, "events": 0, "respond_async": False}
    found.close(1.0)
    [made] = world.recordings
    made.write_rest()
    state = world.table.state(STREAM)
    assert state
    assert (state.status, state.error) == (status, error)


@pytest.mark.parametrize(
    ("path", "up"), [("/chat/completions", "../"), ("/responses", ""), ("/embeddings", ""), ("/messages", "")]
)
def test_a_client_that_does_not_wait_is_told_where_its_answer_will_be(path: str, up: str) -> None:
    world = World(key=KEY._replace(on_disconnect="stop"), path=path, sign=lambda text: f"signed {text}")
    _, found = world.begun(waits=False)
    state = world.table.state(STREAM)
    assert state
    assert world.services.calls[0] == "put state"
    assert json.loads(state.unfinished)[3] is True
    response = world.response
    assert (response.status, response.ended, json.loads(response.body)) == (202, True, stream_object(state))
    own = {
        "content-type": "application/json",
        "location": f"{up}streams/{STREAM}",
        "x-resumable": "true",
        "x-on-disconnect": "stop",
    }
    assert {name: response.headers[name] for name in own} == own
    assert "x-request-id" in response.headers
    later = written((world.call, found)).response
    later.start(200, {"content-type": "application/json"})
    later.write(b"{}")
    later.end()
    assert response.body == json.dumps(stream_object(state)).encode(), "nobody hears it while it comes"
    world.timeline.ended = 10.0
    events = 1 if path == "/messages" else 2
    assert written((world.call, found)).finish(Outcome(200), world.timeline) == {
        "status": "completed",
        "events": events,
        "respond_async": True,
        "signature": f"signed {STREAM}.2016-07-30T23:54:13.000Z.completed",
    }
    written((world.call, found)).close(2.0)
    assert (len(world.recordings), world.waited) == (1, [2.0])


@pytest.mark.parametrize(
    ("path", "fails", "status", "code", "headers"),
    [
        ("/files", False, 400, "async_unsupported", {}),
        ("/chat/completions", True, 503, "streams_unavailable", {"retry-after": "2"}),
    ],
)
def test_who_cannot_be_told_where_the_answer_will_be_is_refused(
    path: str, fails: bool, status: int, code: str, headers: dict[str, str]
) -> None:
    world = World(path=path)
    if fails:
        world.services.faults = iter([BUSY] * 99)
    call, found = world.begun(waits=False)
    assert found is None
    assert isinstance(call.refused, ProxyError)
    assert (call.refused.status, call.refused.code, call.refused.headers) == (status, code, headers)
    assert call == world.call._replace(refused=call.refused)
    assert world.stoppers[-1] is None
    assert (world.response.started, world.recordings, world.services.items) == (False, [], {})
    assert not isinstance(call.refused, AwsError)


def test_who_does_not_wait_is_refused_where_no_table_can_be_made() -> None:
    world = World()
    world.is_misconfigured = True
    call, found = world.begun(waits=False)
    assert found is None
    assert call.refused
    assert (call.refused.status, call.refused.code) == (500, "internal_error")
    assert world.stoppers[-1] is None, "what comes next may not be stopped in its place"
