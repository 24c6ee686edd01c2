"""publish_again: what the bus did not take comes to it, at a pace that it bears, and nothing is done before it has."""

import heapq
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.events.incoming import from_envelope
from publish_again.bus import EventBus, OverflowQueue, Refusal, entry_in
from publish_again.consumer import Pace, PublishAgain

from tests.tables import Log

SAMPLE = Path(__file__).parents[4] / "events/samples/InferenceCompleted.chat-stream.json"
EVENT = json.loads(SAMPLE.read_text())
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"
NOT_FIT = "ValidationException"
"""What EventBridge says of a call that it refuses whole."""
FOR_NOW, FOR_GOOD = Refusal("ThrottlingException", is_for_now=True), Refusal("AccessDenied", is_for_now=False)


def body_of(name: str, **metadata: str) -> str:
    detail = EVENT["detail"] | {"metadata": EVENT["detail"]["metadata"] | {"id": name} | metadata}
    return json.dumps(EVENT | {"detail": detail})


def record(name: str, body: str | None = None, came: int = 1, trace: str = "") -> dict[str, Any]:
    attributes = {"ApproximateReceiveCount": str(came)} | ({"AWSTraceHeader": trace} if trace else {})
    body = body_of(name) if body is None else body
    return {"messageId": name, "receiptHandle": f"h-{name}", "body": body, "attributes": attributes}


def id_of(entry: Mapping[str, Any]) -> str:
    return json.loads(entry["Detail"])["metadata"]["id"]


class World:
    """A bus that refuses the events named in `refuses`, the consumer, and what it did."""

    def __init__(self, **refuses: Refusal) -> None:
        self.refuses = refuses
        self.calls: list[list[str]] = []
        self.taken: list[Mapping[str, Any]] = []
        self.hidden: dict[str, int] = {}
        self.slept: list[float] = []
        self.now, self.lasts = 1000.0, 0.0
        self.log = Log()
        logger: Any = self.log
        self.consumer = PublishAgain(self, self.hide, logger, self.slept.append, lambda: self.now)

    def hide(self, seconds: Mapping[str, int]) -> None:
        assert seconds, "of no message nothing is hidden"
        self.hidden.update(seconds)

    def put(self, entries: Sequence[Mapping[str, Any]]) -> list[Refusal | None]:
        self.calls.append([id_of(entry) for entry in entries])
        self.now += self.lasts
        refusals = [self.refuses.get(each) for each in self.calls[-1]]
        if NOT_FIT in [each.code for each in refusals if each]:
            return [Refusal(NOT_FIT, is_for_now=False)] * len(entries)
        self.taken += [entry for entry, refusal in zip(entries, refusals, strict=True) if refusal is None]
        return refusals

    def handle(self, *records: dict[str, Any]) -> list[str]:
        """The ids of the messages that must come again."""
        return [each["itemIdentifier"] for each in self.consumer({"Records": list(records)})["batchItemFailures"]]


def test_events_come_to_the_bus_as_they_were_ten_at_a_time() -> None:
    world = World()
    assert world.handle(*(record(f"e{number}", trace=TRACE) for number in range(25))) == []
    assert [len(call) for call in world.calls] == [10, 10, 5]
    entry = world.taken[0]
    assert json.loads(entry["Detail"]) == EVENT["detail"] | {"metadata": EVENT["detail"]["metadata"] | {"id": "e0"}}
    assert (entry["Source"], entry["DetailType"], entry["TraceHeader"]) == (
        EVENT["source"],
        EVENT["detail-type"],
        TRACE,
    )
    assert entry["Time"] == datetime.fromisoformat(EVENT["detail"]["metadata"]["timestamp"]).astimezone(UTC)
    assert world.hidden == {}


@pytest.mark.parametrize(("lasts", "calls"), [(11.9, 2), (12.0, 1), (4.0, 3), (2.0, 5)])
def test_no_call_begins_so_late_that_what_is_done_would_be_forgotten(lasts: float, calls: int) -> None:
    world = World()
    world.lasts = lasts
    names = [f"e{number}" for number in range(50)]
    assert world.handle(*map(record, names)) == names[10 * calls :]
    assert len(world.calls) == calls
    assert world.hidden == {f"h-{name}": 5 for name in names[10 * calls :]}
    late = {"published": 10 * calls, "refused": 50 - 10 * calls, "reasons": ["NoTimeLeft"], "traces": []}
    assert world.log.lines == ([SAID | {"level": "warning"} | late] if calls < 5 else world.log.lines)
    world.now += 900
    assert world.handle(record("later")) == [], "each batch has its own time"


