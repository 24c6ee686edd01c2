"""What the load goes to: the upstream server itself, a pass-through in front of it, or the proxy in front of it."""

import asyncio
import re
import time
from typing import Protocol

from bench.processes import Process
from bench.requests import Workload
from bench.runtime_api import Exchange, RuntimeApi
from bench.upstream import CHUNKS

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Target(Protocol):
    """One way from the client to the upstream server."""

    @property
    def name(self) -> str: ...
    @property
    def process(self) -> Process: ...
    async def exchange(self, workload: Workload) -> Exchange: ...
    async def settled(self) -> None: ...


class HttpTarget:
    """A server, called over one kept-alive connection."""

    def __init__(self, name: str, process: Process, port: int) -> None:
        self.name = name
        self.process = process
        self._port = port
        self._client: _Client | None = None

    async def exchange(self, workload: Workload) -> Exchange:
        """One request and its whole answer."""
        if self._client is None:
            loop = asyncio.get_running_loop()
            _, self._client = await loop.create_connection(_Client, "127.0.0.1", self._port)
        return await self._client.exchange(workload.http(f"127.0.0.1:{self._port}"))

    async def settled(self) -> None:
        """Nothing happens here after an answer."""


class SandboxTarget:
    """A proxy sandbox behind the Runtime API."""

    def __init__(self, name: str, process: Process, api: RuntimeApi) -> None:
        self.name = name
        self.process = process
        self._api = api

    async def exchange(self, workload: Workload) -> Exchange:
        """One invocation and its whole answer. A sandbox takes one at a time: wait for its /next first."""
        await self._api.idle()
        return await self._api.invoke(workload.event())

    async def settled(self) -> None:
        """Wait until the events of the last request have been published."""
        await self._api.idle()


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
