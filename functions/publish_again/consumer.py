"""SQS batch ─▶ events that the bus did not take ─▶ PutEvents, ten at a time, as fast as the bus bears.

    taken                   ─▶ done
    refused, or no answer   ─▶ hidden for a while, twice as long each time; the rest of the batch with it
    no time is left for it  ─▶ hidden for a while likewise
    no event                ─▶ comes again at once, so that it soon lies among the dead letters

One rule: a message is done when the bus has said that it has the event. An event that arrives twice does no harm,
because consumers recognise events by their ids.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from openai_proxy.events.batch import PartialFailure, again, read_batch
from openai_proxy.events.traces import traces_of

from publish_again.bus import NOT_FIT, Refusal, entry_in, size_of, with_trace

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

_MOST_ENTRIES = 10
_MOST_BYTES = 200 * 1024
"""Of the entries of one call, which AWS bounds at 256 KB in all; one that is larger goes alone."""
_FIRST_HIDDEN, _LONGEST_HIDDEN = 5, 900
"""Seconds for which nobody sees what the bus did not take."""
_MOST_DOUBLINGS = 8
_BEGINS_WITHIN = 12.0
"""Seconds from the start of a batch: no call begins later. The last one ends well before the function's 30 are over, so
that what it was told is not forgotten, and done again.
"""
_NO_TIME = Refusal("NoTimeLeft", is_for_now=True)


class Bus(Protocol):
    """Where events go: EventBus, or a fake of it."""

    def put(self, entries: Sequence[Mapping[str, Any]]) -> list[Refusal | None]:
        """Put entries. Returns for each, in order, why the bus does not have it; None if it has."""
        ...


class Pace:
    """How long to wait before each call, so that late events leave the bus's quota to those that happen now.

    The pause doubles when the bus is busy, and shrinks slowly while the bus takes everything.
    """

    LEAST, FIRST, MOST = 0.02, 0.2, 2.0
    """Seconds: at most 500 events a second and sandbox, 50 to begin with, 5 at least."""
    _SHRINKS = 0.95

    def __init__(self) -> None:
        self.pause = self.FIRST

    def taken(self) -> None:
        """The bus took all entries of a call."""
        self.pause = max(self.LEAST, self.pause * self._SHRINKS)

    def refused(self) -> None:
        """The bus was too busy to take an entry."""
        self.pause = min(self.MOST, self.pause * 2)


class _Waiting(NamedTuple):
    """An event and the message that holds it."""

    message: str
    entry: Mapping[str, Any]


class PublishAgain:
    """The consumer behind the queue of events that the bus did not take.

    `hide` hides messages, given by their receipt handles, each for its number of seconds.
    """

    def __init__(
        self,
        bus: Bus,
        hide: Callable[[Mapping[str, int]], None],
        logger: "Logger",
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus, self._hide = bus, hide
        self._logger, self._sleep, self._clock = logger, sleep, clock
        self._pace = Pace()

    def __call__(self, batch: Mapping[str, Any]) -> PartialFailure:
        """Put the events of an SQS batch. Returns the messages that must come again."""
        records = {record["messageId"]: record for record in batch["Records"]}
        read, unreadable = read_batch(batch, entry_in, self._logger)
        waiting = [_Waiting(message, with_trace(entry, _trace(records[message]))) for message, entry in read]
        refused = self._publish(waiting)
        hidden = {records[each]["receiptHandle"]: _seconds(records[each]) for each in refused}
        hidden |= {records[each]["receiptHandle"]: 0 for each in unreadable}
        if hidden:
            self._hide(hidden)
        if records:
            log = self._logger.warning if hidden else self._logger.info
            log(
                "Events were published again",
                published=len(waiting) - len(refused),
                refused=len(refused),
                unreadable=len(unreadable),
                reasons=sorted({refusal.code for refusal in refused.values()}),
                traces=traces_of(batch["Records"]),
            )
        return again([*unreadable, *refused])

    def _publish(self, waiting: Sequence[_Waiting]) -> dict[str, Refusal]:
        """Put all events, until the bus is too busy, or too slow. Returns those that it does not have, and why."""
        refused: dict[str, Refusal] = {}
        calls, latest = _calls(waiting), self._clock() + _BEGINS_WITHIN
        for call in calls:
            failed = self._put(call, latest)
            refused |= failed
            if for_now := next((each for each in failed.values() if each.is_for_now), None):
                refused |= {each.message: for_now for rest in calls for each in rest}  # the bus is too busy for more
        return refused

    def _put(self, call: Sequence[_Waiting], latest: float) -> dict[str, Refusal]:
        """Put some events in one call. If AWS rejects the call as a whole, put each alone, because one of them may be
        the reason.
        """
        self._sleep(self._pace.pause)
        failed = self._call(call, latest)
        if any(refusal.is_for_now for refusal in failed.values()):
            self._pace.refused()
        elif not failed:
            self._pace.taken()
        elif len(call) > 1 and all(refusal.code == NOT_FIT for refusal in failed.values()):
            return {message: refusal for each in call for message, refusal in self._call([each], latest).items()}
        return failed

    def _call(self, call: Sequence[_Waiting], latest: float) -> dict[str, Refusal]:
        if self._clock() >= latest:
            return {each.message: _NO_TIME for each in call}
        refusals = self._bus.put([each.entry for each in call])
        return {each.message: refusal for each, refusal in zip(call, refusals, strict=True) if refusal}


def _calls(waiting: Sequence[_Waiting]) -> Iterator[list[_Waiting]]:
    """The events, in groups that fit into one call."""
    call: list[_Waiting] = []
    size = 0
    for each in waiting:
        own = size_of(each.entry)
        if call and (len(call) == _MOST_ENTRIES or size + own > _MOST_BYTES):
            yield call
            call, size = [], 0
        call.append(each)
        size += own
    if call:
        yield call


def _trace(record: Mapping[str, Any]) -> str:
    return str(record.get("attributes", {}).get("AWSTraceHeader", ""))


def _seconds(record: Mapping[str, Any]) -> int:
    """For how many seconds a message is hidden: longer each time that it was delivered."""
    came = int(record.get("attributes", {}).get("ApproximateReceiveCount", 1))
    return min(_LONGEST_HIDDEN, _FIRST_HIDDEN << min(_MOST_DOUBLINGS, max(0, came - 1)))
