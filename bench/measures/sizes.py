"""The memory sizes of Lambda: a sandbox with the share of a CPU that each gives, and what a million streams cost there.

INIT has a whole CPU, as on Lambda; the sandbox gets its share when it first asks for an invocation. Sizes take turns.
"""

import contextlib
import re
import statistics
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.chapters import DIRECT, PACE, PACE_OF_MANY, Bench
from bench.measures.cpu_share import CGROUPS, PERIOD_US, Groups, NoGroupsError, cpu_share, find_groups, quota_us, share
from bench.measures.handshake import handshake
from bench.measures.load import Load, Plan, load
from bench.processes import ROOT
from bench.report import Figure, table
from bench.requests import LARGE, STREAM, paced
from bench.servers.upstream import CHUNKS
from bench.targets import SandboxTarget, check, sandboxes
from bench.units import STREAM_SECONDS, proxy_usd

_Found = Mapping[str, Load]
"""Of each target."""
SIZES = (128, 256, 512, 1769)
LATER_MS = 20.0
"""So much later than with a whole CPU may a warm request and its chunks come: a period of the kernel is as long."""
FIRST_LATER_MS = 100.0
"""The first request of a sandbox may come so much later: a person notices no less."""
FULL = 0.5
"""The part of the memory that may be resident: what Lambda runs beside the sandbox is not measured here."""


@dataclass(frozen=True, slots=True)
class Size:
    """What was measured of one size. Times in milliseconds, memory in megabytes (1,000,000 bytes)."""

    megabytes: int
    init: float
    first: float
    """From the first request of a sandbox to its first byte."""
    handshakes: float
    """What two TLS handshakes add to that: with the authorizer's service and with the upstream server."""
    idle: float
    streams: float
    """The most that was resident in streams."""
    peak: float
    """The most that was resident, questions of 5 MB included."""
    byte: float
    """p99 of a warm request's first byte, added to no proxy; the larger one of both paces."""
    chunk: float
    """The same of a chunk."""
    extra: float
    """Seconds that an invocation lasts beside the stream itself."""

    @property
    def cold(self) -> float:
        """Milliseconds from the first request of a sandbox to its first byte, over TLS."""
        return self.first + self.handshakes

    @property
    def usd(self) -> float:
        """What Lambda charges for a million streams of ten seconds."""
        return proxy_usd(STREAM_SECONDS + self.extra, self.megabytes)

    def figures(self, whole: "Size") -> list[Figure]:
        """What a client notices of this size beside `whole`, and how full it gets."""
        name, beside = _name(self.megabytes), f"later than with {_name(whole.megabytes)}"
        full = self.peak * 1e6 / (self.megabytes << 20)
        return [
            Figure(f"{name}: first byte, p99, {beside}", LATER_MS, self.byte - whole.byte, "{:.1f} ms"),
            Figure(f"{name}: a chunk, p99, {beside}", LATER_MS, self.chunk - whole.chunk, "{:.1f} ms"),
            Figure(f"{name}: first request, {beside}", FIRST_LATER_MS, self.cold - whole.cold, "{:.1f} ms"),
            Figure(f"{name}: part of its memory that was ever resident", FULL, full),
        ]


def recommended(sizes: Sequence[Size]) -> Size:
    """The cheapest size that keeps to the bounds of its figures; the largest one where none does."""
    whole = max(sizes, key=lambda size: size.megabytes)
    good = [size for size in sizes if all(each.measured <= each.bound for each in size.figures(whole))]
    return min(good or [whole], key=lambda size: size.usd)


