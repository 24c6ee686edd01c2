"""`make bench`: every figure of docs/benchmarks.md, measured in one run and printed as that document's tables."""

import asyncio
import contextlib
import platform
import resource
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from bench import chapters, ports, processes
from bench.arguments import arguments
from bench.chapters import Bench
from bench.measures import cache, sizes, workers
from bench.measures.load import machine
from bench.once.chapter import once
from bench.once.limits import limits
from bench.processes import BUILD, Surroundings, running
from bench.recording import recording
from bench.report import Figure, summary
from bench.runtime_api import AwsStandIn, end_with_the_first_failure
from bench.scale.chapter import scale
from bench.targets import HttpTarget

CHAPTERS: dict[str, Callable[[Bench], Awaitable[list[Figure]]]] = {
    "start": chapters.cold_starts,
    "memory": chapters.memory,
    "sizes": sizes.memory_sizes,
    "single": chapters.one_at_a_time,
    "parallel": chapters.in_parallel,
    "workers": workers.many_workers,
    "metering": chapters.what_metering_costs,
    "process": chapters.in_process,
    "tokens": chapters.access_tokens,
    "cache": cache.response_cache,
    "long": chapters.long_streams,
    "ledger": recording,
    "stack": chapters.on_the_local_stack,
    "scale": scale,
    "once": once,
    "limits": limits,
}


async def bench(only: Sequence[str], part: float, build: Path) -> None:
    """Start the stand-ins, go through the chapters, and print every bound in the end."""
    began, (work, processors) = time.monotonic(), machine()
    end_with_the_first_failure()
    _end_when_terminated()
    async with contextlib.AsyncExitStack() as stack:
        port = ports.free_port()
        upstream = stack.enter_context(running(processes.module("bench.servers.upstream", str(port))))
        await processes.listening(port, upstream)
        aws = AwsStandIn()
        aws_server = await stack.enter_async_context(await aws.listen())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers_file = folder / "openai_servers.yaml"
        servers_file.write_text(processes.built_servers(port))
        address = "{}:{}".format(*aws_server.sockets[0].getsockname())
        around = Surroundings(f"127.0.0.1:{port}", address, servers_file, processes.empty_python(folder), build)
        print(f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}, {_processor()}")
        subject = Bench(around, aws, HttpTarget(chapters.DIRECT, upstream, port), part)
        figures = [figure for chapter in only for figure in await CHAPTERS[chapter](subject)]
    summary(figures)
    work, processors = machine()[0] - work - _own_work(), machine()[1] - processors
    minutes = (time.monotonic() - began) / 60
    print(f"\n{minutes:.1f} minutes, in which other work had {max(0.0, work) / processors:.0%} of the machine.")


def _end_when_terminated() -> None:
    """Have the current task cancelled by SIGTERM: what the bench has started and made ends with it."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)


def _own_work() -> float:
    """Seconds of CPU of this process and of all that it has started and ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def _processor() -> str:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return f"{len(models)} x {models[0].partition(': ')[2]}" if models else "unknown processor"


def main() -> None:
    """Read the arguments and go."""
    options = arguments()
    build: Path = options.build or BUILD
    asyncio.run(bench(options.only, options.scale, build.resolve()))


if __name__ == "__main__":
    main()
