"""The chapters of docs/benchmarks.md: each measures, prints its tables, and gives the figures that have a bound."""

import contextlib
import tempfile
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bench import processes
from bench.measures import footprint, ledger, local_stack
from bench.measures import in_process as alone
from bench.measures.load import Load, Plan, load
from bench.measures.long_stream import long_stream
from bench.measures.metering import metering
from bench.measures.resumable import resumable
from bench.measures.tokens import starts, tokens
from bench.processes import Surroundings
from bench.report import Figure, table
from bench.requests import SHORT, STREAM, Workload, paced
from bench.runtime_api import AwsStandIn
from bench.targets import HttpTarget, Target, fastapi, sandboxes

PROXY = "proxy sandbox"
PROXIES = "32 proxy sandboxes"
RELAYS = "32 processes that pass bytes on and do nothing else"
PROXY_SILENT = "… without publishing"
FASTAPI = "FastAPI, uvicorn, httpx"
FASTAPI_FAST = "… with uvloop and httptools"
DIRECT = "no proxy"
CLIENTS = 32
PACE, PACE_OF_MANY = 2, 25
"""Milliseconds between two chunks: of one stream, and of each of many, at which no process is busy all the time."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every chapter needs. `scale` shortens a trial run."""

    around: Surroundings
    aws: AwsStandIn
    direct: HttpTarget
    scale: float

    def times(self, wanted: int, least: int) -> int:
        """So many repetitions, at this scale."""
        return max(least, round(wanted * self.scale))


async def cold_starts(bench: Bench) -> list[Figure]:
    """Process start to first /next, to first streamed byte; beside a bare import of httpx and FastAPI."""
    found = await footprint.cold_starts(bench.around, bench.times(25, 3))
    named = [
        ('`python -c "import httpx; httpx.Client()"`, to its end', found.bare_httpx),
        (f"{PROXY}, to its first `/next`", found.sandbox_next),
        (f"{PROXY}, to the first streamed byte, key check included", found.sandbox_first_byte),
        ("… packaged without bytecode, to its first `/next`", found.uncompiled_next),
        ("… packaged without bytecode, to the first streamed byte", found.uncompiled_first_byte),
        (
            "… with servers that are signed in to by a role, a header and parameters, to its first `/next`",
            found.signing_next,
        ),
        ("… with the same servers, to the first streamed byte", found.signing_first_byte),
        (f"{FASTAPI}, to the first streamed byte, no key check", found.fastapi_first_byte),
    ]
    rows = [(name, value, value / found.bare_httpx) for name, value in named]
    table([f"cold start, median of {found.rounds}", "ms", "ratio"], rows)
    beside = "beside a bare `import httpx; httpx.Client()`"
    return [
        Figure(f"process start to the first `/next`, {beside}", 1.5, found.sandbox_next / found.bare_httpx),
        Figure(
            "process start to the first streamed byte, key check included, beside the same",
            2.5,
            found.sandbox_first_byte / found.bare_httpx,
        ),
        Figure(
            "added to that by servers with a sign-in of their own, to the first `/next`",
            3.0,
            found.signing_adds,
            "{:.1f} ms",
        ),
    ]


async def memory(bench: Bench) -> list[Figure]:
    """Resident memory, idle and after many streams."""
    streams, aws = bench.times(1000, 10), bench.aws
    async with sandboxes(bench.around, PROXY) as target:
        proxy = await footprint.memory(target, streams, lambda: aws.events)
    rows: list[tuple[object, ...]] = [(PROXY, proxy.idle, proxy.after, proxy.events)]
    for name, fast in ((FASTAPI, False), (FASTAPI_FAST, True)):
        async with fastapi(bench.around, name, fast=fast) as target:
            found = await footprint.memory(target, streams, lambda: aws.events)
            rows.append((name, found.idle, found.after, found.events))
    table(["resident memory", "MB idle", f"MB after {streams:,} streams", "events published"], rows)
    after = f"resident memory after {streams:,} streams with their events published"
    return [
        Figure("resident memory, idle", 45, proxy.idle, "{:.1f} MB"),
        Figure(after, 60, proxy.after, "{:.1f} MB"),
    ]


