"""From a client's last byte to the ledger: the proxy's publisher, the bus, the queue, record_cost and the costs table.

One rule: publisher and consumer are those that run on Lambda. Only what they call is a model, and the CPU that they
take is what was measured of them (docs/benchmarks.md), at the share that their memory gives them.
"""

import json
import math
import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aws_lambda_powertools import Logger
from openai_proxy.backoff import pause_before_retry
from openai_proxy.events.incoming import from_envelope
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.table import CostsTable
from openai_proxy.pricing.price_book import PriceBook
from record_cost.consumer import RecordCost

from bench.scale import queues
from bench.scale.bus import LARGEST, Bus, Region
from bench.scale.costs_client import CostsClient
from bench.scale.dynamodb import TABLE_WRITES, TRANSACTION_SECONDS, Counted, TableModel
from bench.scale.overflow import Overflow
from bench.scale.queues import TODAY, Batches, Message, Queue
from bench.scale.simulation import Simulation, same_chances
from bench.units import BATCH, BEGAN, CPU_ALONE_SECONDS, CPU_SECONDS, MEGABYTES_OF_A_CPU, SAMPLE, WAIT_SECONDS

BUS_TARGETS = 2
"""Queues that hear of a chat: those of record_cost and record_metrics."""
STREAM_END = 900.0
_UNSTEADY = 0.4
"""Seconds by which a middle lag may differ from an earlier one by chance."""
_LARGE_TAGS = {f"tag-{number:02}": "x" * 48 for number in range(10)}


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked: requests a second, for how long, of how many clients, answered by how many models.

    `is_large`: with so many tags that an entry has more than one KB.
    """

    rate: float
    seconds: float = 20.0
    clients: int = 1
    models: int = 1
    is_large: bool = False


@dataclass(frozen=True, slots=True)
class Setup:
    """What is deployed: the mapping and memory of record_cost, the Region, and what the table was warmed up for.

    `cpu` says what an event takes: 0 for the least that was measured, 1 for the most.
    """

    mapping: Batches = TODAY
    megabytes: int = 256
    region: Region = LARGEST
    writes: float = TABLE_WRITES
    cpu: int = 1


@dataclass(slots=True)
class Found:
    """How it went. `lags` are seconds from the end of an answer to its entry, with the moment of that."""

    load: Load
    sent: int = 0
    lost: int = 0
    """Events that are log lines."""
    queued: int = 0
    """Events that the bus did not take in their tries."""
    lags: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    table: Counted = field(default_factory=Counted)
    queue: queues.QueueCounts = field(default_factory=queues.QueueCounts)
    bus_throttled: int = 0
    busy_seconds: float = 0.0
    """Of record_cost."""

    @property
    def keeps_up(self) -> bool:
        """Whether the bus takes all but a few events, and they wait no longer in the end than before."""
        before, after = (self._middle(part) for part in (0.25, 0.75))
        waiting = self.sent - len(self.lags)
        is_steady = after < math.inf and after <= before + _UNSTEADY
        is_taken = self.lost == 0 and self.queued <= 0.01 * self.sent
        return is_taken and waiting <= 4 * self.load.rate + 10 and is_steady

    def _middle(self, part: float) -> float:
        """The middle lag of a quarter of the time, which begins at such a part of it."""
        begins = part * self.load.seconds
        lags = sorted(lag for lag, moment in self.lags if begins <= moment < begins + self.load.seconds / 4)
        return lags[len(lags) // 2] if lags else math.inf

    def lag(self, share: float) -> float:
        """A percentile of the lags, of what was recorded in the second half."""
        late = sorted(lag for lag, moment in self.lags if moment >= self.load.seconds / 2)
        return late[min(len(late) - 1, int(share * len(late)))] if late else float("inf")


class _Sleeps:
    """The lake, which takes its time, that of the metrics included, and everything that it is given."""

    def __init__(self, simulation: Simulation, seconds: float) -> None:
        self._simulation = simulation
        self._seconds = seconds

    def __call__(self, _data: Any) -> Any:
        self._simulation.sleep(self._seconds)
        return {}

    put = put_again = __call__


class Pipeline:
    """The proxy's events on their way to the ledger."""

    def __init__(self, load: Load, setup: Setup, prices: PriceBook) -> None:
        self._load, self._setup = load, setup
        self._simulation = simulation = Simulation(BEGAN)
        self._table = TableModel(simulation, setup.writes)
        self.found = Found(load, table=self._table.counted)
        self._began: dict[str, float] = {}
        self._queue = Queue(simulation, setup.mapping, self._consume)
        self._bus = Bus(simulation, setup.region, BUS_TARGETS, self._deliver)
        self._overflow = Overflow(simulation, self._bus)
        ledger = CostsTable(_as_client(CostsClient(self._table, self._recorded)), "costs", self._pause)
        lake: Any = _Sleeps(simulation, WAIT_SECONDS - TRANSACTION_SECONDS)
        logger = Logger(service="scale", level="CRITICAL")
        self._record = RecordCost(prices, ledger, logger, lake, clock=simulation.clock)
        self._events = _events(load)

    def run(self) -> Found:
        """Let it run for the seconds of the load."""
        with same_chances():
            self._arrive(0)
            self._simulation.run(self._simulation.began + self._load.seconds)
        self.found.queue, self.found.bus_throttled = self._queue.counts, self._bus.throttled
        return self.found

    def _arrive(self, number: int) -> None:
        """One answer ends, and the next a moment later."""
        self._simulation.spawn(lambda: self._publish(number))
        moment = self._simulation.now + random.expovariate(self._load.rate)
        self._simulation.at(moment, lambda: self._arrive(number + 1))

    def _publish(self, number: int) -> None:
        now = self._simulation.now
        event = self._events[number % len(self._events)]
        event = event._replace(id=new_ulid(now))
        self._began[event.id] = now
        self.found.sent += 1
        fate = self._overflow.publisher.publish([event], now + STREAM_END)
        self.found.queued += fate == "queued"
        self.found.lost += fate == "lost"

    def _deliver(self, entry: Mapping[str, Any]) -> None:
        body = f'{{"detail-type":"{entry["DetailType"]}","source":"{entry["Source"]}","detail":{entry["Detail"]}}}'
        self._queue.send(Message(body, self._simulation.now))

    def _consume(self, batch: Sequence[Message]) -> Sequence[Message]:
        began = self._simulation.now
        alone, full = CPU_ALONE_SECONDS[self._setup.cpu], BATCH * CPU_SECONDS[self._setup.cpu]
        each = (full - alone) / (BATCH - 1)
        self._simulation.sleep((alone + each * (len(batch) - 1)) * MEGABYTES_OF_A_CPU / self._setup.megabytes)
        records = [{"messageId": str(place), "body": message.body} for place, message in enumerate(batch)]
        failed = self._record({"Records": records})["batchItemFailures"]
        self.found.busy_seconds += self._simulation.now - began
        return [batch[int(each["itemIdentifier"])] for each in failed]

    def _recorded(self, event_id: str) -> None:
        moment = self._simulation.now
        self.found.lags.append((moment - self._began.pop(event_id), moment - self._simulation.began))

    def _pause(self, attempt: int) -> None:
        pause_before_retry(attempt, sleep=self._simulation.sleep)


def _as_client(client: CostsClient) -> Any:
    return client


def _events(load: Load) -> deque[Any]:
    """One event for each client and model."""
    envelope: Any = json.loads(SAMPLE.read_text(encoding="utf-8"))
    found: deque[Any] = deque()
    for client in range(load.clients):
        for model in range(load.models):
            event: Any = from_envelope(json.loads(json.dumps(envelope)))
            event.data["response"]["model"] += f"-{model}" if model else ""
            event.data["client"] = {"key_id": "3f2a91c07be4", "name": "Chat widget", "owner": "team-web"}
            event.data["client"]["tags"] = _LARGE_TAGS if load.is_large else {"team": "web"}
            found.append(event._replace(client_id=f"client-{client}", timestamp="2026-11-18T11:06:40.000Z"))
    return found
