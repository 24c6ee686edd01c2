"""SQS batch ─▶ events ─▶ ledger entries ─▶ ledger, metrics, lake. One rule: a message fails only for a fault of its
own.

So everything derived from a message is derived while the message is read: nothing can fail later and take its
neighbours with it. The lake gets what the ledger has, duplicates and entries that were taken back included, because
what was written before a crash must still reach it. Metrics get what is new in the ledger, once for a batch. Metrics
may be lost, entries may not.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from openai_proxy.aws_answers import NoAnswerError
from openai_proxy.events.batch import PartialFailure, again, read_batch
from openai_proxy.events.reader import read_event
from openai_proxy.events.traces import traces_of
from openai_proxy.ledger.entries import Key, LedgerEntry, entries_of, has_entry
from openai_proxy.ledger.table import CLAIMED, DUPLICATE
from openai_proxy.metric_data import Measurement, Metrics, ModelNames, is_acceptable, metric_data
from openai_proxy.pricing.price_book import PriceBook

from record_cost.measurements import RECORDED, measurements_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aws_lambda_powertools import Logger


class Ledger(Protocol):
    """Where entries are kept: CostsTable, or a fake of it."""

    def record(self, entries: "Iterable[LedgerEntry]") -> dict[Key, str]:
        """Write entries that are not there yet. Returns the keys of the others with the reason: DUPLICATE, or a
        fault.
        """
        ...

    def taken_back_by(self, entry: LedgerEntry) -> list[dict[str, Any]]:
        """The entries, as they are now, that were taken back because these entries claim the same. Raises as
        `record`.
        """
        ...


class Lake(Protocol):
    """Where entries are kept for analysts: openai_proxy.ledger.lake.Lake, or a fake of it."""

    def put(self, entries: "Iterable[LedgerEntry]") -> dict[Key, str]:
        """Send entries. Returns the keys of those that were not taken, and why."""
        ...

    def put_again(self, items: "Iterable[Mapping[str, Any]]") -> dict[Key, str]:
        """Send entries as they are in the ledger, with their revision. Returns as `put`."""
        ...


class Recorded(NamedTuple):
    """What a message's event becomes."""

    entry: LedgerEntry
    measurements: "Sequence[Measurement]"


@dataclass(frozen=True)
class RecordCost:
    """The consumer behind the queue of InferenceCompleted and InferenceFailed."""

    prices: PriceBook
    ledger: Ledger
    logger: "Logger"
    lake: Lake | None = None
    metrics: Metrics | None = None
    clock: Callable[[], float] = time.time
    _model_names: ModelNames = field(default_factory=ModelNames, init=False)

    def __call__(self, batch: Mapping[str, Any]) -> PartialFailure:
        """Record an SQS batch. Returns the partial batch response: the messages that must come again."""
        entries: dict[Key, LedgerEntry] = {}
        measurements: dict[Key, Sequence[Measurement]] = {}
        messages: dict[Key, list[str]] = {}
        read, failed = read_batch(batch, self._read, self.logger)
        for message, all_recorded in read:
            for recorded in all_recorded:
                key = recorded.entry.key
                entries[key], measurements[key] = recorded
                messages.setdefault(key, []).append(message)
        refused = self.ledger.record(entries.values())
        self._measure(each for key in entries for each in _new(measurements[key], refused.get(key)))
        unwritten = {key: reason for key, reason in refused.items() if reason not in (DUPLICATE, CLAIMED)}
        written = [entry for key, entry in entries.items() if refused.get(key, DUPLICATE) == DUPLICATE]
        unsent = self.lake.put(written) if self.lake and written else {}
        unsent |= self._put_again(entry for key, entry in entries.items() if entry.claims and key not in unwritten)
        for key, reason in (unwritten | unsent).items():
            self.logger.warning("An entry was not written", event_id=key[1], reason=reason)
            failed += messages[key]
        self.logger.info(
            "A batch was recorded",
            messages=len(batch["Records"]),
            entries=len(written),
            unpriced=sum(entry.attributes["pricing"] == "unpriced" for entry in entries.values()),
            failed=len(failed),
            traces=traces_of(batch["Records"]),
        )
        return again(failed)

    def _read(self, body: str) -> list[Recorded]:
        """The entries of a message's event, if it has any, and what they measure. Raises MalformedEventError."""
        event = read_event(body, self.clock())
        if not has_entry(event):
            return []
        return [
            Recorded(entry, [*measurements_of(part, entry, self._model_names)] if self.metrics else [])
            for part, entry in entries_of(event, self.prices)
        ]

    def _put_again(self, entries: "Iterable[LedgerEntry]") -> dict[Key, str]:
        """Send to the lake the entries that these have taken back. Returns the entries whose messages must come again,
        and why.
        """
        unsent: dict[Key, str] = {}
        for entry in {entry.event_id: entry for entry in entries}.values() if self.lake else ():
            try:
                taken_back = self.ledger.taken_back_by(entry)
            except Exception as error:  # noqa: BLE001  # an SDK that is answered oddly fails in ways of its own
                unsent[entry.key] = repr(error)
                continue
            if taken_back and self.lake and (refused := self.lake.put_again(taken_back)):
                unsent[entry.key] = next(iter(refused.values()))
        return unsent

    def _measure(self, measurements: "Iterable[Measurement]") -> None:
        """Publish what was recorded for the first time. Never raises."""
        if self.metrics is None:
            return
        now = self.clock()
        data = metric_data(each for each in measurements if is_acceptable(each.minute, now))
        try:
            if data:
                self.metrics.put(data)
        except Exception as error:  # noqa: BLE001  # an SDK that is answered oddly fails in ways of its own
            may_be_there = isinstance(error, NoAnswerError)
            line = "Metrics were not confirmed" if may_be_there else "Metrics were not published"
            self.logger.warning(line, reason=repr(error))


def _new(measurements: "Iterable[Measurement]", refused: str | None) -> "Iterable[Measurement]":
    """What is to be measured of an entry that was written, or `refused`. One that others had claimed has arrived."""
    if refused == CLAIMED:
        return (each for each in measurements if each.name == RECORDED)
    return () if refused else measurements