@contextlib.asynccontextmanager
async def _both_fastapis(bench: Bench) -> AsyncGenerator[list[Target]]:
    async with (
        fastapi(bench.around, FASTAPI, fast=False) as plain,
        fastapi(bench.around, FASTAPI_FAST, fast=True) as fast,
    ):
        yield [plain, fast]


async def one_at_a_time(bench: Bench) -> list[Figure]:
    """CPU of a request, and what a client waits, one request after the other."""
    async with (
        sandboxes(bench.around, PROXY) as proxy,
        sandboxes(replace(bench.around, without="events"), PROXY_SILENT) as silent,
        _both_fastapis(bench) as fastapis,
    ):
        figures: list[Figure] = []
        for workload, requests, bound in ((STREAM, 100, 1 / 3), (SHORT, 200, 0.5)):
            plan = Plan(rounds=5, requests=bench.times(requests, 5))
            found = await load([proxy, silent, *fastapis], workload, plan, bench.direct)
            figures.append(_cpu_table(workload.name, found, PROXY, bound))
        plan = Plan(rounds=5, requests=bench.times(30, 5), warm_up=20)
        found = await load([bench.direct, proxy, *fastapis], paced(PACE), plan, bench.direct)
    _delay_table(f"{paced(PACE).name}: milliseconds (added)", found)
    return [*figures, _cpu_table(paced(PACE).name, found, PROXY, 1 / 3)]


async def in_parallel(bench: Bench) -> list[Figure]:
    """CPU of a request and what a client waits, 32 requests at once: 32 sandboxes beside one pass-through."""
    async with (
        sandboxes(bench.around, PROXIES, CLIENTS) as proxies,
        sandboxes(replace(bench.around, without="anything"), RELAYS, CLIENTS) as relays,
        _both_fastapis(bench) as fastapis,
    ):
        plan = Plan(5, bench.times(10, 2), CLIENTS, warm_up=3 * CLIENTS)
        found = await load([proxies, relays, *fastapis], STREAM, plan, bench.direct)
        figures = [_cpu_table(f"{CLIENTS} at once, {STREAM.name}", found, PROXIES, 1 / 3)]
        _busy_table(STREAM, found)
        workload = paced(PACE_OF_MANY)
        # Over a whole stream: else all streams would begin in one moment, and wait for each other there.
        plan = Plan(2, bench.times(4, 2), CLIENTS, spread=66 * PACE_OF_MANY / 1000, warm_up=CLIENTS)
        found = await load([bench.direct, proxies, relays, *fastapis], workload, plan, bench.direct)
    _delay_table(f"{CLIENTS} at once, {workload.name}: milliseconds (added)", found)
    _busy_table(workload, found)
    return [*figures, _cpu_table(f"{CLIENTS} at once, {workload.name}", found, PROXIES, 1 / 3)]


def _cpu_table(name: str, found: Mapping[str, Load], proxy: str, bound: float) -> Figure:
    """CPU of each target, beside both forms of FastAPI."""
    plain, fast = found[FASTAPI].cpu, found[FASTAPI_FAST].cpu
    shown = {name: each.cpu for name, each in found.items() if name != DIRECT}
    rows = [(name, cpu, cpu / plain, cpu / fast) for name, cpu in shown.items()]
    table([f"CPU per request: {name}", "ms", "÷ FastAPI", "÷ FastAPI, uvloop"], rows)
    return Figure(f"CPU per request ÷ FastAPI pass-through: {name}", bound, found[proxy].cpu / plain, "{:.3f}")


