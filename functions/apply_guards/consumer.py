"""SQS batch ─▶ ledger entries ─▶ what guards do about their keys ─▶ overlays, GuardActed, the topic of alarms.

One rule: an act is written first, then announced, then marked as announced. So a crash in between announces it twice,
under the same id, but never loses it. A message fails only for a fault of its own, or because a table or the bus does
not answer.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from openai_proxy.events.batch import PartialFailure, again, read_batch
from openai_proxy.events.reader import read_event
from openai_proxy.events.traces import traces_of
from openai_proxy.guards.action import Action
from openai_proxy.guards.engine import Engine
from openai_proxy.guards.seen import Seen, seen_of
from openai_proxy.ledger.entries import entries_of, has_entry
from openai_proxy.pricing.price_book import PriceBook

from apply_guards.evidence import KEPT
from apply_guards.overlays import Begun

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

LATEST = 86400.0
"""Seconds after which nobody is told any more of what holds nobody; an act that would be over is not begun."""
OLDEST = KEPT - 3600.0
"""Seconds after which a request is not looked at any more: whether it was before is forgotten."""
AHEAD = 300.0
"""Seconds by which clocks may differ. What a server dates later would hold somebody until then."""


class Acts(Protocol):
    """Where acts are kept: Overlays, or a fake of it."""

    def begin(self, action: Action, now: float) -> Begun:
        """Write an act, unless it is written already or a person has undone an equal one. Returns which of these it
        was.
        """
        ...

    def told(self, action: Action) -> None:
        """Remember that people were told."""
        ...


class Tells(Protocol):
    """Who tells people: Teller, or a fake of it."""

    def tell(self, action: Action) -> None:
        """Tell of an act. Raises NotPublishedError and botocore's errors."""
        ...


@dataclass(frozen=True)
class ApplyGuards:
    """The consumer behind the queue of InferenceCompleted and InferenceFailed."""

    prices: PriceBook
    engine: Engine
    acts: Acts
    teller: Tells
    logger: "Logger"
    clock: Callable[[], float] = time.time

    def __call__(self, batch: Mapping[str, Any]) -> PartialFailure:
        """Judge an SQS batch. Returns the partial batch response: the messages that must come again."""
        read, failed = read_batch(batch, self._read, self.logger)
        by_key: dict[str, list[tuple[str, Seen]]] = {}
        for message, all_seen in read:
            for seen in all_seen:
                by_key.setdefault(seen.key_id, []).append((message, seen))
        done = 0
        for key_id, of_key in by_key.items():
            try:
                done += self._judge([seen for _, seen in of_key])
            except Exception as error:  # noqa: BLE001  # whatever the items of one key hold, its neighbours are judged
                self.logger.warning("Requests were not judged", key_id=key_id, reason=repr(error))
                failed += [message for message, _ in of_key]
        self.logger.info("A batch was judged", acts=done, failed=len(failed), traces=traces_of(batch["Records"]))
        return again(dict.fromkeys(failed))

    def _read(self, body: str) -> Sequence[Seen]:
        """What guards look at in a message's event. Raises MalformedEventError."""
        now = self.clock()
        event = read_event(body, now)
        if not has_entry(event):
            return ()
        found = (seen_of(each.key[1], each.attributes) for _, each in entries_of(event, self.prices))
        return [seen for seen in found if seen is not None and now - OLDEST < seen.at < now + AHEAD]

    def _judge(self, seen: Iterable[Seen]) -> int:
        done = 0
        for action in self.engine.judge(seen):
            now = self.clock()
            if (action.until if action.holds else action.at + LATEST) <= now:
                continue
            begun = self.acts.begin(action, now)
            if begun in ("new", "untold"):
                self.teller.tell(action)
                self.acts.told(action)
                done += 1
            self.engine.settled(action)
        return done
