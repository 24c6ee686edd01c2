"""Which calls have failed although the proxy repeated them. A client that sends one again repeats it, even if no header
says so.

Its one rule: what is remembered can only reduce repetitions, never add one. Programs that begin their SDK anew for each
repetition, as loops around a client do, would otherwise double the calls of a server that is in trouble.
"""

from proxy.call import Call

SECONDS = 20.0
"""For which a call is remembered: longer than such programs pause."""
_MOST = 100


class FailedCalls:
    """Remembers the latest of them. Times are Unix seconds."""

    def __init__(self) -> None:
        self._until: dict[int, float] = {}

    def has(self, call: Call, now: float) -> bool:
        """Whether the same question of this client has just failed."""
        return bool(self._until) and now < self._until.get(_mark(call), now)

    def add(self, call: Call, now: float) -> None:
        """Note that a call has failed although it was repeated."""
        mark = _mark(call)
        self._until.pop(mark, None)
        self._until[mark] = now + SECONDS
        if len(self._until) > _MOST:
            del self._until[next(iter(self._until))]


def _mark(call: Call) -> int:
    """A mark that is equal for equal calls of one key. It is unlikely that two other calls share it, and does no
    harm.
    """
    request, key = call.request, call.key
    return hash((key and key.key_id, call.target, request and (request.method, request.query, request.body)))
