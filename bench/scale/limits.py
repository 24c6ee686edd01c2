"""One key with limits at a rate: takes before its requests and what is given back after them, against one table.

One rule: every sandbox has a limits table of its own, as on Lambda, and the items are those that they write.
"""

import contextlib
import json
import math
import random
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openai_proxy.events.ulid import new_ulid
from openai_proxy.key_limits import Limits
from openai_proxy.servers import parse_servers
from openai_proxy.usage import Usage
from proxy.aws.client import AwsError
from proxy.limits import counters
from proxy.limits.counters import TableAccess
from proxy.limits.reservation import Reservation
from proxy.limits.table import LimitsTable
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target
from proxy.request.routing import Candidate

from bench.scale.dynamodb import REFUSAL_SECONDS, TRANSACTION_SECONDS, WRITE_SECONDS, Counted, TableModel
from bench.scale.simulation import Simulation, same_chances
from bench.units import BEGAN, BLOCK, size_of
from tests.limits.table import LimitsItems

_BODY = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
_SERVER = parse_servers("up: {url: 'https://up.example/v1', token: t, model: m, retries: 0}")["up"]
_INVOCATION = 900.0
_USED = Usage(5, 200, source="reported")


@dataclass(frozen=True, slots=True)
class LimitsLoad:
    """Requests a second of one key with such limits, each of `stream` seconds, for how long."""

    limits: Limits
    rate: float
    stream: float = 10.0
    seconds: float = 25.0


@dataclass(slots=True)
class LimitsFound:
    """How it went. `waits` are seconds that takes lasted, with the moment of each.

    `unavailable` could not be checked: as `LimitsFailurePolicy` says they are 503, or pass without limits.
    """

    load: LimitsLoad
    taken: int = 0
    refused: int = 0
    unavailable: int = 0
    held: int = 0
    """Given back too late: their lease has to end, or `settle_limits` does it."""
    waits: list[float] = field(default_factory=list[float])
    table: Counted = field(default_factory=Counted)
    largest: int = 0
    """Bytes of the largest item."""

    @property
    def keeps_up(self) -> bool:
        """Whether every request was let through, or refused, by its limits, and given back."""
        return self.unavailable == self.held == 0 and self.taken > 0

    def wait(self, share: float) -> float:
        """A percentile of what a take lasts, in seconds."""
        waits = sorted(self.waits)
        return waits[min(len(waits) - 1, int(share * len(waits)))] if waits else math.inf


