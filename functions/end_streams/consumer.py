"""SQS batch ─▶ streams whose lease may be over ─▶ the terminal event of those whose writer was killed.

    nothing to be told ─▶ done
    the lease is not over   ─▶ a look later
    the lease is over       ─▶ take it over ─▶ publish ─▶ remember that it is told

One rule: of all who find a stream without its writer, readers included, exactly one publishes its event. If that one
dies before it has published, the next look at the stream finds that out.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from openai_proxy.events.batch import PartialFailure, again, read_batch
from openai_proxy.events.bus import Publisher
from openai_proxy.events.incoming import MalformedEventError
from openai_proxy.events.streams import LEASE_SECONDS, LOOK_AFTER_SECONDS, event_of_killed
from openai_proxy.events.traces import traces_of

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

    from end_streams.table import Standing


class Table(Protocol):
    """Where streams are: StreamsTable, or a fake of it."""

    def standing(self, stream_id: str) -> "Standing | None": ...
    def last_event(self, stream_id: str) -> int: ...
    def take_over(self, stream_id: str, events: int, now: float) -> bool: ...
    def told(self, stream_id: str) -> None: ...


@dataclass(frozen=True)
class EndStreams:
    """The consumer behind the queue of streams. `look_later(stream, seconds)` has a stream looked at again after that
    time.

    `sign` signs what a webhook receives when an answer has ended.
    """

    table: Table
    bus: Publisher
    look_later: Callable[[str, int], None]
    logger: "Logger"
    sign: Callable[[str], str] | None = None
    clock: Callable[[], float] = time.time

    def __call__(self, batch: Mapping[str, Any]) -> PartialFailure:
        """Look at the streams of an SQS batch. Returns the messages that must come again."""
        read, failed = read_batch(batch, stream_in, self.logger)
        ended = 0
        for message, stream_id in read:
            try:
                ended += self._look(stream_id)
            except Exception:  # whatever is wrong with one stream, the others are still looked at
                self.logger.exception("A stream was not looked at", id=stream_id)
                failed.append(message)
        if ended or failed:
            traces = traces_of(batch["Records"])
            self.logger.info(
                "A batch of streams was looked at", messages=len(read), ended=ended, failed=len(failed), traces=traces
            )
        return again(failed)

    def _look(self, stream_id: str) -> bool:
        """Look at one stream. Returns whether this call has ended it."""
        standing = self.table.standing(stream_id)
        if standing is None:
            return False
        now = self.clock()
        if standing.lease_until < now:
            events = standing.events if standing.is_over else self.table.last_event(stream_id)
            if self.table.take_over(stream_id, events, now):
                self._tell(stream_id, standing.unfinished, events, now)
                return True
        left = min(LEASE_SECONDS, max(0.0, standing.lease_until - now)) or LEASE_SECONDS
        self.look_later(stream_id, int(left) + LOOK_AFTER_SECONDS)
        return False

    def _tell(self, stream_id: str, unfinished: str, events: int, now: float) -> None:
        """Publish the one terminal event of an inference whose sandbox was killed."""
        try:
            event, _ = event_of_killed(unfinished, events, now, self.sign)
        except (ValueError, TypeError, KeyError):
            self.logger.exception("A stream cannot be told of", id=stream_id)
        else:
            self.bus.publish(event)
            self.logger.warning("A stream was ended for its sandbox, which was killed", id=stream_id, events=events)
        self.table.told(stream_id)


def stream_in(body: str) -> str:
    """The id of the stream that a message is about. Raises MalformedEventError."""
    try:
        stream_id = json.loads(body)["stream_id"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MalformedEventError("the message names no stream") from error
    if not isinstance(stream_id, str) or not stream_id:
        raise MalformedEventError("the message names no stream")
    return stream_id
