"""What a resumable stream costs its sandbox: the same requests with `x-resumable` and without it, in turns.

Each writes its events down before the sandbox takes another request, so the CPU of that counts too.
"""

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace

from bench.measures.load import Load, Plan, load
from bench.processes import Surroundings
from bench.requests import STREAM, Workload
from bench.runtime_api import Exchange
from bench.targets import SandboxTarget, Target, sandboxes

_PLAIN, _KEPT = "plain", "resumable"


class _Kept:
    """A sandbox that is asked for resumable streams."""

    def __init__(self, target: SandboxTarget) -> None:
        self._target = target
        self.name = _KEPT

    @property
    def cpu(self) -> float:
        """Seconds of CPU of the sandbox."""
        return self._target.cpu

    @property
    def resident(self) -> float:
        """Resident megabytes of the sandbox."""
        return self._target.resident

    async def exchange(self, workload: Workload) -> Exchange:
        """One invocation; its answer has to have ids."""
        exchange = await self._target.exchange(replace(workload, resumable=True))
        if b"\nid: " not in exchange.raw:
            raise RuntimeError("the stream is not resumable")
        return exchange

    async def settled(self) -> None:
        """Wait until all is written and published."""
        await self._target.settled()


async def resumable(around: Surroundings, plan: Plan, upstream: Target) -> tuple[Load, Load]:
    """The load of streams that are sent at once: plain ones, and resumable ones."""
    async with _pair(around) as targets:
        found = await load(targets, STREAM, plan, upstream)
    return found[_PLAIN], found[_KEPT]


@contextlib.asynccontextmanager
async def _pair(around: Surroundings) -> AsyncGenerator[list[Target]]:
    async with sandboxes(around, _PLAIN) as plain, sandboxes(around, _KEPT) as kept:
        yield [plain, _Kept(kept)]
