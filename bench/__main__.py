"""`make bench`: every figure of docs/benchmarks.md, measured in one run and printed as that document's tables."""

import argparse
import asyncio
import contextlib
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench import ledger, measures, processes
from bench.measures import Load
from bench.processes import Surroundings, running
from bench.requests import PACED, SHORT, STREAM, Workload
from bench.runtime_api import AwsStandIn
from bench.targets import HttpTarget, Target

PROXY = "proxy sandbox"
PROXY_SILENT = "… without publishing"
FASTAPI = "FastAPI, uvicorn, httpx"
FASTAPI_FAST = "… with uvloop and httptools"
DIRECT = "no proxy"
ROUNDS = 5


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table; floats with two decimals."""
    print("\n|", " | ".join(header), "|")
    print("|---" * len(header) + "|")
    for row in rows:
        print("|", " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row), "|")
    sys.stdout.flush()


async def bench(scale: float) -> None:
    """Start the stand-ins and go through the chapters. `scale` shortens a trial run."""
    async with contextlib.AsyncExitStack() as stack:
        port = processes.free_port()
        upstream = stack.enter_context(running(processes.upstream(port)))
        await processes.listening(port, upstream)
        aws = AwsStandIn()
        aws_server = await stack.enter_async_context(await aws.listen())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers_file = folder / "openai_servers.yaml"
        servers_file.write_text(f'openai:\n  url: http://127.0.0.1:{port}/v1\n  token: "token"\n  model: "plain"\n')
        address = "{}:{}".format(*aws_server.sockets[0].getsockname())
        around = Surroundings(f"127.0.0.1:{port}", address, servers_file, processes.empty_python(folder))
        print(f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}, {_processor()}")
        await cold_starts(around, scale)
        await memory(around, aws, scale)
        await load(around, HttpTarget(DIRECT, upstream, port), scale)


def _processor() -> str:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{len(models)} x {models[0].partition(': ')[2]}" if models else "unknown processor"


async def cold_starts(around: Surroundings, scale: float) -> None:
    """Process start to first /next, to first streamed byte; beside a bare import of httpx and FastAPI."""
    found = await measures.cold_starts(around, max(3, int(25 * scale)))
    named = [
        ('`python -c "import httpx; httpx.Client()"`, to its end', found.bare_httpx),
        (f"{PROXY}, to its first `/next`", found.sandbox_next),
        (f"{PROXY}, to the first streamed byte, key check included", found.sandbox_first_byte),
        ("… packaged without bytecode, to its first `/next`", found.uncompiled_next),
        ("… packaged without bytecode, to the first streamed byte", found.uncompiled_first_byte),
        (f"{FASTAPI}, to the first streamed byte, no key check", found.fastapi_first_byte),
    ]
    rows = [(name, value, value / found.bare_httpx) for name, value in named]
    table([f"cold start, median of {found.rounds}", "ms", "ratio"], rows)


async def memory(around: Surroundings, aws: AwsStandIn, scale: float) -> None:
    """Resident memory, idle and after many streams."""
    streams = max(10, int(1000 * scale))
    rows: list[tuple[object, ...]] = []
    async with measures.sandbox(around, PROXY) as target:
        found = await measures.memory(target, streams, lambda: len(aws.events))
        rows.append((PROXY, found.idle, found.after, found.events))
    for name, fast in ((FASTAPI, False), (FASTAPI_FAST, True)):
        async with measures.fastapi(around, name, fast=fast) as target:
            found = await measures.memory(target, streams, lambda: len(aws.events))
            rows.append((name, found.idle, found.after, found.events))
    table(["resident memory", "MB idle", f"MB after {streams:,} streams", "events published"], rows)


async def load(around: Surroundings, direct: Target, scale: float) -> None:
    """CPU of a request, and what a client waits."""
    async with contextlib.AsyncExitStack() as stack:
        targets: list[Target] = [
            await stack.enter_async_context(measures.sandbox(around, PROXY)),
            await stack.enter_async_context(measures.sandbox(replace(around, publishing=False), PROXY_SILENT)),
            await stack.enter_async_context(measures.fastapi(around, FASTAPI, fast=False)),
            await stack.enter_async_context(measures.fastapi(around, FASTAPI_FAST, fast=True)),
        ]
        for workload, requests in ((STREAM, 100), (SHORT, 200)):
            cpu_table(workload, await measures.load(targets, workload, max(5, int(requests * scale)), ROUNDS))
        paced = await measures.load([direct, *targets], PACED, max(5, int(50 * scale)), ROUNDS)
    delay_table(paced)
    del paced[DIRECT]
    cpu_table(PACED, paced)


def cpu_table(workload: Workload, found: Mapping[str, Load]) -> None:
    """CPU of each target, beside both forms of FastAPI."""
    plain, fast = found[FASTAPI].cpu, found[FASTAPI_FAST].cpu
    rows = [(name, each.cpu, each.cpu / plain, each.cpu / fast) for name, each in found.items()]
    table([f"CPU per request: {workload.name}", "ms", "÷ FastAPI", "÷ FastAPI, uvloop"], rows)


def delay_table(found: Mapping[str, Load]) -> None:
    """Delays of each target, and in brackets what it adds to those without a proxy."""
    base = found[DIRECT].first_byte() + found[DIRECT].chunk()
    rows: list[list[str]] = []
    for name, each in found.items():
        pairs = zip(each.first_byte() + each.chunk(), base, strict=True)
        rows.append(
            [name, *(f"{value:.2f}" if name == DIRECT else f"{value:.2f} ({value - of:+.2f})" for value, of in pairs)]
        )
    table(["milliseconds (added)", "first byte p50", "p99", "a chunk p50", "p99"], rows)


def ledger_delay(scale: float) -> None:
    """From the client's last byte to the ledger row on the local stack."""
    with tempfile.TemporaryDirectory() as folder:
        found = ledger.measure(Path(folder), max(10, int(100 * scale)))
    rows = [(f"batching window {each.window} s", each.requests, each.p50 * 1000, each.p99 * 1000) for each in found]
    table(["last byte to ledger row, milliseconds", "requests", "p50", "p99"], rows)


def main() -> None:
    """Read the arguments and go."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="a fraction of the repetitions, for a trial")
    scale = parser.parse_args().scale
    asyncio.run(bench(scale))
    ledger_delay(scale)


if __name__ == "__main__":
    main()
