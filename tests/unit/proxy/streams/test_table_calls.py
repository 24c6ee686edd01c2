"""What the table of streams is asked, whole: every call with its conditions and timeout, and what its answers are."""

import base64
import json
import random
import zlib
from typing import Any

import pytest
from openai_proxy.dynamodb import to_item
from proxy.streams.table import LARGEST_ENDING, LARGEST_ITEM, LostError, Piece, State, StreamsTable

NOW = 1_000.25
STATE_KEY = {"stream_id": {"S": "id"}, "event": {"N": "999999999999"}}
RUNNING = {":running": {"S": "in_progress"}}
STATE = State("id", "owner", "/chat/completions", "in_progress", NOW, NOW + 30, NOW + 1500)
ITEM: dict[str, Any] = {
    **STATE_KEY,
    **to_item({"owner": "owner", "path": "/chat/completions", "status": "in_progress"}),
    **to_item({"created_at": 1_000_250, "lease_until": 1_030_250, "expires_at": 2501}),
}


class Aws:
    """Keeps what it is asked, and answers with `answer`."""

    def __init__(self, answer: Any) -> None:
        self.asked: list[tuple[str, Any]] = []
        self._answer = answer

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self.asked.append((name, arguments))
            return self._answer

        return call


class Objects:
    def __init__(self) -> None:
        self.put_ones: list[tuple[str, bytes, float]] = []
        self.asked: list[tuple[str, float, int]] = []

    def put(self, key: str, body: bytes, timeout: float) -> None:
        self.put_ones.append((key, body, timeout))

    def get(self, key: str, timeout: float, largest: int) -> bytes:
        self.asked.append((key, timeout, largest))
        return zlib.compress(b"large")


def table(answer: Any, queue: str = "") -> tuple[Any, Aws, Objects]:
    aws, objects = Aws(answer), Objects()
    services: Any = aws
    return StreamsTable(services, "streams", objects, 2.5, queue), aws, objects


def test_a_stream_begins_once() -> None:
    streams, aws, _ = table((True, None))
    streams.begin(STATE)
    request = {"TableName": "streams", "Item": ITEM, "ConditionExpression": "attribute_not_exists(stream_id)"}
    assert aws.asked == [("put_item", (request, 2.5))]


@pytest.mark.parametrize("held", [True, False])
def test_a_stream_ends_whole_and_only_while_it_runs(held: bool) -> None:
    streams, aws, _ = table((held, None))
    ended = STATE._replace(
        status="failed", events=7, error="killed", stop_at=NOW, seen_at=NOW + 1, on_disconnect="stop"
    )
    if held:
        streams.end(ended)
    else:
        with pytest.raises(LostError):
            streams.end(ended)
    more = {"status": "failed", "events": 7, "error": "killed", "on_disconnect": "stop"}
    request = {
        "TableName": "streams",
        "Item": {**ITEM, **to_item({**more, "stop_at": 1_000_250, "seen_at": 1_001_250})},
        "ConditionExpression": "#status = :running",
        "ExpressionAttributeNames": {"#status": "status"},
        "ExpressionAttributeValues": RUNNING,
    }
    assert aws.asked == [("put_item", (request, 2.5))]


def packed_to(size: int) -> bytes:
    """What is so many bytes long when it is packed."""
    noise = random.Random(1).randbytes(size)
    return noise[: next(each for each in range(size, 0, -1) if len(zlib.compress(noise[:each], 1)) == size)]


@pytest.mark.parametrize("is_begun", [True, False])
@pytest.mark.parametrize(("more", "is_beside"), [(0, False), (1, True)])
def test_a_small_last_piece_is_in_the_end_and_a_larger_one_before_it(
    is_begun: bool, more: int, is_beside: bool
) -> None:
    events = packed_to(LARGEST_ENDING + more)
    streams, aws, _ = table((True, None))
    streams.end(STATE, Piece(4, events, 6), is_begun=is_begun)
    packed = {"packed": {"B": base64.b64encode(zlib.compress(events, 1)).decode()}}
    piece = to_item({"stream_id": "id", "event": 4, "last": 6, "expires_at": 2501}) | packed
    request = {
        "TableName": "streams",
        "Item": ITEM if is_beside else ITEM | to_item({"first": 4}) | packed,
        "ConditionExpression": f"{'' if is_begun else 'attribute_not_exists(stream_id) OR '}#status = :running",
        "ExpressionAttributeNames": {"#status": "status"},
        "ExpressionAttributeValues": RUNNING,
    }
    before = [("put_item", ({"TableName": "streams", "Item": piece}, 2.5))]
    assert aws.asked == [*(before if is_beside else []), ("put_item", (request, 2.5))]


