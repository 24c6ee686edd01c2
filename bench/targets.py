"""What the load goes to: the upstream server itself, a pass-through in front of it, or the proxy in front of it."""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from bench import ports, processes
from bench.processes import Process, Surroundings, running
from bench.requests import CLIENT_KEY, Workload
from bench.runtime_api import Exchange, RuntimeApi
from bench.servers.upstream import CHUNKS

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Target(Protocol):
    """One way from the client to the upstream server. It takes any number of requests at once."""

    @property
    def name(self) -> str: ...
    @property
    def cpu(self) -> float: ...
    @property
    def resident(self) -> float: ...
    async def exchange(self, workload: Workload) -> Exchange: ...
    async def settled(self) -> None: ...


class HttpTarget:
    """A server, called over kept-alive connections. `server` and `client_key` are for the proxy's own door.

    `process` is None where nobody asks for its CPU and memory.
    """

    def __init__(
        self, name: str, process: Process | None, port: int, server: str = "openai", client_key: str = CLIENT_KEY
    ) -> None:
        self.name = name
        self._process = process
        self.port = port
        self._server = server
        self._client_key = client_key
        self._idle: list[_Client] = []

    @property
    def cpu(self) -> float:
        """Seconds of CPU of its process."""
        return self._process.cpu if self._process else 0.0

    @property
    def resident(self) -> float:
        """Resident megabytes of its process."""
        return self._process.resident if self._process else 0.0

    async def exchange(self, workload: Workload) -> Exchange:
        """One request and its whole answer, over a connection that nobody else uses."""
        if self._idle:
            client = self._idle.pop()
        else:
            loop = asyncio.get_running_loop()
            _, client = await loop.create_connection(_Client, "127.0.0.1", self.port)
        exchange = await client.exchange(workload.http(f"127.0.0.1:{self.port}", self._server, self._client_key))
        self._idle.append(client)
        return exchange

    async def settled(self) -> None:
        """Nothing happens here after an answer."""


class SandboxTarget:
    """Proxy sandboxes, each behind a Runtime API of its own. As on Lambda, each has one request at a time."""

    def __init__(self, name: str, sandboxes: Sequence[tuple[Process, RuntimeApi]]) -> None:
        self.name = name
        self.processes = [process for process, _ in sandboxes]
        self._apis = [api for _, api in sandboxes]
        self._free = list(self._apis)

    @property
    def cpu(self) -> float:
        """Seconds of CPU of all sandboxes together."""
        return sum(process.cpu for process in self.processes)

    @property
    def resident(self) -> float:
        """Resident megabytes of all sandboxes together; what they share counts in each."""
        return sum(process.resident for process in self.processes)

    async def exchange(self, workload: Workload) -> Exchange:
        """One invocation and its whole answer, in the sandbox that has been free for longest, once it asks for it."""
        api = self._free.pop(0)
        await api.idle()
        exchange = await api.invoke(workload.event())
        self._free.append(api)
        return exchange

    async def settled(self) -> None:
        """Wait until the events of all requests have been published."""
        for api in self._apis:
            await api.idle()


@contextlib.asynccontextmanager
async def sandboxes(
    around: Surroundings, name: str, count: int = 1, on_piece: Callable[[bytes], None] | None = None
) -> AsyncGenerator[SandboxTarget]:
    """So many proxy sandboxes, all of which have asked for their first invocation."""
    async with contextlib.AsyncExitStack() as stack:
        started: list[tuple[Process, RuntimeApi]] = []
        for _ in range(count):
            api = RuntimeApi(on_piece)
            server = await stack.enter_async_context(await api.listen())
            address = "{}:{}".format(*server.sockets[0].getsockname())
            started.append((stack.enter_context(running(around.sandbox(address))), api))
        target = SandboxTarget(name, started)
        await target.settled()
        yield target


@contextlib.asynccontextmanager
async def fastapi(around: Surroundings, name: str, *, fast: bool) -> AsyncGenerator[HttpTarget]:
    """A FastAPI pass-through that listens."""
    port = ports.free_port()
    with running(processes.fastapi(around.upstream, port, fast=fast)) as process:
        await processes.listening(port, process)
        yield HttpTarget(name, process, port)


class _Client(asyncio.Protocol):
    """A client's connection: it keeps the pieces of an answer and the moments at which they came."""

    def __init__(self) -> None:
        self._exchange = Exchange()
        self._answered: asyncio.Future[Exchange] | None = None
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport for the requests to come."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    async def exchange(self, request: bytes) -> Exchange:
        """Send one request, wait for the whole answer."""
        self._answered = asyncio.get_running_loop().create_future()
        self._exchange = Exchange(asked=time.monotonic_ns())
        self._tail = b""
        self._transport.write(request)
        return await self._answered

    def data_received(self, data: bytes) -> None:
        """Keep a piece; see whether it is the last."""
        self._exchange.pieces.append((time.monotonic_ns(), data))
        self._tail = (self._tail + data)[-5:]
        if self._tail == b"0\r\n\r\n" or self._is_whole():
            self._exchange.ended = self._exchange.pieces[-1][0]
            assert self._answered is not None
            self._answered.set_result(self._exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody answers any more."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def _is_whole(self) -> bool:
        """Whether an answer with a length has come whole. A chunked one is not searched beyond its first piece."""
        first = self._exchange.pieces[0][1]
        if b"chunked" in first:
            return False
        head, end, body = self._exchange.raw.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        return bool(end and length and len(body) >= int(length[1]))


def check(exchange: Exchange, workload: Workload) -> None:
    """Raises ValueError unless the answer is the one that was asked for: a fast wrong answer is no answer."""
    raw = exchange.raw
    whole = raw.count(b"data: {") == CHUNKS and b"[DONE]" in raw if workload.stream else b"book of accounts" in raw
    if not whole or (workload.stream and b"prompt_tokens" in raw):
        raise ValueError(f"not the answer to {workload.name}: {raw[:600]!r} … {raw[-200:]!r}")
