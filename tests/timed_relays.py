"""A relay in a world whose time only its script moves: servers, authorizer and client act in the test's own thread.

The world notes for itself whose time passed and what the client saw, so that a test can say what an event, a log line
or a header has to hold without asking the code that writes them.
"""

import json
import socket
import ssl
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from openai_proxy.servers import parse_servers
from proxy.access.authenticator import Authorizer, AuthorizerFunction
from proxy.admission import Admission
from proxy.cache.response_cache import ResponseCache
from proxy.endpoints.cors import Cors
from proxy.endpoints.models import ModelList
from proxy.endpoints.responder import Responder
from proxy.endpoints.routes import Endpoints
from proxy.http.http1 import Connection
from proxy.http.pool import Pool
from proxy.http.transport import HttpTransport, Timeouts
from proxy.http.wire import ConnectError, SilenceError
from proxy.limits.counters import TableAccess
from proxy.limits.table import LimitsTable
from proxy.records.content_log import ContentLog
from proxy.records.publisher import Publisher
from proxy.records.records import Records
from proxy.relay import Relay
from proxy.request.routing import Routes
from proxy.timeline import Clock
from proxy.upstream.attempts import Attempts
from proxy.upstream.breaker import Breakers
from proxy.upstream.provider_tokens import ProviderTokens

from tests.fakes import RecordedResponse, refused_key
from tests.relays import RecordingBus

BEGIN = 1_936_000_000.25
"""Unix seconds at which the world begins: 2031-05-08T09:46:40.250Z."""
_FIRST_READING = 70_000.0
SERVERS = (
    "main: {url: 'http://main.test/base/v1', token: main-token, model: main-model, retries: 2,"
    " fallbacks: [spare], aliases: {fast: main-fast}, breaker: {failures: 0}}\n"
    "spare: {url: 'http://spare.test/v1', token: spare-token, model: spare-model, retries: 0,"
    " aliases: {fast: spare-fast}, breaker: {failures: 0}}\n"
    "weak: {url: 'http://weak.test/v1', token: weak-token, model: weak-model, retries: 0,"
    " breaker: {failures: 2, seconds: 30}}\n"
    "kept: {url: 'http://kept.test/v1', token: kept-token, model: kept-model, retries: 0, cache: {ttl: 60}}\n"
)


class Spent(NamedTuple):
    """Seconds that have passed, by whom they were spent."""

    authorization: float = 0.0
    upstream: float = 0.0
    client: float = 0.0
    table: float = 0.0
    bus: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self)

    def since(self, before: "Spent") -> "Spent":
        """What was spent since then."""
        return Spent(*(now - then for now, then in zip(self, before, strict=True)))


class Piece(NamedTuple):
    """`data` that a server sends `after` so many seconds; None: it closes the connection; or what is raised then."""

    after: float
    data: bytes | Exception | None


class Answer(NamedTuple):
    """What a server does with one request. To reach it takes `connecting` seconds; without pieces nobody is there."""

    pieces: Sequence[Piece]
    connecting: float = 0.0
    status: int | None = None


class Tried(NamedTuple):
    """One call of a server, as the world saw it."""

    server: str
    status: int | None
    seconds: float


@dataclass
class World:
    """What time it is, what passed, and what everybody does. `servers` holds the next answers of each host."""

    answers: dict[str, list[Answer]] = field(default_factory=dict[str, list[Answer]])
    authorizing: float = 0.0
    taking: float = 0.0
    """Seconds that the client takes for each piece."""
    publishing: float = 0.0
    spent: Spent = field(default_factory=Spent)
    tried: list[Tried] = field(default_factory=list[Tried])
    received: list[tuple[str, bytes, bytes]] = field(default_factory=list[tuple[str, bytes, bytes]])
    """Host, head and body of each request."""

    def pass_for(self, whom: str, seconds: float) -> None:
        """So much time goes by."""
        self.spent = self.spent._replace(**{whom: getattr(self.spent, whom) + seconds})

    def unix(self) -> float:
        """The time of day."""
        return BEGIN + self.spent.total

    @property
    def clock(self) -> Clock:
        """The world's clock."""
        return Clock(self.unix, lambda: _FIRST_READING + self.spent.total)