@pytest.mark.parametrize(("first", "is_new"), [(3, False), (4, False), (5, True), (9, True)])
def test_a_piece_in_the_end_is_one_unless_it_was_written_before(first: int, is_new: bool) -> None:
    ended = ITEM | to_item({"first": first}) | {"packed": {"B": base64.b64encode(zlib.compress(b"z")).decode()}}
    plain = {"event": {"N": "4"}, "last": {"N": "4"}, "packed": ended["packed"]}
    last = [Piece(first, b"z")] if is_new else []
    state = STATE._replace(expires_at=2501.0)
    assert table([plain, ended])[0].since("id", 3) == ([Piece(4, b"z", 4), *last], state)
    assert table([ended])[0].since("id", 4) == (last, state)


@pytest.mark.parametrize("queue", ["", "https://queue"])
def test_somebody_is_to_look_when_the_first_lease_is_over(queue: str) -> None:
    streams, aws, _ = table(None, queue)
    streams.have_looked_at("id")
    assert [(name, asked[0], json.loads(asked[1]), *asked[2:]) for name, asked in aws.asked] == (
        [("send_message", queue, {"stream_id": "id"}, 32, 2.5)] if queue else []
    )


@pytest.mark.parametrize(("more", "is_object"), [(0, False), (1, True)])
def test_a_piece_is_packed_and_a_large_one_lies_in_the_bucket(more: int, is_object: bool) -> None:
    events = packed_to(LARGEST_ITEM + more)
    packed = zlib.compress(events, 1)
    assert len(packed) == LARGEST_ITEM + more
    streams, aws, objects = table((True, None))
    streams.put_piece("id", Piece(3, events, 9), NOW)
    what = {"object": {"S": "streams/id/3"}} if is_object else {"packed": {"B": base64.b64encode(packed).decode()}}
    item = {**to_item({"stream_id": "id", "event": 3, "last": 9, "expires_at": 1001}), **what}
    assert aws.asked == [("put_item", ({"TableName": "streams", "Item": item}, 2.5))]
    assert objects.put_ones == ([("streams/id/3", packed, 2.5)] if is_object else [])


UPDATES: list[tuple[str, tuple[Any, ...], dict[str, Any], str, dict[str, Any]]] = [
    ("renew", (NOW,), {"lease_until": 1_000_250}, "#status = :running", RUNNING),
    ("stop", (NOW,), {"stop_at": 1_000_250}, "#status = :running", RUNNING),
    ("seen", (NOW,), {"seen_at": 1_000_250}, "#status = :running", RUNNING),
    ("told", (), {"unfinished": ""}, "unfinished > :none", {":none": {"S": ""}}),
    (
        *("give_up", (7, NOW)),
        {"status": "failed", "error": "worker_killed", "events": 7, "lease_until": 1_030_250},
        "unfinished > :none AND lease_until < :now",
        {":none": {"S": ""}, ":now": {"N": "1000250"}},
    ),
]


@pytest.mark.parametrize(("call", "arguments", "changes", "condition", "values"), UPDATES, ids=[u[0] for u in UPDATES])
@pytest.mark.parametrize("held", [True, False])
def test_a_state_is_changed_whole_on_its_condition(
    call: str, arguments: Any, changes: dict[str, Any], condition: str, values: dict[str, Any], held: bool
) -> None:
    streams, aws, _ = table((held, ITEM))
    found: Any = None
    try:
        found = getattr(streams, call)("id", *arguments)
    except LostError:
        found = "lost"
    without = None if call in ("told", "give_up") else "lost"
    assert found == ((None if call == "told" else STATE._replace(expires_at=2501.0)) if held else without)
    names = {*changes, "status"} if "#status" in condition else {*changes}
    request = {
        "TableName": "streams",
        "Key": STATE_KEY,
        "UpdateExpression": "SET " + ", ".join(f"#{name} = :new_{name}" for name in changes),
        "ConditionExpression": condition,
        "ExpressionAttributeNames": {f"#{name}": name for name in names},
        "ExpressionAttributeValues": {**values, **to_item({f":new_{name}": value for name, value in changes.items()})},
        "ReturnValues": "ALL_NEW",
    }
    assert aws.asked == [("update_item", (request, 2.5))]


