"""What is kept of a request: its log line, its trace, and its content where the key's owner asked for it."""

import json
import socket
from collections.abc import Generator
from typing import Any, cast

import pytest
from openai_proxy.key_context import ClientKey
from proxy.aws.client import AwsError
from proxy.records.content_log import ContentLog
from proxy.records.publisher import Publisher
from proxy.records.records import Records
from proxy.request.parse import InferenceRequest
from proxy.workers.memory import SharedText

from tests.fakes import Connection, Received
from tests.relays import CONTENT, DONE, TOKEN, USAGE_CHUNK, failing, proxy, sse, streaming

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled="
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ASKED = {"messages": [{"role": "user", "content": "Mail me@example.com"}], "stream": True}
WANTED = {"client_name": "chat", "key_id": "3f2a91c07be4", "log_content": "on"}
STREAM = streaming(*CONTENT, USAGE_CHUNK, DONE)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [line for line in found if line["message"] == "request"]


class RecordingS3:
    """Keeps what is put, or fails."""

    def __init__(self, error: AwsError | None = None) -> None:
        self.objects: dict[str, Any] = {}
        self.error = error

    def put(self, bucket: str, key: str, body: bytes, timeout: float, content_type: str) -> None:
        assert (bucket, content_type) == ("bucket", "application/json")
        assert 0 < timeout <= 3
        if self.error:
            raise self.error
        self.objects[key] = json.loads(body)


def closing(connection: Connection, _request: Received) -> None:
    connection.close()


def content_log(s3: Any, salt: str = "salt") -> ContentLog:
    return ContentLog(s3, "bucket", lambda: salt)


# ---------------------------------------------------------------------------------------------------------- log line


