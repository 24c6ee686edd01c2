"""An environment of Lambda's managed instances: a sandbox of several workers behind a Runtime API of several slots."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Callable

from bench.processes import Process, Surroundings, cpu_of, running
from bench.requests import Workload
from bench.runtime_api import Exchange, HttpPeer, invocation, json_answer

ACCEPTED = json_answer({"status": "OK"}, b"202 Accepted")
GONE = json_answer({"errorType": "ErrorRuntimeInvokeTimeout"}, b"410 Gone")


class KilledError(Exception):
    """The worker that had the invocation has ended."""


class Slot:
    """One invocation in the hands of a worker, who is at the other end of `peer`."""

    def __init__(self, peer: HttpPeer, answer: bytes) -> None:
        self.peer = peer
        self.answer = answer
        self.done: asyncio.Future[Exchange] = asyncio.get_running_loop().create_future()
        self.asked = 0

    def lost(self) -> None:
        """The worker has gone without an answer."""
        if not self.done.done():
            self.done.set_exception(KilledError())


class SlotsApi:
    """Hands out as many invocations at once as there are workers that ask."""

    def __init__(self, on_piece: Callable[[bytes], None] | None) -> None:
        self._on_piece = on_piece
        self._waiting: deque[HttpPeer] = deque()
        self._arrived = asyncio.Condition()
        self._slots: dict[HttpPeer, Slot] = {}
        self._count = 0

    async def listen(self) -> asyncio.Server:
        """Serve on a free port of this machine."""
        return await asyncio.get_running_loop().create_server(self._peer, "127.0.0.1", 0, backlog=2048)

    def _peer(self) -> HttpPeer:
        peer = HttpPeer(self._on_request)
        peer.on_answer = lambda exchange: self._answered(peer, exchange)
        peer.on_piece = self._on_piece
        peer.on_lost = lambda: self._lost(peer)
        return peer

    def _lost(self, peer: HttpPeer) -> None:
        with contextlib.suppress(ValueError):
            self._waiting.remove(peer)
        if slot := self._slots.pop(peer, None):
            slot.lost()

    def _on_request(self, peer: HttpPeer, head: bytes, body: bytes) -> bytes | None:
        if b"/invocation/next " not in head:
            raise RuntimeError(f"a worker failed: {head.splitlines()[0]!r} {body!r}")
        self._waiting.append(peer)
        asyncio.get_running_loop().create_task(self._tell())
        return None

    async def _tell(self) -> None:
        async with self._arrived:
            self._arrived.notify_all()

    def _answered(self, peer: HttpPeer, exchange: Exchange) -> bytes:
        slot = self._slots.pop(peer)
        exchange.asked = slot.asked
        slot.done.set_result(exchange)
        return slot.answer

    async def idle(self, count: int) -> None:
        """Wait until so many workers ask for an invocation."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self._waiting) >= count)

    async def hand_out(self, event: bytes, request_id: bytes = b"", answer: bytes = ACCEPTED) -> Slot:
        """Give `event` to the worker that has waited for longest; `answer` is what it is told in the end."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self._waiting) > 0)
            slot = Slot(self._waiting.popleft(), answer)
        self._count += 1
        self._slots[slot.peer] = slot
        once = b"Lambda-Runtime-Invocation-Id: once-%d\r\n" % self._count
        slot.peer.transport.write(invocation(event, request_id or b"id-%d" % self._count, once))
        return slot


class EnvironmentTarget:
    """One environment with `count` workers."""

    def __init__(self, name: str, process: Process, api: SlotsApi, count: int) -> None:
        self.name = name
        self.process = process
        self.api = api
        self.count = count

    @property
    def cpu(self) -> float:
        """Seconds of CPU of the supervisor and its workers."""
        return self.process.cpu + sum(cpu_of(each) for each in self.process.children)

    @property
    def resident(self) -> float:
        """Megabytes of all of them, where a shared page counts once."""
        return self.process.proportional

    async def exchange(self, workload: Workload) -> Exchange:
        """One invocation and its whole answer, in the worker that has been free for longest."""
        slot = await self.api.hand_out(workload.event())
        return await slot.done

    async def settled(self) -> None:
        """Wait until the events of all requests have been published."""
        await self.api.idle(self.count)


@contextlib.asynccontextmanager
async def environment(
    around: Surroundings, name: str, count: int, on_piece: Callable[[bytes], None] | None = None
) -> AsyncGenerator[EnvironmentTarget]:
    """An environment whose workers have all asked for their first invocation."""
    api = SlotsApi(on_piece)
    async with await api.listen() as server:
        address = "{}:{}".format(*server.sockets[0].getsockname())
        with running(around.sandbox(address, count)) as process:
            await api.idle(count)
            yield EnvironmentTarget(name, process, api, count)
