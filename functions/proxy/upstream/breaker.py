"""Stops asking a failing server for a while, in this sandbox, so that nobody waits or pays for a call that has just
failed several times.

Its one rule: only signs of trouble at the *server* count: no connection, a broken one, silence, 502, 503, 504 and 529.
A 500 may be the fault of one request, and a 429 that of a limit: neither may keep the server from others.
"""

from collections.abc import Callable

from openai_proxy.servers import Server

from proxy.clock import lasting

ILL = frozenset({502, 503, 504, 529})


class _State:
    """How often a server has failed in a row, and until when it is not asked."""

    def __init__(self) -> None:
        self.failures = 0
        self.out_until = 0.0


class Breakers:
    """One breaker for each server. When a server's pause is over it gets one request, which decides how it goes on."""

    def __init__(self, clock: Callable[[], float] = lasting) -> None:
        self._clock = clock
        self._states: dict[str, _State] = {}

    def out_for(self, server: Server) -> float:
        """For how many seconds `server` is still not to be asked; 0.0 when it may be."""
        state = self._states.get(server.name)
        return max(0.0, state.out_until - self._clock()) if state else 0.0

    def succeeded(self, server: Server) -> None:
        """Note that `server` has answered well."""
        self._states.pop(server.name, None)

    def failed(self, server: Server) -> None:
        """Note that `server` has failed once more."""
        limits = server.breaker
        if not limits.failures:
            return
        state = self._states.setdefault(server.name, _State())
        state.failures += 1
        if state.failures >= limits.failures:
            state.out_until = self._clock() + limits.seconds
