"""How a reader finds a stream: whose it must be, how long one that is not there yet is waited for, and what fails."""

from typing import Any

import pytest
from proxy.aws.client import UNREACHABLE, AwsError
from proxy.errors import ProxyError
from proxy.streams.reading import Reader
from proxy.streams.recording import Times
from proxy.streams.table import State

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
