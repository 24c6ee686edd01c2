"""The response cache: what a client waits for a hit, what a miss costs beside no cache at all, what an answer weighs.

A peer's cache hit is measured in turns with ours, where the peer is installed.
"""

import asyncio
import base64
import contextlib
import json
import tempfile
import time
import zlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench import ports, processes
from bench.chapters import Bench
from bench.measures.load import percentiles
from bench.processes import ROOT, running
from bench.report import Figure, table
from bench.requests import SHORT, STREAM, Workload
from bench.runtime_api import AwsStandIn, Exchange
from bench.targets import HttpTarget, Target, sandboxes

OFF, HIT, MISS, PEER = "no cache policy", "a hit", "a miss", "a hit of LiteLLM's cache in memory"
_DOCUMENT = replace(SHORT, model="plain-document")
"""Of another model, and so another request than the one for a stream."""
_PEER_STARTS = 120.0
"""Seconds."""
_PEER_KEY = f"sk-{'0123456789abcdef' * 4}"


class Table:
    """The table of the response cache, filled at once; or one that forgets, so that all is a miss."""

    def __init__(self, *, forgets: bool = False) -> None:
        self._forgets = forgets
        self._items: dict[str, Any] = {}
        self.stored: dict[str, int] = {}
        """Bytes of the body that was kept last of each size before it was packed."""

    def call(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Only reading and leases: all that the proxy asks for."""
        item = self._items.get(arguments["Key"]["cache_key"]["S"]) if operation == "GetItem" else None
        return {"Item": item} if item else {}

    def keep(self, entry: dict[str, str]) -> None:
        """Store a captured answer as the function behind the bus does."""
        if entry["DetailType"] != "ResponseCaptured" or self._forgets:
            return
        detail = json.loads(entry["Detail"])
        data, response = detail["data"], detail["data"]["response"]
        texts = {name: response[name] for name in ("content_type", "encoding", "body_sha256")}
        numbers = {name: response[name] for name in ("status_code", "body_size")}
        numbers |= {name: data[name] for name in ("created_at", "expires_at")}
        self._items[data["cache_key"]] = {
            **{name: {"S": text} for name, text in texts.items()},
            **{name: {"N": str(number)} for name, number in numbers.items()},
            "digest": {"S": data["digest"]},
            "stream": {"BOOL": data["request"]["stream"]},
            "body": {"B": response["body"]},
            "usage": _attribute(data["usage"]),
        }
        self.stored[data["cache_key"]] = len(base64.b64decode(response["body"]))


def _attribute(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return {"M": {name: _attribute(each) for name, each in value.items()}}  # pyright: ignore[reportUnknownVariableType]
    if value is None:
        return {"NULL": True}
    return {"N": str(value)} if isinstance(value, int | float) else {"S": value}


@dataclass(slots=True)
class _Found:
    """What was measured of one target, in milliseconds: to the first byte and to the last, and the CPU of a request."""

    first: list[float] = field(default_factory=list[float])
    whole: list[float] = field(default_factory=list[float])
    cpu: float = 0.0


async def response_cache(bench: Bench) -> list[Figure]:
    """A hit, a miss and no cache in turns, and a peer's hit; then what answers weigh."""
    figures: list[Figure] = []
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        targets: list[Target] = [await stack.enter_async_context(sandboxes(bench.around, OFF))]
        for name, kept in ((HIT, Table()), (MISS, Table(forgets=True))):
            targets.append(await stack.enter_async_context(_caching(bench, name, kept, folder)))
        if peer := await stack.enter_async_context(_peer(bench, folder)):
            targets.append(peer)
        for workload in (STREAM, _DOCUMENT):
            found = await _measure(targets, workload, rounds=6, requests=bench.times(100, 5))
            figures += _shown(workload, found)
        # The stream is stored by now: this asks for the same as a document.
        found = await _measure(targets[1:2], SHORT, rounds=3, requests=bench.times(100, 5))
        _table("a stored stream as a document", found)
    _sizes()
    return figures


@contextlib.asynccontextmanager
async def _caching(bench: Bench, name: str, kept: Table, folder: Path) -> AsyncGenerator[Target]:
    """A sandbox whose server has a cache policy, with a table of its own."""
    servers_file = folder / "with-cache.yaml"
    servers_file.write_text(processes.built_servers(bench.direct.port, "  cache: {any_temperature: true}\n"))
    async with await AwsStandIn(kept).listen() as server:
        address = "{}:{}".format(*server.sockets[0].getsockname())
        async with sandboxes(replace(bench.around, aws=address, servers_file=servers_file), name) as target:
            yield target


@contextlib.asynccontextmanager
async def _peer(bench: Bench, folder: Path) -> AsyncGenerator[Target | None]:
    port = ports.free_port()
    process = processes.litellm(bench.around.upstream, port, folder, _PEER_KEY)
    if process is None:
        print("\nLiteLLM is not installed in .venv-litellm, and is left out.")
        yield None
        return
    with running(process):
        await processes.listening(port, process, _PEER_STARTS)
        yield HttpTarget(PEER, process, port, server="", client_key=_PEER_KEY)


async def _measure(targets: Sequence[Target], workload: Workload, rounds: int, requests: int) -> dict[str, _Found]:
    found = {target.name: _Found() for target in targets}
    for target in targets:
        await _requests(target, workload, 30)
        await asyncio.sleep(0.5)  # the peer fills its cache after the answer
    for _ in range(rounds):
        for target in targets:
            each, before = found[target.name], target.cpu
            for exchange in await _requests(target, workload, requests):
                _check(target.name, exchange)
                each.first.append((exchange.first_byte - exchange.asked) / 1e6)
                each.whole.append((exchange.ended - exchange.asked) / 1e6)
            each.cpu += (target.cpu - before) * 1000 / requests / rounds
    return found


async def _requests(target: Target, workload: Workload, count: int) -> list[Exchange]:
    exchanges: list[Exchange] = []
    for _ in range(count):
        exchanges.append(await target.exchange(workload))
        await target.settled()
    return exchanges


def _check(name: str, exchange: Exchange) -> None:
    """Raises ValueError unless the cache did what is measured."""
    marks = {HIT: b'"x-cache": "HIT"', MISS: b'"x-cache": "MISS"', OFF: b'"x-cache-reason": "off"'}
    if marks.get(name, b"200 OK") not in exchange.raw:
        raise ValueError(f"not {name}: {exchange.raw[:900]!r}")


def _shown(workload: Workload, found: dict[str, _Found]) -> list[Figure]:
    _table(workload.name, found)
    off, hit, miss = (percentiles(found[name].first)[0] for name in (OFF, HIT, MISS))
    figures = [
        Figure(f"{workload.name}: first byte of a hit beside that of a miss", 1.0, hit / miss),
        Figure(f"{workload.name}: what a miss adds to the first byte", 1.5, miss - off, "{:.2f} ms"),
    ]
    if PEER in found:
        peer = percentiles(found[PEER].first)[0]
        figures.append(Figure(f"{workload.name}: first byte of a hit beside {PEER}", 0.5, hit / peer))
    return figures


def _table(title: str, found: dict[str, _Found]) -> None:
    rows = [(name, *percentiles(each.first), *percentiles(each.whole), each.cpu) for name, each in found.items()]
    table([f"{title}: milliseconds", "first byte p50", "p99", "last byte p50", "p99", "CPU"], rows)


def _sizes() -> None:
    """What recorded answers weigh, packed at some levels, and how long that takes."""
    bodies = [path.read_bytes() for path in sorted((ROOT / "tests" / "data" / "streams").iterdir()) if _is_answer(path)]
    large = b"".join(bodies * 40)[: 1024 * 1024]
    rows: list[tuple[object, ...]] = []
    for level in (1, 3, 6, 9):
        packed = [len(zlib.compress(body, level)) for body in bodies]
        began = time.perf_counter()
        size = len(zlib.compress(large, level))
        passed = (time.perf_counter() - began) * 1000
        rows.append((level, sum(packed) / len(packed), sum(packed) / sum(map(len, bodies)), size / len(large), passed))
    mean = sum(map(len, bodies)) / len(bodies)
    header = [f"zlib level, {len(bodies)} recorded answers of {mean:,.0f} bytes on average"]
    table([*header, "bytes stored", "share", "share of 1 MiB of them", "milliseconds for that"], rows)


def _is_answer(path: Path) -> bool:
    return path.suffix == ".sse" or path.name.endswith("-whole.json")
