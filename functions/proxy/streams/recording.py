"""Stores a stream while it passes, from a thread of its own, and notices when the stream is to be stopped.

    tick (each second): one write: of the state, or of the piece that has come since, or of the lease; one look at the
                        state: whether its client has stopped the stream, or nobody is there to read it any more
    the end:            what is left, and the state that says how it ended; the sandbox takes no other request before

Its one rule: the thread that passes chunks on appends to a list and does nothing else. A failed write is repeated with
the same bytes; if that does not help, the recording is given up and the stream goes on.
"""

import time
from collections import deque
from collections.abc import Callable
from threading import Event
from typing import NamedTuple

from openai_proxy.events.streams import KILLED, LEASE_SECONDS

from proxy.aws.client import AwsError
from proxy.errors import ClientError, ProxyError
from proxy.log import log
from proxy.streams.table import LARGEST_PIECE, LOST, LostError, Piece, State, Status, StreamsTable

_RENEWED_BELOW = 15.0
ABSENT_SECONDS = 30.0
"""For how long nobody need be there, where a stream without a reader is to stop."""
_MOST_UNWRITTEN = 16 * 1024 * 1024
"""Bytes that may wait to be written: memory stays bounded while the table takes nothing."""
_PAUSES = (0.0, 0.1, 0.2, 0.4, 0.8)
"""Seconds before each try of a write at the end."""


class Times(NamedTuple):
    """`clock` gives Unix seconds."""

    clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


def _nothing() -> None: ...


class Watched(NamedTuple):
    """What a recording needs of its request: `stop` ends the stream, and `is_client_gone` says whether Lambda has
    reported that the client is gone.

    `is_looked_after` is called once others will publish the stream's event if its writer dies. `describe` gives that
    event, for `State.unfinished`.
    """

    stop: Callable[[ProxyError], None]
    is_client_gone: Callable[[], bool]
    is_looked_after: Callable[[], None] = _nothing
    describe: Callable[[], str] = str


