"""Real servers and small fakes for tests. Servers listen on loopback and speak bytes: nothing is mocked away."""

import contextlib
import copy
import json
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast

from openai_proxy.events.envelope import Event
from openai_proxy.events.incoming import from_envelope, from_sqs_body
from proxy.errors import ClientError, ProxyError


@dataclass
class Received:
    """One HTTP request as it came over the wire. Header names are lower case; `trailers` follow a chunked body."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    raw_body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict[str, str])


class Clock:
    """Stands in for `time.monotonic`; `now` are seconds. Steps of fractions of two keep every sum exact."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Connection:
    """The server's side of one connection: what a script may do with it."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._reader = connection.makefile("rb")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(
        self, body: bytes, status: str = "200 OK", content_type: str = "application/json", more: str = ""
    ) -> None:
        head = f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
        self.send(head.encode() + body)

    def start_chunked(self, content_type: str = "text/event-stream", status: str = "200 OK") -> None:
        self.send(f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode())

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end_chunked(self) -> None:
        self.send(b"0\r\n\r\n")

    def reset(self) -> None:
        """Close with a TCP reset, as a crashed peer does."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._reader.close()
            self._socket.close()

    def stop(self) -> None:
        """End the connection from another thread than the script's, which may be reading."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def read(self, size: int) -> None:
        """So many bytes more of what the client sends."""
        self._reader.read(size)

    def wait_for_end(self) -> None:
        """Until the client has closed the connection."""
        with contextlib.suppress(OSError, ValueError):
            while self._reader.read(65536):
                pass

    def receive(self, *, with_body: bool = True) -> Received | None:
        """The next request, or None when the client has gone. Without its body it is returned after its head."""
        line = self._reader.readline()
        if not line:
            return None
        method, target, _ = line.decode().split(" ", 2)
        headers = self._headers()
        if not with_body:
            return Received(method, target, headers, b"")
        if headers.get("transfer-encoding") == "chunked":
            return self._chunked(method, target, headers)
        body = self._reader.read(int(headers.get("content-length", "0")))
        return Received(method, target, headers, body, body)

    def _chunked(self, method: str, target: str, headers: dict[str, str]) -> Received:
        body, raw = b"", b""
        while True:
            line = self._reader.readline()
            size = int(line, 16) if line.strip() else 0
            if size == 0:
                return Received(method, target, headers, body, raw + line, self._headers())
            data = self._reader.read(size)
            body, raw = body + data, raw + line + data + self._reader.readline()

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        while (line := self._reader.readline().decode("latin-1").rstrip("\r\n")) != "":
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return headers


def envelope_of(entry: Mapping[str, str]) -> dict[str, Any]:
    """What EventBridge makes of one PutEvents entry."""
    return {
        "version": "0",
        "id": "7bf73129-1428-4cd3-a780-95db273d1602",
        "detail-type": entry["DetailType"],
        "source": entry["Source"],
        "account": "123456789012",
        "time": "2026-11-23T18:00:00Z",
        "region": "eu-central-1",
        "resources": [],
        "detail": json.loads(entry["Detail"]),
    }


def read_event(text: str | Mapping[str, Any]) -> Event[Any, Any]:
    """An event of any type, of the body of a message or of an envelope."""
    return from_sqs_body(text) if isinstance(text, str) else from_envelope(text)


Script = Callable[[Connection, Received], None]


class ScriptedServer:
    """An HTTP server whose every answer is a script. `received` has all requests in the order of their coming."""

    def __init__(self, script: Script, *, reads_bodies: bool = True) -> None:
        self._script = script
        self._reads_bodies = reads_bodies
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[Connection] = []
        self.port = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.received: list[Received] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        for connection in self._connections:
            connection.stop()
        for thread in self._threads:
            thread.join(timeout=20)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = Connection(self._listener.accept()[0])
                self._connections.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: Connection) -> None:
        with contextlib.suppress(OSError, ValueError):
            while request := connection.receive(with_body=self._reads_bodies):
                self.received.append(request)
                self._script(connection, request)
        connection.close()


@dataclass
class RecordedResponse:
    """A response that keeps what it is given, piece by piece. `break_after` pieces the client is gone."""

    break_after: int | None = None
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    pieces: list[bytes] = field(default_factory=list[bytes])
    started: bool = False
    flushed: bool = False
    """Whether the head went out before the first piece."""
    ended: bool = False
    broken: bool = False
    fault: ProxyError | None = None
    failure: BaseException | None = None
    on_piece: Callable[[bytes], None] = lambda _: None

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def start(self, status: int, headers: Mapping[str, str], cookies: Sequence[str] = ()) -> None:
        assert not self.started, "an answer starts once"
        assert not cookies
        self.started, self.status, self.headers = True, status, headers

    def flush(self) -> None:
        assert self.started, "there is nothing before the start"
        self.flushed = True

    def write(self, data: bytes) -> None:
        assert self.started, "nothing is written before the start"
        assert not self.ended, "nothing is written after the end"
        if self.break_after is not None and len(self.pieces) >= self.break_after:
            self.broken, self.fault = True, ClientError(499, "client_gone", "The client went away.")
        if data and not self.broken:
            self.pieces.append(data)
            self.on_piece(data)

    def end(self) -> None:
        assert self.started, "a response that never started cannot end"
        assert not self.ended, "an answer ends once"
        self.ended = True

    def fail(self, error: BaseException) -> None:
        assert not self.ended, "an answer ends once"
        self.ended, self.failure = True, error


def say_what_was_used() -> None:
    """Let moto say what a transaction has used: DynamoDB always does, which is how its answers are known."""
    from botocore import handlers  # noqa: PLC0415  # few suites need it

    def say(parsed: dict[str, Any], **_: Any) -> None:
        if parsed.get("ConsumedCapacity") == [] and "ItemCollectionMetrics" in parsed:
            parsed["ConsumedCapacity"] = [{"TableName": "of moto"}]

    handlers.BUILTIN_HANDLERS.append(("after-call.dynamodb.TransactWriteItems", say))


LISTENING = (
    *(sys.executable, "-c"),
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])",
)
"""Stands before a command that is to hear SIGINT: what a shell starts in the background inherits that it is ignored."""


def refused_key() -> dict[str, Any]:
    """What the authorizer function answers to a key that is none."""
    return {"policyDocument": {"Statement": [{"Effect": "Deny"}]}, "context": {"error_code": "invalid_api_key"}}


def no_picture(_draw: object, _salt: str) -> str:
    """In the place of a report's charts, where a test reads its texts and tables."""
    return ""


LACKS = object()
"""A value that `changed` takes for none."""


def inside(value: Any) -> list[tuple[Any, Any]]:
    """The fields or elements of `value`, each with its name or number."""
    if isinstance(value, dict):
        return list(cast("dict[Any, Any]", value).items())
    return list(enumerate(cast("list[Any]", value))) if isinstance(value, list) else []


def places(value: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every field and element below `value`."""
    for name, each in inside(value):
        yield (*above, name)
        yield from places(each, (*above, name))


def changed(envelope: Mapping[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """A copy with another value there, or without one."""
    made: Any = copy.deepcopy(envelope)
    inner = made
    for name in place[:-1]:
        inner = inner[name]
    if value is LACKS:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return made
