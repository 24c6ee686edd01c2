"""What is said of requests of which nobody knows whose they are: each is counted, and none fills the log."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
from openai_proxy.key_context import ClientKey
from openai_proxy.usage import Usage
from proxy.aws.client import AwsError
from proxy.call import Call
from proxy.errors import ClientError, UnavailableError
from proxy.outcome import Outcome
from proxy.records.records import UNAUTHORIZED, Invocation, Records
from proxy.timeline import Clock, Timeline
from proxy.workers.memory import SharedText

from tests.fakes import read_event

SAMPLES = Path(__file__).parents[4] / "events" / "samples"


class Told:
    """Records whose clock the test moves."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.now = 0.0
        self.clock = Clock(lambda: 1_795_000_000.0, lambda: self.now)
        publisher: Any = self
        self.records = Records(publisher, clock=self.clock)
        self._capsys = capsys

    def publish(self, *_: Any) -> bool:
        return True

    def fail(self, number: int, status: int = 503, cause: BaseException | None = None) -> None:
        error = UnavailableError(status, f"code {number}", "no") if status >= 500 else ClientError(status, "own", "no")
        error.__cause__ = cause
        self.records.unauthorized(Call(f"id {number}", 0.0, refused=error))

    def lines(self) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in self._capsys.readouterr().out.splitlines()]
        return [
            {name: line[name] for name in ("requests", "error", "reason", "id")}
            for line in found
            if (line["level"], line["message"]) == ("ERROR", UNAUTHORIZED)
        ]


def line(number: int, requests: int = 1, reason: str | None = None) -> dict[str, Any]:
    return {"requests": requests, "error": f"code {number}", "reason": reason, "id": f"id {number}"}


def test_there_is_a_line_a_second_and_it_counts_those_before_it(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(capsys)
    turns = ((0, 1), (0.5, 0), (0.25, 0), (0.25, 3), (0.9375, 0), (0.0625, 2), (5, 1), (1, 1))
    for number, (after, requests) in enumerate(turns):
        told.now += after
        told.fail(number)
        assert told.lines() == ([line(number, requests)] if requests else [])


def test_what_is_left_is_told_with_the_next_request_of_somebody(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(capsys)
    for number in range(4):
        told.fail(number)
    assert told.lines() == [line(0)]
    for expected in ([line(3, 3)], []):
        timeline = Timeline(told.clock)
        timeline.end()
        told.records.keep(Call("a", 0.0, key=ClientKey("team-a")), Outcome(200), timeline, Invocation(9e9))
        assert told.lines() == expected
    told.fail(4)
    assert told.lines() == [], "the second has not passed"


def test_whose_fault_a_client_has_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    told = Told(capsys)
    told.fail(0, status=499)
    told.records.unauthorized(Call("a", 0.0))
    assert told.lines() == []
    told.fail(1, status=500)
    assert told.lines() == [line(1)]


@pytest.mark.parametrize(
    ("cause", "reason"),
    [(None, None), (AwsError("lambda:Invoke", "Denied"), "lambda:Invoke: Denied"), (KeyError("secret"), "KeyError")],
)
def test_the_reason_says_nothing_of_what_a_request_holds(
    cause: BaseException | None, reason: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    told = Told(capsys)
    told.fail(7, cause=cause)
    assert told.lines() == [line(7, reason=reason)]


STARTS = {None: True, "on-demand": True, "snap-start": True, "provisioned-concurrency": False, "": False}


@pytest.mark.parametrize("initialization", STARTS)
def test_only_a_sandbox_that_was_started_for_a_request_is_cold_and_only_for_the_first(
    initialization: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher: Any = Told(capsys)
    records = Records(publisher, initialization=initialization)
    assert [records.begin()[1] for _ in range(3)] == [STARTS[initialization], False, False]


class Fates:
    """A publisher whose events have a fate; it keeps what it was asked."""

    def __init__(self, fate: str) -> None:
        self.fate, self.asked = fate, list[Any]()

    def publish(self, *asked: Any) -> str:
        self.asked.append(asked)
        return self.fate


EVENT: Any = read_event((SAMPLES / "InferenceFailed.worker-killed.json").read_text(encoding="utf-8"))
HEADER = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


@pytest.mark.parametrize("header", [HEADER, None])
@pytest.mark.parametrize("fate", ["published", "queued", "lost"])
def test_of_a_request_that_could_not_tell_it_itself_everything_is_told(
    fate: str, header: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher: Any = Fates(fate)
    records = Records(publisher, clock=Clock(lambda: 1_795_000_000.0, lambda: 100.0))
    assert records.tell(EVENT, header) is (fate != "lost")
    assert publisher.asked == [([EVENT], 1_795_000_005.0, header)]
    [said] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    trace = "1-5759e988-bd862e3fe1be46a994272793" if header else None
    expected = {"level": "ERROR", "message": "request", "id": EVENT.id, "trace_id": trace}
    expected |= {"published": fate == "published", "queued": fate == "queued", "w3c_trace_id": None}
    assert {name: said[name] for name in expected} == expected


SAID = "a secret"


class Unreadable:
    """A meter that cannot tell what it saw."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError(SAID, name)


def test_a_request_whose_answer_cannot_be_told_of_has_its_event_all_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    publisher: Any = Fates("published")
    records, unreadable = Records(publisher), cast("Any", Unreadable())
    timeline = Timeline()
    timeline.end()
    outcome = Outcome(200, meter=unreadable, usage=Usage(7, 5, source="reported"))
    records.keep(Call("a", 0.0, key=ClientKey("team-a")), outcome, timeline, Invocation(9e9))
    [([event], _, _)] = publisher.asked
    assert (event.detail_type, event.data["usage"]["source"]) == ("InferenceCompleted", "reported")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["message"] for line in lines] == ["An answer cannot be told of in full", "request"]
    assert lines[0]["id"] == "a"
    assert "in __getattr__" in lines[0]["trace"]
    assert SAID not in json.dumps(lines)


class Full:
    """A memory that holds nothing and takes nothing."""

    def get(self) -> str:
        return ""

    def put(self, _: Any) -> None:
        raise LookupError(SAID)


def test_a_request_that_cannot_be_told_of_if_it_is_killed_is_let_in_all_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    memory: Any = Full()
    records = Records(cast("Any", Fates("published")))
    records.watch(memory)
    records.admitted(Call("a", 0.0), Timeline(), None)
    assert capsys.readouterr().out == "", "of a request of nobody nothing is kept"
    records.admitted(Call("a", 0.0, key=ClientKey("team-a")), Timeline(), None)
    [said] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (said["level"], said["message"]) == ("ERROR", "A request cannot be told of if it is killed")
    assert said["id"] == "a"
    assert "in admitted" in said["trace"]
    assert SAID not in json.dumps(said)


def test_what_another_function_tells_of_is_forgotten_here() -> None:
    """Or a request whose worker is killed then would have two terminal events."""
    publisher, memory = Fates("published"), SharedText()
    records = Records(cast("Any", publisher))
    records.forget()
    records.watch(memory)
    memory.put(b"a request")
    records.forget()
    assert memory.get() == b""
    Records(cast("Any", publisher)).watch(memory)
    assert publisher.asked == []
