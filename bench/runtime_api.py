"""A Lambda Runtime API and the two AWS services that the proxy calls, in the bench's own event loop.

Its one rule: it answers at once, so that what is measured is the sandbox.
"""

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

_DYNAMODB = re.compile(rb"DynamoDB_20120810\.(\w+)")
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_PRELUDE_END = b"\0" * 8
_BODY_END = b"0\r\n\r\n"


def end_with_the_first_failure() -> None:
    """Have the current task cancelled when a stand-in fails: else it would wait for an answer for ever."""
    task = asyncio.current_task()
    assert task is not None

    def give_up(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        loop.default_exception_handler(context)
        task.cancel()

    asyncio.get_running_loop().set_exception_handler(give_up)


@dataclass(slots=True)
class Exchange:
    """One request and what came back: pieces of the answer as they arrived. Moments are `time.monotonic_ns`."""

    asked: int = 0
    taken: int = 0
    """When a sandbox asked for the invocation, if it was not waiting already."""
    pieces: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])
    ended: int = 0

    @property
    def raw(self) -> bytes:
        """Everything that came back, HTTP framing included."""
        return b"".join(data for _, data in self.pieces)

    @property
    def first_byte(self) -> int:
        """The moment of the first byte of the body; for a streaming `/response` that is behind the prelude."""
        seen, marker = b"", _PRELUDE_END if self.pieces[0][1].startswith(b"POST ") else b"\r\n\r\n"
        for moment, data in self.pieces:
            seen += data
            # Behind the delimiter stand CR LF of its own chunk, or nothing: more than that is body.
            if len(seen.partition(marker)[2]) > 2:
                return moment
        raise ValueError("an answer without a body")


class HttpPeer(asyncio.Protocol):
    """One accepted connection: whole requests with a content length go to `on_request`, which says what to answer."""

    def __init__(self, on_request: Callable[["HttpPeer", bytes, bytes], bytes | None]) -> None:
        self._on_request = on_request
        self._received = b""
        self._end = b""
        self.answering: Exchange | None = None
        self.on_answer: Callable[[Exchange], bytes] | None = None
        self.on_piece: Callable[[bytes], None] | None = None
        self.on_lost: Callable[[], None] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport: answers may come later."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever asked has gone."""
        self.on_lost()

    def data_received(self, data: bytes) -> None:
        """Collect a request; the chunked body of a `/response` goes to `answering` piece by piece."""
        moment = time.monotonic_ns()
        if self.answering is not None:
            self._collect(self.answering, moment, data)
            return
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        if b"chunked" in head and self.on_answer is not None:
            self.answering, received, self._received = Exchange(), self._received, b""
            self._collect(self.answering, moment, received)
            return
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if len(body) < size:
            return
        self._received = body[size:]
        answer = self._on_request(self, head, body[:size])
        if answer is not None:
            self.transport.write(answer)

    def _collect(self, exchange: Exchange, moment: int, data: bytes) -> None:
        if self.on_piece is None:
            exchange.pieces.append((moment, data))
        else:
            self.on_piece(data)
        self._end = (self._end + data)[-len(_BODY_END) :]
        if self._end == _BODY_END:
            exchange.ended = moment
            self.answering = None
            assert self.on_answer is not None
            self.transport.write(self.on_answer(exchange))
        elif data.endswith(b"\r\n\r\n") and b"Function-Error-Body: " in data:
            raise RuntimeError(f"the sandbox reported a failed stream: {data!r}")


def json_answer(document: object, status: bytes = b"200 OK") -> bytes:
    """A whole HTTP answer."""
    body = json.dumps(document).encode()
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
    return head + body


