"""No outage without a trace: whatever the proxy answers with 5xx is a line in its log and in a metric of an alarm."""

import ast
import contextlib
import io
import json
import re
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from authorizer.authorizer import NOT_CHECKED
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.key_context import ClientKey
from openai_proxy.metric_data import Measurement
from proxy import errors
from proxy.aws.client import AwsError
from proxy.call import Call
from proxy.outcome import Outcome
from proxy.records.publisher import Publisher
from proxy.records.records import UNAUTHORIZED, Invocation, Records
from proxy.timeline import Clock, Timeline
from proxy.upstream.provider_tokens import UNAVAILABLE
from record_metrics.measurements import measurements_of

from tests.alarm_states import metrics_of
from tests.contract.template_stack import ROOT, deployed
from tests.contract.test_errors import ERRORS
from tests.fakes import read_event
from tests.relays import RecordingBus

ID = "01M8K70092HVPK9KBPZFVGWRVG"
Metric = tuple[str, tuple[tuple[str, str], ...]]


def failures() -> Iterator[tuple[str, int, str]]:
    """Class, status and code of every error of the proxy's making that is, or may be, a 5xx."""
    for module in sorted((ROOT / "functions" / "proxy").rglob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
                status, code = node.args[:2]
                number = status.value if isinstance(status, ast.Constant) else 500
                if isinstance(number, int) and number >= 500 and isinstance(code, ast.Constant):
                    yield node.func.id, number, str(code.value)


AS_ASKED = "not_cached"
"""The code of a 504 that is the answer to a client that wants no server to be asked (`only-if-cached`)."""

FAILURES = sorted(failure for failure in set(failures()) if failure[2] != AS_ASKED)


@cache
def watched() -> frozenset[Metric]:
    """The metrics, with their dimensions, whose rising sets off an alarm all by itself."""
    alarms = deployed().of_type("AWS::CloudWatch::Alarm").values()
    metrics = [each for alarm in alarms if "Metrics" not in alarm for each in metrics_of(alarm).values()]
    return frozenset((each.name, each.dimensions) for each in metrics)


def metric_of(measurement: Measurement) -> Metric:
    return measurement.name, tuple(sorted(measurement.dimensions))


def counted(line: dict[str, Any], log_group: str = "ProxyLogGroup") -> set[Metric]:
    """The metrics without dimensions that the template's filters make of a line."""
    found: set[Metric] = set()
    for each in deployed().of_type("AWS::Logs::MetricFilter").values():
        messages = re.findall(r'\(?\$\.message = "([^"]+)"\)?', each["FilterPattern"])
        [transformation] = each["MetricTransformations"]
        of_its_event = " IS " in each["FilterPattern"]
        if each["LogGroupName"] == f"${{{log_group}}}" and line["message"] in messages and not of_its_event:
            value = str(transformation["MetricValue"])
            assert value == "1" or line[value.removeprefix("$.")] >= 1
            if "Dimensions" not in transformation:
                found.add((transformation["MetricName"], ()))
    return found


def error_of(kind: str, status: int, code: str) -> errors.ProxyError:
    return getattr(errors, kind)(status, code, "what happened")


def records(bus: Any, clock: Callable[[], float] = time.monotonic) -> Records:
    return Records(Publisher(bus, "bus"), clock=Clock(reading=clock))


def refused(error: errors.ProxyError | None) -> Call:
    return Call(ID, 0.0, refused=error)


def keep(kept: Records, outcome: Outcome) -> None:
    timeline = Timeline()
    timeline.end()
    kept.keep(Call(ID, 0.0, key=ClientKey("team-a")), outcome, timeline, Invocation(2.0**40))


def test_there_are_such_errors() -> None:
    codes = {code for _, _, code in FAILURES}
    assert {"authorization_unavailable", "limits_unavailable", "token_unavailable", "internal_error"} < codes
    documented = re.findall(r"^\| 5\d\d \| `(\w+)` \|", (ROOT / "docs/errors.md").read_text(), re.MULTILINE)
    assert set(documented) <= codes | {AS_ASKED}


@pytest.mark.parametrize(("kind", "status", "code"), FAILURES)
def test_the_failure_of_an_authorised_request_is_in_the_log_and_in_a_metric_of_an_alarm(
    kind: str, status: int, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    bus = RecordingBus()
    outcome = Outcome(status, error=error_of(kind, status, code))
    keep(records(bus), outcome)
    line = json.loads(capsys.readouterr().out)
    assert (line["error"], line["outcome"], line["id"]) == (code, "failed", ID)
    [(detail_type, detail)] = bus.details
    event = read_event({"detail-type": detail_type, "detail": detail})
    assert {metric_of(each) for each in measurements_of(event)} & watched()


@pytest.mark.parametrize(("kind", "status", "code"), FAILURES)
def test_the_failure_of_a_request_of_nobody_known_is_in_the_log_and_in_a_metric_of_an_alarm(
    kind: str, status: int, code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = error_of(kind, status, code)
    error.__cause__ = AwsError("lambda:Invoke", "TooManyRequestsException", status=429)
    records(RecordingBus()).unauthorized(refused(error))
    line = json.loads(capsys.readouterr().out)
    assert (line["message"], line["error"], line["requests"], line["id"]) == (UNAUTHORIZED, code, 1, ID)
    assert line["reason"] == "lambda:Invoke: TooManyRequestsException"
    assert counted(line) & watched()


def test_what_a_client_did_wrong_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    records(RecordingBus()).unauthorized(refused(errors.ClientError(401, "invalid_api_key", "no")))
    records(RecordingBus()).unauthorized(refused(None))
    assert capsys.readouterr().out == ""


@given(pauses=st.lists(st.sampled_from([0.0, 0.3, 1.5]), max_size=30))
def test_a_flood_fills_no_log_and_every_request_is_counted(pauses: list[float]) -> None:
    now, output = [100.0], io.StringIO()
    kept = records(RecordingBus(), lambda: now[0])
    with contextlib.redirect_stdout(output):
        for pause in pauses:
            now[0] += pause
            kept.unauthorized(refused(errors.UnavailableError(503, "authorization_unavailable", "no")))
        keep(kept, Outcome(200))  # whatever is left is told with the next
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    told = [line for line in lines if line["message"] == UNAUTHORIZED]
    assert sum(line["requests"] for line in told) == len(pauses)
    assert len(told) <= sum(pauses) + 2


@pytest.mark.parametrize("cause", ["not_set_up", "not_readable", "refused"])
def test_an_unavailable_token_is_in_a_metric_of_an_alarm(cause: str) -> None:
    assert counted({"message": UNAVAILABLE, "cause": cause}) & watched()


def test_a_key_that_the_authorizer_could_not_check_is_in_a_metric_of_an_alarm() -> None:
    assert counted({"message": NOT_CHECKED}, "AuthorizerLogGroup") & watched()


def test_limits_that_were_not_checked_or_not_given_back_are_in_a_metric_of_an_alarm() -> None:
    sample = json.loads((ROOT / "events/samples/InferenceCompleted.chat-stream.json").read_text())
    detail = sample["detail"]

    def metrics(limits: dict[str, Any] | None) -> set[Metric]:
        event = read_event(sample | {"detail": detail | {"data": detail["data"] | {"limits": limits}}})
        return {metric_of(each) for each in measurements_of(event) if "Limits" in each.name} & watched()

    assert metrics(None) == metrics({"status": "checked"}) == set()
    assert metrics({"status": "unchecked"}) == {("LimitsUnchecked", ())}
    assert metrics({"status": "checked", "lease": {"id": "x", "in_doubt": False}}) == {("LimitsNotReturned", ())}