class LimitsAws:
    """The limits table as the proxy's client of AWS sees it, in simulated time."""

    def __init__(self, table: TableModel) -> None:
        self._table = table
        self._items = LimitsItems()
        self._sizes: dict[str, int] = {}

    @property
    def largest(self) -> int:
        """Bytes of the largest item."""
        return max(self._sizes.values(), default=0)

    def update_item(self, arguments: Mapping[str, Any], timeout: float) -> tuple[bool, dict[str, Any] | None]:
        """Raises AwsError when the item is held by a transaction, or its partition is too busy."""
        name = arguments["Key"]["pk"]["S"]
        if self._table.is_held(name):
            self._table.counted.conflicts += 1
            self._refuse("TransactionConflictException")
        if self._table.admit({name: self._units(name)}):
            self._refuse("ThrottlingException")
        self._table.simulation.sleep(WRITE_SECONDS)
        found = self._items.update_item(arguments, timeout)
        self._measure(name)
        return found

    def get_item(self, arguments: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """A consistent read. Raises AwsError when the partition is too busy."""
        self._read([arguments["Key"]["pk"]["S"]])
        return self._items.get_item(arguments, timeout)

    def batch_get_item(self, table: str, keys: Sequence[Any], timeout: float) -> list[dict[str, Any]]:
        """Consistent reads, at once. Raises AwsError when one of the partitions is too busy."""
        self._read([key["pk"]["S"] for key in keys])
        return self._items.batch_get_item(table, keys, timeout)

    def _read(self, names: Sequence[str]) -> None:
        for name in names:
            if not self._table.admit_read(name, math.ceil(self._sizes.get(name, 1) / 4096)):
                self._refuse("ThrottlingException")
        self._table.simulation.sleep(WRITE_SECONDS if len(names) == 1 else TRANSACTION_SECONDS)

    def transact_updates(self, updates: Sequence[Any], timeout: float) -> list[dict[str, Any] | None] | None:
        """Raises AwsError for conflicts and busy partitions."""
        names = [update["Key"]["pk"]["S"] for update in updates]
        codes = self._table.transact({name: (name, 2 * self._units(name)) for name in names})
        if codes:
            raise AwsError("dynamodb:TransactWriteItems", next(iter(codes.values())), status=400)
        found = self._items.transact_updates(updates, timeout)
        for name in names:
            self._measure(name)
        return found

    def _units(self, name: str) -> int:
        return math.ceil(self._sizes.get(name, 1) / BLOCK)

    def _measure(self, name: str) -> None:
        self._sizes[name] = size_of(self._items.items.get(name, {}))
        self._items.written.clear()

    def _refuse(self, code: str) -> None:
        self._table.simulation.sleep(REFUSAL_SECONDS)
        raise AwsError("dynamodb:UpdateItem", code, status=400)


class OneKey:
    """Requests of one key, each in a sandbox that no other has meanwhile."""

    def __init__(self, load: LimitsLoad, table_writes: float) -> None:
        self._load = load
        self._simulation = Simulation(BEGAN)
        table = TableModel(self._simulation, table_writes, 3 * table_writes)
        self._aws = LimitsAws(table)
        self.found = LimitsFound(load, table=table.counted)
        self._idle: list[LimitsTable] = []
        request = InferenceRequest("function_url", "POST", "/up/v1/chat/completions", "", {}, _BODY, None)
        self._body = RequestBody(request, Target("up", "/chat/completions"))

    def run(self) -> LimitsFound:
        """Let it run for the seconds of the load."""
        with same_chances(), _times_of(self._simulation):
            self._arrive()
            self._simulation.run(self._simulation.began + self._load.seconds)
        self.found.largest = self._aws.largest
        return self.found

    def _arrive(self) -> None:
        self._simulation.spawn(self._request)
        self._simulation.at(self._simulation.now + random.expovariate(self._load.rate), self._arrive)

    def _sandbox(self) -> LimitsTable:
        if self._idle:
            return self._idle.pop()
        aws: Any = self._aws
        return LimitsTable(TableAccess(aws, "limits", self._simulation.clock, sleep=self._simulation.sleep), "closed")

    def _request(self) -> None:
        began, sandbox = self._simulation.now, self._sandbox()
        deadline = began + _INVOCATION
        taken = sandbox.take(self._load.limits, new_ulid(began), self._body, [Candidate(_SERVER)], deadline)
        self.found.waits.append(self._simulation.now - began)
        if not taken.is_checked:
            self.found.unavailable += 1
        elif taken.refused:
            self.found.refused += 1
        else:
            self.found.taken += 1
        if taken.refused:
            self._idle.append(sandbox)
            return
        ends = self._simulation.now + self._load.stream
        self._simulation.spawn(lambda: self._end(sandbox, taken, deadline), ends)

    def _end(self, sandbox: LimitsTable, taken: Reservation, deadline: float) -> None:
        released = sandbox.release(taken, _USED, deadline)
        # What was taken of a shard has no lease.
        if taken.limits.are_given_back and not getattr(taken, "shard", 0) and released.lease != "returned":
            self.found.held += 1
        self._idle.append(sandbox)


def one_key(load: LimitsLoad, table_writes: float = 40_000) -> LimitsFound:
    """What becomes of such requests. The table has been warmed up: only its partitions are in the way."""
    return OneKey(load, table_writes).run()


@contextlib.contextmanager
def _times_of(simulation: Simulation) -> Generator[None]:
    """The time that calls of the limits table have left is simulated time, too."""

    class Clock:
        time: Callable[[], float] = staticmethod(simulation.clock)

    module: Any = counters
    real, module.time = module.time, Clock
    try:
        yield
    finally:
        module.time = real
