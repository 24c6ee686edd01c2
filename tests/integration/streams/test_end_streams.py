"""Streams whose sandbox was killed are told of once, whoever reads them and whoever dies; DynamoDB is moto's."""

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from aws_lambda_powertools import Logger
from botocore.exceptions import ClientError, EndpointConnectionError
from end_streams.consumer import EndStreams
from end_streams.queue import StreamsQueue
from end_streams.table import StreamsTable as Watched
from moto import mock_aws
from openai_proxy.aws_answers import NoAnswerError
from openai_proxy.events.bus import NotPublishedError
from openai_proxy.events.incoming import from_envelope
from openai_proxy.events.streams import KILLED, signature_of, unfinished_text
from proxy.streams.table import Piece, State, StreamsTable

from tests.streams.boto import Boto
from tests.streams.services import FakeObjects

LEASE_SECONDS, LOOK_AFTER_SECONDS = 30.0, 2

ID, OTHER = "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAW"
SAMPLE = json.loads((Path(__file__).parents[3] / "events/samples/InferenceFailed.worker-killed.json").read_text())
BEGAN = 1_796_000_000.0
LEASE = BEGAN + LEASE_SECONDS


def unfinished(stream_id: str, *, is_async: bool = False) -> str:
    data = {name: value for name, value in SAMPLE["detail"]["data"].items() if name != "stream"}
    event = ("InferenceFailed", stream_id, "", stream_id, "demo-client", data)
    return unfinished_text((BEGAN, None, event), is_async=is_async)


class World:
    """A table with streams, its consumer, and what comes of it."""

    def __init__(self) -> None:
        self.boto: Any = Boto()
        self.table = StreamsTable(self.boto, "streams", FakeObjects())
        self.now = LEASE + 1
        self.published: list[Any] = []
        self.later: list[tuple[str, int]] = []
        self.fails: Callable[[], None] = lambda: None

    def begin(self, stream_id: str = ID, *, is_async: bool = False) -> State:
        state = State(stream_id, "o", "/chat/completions", "in_progress", BEGAN, LEASE, BEGAN + 1500)
        state = state._replace(unfinished=unfinished(stream_id, is_async=is_async))
        self.table.begin(state)
        return state

    def publish(self, event: Any) -> None:
        self.fails()
        self.published.append(event)

    def look(self, *streams: str, sign: Callable[[str], str] | None = None) -> list[str]:
        """The ids of the messages that must come again; each is called as its stream."""
        consumer = EndStreams(
            Watched(self.boto.client, "streams"),
            self,
            lambda stream_id, seconds: self.later.append((stream_id, seconds)),
            Logger(service="end_streams", level="CRITICAL"),
            sign,
            lambda: self.now,
        )
        records = [{"messageId": each, "body": json.dumps({"stream_id": each})} for each in streams]
        return [each["itemIdentifier"] for each in consumer({"Records": records})["batchItemFailures"]]

    def state(self, stream_id: str = ID) -> State:
        state = self.table.state(stream_id)
        assert state
        return state


def without(name: str) -> Callable[..., None]:
    """What takes a field out of what AWS has answered."""

    def take(parsed: dict[str, Any], **_: Any) -> None:
        parsed.pop(name, None)

    return take


def never(_stream_id: str, _seconds: int) -> None:
    raise AssertionError("nothing is to be looked at again")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        yield World()


def test_a_stream_that_nobody_reads_is_ended_and_told_of_once(world: World) -> None:
    world.begin()
    world.table.put_piece(ID, Piece(1, b"data: a\n\n", 8), BEGAN + 1500)
    world.table.put_piece(ID, Piece(9, b"data: b\n\n", 12), BEGAN + 1500)
    world.begin(OTHER)
    for _ in range(3):
        assert world.look(ID, OTHER, ID) == []
        world.now += 100

    assert [event.id for event in world.published] == [ID, OTHER]
    told = world.published[0]
    envelope = {"detail-type": told.detail_type, "detail": json.loads(told.to_entry("bus")["Detail"])}
    assert from_envelope(envelope) == told
    assert told.data["error"]["type"] == KILLED
    assert told.data["stream"] == {"status": "failed", "events": 12, "respond_async": False}
    assert told.data["timings"]["total"] == LEASE_SECONDS + 1
    state = world.state()
    assert (state.status, state.error, state.events, state.unfinished) == ("failed", KILLED, 12, "")
    assert world.state(OTHER).events == 0
    assert world.later == []


@pytest.mark.parametrize("past", [0, 1, 15, 29.5])
def test_who_is_still_there_is_looked_at_again_when_its_lease_is_over(world: World, past: float) -> None:
    world.begin()
    world.now = BEGAN + past
    assert world.look(ID) == []
    world.now += world.later[0][1]

    assert world.later == [(ID, int(LEASE_SECONDS - past) + LOOK_AFTER_SECONDS)]
    assert world.published == []
    assert world.look(ID) == []
    assert [event.id for event in world.published] == [ID]