def test_events_that_are_put_alone_have_no_more_time() -> None:
    world = World(e3=Refusal(NOT_FIT, is_for_now=False))
    world.lasts = 4.0
    assert world.handle(*(record(f"e{number}") for number in range(10))) == [f"e{number}" for number in range(2, 10)]
    assert [len(call) for call in world.calls] == [10, 1, 1]


def test_what_the_proxy_queues_is_what_is_read() -> None:
    event = from_envelope(EVENT)
    entry = entry_in(json.dumps(EVENT))
    assert {**event.to_entry(""), "Time": entry["Time"]} == entry


@pytest.mark.parametrize("timestamp", ["yesterday", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_time_that_is_none_is_that_of_the_call(timestamp: str) -> None:
    assert "Time" not in entry_in(body_of("1", timestamp=timestamp))


@pytest.mark.parametrize(("trace", "goes"), [("", False), ("x" * 500, True), ("x" * 501, False)])
def test_only_a_trace_that_aws_takes_goes_along(trace: str, goes: bool) -> None:
    world = World()
    world.handle(record("1", trace=trace))
    assert ("TraceHeader" in world.taken[0]) is goes


def test_only_what_the_bus_did_not_take_comes_again() -> None:
    world = World(e1=FOR_GOOD)
    assert world.handle(*(record(f"e{number}") for number in range(12))) == ["e1"]
    assert [len(call) for call in world.calls] == [10, 2]
    assert world.hidden == {"h-e1": 5}


def test_a_bus_that_refuses_for_now_is_left_alone() -> None:
    world = World(e3=FOR_NOW)
    assert world.handle(*(record(f"e{number}") for number in range(12))) == ["e3", "e10", "e11"]
    assert len(world.calls) == 1
    assert set(world.hidden) == {"h-e3", "h-e10", "h-e11"}


def test_one_that_is_not_fit_does_not_take_its_neighbours() -> None:
    world = World(e1=Refusal(NOT_FIT, is_for_now=False))
    assert world.handle(*(record(f"e{number}") for number in range(3))) == ["e1"]
    assert world.calls == [["e0", "e1", "e2"], ["e0"], ["e1"], ["e2"]]


def test_one_alone_that_is_not_fit_is_put_once() -> None:
    world = World(e0=Refusal(NOT_FIT, is_for_now=False))
    assert world.handle(record("e0")) == ["e0"]
    assert world.calls == [["e0"]]


@pytest.mark.parametrize("body", ["", "{}", "[" * 100_000, body_of("1", version="2.0")])
def test_what_is_no_event_comes_again_at_once_and_alone(body: str) -> None:
    world = World()
    assert world.handle(record("bad", body), record("good")) == ["bad"]
    assert world.hidden == {"h-bad": 0}
    assert world.calls == [["good"]]


@pytest.mark.parametrize(("came", "seconds"), [(1, 5), (2, 10), (3, 20), (8, 640), (9, 900), (100, 900), (10**6, 900)])
def test_what_is_refused_again_waits_twice_as_long(came: int, seconds: int) -> None:
    world = World(e1=FOR_NOW)
    world.handle(record("e1", came=came))
    assert world.hidden == {"h-e1": seconds}


def test_entries_of_one_call_are_not_too_large_together_and_a_large_one_goes_alone() -> None:
    def of(size: int, name: str) -> dict[str, Any]:
        """A message whose entry has `size` bytes, as AWS counts them: 14 for the time, and its texts."""
        metadata = EVENT["detail"]["metadata"] | {"id": name}

        def body(filled: int) -> str:
            return json.dumps(EVENT | {"detail": {"metadata": metadata, "data": {"x": "x" * filled}}})

        empty = 14 + sum(len(entry_in(body(0))[each]) for each in ("Source", "DetailType", "Detail"))
        return record(name, body(size - empty))

    most = 200 * 1024
    world = World()
    assert world.handle(of(90_000, "1"), of(most - 90_000, "2"), of(90_000, "3"), of(most - 89_999, "4")) == []
    assert world.handle(of(250_000, "5"), of(1000, "6"), of(most - 1000, "7"), of(1000, "8")) == []
    assert world.calls == [["1", "2"], ["3"], ["4"], ["5"], ["6", "7"], ["8"]]


def test_the_pace_grows_while_all_is_taken_and_falls_when_the_bus_refuses() -> None:
    world = World()
    for _ in range(200):
        world.handle(record("1"))
    assert world.slept[:2] == [Pace.FIRST, Pace.FIRST * 0.95]
    assert world.slept == sorted(world.slept, reverse=True)
    assert world.slept[-1] == Pace.LEAST
    world.refuses = {"1": FOR_NOW}
    for _ in range(20):
        world.handle(record("1"))
    assert world.slept[200:203] == pytest.approx([Pace.LEAST, 2 * Pace.LEAST, 4 * Pace.LEAST])
    assert world.slept[-1] == Pace.MOST


def test_an_empty_batch_says_nothing() -> None:
    world = World()
    assert world.handle() == []
    assert (world.slept, world.log.lines) == ([], [])


TRACED = "1-5759e988-bd862e3fe1be46a994272793"
SAID: dict[str, Any] = {
    "level": "info",
    "message": "Events were published again",
    "refused": 0,
    "unreadable": 0,
    "reasons": [],
}


def test_the_log_says_how_many_events_came_through_and_why_the_others_did_not() -> None:
    world = World(e1=FOR_GOOD, e3=Refusal("Odd", is_for_now=False), e10=FOR_GOOD)
    assert world.handle(record("e0", trace=TRACE), record("e2")) == []
    assert world.handle(*(record(f"e{number}", trace=TRACE) for number in range(11)), record("bad", "")) == [
        *("bad", "e1", "e3", "e10")
    ]
    assert world.log.lines == [
        SAID | {"published": 2, "traces": [TRACED]},
        {
            "level": "warning",
            "message": "A message was refused",
            "message_id": "bad",
            "reason": "the message is not JSON, or too deep",
            "traces": [],
        },
        SAID
        | {"level": "warning", "published": 8, "refused": 3, "unreadable": 1}
        | {"reasons": ["AccessDenied", "Odd"], "traces": [TRACED]},
    ]


def test_only_what_the_bus_refused_for_now_slows_the_pace_and_only_what_it_took_whole_quickens_it() -> None:
    world = World(good=FOR_GOOD, now=FOR_NOW)
    for batch in (["a"], ["good"], ["a", "good"], ["good", "now"], ["a"], ["b"]):
        world.handle(*map(record, batch))
    assert world.slept == pytest.approx([0.2, 0.19, 0.19, 0.19, 0.38, 0.361])


def test_the_pace_is_never_slower_than_a_call_in_two_seconds_nor_quicker_than_fifty_in_one() -> None:
    pace, pauses = Pace(), list[float]()
    for refused in (*[True] * 6, *[False] * 100):
        (pace.refused if refused else pace.taken)()
        pauses.append(pace.pause)
    assert pauses[:6] == [0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    assert pauses[6:] == pytest.approx([max(0.02, 2 * 0.95**number) for number in range(1, 101)])


# ----------------------------------------------------------------------------------------------------- an hour without


@given(
    events=st.lists(st.integers(0, 3600), min_size=1, max_size=8),
    kinds=st.lists(st.sampled_from([FOR_NOW, FOR_GOOD]), min_size=1, max_size=4),
)
def test_an_hour_without_the_bus_loses_nothing(events: list[int], kinds: list[Refusal]) -> None:
    """In simulated seconds, in batches of what can be seen at a time. Nothing comes to the dead letters on the way."""
    queue = [(second, f"e{number}", 0) for number, second in enumerate(events)]
    heapq.heapify(queue)
    done: dict[str, int] = {}
    most = 0
    while queue:
        now = queue[0][0]
        seen = [heapq.heappop(queue) for _ in range(min(10, len(queue))) if queue[0][0] <= now]
        refusing = {name: kinds[number % len(kinds)] for number, (_, name, _) in enumerate(seen)}
        world = World(**(refusing if now < 3600 else {}))
        failed = world.handle(*(record(name, came=came + 1) for _, name, came in seen))
        for _, name, came in seen:
            most = max(most, came + 1)
            if name in failed:
                heapq.heappush(queue, (now + world.hidden[f"h-{name}"], name, came + 1))
            else:
                done[name] = now
    assert set(done) == {f"e{number}" for number in range(len(events))}
    assert max(done.values()) <= 3600 + 900
    assert most < 100


# ----------------------------------------------------------------------------------------------------- bus and queue


class Client:
    """Answers, or raises, what it is told; it keeps what it was asked."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), list[dict[str, Any]]()

    def put_events(self, **asked: Any) -> Any:
        self.asked.append(asked)
        if isinstance(answer := self.answers.pop(0), Exception):
            raise answer
        return answer

    change_message_visibility_batch = put_events


def error(code: str, status: int = 400) -> ClientError:
    response: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(response, "PutEvents")


ANSWERS: list[tuple[Any, Refusal]] = [
    (error("ThrottlingException"), FOR_NOW),
    (error("AccessDenied", 403), FOR_GOOD),
    (error("Odd", 503), Refusal("Odd", is_for_now=True)),
    (ConnectTimeoutError(endpoint_url="x"), Refusal("ConnectTimeoutError", is_for_now=True)),
    (AttributeError("'list' object has no attribute 'get'"), Refusal("AttributeError", is_for_now=True)),
    ({}, Refusal("NoAnswer", is_for_now=True)),
    ({"Entries": [{}]}, Refusal("NoAnswer", is_for_now=True)),
    ({"Entries": None}, Refusal("NoAnswer", is_for_now=True)),
    ({"Entries": [None, {"EventId": 1}]}, Refusal("NoAnswer", is_for_now=True)),
]


@pytest.mark.parametrize(("answer", "refusal"), ANSWERS)
def test_what_the_bus_does_not_say_that_it_has_it_does_not_have(answer: Any, refusal: Refusal) -> None:
    assert EventBus(Client(answer), "bus").put([{"Source": "a"}, {"Source": "b"}]) == [refusal] * 2


def test_each_entry_has_its_own_answer() -> None:
    client = Client({"Entries": [{"EventId": "1"}, {"ErrorCode": "InternalFailure"}, {"ErrorCode": "MalformedDetail"}]})
    found = EventBus(client, "bus").put([{"Source": "a"}] * 3)
    assert found == [None, Refusal("InternalFailure", is_for_now=True), Refusal("MalformedDetail", is_for_now=False)]
    assert client.asked == [{"Entries": [{"Source": "a", "EventBusName": "bus"}] * 3}]


def test_messages_are_hidden_ten_at_a_time() -> None:
    client, log = Client({}, {"Failed": [{"Code": "MessageNotInflight"}, {"Code": "Other"}]}), Log()
    logger: Any = log
    OverflowQueue(client, "queue", logger).hide({f"h{number}": number for number in range(12)})
    assert [[each["VisibilityTimeout"] for each in asked["Entries"]] for asked in client.asked] == [
        list(range(10)),
        [10, 11],
    ]
    assert client.asked[1]["Entries"][0] == {"Id": "0", "ReceiptHandle": "h10", "VisibilityTimeout": 10}
    assert {asked["QueueUrl"] for asked in client.asked} == {"queue"}
    assert log.lines == [
        {"level": "warning", "message": "Messages were not hidden", "reason": "MessageNotInflight, Other", "number": 2}
    ]


NOT_HIDDEN: list[tuple[Any, str]] = [
    (error("AccessDenied"), repr(error("AccessDenied"))),
    (ConnectTimeoutError(endpoint_url="x"), repr(ConnectTimeoutError(endpoint_url="x"))),
    (TypeError("odd"), "TypeError('odd')"),
    ({"Failed": ["odd"]}, """AttributeError("'str' object has no attribute 'get'")"""),
]


@pytest.mark.parametrize(("answer", "reason"), NOT_HIDDEN)
def test_a_message_that_cannot_be_hidden_comes_again_all_the_same(answer: Any, reason: str) -> None:
    client, log = Client(answer), Log()
    logger: Any = log
    OverflowQueue(client, "queue", logger).hide(dict.fromkeys(map(str, range(20)), 5))
    assert len(client.asked) == 1
    assert log.lines == [{"level": "warning", "message": "Messages were not hidden", "reason": reason}]
