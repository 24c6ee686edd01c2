"""What a reader of a stream is sent, what the log says of it, and what is told of a stream whose writer was killed.

Each is compared whole, on a clock that is known.
"""

import json
from typing import Any, cast

import pytest
from openai_proxy.events.streams import KILLED, unfinished_text
from openai_proxy.key_context import ClientKey
from proxy.call import Call
from proxy.endpoints.cors import Cors
from proxy.endpoints.responder import Responder
from proxy.errors import ClientError
from proxy.request.parse import InferenceRequest, Target
from proxy.streams.names import owner_of
from proxy.streams.recording import Times
from proxy.streams.streams import Streams
from proxy.streams.table import LOST, MOST_LOST, Piece, State, StreamsTable
from proxy.streams.written import Settings
from proxy.timeline import Clock, Timeline

from tests.fakes import RecordedResponse
from tests.streams.services import BUSY, FakeObjects, FakeStreamsTable

MADE = 1_469_922_850.259
STREAM, READER = "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAW"
KEY = ClientKey(client_id="team-a", key_id="0123456789ab", line="0123456789ab")
NUMBER = MOST_LOST + 3
EVENT = {"usage": {}, "timings": {"total": 0.0, "proxy": 0.25, "upstream": 0.0}}
UNFINISHED = unfinished_text(
    (MADE, "Root=1-x", ("InferenceFailed", STREAM, "", "own", "team-a", EVENT)), is_async=False
)


class World:
    """A table with one stream of two events, who reads it, and what is told."""

    def __init__(self, path: str = "/chat/completions", **state: Any) -> None:
        self.now = MADE + 100
        self.services: Any = FakeStreamsTable()
        self.table = StreamsTable(self.services, "streams", FakeObjects())
        self.told: list[tuple[Any, str | None]] = []
        records: Any = self
        times = Times(lambda: self.now, self.sleep)
        self.streams = Streams(self.table, lambda: self.table, records, Settings(times=times))
        stood = State(STREAM, owner_of(KEY), path, created_at=MADE + 0.5, lease_until=MADE + 99, expires_at=MADE + 900)
        self.table.begin(stood._replace(unfinished=UNFINISHED)._replace(**state))
        for number in (1, 2):
            self.table.put_piece(STREAM, Piece(number, self.event(number), number), MADE + 900)
        self.response = RecordedResponse()

    @staticmethod
    def event(number: int) -> bytes:
        return f"data: {number}\nid: {STREAM}.{number}\n\n".encode()

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def tell(self, event: Any, header: str | None) -> bool:
        self.told.append((event, header))
        return True

    def ask(self, path: str = "", method: str = "GET", key: ClientKey | None = KEY, **call: Any) -> RecordedResponse:
        asked = InferenceRequest("function_url", method, f"/v1/streams/{STREAM}{path}", "", {}, b"", None)
        made = Call(READER, self.now + 60, asked, key, Target(None, f"/streams/{STREAM}{path}"))._replace(**call)
        nothing: Any = None
        responder = Responder(Cors("*"), nothing)
        timeline = Timeline(Clock(lambda: self.now, lambda: 7.0))
        self.streams.serve(made, responder, self.response, timeline)
        return self.response


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [{name: value for name, value in line.items() if name != "timestamp"} for line in found]


def line(level: str = "INFO", **changed: Any) -> dict[str, Any]:
    """What the log says of a reader."""
    said = {"id": READER, "client_id": "team-a", "path": f"/streams/{STREAM}", "bytes": 0, "error": None}
    return {"level": level, "message": "A stream was asked for", **said, **changed}


def test_what_a_reader_is_sent_and_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(status="completed", events=2)
    response = world.ask()

    assert (response.status, response.ended, response.pieces) == (200, True, [world.event(1), world.event(2)])
    assert response.headers == {
        "x-request-id": STREAM,
        "x-inference-id": STREAM,
        "cache-control": "no-cache",
        "server-timing": response.headers["server-timing"],
        "content-type": "text/event-stream",
        **Cors("*").headers(None),
    }
    assert lines(capsys) == [line(bytes=len(response.body))]


