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
from openai_proxy.events.envelope import DetailType, Event, rfc3339
from openai_proxy.events.incoming import from_envelope, from_sqs_body
from proxy.aws.client import NO_ANSWER, UNREACHABLE, AwsError
from proxy.records.overflow import Failure, Overflow
from proxy.records.publisher import NOT_CONFIRMED, NOT_PUBLISHED, QUEUED, Publisher
from proxy.records.publisher import Queues as Addresses

LARGEST = 262_144


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
        fate = Publisher(bus, "bus", lambda _: None).publish(events, time.time() + 60)  # pyright: ignore[reportArgumentType]
    logged = [json.loads(line)["id"] for line in output.getvalue().splitlines()]
    assert fate == ("published" if "1" in taken else "lost")
    assert sorted([*taken, *logged]) == [each.id for each in events]
    tries = Counter(name for call in bus.calls for name in call)
    assert max(tries.values()) <= 3


def test_an_event_that_cannot_be_published_is_logged_whole(capsys: pytest.CaptureFixture[str]) -> None:
    publish(FakeBus(*[AwsError("events", "AccessDenied")] * 3), event("1"))
    line = json.loads(capsys.readouterr().out)
    assert line["entry"] == event("1").to_entry("bus", "Root=1")
    assert "AccessDenied" in line["reason"]


@pytest.mark.parametrize("kind", ["InferenceCompleted", "InferenceFailed", "InferenceThrottled"])
def test_however_a_request_ended_its_event_is_the_first_and_is_logged_whole(
    kind: DetailType, capsys: pytest.CaptureFixture[str]
) -> None:
    bus = FakeBus(*[AwsError("events", UNREACHABLE)] * 3)
    publish(bus, event("1", "ResponseCaptured"), event("2", kind))
    assert bus.calls == [["1", "2"], ["2"], ["2"]]
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("entry") for line in lines] == [event("2", kind).to_entry("bus", "Root=1"), None]


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
    assert from_sqs_body(json.dumps(envelope)) == event("1")


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


# ------------------------------------------------------------------------------------------------------------- queues


class Queues:
    """The queues, at a clock of their own: each call of one takes `seconds` and ends as `outcomes` says."""

    def __init__(self, *outcomes: AwsError | None, seconds: float = 0.0) -> None:
        self.outcomes, self.seconds, self.now = list(outcomes), seconds, 1000.0
        self.sent: list[tuple[str, dict[str, Any], str | None]] = []
        self.timeouts: list[float] = []
        self.slept: list[float] = []

    def send_message(self, queue: str, body: str, delay: int, timeout: float, trace: str | None = None) -> None:
        assert delay == 0
        self.now += min(self.seconds, timeout)
        self.timeouts.append(timeout)
        if self.outcomes and (outcome := self.outcomes.pop(0)):
            raise outcome
        self.sent.append((queue, json.loads(body), trace))

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)

    def put(self, body: str = "{}") -> Failure | None:
        made: Any = self
        return Overflow(made, self.sleep, lambda: self.now).put("q", body, "Root=1", self.now + 60)


@pytest.mark.parametrize(("seconds", "timeouts"), [(0.0, []), (0.125, [0.125]), (1.5, [1.5]), (60.0, [1.5])])
def test_a_queue_is_asked_while_there_is_time_for_it_and_no_longer(seconds: float, timeouts: list[float]) -> None:
    made: Any = (queues := Queues())
    failure = Overflow(made, queues.sleep, lambda: queues.now).put("q", "{}", "", queues.now + seconds)
    assert queues.timeouts == timeouts
    assert failure == (None if timeouts else Failure("no time was left for the queue", may_be_there=False))


ADDRESSES = Addresses("later", "answers")


def refusing(
    queues: Queues,
    *events: Event[Any, Any],
    seconds: float = 60.0,
    bus: Any = None,
    addresses: Addresses = ADDRESSES,
) -> str:
    """Publish on a bus that refuses all, with queues."""

    class World:
        put_events = (bus or FakeBus(*[AwsError("events", "ThrottlingException", status=400)] * 6)).put_events
        send_message = queues.send_message

    made: Any = World
    publisher = Publisher(made, "bus", queues.sleep, lambda: queues.now, addresses)
    return publisher.publish(events, queues.now + seconds, "Root=1")


