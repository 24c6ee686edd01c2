"""The measurements: plain figures. Alternatives take turns, so that a busy moment of the machine hits all of them."""

import contextlib
import statistics
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from bench import processes
from bench.processes import Surroundings, running
from bench.requests import STREAM, Workload
from bench.runtime_api import Exchange, RuntimeApi
from bench.targets import HttpTarget, SandboxTarget, Target, check
from bench.upstream import STAMP

WARM_UP = 30


@dataclass(frozen=True, slots=True)
class Load:
    """What a target did with many requests: milliseconds of CPU for one, its events included, and the answers."""

    cpu: float
    exchanges: list[Exchange]

    def first_byte(self) -> tuple[float, float]:
        """Milliseconds from the request to the first byte: p50, p99."""
        return percentiles([(exchange.first_byte - exchange.asked) / 1e6 for exchange in self.exchanges])

    def chunk(self) -> tuple[float, float]:
        """Milliseconds from the sending of a chunk to its arrival at the client: p50, p99. Of paced streams only."""
        pieces = [piece for exchange in self.exchanges for piece in exchange.pieces]
        stamped = ((moment, int(stamp)) for moment, data in pieces for stamp in STAMP.findall(data))
        return percentiles([(moment - stamp) / 1e6 for moment, stamp in stamped])


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident megabytes of a process: started and idle, and after `streams` streams with their events published."""

    idle: float
    after: float
    streams: int
    events: int


@dataclass(frozen=True, slots=True)
class ColdStarts:
    """Median milliseconds from the start of a process."""

    bare_httpx: float
    sandbox_next: float
    sandbox_first_byte: float
    uncompiled_next: float
    uncompiled_first_byte: float
    fastapi_first_byte: float
    rounds: int


@contextlib.asynccontextmanager
async def sandbox(around: Surroundings, name: str) -> AsyncGenerator[SandboxTarget]:
    """A proxy sandbox that has asked for its first invocation."""
    api = RuntimeApi()
    async with await api.listen() as server:
        address = "{}:{}".format(*server.sockets[0].getsockname())
        with running(around.sandbox(address)) as process:
            await api.idle()
            yield SandboxTarget(name, process, api)


@contextlib.asynccontextmanager
async def fastapi(around: Surroundings, name: str, *, fast: bool) -> AsyncGenerator[HttpTarget]:
    """A FastAPI pass-through that listens."""
    port = processes.free_port()
    with running(processes.fastapi(around.upstream, port, fast=fast)) as process:
        await processes.listening(port, process)
        yield HttpTarget(name, process, port)


async def load(targets: Sequence[Target], workload: Workload, requests: int, rounds: int) -> dict[str, Load]:
    """Give each target `rounds` times `requests` requests, one after the other, in turns."""
    cpu = dict.fromkeys((target.name for target in targets), 0.0)
    exchanges: dict[str, list[Exchange]] = {target.name: [] for target in targets}
    for target in targets:
        await _repeat(target, workload, WARM_UP)
    for _ in range(rounds):
        for target in targets:
            before = target.process.cpu
            exchanges[target.name] += await _repeat(target, workload, requests)
            cpu[target.name] += target.process.cpu - before
    return {name: Load(cpu[name] / (requests * rounds) * 1000, found) for name, found in exchanges.items()}


async def _repeat(target: Target, workload: Workload, requests: int) -> list[Exchange]:
    exchanges = [await target.exchange(workload) for _ in range(requests)]
    await target.settled()
    for exchange in exchanges:
        check(exchange, workload)
    return exchanges


def percentiles(values: Sequence[float]) -> tuple[float, float]:
    """The 50th and the 99th."""
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[98]


async def memory(target: Target, streams: int, events: Callable[[], int]) -> Memory:
    """What a fresh process has in memory, idle and after `streams` streams."""
    idle, published = target.process.resident, events()
    for _ in range(streams):
        check(await target.exchange(STREAM), STREAM)
    await target.settled()
    return Memory(idle, target.process.resident, streams, events() - published)


async def cold_starts(around: Surroundings, rounds: int) -> ColdStarts:
    """Starts with a warm page cache, of each kind in turn. The authorizer answers at once."""
    uncompiled = replace(around, build=processes.without_bytecode(around.servers_file.parent))
    kinds: dict[str, Callable[[], Awaitable[tuple[float, ...]]]] = {
        "bare": lambda: _start_bare(around),
        "sandbox": lambda: _start_sandbox(around),
        "uncompiled": lambda: _start_sandbox(uncompiled),
        "fastapi": lambda: _start_fastapi(around),
    }
    times: dict[str, list[tuple[float, ...]]] = {kind: [] for kind in kinds}
    for round_ in range(rounds + 2):
        for kind, start in kinds.items():
            figures = await start()
            if round_ >= 2:
                times[kind].append(figures)
    medians = [statistics.median(column) for found in times.values() for column in zip(*found, strict=True)]
    return ColdStarts(*medians, rounds=rounds)


async def _start_bare(around: Surroundings) -> tuple[float, ...]:
    return (processes.bare_httpx(around.python, around.servers_file.parent).wait() / 1e6,)


async def _start_sandbox(around: Surroundings) -> tuple[float, ...]:
    api = RuntimeApi()
    async with await api.listen() as server:
        address = "{}:{}".format(*server.sockets[0].getsockname())
        with running(around.sandbox(address)) as process:
            exchange = await api.invoke(STREAM.event())
            check(exchange, STREAM)
            started = process.started
            return (exchange.taken - started) / 1e6, (exchange.first_byte - started) / 1e6


async def _start_fastapi(around: Surroundings) -> tuple[float, ...]:
    port = processes.free_port()
    with running(processes.fastapi(around.upstream, port, fast=False)) as process:
        await processes.listening(port, process)
        exchange = await HttpTarget("", process, port).exchange(STREAM)
        check(exchange, STREAM)
        return ((exchange.first_byte - process.started) / 1e6,)
