"""The topic of alarms of throttles ─▶ who is throttled ─▶ one message, one event.

One rule: people are told of an incident once when it begins and once when it is over. That is remembered after they
were told, so a crash in between tells them twice, but never leaves them untold.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from openai_proxy.events.bus import Publisher
from openai_proxy.events.topic import Audience
from openai_proxy.throttles.incident import Incident, event_of, subject_of, text_of

from tell_incidents.alarm import AlarmChange, change_of

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger
    from openai_proxy.throttles.advice import Throttled

BEFORE = 900.0
"""Seconds before an alarm from which refusals are counted: so long its periods reach back."""
MOST_HOURS = 24
_HOUR = 3600


class Store(Protocol):
    """Remembers what people were told, and reads who was throttled: Incidents, or a fake of it."""

    def last(self, alarm: str) -> tuple[float, float] | None:
        """The latest change that was told: when it happened, and since when the alarm was in ALARM (0: it was not). In
        Unix seconds.
        """
        ...

    def remember(self, alarm: str, at: float, since: float) -> None:
        """Remember that a change was told."""
        ...

    def throttles(self, hours: Sequence[str]) -> "list[Throttled]":
        """The rollups of these hours."""
        ...


@dataclass(frozen=True)
class TellIncidents:
    """The consumer behind the topic. `stack` is its name; `form` is what the webhook of a chat takes; `runbooks` is
    where the runbooks are: an address, or a folder of a checkout.
    """

    store: Store
    topic: Audience
    bus: Publisher
    logger: "Logger"
    stack: str
    form: str
    runbooks: str

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Tell people of the changes of alarms in an SNS event. Raises when that fails: then the event comes again."""
        for record in event["Records"]:
            if change := change_of(record["Sns"]["Message"]):
                self._tell(change)

    def _tell(self, change: AlarmChange) -> None:
        last = self.store.last(change.name)
        last_at, since = last or (0.0, 0.0)
        # Times are whole seconds, so two changes may have the same time: the later one is told too.
        if change.at < last_at or change.is_alarm == (since > 0):
            self.logger.info("An incident was told already", alarm=change.name)
            return
        incident = self._incident(change, change.at if change.is_alarm else since)
        self.topic.publish(subject_of(incident), text_of(incident))
        self.bus.publish(event_of(incident, self.form))
        self.store.remember(change.name, change.at, change.at if change.is_alarm else 0.0)
        state = "began" if change.is_alarm else "ended"
        self.logger.info("An incident was told", alarm=change.name, state=state, requests=incident.refused)

    def _incident(self, change: AlarmChange, since: float) -> Incident:
        begin = int(max(since - BEFORE, change.at - MOST_HOURS * _HOUR)) // _HOUR * _HOUR
        hours = range(begin, int(change.at) + 1, _HOUR)
        rows = self.store.throttles([f"{datetime.fromtimestamp(hour, UTC):%Y-%m-%dT%H}" for hour in hours])
        until = None if change.is_alarm else change.at
        return Incident(change.kind, self.stack, since, until, begin, rows, self.runbooks)