def _delay_table(title: str, found: Mapping[str, Load]) -> None:
    """Delays of each target, and in brackets what it adds to those without a proxy."""
    base = found[DIRECT].first_byte() + found[DIRECT].chunk()
    rows: list[list[str]] = []
    for name, each in found.items():
        pairs = zip(each.first_byte() + each.chunk(), base, strict=True)
        rows.append(
            [name, *(f"{value:.2f}" if name == DIRECT else f"{value:.2f} ({value - of:+.2f})" for value, of in pairs)]
        )
    table([title, "first byte p50", "p99", "a chunk p50", "p99"], rows)


def _busy_table(workload: Workload, found: Mapping[str, Load]) -> None:
    """How busy everybody was: what is measured is the proxy only where nobody else works all the time."""
    rows: list[tuple[object, ...]] = []
    for name, each in found.items():
        busy, own = each.busy, sum(each.rounds) / each.busy.passed
        shares = [own, busy.measuring / busy.passed, busy.upstream / busy.passed, busy.machine / busy.processors]
        rows.append((name, f"{len(each.exchanges) / busy.passed:.0f}", *(f"{share:.0%}" for share in shares)))
    header = [f"{CLIENTS} at once, {workload.name}: busy", "requests a second", "itself", "measuring process"]
    table([*header, "upstream server", "whole machine"], rows)


async def what_metering_costs(bench: Bench) -> list[Figure]:
    """Metering, asking for usage and hiding it: the share that they add to a relay without."""
    plans = [
        (STREAM, Plan(rounds=10, requests=20)),
        (paced(PACE), Plan(rounds=4, requests=4, warm_up=2)),
    ]
    found = await metering(bench.around, bench.aws, bench.direct, bench.times(10, 2), plans)
    header = ["CPU per request", "ms", "ms without metering", "added", "quartiles of the pairs"]
    rows = [(each.workload.name, each.with_, each.without, each.shown(), each.shown_quartiles()) for each in found]
    table(header, rows)
    plain, kept = await resumable(bench.around, Plan(rounds=bench.times(20, 2), requests=10), bench.direct)
    rows = [
        ("CPU per request", plain.cpu, kept.cpu, kept.cpu / plain.cpu),
        ("first byte, p50", first := plain.first_byte()[0], later := kept.first_byte()[0], later / first),
    ]
    table([STREAM.name, "ms", "ms, resumable", "ratio"], rows)
    what = "CPU added by metering, asking for usage and hiding it"
    return [Figure(f"{what}: {each.workload.name}", 0.1, each.added, "{:.1%}") for each in found]


async def in_process(bench: Bench) -> list[Figure]:
    """Signing beside SHA-256, and metering of Messages beside that of chats."""
    rounds = bench.times(40, 3)
    signed, (chat, message) = alone.signing(rounds), alone.metering(rounds)
    rows = [(f"a body of {each.size}", each.signed, each.hashed, each.signed / each.hashed) for each in signed]
    table(["signing a request", "ms", "ms of SHA-256 alone", "ratio"], rows)
    table(
        ["metering a 64-chunk stream", "ms", "ratio"], [("a chat", chat, 1.0), ("a message", message, message / chat)]
    )
    small, large = signed
    return [
        Figure("signing a request of 2 KB", 0.15, small.signed, "{:.3f} ms"),
        Figure("signing a request of 6 MB ÷ SHA-256 over its body", 1.5, large.signed / large.hashed),
        # Metering a chat takes some 6 % of what relaying it takes, and 10 % is its bound.
        Figure("metering a stream of Messages ÷ one of a chat", 1.6, message / chat),
    ]


