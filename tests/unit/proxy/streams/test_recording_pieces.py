"""What of a stream goes into which piece, in how many writes, and what the log says when it cannot be written."""

import json
from collections import deque
from threading import Event
from typing import Any

import pytest
from proxy.aws.client import AwsError
from proxy.errors import ProxyError
from proxy.streams.recording import Recording, Times, Watched
from proxy.streams.table import LARGEST_PIECE, Piece, State

NOW = 1_000.0
FAILURE = AwsError("dynamodb:PutItem", "ThrottlingException", "busy", status=400)
LOG = {"id": "id", "reason": str(FAILURE)}


class Table:
    """Keeps pieces; the calls whose places are in `failing` fail, all of them where that is None."""

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.states: list[State] = []
        self.failing: set[int] | None = set()
        self.calls = 0

    def _called(self) -> None:
        self.calls += 1
        if self.failing is None or self.calls in self.failing:
            raise FAILURE

    def have_looked_at(self, stream_id: str) -> None:
        assert stream_id == "id"

    def begin(self, state: State) -> None:
        self._called()
        self.states.append(state)

    def put_piece(self, stream_id: str, piece: Piece, expires_at: float) -> None:
        assert (stream_id, expires_at) == ("id", NOW + 1500)
        self._called()
        self.pieces.append(piece)

    def state(self, stream_id: str) -> State | None:
        return self.states[-1]

    def end(self, state: State, piece: Piece | None, *, is_begun: bool) -> None:
        self._called()
        assert is_begun
        self.states.append(state)
        self.pieces += [piece] if piece else []


class World:
    def __init__(self) -> None:
        self.table, self.slept, self.stopped = Table(), list[float](), list[ProxyError]()
        table: Any = self.table
        state = State("id", "owner", "/chat/completions", created_at=NOW, expires_at=NOW + 1500)
        times = Times(lambda: NOW, self.slept.append)
        self.recording = Recording(table, state, 600, Watched(self.stopped.append, lambda: False), times)
        self.recording.tick()

    def add(self, *sizes: int) -> None:
        for size in sizes:
            number = self.recording._next + len(self.recording._came)
            self.recording.add(b"x" * size, number)

    def ends(self, error: str = "") -> State:
        self.recording.end("failed" if error else "completed", error)
        self.recording.write_rest()
        return self.table.states[-1]


@pytest.mark.parametrize(
    ("sizes", "pieces"),
    [
        ([1, 2, 3], [6]),
        ([LARGEST_PIECE - 1, 1], [LARGEST_PIECE]),
        ([LARGEST_PIECE - 1, 2], [LARGEST_PIECE - 1, 2]),
        ([1, LARGEST_PIECE], [1, LARGEST_PIECE]),
        ([LARGEST_PIECE + 5, 1], [LARGEST_PIECE + 5, 1]),
        ([LARGEST_PIECE // 2] * 5, [LARGEST_PIECE, LARGEST_PIECE, LARGEST_PIECE // 2]),
    ],
    ids=["small", "to the byte", "a byte more", "after a small one", "a large event", "many"],
)
@pytest.mark.parametrize("ticks", [0, 9])
def test_a_piece_has_as_much_as_it_may_hold_and_each_is_one_write(
    sizes: list[int], pieces: list[int], ticks: int
) -> None:
    world = World()
    world.add(*sizes)
    for _ in range(ticks):
        world.recording.tick()
    ended = world.ends()
    assert [len(piece.events) for piece in world.table.pieces] == pieces
    firsts = [piece.first for piece in world.table.pieces]
    assert (firsts[0], sorted(set(firsts))) == (1, firsts)
    assert (ended.status, ended.error, ended.events, ended.expires_at) == ("completed", "", len(sizes), NOW + 600)
    assert [piece.last for piece in world.table.pieces] == [first - 1 for first in (*firsts[1:], len(sizes) + 1)]
    together = 0 if ticks else 1
    assert world.recording.writes == world.table.calls == 2 + len(pieces) - together, "the last goes with the end"


def test_a_write_that_fails_is_made_again_after_longer_pauses_and_each_is_counted() -> None:
    world = World()
    world.add(1, 1)
    world.table.failing = {2, 3, 4}
    assert world.ends().events == 2
    assert world.slept == [0.0, 0.1, 0.2, 0.4]
    assert (world.recording.writes, world.table.pieces) == (5, [Piece(1, b"xx", 2)])


def test_what_cannot_be_written_is_told_as_lost_with_what_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    world = World()
    world.add(1)
    world.recording.tick()
    world.add(1)
    world.table.failing = set(range(3, 8))
    ended = world.ends()
    assert (ended.status, ended.error, ended.events) == ("failed", "stream_not_kept", 1)
    [line] = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    message = "A resumable stream is no longer written down"
    assert {name: line[name] for name in ("level", "message", *LOG)} == {"level": "ERROR", "message": message, **LOG}


def test_an_end_that_cannot_be_written_is_an_error_in_the_log_and_nothing_is_raised(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World()
    world.table.failing = None
    world.ends("client_absent")
    [line] = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    message = "The end of a resumable stream was not written down"
    assert {name: line[name] for name in ("level", "message", *LOG)} == {"level": "ERROR", "message": message, **LOG}
    assert world.recording.is_lost
    assert world.slept == [0.0, 0.1, 0.2, 0.4, 0.8]


def test_a_tick_that_fails_is_told_of_at_the_end_and_the_next_one_writes_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = World()
    world.add(1)
    world.table.failing = {2}
    world.recording.tick()
    world.add(1)
    for _ in range(2):
        world.recording.tick()
    assert world.table.pieces == [Piece(1, b"x", 1), Piece(2, b"x", 2)]
    assert capsys.readouterr().out == ""
    world.ends()
    [line] = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    message = "Calls for a resumable stream failed, and were made again"
    assert {name: line[name] for name in ("level", "message", *LOG)} == {"level": "WARN", "message": message, **LOG}
    assert line["times"] == 1
    assert isinstance(world.recording._came, deque)


def test_a_writer_that_is_woken_by_the_end_knows_how_it_ended() -> None:
    class Woken(Event):
        def set(self) -> None:
            super().set()
            world.recording.write_rest()

    world = World()
    world.add(1)
    world.recording.ended = Woken()
    world.recording.end("stopped", "client_absent")
    assert [(state.status, state.error, state.events) for state in world.table.states[1:]] == [
        ("stopped", "client_absent", 1)
    ]
