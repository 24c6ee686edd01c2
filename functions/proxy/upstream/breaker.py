"""Keeps a failing server out for a while, in this sandbox: nobody waits, and pays, for what just failed several times.

Its one rule: only what says that the *server* is ill counts: no connection, a broken one, silence, 502, 503, 504 and
529. A 500 may be the fault of one request, a 429 that of a limit: neither may shut the server to others.
"""

from collections.abc import Callable

from openai_proxy.servers import Server

from proxy.clock import lasting

ILL = frozenset({502, 503, 504, 529})


class _State:
    """How often a server has failed in a row, and until when it is kept out."""

    def __init__(self) -> None:
        self.failures = 0
        self.out_until = 0.0


class Breakers:
    """One breaker for each server. After its time out a server gets one request: that one decides."""

    def __init__(self, clock: Callable[[], float] = lasting) -> None:
        self._clock = clock
        self._states: dict[str, _State] = {}

    def out_for(self, server: Server) -> float:
        """Seconds that `server` is still kept out; 0.0 when it may be asked."""
        state = self._states.get(server.name)
        return max(0.0, state.out_until - self._clock()) if state else 0.0

    def succeeded(self, server: Server) -> None:
        """`server` has answered like one in good health."""
        self._states.pop(server.name, None)

    def failed(self, server: Server) -> None:
        """`server` has failed once more."""
        limits = server.breaker
        if not limits.failures:
            return
        state = self._states.setdefault(server.name, _State())
        state.failures += 1
        if state.failures >= limits.failures:
            state.out_until = self._clock() + limits.seconds
