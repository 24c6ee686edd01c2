"""Publishing: one call, failed entries again, and never in silence."""

import contextlib
import io
import json
import time
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.events.envelope import DetailType, Event, MalformedEventError, rfc3339
from proxy.aws.client import NO_ANSWER, UNREACHABLE, AwsError
from proxy.records.publisher import NOT_CONFIRMED, NOT_PUBLISHED, Publisher


class FakeBus:
    """Takes entries as told: each call has its outcome, an error or the error codes of its entries."""

    def __init__(self, *outcomes: AwsError | list[str | None]) -> None:
        self.outcomes = list(outcomes)
        self.calls: list[list[str]] = []

    def put_events(self, entries: list[dict[str, str]], timeout: float) -> list[dict[str, Any]]:
        assert 0 < timeout <= 2
        self.calls.append([json.loads(entry["Detail"])["metadata"]["id"] for entry in entries])
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, AwsError):
            raise outcome
        return [{"ErrorCode": code} if code else {"EventId": "e"} for code in outcome]


def event(identifier: str, detail_type: DetailType = "InferenceCompleted") -> Event[Any, Any]:
    return Event(detail_type, identifier, rfc3339(0), identifier, "client", {"content": "secret words"})


def publish(bus: Any, *events: Event[Any, Any], seconds: float = 60) -> list[float]:
    slept: list[float] = []
    Publisher(bus, "bus", slept.append).publish(events, time.time() + seconds, "Root=1")
    return slept


def test_all_events_of_a_request_go_in_one_call() -> None:
    bus = FakeBus([None, None])
    assert publish(bus, event("1"), event("2")) == []
    assert bus.calls == [["1", "2"]]


def test_only_what_failed_is_put_again() -> None:
    bus = FakeBus([None, "InternalFailure"], AwsError("events", "ThrottlingException"), [None])
    assert len(publish(bus, event("1"), event("2"))) == 2
    assert bus.calls == [["1", "2"], ["2"], ["2"]]


REFUSALS = [
    AwsError("events", "ValidationException", status=400),
    AwsError("events", "HTTP 413", status=413),
    AwsError("events", "ThrottlingException", status=400),
    AwsError("events", "HTTP 503", status=503),
    AwsError("events", UNREACHABLE),
    AwsError("events", NO_ANSWER),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.code)
def test_what_the_common_call_does_not_bring_to_the_bus_goes_alone_and_the_terminal_event_first(
    refusal: AwsError,
) -> None:
    captured, terminal = event("1", "ResponseCaptured"), event("2")
    bus = FakeBus(refusal, [None], [None])
    publish(bus, captured, terminal)
    assert bus.calls == [["1", "2"], ["2"], ["1"]]


def test_both_refused_in_one_answer_go_alone(capsys: pytest.CaptureFixture[str]) -> None:
    bus = FakeBus(["InternalFailure", "InternalFailure"], [None], ["TooLarge"], ["TooLarge"])
    publish(bus, event("1"), event("2", "ResponseCaptured"))
    assert bus.calls == [["1", "2"], ["1"], ["2"], ["2"]]
    line = json.loads(capsys.readouterr().out)
    assert (line["id"], line["tries"], line["reason"]) == ("2", 3, "TooLarge")
    assert "secret words" not in str(line)


def test_when_the_terminal_event_is_lost_nobody_waits_for_the_captured_one(capsys: pytest.CaptureFixture[str]) -> None:
    bus = FakeBus(*[AwsError("events", UNREACHABLE)] * 3)
    publish(bus, event("1"), event("2", "ResponseCaptured"))
    assert bus.calls == [["1", "2"], ["1"], ["1"]]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["id"], line["tries"]) for line in lines] == [("1", 3), ("2", 1)]


