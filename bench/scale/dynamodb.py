"""How much DynamoDB takes, and when it refuses: partitions, tables on demand and transactions.

One rule: what AWS documents is modelled, and what it does of its own accord, or only after minutes, is not counted on.
A partition key gets 1,000 write and 3,000 read units a second, whatever the others use: adaptive capacity isolates it
at once. That a busy partition is split by its sort keys comes later, and never helps where these only grow
(https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from bench.scale.simulation import Simulation

PARTITION_WRITES, PARTITION_READS = 1000.0, 3000.0
TABLE_WRITES, TABLE_READS = 4000.0, 12_000.0
"""Units a second: of a partition; of a new table on demand."""
DOUBLING_SECONDS = 1800.0
"""A table on demand bears twice its highest load so far within half an hour."""
WRITE_SECONDS, TRANSACTION_SECONDS, REFUSAL_SECONDS = 0.005, 0.015, 0.003
"""Assumed: AWS says "single-digit milliseconds" of a call, and that a transaction takes two rounds."""

THROTTLED = "ThrottlingError"
CONFLICT = "TransactionConflict"


class Bucket:
    """So many units a second, no more than one second's at once."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._level = rate
        self._filled = now

    def has(self, units: float, now: float) -> bool:
        """Whether so many are left. More than a second's are taken when all of them are."""
        self._level = min(self.rate, self._level + (now - self._filled) * self.rate)
        self._filled = now
        return self._level >= min(units, self.rate) - 1e-6

    def take(self, units: float) -> None:
        """Take them; `has` was asked before."""
        self._level -= units


class OnDemand:
    """What a table on demand bears: doubling within half an hour of a load that was higher than all before."""

    def __init__(self, units: float, now: float) -> None:
        self.bears = units
        self._second, self._used = int(now), 0.0
        self._grown: list[tuple[float, float]] = []

    def rate(self, now: float) -> float:
        """Units a second that the table bears now."""
        while self._grown and self._grown[0][0] <= now:
            self.bears = max(self.bears, self._grown.pop(0)[1])
        return self.bears

    def used(self, units: float, now: float) -> None:
        """Note what was used."""
        if int(now) != self._second:
            will_bear = max([self.bears, *(bears for _, bears in self._grown)])
            if 2 * self._used > will_bear:
                self._grown.append((self._second + DOUBLING_SECONDS, 2 * self._used))
            self._second, self._used = int(now), 0.0
        self._used += units


@dataclass(slots=True)
class Counted:
    """What a table was asked, and how it ended."""

    write_units: float = 0.0
    read_units: float = 0.0
    writes: int = 0
    throttled: int = 0
    conflicts: int = 0
    by_partition: dict[str, float] = field(default_factory=dict[str, float])


class TableModel:
    """One table on demand: throughput by partition and in all, and items that transactions hold."""

    def __init__(self, simulation: Simulation, writes: float = TABLE_WRITES, reads: float = TABLE_READS) -> None:
        self.simulation = simulation
        self.counted = Counted()
        now = simulation.now
        self._grows = OnDemand(writes, now)
        self._writes, self._reads = Bucket(writes, now), Bucket(reads, now)
        self._partitions: dict[tuple[str, bool], Bucket] = {}
        self._held: set[str] = set()

    def _partition(self, name: str, *, is_read: bool = False) -> Bucket:
        if (name, is_read) not in self._partitions:
            rate = PARTITION_READS if is_read else PARTITION_WRITES
            self._partitions[name, is_read] = Bucket(rate, self.simulation.now)
        return self._partitions[name, is_read]

    def admit(self, wanted: Mapping[str, float]) -> Collection[str]:
        """Take write units of partitions, all or none. Returns the partitions that have too few left."""
        now, total = self.simulation.now, sum(wanted.values())
        self._writes.rate = self._grows.rate(now)
        full = [name for name, units in wanted.items() if not self._partition(name).has(units, now)]
        if not self._writes.has(total, now):
            full = list(wanted)
        if full:
            self.counted.throttled += 1
            return full
        for name, units in wanted.items():
            self._partition(name).take(units)
            self.counted.by_partition[name] = self.counted.by_partition.get(name, 0.0) + units
        self._writes.take(total)
        self._grows.used(total, now)
        self.counted.write_units += total
        self.counted.writes += 1
        return ()

    def admit_read(self, partition: str, units: float) -> bool:
        """Take read units of a partition, if they are left."""
        now, bucket = self.simulation.now, self._partition(partition, is_read=True)
        if not (bucket.has(units, now) and self._reads.has(units, now)):
            self.counted.throttled += 1
            return False
        bucket.take(units)
        self._reads.take(units)
        self.counted.read_units += units
        return True

    def is_held(self, item: str) -> bool:
        """Whether a transaction that is under way writes the item."""
        return item in self._held

    def transact(self, wanted: Mapping[str, tuple[str, float]]) -> dict[str, str]:
        """Write items in one transaction: by names, their partitions and units, which are twice those of a write.

        Returns the code of each item that refused it; empty: it is done. Takes simulated time.
        """
        refused = dict.fromkeys(filter(self.is_held, wanted), CONFLICT)
        if refused:
            self.counted.conflicts += 1
        else:
            units: dict[str, float] = {}
            for partition, each in wanted.values():
                units[partition] = units.get(partition, 0.0) + each
            full = self.admit(units)
            refused = {item: THROTTLED for item, (partition, _) in wanted.items() if partition in full}
        if refused:
            self.simulation.sleep(REFUSAL_SECONDS)
            return refused
        self._held |= wanted.keys()
        self.simulation.sleep(TRANSACTION_SECONDS)
        self._held -= wanted.keys()
        return {}
