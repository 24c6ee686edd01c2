"""SQS batch ─▶ events not counted yet ─▶ few metric data ─▶ CloudWatch ─▶ markers.

One rule: a message fails for its own fault only; but when CloudWatch or the markers fail, all of them come again.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from openai_proxy.events.batch import PartialFailure, again, read_batch
from openai_proxy.events.envelope import Event, batch_told, is_terminal
from openai_proxy.events.traces import traces_of
from openai_proxy.metric_data import OLDEST, Measurement, ModelNames, is_acceptable, metric_data

from record_metrics.measurements import TOKENS, measurements_of

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger
    from mypy_boto3_cloudwatch.type_defs import MetricDatumTypeDef

_MARKER_LIFETIME = OLDEST + 86400


class Metrics(Protocol):
    """Where metrics go: CloudWatch, or a fake of it."""

    def put(self, data: "Sequence[MetricDatumTypeDef]") -> None:
        """Publish `data`."""
        ...


class Marks(Protocol):
    """Which events have been counted: Markers, or a fake of it."""

    def seen(self, ids: Iterable[str]) -> set[str]:
        """Which of `ids` have been counted."""
        ...

    def mark(self, ids: Iterable[str], expires_at: int) -> int:
        """Remember `ids`; returns how many could not be remembered."""
        ...


class RecordMetrics:
    """The consumer behind the queue of terminal events."""

    def __init__(
        self, metrics: Metrics, marks: Marks, logger: "Logger", clock: Callable[[], float] = time.time
    ) -> None:
        self._metrics = metrics
        self._marks = marks
        self._logger = logger
        self._clock = clock
        self._model_names = ModelNames()

    def __call__(self, batch: Mapping[str, Any]) -> PartialFailure:
        """Count an SQS batch. Returns the partial batch response: the messages that must come again."""
        read, failed = read_batch(batch, self._read, self._logger)
        measured = {name: measurements for _, parts in read for name, measurements in parts.items()}
        self._count(measured, traces_of(batch["Records"]))
        return again(failed)

    def _read(self, body: str) -> dict[str, list[Measurement]]:
        """What a message's event measures, by what is to be counted once: the event, and apart from it the tokens of a
        batch, of which others may tell too. Raises MalformedEventError.
        """
        event = Event.from_sqs_body(body)
        if not is_terminal(event):
            return {}
        measurements = self._in_range(event.id, measurements_of(event, self._model_names))
        if not (batch := batch_told(event)):
            return {event.id: measurements}
        tokens = [each for each in measurements if each.name == TOKENS]
        return {event.id: [each for each in measurements if each.name != TOKENS], batch: tokens}

    def _count(self, measured: Mapping[str, list[Measurement]], traces: list[str]) -> None:
        seen = self._marks.seen(measured)
        fresh = [event_id for event_id in measured if event_id not in seen]
        data = metric_data(measurement for event_id in fresh for measurement in measured[event_id])
        if data:
            self._metrics.put(data)
        self._mark(fresh)
        self._logger.info(
            "batch counted", events=len(fresh), duplicates=len(seen), metric_data=len(data), traces=traces
        )

    def _mark(self, ids: Sequence[str]) -> None:
        """The metrics are published: whatever happens now, asking for these messages again would count them twice."""
        try:
            lost = self._marks.mark(ids, int(self._clock()) + _MARKER_LIFETIME)
        except Exception:  # an SDK that is answered oddly fails in ways of its own
            self._logger.exception("markers not written: these events count twice if they come again", events=len(ids))
        else:
            if lost:
                self._logger.warning("markers not written: these events count twice if they come again", events=lost)

    def _in_range(self, event_id: str, measurements: list[Measurement]) -> list[Measurement]:
        now = self._clock()
        if any(not is_acceptable(m.minute, now) for m in measurements):
            self._logger.warning("event outside the time that CloudWatch accepts: not counted", event_id=event_id)
            return []
        return measurements
