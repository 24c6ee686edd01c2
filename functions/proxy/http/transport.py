"""Calls of upstream servers and of AWS over `http1`. Errors of HTTP become errors of the proxy here."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol, Self

from openai_proxy.servers import Server
from openai_proxy.servers.options import Timers

from proxy.errors import UpstreamError
from proxy.http.exchange import Exchange
from proxy.http.pool import Pool
from proxy.http.wire import BrokenError, ConnectError, Head, HttpError, Outgoing, SilenceError
from proxy.timeline import Clock

if TYPE_CHECKING:
    from proxy.http.stopper import Stopper

_LONGEST_SHORT = 16 * 1024 * 1024
"""Bytes: an answer of AWS is no longer than 6 MB, a list of models much shorter."""


class Timeouts(NamedTuple):
    """Seconds to wait for a connection, for the answer's status, and between two pieces of its body.

    The server has `first_byte` seconds to take the request, and again as many to answer it. A silence of `keep_alive`
    seconds is no fault yet, but the reader of the answer is told of it. `total` bounds the whole call. No silence may
    be longer than `longest_silence`, whatever the server's own options say.
    """

    connect: float = 5.0
    first_byte: float = 300.0
    idle: float = 120.0
    keep_alive: float = 15.0
    total: float = math.inf
    longest_silence: float = math.inf

    def of(self, server: Server) -> Self:
        """These timeouts, replaced by the server's own where it has some."""
        given = {name: own for name in Timers._fields if (own := getattr(server.timeouts, name)) is not None}
        own = self._replace(**given) if given else self
        if (longest := self.longest_silence) == math.inf:
            return own
        return own._replace(first_byte=min(own.first_byte, longest), idle=min(own.idle, longest))


Answered = tuple[int, Mapping[str, str], bytes]
"""A short answer: status, headers, body."""


class Post(Protocol):
    """The shape of `HttpTransport.post`."""

    def __call__(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout: float, /, *, repeats: bool = True
    ) -> Answered:
        """As there."""
        ...


class ConnectionFailedError(Exception):
    """A call of AWS failed on the wire. `was_sent`: AWS may have received the request."""

    def __init__(self, message: str, *, was_sent: bool) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class Waiting(NamedTuple):
    """How long to wait for a body: as `timeouts` say, but not beyond the moment `latest` of the clock."""

    timeouts: Timeouts
    latest: float
    reading: Callable[[], float]


class UpstreamResponse:
    """One upstream answer whose body has not been read. Iterating gives the body's bytes as they arrive.

    `on_silence` is called when the server has sent nothing for `patience` seconds, and again after each further
    `keep_alive` seconds. The server may still go on.
    """

    def __init__(self, exchange: Exchange, head: Head, server: str, waiting: Waiting) -> None:
        self._exchange = exchange
        self._head = head
        self._server = server
        self._timeouts, self._latest, self._reading = waiting
        self.patience = min(self._timeouts.idle, self._timeouts.keep_alive)
        self._waited = 0.0
        self._waits_since: float | None = None
        self._body: Iterator[bytes] | None = None
        self.on_silence: Callable[[], None] = lambda: None
        self.status = head.status
        self.headers = head.headers

    def __iter__(self) -> Iterator[bytes]:
        body, self._body = self._body, None
        return self._pieces() if body is None else body

    @property
    def was_repeated(self) -> bool:
        """Whether the request went out twice, because an old connection had died."""
        return self._exchange.was_repeated

    def peek(self, most: int) -> bytes:
        """Read the body up to the piece that makes it longer than `most` bytes. Iterating gives all of it again.

        Raises UpstreamError; then iterating raises it too, after the pieces that came.
        """
        body, held = iter(self), bytearray()
        try:
            for piece in body:
                held += piece
                if len(held) > most:
                    break
        except UpstreamError as error:
            body = _raising(error)
            raise
        finally:
            self._body = itertools.chain([bytes(held)] if held else [], body)
        return bytes(held)

    def _pieces(self) -> Iterator[bytes]:
        try:
            yield from self._exchange.connection.body(self._head, self._exchange.outgoing.method, self._receive)
        except HttpError as error:
            late = self._reading() >= self._latest
            raise self._exchange.stopped_by or _upstream_error(self._server, error, late=late) from error
        if self._exchange.stopped_by:  # a body without a length ends with its connection
            raise self._exchange.stopped_by

    def waited(self) -> float:
        """Seconds spent on waiting for the body since the last call of this. A wait that still goes on counts."""
        if self._waits_since is not None:
            now = self._reading()
            self._waited, self._waits_since = self._waited + now - self._waits_since, now
        waited, self._waited = self._waited, 0.0
        return waited

    def _receive(self) -> bytes:
        """The next piece. Raises SilenceError."""
        connection, patience = self._exchange.connection, self.patience
        self._waits_since = began = self._reading()
        try:
            if began + patience >= self._latest:
                return self._receive_late(0.0)
            connection.limit(patience)
            try:
                return connection.receive()
            except SilenceError:
                return self._receive_late(patience)
        finally:
            self._waited += self._reading() - self._waits_since
            self._waits_since = None

    def _receive_late(self, silent: float) -> bytes:
        """The next piece from a server that has been `silent` for so many seconds. Calls `on_silence` every
        `keep_alive` seconds.
        """
        connection, timeouts = self._exchange.connection, self._timeouts
        while True:
            left = min(self._latest - self._reading(), timeouts.idle - silent)
            if left <= 0:
                raise SilenceError("nothing came")
            if silent:
                self.on_silence()
            wait = min(left, timeouts.keep_alive)
            connection.limit(wait)
            try:
                return connection.receive()
            except SilenceError:
                silent += wait

    def close(self) -> None:
        """Keep the connection if the body was read to its end, else close it."""
        self._exchange.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None) -> None:
        self.close()


