"""Many requests, one at a time or in parallel: CPU per request, and what a client waits.

Its one rule: alternatives take turns, so that a busy moment of the machine hits all of them. The measuring process and
the upstream server are watched too: one that is busy all the time would be what is measured.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from bench.requests import Workload
from bench.runtime_api import Exchange
from bench.servers.upstream import STAMP
from bench.targets import Target, check

WARM_UP = 30


@dataclass(frozen=True, slots=True)
class Busy:
    """Seconds of work while so many seconds passed: of the measuring process, the upstream server, all processors."""

    measuring: float = 0.0
    upstream: float = 0.0
    machine: float = 0.0
    processors: float = 0.0
    passed: float = 0.0

    @classmethod
    def now(cls, upstream: Target) -> Self:
        """What the clocks say."""
        return cls(time.process_time(), upstream.cpu, *machine(), time.monotonic())

    def plus(self, before: "Busy", after: "Busy") -> "Busy":
        """What was done between two readings, added to this."""
        return Busy(
            self.measuring + after.measuring - before.measuring,
            self.upstream + after.upstream - before.upstream,
            self.machine + after.machine - before.machine,
            self.processors + after.processors - before.processors,
            self.passed + after.passed - before.passed,
        )


def machine() -> tuple[float, float]:
    """Seconds in which the processors of the machine have worked since its start, and all seconds."""
    # user, nice, system, idle, iowait, irq, softirq, steal, in USER_HZ, which is 100: proc_stat(5).
    first, *_ = Path("/proc/stat").read_text().splitlines()
    ticks = [int(value) for value in first.split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / 100, sum(ticks) / 100


@dataclass(slots=True)
class Load:
    """What a target did with many requests: seconds of CPU in each round, events included, and the answers."""

    rounds: list[float]
    exchanges: list[Exchange]
    busy: Busy

    @property
    def cpu(self) -> float:
        """Milliseconds of CPU for one request."""
        return sum(self.rounds) / len(self.exchanges) * 1000

    def first_byte(self) -> tuple[float, float]:
        """Milliseconds from the request to the first byte: p50, p99."""
        return percentiles([(exchange.first_byte - exchange.asked) / 1e6 for exchange in self.exchanges])

    def chunk(self) -> tuple[float, float]:
        """Milliseconds from the sending of a chunk to its arrival at the client: p50, p99. Of paced streams only."""
        pieces = [piece for exchange in self.exchanges for piece in exchange.pieces]
        stamped = ((moment, int(stamp)) for moment, data in pieces for stamp in STAMP.findall(data))
        return percentiles([(moment - stamp) / 1e6 for moment, stamp in stamped])


@dataclass(frozen=True, slots=True)
class Plan:
    """How many requests: in `rounds` turns each of `clients` sends so many, the next when its answer has ended.

    Their first ones are spread over `spread` seconds, and between two of one client lie `pause` seconds.
    """

    rounds: int
    requests: int
    clients: int = 1
    spread: float = 0.0
    pause: float = 0.0
    warm_up: int = WARM_UP


async def load(targets: Sequence[Target], workload: Workload, plan: Plan, upstream: Target) -> dict[str, Load]:
    """Give each target its requests, in turns."""
    found = {target.name: Load([], [], Busy()) for target in targets}
    for target in targets:
        await _all_clients(target, workload, plan, max(1, plan.warm_up // plan.clients))
    for _ in range(plan.rounds):
        for target in targets:
            each, busy, cpu = found[target.name], Busy.now(upstream), target.cpu
            exchanges = await _all_clients(target, workload, plan, plan.requests)
            each.rounds.append(target.cpu - cpu)
            each.busy = each.busy.plus(busy, Busy.now(upstream))
            for exchange in exchanges:
                check(exchange, workload)
            each.exchanges += exchanges
    return found


async def _all_clients(target: Target, workload: Workload, plan: Plan, requests: int) -> list[Exchange]:
    clients = (_client(target, workload, plan, requests, number) for number in range(plan.clients))
    exchanges = [exchange for found in await asyncio.gather(*clients) for exchange in found]
    await target.settled()
    return exchanges


async def _client(target: Target, workload: Workload, plan: Plan, requests: int, number: int) -> list[Exchange]:
    await asyncio.sleep(plan.spread * number / plan.clients)
    exchanges: list[Exchange] = []
    for _ in range(requests):
        exchanges.append(await target.exchange(workload))
        if plan.pause:
            await asyncio.sleep(plan.pause)
    return exchanges


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The 50th and the 99th percentile."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[98]