def test_what_the_bus_does_not_take_goes_to_the_queue_of_who_is_to_have_it(capsys: pytest.CaptureFixture[str]) -> None:
    queues, terminal, captured = Queues(), event("1"), event("2", "ResponseCaptured")
    assert refusing(queues, captured, terminal) == "queued"
    assert [(queue, trace) for queue, _, trace in queues.sent] == [("later", "Root=1"), ("answers", "Root=1")]
    assert [from_envelope(body) for _, body, _ in queues.sent] == [terminal, captured]
    for event_, (_, body, _) in zip((terminal, captured), queues.sent, strict=True):
        head = {"version": "0", "id": event_.id, "detail-type": event_.detail_type, "source": "openai-proxy"}
        assert body == {**head, "time": rfc3339(0), "detail": json.loads(event_.to_entry("bus")["Detail"])}
    output = capsys.readouterr().out
    lines = [json.loads(line) for line in output.splitlines()]
    assert [(line["level"], line["message"], line["id"], line["tries"]) for line in lines] == [
        ("WARN", QUEUED, "1", 3),
        ("WARN", QUEUED, "2", 1),
    ]
    assert "secret words" not in output


def test_a_stack_says_which_queue_is_for_what() -> None:
    of_stack = {"PUBLISH_AGAIN_QUEUE": "later", "STORE_RESPONSE_QUEUE": "answers"}
    assert Addresses.from_environ(of_stack) == Addresses(terminal="later", captured="answers")
    assert Addresses.from_environ({}) == Addresses("", "")


def test_where_there_is_no_queue_the_log_has_it(capsys: pytest.CaptureFixture[str]) -> None:
    queues = Queues()
    assert refusing(queues, event("1"), addresses=Addresses.from_environ({})) == "lost"
    assert (json.loads(capsys.readouterr().out)["message"], queues.timeouts) == (NOT_PUBLISHED, [])
    captured = [event("1"), event("2", "ResponseCaptured")]
    assert refusing(queues, *captured, addresses=Addresses(terminal="later")) == "queued"
    assert [queue for queue, _, _ in queues.sent] == ["later"]
    assert "An answer was not cached" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("of_bus", "of_queue", "message"),
    [
        ("ThrottlingException", AwsError("sqs", "AccessDenied", status=403), NOT_PUBLISHED),
        ("ThrottlingException", AwsError("sqs", NO_ANSWER), NOT_CONFIRMED),
        ("InternalFailure", AwsError("sqs", "AccessDenied", status=403), NOT_CONFIRMED),
    ],
)
def test_what_neither_takes_is_in_the_log_whole(
    of_bus: str, of_queue: AwsError, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    queues = Queues(of_queue, *[AwsError("sqs", "AccessDenied", status=403)] * 2)
    bus = FakeBus([of_bus, of_bus], [of_bus], [of_bus])
    assert refusing(queues, event("1"), event("2", "ResponseCaptured"), bus=bus) == "lost"
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["message"], first["entry"]) == (message, event("1").to_entry("bus", "Root=1"))
    assert of_bus in first["reason"]
    assert "AccessDenied" in first["reason"]
    assert "entry" not in second
    assert queues.sent == [], "nobody needs what was captured of a request that nobody hears of"


def test_a_captured_answer_alone_goes_to_its_queue_and_the_request_is_published() -> None:
    queues, bus = Queues(), FakeBus([None, "InternalFailure"], ["InternalFailure"], ["InternalFailure"])
    assert refusing(queues, event("1"), event("2", "ResponseCaptured"), bus=bus) == "published"
    assert [queue for queue, _, _ in queues.sent] == ["answers"]


