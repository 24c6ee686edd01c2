"""HTTP/1.1 for the servers of this package: `local.http1_wire` on asyncio's transports.

Written by hand because they need what frameworks hide: trailers of a request (the Runtime API reports mid-stream errors
in them), a response that can be cut, and the request target exactly as it was sent. Its one rule: bytes go out when
they are handed over; nothing is collected. (asyncio sets TCP_NODELAY on every TCP socket.)
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from local.http1_wire import Body, Head, Headers, MalformedError, response_head, take_head

_READ_AHEAD_BYTES = 128 * 1024
_MAX_SKIPPED_BYTES = 256 * 1024
_LINGER_SECONDS = 2.0


class TruncatedBodyError(Exception):
    """The peer closed the connection before its request body was complete."""


class PeerGoneError(Exception):
    """The peer closed the connection before its response was complete."""


class BodyTooLargeError(Exception):
    """A request body exceeds what its reader allows."""


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request. `target` is as sent; header names are lower case, values latin-1, repeats kept."""

    method: str
    target: str
    headers: Headers
    peer: str

    def header(self, name: str) -> str | None:
        """The first value of the header `name` (lower case)."""
        return next((value for key, value in self.headers if key == name), None)


class _Connection(asyncio.Protocol):
    """What arrives on one connection, and whether more may be sent. One task reads it and writes to it."""

    def __init__(self, connected: Callable[["_Connection"], None]) -> None:
        self._connected = connected
        self.received = bytearray()
        self.peer = ""
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
        return True  # a client that has said all it has to say still gets its answer

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended = self._lost = True
        self._may_send.set()
        self._wake()

    def pause_writing(self) -> None:
        self._may_send.clear()

    def resume_writing(self) -> None:
        self._may_send.set()

    def _wake(self) -> None:
        if not self._arrival.done():
            self._arrival.set_result(None)

    async def more(self) -> bool:
        """Wait until more has arrived. False: no more will."""
        if self._ended:
            return False
        if not self._reads:
            self._reads = True
            self.transport.resume_reading()
        had = len(self.received)
        self._arrival = asyncio.get_running_loop().create_future()
        await self._arrival
        return len(self.received) > had

    def write(self, data: bytes) -> None:
        """Send now. Raises PeerGoneError."""
        if self._lost or self.transport.is_closing():
            raise PeerGoneError
        self.transport.write(data)

    async def sent(self) -> None:
        """Wait while the peer lags behind with reading. Raises PeerGoneError."""
        await self._may_send.wait()
        if self._lost:
            raise PeerGoneError

    async def linger(self) -> None:
        """Read away what the client still sends, for a while: closing at once would reset the unread answer."""
        with contextlib.suppress(OSError, TimeoutError):
            if not self.transport.is_closing():
                self.transport.write_eof()
            async with asyncio.timeout(_LINGER_SECONDS):
                self.received.clear()
                while await self.more():
                    self.received.clear()


