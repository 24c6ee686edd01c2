"""Publishes events: the only module that calls PutEvents. Its one rule: it never raises, and no event is lost without a
line in the log.

The events of a request go in one call. An event that this call did not bring to the bus is then put alone, the terminal
event first, so that an event that is too large or otherwise refused does not hold up the other. Each event has three
tries. After those it goes to a queue, in the time that is left. If neither bus nor queue has taken it before the
invocation's time is up, the whole event is written to the log, ready to be put again by hand; the line says whether one
of them may have it all the same.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from openai_proxy.events.envelope import TERMINAL_DETAIL_TYPES

from proxy.aws.client import Aws, AwsError
from proxy.log import log

if TYPE_CHECKING:
    from openai_proxy.events.types import AnyEvent

Fate = Literal["published", "queued", "lost"]
"""Who has an event: the bus, a queue from which it comes to the bus later, or only the log."""
NOT_PUBLISHED = "An event was not published"
NOT_CONFIRMED = "An event was not confirmed"
"""What the log says of an event that the bus may have taken, although its answer was lost. Consumers know a copy."""
QUEUED = "An event was queued"
"""What the log says of an event that the bus did not take in its tries, and a queue did."""

_PAUSES = (0.05, 0.25)
"""Seconds before the second and the third try: short, because the sandbox is billed and busy meanwhile."""
_INSIDE = ("InternalException", "InternalFailure", "ServiceUnavailable")
"""Codes of an entry with which the bus itself failed: nobody says how far it had got."""
_LONGEST_TRY = 2.0
_LONGEST = 3 * _LONGEST_TRY + sum(_PAUSES)
"""Seconds for all of it."""
_FOR_QUEUE = 3.0
"""Seconds that are kept for the queue; of a short time, half."""
_TIME_TO_LOG = 0.1


class _Waiting:
    """An event that the bus has not taken yet, and why."""

    def __init__(self, event: "AnyEvent", entry: dict[str, str]) -> None:
        self.event = event
        self.entry = entry
        self.is_taken = False
        self.is_queued = False
        self.may_be_there = False
        self.tries = 0
        self.reason = "no time was left"

    @property
    def is_terminal(self) -> bool:
        return self.event.detail_type in TERMINAL_DETAIL_TYPES

    def failed(self, reason: str, *, may_be_there: bool) -> None:
        """Note that one more try has failed."""
        self.tries += 1
        self.reason = reason
        self.may_be_there = self.may_be_there or may_be_there


class Queues(NamedTuple):
    """The addresses of the queues for what the bus does not take; "" where there is none."""

    terminal: str = ""
    captured: str = ""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Queues":
        """The queues of a stack; an older stack has none."""
        return cls(environ.get("PUBLISH_AGAIN_QUEUE", ""), environ.get("STORE_RESPONSE_QUEUE", ""))


class Publisher:
    """Publishes the events of one request."""

    def __init__(
        self,
        aws: Aws,
        bus_name: str,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.time,
        queues: Queues = Queues(),  # noqa: B008  # it cannot be changed
    ) -> None:
        self._aws = aws
        self._bus_name = bus_name
        self._sleep = sleep
        self._clock = clock
        self._queues = queues

    def publish(self, events: "Sequence[AnyEvent]", deadline: float, trace_id: str | None = None) -> Fate:
        """Put `events`; retry those that fail; queue those that keep failing; log those that nothing takes.

        It ends by `deadline` (Unix seconds). Returns where the terminal event went.
        """
        now = self._clock()
        left = max(0.0, deadline - _TIME_TO_LOG - now)
        for_queue = min(_FOR_QUEUE, left / 2) if any(self._queues) else 0.0
        latest = now + min(left, _LONGEST + for_queue)
        to_bus = latest - for_queue
        waiting = [_Waiting(event, event.to_entry(self._bus_name, trace_id)) for event in events]
        fate: Fate = "published"
        self._put(waiting, to_bus)
        for each in sorted(waiting, key=lambda each: not each.is_terminal):
            self._put_again(each, to_bus)
            if each.is_taken:
                continue
            self._queue(each, latest, trace_id)
            _log(each)
            if each.is_terminal:
                fate = "queued" if each.is_queued else "lost"
                to_bus = 0.0  # the bus would not take the other event either
                # A captured answer is of no use if the event of its request is lost.
                latest = latest if each.is_queued else 0.0
        return fate

    def _queue(self, each: _Waiting, latest: float, trace_id: str | None) -> None:
        """Put an event into a queue because the bus has not taken it, and note whether the queue has."""
        queue = self._queues.terminal if each.is_terminal else self._queues.captured
        if not queue or latest <= self._clock():
            return
        from proxy.records.overflow import Overflow, envelope_of  # noqa: PLC0415  # hardly any sandbox needs it

        body = envelope_of(each.event, each.entry["Detail"])
        failure = Overflow(self._aws, self._sleep, self._clock).put(queue, body, trace_id, latest)
        if failure is None:
            each.is_queued = True
            return
        each.reason += f"; {failure.reason}"
        each.may_be_there = each.may_be_there or failure.may_be_there

    def _put_again(self, each: _Waiting, latest: float) -> None:
        """Put one event alone until the bus takes it, or all tries are used up."""
        for pause in _PAUSES:
            if each.is_taken or self._clock() + pause >= latest:
                return
            self._sleep(pause)
            self._put([each], latest)

    def _put(self, waiting: Sequence[_Waiting], latest: float) -> None:
        """Put events in one call, and note for each whether the bus has taken it."""
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
    """Log the event's id, and a lost terminal event whole. A captured answer is content, which must not be in a log."""
    facts = {"id": lost.event.id, "reason": lost.reason, "tries": lost.tries}
    if lost.is_queued:
        log("WARN", QUEUED, **facts)
    elif lost.is_terminal:
        log("ERROR", NOT_CONFIRMED if lost.may_be_there else NOT_PUBLISHED, **facts, entry=lost.entry)
    elif lost.may_be_there:
        log("ERROR", "An answer may not be cached: its event was not confirmed", **facts)
    else:
        log("ERROR", "An answer was not cached: its event was not published", **facts)
