"""The fault server: an OpenAI-compatible upstream server over raw sockets that does to the byte what a case says.

Its one rule: it knows nothing but the cases; every request chooses one, by its model or its path.
"""

import contextlib
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Generator, Iterable, Mapping
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from conformance.case import Case
from conformance.chat import compact, error_body, reporting
from conformance.wire import JSON, Act, Asked, Headers, Raw, Received, Reply, Wait

_IDLE_SECONDS = 60.0
_SILENCE_SECONDS = 120.0
_RELEASE_SECONDS = 20.0
_LINGER_SECONDS = 5.0
_MAX_BODY = 16 * 1024 * 1024
_SEARCHED = 65536
_KEPT_RUNS = 10_000
PROBE, PROGRESS = "probe", "progress"
"""Requests that belong to no case: whether the server is there; how many events a client has got."""

_LATE = b'data: {"error": "the client had not got the events before this one"}\n\n'


class _GoneError(Exception):
    """The other side has closed the connection, or sends what is no HTTP."""


class Runs:
    """What the server remembers of runs: how often each has asked, and how many events its client has got."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked: dict[bytes, int] = {}
        self._got: dict[bytes, int] = {}

    def ask(self, run: bytes) -> int:
        """Count a request of a run."""
        with self._changed:
            self._asked[run] = self._asked.pop(run, 0) + 1
            for remembered in (self._asked, self._got):
                while len(remembered) > _KEPT_RUNS:
                    del remembered[next(iter(remembered))]
            return self._asked[run]

    def got(self, run: bytes, events: int) -> None:
        """The client of a run has got so many events."""
        with self._changed:
            self._got[run] = max(events, self._got.get(run, 0))
            self._changed.notify_all()

    def wait(self, run: bytes, events: int) -> bool:
        """Wait until the client of a run has got so many events; False when it does not say so in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._got.get(run, 0) >= events, _RELEASE_SECONDS)


