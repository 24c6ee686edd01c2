"""Which calls have failed although the proxy repeated them: who brings one again repeats it, and no header says so.

Its one rule: what is remembered takes repetitions away, and never adds one. Programs that begin their SDK anew for each
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
        """Whether the client has just had a failure as the answer to the same question."""
        return bool(self._until) and now < self._until.get(_mark(call), now)

    def add(self, call: Call, now: float) -> None:
        """A call has failed, and was repeated."""
        mark = _mark(call)
        self._until.pop(mark, None)
        self._until[mark] = now + SECONDS
        if len(self._until) > _MOST:
            del self._until[next(iter(self._until))]


def _mark(call: Call) -> int:
    """The same for calls of one key that ask the same. For two others to share it is unlikely, and does no harm."""
    request, key = call.request, call.key
    return hash((key and key.key_id, call.target, request and (request.method, request.query, request.body)))