class WorldPool(Pool):
    """Opens connections to the hosts of a world."""

    def __init__(self, world: World) -> None:
        super().__init__(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self._world = world

    def _open(self, address: tuple[str, str, int], timeout: float) -> Connection:
        return _Scripted(self._world, address[1].removesuffix(".test"))


class _Scripted(Connection):
    """A connection to a host of a world: each read is the next piece of its answer."""

    def __init__(self, world: World, host: str) -> None:
        ours, self._theirs = socket.socketpair()
        super().__init__(ours)
        self._world, self._host = world, host
        self._pieces: list[Piece] = []
        self._began: Spent | None = world.spent
        self._status: int | None = None
        self._connect()

    def _connect(self) -> None:
        [answer, *_] = self._world.answers[self._host]
        self._world.pass_for("upstream", answer.connecting)
        if not answer.pieces:
            self._world.answers[self._host].pop(0)
            self._tried(None)
            self.close()
            raise ConnectError("nobody is there")

    def _tried(self, status: int | None) -> None:
        if self._began is not None:
            seconds = self._world.spent.since(self._began).total
            self._world.tried.append(Tried(self._host, status, seconds))
        self._began = None

    def send(self, data: bytes, more: bytes = b"") -> None:
        """The host has the request."""
        head, _, body = (data + more).partition(b"\r\n\r\n")
        self._world.received.append((self._host, head, body))
        answer = self._world.answers[self._host].pop(0)
        self._pieces, self._status = list(answer.pieces), answer.status
        self._began = self._began or self._world.spent

    def receive(self) -> bytes:
        """The next piece, when its time has come."""
        [piece, *rest] = self._pieces
        if self._limit is not None and piece.after > self._limit:
            self._world.pass_for("upstream", self._limit)
            self._pieces = [piece._replace(after=piece.after - self._limit), *rest]
            raise SilenceError("nothing came")
        self._world.pass_for("upstream", piece.after)
        self._pieces = rest
        if isinstance(piece.data, Exception):
            raise piece.data
        self._tried(None if piece.data is None else self._status)
        return piece.data or b""

    def close(self) -> None:
        """Both ends are closed."""
        super().close()
        self._theirs.close()


class WorldClient(RecordedResponse):
    """A client that notes when it got its head, its first piece and its end, and takes its time."""

    def __init__(self, world: World, break_after: int | None = None) -> None:
        super().__init__(break_after)
        self._world = world
        self.at_head = self.at_last = self.at_end = Spent()
        self.at_flush: Spent | None = None
        self.at_first: Spent | None = None
        self.arrivals: list[float] = []
        """When each piece was there, in seconds of the world."""

    def flush(self) -> None:
        """The head is there, whatever comes then."""
        super().flush()
        self.at_flush = self._world.spent

    def start(self, status: int, headers: Mapping[str, str], cookies: Sequence[str] = ()) -> None:
        """The head is there."""
        super().start(status, headers, cookies)
        self.at_head = self._world.spent

    def write(self, data: bytes) -> None:
        """A piece is there."""
        if data and data != b": keep-alive\n\n":
            self.arrivals.append(self._world.spent.total)
            self.at_first, self.at_last = self.at_first or self._world.spent, self._world.spent
        super().write(data)
        if data and not self.broken:
            self._world.pass_for("client", self._world.taking)
        self.at_end = self._world.spent

    def end(self) -> None:
        """The end is there."""
        super().end()
        self.at_end = self._world.spent


class WorldBus(RecordingBus):
    """A bus that takes its time, and keeps the headers of traces."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def put_events(self, entries: list[dict[str, str]], _timeout: float) -> list[dict[str, Any]]:
        self._world.pass_for("bus", self._world.publishing)
        return super().put_events(entries, _timeout)


class TimedProxy:
    """A sandbox in a `world`. `context` is what the authorizer says of its one client key."""

    def __init__(
        self,
        world: World,
        context: Mapping[str, str],
        *,
        bus: RecordingBus | None = None,
        limits: Any = None,
        cache: Callable[[], ResponseCache] | None = None,
        content_log: ContentLog | None = None,
        daemon: str | None = None,
    ) -> None:
        self.world, self.bus = world, bus or WorldBus(world)
        aws: Any = self.bus
        policy = {"policyDocument": {"Statement": [{"Effect": "Allow"}]}, "context": dict(context)}

        def invoke(_: str, payload: bytes) -> tuple[bytes, bool]:
            world.pass_for("authorization", world.authorizing)
            if json.loads(payload)["headers"]["Authorization"] == "Bearer good":
                return json.dumps(policy).encode(), False
            return json.dumps(refused_key()).encode(), False

        def sleep(seconds: float) -> None:
            world.pass_for("upstream", seconds)

        servers, tokens, clock = parse_servers(SERVERS), ProviderTokens(aws, {}, None), world.clock
        self.transport = transport = HttpTransport(Timeouts(), WorldPool(world), clock)
        models = ModelList(servers, transport, tokens, clock.reading)
        self.relay = Relay(
            Admission(
                Authorizer(AuthorizerFunction(invoke, "authorizer", "eu-central-1"), 60, clock.reading, clock.unix),
                Routes(servers),
                LimitsTable(TableAccess(limits or aws, "limits", clock.unix), "open"),
            ),
            Attempts(transport, tokens, Breakers(clock.reading), sleep, lambda: 0.5),
            Responder(Cors("*"), Endpoints({"/models": lambda: models})),
            Records(Publisher(aws, "bus", clock=clock.unix), content_log, daemon, clock=clock),
            cache,
        )

    def call(self, event: dict[str, Any], *, trace: str | None = None, break_after: int | None = None) -> WorldClient:
        """Serve one event of a door."""
        client = WorldClient(self.world, break_after)
        self.relay.serve(event, client, self.world.unix() + 600, trace)
        return client


@contextmanager
def timed_proxy(world: World, context: Mapping[str, str], **parts: Any) -> Generator[TimedProxy]:
    """A sandbox in a `world`, whose connections are closed in the end."""
    made = TimedProxy(world, context, **parts)
    try:
        yield made
    finally:
        made.transport.close()


def url_event(path: str, body: object = None, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """An event of the function URL: a POST of `body`, or a GET without one. The key is good."""
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"authorization": "Bearer good", "content-type": "application/json", **(headers or {})},
        "requestContext": {"http": {"method": "GET" if body is None else "POST"}},
        "body": "" if body is None else json.dumps(body),
    }


def rest_event(
    path: str, context: Mapping[str, str], body: object = None, headers: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The same as an event of the REST API, whose authorizer has said `context` of the key."""
    return {
        "httpMethod": "GET" if body is None else "POST",
        "path": path,
        "headers": {"Authorization": "Bearer good", "Content-Type": "application/json", **(headers or {})},
        "multiValueHeaders": {},
        "multiValueQueryStringParameters": None,
        "requestContext": {"authorizer": dict(context)},
        "body": "" if body is None else json.dumps(body),
        "isBase64Encoded": False,
    }


def document(
    data: bytes, after: float = 0.0, status: str = "200 OK", more: str = "", waits: Sequence[float] = ()
) -> Answer:
    """An answer with JSON of a known length, `after` so long. It comes in a piece more for each of `waits`."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n{more}\r\n"
    size = -(-len(data) // (len(waits) + 1))
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    pieces = [Piece(after, head.encode() + parts[0])]
    pieces += [Piece(wait, part) for wait, part in zip(waits, parts[1:], strict=False)]
    return Answer(pieces, status=int(status[:3]))


def stream(after: float, *pieces: tuple[float, bytes], ends: bool = True) -> Answer:
    """An answer with events, each piece a chunk. `ends`: with the last chunk; else the connection just closes."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    chunks = [Piece(wait, b"%x\r\n%b\r\n" % (len(data), data)) for wait, data in pieces]
    end = Piece(0.0, b"0\r\n\r\n" if ends else None)
    return Answer([Piece(after, head), *chunks, end], status=200)


def nobody(connecting: float) -> Answer:
    """No connection."""
    return Answer((), connecting)


def broken(after: float) -> Answer:
    """A connection that closes instead of an answer."""
    return Answer([Piece(after, None)])
