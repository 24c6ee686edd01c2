"""How a reader finds a stream: whose it must be, how long one that is not there yet is waited for, and what fails."""

import json
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


def test_a_client_is_told_when_to_ask_again_for_what_cannot_be_read() -> None:
    with pytest.raises(ProxyError) as failed:
        World(REFUSED).reader.state_of("id", "owner", NOW)
    error = failed.value
    assert (error.status, error.code, error.headers) == (503, "streams_unavailable", {"retry-after": "2"})
    assert (error.message, error.__cause__) == ("Streams cannot be read at the moment.", REFUSED)


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


class Racing(World):
    """A stream of four events whose last ones, and its end, are written while it is read: the first read finds so many
    of them.
    """

    def __init__(self, found: int, *, is_over: bool, kept: int = 4) -> None:
        super().__init__(OWN)
        self.first, self.is_over, self.kept, self.asked = found, is_over, kept, list[int]()

    def since(self, stream_id: str, event: int) -> tuple[list[Piece], State]:
        found, is_over = (self.kept, True) if self.asked else (self.first, self.is_over)
        self.asked.append(event)
        state = OWN._replace(status="completed", events=4) if is_over else OWN._replace(lease_until=NOW + 9)
        return [
            Piece(each, b"data: %d\nid: id.%d\n\n" % (each, each), each) for each in range(event + 1, found + 1)
        ], state


@pytest.mark.parametrize(
    ("found", "is_over", "kept", "asked"),
    [
        (4, True, 4, [0]),
        (2, True, 4, [0, 2]),  # the rest came between the read of the pieces and that of the state
        (0, True, 4, [0, 0]),
        (2, True, 2, [0, 2]),  # and where there is no rest, that is all
        (2, False, 4, [0, 2]),
        (4, False, 4, [0, 4]),
    ],
)
def test_a_stream_that_ends_while_it_is_read_is_read_to_its_end(
    found: int, is_over: bool, kept: int, asked: list[int]
) -> None:
    world = Racing(found, is_over=is_over, kept=kept)
    read = b"".join(world.reader.events(OWN, 0, NOW + 60))
    assert read == b"".join(b"data: %d\nid: id.%d\n\n" % (each, each) for each in range(1, max(found, kept) + 1))
    assert (world.asked, world.now) == (asked, NOW), "nobody waits for what is there"


class Silent(World):
    """A stream whose writer has not kept its promise. The table ends it at the second try."""

    def __init__(self) -> None:
        super().__init__(OWN)
        self.tries, self.state_now = list[tuple[int, float]](), OWN._replace(lease_until=NOW - 1)

    def since(self, stream_id: str, event: int) -> tuple[list[Piece], State]:
        assert (stream_id, event) == ("id", 0)
        return [], self.state_now

    def give_up(self, stream_id: str, last: int, now: float) -> State:
        self.tries.append((last, now))
        if len(self.tries) == 1:
            raise BUSY
        self.state_now = OWN._replace(status="failed", error="worker_killed")
        return self.state_now

    def told(self, stream_id: str) -> None:
        assert stream_id == "id"


def test_a_stream_that_could_not_be_given_up_is_at_the_next_look(capsys: pytest.CaptureFixture[str]) -> None:
    world = Silent()
    assert b"".join(world.reader.events(OWN, 0, NOW + 60)) == b""
    assert (world.tries, world.slept) == ([(0, NOW), (0, NOW + 0.5)], [0.5, 0.5])
    (line,) = map(json.loads, capsys.readouterr().out.splitlines())
    line.pop("timestamp", None)
    assert line == {
        "level": "WARN",
        "message": "A stream was not given up: the next look tries again",
        "id": "id",
        "reason": str(BUSY),
    }
