"""HTTP/1.1 for the two servers of this package: h11's protocol on asyncio's sockets.

Written by hand because both need what frameworks hide: trailers of a request (the Runtime API reports mid-stream errors
in them), a response that can be cut, and the request target exactly as it was sent. Its one rule: bytes go out when
they are handed over; nothing is collected. (asyncio sets TCP_NODELAY on every TCP socket.)
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

import h11

_READ_BYTES = 64 * 1024
_MAX_HEAD_BYTES = 32 * 1024
_MAX_SKIPPED_BYTES = 256 * 1024
_LINGER_SECONDS = 2.0

Headers = Sequence[tuple[str, str]]


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


class Exchange:
    """One request and its response: read the body, then `respond`, or `start`, `send`…, `end` (or `cut`)."""

    def __init__(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: h11.Request
    ) -> None:
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self._has_body = True
        self.trailers: dict[str, str] = {}
        peer: tuple[str, int] = writer.get_extra_info("peername") or ("", 0)
        self.request = Request(head.method.decode(), head.target.decode("latin-1"), _decoded(head.headers), peer[0])

    async def chunks(self) -> AsyncIterator[bytes]:
        """The request body as it arrives; `trailers` are complete after the last chunk. Raises TruncatedBodyError."""
        if self._connection.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")
            self._write(self._connection.send(go_on))
        while True:
            event = self._connection.next_event()
            if event is h11.NEED_DATA:
                await self._receive()
            elif isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                self.trailers = dict(_decoded(event.headers))
                return
            else:
                raise TruncatedBodyError

    async def body(self, limit: int) -> bytes:
        """The whole request body. Raises BodyTooLargeError (the rest is left unread) and TruncatedBodyError."""
        declared = self.request.header("content-length")
        if declared is not None and int(declared) > limit:
            raise BodyTooLargeError
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                raise BodyTooLargeError
        return bytes(body)

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a whole response. Raises PeerGoneError."""
        await self.start(status, [*headers, ("content-length", str(len(body)))])
        await self.send(body)
        await self.end()

    async def start(self, status: int, headers: Headers) -> None:
        """Send status and headers. Without a content-length the body is chunked. Raises PeerGoneError."""
        self._has_body = self.request.method != "HEAD" and status not in (204, 304)
        encoded = [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers]
        await self._send(h11.Response(status_code=status, headers=encoded, reason=_reason(status)))

    async def send(self, chunk: bytes) -> None:
        """Send one piece of the body now; dropped where HTTP has no body (HEAD, 204, 304). Raises PeerGoneError."""
        if chunk and self._has_body:
            await self._send(h11.Data(data=chunk))

    async def end(self) -> None:
        """Complete the response. Raises PeerGoneError."""
        await self._send(h11.EndOfMessage())

    def cut(self) -> None:
        """Break the response off after what was sent: the client sees that it is incomplete."""
        self._connection.send_failed()
        self._writer.close()

    async def _send(self, event: h11.Event) -> None:
        data = self._connection.send(event)
        if self._writer.is_closing():
            raise PeerGoneError
        self._write(data)
        try:
            await self._writer.drain()
        except ConnectionError as error:
            raise PeerGoneError from error

    def _write(self, data: bytes | None) -> None:
        if data:
            self._writer.write(data)

    async def _receive(self) -> None:
        try:
            data = await self._reader.read(_READ_BYTES)
        except ConnectionError as error:
            raise TruncatedBodyError from error
        try:
            self._connection.receive_data(data)
            if not data:
                raise TruncatedBodyError
        except h11.RemoteProtocolError as error:
            raise TruncatedBodyError from error


Handler = Callable[[Exchange], Awaitable[None]]
BadRequest = Callable[[str], tuple[Headers, bytes]]
"""Makes the answer to bytes that are no HTTP request, from h11's description of the fault."""


class HttpServer:
    """A server on one address. Close it: connections in use are cut."""

    def __init__(self, handler: Handler, bad_request: BadRequest) -> None:
        self._handler = handler
        self._bad_request = bad_request
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen, and return the port (chosen by the system when `port` is 0). Raises OSError."""
        self._server = await asyncio.start_server(self._accept, host, port, backlog=512)
        return self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._connections.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logging.getLogger(__name__).error("A connection failed", exc_info=error)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD_BYTES)
        try:
            while (head := await self._next_request(connection, reader)) is not None:
                await self._handler(Exchange(connection, reader, writer, head))
                if connection.our_state not in (h11.DONE, h11.MUST_CLOSE):
                    return
                if connection.their_state is h11.SEND_BODY and not await _skip_body(connection, reader):
                    await _linger(reader, writer)
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return
                connection.start_next_cycle()
        except h11.RemoteProtocolError as error:
            await self._refuse(connection, reader, writer, error)
        except (ConnectionError, PeerGoneError, TruncatedBodyError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def _next_request(connection: h11.Connection, reader: asyncio.StreamReader) -> h11.Request | None:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                return event
            if event is not h11.NEED_DATA:
                return None
            connection.receive_data(await reader.read(_READ_BYTES))

    async def _refuse(
        self,
        connection: h11.Connection,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        error: h11.RemoteProtocolError,
    ) -> None:
        if connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        status = error.error_status_hint
        headers, body = self._bad_request(str(error))
        head = [*headers, ("content-length", str(len(body))), ("connection", "close")]
        for event in (
            h11.Response(status_code=status, headers=head, reason=_reason(status)),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            writer.write(connection.send(event) or b"")
        await _linger(reader, writer)


async def _skip_body(connection: h11.Connection, reader: asyncio.StreamReader) -> bool:
    """Read what is left of a request's body, if that is little: the connection can then serve the next request."""
    skipped = 0
    while skipped <= _MAX_SKIPPED_BYTES and not connection.they_are_waiting_for_100_continue:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_READ_BYTES))
        elif isinstance(event, h11.Data):
            skipped += len(event.data)
        else:
            return isinstance(event, h11.EndOfMessage)
    return False


async def _linger(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read away what the client still sends, for a while: closing at once would reset the answer it has not read."""
    with contextlib.suppress(ConnectionError, TimeoutError, NotImplementedError):
        writer.write_eof()
        async with asyncio.timeout(_LINGER_SECONDS):
            while await reader.read(_READ_BYTES):
                pass


def _reason(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def _decoded(headers: Sequence[tuple[bytes, bytes]]) -> Headers:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