def default_size() -> int:
    """ProxyMemoryMB where nobody sets it."""
    found = re.search(r"^  ProxyMemoryMB: \{.*?Default: (\d+)", (ROOT / "template.yaml").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


async def memory_sizes(bench: Bench, cgroups: Path = CGROUPS) -> list[Figure]:
    """Cold start, what a client waits, CPU, memory and price of each size; no figures where no share can be given."""
    try:
        sizes = await _measured(bench, find_groups(cgroups))
    except NoGroupsError as error:
        print(f"\nThe memory sizes are not measured, and have no figures: {error}.")
        return []
    best, default = recommended(sizes), default_size()
    rows = [(_name(size.megabytes), 1000 * size.extra, size.usd, size.usd / best.usd) for size in sizes]
    header = ["memory size", "ms that an invocation lasts beside the stream", "USD for a million streams of 10 s"]
    table([*header, f"beside {_name(best.megabytes)}"], rows)
    print(f"\nRecommended: {_name(best.megabytes)}. The default of ProxyMemoryMB: {_name(default)}.")
    return [figure for size in sizes if size.megabytes == default for figure in size.figures(sizes[-1])]


async def _measured(bench: Bench, groups: Groups) -> list[Size]:
    tls = 2 * handshake(bench.times(50, 5))
    starts = await _cold_starts(bench, groups)
    async with contextlib.AsyncExitStack() as stack:
        targets = [await stack.enter_async_context(_sandbox(bench, groups, size)) for size in SIZES]
        idle = [target.resident for target in targets]
        every = [bench.direct, *targets]
        fast = await load(every, paced(PACE), Plan(bench.times(30, 2), 2, warm_up=10), bench.direct)
        slow = await load(every, paced(PACE_OF_MANY), Plan(bench.times(16, 2), 1, warm_up=2), bench.direct)
        streams = [target.processes[0].peak for target in targets]
        large = await load(every, LARGE, Plan(bench.times(10, 2), 1, warm_up=1), bench.direct)
        peaks = [target.processes[0].peak for target in targets]
    memory = zip(idle, streams, peaks, strict=True)
    sizes = [
        Size(size, *start, tls / share(size), *resident, *_waiting(_name(size), fast, slow))
        for size, start, resident in zip(SIZES, starts, memory, strict=True)
    ]
    _start_table(sizes)
    for pace, found in ((PACE, fast), (PACE_OF_MANY, slow)):
        _stream_table(f"{paced(pace).name}: milliseconds added", found)
    _memory_table(sizes, large)
    return sizes


def _waiting(name: str, fast: _Found, slow: _Found) -> tuple[float, float, float]:
    """The delays that `Size` calls byte, chunk and extra."""
    byte = max(_added(found, name, Load.first_byte)[1] for found in (fast, slow))
    chunk = max(_added(found, name, Load.chunk)[1] for found in (fast, slow))
    before = _added(slow, name, Load.first_byte)[0] / 1000
    return byte, chunk, before + _afterwards(slow[name]) - _afterwards(slow[DIRECT])


def _afterwards(found: Load) -> float:
    """Seconds from the last byte of an answer until its event is published, on the average."""
    answers = sum(each.ended - each.asked for each in found.exchanges) / 1e9
    return (found.busy.passed - answers) / len(found.exchanges)


def _added(found: _Found, name: str, read: Callable[[Load], tuple[float, float]]) -> tuple[float, float]:
    """Milliseconds that a size adds to no proxy: p50, p99."""
    (p50, p99), (least50, least99) = read(found[name]), read(found[DIRECT])
    return p50 - least50, p99 - least99


@contextlib.asynccontextmanager
async def _sandbox(bench: Bench, groups: Groups, megabytes: int) -> AsyncGenerator[SandboxTarget]:
    """A sandbox that has asked for its first invocation, and has the share of that size from then on."""
    with cpu_share(groups, megabytes) as join:
        async with sandboxes(bench.around, _name(megabytes)) as target:
            for process in target.processes:
                join(process.id)
            yield target


async def _cold_starts(bench: Bench, groups: Groups) -> list[tuple[float, float]]:
    """Median milliseconds of INIT, and from a first request to its first byte. The first start of each is left out."""
    found: dict[int, list[tuple[float, float]]] = {size: [] for size in SIZES}
    for round_ in range(bench.times(12, 2) + 1):
        for size in SIZES:
            async with _sandbox(bench, groups, size) as target:
                init = time.monotonic_ns() - target.processes[0].started
                exchange = await target.exchange(STREAM)
                check(exchange, STREAM)
            if round_:
                found[size].append((init / 1e6, (exchange.first_byte - exchange.asked) / 1e6))
    return [
        (statistics.median(init for init, _ in times), statistics.median(first for _, first in times))
        for times in found.values()
    ]


def _name(megabytes: int) -> str:
    return f"{megabytes:,} MB"


def _start_table(sizes: Sequence[Size]) -> None:
    rows: list[tuple[object, ...]] = []
    for size in sizes:
        given = f"{share(size.megabytes):.1%}", quota_us(size.megabytes) / 1000
        rows.append((_name(size.megabytes), *given, size.init, size.first, size.cold))
    header = ["memory size", "share of a CPU", f"ms of CPU in each {PERIOD_US // 1000} ms"]
    header += ["INIT, with a whole CPU: ms", "first request: ms to its first byte", "and with two TLS handshakes"]
    table(header, rows)


def _stream_table(title: str, found: _Found) -> None:
    """What is added to no proxy, CPU, and how many chunks a second the share is enough for."""
    rows: list[tuple[object, ...]] = []
    for size in SIZES:
        name = _name(size)
        added = [*_added(found, name, Load.first_byte), *_added(found, name, Load.chunk)]
        cpu = found[name].cpu / 1000
        rows.append((name, *(f"{value:+.2f}" for value in added), f"{cpu:.4f}", f"{share(size) * CHUNKS / cpu:,.0f}"))
    header = [title, "first byte p50", "p99", "a chunk p50", "p99", "seconds of CPU for a stream"]
    table([*header, "chunks a second that use the share up"], rows)


def _memory_table(sizes: Sequence[Size], large: _Found) -> None:
    rows: list[tuple[object, ...]] = []
    for size in sizes:
        name = _name(size.megabytes)
        added = (f"{value:+.0f}" for value in _added(large, name, Load.first_byte))
        rows.append((name, size.idle, size.streams, size.peak, *added))
    header = ["memory size", "MB resident, idle", "at most, in streams", "at most, with questions of 5 MB"]
    table([*header, "first byte of such a question: ms added, p50", "p99"], rows)
