"""Events to the bus: the only module that calls PutEvents. Its one rule: it never raises, and an event is never silent.

The events of a request go in one call. What that call does not bring to the bus goes alone, the terminal event first:
an event that is too large, or that the bus does not like, must not take the other with it. Each event has three tries.
One that none of them brought to the bus before the invocation's time is up is written to the log whole, ready to be put
again by hand; the line says whether the bus may have it all the same.
"""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from openai_proxy.events.envelope import is_terminal

from proxy.aws.client import Aws, AwsError
from proxy.log import log

if TYPE_CHECKING:
    from openai_proxy.events.types import AnyEvent

NOT_PUBLISHED = "An event was not published"
NOT_CONFIRMED = "An event was not confirmed"
"""What the log says of an event that the bus may have taken, although its answer was lost. Consumers know a copy."""

_PAUSES = (0.05, 0.25)
"""Seconds before the second and the third try: short, because the sandbox is billed and busy meanwhile."""
_INSIDE = ("InternalException", "InternalFailure", "ServiceUnavailable")
"""Codes of an entry with which the bus itself failed: nobody says how far it had got."""
_LONGEST_TRY = 2.0
_LONGEST = 3 * _LONGEST_TRY + sum(_PAUSES)
"""Seconds for all of it."""
_TIME_TO_LOG = 0.1


class _Waiting:
    """An event that the bus has not taken yet, and why."""

    def __init__(self, event: "AnyEvent", entry: dict[str, str]) -> None:
        self.event = event
        self.entry = entry
        self.is_taken = False
        self.may_be_there = False
        self.tries = 0
        self.reason = "no time was left"

    @property
    def is_terminal(self) -> bool:
        return is_terminal(self.event)

    def failed(self, reason: str, *, may_be_there: bool) -> None:
        """One more try was in vain."""
        self.tries += 1
        self.reason = reason
        self.may_be_there = self.may_be_there or may_be_there


class Publisher:
    """Publishes the events of one request."""

    def __init__(
        self,
        aws: Aws,
        bus_name: str,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._aws = aws
        self._bus_name = bus_name
        self._sleep = sleep
        self._clock = clock

    def publish(self, events: "Sequence[AnyEvent]", deadline: float, trace_id: str | None = None) -> bool:
        """Put `events`; retry those that fail; log those that keep failing. Done by `deadline` (Unix seconds).

        Returns whether the bus has confirmed the terminal event.
        """
        latest = min(deadline - _TIME_TO_LOG, self._clock() + _LONGEST)
        waiting = [_Waiting(event, event.to_entry(self._bus_name, trace_id)) for event in events]
        self._put(waiting, latest)
        for each in sorted(waiting, key=lambda each: not each.is_terminal):
            self._put_again(each, latest)
            if not each.is_taken:
                _log(each)
                if each.is_terminal:  # nobody needs what was captured of a request that nobody hears of
                    latest = 0.0
        return all(each.is_taken for each in waiting if each.is_terminal)

    def _put_again(self, each: _Waiting, latest: float) -> None:
        """Put one event alone until it is taken, or has had its tries."""
        for pause in _PAUSES:
            if each.is_taken or self._clock() + pause >= latest:
                return
            self._sleep(pause)
            self._put([each], latest)

    def _put(self, waiting: Sequence[_Waiting], latest: float) -> None:
        """Put them in one call, and note what becomes of each."""
        left = latest - self._clock()
        if left <= 0:
            return
        try:
            results = self._aws.put_events([each.entry for each in waiting], min(_LONGEST_TRY, left))
        except AwsError as error:
            for each in waiting:
                each.failed(str(error), may_be_there=error.may_be_done)
            return
        for each, result in zip(waiting, results, strict=True):
            if code := result.get("ErrorCode"):
                each.failed(str(code), may_be_there=str(code) in _INSIDE)
            else:
                each.is_taken = True


def _log(lost: _Waiting) -> None:
    """The event's id, and a terminal event whole; what was captured is content, which is in no log."""
    facts = {"id": lost.event.id, "reason": lost.reason, "tries": lost.tries}
    if lost.is_terminal:
        log("ERROR", NOT_CONFIRMED if lost.may_be_there else NOT_PUBLISHED, **facts, entry=lost.entry)
    elif lost.may_be_there:
        log("ERROR", "An answer may not be cached: its event was not confirmed", **facts)
    else:
        log("ERROR", "An answer was not cached: its event was not published", **facts)
