"""SQS batch ─▶ claims of events that nobody has counted ─▶ few metric data ─▶ CloudWatch ─▶ claims marked as done.

One rule: a message fails only for a fault of its own. But when CloudWatch or the markers' table fails, all messages
come again, and so does one that another copy of this function is counting.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from openai_proxy.aws_answers import NoAnswerError
from openai_proxy.events.batch import PartialFailure, again, read_batch
from openai_proxy.events.incoming import batch_told, is_terminal
from openai_proxy.events.reader import read_event
from openai_proxy.events.traces import traces_of
from openai_proxy.events.ulid import is_ulid, new_ulid
from openai_proxy.metric_data import OLDEST, Measurement, Metrics, ModelNames, is_acceptable, metric_data

from record_metrics.markers import Claimed, Run
from record_metrics.measurements import RECORDED, TOKENS, measurements_of

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger
    from mypy_boto3_cloudwatch.type_defs import MetricDatumTypeDef

_MARKER_LIFETIME = OLDEST + 86400


class ProcessedEvents(Protocol):
    """Which events have been counted: Markers, or a fake of it."""

    def claim(self, ids: Iterable[str], run: Run) -> Claimed:
        """Claim those of `ids` that nobody has counted."""
        ...

    def done(self, run: Run) -> None:
        """Note that CloudWatch has the figures of a run."""
        ...


class RecordMetrics:
    """The consumer behind the queue of terminal events."""

    def __init__(
        self, metrics: Metrics, processed: ProcessedEvents, logger: "Logger", clock: Callable[[], float] = time.time
    ) -> None:
        self._metrics = metrics
        self._processed = processed
        self._logger = logger
        self._clock = clock
        self._model_names = ModelNames()

    def __call__(self, batch: Mapping[str, Any]) -> PartialFailure:
        """Count an SQS batch. Returns the partial batch response: the messages that must come again."""
        read, failed = read_batch(batch, self._read, self._logger)
        measured = {name: measurements for _, parts in read for name, measurements in parts.items()}
        busy = self._count(measured, traces_of(batch["Records"]))
        return again([*failed, *(message for message, parts in read if not busy.isdisjoint(parts))])

    def _read(self, body: str) -> dict[str, list[Measurement]]:
        """What a message's event measures, by the id of what is counted once: the event, and separately the tokens of a
        batch, which other events may report too, and that the request's event has arrived: whoever fetches an answer
        again publishes the same event again. Raises MalformedEventError.
        """
        event = read_event(body, self._clock())
        if not is_terminal(event):
            return {}
        measurements = self._in_range(event.id, measurements_of(event, self._model_names))
        is_again = event.request_id != event.id and is_ulid(event.request_id)
        counted_in = {TOKENS: batch_told(event), RECORDED: f"{event.id}#{event.request_id}" if is_again else ""}
        parts: dict[str, list[Measurement]] = {event.id: []}
        for each in measurements:
            parts.setdefault(counted_in.get(each.name) or event.id, []).append(each)
        return parts

    def _count(self, measured: Mapping[str, list[Measurement]], traces: list[str]) -> set[str]:
        """Count the events that nobody has counted. Returns those that another run is counting now: they have to come
        again.
        """
        now = int(self._clock())
        run = Run(new_ulid(now), now, now + _MARKER_LIFETIME)
        mine, busy = self._processed.claim(measured, run)
        data = metric_data(measurement for name in measured if name in mine for measurement in measured[name])
        if data:
            self._put(data, len(mine))
        if mine:
            self._done(run, len(mine))
        duplicates = len(measured) - len(mine) - len(busy)
        self._logger.info(
            "A batch was counted",
            events=len(mine),
            duplicates=duplicates,
            busy=len(busy),
            metric_data=len(data),
            traces=traces,
        )
        return busy

    def _put(self, data: "list[MetricDatumTypeDef]", events: int) -> None:
        try:
            self._metrics.put(data)
        except NoAnswerError as error:
            reason = "Metrics were not confirmed: if CloudWatch has them, these events count twice when they come again"
            self._logger.warning(reason, events=events, error=str(error))
            raise

    def _done(self, run: Run, events: int) -> None:
        """Mark the events as done. The metrics are published: if anything fails now, delivering the messages again
        would count them twice.
        """
        try:
            self._processed.done(run)
        except Exception:  # after an odd answer an SDK may raise anything
            self._logger.exception(
                "Markers were not written: these events count twice if they come again", events=events
            )

    def _in_range(self, event_id: str, measurements: list[Measurement]) -> list[Measurement]:
        now = self._clock()
        if any(not is_acceptable(m.minute, now) for m in measurements):
            self._logger.warning(
                "An event was not counted: it is outside the time that CloudWatch accepts", event_id=event_id
            )
            return []
        return measurements
