"""How the time of an invocation is shared out, so that each step leaves enough for those after it. Pure.

    arrival ─▶ servers work ─▶ `for_servers` ─▶ the client takes the end ─▶ `for_client` ─▶ the event ─▶ deadline

Its one rule: every request gets its event, even one that arrived when its time was over. Moments are Unix seconds;
`now` is when the invocation arrived.
"""

_RESERVE = 3.0
"""Seconds kept to tell client and bus how the request ended, half for each; of a short invocation, its `_SHARE`."""
_LEAST_RESERVE = 1.0
_SHARE = 0.3


def for_servers(deadline: float, now: float) -> float:
    """When servers have to be done. That moment has passed already if too little time is left on arrival."""
    return deadline - _reserve(deadline, now)


def for_client(deadline: float, now: float) -> float:
    """When the client has to have its answer, and when the request's share of the limits is given back."""
    return max(deadline - _reserve(deadline, now) / 2, now + _LEAST_RESERVE / 2)


def for_event(deadline: float, now: float) -> float:
    """When the event has to be published. A deadline that has passed on arrival is not believed."""
    return max(deadline, now + _LEAST_RESERVE)


def _reserve(deadline: float, now: float) -> float:
    return min(_RESERVE, max(_LEAST_RESERVE, _SHARE * (deadline - now)))
