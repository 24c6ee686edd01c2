"""One very long stream through one sandbox: what the sandbox holds in memory on the way, and what a chunk costs.

What a chunk costs changes with what else the machine does. So the last tenth of the stream is not measured beside its
first one, minutes before, but beside the same number of chunks of a young stream in another sandbox at the same time.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from bench import ports, processes
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

    `young` is what was known of a stream a tenth as long, while this one was in its last tenth. `upstream` is the share
    of the time in which the upstream server worked.
    """

    chunks: int
    pause: int
    moments: dict[int, Moment]
    young: dict[int, Moment]
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

    def last_tenth(self) -> tuple[float, float]:
        """Microseconds of CPU per chunk, and chunks per piece."""
        return _between(self.moments[self.chunks - self.chunks // 10], self.moments[self.chunks])

    def first_tenth_of_a_young_one(self) -> tuple[float, float]:
        """Microseconds of CPU per chunk, and chunks per piece, of a stream that has just begun at that time."""
        return _between(self.young[0], self.young[self.chunks // 10])


def _between(start: Moment, end: Moment) -> tuple[float, float]:
    chunks = max(1, end.chunks - start.chunks)
    return (end.cpu - start.cpu) / chunks * 1e6, chunks / max(1, end.pieces - start.pieces)


class _Watch:
    """Counts the chunks of an answer as they arrive, and looks at the sandbox at every milestone."""

    def __init__(self, chunks: int, on_last_tenth: Callable[[], None]) -> None:
        self._last_tenth = chunks - chunks // 10
        self._on_last_tenth = on_last_tenth
        self._ahead = sorted(wanted for wanted in {*_MILESTONES, self._last_tenth, chunks} if wanted <= chunks)
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
        if milestone == self._last_tenth:
            self._on_last_tenth()


async def long_stream(around: Surroundings, chunks: int, pause: int) -> LongStream:
    """One stream of a fresh sandbox, and a young one. Raises ValueError when one did not come whole, or with usage."""
    in_last_tenth = asyncio.Event()

    async def young() -> tuple[dict[int, Moment], float, float]:
        return await _stream(around, chunks // 10, pause, lambda: None, in_last_tenth)

    at_once = asyncio.Event()
    at_once.set()
    (moments, upstream, seconds), (of_young, _, _) = await asyncio.gather(
        _stream(around, chunks, pause, in_last_tenth.set, at_once), young()
    )
    return LongStream(chunks, pause, moments, of_young, upstream / seconds, seconds)


async def _stream(
    around: Surroundings, chunks: int, pause: int, on_last_tenth: Callable[[], None], go: asyncio.Event
) -> tuple[dict[int, Moment], float, float]:
    """What was known at the milestones, and seconds: of the upstream server's work, and all."""
    watch, port = _Watch(chunks, on_last_tenth), ports.free_port()
    servers_file = around.servers_file.with_name(f"servers_{port}.yaml")
    servers_file.write_text(processes.built_servers(port))
    with running(processes.module("bench.servers.upstream_long", str(port))) as upstream:
        await processes.listening(port, upstream)
        async with sandboxes(replace(around, servers_file=servers_file), "", on_piece=watch) as target:
            watch.target = target
            await go.wait()
            watch.look(0)
            began, cpu = time.monotonic(), upstream.cpu
            await target.exchange(Workload("", f"long-{chunks}-{pause}", stream=True))
            seconds, work = time.monotonic() - began, upstream.cpu - cpu
            await target.settled()
    if chunks not in watch.moments or watch.moments[chunks].chunks != chunks or watch.shows_usage:
        raise ValueError(f"not the stream of {chunks} chunks: {watch.moments}")
    return watch.moments, work, seconds