@pytest.mark.parametrize(
    ("outcomes", "message"),
    [
        ([AwsError("events", UNREACHABLE)] * 3, NOT_PUBLISHED),
        ([AwsError("events", "ThrottlingException", status=400)] * 3, NOT_PUBLISHED),
        ([["MalformedDetail"]] * 3, NOT_PUBLISHED),
        ([["InternalFailure"], ["ThrottlingException"], ["ThrottlingException"]], NOT_CONFIRMED),
        ([AwsError("events", NO_ANSWER), *[AwsError("events", UNREACHABLE)] * 2], NOT_CONFIRMED),
        ([["ThrottlingException"], AwsError("events", "HTTP 500", status=500), ["ThrottlingException"]], NOT_CONFIRMED),
    ],
)
def test_the_line_says_whether_the_bus_may_have_the_event(
    outcomes: list[Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(FakeBus(*outcomes), event("1"))
    line = json.loads(capsys.readouterr().out)
    assert (line["message"], line["id"], line["tries"]) == (message, "1", 3)


@given(
    outcomes=st.lists(
        st.sampled_from(REFUSALS) | st.lists(st.sampled_from([None, "InternalFailure"]), min_size=2, max_size=2),
        min_size=6,
        max_size=6,
    ),
    captured_too=st.booleans(),
)
def test_every_event_is_taken_or_in_the_log_and_has_no_more_than_three_tries(
    outcomes: list[Any], captured_too: bool
) -> None:
    class Bus(FakeBus):
        def put_events(self, entries: list[dict[str, str]], timeout: float) -> list[dict[str, Any]]:
            self.outcomes[0] = (
                self.outcomes[0][: len(entries)] if isinstance(self.outcomes[0], list) else self.outcomes[0]
            )
            results = super().put_events(entries, timeout)
            taken.update(name for name, result in zip(self.calls[-1], results, strict=True) if "EventId" in result)
            return results

    taken: set[str] = set()
    events = [event("1"), event("2", "ResponseCaptured")][: 1 + captured_too]
    bus, output = Bus(*outcomes), io.StringIO()
    with contextlib.redirect_stdout(output):
        published = Publisher(bus, "bus", lambda _: None).publish(events, time.time() + 60)  # pyright: ignore[reportArgumentType]
    logged = [json.loads(line)["id"] for line in output.getvalue().splitlines()]
    assert published == ("1" in taken)
    assert sorted([*taken, *logged]) == [each.id for each in events]
    tries = Counter(name for call in bus.calls for name in call)
    assert max(tries.values()) <= 3


def test_an_event_that_cannot_be_published_is_logged_whole(capsys: pytest.CaptureFixture[str]) -> None:
    publish(FakeBus(*[AwsError("events", "AccessDenied")] * 3), event("1"))
    line = json.loads(capsys.readouterr().out)
    assert line["entry"] == event("1").to_entry("bus", "Root=1")
    assert "AccessDenied" in line["reason"]


def test_an_event_is_logged_while_there_is_time_to(capsys: pytest.CaptureFixture[str]) -> None:
    bus = FakeBus()
    publish(bus, event("1"), seconds=0.05)
    line = json.loads(capsys.readouterr().out)
    assert bus.calls == []
    assert (line["entry"], line["reason"]) == (event("1").to_entry("bus", "Root=1"), "no time was left")


def test_content_is_never_logged(capsys: pytest.CaptureFixture[str]) -> None:
    publish(FakeBus(*[AwsError("events", "AccessDenied")] * 3), event("1", "ResponseCaptured"))
    output = capsys.readouterr().out
    assert "was not cached" in output
    assert "secret words" not in output


def test_an_event_survives_its_journey() -> None:
    entry = event("1").to_entry("bus")
    envelope = {"detail-type": entry["DetailType"], "detail": json.loads(entry["Detail"])}
    assert Event.from_sqs_body(json.dumps(envelope)) == event("1")


@pytest.mark.parametrize(
    "body", ["", "{}", "[]", "null", '{"detail": {"metadata": {"version": "2.0"}}}', '{"detail": 3}']
)
def test_what_is_no_event(body: str) -> None:
    with pytest.raises(MalformedEventError):
        Event.from_sqs_body(body)


class SilentBus:
    """Takes all the time of each call and answers nothing, but the terminal event alone at once. It moves the clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timeouts: list[float] = []

    def put_events(self, entries: list[dict[str, str]], timeout: float) -> list[dict[str, Any]]:
        self.timeouts.append(timeout)
        if [entry["DetailType"] for entry in entries] == ["InferenceCompleted"]:
            return [{"EventId": "e"}]
        self.now += timeout
        raise AwsError("events", NO_ANSWER)

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("seconds", "timeouts"),
    [
        (60.0, [2, 2, 2, 1.95]),  # three tries of two seconds and two pauses are all that a sandbox spends
        (5.1, [2, 2, 2, 0.65]),
        (2.6, [2, 0.45, 0.4]),
        (1.1, [1.0]),
        (0.05, []),
    ],
)
def test_all_of_it_is_done_in_time(seconds: float, timeouts: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    bus = SilentBus()
    made: Any = bus
    publisher = Publisher(made, "bus", bus.sleep, lambda: bus.now)
    publisher.publish([event("1", "ResponseCaptured"), event("2")], bus.now + seconds)
    assert bus.timeouts == pytest.approx(timeouts)
    assert bus.now <= 1000 + min(6.3, seconds - 0.1) + 1e-6 or not timeouts
