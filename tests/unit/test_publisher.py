"""Publishing: one call, failed entries again, and never in silence."""

import json
import time
from typing import Any

import pytest
from openai_proxy.events import DetailType, Event, MalformedEventError, rfc3339
from proxy.aws import AwsError
from proxy.publisher import Publisher


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


def event(identifier: str, detail_type: DetailType = "InferenceCompleted") -> Event:
    return Event(detail_type, identifier, rfc3339(0), identifier, "client", {"content": "secret words"})


def publish(bus: Any, *events: Event, seconds: float = 60) -> list[float]:
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


def test_an_answer_for_other_entries_is_no_yes(capsys: pytest.CaptureFixture[str]) -> None:
    publish(FakeBus([], [], []), event("1"))
    assert json.loads(capsys.readouterr().out)["entry"]


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
