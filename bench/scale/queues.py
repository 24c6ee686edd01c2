"""An SQS queue, and Lambda's pollers in front of a consumer.

One rule: their number, their ramp and their batches are as AWS documents them for a standard queue
(https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html).
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bench.scale.simulation import Simulation

FIRST_POLLERS = 5
"""So many batches at a time to begin with."""
MORE_EACH_SECOND = 5
"""300 a minute, while there are messages."""
MOST_POLLERS = 1250
RECEIVED_AT_ONCE = 10
"""Messages in one receive of SQS."""
MOST_RECEIVES = 5
"""After so many a message is a dead letter (`maxReceiveCount` of the template)."""
HIDDEN_SECONDS = 240.0
"""How long a received message is hidden (`VisibilityTimeout` of the template)."""


@dataclass(frozen=True, slots=True)
class Batches:
    """The event source mapping: most messages in a batch, how long it waits to fill, most batches at a time.

    `is_warm`: there has been as much work for so long that all of them are there.
    """

    batch: int = 25
    window: float = 2.0
    most: int = 2
    is_warm: bool = False
    tries: int = MOST_RECEIVES


TODAY = Batches()


@dataclass(slots=True, eq=False)
class Message:
    """One message: what it carries, when what it tells of happened, how often it was received."""

    body: Any
    since: float
    receives: int = 0
    hidden: float = HIDDEN_SECONDS
    """For how long nobody sees it when it fails."""


@dataclass(slots=True)
class _Poller:
    batch: list[Message] = field(default_factory=list[Message])
    is_busy: bool = False
    number: int = 0
    """Of its batch: a window that has passed is that of an earlier one."""


@dataclass(slots=True)
class QueueCounts:
    """What SQS and Lambda count."""

    sent: int = 0
    requests: int = 0
    invocations: int = 0
    consumed: int = 0
    dead: int = 0


class Queue:
    """Messages, and the pollers that hand them to `consume`, which returns those that must come again.

    `consume` runs as a task: it may sleep.
    """

    def __init__(
        self, simulation: Simulation, mapping: Batches, consume: Callable[[Sequence[Message]], Sequence[Message]]
    ) -> None:
        self._simulation = simulation
        self._mapping = mapping
        self._consume = consume
        self._waiting: deque[Message] = deque()
        self._pollers = [
            _Poller() for _ in range(mapping.most if mapping.is_warm else min(FIRST_POLLERS, mapping.most))
        ]
        self._free: deque[_Poller] = deque(self._pollers)
        self._is_growing = False
        self.counts = QueueCounts()

    @property
    def waiting(self) -> int:
        """Messages that no poller has."""
        return len(self._waiting)

    @property
    def pollers(self) -> int:
        """How many batches may be worked on at a time by now."""
        return len(self._pollers)

    def send(self, message: Message) -> None:
        """Put a message into the queue."""
        self.counts.sent += 1
        self.counts.requests += 1
        self._add(message)

    def _add(self, message: Message) -> None:
        self._waiting.append(message)
        self._deal()

    def _deal(self) -> None:
        """Give what waits to pollers that are free: in turn, each until its batch is full or its window over."""
        while self._waiting and self._free:
            poller = self._free[0]
            self._free.rotate(-1)
            poller.batch.append(self._waiting.popleft())
            if len(poller.batch) >= self._mapping.batch:
                self._begin(poller)
            elif len(poller.batch) == 1:
                over = partial(self._over, poller, poller.number)
                self._simulation.at(self._simulation.now + self._mapping.window, over)
        if self._waiting and not self._is_growing and len(self._pollers) < self._most:
            self._is_growing = True
            self._simulation.at(self._simulation.now + 1, self._grow)

    @property
    def _most(self) -> int:
        return min(self._mapping.most, MOST_POLLERS)

    def _grow(self) -> None:
        self._is_growing = False
        if self._waiting:
            more = [_Poller() for _ in range(min(MORE_EACH_SECOND, self._most - len(self._pollers)))]
            self._pollers += more
            self._free.extend(more)
            self._deal()

    def _over(self, poller: _Poller, number: int) -> None:
        """A window has passed."""
        if poller.number == number and poller.batch and not poller.is_busy:
            self._begin(poller)

    def _begin(self, poller: _Poller) -> None:
        self._free.remove(poller)
        poller.is_busy = True
        poller.number += 1
        self._simulation.spawn(lambda: self._invoke(poller))

    def _invoke(self, poller: _Poller) -> None:
        batch, received = poller.batch, self._simulation.now
        for message in batch:
            message.receives += 1
        again = self._consume(batch)
        calls = math.ceil(len(batch) / RECEIVED_AT_ONCE)
        self.counts.invocations += 1
        self.counts.requests += calls + (calls if len(again) < len(batch) else 0)
        self.counts.consumed += len(batch) - len(again)
        for message in again:
            if message.receives >= self._mapping.tries:
                self.counts.dead += 1
            else:
                self._simulation.at(received + message.hidden, partial(self._add, message))
        poller.batch, poller.is_busy = [], False
        self._free.append(poller)
        self._deal()
