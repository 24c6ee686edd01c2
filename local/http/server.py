"""HTTP/1.1 for the servers of this package: what a handler gets of a request, and how it answers.

The servers need what frameworks hide: the trailers of a request (the Runtime API reports mid-stream errors in them), a
response that can be cut, and the request target exactly as it was sent. Its one rule: bytes go out when they are handed
over; nothing is collected.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from local.http.connection import Connection, PeerGoneError
from local.http.wire import Headers, MalformedError, Message, response_head

_MAX_SKIPPED_BYTES = 256 * 1024


class TruncatedBodyError(Exception):
    """The peer closed the connection before its request body was complete."""


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


class Exchange:
    """One request and its response: read the body, then `respond`, or `start`, `send`…, `end` (or `cut`)."""

    def __init__(self, connection: Connection, message: Message) -> None:
        self._connection = connection
        self._message = message
        self._may_await_continue = True
        self._has_body = True
        self._is_chunked = False
        self.has_started = False
        self.has_ended = False
        self.request = Request(message.method, message.target, message.headers, connection.peer)

    @property
    def trailers(self) -> dict[str, str]:
        """The trailers of the request; complete after its body."""
        return self._message.trailers

    def when_gone(self, tell: Callable[[], None]) -> None:
        """Have `tell` called when the peer closes the connection, now or later, instead of what was to be called."""
        self._connection.on_gone = tell

    async def chunks(self) -> AsyncIterator[bytes]:
        """The request body as it arrives. Raises TruncatedBodyError, and MalformedError, which the server answers."""
        message = self._message
        while True:
            while message.pieces:
                yield message.pieces.popleft()
            if message.is_complete:
                return
            await self._more()

    async def body(self, limit: int) -> bytes:
        """The whole request body. Raises BodyTooLargeError (the rest is left unread) and what `chunks` raises."""
        message = self._message
        if (message.length or 0) > limit:
            raise BodyTooLargeError
        while not message.is_complete and message.size <= limit:
            await self._more()
        if message.size > limit:
            raise BodyTooLargeError
        body = b"".join(message.pieces)
        message.pieces.clear()
        return body

    async def _more(self) -> None:
        connection = self._connection
        if self._awaits_continue() and not connection.received:
            connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._may_await_continue = False
        if connection.requests.fault is not None:
            raise connection.requests.fault
        if not await connection.more():
            raise TruncatedBodyError

    def _awaits_continue(self) -> bool:
        return self._may_await_continue and not self._message.size and self._message.expects_continue

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
        self._is_chunked = not self._message.is_http10 and status not in (204, 304)
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
        message, connection = self._message, self._connection
        already = message.size
        while not message.is_complete:
            message.pieces.clear()
            if message.size - already > _MAX_SKIPPED_BYTES or self._awaits_continue():
                await connection.linger()
                return False
            if connection.requests.fault is not None or not await connection.more():
                return False
        return message.keep_alive

    def _begin(self, status: int, headers: Headers) -> bytes:
        self.has_started = True
        self._has_body = self._message.method != "HEAD" and status not in (204, 304)
        return response_head(status, headers if self._message.keep_alive else [*headers, ("connection", "close")])

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
        self._server = await loop.create_server(lambda: Connection(self._accept), host, port, backlog=512)
        return self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, connection: Connection) -> None:
        task = asyncio.create_task(self._serve(connection))
        self._connections.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logging.getLogger(__name__).error("A connection failed", exc_info=error)

    async def _serve(self, connection: Connection) -> None:
        exchange: Exchange | None = None
        try:
            while (message := await self._next_request(connection)) is not None:
                exchange = Exchange(connection, message)
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
    async def _next_request(connection: Connection) -> Message | None:
        requests = connection.requests
        while not requests.messages:
            if requests.fault is not None:
                raise requests.fault
            if not await connection.more():
                return None
        return requests.messages.popleft()

    async def _refuse(self, connection: Connection, error: MalformedError) -> None:
        headers, body = self._bad_request(str(error))
        framing = [("content-length", str(len(body))), ("connection", "close")]
        connection.write(response_head(error.status, [*headers, *framing]) + body)
        await connection.linger()
