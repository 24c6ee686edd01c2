"""One very long stream through one sandbox: what the sandbox holds in memory on the way, and what a chunk costs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench import processes
from bench.processes import Surroundings, running
from bench.requests import Workload
from bench.targets import SandboxTarget, sandboxes

_EVENT = b"data: {"
_MILESTONES = (100, 1_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class Moment:
    """What was known when so many chunks had arrived: the pieces they came in, resident megabytes, seconds of CPU."""

    chunks: int
    pieces: int
    resident: float
    cpu: float


@dataclass(frozen=True, slots=True)
class LongStream:
    """One stream of `chunks` chunks that lay `pause` microseconds apart, and what was known at its milestones.

    `upstream` is the share of the time in which the upstream server worked.
    """

    chunks: int
    pause: int
    moments: dict[int, Moment]
    upstream: float
    seconds: float

    def resident(self) -> list[tuple[int, float]]:
        """Resident megabytes after so many chunks."""
        return [(wanted, self.moments[wanted].resident) for wanted in _MILESTONES if wanted in self.moments]

    @property
    def grown(self) -> float:
        """Megabytes between the first milestone and the one that lies farthest from it."""
        (_, first), *others = self.resident()
        return max((resident - first for _, resident in others), key=abs)

    def tenth(self, number: int) -> tuple[float, float]:
        """Of one tenth of the stream (0 to 9): microseconds of CPU per chunk, and chunks per piece."""
        start, end = self.moments[number * self.chunks // 10], self.moments[(number + 1) * self.chunks // 10]
        chunks = end.chunks - start.chunks
        return (end.cpu - start.cpu) / max(1, chunks) * 1e6, chunks / max(1, end.pieces - start.pieces)


class _Watch:
    """Counts the chunks of an answer as they arrive, and looks at the sandbox at every milestone."""

    def __init__(self, milestones: Sequence[int]) -> None:
        self._ahead = sorted(milestones)
        self._chunks = self._pieces = 0
        self._tail = b""
        self.moments: dict[int, Moment] = {}
        self.shows_usage = False
        self.target: SandboxTarget | None = None

    def __call__(self, data: bytes) -> None:
        text = self._tail + data
        self._tail = text[1 - len(_EVENT) :]
        self._chunks += text.count(_EVENT)
        self._pieces += 1
        self.shows_usage |= b"prompt_tokens" in text
        while self._ahead and self._chunks >= self._ahead[0]:
            self.look(self._ahead.pop(0))

    def look(self, milestone: int) -> None:
        """Note what is known now."""
        assert self.target is not None
        self.moments[milestone] = Moment(self._chunks, self._pieces, self.target.resident, self.target.cpu)


async def long_stream(around: Surroundings, chunks: int, pause: int) -> LongStream:
    """One stream of a fresh sandbox. Raises ValueError when it did not come whole, or with usage."""
    tenths = {chunks // 10, chunks - chunks // 10, chunks}
    watch = _Watch([wanted for wanted in tenths.union(_MILESTONES) if wanted <= chunks])
    port = processes.free_port()
    servers_file = around.servers_file.with_name("long_servers.yaml")
    servers_file.write_text(processes.servers(port))
    with running(processes.module("bench.upstream_long", str(port))) as upstream:
        await processes.listening(port, upstream)
        async with sandboxes(replace(around, servers_file=servers_file), "", on_piece=watch) as target:
            watch.target = target
            watch.look(0)
            began, cpu = time.monotonic(), upstream.cpu
            await target.exchange(Workload("", f"long-{chunks}-{pause}", stream=True))
            seconds, share = time.monotonic() - began, upstream.cpu - cpu
            await target.settled()
    if chunks not in watch.moments or watch.moments[chunks].chunks != chunks or watch.shows_usage:
        raise ValueError(f"not the stream of {chunks} chunks: {watch.moments}")
    return LongStream(chunks, pause, watch.moments, share / seconds, seconds)
