"""Memory of a process, and cold starts: plain figures. Kinds of start take turns, so that a busy moment hits all."""

import statistics
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from bench import ports, processes
from bench.processes import Surroundings, running
from bench.requests import STREAM
from bench.runtime_api import RuntimeApi
from bench.targets import HttpTarget, Target, check

_SIGNED_IN = """\
bedrock: {url: 'https://bedrock-runtime.{region}.amazonaws.com/openai/v1', auth: aws, model: m}
azure: {url: 'https://a.openai.azure.com/openai/v1', auth: {header: api-key}, token: t, query: {a: b}, model: m}
anthropic: {url: 'https://api.anthropic.com/v1', auth: {header: x-api-key}, token: t, headers: {a: b}, model: m}
"""
"""Servers with a sign-in of their own."""


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
    signing_next: float
    signing_first_byte: float
    uncompiled_next: float
    uncompiled_first_byte: float
    fastapi_first_byte: float
    signing_adds: float
    """To the first `/next`: the median of what the pairs say."""
    rounds: int


async def memory(target: Target, streams: int, events: Callable[[], int]) -> Memory:
    """What a fresh process has in memory, idle and after `streams` streams."""
    idle, published = target.resident, events()
    for _ in range(streams):
        check(await target.exchange(STREAM), STREAM)
    await target.settled()
    return Memory(idle, target.resident, streams, events() - published)


async def cold_starts(around: Surroundings, rounds: int) -> ColdStarts:
    """Starts with a warm page cache, of each kind in turn. The authorizer answers at once.

    What ran before a start is part of what it takes, so every other round goes the other way round.
    """
    uncompiled = replace(around, build=processes.without_bytecode(around.build, around.servers_file.parent))
    file = around.servers_file.with_name("servers_with_sign_in.yaml")
    file.write_text(processes.built_servers(int(around.upstream.rpartition(":")[2]), _SIGNED_IN))
    signing = replace(around, servers_file=file)
    kinds: dict[str, Callable[[], Awaitable[tuple[float, ...]]]] = {
        "bare": lambda: _start_bare(around),
        "sandbox": lambda: _start_sandbox(around),
        "signing": lambda: _start_sandbox(signing),
        "uncompiled": lambda: _start_sandbox(uncompiled),
        "fastapi": lambda: _start_fastapi(around),
    }
    times: dict[str, list[tuple[float, ...]]] = {kind: [] for kind in kinds}
    for round_ in range(rounds + 2):
        for kind in list(kinds) if round_ % 2 else reversed(kinds):
            figures = await kinds[kind]()
            if round_ >= 2:
                times[kind].append(figures)
    medians = [statistics.median(column) for found in times.values() for column in zip(*found, strict=True)]
    adds = statistics.median(more[0] - less[0] for more, less in zip(times["signing"], times["sandbox"], strict=True))
    return ColdStarts(*medians, signing_adds=adds, rounds=rounds)


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
    port = ports.free_port()
    with running(processes.fastapi(around.upstream, port, fast=False)) as process:
        await processes.listening(port, process)
        exchange = await HttpTarget("", process, port).exchange(STREAM)
        check(exchange, STREAM)
        return ((exchange.first_byte - process.started) / 1e6,)
