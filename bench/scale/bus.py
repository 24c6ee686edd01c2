"""EventBridge: what the Region's quotas let onto the bus, and off it.

One rule: what is over the quota of PutEvents is refused, and what is over that of invocations comes later, in its turn
(https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-quota.html).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.scale.dynamodb import Bucket
from bench.scale.simulation import Simulation

PUT_SECONDS = 0.01
"""Assumed, of a call of PutEvents."""
DELIVERY_SECONDS = 0.5
"""What AWS called typical between bus and target."""


@dataclass(frozen=True, slots=True)
class Region:
    """Quotas, a second: calls of PutEvents, and invocations of targets."""

    put_events: float
    invocations: float


LARGEST = Region(10_000, 18_750)
"""us-east-1, us-west-2."""
SMALLEST = Region(400, 750)
"""af-south-1 and others."""


class Bus:
    """The bus. `deliver` gets each entry once; `targets` targets of it take of the quota of invocations."""

    def __init__(
        self, simulation: Simulation, region: Region, targets: int, deliver: Callable[[Mapping[str, Any]], None]
    ) -> None:
        self._simulation = simulation
        self._quota = Bucket(region.put_events, simulation.now)
        self._each = targets / region.invocations
        self._deliver = deliver
        self._next = simulation.now
        self.taken = self.throttled = 0

    def put(self, entries: Sequence[Mapping[str, Any]]) -> bool:
        """One call of PutEvents. Returns whether the quota has room for it."""
        self._simulation.sleep(PUT_SECONDS)
        if not self._quota.has(1, self._simulation.now):
            self.throttled += 1
            return False
        self._quota.take(1)
        self.taken += len(entries)
        for entry in entries:
            self._next = max(self._next + self._each, self._simulation.now)
            moment = self._next + DELIVERY_SECONDS
            self._simulation.at(moment, lambda each=entry: self._deliver(each))
        return True