def test_what_has_ended_is_no_more_looked_at(world: World) -> None:
    world.table.end(world.begin()._replace(status="completed", unfinished=""))

    assert world.look(ID, OTHER) == []
    assert (world.published, world.later) == ([], [])


def test_a_reader_that_tells_leaves_nothing_to_tell(world: World) -> None:
    world.begin()
    assert world.table.give_up(ID, 5, world.now)
    assert world.look(ID) == []
    assert world.later == [(ID, int(LEASE_SECONDS) + LOOK_AFTER_SECONDS)], "it may die before it has told"
    world.table.told(ID)
    world.now += 100

    assert world.look(ID) == []
    assert world.published == []


def test_a_reader_that_dies_before_it_has_told_leaves_it_to_the_next_look(world: World) -> None:
    world.begin()
    assert world.table.give_up(ID, 5, world.now)
    world.now += LEASE_SECONDS + LOOK_AFTER_SECONDS
    for _ in range(2):
        assert world.look(ID) == []

    assert [event.data["stream"]["events"] for event in world.published] == [5]


@pytest.mark.parametrize(
    "error",
    [
        NotPublishedError("ThrottlingException"),
        EndpointConnectionError(endpoint_url="bus"),
        ClientError({"Error": {"Code": "InternalException"}}, "PutEvents"),
        NoAnswerError("an answer of another shape"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_could_not_be_published_comes_again_alone(world: World, error: Exception) -> None:
    world.begin()
    world.begin(OTHER)
    fails = iter([error])

    def fail() -> None:
        for each in fails:
            raise each

    world.fails = fail
    assert world.look(ID, OTHER) == [ID]
    assert [event.id for event in world.published] == [OTHER]
    assert world.look(ID) == [], "whoever was to tell has a lease to do so"
    world.now += world.later[-1][1]
    assert world.look(ID) == []
    assert [event.id for event in world.published] == [OTHER, ID]


def test_a_table_that_does_not_answer_lets_the_message_come_again(world: World) -> None:
    world.begin()
    world.boto.client.meta.events.register("after-call.dynamodb.GetItem", without("ConsumedCapacity"))

    assert world.look(ID) == [ID]
    assert world.published == []


@pytest.mark.parametrize("is_async", [False, True])
def test_a_webhook_is_told_of_who_did_not_wait(world: World, *, is_async: bool) -> None:
    world.begin(is_async=is_async)
    world.look(ID, sign=lambda text: signature_of("secret", text))

    (event,) = world.published
    expected = signature_of("secret", f"{ID}.{event.timestamp}.failed") if is_async else None
    assert event.data["stream"].get("signature") == expected


def test_a_webhook_whose_secret_cannot_be_had_is_not_told_and_everybody_else_is(world: World) -> None:
    world.begin(is_async=True)
    world.look(ID, sign=lambda _: "")

    (event,) = world.published
    assert "signature" not in event.data["stream"]


@pytest.mark.parametrize("answer", ["MessageId", ""])
def test_a_look_later_is_a_message_that_nobody_sees_before(world: World, answer: str) -> None:
    sqs: Any = boto3.client("sqs", region_name="eu-central-1")  # pyright: ignore[reportUnknownMemberType]
    url = sqs.create_queue(QueueName="streams")["QueueUrl"]
    sqs.meta.events.register("after-call.sqs.SendMessage", without("" if answer else "MessageId"))
    queue = StreamsQueue(sqs, url)
    if not answer:
        with pytest.raises(NoAnswerError):
            queue.look_later(ID, 32)
        return
    queue.look_later(ID, 32)
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]

    assert (counts["ApproximateNumberOfMessages"], counts["ApproximateNumberOfMessagesDelayed"]) == ("0", "1")


def test_what_cannot_be_read_takes_nobody_with_it(world: World) -> None:
    for stream_id, text in zip(("a", "b", "c", "d"), ("[]", "nothing", "[1, null, [], true]", "{}"), strict=True):
        world.table.begin(world.begin(ID)._replace(id=stream_id, unfinished=text))
    bodies = ["", "[]", "{}", '{"stream_id": 5}', '{"stream_id": ""}', "[" * 100_000, json.dumps({"stream_id": ID})]
    consumer = EndStreams(
        Watched(world.boto.client, "streams"), world, never, Logger(level="CRITICAL"), None, lambda: world.now
    )
    records = [{"messageId": str(place), "body": body} for place, body in enumerate(bodies)]
    again = consumer({"Records": records})["batchItemFailures"]

    assert [each["itemIdentifier"] for each in again] == [str(place) for place in range(len(bodies) - 1)]
    assert world.look("a", "b", "c", "d") == [], "there is nothing that could be told of them, ever"
    assert [event.id for event in world.published] == [ID]
    assert all(world.state(stream_id).unfinished == "" for stream_id in itertools.chain("abcd", [ID]))