def test_who_is_told_how_a_stream_stands(capsys: pytest.CaptureFixture[str]) -> None:
    response = World(status="completed", events=2).ask("/status")

    assert (response.status, response.headers["content-type"], response.ended) == (200, "application/json", True)
    assert json.loads(response.body) == {
        "object": "stream",
        "id": STREAM,
        "status": "completed",
        "created_at": int(MADE + 0.5),
        "events": 2,
        "error": None,
        "url": f"/v1/streams/{STREAM}",
    }
    assert lines(capsys) == [line(path=f"/streams/{STREAM}/status", bytes=len(response.body))]


def test_who_is_refused_and_whose_table_fails_have_their_line(capsys: pytest.CaptureFixture[str]) -> None:
    other = World(status="completed").ask(key=ClientKey(client_id="team-b", key_id="x", line="x"))
    refused = (other.status, other.ended)
    nobody = World(status="completed").ask(key=None)
    world = World(status="completed")
    world.services.faults = iter([BUSY] * 99)
    failed = world.ask()

    assert (refused, nobody.status, failed.status) == ((404, True), 404, 503)
    assert lines(capsys) == [
        line(client_id="team-b", error="stream_not_found"),
        line(client_id="", error="stream_not_found"),
        line("ERROR", error="streams_unavailable"),
    ]