async def access_tokens(bench: Bench) -> list[Figure]:
    """What a user's access token costs beside a client key, and what checking them costs a cold start."""
    found = tokens(bench.times(2_000, 100))
    rows = [
        ("a new token, by the library's own `decode`", found.decode),
        ("a new token, by the authorizer", found.judged),
        ("a token that the authorizer remembers", found.remembered),
        ("a key that the proxy remembers", found.proxy_key),
        ("a token that the proxy remembers", found.proxy_token),
    ]
    table(["access tokens (RS256)", "µs"], rows)
    began = starts(bench.times(20, 2), bench.around.servers_file.parent)
    rows = [
        ("what an issuer adds", began.issuer),
        ("loading the library alone", began.library),
        ("fetching the issuer's keys, beside INIT", began.fetch),
    ]
    table(["the start of the authorizer", "ms of CPU"], rows)
    return [
        Figure("a new token against the library's own `decode`", 1.5, found.judged / found.decode),
        Figure("a token that the proxy remembers, more than a key (µs)", 10, found.proxy_token - found.proxy_key),
        Figure(
            "the authorizer's start: what an issuer adds ÷ what the library takes alone",
            1.1,
            began.issuer / began.library,
        ),
    ]


async def long_streams(bench: Bench) -> list[Figure]:
    """Memory and CPU along one very long stream, chunk by chunk and as fast as the sandbox takes it."""
    figures: list[Figure] = []
    memory_rows: list[tuple[object, ...]] = []
    cpu_rows: list[tuple[object, ...]] = []
    found = [await long_stream(bench.around, bench.times(100_000, 1_000), pause) for pause in (100, 0)]
    for each in found:
        name = f"a chunk every {each.pause} µs" if each.pause else "as fast as it goes"
        memory_rows.append((name, *(resident for _, resident in each.resident())))
        (last, pieces), (young, young_pieces) = each.last_tenth(), each.first_tenth_of_a_young_one()
        together = f"{pieces:.1f}, {young_pieces:.1f}"
        cpu_rows.append((name, last, young, last / young, together, each.seconds, f"{each.upstream:.0%}"))
        what = f"one stream of {each.chunks:,} chunks, {name}"
        figures.append(Figure(f"{what}: memory beside chunk 100", 2, abs(each.grown), "{:.2f} MB"))
        figures.append(Figure(f"{what}: CPU per chunk, last tenth ÷ a young stream", 1.1, last / young))
    table(["resident MB at chunk", *(f"{chunks:,}" for chunks, _ in found[0].resident())], memory_rows)
    header = ["µs of CPU per chunk", "last tenth", "a young stream meanwhile", "ratio", "chunks in a piece"]
    table([*header, "seconds", "upstream server"], cpu_rows)
    return figures


async def on_the_local_stack(bench: Bench) -> list[Figure]:
    """What a client waits at the local stack, and from its last byte to the ledger row."""
    servers = processes.servers(bench.direct.port, local_stack.SERVER)
    with tempfile.TemporaryDirectory() as name, local_stack.local_stack(Path(name), servers) as stack:
        plan = Plan(rounds=6, requests=bench.times(20, 3), pause=0.05, warm_up=10)
        found = await local_stack.delays(stack, bench.direct, Path(name), plan)
        rows = ledger.measure(stack, bench.times(100, 10))
    _delay_table(f"local stack, {paced(PACE).name}: milliseconds (added)", found)
    delays = [(f"batching window {each.window} s", each.requests, each.p50 * 1000, each.p99 * 1000) for each in rows]
    table(["last byte to ledger row, milliseconds", "requests", "p50", "p99"], delays)
    base, alone, whole = (found[name] for name in (DIRECT, local_stack.BARE, local_stack.STACK))
    figures: list[Figure] = []
    for what, bound, read in (("first byte", 1.5, Load.first_byte), ("a chunk", 0.3, Load.chunk)):
        added = f"added on the local stack, p50: {what}"
        figures.append(Figure(added, bound, read(whole)[0] - read(base)[0], "{:.2f} ms"))
        figures.append(Figure(f"{added}, function URL left out", bound, read(whole)[0] - read(alone)[0], "{:.2f} ms"))
    return figures