class HttpTransport:
    """Keep-alive connections to everything the proxy calls. Not thread-safe: a sandbox has one request at a time."""

    def __init__(self, timeouts: Timeouts, pool: Pool | None = None, clock: Clock = Clock()) -> None:  # noqa: B008  # it cannot be changed
        self._timeouts = timeouts
        self._pool = pool or Pool()
        self._clock = clock

    def patient_for(self, seconds: float) -> Self:
        """A transport with the same connections that gives up after so many seconds of silence."""
        return type(self)(self._timeouts._replace(longest_silence=seconds), self._pool, self._clock)

    def sibling(self) -> Self:
        """Another transport with connections of its own, for another thread."""
        return type(self)(self._timeouts, Pool(self._pool.tls), self._clock)

    def stream(self, server: Server, outgoing: Outgoing, deadline: float) -> UpstreamResponse:
        """Send a request and wait for the answer's status, not for its body. `deadline` is in Unix seconds.

        Raises UpstreamError: unreachable, no status in time, or not HTTP; or the error with which the request was
        stopped.
        """
        timeouts = self._timeouts.of(server)
        now = self._clock.unix()
        deadline = min(deadline, now + timeouts.total)
        exchange = Exchange(self._pool, outgoing, repeats=server.retries > 0)
        if self._pool.stopper:
            self._pool.stopper.watch(exchange)
        try:
            head = exchange.run(timeouts.connect, timeouts.first_byte, time.monotonic() + deadline - now)
        except HttpError as error:
            late = self._clock.unix() >= deadline
            raise exchange.stopped_by or _upstream_error(server.name, error, late=late) from error
        latest = self._clock.reading() + deadline - self._clock.unix()
        return UpstreamResponse(exchange, head, server.name, Waiting(timeouts, latest, self._clock.reading))

    def let_stop(self, stopper: "Stopper | None") -> None:
        """From now on `stopper` may end the exchanges of `stream`, from another thread; None: nothing may."""
        self._pool.stopper = stopper

    def post(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout: float, *, repeats: bool = True
    ) -> Answered:
        """One POST with a short answer. `timeout` (seconds) bounds all of it, from connecting to the last byte.

        When a kept-alive connection breaks, the request goes out once more; `repeats` is false where the caller counts
        its tries itself. Raises ConnectionFailedError, also for an answer that is not short.
        """
        return self._short(Outgoing("POST", url, headers, body), timeout, repeats=repeats)

    def get(self, url: str, headers: Mapping[str, str], timeout: float) -> Answered:
        """One GET with a short answer, as `post`."""
        return self._short(Outgoing("GET", url, headers), timeout)

    def _short(self, outgoing: Outgoing, timeout: float, *, repeats: bool = True) -> Answered:
        exchange = Exchange(self._pool, outgoing, repeats=repeats)
        try:
            head = exchange.run(timeout, timeout, time.monotonic() + timeout)
            try:
                content = _whole(exchange.connection.body(head, outgoing.method))
            finally:
                exchange.release()
        except HttpError as error:
            raise ConnectionFailedError(f"{type(error).__name__}: {error}", was_sent=exchange.was_sent) from error
        return head.status, head.headers, content

    def close(self) -> None:
        """Close every connection. After a SnapStart restore this is needed, because they belong to a machine that is
        gone.
        """
        self._pool.close()


def _raising(error: UpstreamError) -> Iterator[bytes]:
    """A body that breaks before its first piece."""
    raise error
    yield b""


def _whole(body: Iterator[bytes]) -> bytes:
    """The whole of a short body. Raises BrokenError if it is too long."""
    pieces: list[bytes] = []
    size = 0
    for piece in body:
        size += len(piece)
        if size > _LONGEST_SHORT:
            raise BrokenError("the answer is too long")
        pieces.append(piece)
    return b"".join(pieces)


def _upstream_error(server: str, error: HttpError, *, late: bool) -> UpstreamError:
    """An error for the client. Its message names the server, never the server's address."""
    if late:
        return UpstreamError(504, "deadline_exceeded", f"The server '{server}' did not finish in time.")
    if isinstance(error, ConnectError):
        return UpstreamError(502, "upstream_unreachable", f"The server '{server}' cannot be reached.")
    if isinstance(error, SilenceError):
        return UpstreamError(504, "upstream_timeout", f"The server '{server}' fell silent.")
    return UpstreamError(502, "upstream_broken_off", f"The server '{server}' broke off the connection.")