@pytest.mark.parametrize("broken", [True, False])
def test_a_reader_whose_stream_fails_half_way_is_told_in_it_unless_it_is_gone(
    broken: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(status="in_progress", lease_until=MADE + 999)

    def fail(_: bytes) -> None:
        world.services.faults = iter([BUSY] * 99)
        world.response.broken = broken

    world.response.on_piece = fail
    response = world.ask()

    assert (response.pieces, response.status) == ([world.event(1)] if broken else [world.event(1), world.event(2)], 200)
    assert (response.ended, isinstance(response.failure, BaseException)) == (True, not broken)
    said = None if broken else "streams_unavailable"
    assert lines(capsys) == [line("INFO" if broken else "ERROR", bytes=len(response.body), error=said)]


def test_a_reader_that_is_gone_when_its_stream_fails_is_sent_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(status="in_progress", lease_until=MADE + 999)
    world.response.broken = True
    world.services.faults = iter([BUSY] * 99)
    response = world.ask()

    assert (response.started, response.pieces, response.ended) == (False, [], False)
    assert lines(capsys) == [line("ERROR", error="streams_unavailable")]


@pytest.mark.parametrize("error", [KILLED, LOST])
@pytest.mark.parametrize("path", ["/chat/completions", "/responses", "/messages"])
def test_the_end_of_a_stream_that_was_cut_is_in_the_form_of_its_api(path: str, error: str) -> None:
    response = World(path, status="failed", error=error, events=2).ask()
    message = {
        KILLED: "The proxy was killed while it answered.",
        LOST: "The rest of this answer could not be kept.",
    }[error]
    code = {KILLED: "worker_killed", LOST: "stream_not_kept"}[error]
    said = {"message": message, "type": "server_error", "param": None, "code": code}
    events: list[tuple[str, Any]]
    if path == "/messages":
        of_anthropic = {"type": "api_error", "message": message, "code": code}
        events = [("error", {"type": "error", "error": of_anthropic, "request_id": STREAM})]
    elif path == "/responses":
        failed: dict[str, Any] = {
            "id": STREAM,
            "object": "response",
            "created_at": int(MADE + 0.5),
            "status": "failed",
            "model": "",
            "output": [],
            "error": {"code": code, "message": message},
        }
        first: dict[str, Any] = {"type": "response.failed", "sequence_number": 0, "response": failed}
        events = [("response.failed", first), ("error", {**said, "type": "error", "sequence_number": 1})]
    else:
        events = [("", {"error": said})]

    assert frames(b"".join(response.pieces[2:])) == [
        (name, data if path != "/responses" or name != "error" else {**data, "error": said}, NUMBER + place)
        for place, (name, data) in enumerate(events)
    ] + ([] if path == "/messages" else [("", "[DONE]", NUMBER + len(events))])


def frames(events: bytes) -> list[tuple[str, Any, int]]:
    """The name, the data and the number of each event."""
    found: list[tuple[str, Any, int]] = []
    for block in events.decode().removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        data, number = fields.pop("data"), fields.pop("id").removeprefix(f"{STREAM}.")
        found.append((fields.pop("event", ""), data if data == "[DONE]" else json.loads(data), int(number)))
        assert not fields
    return found


def test_the_end_of_a_cut_stream_follows_from_its_latest_events() -> None:
    world = World("/responses", status="failed", error=KILLED, events=3)
    created = {"type": "response.created", "sequence_number": 7, "response": {"id": "resp_1", "model": "m"}}
    events = f"event: response.created\ndata: {json.dumps(created)}\nid: {STREAM}.3\n\n".encode()
    world.table.put_piece(STREAM, Piece(3, events, 3), MADE + 900)
    (name, data, number), *_ = frames(b"".join(world.ask().pieces[3:]))

    assert (name, data["sequence_number"], number) == ("response.failed", 8, NUMBER + 1)
    assert (data["response"]["id"], data["response"]["model"]) == ("resp_1", "m")


def test_one_whose_writer_was_killed_is_told_of_whole(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    world.ask()
    [(told, trace)] = world.told

    assert (told.detail_type, told.id, told.request_id, told.client_id) == ("InferenceFailed", STREAM, "own", "team-a")
    assert (told.timestamp, trace) == ("2016-07-30T23:55:50.259Z", "Root=1-x")
    assert told.data == {
        "usage": {},
        "timings": {"total": 100.0, "proxy": 0.25, "upstream": 99.75},
        "stream": {"status": "failed", "events": 2, "respond_async": False},
    }
    assert [each["message"] for each in lines(capsys)] == ["A stream was asked for"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("no JSON", "JSONDecodeError"),
        ("[1, null]", "ValueError"),
        ('["x", null, [1, 2, 3, 4, 5, {"timings": {"proxy": 1}}], false]', "TypeError"),
        ("[1, null, [1, 2, 3, 4, 5, {}], false]", "KeyError"),
    ],
)
def test_what_nobody_can_tell_of_is_said_once_and_its_stream_ends_all_the_same(
    text: str, error: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(unfinished=text)
    response = world.ask()
    world.response = RecordedResponse()
    again = world.ask()

    assert frames(b"".join(response.pieces[2:]))[0][1]["error"]["code"] == "worker_killed"
    assert again.body == response.body
    assert world.told == []
    message = "A stream that was given up cannot be told of"
    told = {"level": "ERROR", "message": message, "id": STREAM, "error": error}
    assert lines(capsys) == [told, line(bytes=len(response.body)), line(bytes=len(again.body))]


def test_a_method_that_is_none_of_a_stream_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    for method, path in (("PUT", ""), ("DELETE", "/status"), ("POST", "/status")):
        assert World(status="completed", events=2).ask(path, method).status == 404
    assert {each["error"] for each in lines(capsys)} == {ClientError(404, "stream_not_found", "").code}


@pytest.mark.parametrize("lacks", ["key", "request", "target"])
def test_a_call_that_was_not_let_in_finds_no_stream(lacks: str) -> None:
    response = World(status="completed", events=2).ask(**cast("Any", {lacks: None}))
    assert (response.status, json.loads(response.body)["error"]["code"]) == (404, "stream_not_found")


@pytest.mark.parametrize("status", ["in_progress", "completed"])
@pytest.mark.parametrize("policy", ["", "stop"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/status"), ("POST", ""), ("DELETE", "")])
def test_a_stream_that_goes_on_is_stopped_or_kept_by_who_says_so_and_by_nobody_else(
    method: str, path: str, policy: str, status: Any
) -> None:
    world = World(status=status, on_disconnect=policy, lease_until=MADE + 999)
    before = len(world.services.calls)
    response = world.ask(path, method)
    is_stopped = method == "DELETE" and status == "in_progress"
    is_seen = method == "POST" and policy == "stop"
    assert world.services.calls[before:] == ["get", *["update"] * (is_stopped or is_seen), *["get"] * is_stopped]
    state = world.table.state(STREAM)
    assert state
    assert (state.stop_at, state.seen_at) == (
        MADE + 100 if is_stopped else 0.0,
        MADE + 100 if is_seen and status == "in_progress" else 0.0,
    )
    told = json.loads(response.body)
    assert (response.status, told["id"], told["status"]) == (200, STREAM, "stopping" if is_stopped else status)
