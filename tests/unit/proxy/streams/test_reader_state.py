"""How a reader finds a stream: whose it must be, how long one that is not there yet is waited for, and what fails."""

from typing import Any

import pytest
from proxy.aws.client import UNREACHABLE, AwsError
from proxy.errors import ProxyError
from proxy.streams.numbering import KEEP_ALIVE
from proxy.streams.reading import Reader
from proxy.streams.recording import Times
from proxy.streams.table import Piece, State

NOW = 1_000.0
OWN = State("id", "owner", "/chat/completions", expires_at=NOW + 60)
BUSY, REFUSED = AwsError("dynamodb:GetItem", UNREACHABLE, "away"), AwsError("x", "AccessDenied", "no", status=400)


class World:
    """A table that answers with these states and errors, in turn, and with the last of them from then on."""

    def __init__(self, *answers: State | AwsError | None) -> None:
        self.now, self.slept, self._answers = NOW, list[float](), list(answers)
        table: Any = self
        self.reader = Reader(table, lambda _: True, lambda _state, _latest: b"", Times(lambda: self.now, self._sleep))

    def _sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += seconds

    def state(self, stream_id: str) -> State | None:
        assert stream_id == "id"
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, AwsError):
            raise answer
        return answer

    def found(self, owner: str = "owner", made_at: float = NOW) -> State | tuple[int, str]:
        try:
            return self.reader.state_of("id", owner, made_at)
        except ProxyError as error:
            return error.status, error.code


@pytest.mark.parametrize("fails", range(8))
def test_what_fails_for_a_moment_is_asked_again_after_growing_pauses(fails: int) -> None:
    world = World(*[BUSY] * fails, OWN)
    assert world.found() == (OWN if fails < 6 else (503, "streams_unavailable"))
    assert world.slept == [0.05, 0.1, 0.2, 0.4, 0.8][:fails]


def test_what_fails_for_good_is_not_asked_again() -> None:
    world = World(REFUSED, OWN)
    assert (world.found(), world.slept) == ((503, "streams_unavailable"), [])


@pytest.mark.parametrize(
    ("state", "is_found"),
    [
        (OWN, True),
        (OWN._replace(owner="other"), False),
        (OWN._replace(owner=""), False),
        (OWN._replace(expires_at=NOW), False),
        (OWN._replace(expires_at=NOW + 0.1), True),
    ],
)
def test_only_its_owner_finds_a_stream_and_only_while_it_is_kept(state: State, is_found: bool) -> None:
    world = World(state)
    assert world.found() == (state if is_found else (404, "stream_not_found"))
    assert world.slept == [], "nobody waits for what is another's"


def test_one_whose_first_write_is_on_its_way_is_waited_for_and_nothing_of_before_or_of_the_future() -> None:
    world = World(None, None, OWN)
    assert (world.found(), world.slept) == (OWN, [0.5, 0.5])
    never = World(None)
    assert never.found() == (404, "stream_not_found")
    assert set(never.slept) == {0.5}
    for made_at in (NOW - len(never.slept) * 0.5, NOW + 0.001):
        world = World(None)
        assert (world.found(made_at=made_at), world.slept) == ((404, "stream_not_found"), [])


class Quiet(World):
    """A stream whose writer is there and says something at these moments alone."""

    def __init__(self, *moments: float) -> None:
        super().__init__(OWN._replace(lease_until=NOW + 900))
        self.moments, self.asked = list(moments), list[tuple[float, int]]()

    def since(self, stream_id: str, event: int) -> tuple[list[Piece], State]:
        assert stream_id == "id"
        self.asked.append((self.now - NOW, event))
        pieces = list[Piece]()
        while self.moments and self.moments[0] <= self.now - NOW:
            self.moments.pop(0)
            event += 1
            pieces.append(Piece(event, b"data: %d\nid: id.%d\n\n" % (event, event), event))
        return pieces, OWN._replace(lease_until=NOW + 900)


@pytest.mark.parametrize(
    ("moments", "alive"), [((), [15, 30, 45]), ((0.0,), [15, 30, 45]), ((10.0,), [25, 40]), ((14.5, 29.0), [44])]
)
def test_a_reader_of_a_quiet_stream_hears_that_it_lives(moments: tuple[float, ...], alive: list[int]) -> None:
    world = Quiet(*moments)
    heard, events = list[float](), list[bytes]()
    for came in world.reader.events(OWN, 0, NOW + 46.2):
        if came == KEEP_ALIVE:
            heard.append(world.now - NOW)
        else:
            events.append(came)
    assert heard == alive
    assert events == [b"data: %d\nid: id.%d\n\n" % (each, each) for each in range(1, len(moments) + 1)]
    assert world.now == NOW + 46.2, "who may wait no longer is not kept waiting"
    assert [moment for moment, _ in world.asked[:3]] == [0.0, *([0.0, 0.5] if 0.0 in moments else [0.5, 1.0])]
