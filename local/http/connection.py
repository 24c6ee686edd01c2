"""One connection of a server of `local.http.server`, between asyncio's transport and the requests.

Bytes are read as requests only when the connection's task asks for more of them. Until then they wait and are counted,
so that a peer that sends faster than it is read has to wait too. (asyncio sets TCP_NODELAY on every TCP socket.)
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import cast

from local.http.wire import RequestReader

_READ_AHEAD_BYTES = 128 * 1024
_LINGER_SECONDS = 2.0


class PeerGoneError(Exception):
    """The peer closed the connection before its response was complete."""


class Connection(asyncio.Protocol):
    """What arrives on one connection, and whether more may be sent. One task reads it and writes to it."""

    def __init__(self, connected: Callable[["Connection"], None]) -> None:
        self._connected = connected
        self.requests = RequestReader()
        self.received = bytearray()
        self.peer = ""
        self.on_gone: Callable[[], None] = lambda: None
        """Called when the peer has said all that it has to say, and when it has gone."""
        self._ended = False
        self._lost = False
        self._reads = True
        self._arrival: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._may_send = asyncio.Event()
        self._may_send.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        self.peer = (transport.get_extra_info("peername") or ("",))[0]
        self._connected(self)

    def data_received(self, data: bytes) -> None:
        self.received += data
        if len(self.received) > _READ_AHEAD_BYTES and self._reads:
            self._reads = False
            self.transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._ended = True
        self._wake()
        self.on_gone()
        return True  # a client that has said all it has to say still gets its answer

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = self._lost = True
        self._may_send.set()
        self._wake()
        self.on_gone()

    def pause_writing(self) -> None:
        self._may_send.clear()

    def resume_writing(self) -> None:
        self._may_send.set()

    def _wake(self) -> None:
        if not self._arrival.done():
            self._arrival.set_result(None)

    async def more(self) -> bool:
        """Wait until more has arrived, and read it. Returns False when no more will come."""
        if not await self._arrived():
            return False
        self.requests.feed(self.received)
        self.received.clear()
        return True

    async def _arrived(self) -> bool:
        if not self.received and not self._ended:
            if not self._reads:
                self._reads = True
                self.transport.resume_reading()
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival
        return bool(self.received)

    def write(self, data: bytes) -> None:
        """Send now. Raises PeerGoneError."""
        if self._lost or self.transport.is_closing():
            raise PeerGoneError
        self.transport.write(data)

    async def sent(self) -> None:
        """Wait until the peer has read enough of what was sent. Raises PeerGoneError."""
        await self._may_send.wait()
        if self._lost:
            raise PeerGoneError

    async def linger(self) -> None:
        """Read and drop what the client still sends, for a while: closing at once would reset the unread answer."""
        with contextlib.suppress(OSError, TimeoutError):
            if not self.transport.is_closing():
                self.transport.write_eof()
            async with asyncio.timeout(_LINGER_SECONDS):
                while await self._arrived():
                    self.received.clear()
