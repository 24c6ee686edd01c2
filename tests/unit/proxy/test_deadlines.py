"""The time of an invocation: everybody gets a share, whatever is left on arrival."""

from hypothesis import given
from hypothesis import strategies as st
from proxy.deadlines import for_client, for_event, for_servers

NOW = 1_800_000_000.0


@given(st.floats(-1e9, 1e5))
def test_each_step_leaves_time_for_the_next(left: float) -> None:
    deadline = NOW + left
    servers, client, event = (step(deadline, NOW) for step in (for_servers, for_client, for_event))
    assert servers < client < event
    assert client > NOW
    assert event - client >= 0.5
    assert event == deadline or left < 1.0


def test_a_long_invocation_keeps_seconds_and_a_short_one_a_part() -> None:
    assert [for_servers(NOW + left, NOW) - NOW for left in (900, 10, 5, 3, 1, 0.5)] == [897, 7, 3.5, 2, 0, -0.5]