class FaultServer(socketserver.ThreadingTCPServer):
    """Serves on `host`:`port` (0: any free one), one thread for each connection."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, cases: Iterable[Case], host: str = "127.0.0.1", port: int = 0) -> None:
        self.cases = {case.name: case for case in cases}
        self.runs = Runs()
        super().__init__((host, port), _Connection)

    @property
    def port(self) -> int:
        """The port on which it listens."""
        return int(self.server_address[1])

    @contextlib.contextmanager
    def running(self) -> Generator[Self]:
        """Serve in the background, and stop when the context is left."""
        thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            thread.join()
            self.server_close()


class _Connection(socketserver.BaseRequestHandler):
    """One connection: requests and replies in turn, until one side ends it."""

    def setup(self) -> None:
        assert isinstance(self.server, FaultServer)
        self._faults = self.server
        self._socket: socket.socket = self.request
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.settimeout(_IDLE_SECONDS)
        self._buffer = b""

    def handle(self) -> None:
        with contextlib.suppress(_GoneError, OSError):
            while self._serve():
                pass

    def _serve(self) -> bool:
        """One request and its reply. False when the connection is over."""
        method, target, headers = self._head()
        body, whole = self._body(target, dict(headers))
        asked = Asked.by(target, body) or Asked("")
        count = self._faults.runs.ask(asked.run) if asked.run and asked.case != PROGRESS else 1
        request = Received(method, target, headers, body, asked.run, count)
        reply = self._reply(asked.case, request).of_run(asked.run)
        goes_on = self._play(reply, asked.run, has_body=method != "HEAD")
        if goes_on and not whole:
            self._linger()
        return goes_on and whole

    def _head(self) -> tuple[str, str, Headers]:
        while b"\r\n\r\n" not in self._buffer:
            if len(self._buffer) > _SEARCHED:
                raise _GoneError
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, _, rest = first.partition(" ")
        fields = (line.partition(":") for line in lines)
        return method, rest.rpartition(" ")[0], [(name.lower(), value.strip()) for name, _, value in fields]

    def _body(self, target: str, headers: Mapping[str, str]) -> tuple[bytes, bool]:
        """The body, and whether it has come whole: a case may be answered before."""
        if "chunked" in headers.get("transfer-encoding", "").lower():
            return self._chunked(), True
        length = int(headers.get("content-length") or 0)
        if length > _MAX_BODY:
            raise _GoneError
        pieces, size = [self._buffer[:length]], len(self._buffer[:length])
        self._buffer = self._buffer[length:]
        while size < length:
            if size < _SEARCHED:
                asked = Asked.by(target, b"".join(pieces))
                case = self._faults.cases.get(asked.case) if asked and asked.run else None
                if case and not case.reads_body:
                    return b"".join(pieces), False
            piece = self._socket.recv(min(_SEARCHED, length - size))
            if not piece:
                raise _GoneError
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces), True

    def _chunked(self) -> bytes:
        body = b""
        while size := int(self._line().partition(b";")[0], 16):
            while len(self._buffer) < size + 2:
                self._receive()
            body, self._buffer = body + self._buffer[:size], self._buffer[size + 2 :]
            if len(body) > _MAX_BODY:
                raise _GoneError
        while self._line():
            pass
        return body

    def _line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._receive()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def _receive(self) -> None:
        received = self._socket.recv(_SEARCHED)
        if not received:
            raise _GoneError
        self._buffer += received

    def _reply(self, name: str, request: Received) -> Reply:
        """Reply as the case says; without a case, tell what the request was."""
        if name == PROGRESS:
            events = parse_qs(urlsplit(request.target).query).get("got", ["0"])[0]
            self._faults.runs.got(request.run, int(events) if events.isdecimal() else 0)
        elif case := self._faults.cases.get(name):
            return case.answer(request) if callable(case.answer) else case.answer
        elif request.target.rpartition("/")[2] == "models":
            return Reply((compact({"object": "list", "data": [_MODEL]}),), content_type=JSON, framing="length")
        elif name != PROBE:
            return Reply((error_body(f"There is no case {name!r}."),), 404, JSON, framing="length")
        return reporting(request, **_MODEL)

    def _play(self, reply: Reply, run: bytes, *, has_body: bool) -> bool:
        """Do what the reply says. False when that ended the connection."""
        self._send(reply.head_bytes, reply.segment)
        if not has_body:
            return True
        events, late = 0, False
        for step in reply.steps:
            if isinstance(step, bytes):
                events += step.count(b"\n\n")
                self._send(_framed(step, reply), reply.segment)
            elif isinstance(step, Raw):
                self._send(step.data, reply.segment)
            elif isinstance(step, Wait):
                time.sleep(step.seconds)
            elif step is not Act.RELEASE:
                self._end(step)
                return False
            elif not late and not self._faults.runs.wait(run, events):
                late = True
                self._send(_framed(_LATE, reply), reply.segment)
        if reply.framing == "chunked":
            self._send(b"0\r\n\r\n", reply.segment)
        return reply.framing != "close" and not reply.missing

    def _send(self, data: bytes, segment: int) -> None:
        for start in range(0, len(data), segment or len(data) or 1):
            self._socket.sendall(data[start : start + segment] if segment else data)

    def _end(self, act: Act) -> None:
        if act is Act.SILENCE:
            self._socket.settimeout(_SILENCE_SECONDS)
            while self._socket.recv(_SEARCHED):
                pass
        elif act is Act.RESET:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _linger(self) -> None:
        """Read away what the other side still sends: closing at once would reset the reply that it has not read."""
        self._socket.shutdown(socket.SHUT_WR)
        self._socket.settimeout(_LINGER_SECONDS)
        while self._socket.recv(_SEARCHED):
            pass


_MODEL: dict[str, Any] = {
    "id": f"conformance-{PROBE}",
    "object": "model",
    "created": 1795000000,
    "owned_by": "conformance",
}


def _framed(piece: bytes, reply: Reply) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece) if reply.framing == "chunked" else piece
