"""end_streams: the moments at which a stream is ended or looked at again, its calls and its lines, whole."""

import json
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError
from end_streams.consumer import EndStreams, stream_in
from end_streams.table import Standing, StreamsTable
from openai_proxy.aws_answers import NoAnswerError
from openai_proxy.dynamodb import to_item
from openai_proxy.events.incoming import MalformedEventError
from openai_proxy.events.streams import KILLED, unfinished_text

from tests.tables import Log, failures

STATE = 999_999_999_999

NOW = 1_796_000_100.25
TRACE = "1-00000001-000000000000000000000000"
DATA = {"timings": {"total": 0.0, "proxy": 0.5}}
UNFINISHED = unfinished_text((NOW - 60, None, ("InferenceFailed", "S", "", "own", "team-a", DATA)), is_async=True)
STANDING = Standing(NOW - 1, UNFINISHED, is_over=False, events=5)
GONE = Standing(NOW + 10, UNFINISHED, is_over=False, events=5)


class World:
    """A table with one stream, and what is made of it."""

    def __init__(self, standing: Standing | None, *, is_taken: bool = True) -> None:
        self.stands, self.is_taken, self.log = standing, is_taken, Log()
        self.done: list[tuple[Any, ...]] = []
        parts: Any = self
        self.consumer = EndStreams(
            parts, parts, parts.look_later, parts.log, lambda text: f"signed {text}", lambda: NOW
        )

    def standing(self, stream_id: str) -> Standing | None:
        if stream_id == "down":
            raise NoAnswerError("nothing")
        return self.stands

    def last_event(self, stream_id: str) -> int:
        self.done.append(("last event", stream_id))
        return 9

    def take_over(self, stream_id: str, events: int, now: float) -> bool:
        self.done.append(("take over", stream_id, events, now))
        return self.is_taken

    def told(self, stream_id: str) -> None:
        self.done.append(("told", stream_id))

    def publish(self, event: Any) -> None:
        self.done.append(("publish", event.id, event.data))

    def look_later(self, stream_id: str, seconds: int) -> None:
        self.done.append(("later", stream_id, seconds))

    def look(self, *streams: str) -> list[str]:
        trace = {"attributes": {"AWSTraceHeader": f"Root={TRACE};Sampled=1"}}
        records = [{"messageId": each, "body": json.dumps({"stream_id": each}), **trace} for each in streams]
        return failures(self.consumer({"Records": records}))


def line(messages: int, ended: int, failed: int) -> dict[str, Any]:
    said = {
        "level": "info",
        "message": "A batch of streams was looked at",
        "messages": messages,
        "ended": ended,
        "failed": failed,
    }
    return {**said, "traces": [TRACE]}


@pytest.mark.parametrize(("is_over", "events"), [(False, 9), (True, 5)])
def test_a_stream_without_its_writer_is_taken_over_told_and_remembered(is_over: bool, events: int) -> None:
    world = World(STANDING._replace(is_over=is_over))
    assert world.look("S") == []
    stream = {"status": "failed", "events": events, "respond_async": True}
    stream["signature"] = "signed S.2026-11-30T00:55:00.250Z.failed"
    told = {"timings": {"total": 60.0, "proxy": 0.5, "upstream": 59.5}, "stream": stream}
    asked = [] if is_over else [("last event", "S")]
    assert world.done == [*asked, ("take over", "S", events, NOW), ("publish", "S", told), ("told", "S")]
    ended = {"level": "warning", "message": "A stream was ended for its sandbox, which was killed"}
    assert world.log.lines == [{**ended, "id": "S", "events": events}, line(1, 1, 0)]


@pytest.mark.parametrize(
    ("lease", "seconds"),
    [(NOW, 32), (NOW + 0.9, 2), (NOW + 1, 3), (NOW + 29.5, 31), (NOW + 30, 32), (NOW + 1000, 32)],
)
def test_who_has_promised_to_be_there_is_looked_at_when_that_is_over_and_nothing_is_logged(
    lease: float, seconds: int
) -> None:
    world = World(STANDING._replace(lease_until=lease))
    assert world.look("S") == []
    assert (world.done, world.log.lines) == ([("later", "S", seconds)], [])


def test_one_that_somebody_else_has_taken_over_is_looked_at_after_their_lease() -> None:
    world = World(STANDING, is_taken=False)
    assert world.look("S") == []
    assert world.done[1:] == [("take over", "S", 9, NOW), ("later", "S", 32)]
    assert world.log.lines == []


def test_where_nothing_is_to_be_told_nothing_is_done() -> None:
    world = World(None)
    assert (world.look("S", "T"), world.done, world.log.lines) == ([], [], [])


@pytest.mark.parametrize("text", ["no JSON", "[1, null]", "[1, null, 5, true]", '[1,null,[1,"S","","","",{}],true]'])
def test_what_can_never_be_told_of_is_remembered_as_told(text: str) -> None:
    world = World(STANDING._replace(unfinished=text))
    assert world.look("S") == []
    assert [done[0] for done in world.done] == ["last event", "take over", "told"]
    failed = {"level": "exception", "message": "A stream cannot be told of", "id": "S"}
    assert world.log.lines == [failed, line(1, 1, 0)]


BODIES = ["", "[]", "{}", '{"stream_id": 5}', '{"stream_id": ""}', "[" * 100_000]


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_what_names_no_stream_is_said_to_name_none(body: str) -> None:
    with pytest.raises(MalformedEventError, match="the message names no stream"):
        stream_in(body)


