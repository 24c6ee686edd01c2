"""The runtime's loop against a Runtime API that does as it is told: what is asked, posted and logged, whole."""

import base64
import gc
import json
import os
import random
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from proxy import log as log_module
from proxy.runtime import Runtime
from proxy.runtime_api import Invocation, ResponseStream
from proxy.workers.memory import SharedText

from tests.fakes import Connection, Received, ScriptedServer

SANDBOX = Path(__file__).parents[2] / "data" / "sandbox"
API = "/2018-06-01/runtime"
NEXT, OK = f"GET {API}/invocation/next", "200 OK"
Answer = tuple[str, bytes, dict[str, str]]
"""Status, body and headers."""
Line = dict[str, Any]
PAUSES = [0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 1.6]
FAILED: Line = {"errorMessage": "The function failed; its log has the details.", "stackTrace": []}


def nothing(status: str) -> Answer:
    return status, b"", {}


def given(event: Any, **headers: str) -> Answer:
    found = {f"Lambda-Runtime-{name.replace('_', '-')}": value for name, value in headers.items()}
    return OK, json.dumps(event).encode(), {"Lambda-Runtime-Aws-Request-Id": "id-1", **found}


class RuntimeServer:
    """Answers what it is asked for in turn, and then tells this process to stop; takes posts with `taking`."""

    def __init__(self, answers: Sequence[Answer], taking: str) -> None:
        self.answers, self.taking = list(answers), taking

    def __call__(self, connection: Connection, request: Received) -> None:
        if request.method == "POST":
            connection.answer(b"why" * 200, self.taking)
        elif self.answers:
            status, body, headers = self.answers.pop(0)
            if status == "cut":
                connection.close()
            else:
                connection.answer(body, status, more="".join(f"{name}: {text}\r\n" for name, text in headers.items()))
        else:
            os.kill(os.getpid(), signal.SIGTERM)  # the loop waits for an invocation


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the loop does to its process is undone."""
    monkeypatch.setattr(sys, "path", [str(SANDBOX), *sys.path])
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)
    gc.unfreeze()
    sys.modules.pop("behaviours", None)


def served(
    capsys: pytest.CaptureFixture[str], *answers: Answer, taking: str = "202 Accepted", **environ: str
) -> tuple[Any, list[Received], list[Line]]:
    """The loop's exit code, what it has sent, and its log without the moments, which are of the real clock."""
    with ScriptedServer(RuntimeServer(answers, taking)) as server:
        address = f"127.0.0.1:{server.port}"
        pauses: list[float] = []
        settings = {"_HANDLER": "behaviours.handler", "AWS_LAMBDA_RUNTIME_API": address, **environ}
        runtime = Runtime(settings, pauses.append)
        with pytest.raises(SystemExit) as ended:
            runtime.run()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert pauses == PAUSES[: sum(" gave " in line["message"] for line in lines)], "one after each answer of no use"
    assert all(line.pop("timestamp") for line in lines)
    return ended.value.code, server.received, lines


def asked(received: Sequence[Received]) -> list[str]:
    return [f"{each.method} {each.target}" for each in received]


def test_invocations_are_asked_for_and_answered_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    event = {"do": "stream", "pieces": ["a", "bc"]}
    code, received, lines = served(capsys, given(event), given(event, Aws_Request_Id="id-2"))
    assert (code, lines) == (0, [])
    response = f"POST {API}/invocation/id-{{}}/response"
    assert asked(received) == [NEXT, response.format(1), NEXT, response.format(2), NEXT]
    prelude = b'{"statusCode": 200, "headers": {"content-type": "text/event-stream"}, "cookies": ["a=1", "b=2"]}'
    assert received[1].body == prelude + b"\0" * 8 + b"abc"
    host = received[0].headers["host"]
    assert received[1].headers == {
        "host": host,
        "content-type": "application/vnd.awslambda.http-integration-response",
        "lambda-runtime-function-response-mode": "streaming",
        "transfer-encoding": "chunked",
        "trailer": "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
    }