@pytest.mark.parametrize(
    ("status", "outcome", "error", "throttle"),
    [("500 Oops", "failed", "upstream_error", None), ("429 Later", "throttled", None, "upstream")],
)
def test_the_line_says_how_it_ended(
    status: str, outcome: str, error: str, throttle: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with proxy(failing(1, status)) as (relay, _):
        relay.call(ASKED)
    [line] = lines(capsys)
    assert (line["outcome"], line["error"], line["throttle"]) == (outcome, error, throttle)


def test_the_line_says_that_the_event_was_not_published(capsys: pytest.CaptureFixture[str]) -> None:
    with proxy(STREAM) as (relay, _):
        relay.bus.put_events = lambda entries, _: [{"ErrorCode": "InternalFailure"} for _ in entries]  # pyright: ignore[reportAttributeAccessIssue]
        relay.call(ASKED)
    [line] = lines(capsys)
    assert (line["published"], line["queued"], line["level"]) == (False, False, "ERROR")


@pytest.mark.parametrize(
    ("initialization", "is_cold"),
    [(None, True), ("on-demand", True), ("snap-start", True), ("provisioned-concurrency", False)],
)
def test_a_sandbox_that_waited_for_its_first_request_is_not_cold(initialization: str | None, is_cold: bool) -> None:
    publisher: Any = None
    records = Records(publisher, initialization=initialization)
    assert [records.begin()[1] for _ in range(2)] == [is_cold, False]


# ------------------------------------------------------------------------------------------------------------- traces


@pytest.fixture
def daemon() -> Generator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(10)
        yield listener


def address(listener: socket.socket) -> str:
    return f"127.0.0.1:{listener.getsockname()[1]}"


def test_a_sampled_request_is_a_subsegment_with_every_call(daemon: socket.socket) -> None:
    script = failing(1, "503 Later")
    with proxy(script, WANTED, daemon=address(daemon)) as (relay, _):
        relay.call(ASKED, path="/again/v1/chat/completions", headers={"traceparent": PARENT}, trace=f"{TRACE}1")
    header, _, document = daemon.recv(65536).partition(b"\n")
    assert json.loads(header) == {"format": "json", "version": 1}
    segment = json.loads(document)
    assert (segment["type"], segment["trace_id"], segment["parent_id"]) == ("subsegment", TRACE[5:40], TRACE[48:64])
    assert segment["annotations"]["client_id"] == "team-a"
    assert segment["annotations"]["w3c_trace_id"] == PARENT[3:35]
    below = segment["subsegments"]
    assert [each["name"] for each in below] == ["authorization", "again", "again", "publish"]
    assert [each.get("http") for each in below[1:3]] == [{"response": {"status": 503}}, {"response": {"status": 200}}]
    assert [each.get("fault") for each in below] == [None, True, None, False]
    ends = [each["end_time"] for each in below]
    assert ends == sorted(ends)
    for each in below:
        assert segment["start_time"] <= each["start_time"] <= each["end_time"] <= segment["end_time"]
    assert len({segment["id"], *(each["id"] for each in below)}) == 5
    assert "me@example.com" not in document.decode()


@pytest.mark.parametrize("trace", [f"{TRACE}0", None, "Root=1-a-b;Parent=53995c3f42cd8ad8;Sampled=1"])
def test_what_is_not_sampled_is_not_traced(trace: str | None, daemon: socket.socket) -> None:
    with proxy(STREAM, daemon=address(daemon)) as (relay, _):
        relay.call(ASKED, trace=trace)
        relay.call(ASKED, trace=f"{TRACE}1", headers={"x-request-id": "sampled"})
    assert json.loads(daemon.recv(65536).partition(b"\n")[2])["annotations"]["request_id"] == "sampled"


def test_no_daemon_no_harm(capsys: pytest.CaptureFixture[str]) -> None:
    for nobody in ("127.0.0.1:9", "tcp:127.0.0.1:9 udp:127.0.0.1:9"):
        with proxy(STREAM, daemon=nobody) as (relay, _):
            assert relay.call(ASKED, trace=f"{TRACE}1").ended
    assert len(lines(capsys)) == 2


def test_the_trace_of_the_client_goes_to_the_server() -> None:
    with proxy(STREAM) as (relay, server):
        relay.call(ASKED, headers={"traceparent": PARENT, "tracestate": "a=b"})
        relay.call(ASKED, headers={"traceparent": f"{PARENT}x", "tracestate": "a=b"})
        relay.call(ASKED, trace=f"{TRACE}1")
    seen = [{name for name in request.headers if name.startswith("trace")} for request in server.received]
    assert seen == [{"traceparent", "tracestate"}, set(), set()]


# ------------------------------------------------------------------------------------------------------------ content


def test_content_is_logged_redacted_and_put_together() -> None:
    s3 = RecordingS3()
    said = [sse("Dear me@exa"), sse(f"mple.com, {TOKEN}", "stop"), USAGE_CHUNK, DONE]
    with proxy(streaming(*said), WANTED, content_log(s3)) as (relay, _):
        response = relay.call(ASKED)
    metadata = relay.bus.details[0][1]["metadata"]
    [(key, document)] = s3.objects.items()
    assert key == f"content/{metadata['timestamp'][:10]}/team-a/{metadata['id']}.json"
    mark = document["request"]["content"]["messages"][0]["content"].removeprefix("Mail ")
    assert mark.startswith("[email:")
    answer = document["response"]["content"]["choices.0.delta.content"]
    assert answer.startswith(f"Dear {mark}, [provider_token:"), "the same address has the same hash"
    assert document["redacted"] == {"email": 2, "provider_token": 1}
    assert (document["client_id"], document["status"], document["version"]) == ("team-a", 200, "1.0")
    assert not document["request"]["is_cut"]
    assert not document["response"]["is_cut"]
    assert response.body.startswith(said[0]), "what the client gets is not redacted"


class Anybody:
    """Lets everybody in, with a key whose owner wants content."""

    def authorize(self, request: InferenceRequest) -> ClientKey:
        return ClientKey("team-a", logs_content=True)

    def forget(self) -> None:
        """Nothing is remembered."""


@pytest.mark.parametrize("header", ["authorization", "x-api-key", "api-key"])
def test_the_key_is_taken_out_of_content_whichever_header_it_came_in(header: str) -> None:
    s3, key = RecordingS3(), "the pass phrase"
    sent = {"authorization": "", header: key if header.endswith("key") else f"bearer  {key}"}
    with proxy(STREAM, content_log=content_log(s3)) as (relay, _):
        relay.use(authenticator=Anybody())
        relay.call({"model": "m", "messages": [{"role": "user", "content": f"It is {key}."}]}, headers=sent)
    [document] = s3.objects.values()
    assert document["request"]["content"]["messages"][0]["content"].startswith("It is [client_key:")


@pytest.mark.parametrize("allowed", [{}, {**WANTED, "log_content": ""}, {**WANTED, "log_content": "yes"}])
def test_without_being_asked_nothing_is_remembered(allowed: dict[str, str]) -> None:
    s3 = RecordingS3()
    log = content_log(s3)
    log.watched = None  # pyright: ignore[reportAttributeAccessIssue] - a call would fail
    with proxy(STREAM, allowed, log) as (relay, _):
        relay.call(ASKED)
    assert relay.event[0] == "InferenceCompleted"
    assert s3.objects == {}


def test_the_prompt_of_a_request_that_failed_is_logged_too() -> None:
    s3 = RecordingS3()
    with proxy(closing, WANTED, content_log(s3)) as (relay, _):
        relay.call(ASKED)
    [document] = s3.objects.values()
    assert document["error"] == "upstream_broken_off"
    assert document["response"] == {"size": 0, "content_type": None, "content": None, "is_cut": False}


@pytest.mark.parametrize(("salt", "error"), [("", None), ("salt", AwsError("s3:PutObject", "AccessDenied"))])
def test_a_log_that_fails_costs_the_client_nothing(
    salt: str, error: AwsError | None, capsys: pytest.CaptureFixture[str]
) -> None:
    s3 = RecordingS3(error)
    with proxy(STREAM, WANTED, content_log(s3, salt)) as (relay, _):
        relay.call(ASKED)
    assert s3.objects == {}
    assert relay.event[0] == "InferenceCompleted"
    said = capsys.readouterr().out
    assert "Content was not logged" in said
    assert "me@example.com" not in said


def test_a_fault_in_it_is_logged_without_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def put(self, *_: Any) -> None:
            raise ValueError(f"{ASKED}")

    with proxy(STREAM, WANTED, content_log(Broken())) as (relay, _):
        assert relay.call(ASKED).ended
    said = capsys.readouterr().out
    assert '"error": "ValueError"' in said
    assert "me@example.com" not in said


# ---------------------------------------------------------------------------------------------- a worker that is killed


def killed_in_the_middle(
    asked: object, headers: dict[str, str], allowed: dict[str, str] | None = None
) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
    """What a worker would have left while its server answered, that request's own event, and what is told of it."""
    memory, left = SharedText(), list[bytes]()

    def script(connection: Connection, request: Received) -> None:
        left.append(memory.get())
        STREAM(connection, request)

    with proxy(script, allowed or WANTED) as (subject, _):
        records = Records(Publisher(cast("Any", subject.bus), "bus"))
        records.watch(memory)
        subject.use(records=records)
        subject.call(asked, headers=headers, trace=f"{TRACE}1")
        assert memory.get() == b"", "its own event has been published"
        memory.put(left[0])
        another = Records(Publisher(cast("Any", subject.bus), "bus"))
        another.watch(memory)
        assert memory.get() == b""
        another.tell_of(memory)
        (_, own), (kind, told) = subject.bus.details
    assert kind == "InferenceFailed"
    return left[0], own, told


def test_what_a_killed_worker_was_at_is_told_by_the_next_one(capsys: pytest.CaptureFixture[str]) -> None:
    left, own, told = killed_in_the_middle(ASKED, {"x-request-id": "mine"})
    same = ("id", "request_id", "client_id", "version")
    assert {name: told["metadata"][name] for name in same} == {name: own["metadata"][name] for name in same}
    data, of_own = told["data"], own["data"]
    for name in ("client", "end_user", "tags", "limits", "operation", "door", "server", "request"):
        assert data[name] == of_own[name], name
    assert data["error"] == {"type": "worker_killed", "source": "proxy", "upstream_status": None}
    assert data["usage"]["source"] == "missing"
    assert data["timings"]["total"] == pytest.approx(data["timings"]["upstream"] + data["timings"]["proxy"], abs=1e-5)
    assert b"me@example.com" not in left
    line = lines(capsys)[-1]
    assert (line["level"], line["id"], line["error"]) == ("ERROR", own["metadata"]["id"], "worker_killed")
    assert line["published"]
    assert line["trace_id"] == "1-5759e988-bd862e3fe1be46a994272793"


def test_a_killed_request_that_used_no_tokens_is_told_as_such() -> None:
    memory, left = SharedText(), list[bytes]()

    def script(connection: Connection, _request: Received) -> None:
        left.append(memory.get())
        connection.answer(b'{"object": "list", "data": []}')

    with proxy(script) as (subject, _):
        records = Records(Publisher(cast("Any", subject.bus), "bus"))
        records.watch(memory)
        subject.use(records=records)
        subject.call(path="/up/v1/files", method="GET")
        memory.put(left[0])
        records.tell_of(memory)
        (_, own), (_, told) = subject.bus.details
    assert told["data"]["usage"] == own["data"]["usage"]


def test_a_request_that_is_refused_before_it_is_known_whose_it_is_leaves_nothing() -> None:
    memory = SharedText()
    with proxy(STREAM) as (subject, _):
        records = Records(Publisher(cast("Any", subject.bus), "bus"))
        records.watch(memory)
        subject.use(records=records)
        subject.call(ASKED, headers={"authorization": "Bearer bad"})
    assert memory.get() == b""
    assert subject.bus.details == []