def test_a_table_that_fails_and_a_message_without_a_stream_fail_alone() -> None:
    world = World(GONE)
    assert world.look("", "down", "S") == ["", "down"]
    refused, failed, batch = world.log.lines
    assert refused["reason"] == "the message names no stream"
    assert failed == {"level": "exception", "message": "A stream was not looked at", "id": "down"}
    assert batch == line(2, 0, 2)


# --------------------------------------------------------------------------------------------------------- its calls

PROOF = {"ReturnConsumedCapacity": "TOTAL"}
USED = {"ConsumedCapacity": {"TableName": "streams"}}
KEY = to_item({"stream_id": "S", "event": STATE})


class Client:
    """DynamoDB that answers what it is told."""

    def __init__(self, answer: Mapping[str, Any] | Exception) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._answer = answer

    def __getattr__(self, name: str) -> Callable[..., Mapping[str, Any]]:
        def call(**asked: Any) -> Mapping[str, Any]:
            self.calls.append((name, asked))
            if isinstance(self._answer, Exception):
                raise self._answer
            return self._answer

        return call


def table(answer: Mapping[str, Any] | Exception) -> tuple[StreamsTable, Client]:
    client = Client(answer)
    return StreamsTable(cast("Any", client), "streams"), client


@pytest.mark.parametrize(
    ("item", "standing"),
    [
        ({}, None),
        ({"status": "in_progress", "lease_until": 1500}, None),
        ({"status": "completed", "lease_until": 1500, "unfinished": ""}, None),
        ({"status": "in_progress", "lease_until": 1500, "unfinished": "[]"}, Standing(1.5, "[]", False, 0)),
        ({"status": "failed", "lease_until": 1, "unfinished": "[]", "events": 7}, Standing(0.001, "[]", True, 7)),
    ],
)
def test_how_a_stream_stands_is_asked_without_its_content(item: dict[str, Any], standing: Standing | None) -> None:
    streams, client = table({**USED, **({"Item": to_item(item)} if item else {})})
    assert streams.standing("S") == standing
    names = {"#status": "status", "#events": "events"}
    wanted = {"ProjectionExpression": "#status, lease_until, unfinished, #events", "ExpressionAttributeNames": names}
    assert client.calls == [("get_item", {"TableName": "streams", "Key": KEY, **wanted, **PROOF})]


LAST: list[tuple[list[dict[str, Any]], int]] = [([], 0), ([{}], 0), ([{"last": 7}], 7)]


@pytest.mark.parametrize(("items", "last"), LAST)
def test_the_last_event_is_that_of_the_last_piece(items: list[dict[str, Any]], last: int) -> None:
    streams, client = table({**USED, "Items": [to_item(item) for item in items]})
    assert streams.last_event("S") == last
    asked = {
        "TableName": "streams",
        "KeyConditionExpression": "stream_id = :id AND #event < :state",
        "ExpressionAttributeNames": {"#event": "event", "#last": "last"},
        "ExpressionAttributeValues": to_item({":id": "S", ":state": STATE}),
        "ProjectionExpression": "#last",
        "Select": "SPECIFIC_ATTRIBUTES",
        "ScanIndexForward": False,
        "Limit": 1,
    }
    assert client.calls == [("query", {**asked, **PROOF})]


OTHERS_WERE_FIRST = ClientError({"Error": {"Code": "ConditionalCheckFailedException"}}, "UpdateItem")


@pytest.mark.parametrize("is_first", [True, False])
def test_who_takes_over_has_thirty_seconds_to_tell(is_first: bool) -> None:
    streams, client = table(USED if is_first else OTHERS_WERE_FIRST)
    assert streams.take_over("S", 7, NOW) is is_first
    values = {":status": "failed", ":error": KILLED, ":events": 7}
    moments = {":lease": int((NOW + 30) * 1000), ":none": "", ":now": int(NOW * 1000)}
    asked = {
        "TableName": "streams",
        "Key": KEY,
        "UpdateExpression": "SET #status = :status, #error = :error, #events = :events, lease_until = :lease",
        "ConditionExpression": "unfinished > :none AND lease_until < :now",
        "ExpressionAttributeValues": to_item(values | moments),
        "ExpressionAttributeNames": {"#status": "status", "#events": "events", "#error": "error"},
    }
    assert client.calls == [("update_item", {**asked, **PROOF})]


@pytest.mark.parametrize("answer", [USED, OTHERS_WERE_FIRST])
def test_what_was_told_is_remembered_whoever_has_told_it(answer: Any) -> None:
    streams, client = table(answer)
    streams.told("S")
    asked = {
        "TableName": "streams",
        "Key": KEY,
        "UpdateExpression": "SET unfinished = :none",
        "ConditionExpression": "unfinished > :none",
        "ExpressionAttributeValues": to_item({":none": ""}),
    }
    assert client.calls == [("update_item", {**asked, **PROOF})]


CALLS: list[Callable[[StreamsTable], object]] = [
    lambda streams: streams.standing("S"),
    lambda streams: streams.last_event("S"),
    lambda streams: streams.take_over("S", 7, NOW),
    lambda streams: streams.told("S"),
]


@pytest.mark.parametrize("call", CALLS, ids=["standing", "last event", "take over", "told"])
def test_what_is_no_answer_of_dynamodb_raises(call: Callable[[StreamsTable], object]) -> None:
    with pytest.raises(NoAnswerError):
        call(table({})[0])
    with pytest.raises(ClientError, match="AccessDenied"):
        call(table(ClientError({"Error": {"Code": "AccessDenied"}}, "Any"))[0])
