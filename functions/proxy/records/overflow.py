"""Queues for events that the bus did not take, loaded only then.

A terminal event goes to the queue of `publish_again`, which puts it on the bus later. A captured answer is content. It
goes to the queue of the one consumer that stores it, and must be kept nowhere else, and no longer. Each message is the
envelope that EventBridge would have put into a queue, so the same reader reads both. Its one rule: it never raises.
"""

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from openai_proxy.events.envelope import SOURCE

from proxy.aws.client import Aws, AwsError

if TYPE_CHECKING:
    from openai_proxy.events.types import AnyEvent

LARGEST = 256 * 1024
"""Bytes of a message. SQS takes four times as much since 2025, a queue of before, or an emulator, no more than this."""
_PAUSES = (0.0, 0.05, 0.2)
"""Seconds before each try."""
_LONGEST_TRY = 1.5


class Failure(NamedTuple):
    """Why a queue does not have an event, as far as that is known."""

    reason: str
    may_be_there: bool


class Overflow:
    """Puts messages into queues."""

    def __init__(
        self, aws: Aws, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.time
    ) -> None:
        self._aws, self._sleep, self._clock = aws, sleep, clock

    def put(self, queue: str, body: str, trace: str | None, latest: float) -> Failure | None:
        """Put a message into the queue at this address, by `latest` (Unix seconds). Returns None if the queue has
        it.
        """
        if len(body) > LARGEST:  # the message is ASCII, so its length is its size in bytes
            return Failure("it is too large for a queue", may_be_there=False)
        reason, may_be_there = "no time was left for the queue", False
        for pause in _PAUSES:
            left = latest - self._clock() - pause
            if left <= 0:
                break
            self._sleep(pause)
            try:
                self._aws.send_message(queue, body, 0, min(_LONGEST_TRY, left), trace)
            except AwsError as error:
                reason, may_be_there = str(error), may_be_there or error.may_be_done
            else:
                return None
        return Failure(reason, may_be_there)


def envelope_of(event: "AnyEvent", detail: str) -> str:
    """The message that EventBridge would make of an event, with the fields that are read. Its time is that of the
    event.
    """
    head = {"version": "0", "id": event.id, "detail-type": event.detail_type, "source": SOURCE, "time": event.timestamp}
    return f'{json.dumps(head, separators=(",", ":"))[:-1]},"detail":{detail}}}'
