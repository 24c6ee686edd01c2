"""`events replay`: which events EventBridge is told to publish again, for whom, and what is said of it."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from console.command_line import main
from console.errors import ConsoleError
from console.events import Replay
from console.period import Period

ARCHIVE = "arn:aws:events:us-east-1:111111111111:archive/kept"
BUS = "arn:aws:events:us-east-1:111111111111:event-bus/openai-proxy"
RULE = "arn:aws:events:us-east-1:111111111111:rule/openai-proxy/record-cost"
LONG_AGO = Period(date(2026, 3, 1), date(2026, 3, 2))


class EventBridge:
    """An archive, and replays that go through `states`."""

    def __init__(self, *states: str, error: str = "") -> None:
        self.started: list[dict[str, Any]] = []
        self._states = list(states)
        self._error = error

    def describe_archive(self, **request: str) -> dict[str, str]:
        assert request == {"ArchiveName": "kept"}
        return {"EventSourceArn": BUS}

    def start_replay(self, **request: Any) -> None:
        if self._error:
            raise ClientError({"Error": {"Code": self._error, "Message": "no"}}, "StartReplay")
        self.started.append(request)

    def describe_replay(self, **request: str) -> dict[str, Any]:
        assert request == {"ReplayName": "again"}
        state = self._states.pop(0)
        return {"State": state, "StateReason": "lost"} | (
            {"EventLastReplayedTime": datetime(2026, 3, 1, 12, tzinfo=UTC)} if state == "RUNNING" else {}
        )


def test_whole_days_are_replayed_for_one_rule_and_what_ended_after_them_too() -> None:
    events = EventBridge()

    Replay(events).start("again", ARCHIVE, RULE, LONG_AGO)

    assert events.started == [
        {
            "ReplayName": "again",
            "EventSourceArn": ARCHIVE,
            "EventStartTime": datetime(2026, 3, 1, tzinfo=UTC),
            "EventEndTime": datetime(2026, 3, 3, 1, tzinfo=UTC),
            "Destination": {"Arn": BUS, "FilterArns": [RULE]},
        }
    ]


def test_a_replay_of_today_ends_now() -> None:
    events = EventBridge()
    now = datetime.now(UTC)

    Replay(events).start("again", ARCHIVE, RULE, Period(now.date(), now.date() + timedelta(days=1)))

    assert now <= events.started[0]["EventEndTime"] <= datetime.now(UTC)


@pytest.mark.parametrize(("code", "raised"), [("ValidationException", ConsoleError), ("AccessDenied", ClientError)])
def test_what_eventbridge_does_not_replay_is_an_error(code: str, raised: type[Exception]) -> None:
    with pytest.raises(raised):
        Replay(EventBridge(error=code)).start("again", ARCHIVE, RULE, LONG_AGO)


def test_it_is_waited_for() -> None:
    pauses: list[float] = []

    Replay(EventBridge("STARTING", "RUNNING", "RUNNING", "COMPLETED"), pauses.append).wait("again", LONG_AGO)

    assert len(pauses) == 3


def test_a_replay_that_fails_says_why() -> None:
    with pytest.raises(ConsoleError, match=r"again failed: lost\. Remedy: "):
        Replay(EventBridge("RUNNING", "FAILED"), lambda _: None).wait("again", LONG_AGO)


def test_days_that_are_to_come_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "replay", "--day", "9000-01-01"], {}) == 2
    assert "9000-01-01 has not begun (UTC). Remedy: name days up to " in capsys.readouterr().err


def test_days_have_to_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["events", "replay"], {}) == 2
    assert "No days are named" in capsys.readouterr().err