class Recording:
    """One stream that is stored, and kept for `kept` seconds after its end."""

    def __init__(
        self,
        table: StreamsTable,
        state: State,
        kept: float,
        watched: Watched,
        times: Times = Times(),  # noqa: B008  # it cannot be changed
    ) -> None:
        self._table, self._kept, self._watched = table, kept, watched
        self._clock, self._sleep = times
        self._gone_at = 0.0
        self._state = state
        self._is_begun = False
        self.is_given_up = False
        """Whether somebody has taken this writer for dead, and told of the stream."""
        self.is_lost = False
        """Whether nothing more is written down: nobody can come back to it."""
        self._came: deque[tuple[int, bytes]] = deque()
        self._came_bytes = self._taken_bytes = 0
        self._piece: Piece | None = None
        self._next = 1
        self._looked_at = self._asked_at = 0.0
        self._failures: list[str] = []
        self._ended: tuple[Status, str] | None = None
        self.ended = Event()
        """Set when nothing more comes."""
        self.writes = 0
        """Calls that write, for who counts them."""

    def begin_now(self) -> State:
        """Write that the stream has begun before anything has come, so that it can be read from now on. Raises
        AwsError.
        """
        self._again(lambda: self._begin(self._clock()))
        return self._state

    # -------------------------------------------------------------------------------- for the thread that passes chunks

    def add(self, events: bytes, number: int) -> None:
        """Add events that have gone out. The last of them has this `number`."""
        if not self.is_lost:
            self._came.append((number, events))
            self._came_bytes += len(events)

    def end(self, status: Status, error: str = "") -> None:
        """Note that nothing more comes."""
        self._ended = (status, error)
        self.ended.set()

    # --------------------------------------------------------------------------------------- for the thread that writes

    def tick(self) -> None:
        """Write what is due, in one call at most."""
        for step in (self._write_due, self._look):
            if self.is_given_up:
                return
            try:
                step()
            except LostError:
                self._lose("it is not its writer's any more")
            except AwsError as error:
                self._failures.append(str(error))
        if self._came_bytes - self._taken_bytes > _MOST_UNWRITTEN:
            self._lose("the table takes nothing")

    def _write_due(self) -> None:
        now = self._clock()
        if not self._is_begun:
            self._begin(now)
        elif self._state.lease_until - now < _RENEWED_BELOW:
            self._have_looked_at(now)
            self.writes += 1
            self._state, self._looked_at = self._table.renew(self._state.id, now + LEASE_SECONDS), now
        elif not self.is_lost:
            self._write_piece()

    def _begin(self, now: float) -> None:
        self._have_looked_at(now)
        self.writes += 1
        unfinished = self._state.unfinished or self._watched.describe()
        state = self._state = self._state._replace(lease_until=now + LEASE_SECONDS, unfinished=unfinished)
        self._table.begin(state)
        self._is_begun = True
        if self._asked_at:
            self._watched.is_looked_after()
        self._looked_at = now if self.writes == 1 else 0.0  # a write that is repeated may have been read already

    def _have_looked_at(self, now: float) -> None:
        """Have `end_streams` check later whether this writer is still alive. That is asked before the first write, so
        that no stream is missed.

        If that write took long, the check is asked for again, because a check that finds no stream is not repeated. If
        the queue takes no message, the stream goes on: the next renewal of the lease asks again.
        """
        if self._asked_at and (self._is_begun or now - self._asked_at < _RENEWED_BELOW):
            return
        try:
            self._table.have_looked_at(self._state.id)
            self._asked_at = now
        except AwsError as error:
            self._failures.append(str(error))

    def _look(self) -> None:
        """Stop the stream if its client asks for that, or if nobody reads it and its owner wants such streams
        stopped.
        """
        now = self._clock()
        if self._is_begun and self._looked_at != now:
            self._looked_at, found = now, self._table.state(self._state.id)
            if found is None:  # its owner has had the stream deleted
                raise LostError(self._state.id)
            self._state = found
        state = self._state
        if self._watched.is_client_gone() and not self._gone_at:
            self._gone_at = now
        if state.is_over:
            self.is_given_up = state.error == KILLED
            raise LostError(state.id)
        if state.stop_at:
            self._watched.stop(ClientError(499, "stream_stopped", "The client stopped this stream."))
        last_seen = max(state.seen_at, self._gone_at)
        if state.on_disconnect == "stop" and last_seen and now - last_seen > ABSENT_SECONDS:
            self._watched.stop(ClientError(499, "client_absent", "Nobody was there any more to read this stream."))

    def _write_piece(self) -> None:
        """Write what has come, if anything. A piece that may have been written is written again unchanged."""
        if (piece := self._next_piece()) is None:
            return
        self.writes += 1
        self._table.put_piece(self._state.id, piece, self._state.expires_at)
        self._piece = None

    def _next_piece(self) -> Piece | None:
        self._piece = self._piece or self._taken()
        return self._piece

    def _taken(self) -> Piece | None:
        """The next piece: as much of what has come as a piece may hold, but at least what one write of the relay
        added.
        """
        taken: list[tuple[int, bytes]] = []
        size = 0
        while self._came and (not taken or size + len(self._came[0][1]) <= LARGEST_PIECE):
            taken.append(self._came.popleft())
            size += len(taken[-1][1])
        self._taken_bytes += size
        if not taken:
            return None
        last, _ = taken[-1]
        piece = Piece(self._next, b"".join(events for _, events in taken), last)
        if last < self._next and not self.ended.is_set():  # a comment: it is stored with the event that follows it
            self._came.appendleft((last, piece.events))
            self._taken_bytes -= size
            return None
        self._next = last + 1
        return piece

    def write_rest(self) -> None:
        """Write the rest, and how the stream ended. Never raises."""
        if self.is_given_up:
            return self._tell_failures()
        try:
            try:
                self._write_all()
            except AwsError as failure:
                if self.is_lost or self._piece is None:
                    raise
                self._lose(str(failure))
                self._write_all()
        except LostError:
            pass  # the stream was given up meanwhile, or a call whose answer was lost has written this
        except AwsError as failure:
            log("ERROR", "The end of a resumable stream was not written down", id=self._state.id, reason=str(failure))
        finally:
            self.is_lost = True
            self._tell_failures()

    def _write_all(self) -> None:
        """Write the pieces that are left, and the last of them with the end. Raises AwsError.

        If the stream is over so soon, its beginning need not be written.
        """
        while not self.is_lost and self._next_piece() and self._came:
            self._again(self._write_piece)
        self._again(self._write_end)

    def _write_end(self) -> None:
        self.writes += 1
        status, error = ("failed", LOST) if self.is_lost else self._ended or ("failed", "internal_error")
        piece, now = None if self.is_lost else self._piece, self._clock()
        written = (self._piece.first if self._piece and self.is_lost else self._next) - 1
        changes = {"status": status, "error": error, "events": written, "unfinished": ""}
        times = {"expires_at": now + self._kept, "lease_until": self._state.lease_until or now}
        self._table.end(self._state._replace(**changes, **times), piece, is_begun=self._is_begun)

    def _again(self, write: Callable[[], None]) -> None:
        """Write, and try again if that fails for a moment. Raises AwsError in the end."""
        for tried, pause in enumerate(_PAUSES, 1):
            self._sleep(pause)
            try:
                write()
            except AwsError:
                if tried == len(_PAUSES):
                    raise
            else:
                return

    def _tell_failures(self) -> None:
        """Log one line for a stream, however many of its calls failed and were repeated."""
        if failures := self._failures:
            facts = {"id": self._state.id, "times": len(failures), "reason": failures[-1]}
            log("WARN", "Calls for a resumable stream failed, and were made again", **facts)

    def _lose(self, reason: str) -> None:
        if self.is_lost:
            return
        self.is_lost = True
        self._came.clear()
        log("ERROR", "A resumable stream is no longer written down", id=self._state.id, reason=reason)