@pytest.mark.parametrize(
    ("event", "target", "kind", "is_report"),
    [
        ({"do": "fail-before"}, "error", "LookupError", True),
        ({"do": "fail-after"}, "response", "ConnectionError", False),
        ({"do": "never-end"}, "response", "RuntimeError", False),
    ],
)
def test_a_failure_is_posted_without_its_details_and_logged_with_them(
    event: Any, target: str, kind: str, is_report: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    code, received, lines = served(capsys, given(event))
    assert asked(received) == [NEXT, f"POST {API}/invocation/id-1/{target}", NEXT]
    report = FAILED | {"errorType": f"Function.{kind}"}
    trailers = received[1].trailers
    error = {"lambda-runtime-function-error-type": f"Function.{kind}"}
    if is_report:
        assert json.loads(received[1].body) == report
        assert error.items() <= received[1].headers.items()
        assert received[1].headers["content-type"] == "application/vnd.aws.lambda.error+json"
    else:
        assert json.loads(base64.b64decode(trailers.pop("lambda-runtime-function-error-body"))) == report
        assert trailers == error
    (line,) = lines
    assert kind in line.pop("trace")
    assert (code, line) == (0, {"level": "ERROR", "message": "The handler failed", "error": kind})


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"do": "fail-before"}, "The Runtime API refused an error"),
        ({"do": "stream", "pieces": []}, "The Runtime API refused a response"),
    ],
)
@pytest.mark.parametrize(("status", "is_refused"), [("299 Odd", False), ("300 Odd", True), ("413 Too Large", True)])
def test_what_is_refused_is_logged_with_the_beginning_of_the_answer(
    event: Any, message: str, status: str, is_refused: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, lines = served(capsys, given(event), taking=status)
    refused = {"level": "ERROR", "message": message, "status": int(status[:3]), "answer": ("why" * 200)[:500]}
    assert [line for line in lines if "answer" in line] == [refused] * is_refused


def test_an_error_that_is_not_taken_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    _, received, lines = served(capsys, given({"do": "fail-before"}), given({"do": "fail-before"}), taking="nonsense")
    said = [line for line in lines if line["message"] == "The Runtime API did not take an error"]
    assert [line["level"] for line in said] == ["ERROR"] * 2
    assert all("Error" in line["error"] for line in said)
    assert asked(received) == [NEXT, f"POST {API}/invocation/id-1/error"] * 2 + [NEXT]


NO_ANSWER = {"level": "WARN", "message": "The Runtime API gave no answer that can be used"}
NO_ID = {"level": "ERROR", "message": "The Runtime API gave an invocation without an id, which nobody can answer"}
ENDS = {"level": "CRITICAL", "message": "The Runtime API gives no invocation: the sandbox ends"}
ODD: list[tuple[Answer, Line]] = [
    (nothing("204 No Content"), NO_ANSWER | {"path": "/invocation/next", "reason": "HTTP 204"}),
    (nothing("500 No"), NO_ANSWER | {"path": "/invocation/next", "reason": "HTTP 500"}),
    ((OK, b"{}", {}), NO_ID),
]


@pytest.mark.parametrize(("odd", "line"), ODD)
@pytest.mark.parametrize("times", [7, 8])
def test_whoever_gives_no_invocation_is_asked_eight_times(
    odd: Answer, line: Line, times: int, capsys: pytest.CaptureFixture[str]
) -> None:
    code, received, lines = served(capsys, *[odd] * times, given({"do": "stream", "pieces": []}))
    if times == 8:
        assert (code, asked(received), lines) == (1, [NEXT] * 8, [line] * 8 + [ENDS])
    else:
        assert (code, lines) == (0, [line] * 7)
        assert asked(received) == [NEXT] * 8 + [f"POST {API}/invocation/id-1/response", NEXT]


def test_a_connection_that_is_cut_is_opened_again(capsys: pytest.CaptureFixture[str]) -> None:
    _, received, lines = served(capsys, nothing("cut"), given({"do": "stream", "pieces": []}))
    assert asked(received) == [NEXT, NEXT, f"POST {API}/invocation/id-1/response", NEXT]
    (line,) = lines
    assert "Error" in line.pop("reason")
    assert line == NO_ANSWER | {"path": "/invocation/next"}


def test_the_trace_of_an_invocation_is_in_the_environment_until_the_next(capsys: pytest.CaptureFixture[str]) -> None:
    environ = {"_HANDLER": "behaviours.handler"}
    seen: list[str | None] = []

    class Seeing(dict[str, str]):
        """The environment, which the loop writes to."""

        def pop(self, key: str, *default: Any) -> Any:
            seen.append(super().get(key))
            return super().pop(key, *default)

    answers = [given({"do": "empty", "status": 200}, Trace_Id="Root=1"), given({"do": "empty", "status": 200})]
    with ScriptedServer(RuntimeServer(answers, "202 Accepted")) as server:
        kept = Seeing(environ | {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.port}"})
        with pytest.raises(SystemExit):
            Runtime(kept).run()
    assert (seen, kept.get("_X_AMZN_TRACE_ID")) == (["Root=1"], None)


def test_a_sandbox_that_is_told_to_stop_ends_its_invocation_and_asks_for_no_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, received, lines = served(
        capsys, given({"do": "stream", "pieces": ["to its end"], "stops": True}), given({"do": "stream", "pieces": []})
    )
    assert asked(received) == [NEXT, f"POST {API}/invocation/id-1/response"]
    assert received[1].body.endswith(b"to its end")
    assert (code, lines) == (0, [])


# ------------------------------------------------------------------------------------------------------ INIT, snapshots

RESTORE, SNAPSHOT = f"GET {API}/restore/next", {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}


def test_a_snapshot_waits_to_be_restored(capsys: pytest.CaptureFixture[str]) -> None:
    event = given({"do": "stream", "pieces": []})
    code, received, lines = served(capsys, nothing("500 No"), nothing(OK), event, **SNAPSHOT)
    assert asked(received) == [RESTORE, RESTORE, NEXT, f"POST {API}/invocation/id-1/response", NEXT]
    assert (code, lines) == (0, [NO_ANSWER | {"path": "/restore/next", "reason": "HTTP 500"}])


def test_copies_of_a_snapshot_have_random_numbers_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    random.seed(7)
    of_the_snapshot = random.getstate()
    served(capsys, nothing(OK), **SNAPSHOT)
    assert random.getstate() != of_the_snapshot


def test_a_snapshot_that_nobody_restores_ends(capsys: pytest.CaptureFixture[str]) -> None:
    code, received, lines = served(capsys, *[nothing("500 No")] * 8, **SNAPSHOT)
    assert (code, asked(received), lines[8:]) == (1, [RESTORE] * 8, [ENDS])


def test_what_cannot_be_restored_says_so_and_ends(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL_RESTORE", "1")
    code, received, lines = served(capsys, nothing(OK), **SNAPSHOT)
    assert (code, asked(received)) == (65, [RESTORE, f"POST {API}/restore/error"])
    assert json.loads(received[1].body) == FAILED | {"errorType": "Runtime.AfterRestoreError"}
    (line,) = lines
    assert "cannot renew" in line.pop("trace")
    assert line == {"level": "CRITICAL", "message": "The function could not be restored"}


@pytest.mark.parametrize(
    ("handler", "fails", "kind", "error"),
    [
        ("behaviours.handler", "raise", "Function.ValueError", "no configuration"),
        ("behaviours.handler", "exit", "Function.SystemExit", "3"),
        ("no_such_module.handler", "", "Runtime.ImportModuleError", "No module named 'no_such_module'"),
    ],
)
def test_what_cannot_start_says_so_and_ends(
    handler: str,
    fails: str,
    kind: str,
    error: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FAIL_INIT", fails)
    code, received, lines = served(capsys, _HANDLER=handler)
    assert (code, asked(received)) == (1, [f"POST {API}/init/error"])
    assert json.loads(received[0].body) == FAILED | {"errorType": kind}
    (line,) = lines
    assert error in line.pop("trace")
    assert line == {"level": "CRITICAL", "message": "The function could not start", "error": error}


# ------------------------------------------------------------------------------------------- late, gone, and what stays


@pytest.mark.parametrize(
    ("event", "message"),
    [
        ({"do": "fail-before"}, "An error came too late: its invocation was over"),
        ({"do": "stream", "pieces": []}, "A response came too late: its invocation was over"),
    ],
)
def test_what_comes_too_late_is_no_fault_of_the_runtime_api(
    event: Any, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, lines = served(capsys, given(event), taking="410 Gone")
    told = [line for line in lines if line["message"] != "The handler failed"]
    assert (code, told) == (0, [{"level": "WARN", "message": message}])


def test_a_connection_is_kept_until_the_other_side_will_not_go_on_with_it(capsys: pytest.CaptureFixture[str]) -> None:
    used: list[Connection] = []

    class Noting(RuntimeServer):
        def __call__(self, connection: Connection, request: Received) -> None:
            used.append(connection)
            super().__call__(connection, request)

    status, body, headers = given({"do": "stream", "pieces": []})
    with ScriptedServer(Noting([(status, body, headers | {"connection": "close"})], "202 Accepted")) as server:
        environ = {"_HANDLER": "behaviours.handler", "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.port}"}
        with pytest.raises(SystemExit):
            Runtime(environ).run()
    asked_for, answered, asked_again = used
    assert asked_for is not answered
    assert answered is asked_again


def test_a_sandbox_that_is_told_to_stop_while_it_starts_asks_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stopping.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\nstream = print\nis_whole = True\n"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    code, received, lines = served(capsys, given({}), _HANDLER="stopping.handler")
    assert (code, received, lines) == (0, [], [])
    assert sys.modules.pop("stopping").is_whole


@pytest.mark.parametrize("stream_of_its_own", [{}, {"_LAMBDA_TELEMETRY_LOG_FD_PROVIDER_SOCKET": "/none"}])
def test_a_worker_begins_with_what_is_its_own_and_names_its_invocation_in_each_line(
    stream_of_its_own: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    used: list[Connection] = []
    begun: list[bytes] = []

    class Noting(RuntimeServer):
        def __call__(self, connection: Connection, request: Received) -> None:
            used.append(connection)
            super().__call__(connection, request)

    def fail(_invocation: Invocation, _response: ResponseStream) -> None:
        raise LookupError("of nothing")

    def begin(left: SharedText) -> None:
        begun.append(left.get())

    module = SimpleNamespace(stream=fail, tell_of=print, begin_worker=begin, after_restore=lambda: None)
    monkeypatch.setitem(sys.modules, "working", module)
    monkeypatch.setattr(os, "fork", lambda: 0)  # this process is the worker
    monkeypatch.setattr(log_module, "_invocation", {})
    with ScriptedServer(Noting([nothing(OK), given({})], "202 Accepted")) as server:
        environ = {"_HANDLER": "working.handler", "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{server.port}", **SNAPSHOT}
        with pytest.raises(SystemExit) as ended:
            Runtime({**environ, "AWS_LAMBDA_MAX_CONCURRENCY": "2", **stream_of_its_own}).run()
    assert (ended.value.code, begun) == (0, [b""])
    assert used[0] is not used[1], "no connection is shared with the process that started it"
    *before, line = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (line["requestId"], line["error"]) == ("id-1", "LookupError")
    message = "A worker has no stream of its own for its log"
    assert [each["message"] for each in before] == [message] * len(stream_of_its_own)


@pytest.mark.parametrize(("told", "left"), [(500_000, 498.5), (2_000, 1.5), (-9_000, 0.5)])
def test_an_invocation_is_answered_in_its_own_time(
    told: int, left: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    limits: list[float] = []

    def stream(_invocation: Invocation, response: ResponseStream) -> None:
        limits.append(response._api.until)
        response.start(204, {})
        response.end()

    unix, reading = 1_900_000_000.0, 90.0
    monkeypatch.setattr(time, "time", lambda: unix)
    monkeypatch.setattr(time, "monotonic", lambda: reading)
    monkeypatch.setitem(sys.modules, "noting", SimpleNamespace(stream=stream))
    served(capsys, given({}, Deadline_Ms=str(int(unix * 1000) + told)), _HANDLER="noting.handler")
    assert limits == [reading + left]


def test_what_init_has_made_is_no_work_for_the_collector(capsys: pytest.CaptureFixture[str]) -> None:
    gc.unfreeze()
    served(capsys, given({"do": "stream", "pieces": []}))
    assert gc.get_freeze_count() > 0
