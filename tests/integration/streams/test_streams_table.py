"""The calls of the streams table as DynamoDB (moto) understands them, and as the fake of the other tests does."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from moto import mock_aws
from openai_proxy.events.streams import LEASE_SECONDS
from proxy.streams.table import KILLED, STATE, LostError, Piece, State, StreamsTable

from tests.streams.boto import Boto
from tests.streams.services import FakeObjects, FakeStreamsTable

ID, OTHER = "01ARZ3NDEKTSV4RRFFQ69G5FAV", "01ARZ3NDEKTSV4RRFFQ69G5FAW"
BEGUN = State(ID, "o", "/chat/completions", "in_progress", 1000.0, 1030.0, 2000.0, unfinished="[1]")


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
    pieces = [Piece(1, b"data: a\n\n", 8), Piece(9, b"data: b\n\n", 9), Piece(10, b"data: c\n\n", 30)]
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
    again = table.give_up(ID, 7, 1046.0 + LEASE_SECONDS + 1)
    assert again, "who was to tell has died"
    table.told(ID)
    table.told(ID)
    assert table.give_up(ID, 7, 9999.0) is None
    state = table.state(ID)
    assert state
    assert (state.status, state.error, state.events, state.unfinished) == ("failed", KILLED, 7, "")
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


@pytest.mark.parametrize("size", [1, 16 * 1024], ids=["small", "large"])
def test_a_last_piece_is_read_like_any_other(table: StreamsTable, size: int) -> None:
    """A small one lies in the state itself."""
    noise = random.Random(1).randbytes(size).hex()
    piece = Piece(4, f"data: {noise}\n\n".encode(), 6)
    ended = BEGUN._replace(status="completed", unfinished="", events=6)
    table.end(ended, piece, is_begun=False)
    with pytest.raises(LostError):
        table.end(ended._replace(events=7), piece, is_begun=False)

    found, state = list[Piece](), None
    while state is None:
        more, state = table.since(ID, found[-1].first if found else 0)
        found += more
    assert [(each.first, each.events) for each in found] == [(4, piece.events)]
    assert table.since(ID, 4) == ([], state)
    assert (state.status, state.events) == ("completed", 6)


def test_the_end_of_what_was_taken_away_is_not_written(table: StreamsTable) -> None:
    with pytest.raises(LostError):
        table.end(BEGUN._replace(status="completed"), Piece(1, b"data: a\n\n", 1))
    assert table.state(ID) is None