@pytest.mark.parametrize(
    ("outcomes", "failure"),
    [
        ([], None),
        ([AwsError("sqs", UNREACHABLE), AwsError("sqs", "HTTP 503", status=503)], None),
        ([AwsError("sqs", NO_ANSWER), *[AwsError("sqs", UNREACHABLE)] * 2], Failure("sqs: Unreachable", True)),
        ([AwsError("sqs", "AccessDenied", status=403)] * 3, Failure("sqs: AccessDenied", False)),
    ],
)
def test_a_queue_has_three_tries(outcomes: list[AwsError], failure: Failure | None) -> None:
    queues = Queues(*outcomes)
    assert queues.put() == failure
    assert queues.slept == [0.0, 0.05, 0.2][: len(outcomes) + 1]
    assert len(queues.timeouts) == len(queues.slept)


@pytest.mark.parametrize(("size", "failure"), [(LARGEST, None), (LARGEST + 1, "it is too large for a queue")])
def test_an_event_that_is_too_large_is_not_sent(size: int, failure: str | None) -> None:
    queues = Queues()
    assert (found := queues.put(json.dumps("x" * (size - 2)))) == (failure and Failure(failure, may_be_there=False))
    assert len(queues.timeouts) == (found is None)


@pytest.mark.parametrize(
    ("seconds", "of_bus", "of_queue"),
    [
        (60.0, [2.0, 2.0, 2.0], [1.5, 1.45]),
        (4.1, [2.0], [1.5, 0.45]),
        (1.1, [0.5], [0.5]),
        (0.05, [], []),
    ],
)
def test_the_bus_leaves_the_queue_its_time(
    seconds: float, of_bus: list[float], of_queue: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither answers."""
    queues, timeouts = Queues(*[AwsError("sqs", NO_ANSWER)] * 3, seconds=60.0), list[float]()

    class Silent:
        def put_events(self, _: list[dict[str, str]], timeout: float) -> list[dict[str, Any]]:
            timeouts.append(timeout)
            queues.now += timeout
            raise AwsError("events", NO_ANSWER)

    assert refusing(queues, event("1"), seconds=seconds, bus=Silent()) == "lost"
    assert timeouts == pytest.approx(of_bus)
    assert queues.timeouts == pytest.approx(of_queue)
    assert queues.now <= 1000 + seconds - 0.1 + 1e-6 or not timeouts
    line = json.loads(capsys.readouterr().out)
    assert line["message"] == (NOT_CONFIRMED if timeouts else NOT_PUBLISHED)


@given(
    bus=st.lists(st.sampled_from(REFUSALS) | st.sampled_from(["", "InternalFailure"]), min_size=6, max_size=6),
    queue=st.lists(st.sampled_from(REFUSALS) | st.none(), min_size=6, max_size=6),
    captured_too=st.booleans(),
)
def test_somebody_has_every_event(bus: list[Any], queue: list[Any], captured_too: bool) -> None:
    """Bus, queue or log, each at most once for certain."""
    taken: set[str] = set()

    class Bus:
        def put_events(self, entries: list[dict[str, str]], timeout: float) -> list[dict[str, Any]]:
            outcome = bus.pop(0)
            if isinstance(outcome, AwsError):
                raise outcome
            if not outcome:
                taken.update(json.loads(entry["Detail"])["metadata"]["id"] for entry in entries)
            return [{"ErrorCode": outcome} if outcome else {"EventId": "e"} for _ in entries]

    queues, output = Queues(*queue), io.StringIO()
    events = [event("1"), event("2", "ResponseCaptured")][: 1 + captured_too]
    with contextlib.redirect_stdout(output):
        fate = refusing(queues, *events, bus=Bus())
    queued = [body["detail"]["metadata"]["id"] for _, body, _ in queues.sent]
    lines = [json.loads(line) for line in output.getvalue().splitlines()]
    lost = [line["id"] for line in lines if line["message"] != QUEUED]
    assert sorted([*taken, *queued, *lost]) == [each.id for each in events]
    assert fate == ("published" if "1" in taken else "queued" if "1" in queued else "lost")
