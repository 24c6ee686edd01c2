"""SQS batch ─▶ throttles ─▶ entries and rollups in the costs table, lake, a metric of the busiest clients.

One rule: a message fails only for a fault of its own. When a message comes again, its entry is sent to the lake again,
but no metric counts it twice.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from openai_proxy.events.batch import PartialFailure, again, read_batch
from openai_proxy.events.incoming import from_sqs_body, is_terminal
from openai_proxy.events.traces import traces_of
from openai_proxy.ledger.entries import Key, LedgerEntry
from openai_proxy.ledger.table import DUPLICATE
from openai_proxy.metric_data import (
    ALL,
    OTHER,
    Measurement,
    Metrics,
    is_acceptable,
    label,
    measured,
    metric_data,
    minute_of,
)
from openai_proxy.throttles.entries import FewModels, throttle_entry_of
from openai_proxy.throttles.weather import Weather, samples_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_lambda_powertools import Logger

METRIC = "ClientThrottles"
FORECASTS = "ThrottleForecasts"
LATE = 3600.0
"""Seconds after which what was left of a limit says nothing of now: a forecast of it would be of the past."""
AHEAD = 300.0
"""Seconds by which clocks may differ. What is dated later would hide all that is said until then."""


class Ledger(Protocol):
    """Where entries are kept: CostsTable, or a fake of it."""

    def record(self, entries: Iterable[LedgerEntry]) -> dict[Key, str]:
        """Write entries that are not there yet. Returns the keys of the others with the reason: DUPLICATE, or a
        fault.
        """
        ...


class Lake(Protocol):
    """Where entries are kept for analysts: openai_proxy.ledger.lake.Lake, or a fake of it."""

    def put(self, entries: Iterable[LedgerEntry]) -> dict[Key, str]:
        """Send entries. Returns the keys of those that were not taken, and why."""
        ...


class Busiest(Protocol):
    """Which clients have a metric of their own: Busiest, or a fake of it."""

    def among(self, hour: str, counts: Mapping[str, int]) -> frozenset[str]:
        """The busiest clients of an hour, after these new throttles of each client. Raises botocore's errors."""
        ...


class Forecasts(Protocol):
    """What is left of servers' limits: record_throttles.forecasts.Forecasts, or a fake of it."""

    def observe(self, samples: Iterable[Weather]) -> list[Weather]:
        """Keep what answers say of limits. Returns those for which a forecast was published. Never raises."""
        ...


@dataclass(frozen=True)
class RecordThrottles:
    """The consumer behind the queue of InferenceThrottled, and of other events that say what servers announce."""

    ledger: Ledger
    metrics: Metrics
    busiest: Busiest
    logger: "Logger"
    lake: Lake | None = None
    forecasts: Forecasts | None = None
    clock: Callable[[], float] = time.time
    _names: FewModels = field(default_factory=FewModels, init=False)

    def __call__(self, batch: Mapping[str, Any]) -> PartialFailure:
        """Record an SQS batch. Returns the partial batch response: the messages that must come again."""
        entries: dict[Key, LedgerEntry] = {}
        minutes: dict[Key, int] = {}
        messages: dict[Key, list[str]] = {}
        read, failed = read_batch(batch, self._read, self.logger)
        samples: list[Weather] = []
        for message, (recorded, announced) in read:
            samples += announced
            if recorded is not None:
                entry, minute = recorded
                entries[entry.key], minutes[entry.key] = entry, minute
                messages.setdefault(entry.key, []).append(message)
        refused = self.ledger.record(entries.values())
        self._measure([(each, minutes[key]) for key, each in entries.items() if key not in refused])
        self._forecast(samples)
        unwritten = {key: reason for key, reason in refused.items() if reason != DUPLICATE}
        written = [entry for key, entry in entries.items() if key not in unwritten]
        unsent = self.lake.put(written) if self.lake and written else {}
        for key, reason in (unwritten | unsent).items():
            self.logger.warning("A throttle was not written", event_id=key[1], reason=reason)
            failed += messages[key]
        self.logger.info(
            "A batch was recorded", throttles=len(written), failed=len(failed), traces=traces_of(batch["Records"])
        )
        return again(failed)

    def _read(self, body: str) -> tuple[tuple[LedgerEntry, int] | None, list[Weather]]:
        """The entry of a message's event, if it has one, with its minute; and what servers announced.

        Raises MalformedEventError.
        """
        event = from_sqs_body(body)
        if not is_terminal(event):
            return None, []
        now = self.clock()
        samples = [each for each in samples_of(event) if now - LATE < each.seen_at < now + AHEAD]
        if event.detail_type != "InferenceThrottled":
            return None, samples
        return (throttle_entry_of(event, self._names), minute_of(event)), samples

    def _forecast(self, samples: "Sequence[Weather]") -> None:
        """Keep what servers announced, and count the forecasts that were published. Never raises."""
        told = self.forecasts.observe(samples) if self.forecasts and samples else []
        counted = [
            each
            for weather in told
            for each in measured(
                FORECASTS, "Count", 1, int(weather.seen_at) // 60 * 60, [ALL, (("Server", label(weather.server)),)]
            )
        ]
        self._publish(each for each in counted if is_acceptable(each.minute, self.clock()))

    def _measure(self, entries: "Sequence[tuple[LedgerEntry, int]]") -> None:
        """Count what was recorded for the first time, for each of the busiest clients. Never raises."""
        self._publish(self._measurements(entries))

    def _publish(self, measurements: Iterable[Measurement]) -> None:
        try:
            data = metric_data(measurements)
            if data:
                self.metrics.put(data)
        except Exception as error:  # noqa: BLE001  # an SDK that is answered oddly fails in ways of its own
            self.logger.warning("Metrics were not published", reason=repr(error))

    def _measurements(self, entries: "Sequence[tuple[LedgerEntry, int]]") -> Iterable[Measurement]:
        now = self.clock()
        hours: dict[str, Counter[str]] = {}
        for entry, _ in entries:
            hours.setdefault(_hour(entry), Counter())[entry.attributes["client_id"]] += 1
        named = {hour: self.busiest.among(hour, counts) for hour, counts in hours.items()}
        for entry, minute in entries:
            client = entry.attributes["client_id"]
            name = client if client in named[_hour(entry)] else OTHER
            if is_acceptable(minute, now):
                yield from measured(METRIC, "Count", 1, minute, [(("Client", name),)])


def _hour(entry: LedgerEntry) -> str:
    return str(entry.rollups[0].names["hour"])