def test_a_state_is_read_as_it_was_written() -> None:
    streams, aws, _ = table(ITEM)
    assert streams.state("id") == STATE._replace(expires_at=2501.0)
    request = {"TableName": "streams", "Key": STATE_KEY, "ConsistentRead": True}
    assert aws.asked == [("get_item", (request, 2.5))]
    whole = STATE._replace(events=7, error="e", stop_at=1.5, seen_at=2.5, on_disconnect="stop", unfinished="[]")
    more = {"events": 7, "error": "e", "stop_at": 1500, "seen_at": 2500, "on_disconnect": "stop", "unfinished": "[]"}
    assert table({**ITEM, **to_item(more)})[0].state("id") == whole._replace(expires_at=2501.0)


@pytest.mark.parametrize(
    "lacks", ["stream_id", "event", "owner", "path", "status", "created_at", "lease_until", "expires_at"]
)
def test_what_is_no_state_is_none(lacks: str) -> None:
    assert table({name: value for name, value in ITEM.items() if name != lacks})[0].state("id") is None
    if "_" in lacks and lacks != "stream_id":
        assert table({**ITEM, lacks: {"S": "soon"}})[0].state("id") is None
    assert table({**ITEM, "event": {"S": "1"}})[0].state("id") is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("created_at", {"S": "soon"}),
        ("lease_until", {"L": []}),
        ("expires_at", {"NULL": True}),
        ("events", {"N": "Infinity"}),
        ("events", {"N": "NaN"}),
        ("event", None),
        ("event", {"N": "x"}),
    ],
)
def test_an_item_with_a_field_that_cannot_be_read_is_no_state(name: str, value: Any) -> None:
    assert table({**ITEM, name: value})[0].state("id") is None


def test_pieces_are_asked_for_in_a_row_with_the_state_behind_them() -> None:
    plain = {"event": {"N": "4"}, "last": {"N": "6"}, "packed": {"B": base64.b64encode(zlib.compress(b"a")).decode()}}
    large = {"event": {"N": "7"}, "last": {"N": "7"}, "object": {"S": "streams/id/7"}}
    streams, aws, objects = table([plain, large, ITEM])
    assert streams.since("id", 3) == ([Piece(4, b"a", 6), Piece(7, b"large", 7)], STATE._replace(expires_at=2501.0))
    asked = {
        "TableName": "streams",
        "ConsistentRead": True,
        "KeyConditionExpression": "stream_id = :id AND #event BETWEEN :first AND :last",
        "ExpressionAttributeNames": {"#event": "event"},
    }
    between = {":id": {"S": "id"}, ":first": {"N": "4"}, ":last": {"N": "999999999999"}}
    assert aws.asked == [("query", ({**asked, "ExpressionAttributeValues": between}, 2.5))]
    assert objects.asked == [("streams/id/7", 2.5, 32 * 1024 * 1024)]
    assert table([plain])[0].since("id", 3) == ([Piece(4, b"a", 6)], None)
    assert table([])[0].since("id", 3) == ([], None)


@pytest.mark.parametrize(("found", "first"), [([{"event": {"N": "4"}}], 4), ([], 0), ([{"event": {"S": "x"}}], 0)])
def test_where_the_piece_of_an_event_begins_is_asked_for_backwards(found: Any, first: int) -> None:
    streams, aws, _ = table(found)
    assert streams.piece_before("id", 5) == first
    [(name, (request, timeout))] = aws.asked
    more = {"ScanIndexForward": False, "Limit": 1, "ProjectionExpression": "#event"}
    assert (name, timeout, {key: request[key] for key in more}) == ("query", 2.5, more)
    assert request["ExpressionAttributeValues"] == {":id": {"S": "id"}, ":first": {"N": "1"}, ":last": {"N": "5"}}
