"""The bench's stand-ins fit the proxy as it is: what is compared answers rightly, and differs in what it should."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bench import ports, processes
from bench.measures.load import Plan, load
from bench.measures.long_stream import long_stream
from bench.processes import ROOT, Surroundings, running
from bench.report import Figure
from bench.requests import SHORT, STREAM, paced
from bench.runtime_api import AwsStandIn, end_with_the_first_failure
from bench.targets import HttpTarget, sandboxes


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """The sources in the layout of a build."""
    build = tmp_path / "build"
    (build / "SharedLayer" / "python").mkdir(parents=True)
    (build / "functions").symlink_to(ROOT / "functions")
    (build / "SharedLayer" / "python" / "openai_proxy").symlink_to(ROOT / "shared" / "openai_proxy")
    return build


@asynccontextmanager
async def surroundings(build: Path, without: str = "") -> AsyncGenerator[tuple[Surroundings, AwsStandIn, HttpTarget]]:
    end_with_the_first_failure()
    port = ports.free_port()
    with running(processes.module("bench.servers.upstream", str(port))) as upstream:
        await processes.listening(port, upstream)
        aws = AwsStandIn()
        async with await aws.listen() as server:
            address = "{}:{}".format(*server.sockets[0].getsockname())
            servers_file = build / "openai_servers.yaml"
            servers_file.write_text(processes.built_servers(port))
            around = Surroundings(f"127.0.0.1:{port}", address, servers_file, sys.executable, build, without)
            yield around, aws, HttpTarget("direct", upstream, port)


@pytest.mark.parametrize(
    ("without", "source"), [("", "reported"), ("metering", "none"), ("events", None), ("anything", None)]
)
def test_every_kind_of_sandbox_answers_and_differs_in_what_it_should(
    build: Path, without: str, source: str | None
) -> None:
    async def sources() -> list[str]:
        async with surroundings(build, without) as (around, aws, direct), sandboxes(around, "sandbox", 2) as target:
            seen: list[str] = []
            # Who passes on nothing but bytes knows the end of streams only.
            for workload in (STREAM, paced(1), *([] if without == "anything" else [SHORT])):
                found = await load([target], workload, Plan(rounds=1, requests=2, clients=2, warm_up=0), direct)
                assert found["sandbox"].cpu > 0
                if aws.events:
                    detail: dict[str, Any] = aws.last_detail
                    seen.append(detail["data"]["usage"]["source"])
            return seen

    assert asyncio.run(sources()) == ([source] * 3 if source else [])


def test_a_long_stream_is_watched_to_its_end(build: Path) -> None:
    async def watched() -> list[int]:
        async with surroundings(build) as (around, _, _):
            found = await long_stream(around, 20_000, 0)
            (cpu, pieces), (young_cpu, young_pieces) = found.last_tenth(), found.first_tenth_of_a_young_one()
            assert cpu >= 0, "the sandbox may be done before the last tenth of the stream is read"
            assert young_cpu > 0
            assert pieces >= 1
            assert young_pieces >= 1
            return [milestone for milestone, _ in found.resident()]

    assert asyncio.run(watched()) == [100, 1_000, 10_000]


@pytest.mark.parametrize(("measured", "verdict"), [(0.32, "OK"), (1 / 3, "OK"), (0.3334, "over")])
def test_a_figure_beyond_its_bound_is_called_so(measured: float, verdict: str) -> None:
    assert Figure("CPU", 1 / 3, measured).row[-1] == verdict