class Exchange:
    """One request and its response: read the body, then `respond`, or `start`, `send`…, `end` (or `cut`)."""

    def __init__(self, connection: _Connection, head: Head) -> None:
        self._connection = connection
        self._head = head
        self._body = Body(head.body_length)
        self._awaits_continue = head.expects_continue
        self._has_body = True
        self._is_chunked = False
        self.has_started = False
        self.has_ended = False
        self.request = Request(head.method, head.target, head.headers, connection.peer)

    @property
    def trailers(self) -> dict[str, str]:
        """The trailers of the request; complete after its body."""
        return self._body.trailers

    async def chunks(self) -> AsyncIterator[bytes]:
        """The request body as it arrives. Raises TruncatedBodyError, and MalformedError, which the server answers."""
        connection, body = self._connection, self._body
        if self._awaits_continue and not connection.received and not body.is_complete:
            connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._awaits_continue = False
        while True:
            if piece := body.take(connection.received):
                yield piece
            elif body.is_complete:
                return
            elif not await connection.more():
                raise TruncatedBodyError

    async def body(self, limit: int) -> bytes:
        """The whole request body. Raises BodyTooLargeError (the rest is left unread) and what `chunks` raises."""
        if (self._body.length or 0) > limit:
            raise BodyTooLargeError
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                raise BodyTooLargeError
        return bytes(body)

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole response. Raises PeerGoneError."""
        self.hand_out(status, headers, body)
        await self._connection.sent()

    def hand_out(self, status: int, headers: Headers, body: bytes) -> None:
        """`respond` for who cannot wait until the peer has read it. Raises PeerGoneError."""
        head = self._begin(status, [*headers, ("content-length", str(len(body)))])
        self._connection.write(head + body if self._has_body else head)
        self.has_ended = True

    async def start(self, status: int, headers: Headers, first: bytes = b"") -> None:
        """Send status, headers and what there is of the body. It is chunked. Raises PeerGoneError."""
        self._is_chunked = not self._head.is_http10 and status not in (204, 304)
        coding = [("transfer-encoding", "chunked")] if self._is_chunked else []
        head = self._begin(status, [*headers, *coding])
        self._connection.write(head + self._framed(first))
        await self._connection.sent()

    async def send(self, chunk: bytes) -> None:
        """Send one piece of the body now; dropped where HTTP has no body (HEAD, 204, 304). Raises PeerGoneError."""
        if framed := self._framed(chunk):
            self._connection.write(framed)
            await self._connection.sent()

    async def end(self) -> None:
        """Complete the response. Raises PeerGoneError."""
        if self._is_chunked and self._has_body:
            self._connection.write(b"0\r\n\r\n")
            await self._connection.sent()
        self.has_ended = True

    def cut(self) -> None:
        """Break the response off after what was sent: the client sees that it is incomplete."""
        self._connection.transport.close()

    async def leaves_connection_usable(self) -> bool:
        """Whether the next request can follow, once what is left of this one's body is read, if that is little."""
        skipped, body, connection = 0, self._body, self._connection
        while not body.is_complete:
            if skipped > _MAX_SKIPPED_BYTES or self._awaits_continue:
                await connection.linger()
                return False
            piece = body.take(connection.received)
            skipped += len(piece)
            if not piece and not body.is_complete and not await connection.more():
                return False
        return self._head.keep_alive

    def _begin(self, status: int, headers: Headers) -> bytes:
        self.has_started = True
        self._has_body = self._head.method != "HEAD" and status not in (204, 304)
        return response_head(status, headers if self._head.keep_alive else [*headers, ("connection", "close")])

    def _framed(self, chunk: bytes) -> bytes:
        if not chunk or not self._has_body:
            return b""
        return b"%x\r\n%b\r\n" % (len(chunk), chunk) if self._is_chunked else chunk


Handler = Callable[[Exchange], Awaitable[None]]
BadRequest = Callable[[str], tuple[Headers, bytes]]
"""Makes the answer to bytes that are no HTTP request, from a description of the fault."""


class HttpServer:
    """A server on one address. Close it: connections in use are cut."""

    def __init__(self, handler: Handler, bad_request: BadRequest) -> None:
        self._handler = handler
        self._bad_request = bad_request
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (chosen by the system when `port` is 0). Raises OSError."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self._accept), host, port, backlog=512)
        return self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, connection: _Connection) -> None:
        task = asyncio.create_task(self._serve(connection))
        self._connections.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logging.getLogger(__name__).error("A connection failed", exc_info=error)

    async def _serve(self, connection: _Connection) -> None:
        exchange: Exchange | None = None
        try:
            while (head := await self._next_head(connection)) is not None:
                exchange = Exchange(connection, head)
                await self._handler(exchange)
                if not exchange.has_ended or not await exchange.leaves_connection_usable():
                    return
                exchange = None
        except MalformedError as error:
            if exchange is None or not exchange.has_started:
                await self._refuse(connection, error)
        except (ConnectionError, PeerGoneError, TruncatedBodyError):
            pass
        finally:
            connection.transport.close()

    @staticmethod
    async def _next_head(connection: _Connection) -> Head | None:
        while (head := take_head(connection.received)) is None:
            if not await connection.more():
                return None
        return head

    async def _refuse(self, connection: _Connection, error: MalformedError) -> None:
        headers, body = self._bad_request(str(error))
        framing = [("content-length", str(len(body))), ("connection", "close")]
        connection.write(response_head(error.status, [*headers, *framing]) + body)
        await connection.linger()
