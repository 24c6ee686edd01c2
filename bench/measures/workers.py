"""One environment of managed instances with many workers: memory and CPU of a stream, and many streams in a storm.

Its one rule: a stream whose worker is killed may break, and no other: every other one comes whole, and each request
that was let in has one terminal event.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import Any

from bench.chapters import Bench
from bench.environment import ACCEPTED, GONE, EnvironmentTarget, KilledError, Slot, environment
from bench.measures.load import Plan, load
from bench.processes import Surroundings
from bench.report import Figure, table
from bench.requests import Workload, paced
from bench.runtime_api import AwsStandIn, Exchange
from bench.targets import check, sandboxes

WORKERS = 64
_FEW, _SEPARATE, _TOGETHER = 8, "8 sandboxes", "one environment with 8 workers"
_PACE = 25
"""Milliseconds between two chunks."""
_PAUSE = 0.04
"""Seconds between two streams that begin."""


class Events:
    """Keeps which requests the bus heard of, by the id that the client gave."""

    def __init__(self) -> None:
        self.heard: dict[str, list[tuple[str, str]]] = {}

    def call(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Nobody asks DynamoDB here."""
        raise RuntimeError(f"an unexpected {operation}: {arguments}")

    def keep(self, entry: dict[str, str]) -> None:
        """Take note of an event."""
        metadata = json.loads(entry["Detail"])["metadata"]
        self.heard.setdefault(metadata["request_id"], []).append((metadata["id"], entry["DetailType"]))


@dataclass(slots=True)
class Storm:
    """What came of many streams. A `broken` one lost its worker in the middle; a `late` one was answered with 410."""

    whole: int = 0
    late: int = 0
    broken: int = 0
    kills: int = 0
    wrong: list[str] = field(default_factory=list[str])
    events: Counter[str] = field(default_factory=Counter[str])


@contextlib.asynccontextmanager
async def own_events(around: Surroundings) -> AsyncGenerator[tuple[Surroundings, Events]]:
    """The same surroundings with a bus that remembers."""
    events = Events()
    async with await AwsStandIn(events).listen() as server:
        yield replace(around, aws="{}:{}".format(*server.sockets[0].getsockname())), events


async def storm(around: Surroundings, workers: int, streams: int, kills: int, workload: Workload) -> Storm:
    """So many paced streams through one environment, as many at a time as it takes, while workers are killed.

    Every tenth is given the request id of another one, and every twentieth is told at its end that it comes too late.
    """
    found, chance = Storm(), random.Random(1)  # noqa: S311  # the same in every run
    async with own_events(around) as (own, events), environment(own, "storm", workers) as target:
        killer = asyncio.create_task(_kill(target, kills, streams * _PAUSE, found, chance))
        tasks: list[asyncio.Task[None]] = []
        for number in range(streams):
            gone = number % 20 == 19
            request_id = f"id-{number - 1 if number % 10 == 9 else number}".encode()
            slot = await target.api.hand_out(_event(workload, number), request_id, GONE if gone else ACCEPTED)
            tasks.append(asyncio.create_task(_one(slot, workload, f"stream-{number}", found, is_late=gone)))
            await asyncio.sleep(_PAUSE)
        await asyncio.gather(killer, *tasks)
        await target.api.idle(workers)  # every worker is back, those of the killed ones with what was to be told
        _judge(events, streams, found)
    return found


def _event(workload: Workload, number: int) -> bytes:
    document = json.loads(workload.event())
    document["headers"]["x-request-id"] = f"stream-{number}"
    return json.dumps(document).encode()


async def _one(slot: Slot, workload: Workload, name: str, found: Storm, *, is_late: bool) -> None:
    try:
        exchange: Exchange = await slot.done
    except KilledError:
        found.broken += 1
        return
    try:
        check(exchange, workload)
    except ValueError as error:
        found.wrong.append(f"{name}: {error}"[:200])
    found.late += is_late
    found.whole += not is_late


async def _kill(target: EnvironmentTarget, kills: int, seconds: float, found: Storm, chance: random.Random) -> None:
    """End workers with SIGKILL, whatever they do, evenly over the time."""
    for _ in range(kills):
        await asyncio.sleep(seconds / (kills + 1))
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(chance.choice(target.process.children), signal.SIGKILL)
            found.kills += 1


def _judge(events: Events, streams: int, found: Storm) -> None:
    """One event for each request; for one that was killed before it was let in, none."""
    silent = 0
    for number in range(streams):
        heard = events.heard.get(f"stream-{number}", [])
        silent += not heard
        if len({event_id for event_id, _ in heard}) > 1:
            found.wrong.append(f"stream-{number}: {heard}")
        found.events.update({kind for _, kind in heard[:1]})
    if silent > found.broken:
        found.wrong.append(f"{silent} requests without an event, and {found.broken} were killed")
    found.events["none"] = silent


async def memory_of_streams(target: EnvironmentTarget, workload: Workload, rounds: int) -> tuple[float, float]:
    """Megabytes for each worker, of all together (PSS): idle, and while every one of them has a stream."""
    idle, busy = target.resident / target.count, 0.0
    for _ in range(rounds):
        running = asyncio.gather(*(target.exchange(workload) for _ in range(target.count)))
        await asyncio.sleep(1.0)
        busy = max(busy, target.resident / target.count)
        for exchange in await running:
            check(exchange, workload)
        await target.settled()
    return idle, busy


async def many_workers(bench: Bench) -> list[Figure]:
    """Memory and CPU of a stream among many workers, and 1,000 paced streams while workers are killed."""
    async with environment(bench.around, "environment", WORKERS) as target:
        idle, busy = await memory_of_streams(target, paced(_PACE), bench.times(3, 1))
    table(["megabytes for each worker, PSS", "idle", "with a stream in each"], [(f"{WORKERS} workers", idle, busy)])
    async with (
        sandboxes(bench.around, _SEPARATE, _FEW) as apart,
        environment(bench.around, _TOGETHER, _FEW) as together,
    ):
        plan = Plan(rounds=5, requests=bench.times(3, 2), clients=_FEW, warm_up=4 * _FEW)
        loads = await load([apart, together], paced(_PACE), plan, bench.direct)
    ratio = loads[_TOGETHER].cpu / loads[_SEPARATE].cpu
    rows = [(name, each.cpu, each.cpu / loads[_SEPARATE].cpu) for name, each in loads.items()]
    table([f"{paced(_PACE).name}: CPU of a stream", "ms", "ratio"], rows)
    streams = bench.times(1_000, 100)
    calm = await storm(bench.around, WORKERS, streams, 0, paced(_PACE))
    found = await storm(bench.around, WORKERS, streams, streams // 20, paced(_PACE))
    table(
        [f"{streams:,} paced streams", "whole", "too late (410)", "broken by a kill", "kills", "events", "wrong"],
        [_row("nobody is killed", calm), _row("workers are killed", found)],
    )
    wrong = len(calm.wrong) + calm.broken + len(found.wrong)
    return [
        Figure(f"memory of a stream, {WORKERS} at once in one environment (PSS)", 6, busy, "{:.2f} MB"),
        Figure("CPU of a paced stream, one environment beside sandboxes", 1, ratio),
        Figure(f"{streams:,} paced streams, twice, in {WORKERS} workers: errors", 0, wrong, "{:.0f}"),
    ]


def _row(name: str, found: Storm) -> tuple[object, ...]:
    events = ", ".join(f"{count} {kind}" for kind, count in sorted(found.events.items()) if count)
    wrong = "; ".join(found.wrong[:3]) or "nothing"
    return name, found.whole, found.late, found.broken, found.kills, events, wrong