class RuntimeApi:
    """Hands out one event at a time and collects the answer. One sandbox at a time is connected to it.

    With `on_piece` the pieces of answers are not kept but given to it, as they arrive.
    """

    def __init__(self, on_piece: Callable[[bytes], None] | None = None) -> None:
        self._on_piece = on_piece
        self._waiting: HttpPeer | None = None
        self._ready = asyncio.Event()
        self._event: bytes | None = None
        self._exchange = Exchange()
        self._answered: asyncio.Future[Exchange] | None = None
        self._count = 0

    async def listen(self) -> asyncio.Server:
        """Serve on a free port of this machine."""

        def peer() -> HttpPeer:
            peer = HttpPeer(self._on_request)
            peer.on_answer, peer.on_piece = self._on_answer, self._on_piece
            return peer

        return await asyncio.get_running_loop().create_server(peer, "127.0.0.1", 0)

    async def idle(self) -> None:
        """Wait until the sandbox asks for its next invocation, which is also when it has published its events."""
        await self._ready.wait()

    async def invoke(self, event: bytes) -> Exchange:
        """Give `event` to the sandbox, now or when it asks, and wait for its whole answer."""
        self._exchange = Exchange(asked=time.monotonic_ns())
        self._answered = asyncio.get_running_loop().create_future()
        if self._waiting is not None:
            peer, self._waiting = self._waiting, None
            self._ready.clear()
            peer.transport.write(self._invocation(event))
        else:
            self._event = event
        return await self._answered

    def _on_request(self, peer: HttpPeer, head: bytes, body: bytes) -> bytes | None:
        if b"/invocation/next " not in head:
            raise RuntimeError(f"the sandbox failed: {head.splitlines()[0]!r} {body!r}")
        if self._event is not None:
            self._exchange.taken = time.monotonic_ns()
            event, self._event = self._event, None
            return self._invocation(event)
        self._waiting = peer
        self._ready.set()
        return None

    def _on_answer(self, exchange: Exchange) -> bytes:
        assert self._answered is not None
        exchange.asked, exchange.taken = self._exchange.asked, self._exchange.taken
        self._answered.set_result(exchange)
        return json_answer({"status": "OK"}, b"202 Accepted")

    def _invocation(self, event: bytes) -> bytes:
        self._count += 1
        return invocation(event, b"8476a536-e9f4-11e8-9739-%012d" % self._count)


def invocation(event: bytes, request_id: bytes, more: bytes = b"") -> bytes:
    """What `/next` answers; `more` are lines of its head."""
    deadline = int(time.time() * 1000) + 900_000
    return (
        b"HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: %b\r\n%b"
        b"Lambda-Runtime-Deadline-Ms: %d\r\n"
        b"Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:proxy\r\n"
        b"Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        % (request_id, more, deadline, len(event), event)
    )


class Cache(Protocol):
    """The table of the response cache."""

    def call(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """What DynamoDB answers."""
        ...

    def keep(self, entry: dict[str, str]) -> None:
        """Take note of an event."""
        ...


class AwsStandIn:
    """Lambda's Invoke (an authorizer that allows everybody) and EventBridge's PutEvents. Counts what it gets.

    A call of DynamoDB goes to `cache`, which says its answer, and so does every event. Streams may be written down.
    """

    def __init__(self, cache: "Cache | None" = None) -> None:
        self._cache = cache
        self.events = 0
        self._last: dict[str, Any] = {}

    @property
    def last_detail(self) -> dict[str, Any]:
        """The detail of the last event."""
        return json.loads(self._last["Detail"])

    async def listen(self) -> asyncio.Server:
        """Serve on a free port of this machine."""
        loop = asyncio.get_running_loop()
        return await loop.create_server(lambda: HttpPeer(self._on_request), "127.0.0.1", 0)

    def _on_request(self, _: HttpPeer, head: bytes, body: bytes) -> bytes:
        if b"/invocations " in head:
            return json_answer(_ALLOW)
        if b"AWSEvents.PutEvents" in head:
            entries = json.loads(body)["Entries"]
            self.events += len(entries)
            self._last = entries[-1]
            if self._cache:
                for entry in entries:
                    self._cache.keep(entry)
            return json_answer({"FailedEntryCount": 0, "Entries": [{"EventId": "1"} for _ in entries]})
        if b"AmazonSQS.SendMessage" in head:
            return json_answer({"MessageId": "1"})
        if self._cache and (operation := _DYNAMODB.search(head)):
            answer = self._cache.call(operation[1].decode(), json.loads(body))
            return json_answer({"ConsumedCapacity": {"TableName": "cache", "CapacityUnits": 1.0}, **answer})
        if _DYNAMODB.search(head) and (table := json.loads(body)["TableName"]) == "streams":
            return json_answer({"ConsumedCapacity": {"TableName": table, "CapacityUnits": 1.0}})
        raise RuntimeError(f"an AWS call that the bench does not know: {head.splitlines()[0]!r}")


_ALLOW: dict[str, Any] = {
    "principalId": "bench",
    "policyDocument": {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Action": "execute-api:Invoke",
                "Effect": "Allow",
                "Resource": "arn:aws:execute-api:us-east-1:000000000000:function-url/url/*/*",
            }
        ],
    },
    "context": {"client_id": "bench", "client_name": "Bench", "servers": "", "models": ""},
}
