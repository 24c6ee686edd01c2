"""What a Runtime API says of an invocation, read with care, and when each piece of an answer goes out."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.http.wire import BrokenError, Head, HttpError, SilenceError
from proxy.runtime_api import Invocation, ResponseStream, error_report, invocation_of

NOW = 1_800_000_000.0


def head(**headers: str) -> Head:
    return Head(200, {f"lambda-runtime-{name.replace('_', '-')}": value for name, value in headers.items()}, True)


def test_an_invocation() -> None:
    told = head(aws_request_id="8476a536-e9f4", deadline_ms="1800000005500", trace_id="Root=1")
    found = invocation_of(told, b'{"a": 1}', NOW)
    assert found
    assert (found.id, found.event, found.deadline, found.trace_id) == ("8476a536-e9f4", {"a": 1}, NOW + 5.5, "Root=1")


@pytest.mark.parametrize("once", ["3f5c-77", "!~", "x" * 256, "", "a b", "a\r\nx: y", "ü", "x" * 257])
def test_what_tells_an_invocation_from_another_with_its_id_goes_back_with_every_answer(once: str) -> None:
    found = invocation_of(head(aws_request_id="a", invocation_id=once), b"{}", NOW)
    assert found
    name = "lambda-runtime-invocation-id"
    echoed = {name: once} if re.fullmatch("[!-~]{1,256}", once) else {}
    assert found.headers_of_answer == echoed

    answered = RecordingApi()
    response = answering(answered, found)
    response.start(200, {})
    response.write(b"x")
    ((path, headers, _),) = answered.begun
    assert path == "/invocation/a/response"
    assert {key: value for key, value in headers.items() if key == name} == echoed

    failed = RecordingApi()
    response = answering(failed, found)
    response.fail(ValueError())
    assert failed.reported == [("/invocation/a/error", echoed)]
    assert (response.ended, response.started, response.broken) == (True, False, False), "nobody fails it once more"


@pytest.mark.parametrize("request_id", ["", "a b", "a, b", "../x", "a/b", "a?b", "ü", "x" * 129])
def test_an_id_that_no_answer_could_be_posted_under_is_none(request_id: str) -> None:
    assert invocation_of(head(aws_request_id=request_id), b"{}", NOW) is None
    assert invocation_of(head(), b"{}", NOW) is None


@given(
    st.one_of(st.text(), st.integers().map(str), st.sampled_from(["nan", "inf", "1e400", "9" * 400, "", "-1", "1.5"]))
)
def test_a_deadline_is_always_a_moment(told: str) -> None:
    found = invocation_of(head(aws_request_id="a", deadline_ms=told), b"{", NOW)
    assert found
    assert math.isfinite(found.deadline)
    assert 0 <= found.deadline <= NOW + 5400
    if not told.isascii() or not told.isdigit():
        assert found.deadline == NOW + 900


class RecordingApi:
    """A Runtime API that keeps what goes out, when it goes out. `takes` is how many sends it takes."""

    def __init__(self, takes: float = math.inf) -> None:
        self.sent: list[bytes] = []
        self.begun: list[tuple[str, dict[str, str], int | None]] = []
        self.reported: list[tuple[str, Mapping[str, str]]] = []
        self.answered = self.closed = 0
        self._left = takes

    def start(
        self, path: str, headers: Mapping[str, str], length: int | None, body: bytes, more: bytes = b""
    ) -> Callable[[bytes], None]:
        self.begun.append((path, dict(headers), length))
        self._send(body + more)
        return self._send

    def _send(self, data: bytes) -> None:
        if self._left <= 0:
            raise BrokenError("closed")
        self._left -= 1
        self.sent.append(data)

    def answer(self, method: str) -> tuple[Head, bytearray]:
        assert method == "POST"
        self.answered += 1
        if self._left <= 0:
            raise BrokenError("closed")
        return Head(202, {}, keeps_alive=True), bytearray()

    def post_error(self, path: str, report: Mapping[str, Any], more: Mapping[str, str]) -> None:
        assert report["errorType"] == "Function.ValueError"
        self.reported.append((path, more))

    def close(self) -> None:
        self.closed += 1


def answering(api: RecordingApi, invocation: Invocation = Invocation("id-1", {}, NOW, None)) -> ResponseStream:  # noqa: B008  # it cannot be changed
    made: Any = api
    return ResponseStream(made, invocation)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def prelude(status: int) -> bytes:
    return chunk(b'{"statusCode": %d, "headers": {"a": "b"}, "cookies": []}' % status) + chunk(b"\0" * 8)


@given(
    st.sampled_from([200, 204, 304, 404, 500]),
    st.lists(st.sampled_from(["flush", b"", b"data: x\n\n", b"y"]), max_size=6),
)
def test_every_piece_is_on_the_wire_before_the_next_step_and_nothing_before_its_time(
    status: int, steps: list[bytes | str]
) -> None:
    api, is_out, body = RecordingApi(), False, b""
    response = answering(api)
    response.start(status, {"a": "b"})
    for step in steps:
        assert b"".join(api.sent) == (prelude(status) + body if is_out else b"")
        if isinstance(step, str):
            response.flush()
        else:
            response.write(step)
            body += chunk(step) if step else b""
        is_out = True  # whatever it was: the client has its status now
    assert b"".join(api.sent) == (prelude(status) + body if is_out else b"")
    response.end()
    # Function URLs keep their clients waiting for an answer without a body.
    body = body or (b"" if status in (204, 304) else chunk(b"\n"))
    assert b"".join(api.sent) == prelude(status) + body + b"0\r\n\r\n"
    assert b"" not in api.sent
    assert [(path, length) for path, _, length in api.begun] == [("/invocation/id-1/response", None)]
    assert (api.answered, api.closed, response.broken, response.ended) == (1, 0, False, True)


@given(st.integers(0, 4), st.lists(st.sampled_from(["flush", b"", b"x"]), max_size=6))
def test_a_client_that_has_gone_is_known_and_costs_nothing_more(takes: int, steps: list[bytes | str]) -> None:
    api = RecordingApi(takes)
    response = answering(api)
    response.start(200, {})
    for step in steps:
        response.flush() if isinstance(step, str) else response.write(step)
    response.end()
    is_whole = api.sent[-1:] == [b"0\r\n\r\n"] and len(api.sent) < takes  # the last is for the answer to all of it
    code = None if is_whole else "client_gone"
    assert (response.fault and response.fault.code, response.broken, api.closed) == (code, not is_whole, not is_whole)
    assert response.ended


@pytest.mark.parametrize("step", ["flush", "empty", "piece", "end", "fail"])
@pytest.mark.parametrize("takes", [0, 1])
def test_that_a_client_has_gone_is_known_as_soon_as_it_takes_nothing(step: str, takes: int) -> None:
    api = RecordingApi(takes)
    response = answering(api)
    response.start(200, {})
    if takes:
        response.write(b"x")
        assert not response.broken
    steps: dict[str, Callable[[], None]] = {
        "flush": response.flush,
        "empty": lambda: response.write(b""),
        "piece": lambda: response.write(b"y"),
        "end": response.end,
        "fail": lambda: response.fail(ValueError()),
    }
    steps[step]()
    has_to_send = not takes or step not in ("flush", "empty")
    assert (response.broken, api.closed) == (has_to_send, has_to_send)
    assert (response.fault.code if response.fault else None) == ("client_gone" if has_to_send else None)


@pytest.mark.parametrize(("late", "expected"), [(0, 5400.0), (1, 900.0)])
def test_a_deadline_further_away_than_any_is_the_usual_one(late: int, expected: float) -> None:
    told = head(aws_request_id="a", deadline_ms=str(int((NOW + 5400) * 1000) + late))
    found = invocation_of(told, b"{}", NOW)
    assert found
    assert found.deadline == NOW + expected


class JudgingApi(RecordingApi):
    """A Runtime API that answers with a status, and takes so many sends before it raises `fault`."""

    def __init__(self, status: int, takes: float, fault: HttpError) -> None:
        super().__init__()
        self._status, self._takes, self._fault = status, takes, fault

    def _send(self, data: bytes) -> None:
        if self._takes <= 0:
            raise self._fault
        self._takes -= 1
        super()._send(data)

    def answer(self, method: str) -> tuple[Head, bytearray]:
        assert method == "POST"
        self.answered += 1
        return Head(self._status, {}, keeps_alive=True), bytearray(b"why")


@pytest.mark.parametrize("status", [202, 299, 300, 410, 413, 500])
@pytest.mark.parametrize("takes", [0, 1, 2, math.inf])
@pytest.mark.parametrize("fault", [BrokenError("closed"), SilenceError("full")])
def test_who_did_not_take_an_answer_is_told_by_how_it_ended(
    status: int, takes: float, fault: HttpError, capsys: pytest.CaptureFixture[str]
) -> None:
    api = JudgingApi(status, takes, fault)
    response = answering(api)
    response.start(200, {})
    response.write(b"x")
    response.end()
    is_cut, is_silent = takes < 2, isinstance(fault, SilenceError)
    refused = None
    if is_cut:
        refused = "client_too_slow" if is_silent else "client_gone"
    if status >= 300 and not (is_cut and is_silent):
        refused = "response_refused"
    assert (response.fault.code if response.fault else None, response.broken) == (refused, refused is not None)
    if response.fault:
        assert response.fault.status == (502 if refused == "response_refused" else 499)
    assert api.closed == is_cut
    assert api.answered == (not (is_cut and is_silent))
    lines = capsys.readouterr().out
    assert ("The Runtime API refused a response" in lines) == (refused == "response_refused" and status != 410)
    assert ("A response came too late" in lines) == (refused == "response_refused" and status == 410)


def test_an_answer_that_ends_before_it_has_begun_goes_nowhere() -> None:
    for step in ("end", "flush", "write"):
        api = RecordingApi()
        response = answering(api)
        if step == "flush":
            response.flush()
        elif step == "write":
            response.write(b"x")
        response.end()
        assert (response.ended, response.broken, api.sent, api.begun) == (True, True, [], [])


@pytest.mark.parametrize(
    ("name", "kind"), [("ValueError", "ValueError"), ("Odd_2Error", "OddError"), ("ÄrgerError", "rgerError")]
)
def test_the_type_of_an_error_is_told_in_letters(name: str, kind: str) -> None:
    error = type(name, (Exception,), {})("a secret")
    message = "The function failed; its log has the details."
    assert error_report(error) == {"errorMessage": message, "errorType": f"Function.{kind}", "stackTrace": []}
    assert error_report(error, "Runtime.X")["errorType"] == "Runtime.X"
