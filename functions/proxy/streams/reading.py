"""Reads a stream again: the part that a client lacks, and then whatever comes, until the stream ends.

    the piece that holds the last event that is known ─▶ later pieces ─▶ (each half second) later pieces … ─▶ the end

Its one rule: a client gets byte for byte what it would have got, and readers do not affect each other.
"""

import contextlib
import hmac
from collections.abc import Callable, Iterator
from typing import TypeVar

from proxy.aws.client import AwsError
from proxy.errors import UnavailableError
from proxy.log import log
from proxy.streams.names import not_found
from proxy.streams.numbering import KEEP_ALIVE, after, last_number
from proxy.streams.recording import Times
from proxy.streams.table import MOST_LOST, LostError, Piece, State, StreamsTable

_PAUSE = 0.5
_KEEP_ALIVE_SECONDS = 15.0
_FRESH_SECONDS = 3.0
"""A stream may be asked for before its first write has come to the table, or its third try: it is waited for this long.

Whoever makes ids up keeps a sandbox for so long with each, after it was let in: no longer than with a short question.
"""
_TRIES = 6
_Got = TypeVar("_Got")


class Reader:
    """Reads streams for clients.

    `tell` publishes the event of a stream whose writer was killed; only the reader that ended the stream calls it, and
    it returns whether it has published. `ending(state, latest)` gives the numbered events that end a stream of which
    not all was kept; `latest` are the last events that were.
    """

    def __init__(
        self,
        table: StreamsTable,
        tell: Callable[[State], bool],
        ending: Callable[[State, bytes], bytes],
        times: Times = Times(),  # noqa: B008  # it cannot be changed
    ) -> None:
        self._table, self._tell, self._ending = table, tell, ending
        self._clock, self._sleep = times

    def state_of(self, stream_id: str, owner: str, made_at: float) -> State:
        """The state of a stream of this owner that was made at `made_at` (Unix seconds).

        Raises ClientError (404) and UnavailableError (503).
        """
        while True:
            state, now = self._again(lambda: self._table.state(stream_id)), self._clock()
            if state and hmac.compare_digest(state.owner, owner) and state.expires_at > now:
                return state
            if state or not 0 <= now - made_at < _FRESH_SECONDS:
                raise not_found()
            self._sleep(_PAUSE)

    def events(self, state: State, place: int, until: float) -> Iterator[bytes]:
        """The events after the one with the number `place`, up to the end of the stream or until `until`.

        Raises ClientError (404) if the stream has ended and has no such event, and UnavailableError (503).
        """
        if state.is_over and place > state.events + (MOST_LOST if state.is_cut else 0):
            raise not_found()
        if state.on_disconnect == "stop" and not state.is_over:
            self.seen(state.id)  # only once: Lambda does not tell the proxy either when this reader goes away
        position = max(0, self._again(lambda: self._table.piece_before(state.id, place)) - 1) if place else 0
        return self._follow(state.id, place, position, until)

    def _follow(self, stream_id: str, place: int, position: int, until: float) -> Iterator[bytes]:
        """The pieces to be read begin after the number `position`."""
        quiet_since = self._clock()
        last, is_late, latest = position, False, b""
        while True:
            start = position
            pieces, state = self._again(lambda: self._table.since(stream_id, start))  # noqa: B023  # called at once
            for piece in pieces:
                position, latest, last = piece.first, piece.events, last_number(piece.events, stream_id)
                if events := _lacking(piece, stream_id, place):
                    yield events
                    quiet_since = self._clock()
            now = self._clock()
            if state and state.is_over and (last >= state.events or is_late):
                if state.is_cut:
                    yield self._ending(state, latest)
                return
            if now >= until or (state is None and not pieces):
                return
            is_late = state is not None and state.is_over  # pieces came between the two reads: the next read has them
            if pieces or is_late:
                continue
            if state and state.lease_until < now:
                self._give_up(stream_id, last, now)
            elif now - quiet_since >= _KEEP_ALIVE_SECONDS:
                quiet_since = now
                yield KEEP_ALIVE
            self._sleep(min(_PAUSE, max(0.0, until - now)))

    def seen(self, stream_id: str) -> None:
        """Tell the writer of a stream that somebody reads it."""
        with contextlib.suppress(AwsError, LostError):
            self._table.seen(stream_id, self._clock())

    def stop(self, stream_id: str) -> None:
        """Ask the writer of a stream to stop, unless the stream has ended. Raises UnavailableError (503)."""
        with contextlib.suppress(LostError):
            self._again(lambda: self._table.stop(stream_id, self._clock()))

    def _give_up(self, stream_id: str, last: int, now: float) -> None:
        """End a stream whose writer has not kept its promise. Of several readers only one succeeds."""
        try:
            given_up = self._table.give_up(stream_id, last, now)
        except AwsError as error:
            log("WARN", "A stream was not given up: the next look tries again", id=stream_id, reason=str(error))
            return
        if given_up and self._tell(given_up):
            with contextlib.suppress(UnavailableError):
                # then the event is published once more, which consumers recognise
                self._again(lambda: self._table.told(stream_id))

    def _again(self, read: Callable[[], _Got]) -> _Got:
        """Read, and try again if that fails for a moment. Raises UnavailableError."""
        tried = 0
        while True:
            try:
                return read()
            except AwsError as error:
                tried += 1
                if tried == _TRIES or not error.is_transient:
                    raise _unavailable() from error
            self._sleep(0.025 * 2**tried)


def _lacking(piece: Piece, stream_id: str, place: int) -> bytes:
    """The part of a piece that a client lacks which has everything up to the event `place`."""
    return after(piece.events, stream_id, place) if place >= piece.first else piece.events


def _unavailable() -> UnavailableError:
    message = "Streams cannot be read at the moment."
    return UnavailableError(503, "streams_unavailable", message, headers={"retry-after": "2"})
