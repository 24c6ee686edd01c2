"""The calls of the streams table as DynamoDB (moto) understands them, and as the fake of the other tests does."""

import base64
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from proxy.streams.table import KILLED, STATE, LostError, Piece, State, StreamsTable

from tests.streams.services import FakeObjects, FakeStreamsTable

ID, OTHER = "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAW"
BEGUN = State(ID, "o", "/chat/completions", "in_progress", 1000.0, 1030.0, 2000.0, unfinished="[1]")


class Boto:
    """As much of `Aws` as streams use, over boto3."""

    def __init__(self) -> None:
        self._client: Any = boto3.client("dynamodb", region_name="eu-central-1")  # pyright: ignore[reportUnknownMemberType]
        self._client.create_table(
            TableName="streams",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[
                {"AttributeName": "stream_id", "AttributeType": "S"},
                {"AttributeName": "event", "AttributeType": "N"},
            ],
            KeySchema=[
                {"AttributeName": "stream_id", "KeyType": "HASH"},
                {"AttributeName": "event", "KeyType": "RANGE"},
            ],
        )

    def get_item(self, arguments: dict[str, Any], _timeout: float) -> dict[str, Any]:
        return self._client.get_item(**arguments).get("Item") or {}

    def query(self, arguments: dict[str, Any], _timeout: float) -> list[dict[str, Any]]:
        return [_wire(item) for item in self._client.query(**arguments)["Items"]]

    def put_item(self, arguments: dict[str, Any], _timeout: float) -> tuple[bool, None]:
        item = dict(arguments["Item"])
        if "packed" in item:
            item["packed"] = {"B": base64.b64decode(item["packed"]["B"])}
        return self._write(self._client.put_item, arguments | {"Item": item})[0], None

    def update_item(self, arguments: dict[str, Any], _timeout: float) -> tuple[bool, dict[str, Any] | None]:
        held, answer = self._write(self._client.update_item, arguments)
        return held, answer.get("Attributes")

    def _write(self, write: Any, arguments: dict[str, Any]) -> tuple[bool, dict[str, Any]]:
        try:
            return True, write(**arguments)
        except self._client.exceptions.ConditionalCheckFailedException:
            return False, {}


def _wire(item: dict[str, Any]) -> dict[str, Any]:
    if "packed" in item:
        item["packed"] = {"B": base64.b64encode(item["packed"]["B"]).decode()}
    return item


@pytest.fixture(params=["fake", "moto"])
def table(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[StreamsTable]:
    services: Any
    if request.param == "fake":
        services = FakeStreamsTable()
        yield StreamsTable(services, "streams", FakeObjects())
        return
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        services = Boto()
        yield StreamsTable(services, "streams", FakeObjects())


def test_pieces_come_in_order_and_the_state_after_them(table: StreamsTable) -> None:
    table.begin(BEGUN)
    table.begin(BEGUN._replace(id=OTHER))
    pieces = [Piece(1, b"data: a\n\n"), Piece(9, b"data: b\n\n"), Piece(10, b"data: c\n\n")]
    for piece in (pieces[2], pieces[0], pieces[1], pieces[1]):
        table.put_piece(ID, piece, 2000.0)

    found, state, place = list[Piece](), None, 0
    while state is None:
        more, state = table.since(ID, place)
        found += more
        place = more[-1].first if more else place
    assert (found, state) == (pieces, BEGUN._replace(expires_at=2001.0))
    assert [table.piece_before(ID, event) for event in (1, 8, 9, 10, STATE - 1)] == [1, 1, 9, 10, 10]
    assert table.piece_before(OTHER, 5) == 0
    assert table.state(ID) == state
    assert table.state("0" * 26) is None


def test_a_lease_is_renewed_until_the_stream_is_given_up(table: StreamsTable) -> None:
    table.begin(BEGUN)
    renewed = table.renew(ID, 1045.5)
    assert renewed == BEGUN._replace(lease_until=1045.5, expires_at=2001.0)
    assert table.give_up(ID, 7, 1045.0) is None, "its writer is there"
    given_up = table.give_up(ID, 7, 1046.0)
    assert given_up
    assert (given_up.status, given_up.error, given_up.events, given_up.unfinished) == ("failed", KILLED, 7, "[1]")
    assert table.give_up(ID, 7, 1047.0) is None, "one reader tells"
    with pytest.raises(LostError):
        table.renew(ID, 1060.0)
    with pytest.raises(LostError):
        table.end(BEGUN._replace(status="completed"))


def test_signs_of_its_readers_stay_whatever_its_writer_does(table: StreamsTable) -> None:
    table.begin(BEGUN)
    assert table.stop(ID, 1001.5).stop_at == 1001.5
    assert table.seen(ID, 1002.5).seen_at == 1002.5
    table.begin(BEGUN)
    state = table.renew(ID, 1045.0)
    assert (state.stop_at, state.seen_at) == (1001.5, 1002.5)
    table.end(state._replace(status="stopped", events=3))
    for change in (table.stop, table.seen, table.renew):
        with pytest.raises(LostError):
            change(ID, 2000.0)
    with pytest.raises(LostError):
        table.end(state)


def test_what_is_not_there_cannot_be_renewed(table: StreamsTable) -> None:
    with pytest.raises(LostError):
        table.renew(ID, 1045.0)
    assert table.give_up(ID, 0, 5000.0) is None
    assert table.state(ID) is None
