"""A transport of httpx whose streams outlive their connections, for OpenAI's SDK and whatever else takes its client.

    AsyncOpenAI(http_client=httpx.AsyncClient(transport=ResumableTransport(), timeout=60))

A stream that is cut goes on after the last whole event that was read; leaving one early stops the model. What is no
stream, what fails before its first byte and what another server answers is as httpx has it.
"""

import asyncio
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2 as httpx  # as OpenAI's SDK from 3.0 on; `import httpx` for others, whose names are the same

_EVENT = re.compile(rb".*?(?:\r\n\r\n|\n\n)", re.DOTALL)
_ID = re.compile(rb"^id: ?([\w-]+)\.(\d+)\r?$", re.MULTILINE)
_LAST = re.compile(
    rb"^(?:data: ?\[DONE\]|event: ?(?:response\.(?:completed|incomplete)|message_stop|error))\s*$", re.MULTILINE
)
_OF_THE_BODY = ("content-type", "content-length", "x-resumable")
_LONGEST = 10.0
_BELIEVED = 2
"""An answer without a last event has ended where so many connections in a row had nothing more to say."""


class ResumableTransport(httpx.AsyncBaseTransport):
    """Asks for resumable streams, and reads them over as many connections as it takes.

    `patience` is for how many seconds of waiting between tries no new event is put up with.
    """

    def __init__(
        self,
        wrapped: httpx.AsyncBaseTransport | None = None,
        patience: float = 300.0,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.wrapped = wrapped or httpx.AsyncHTTPTransport()
        self.patience = patience
        self.sleep = sleep

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request; what asks for a stream is marked."""
        base = re.match(r".*?/v1(?=/)", request.url.path)
        is_stream = request.method == "POST" and re.search(rb'"stream"\s*:\s*true', await request.aread())
        if not base or not is_stream:
            return await self.wrapped.handle_async_request(request)
        request.headers["x-resumable"] = "true"
        response = await self.wrapped.handle_async_request(request)
        if response.status_code == 200 and response.headers.get("x-resumable") == "true":
            address = request.url.copy_with(path=f"{base[0]}/streams/{response.headers['x-inference-id']}", query=None)
            response.stream = _Events(self, request, address, response)
        return response

    async def aclose(self) -> None:
        """Close its connections."""
        await self.wrapped.aclose()


class _Events(httpx.AsyncByteStream):
    """The events of one answer, each of them once and whole."""

    def __init__(
        self, transport: ResumableTransport, request: httpx.Request, address: httpx.URL, response: httpx.Response
    ) -> None:
        self._transport, self._request, self._address = transport, request, address
        self._connection = _stream_of(response)
        self._last, self._has_ended = 0, False
        self._waits = self._waited = 0.0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        quiet = 0
        while not self._has_ended:
            cut: Exception | None = None
            before, rest = self._last, b""
            try:
                async for piece in self._connection:
                    rest += piece
                    whole = b"".join(match[0] for match in _EVENT.finditer(rest))
                    rest = rest[len(whole) :]
                    if events := self._new(whole):
                        yield events
            except httpx.TransportError as error:
                cut = error
            quiet = 0 if cut or rest or self._last > before else quiet + 1
            if self._has_ended or quiet >= _BELIEVED:
                break
            if not await self._connect(cut):
                if cut:
                    self._has_ended = True
                    raise cut
                yield rest
                break
        self._has_ended = True

    async def aclose(self) -> None:
        """Leave: the model is stopped, unless the answer has ended."""
        await self._connection.aclose()
        if not self._has_ended:
            self._has_ended = True
            response = await self._transport.wrapped.handle_async_request(self._again("DELETE"))
            await response.aclose()

    def _new(self, whole: bytes) -> bytes:
        """The events of `whole` that have not been read."""
        kept = b""
        for match in _EVENT.finditer(whole):
            ids = _ID.findall(match[0])
            number = int(ids[-1][1]) if ids else 0
            if not number or number > self._last:
                self._last = max(self._last, number)
                self._has_ended = self._has_ended or _LAST.search(match[0]) is not None
                self._waits = self._waited = 0.0
                kept += match[0]
        return kept

    async def _connect(self, cut: Exception | None) -> bool:
        """Ask for what is missing, with growing pauses. False: there is no such stream. Raises when patience ends."""
        await self._connection.aclose()
        while self._waited < self._transport.patience:
            pause = random.random() * min(_LONGEST, 0.5 * 2**self._waits)  # noqa: S311  # it only spreads clients out
            self._waits += 1
            self._waited += pause
            await self._transport.sleep(pause)
            try:
                response = await self._transport.wrapped.handle_async_request(self._again("GET"))
            except httpx.TransportError:
                continue
            if response.status_code == 200:
                self._connection = _stream_of(response)
                return True
            await response.aclose()
            if response.status_code < 500 and response.status_code != 429:
                return False
        raise cut or httpx.ReadError("The stream cannot be continued.", request=self._request)

    def _again(self, method: str) -> httpx.Request:
        headers = {name: value for name, value in self._request.headers.items() if name not in _OF_THE_BODY}
        if self._last and method == "GET":
            headers["last-event-id"] = f"{self._address.path.rpartition('/')[2]}.{self._last}"
        return httpx.Request(method, self._address, headers=headers, extensions=self._request.extensions)


def _stream_of(response: httpx.Response) -> httpx.AsyncByteStream:
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("the transport that is wrapped is not an asynchronous one")
    return response.stream
