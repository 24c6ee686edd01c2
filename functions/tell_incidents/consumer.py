"""The topic of alarms that need words ─▶ who is throttled ─▶ one message, one event.

One rule: an incident is told once when it begins and once when it is over. It is remembered after it was told, so that
a crash in between tells it twice, and never not at all.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from openai_proxy.throttles.incident import Incident, event_of, subject_of, text_of

from tell_incidents.alarm import AlarmChange, change_of

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger
    from openai_proxy.events.types import IncidentEvent
    from openai_proxy.throttles.advice import Throttled

BEFORE = 900.0
"""Seconds before an alarm from which refusals are counted: so long its periods reach back."""
MOST_HOURS = 24
_HOUR = 3600


class Memory(Protocol):
    """What was told: Incidents, or a fake of it."""

    def last(self, alarm: str) -> tuple[float, float] | None:
        """When what was told last changed, and since when it was in ALARM (0: it was not). Unix seconds."""
        ...

    def remember(self, alarm: str, at: float, since: float) -> None:
        """Remember that a change was told."""
        ...


class Rollups(Protocol):
    """Who was throttled: Incidents, or a fake of it."""

    def throttles(self, hours: Sequence[str]) -> "list[Throttled]":
        """The rollups of these hours."""
        ...


class Topic(Protocol):
    """Where people are told."""

    def publish(self, subject: str, text: str) -> None:
        """Send a message."""
        ...


class Bus(Protocol):
    """Where events go."""

    def publish(self, event: "IncidentEvent") -> None:
        """Put an event."""
        ...


class TellIncidents:
    """The consumer behind the topic. `stack` is its name; `form` is what the webhook of a chat takes; `runbooks` is
    where the runbooks are: an address, or a folder of a checkout.
    """

    def __init__(
        self, store: Any, topic: Topic, bus: Bus, logger: "Logger", *, stack: str, form: str, runbooks: str
    ) -> None:
        self._memory: Memory = store
        self._rollups: Rollups = store
        self._topic, self._bus, self._logger = topic, bus, logger
        self._stack, self._form, self._runbooks = stack, form, runbooks

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Tell of the changes of alarms in an SNS event. Raises when it could not be told: it comes again."""
        for record in event["Records"]:
            if change := change_of(record["Sns"]["Message"]):
                self._tell(change)

    def _tell(self, change: AlarmChange) -> None:
        last = self._memory.last(change.name)
        last_at, since = last or (0.0, 0.0)
        # Of two changes in one moment, as clocks of whole seconds have them, the later one is told too.
        if change.at < last_at or change.is_alarm == (since > 0):
            self._logger.info("told already", alarm=change.name)
            return
        incident = self._incident(change, change.at if change.is_alarm else since)
        self._topic.publish(subject_of(incident), text_of(incident))
        self._bus.publish(event_of(incident, self._form))
        self._memory.remember(change.name, change.at, change.at if change.is_alarm else 0.0)
        state = "began" if change.is_alarm else "ended"
        self._logger.info("incident told", alarm=change.name, state=state, requests=incident.refused)

    def _incident(self, change: AlarmChange, since: float) -> Incident:
        begin = int(max(since - BEFORE, change.at - MOST_HOURS * _HOUR)) // _HOUR * _HOUR
        hours = range(begin, int(change.at) + 1, _HOUR)
        rows = self._rollups.throttles([f"{datetime.fromtimestamp(hour, UTC):%Y-%m-%dT%H}" for hour in hours])
        until = None if change.is_alarm else change.at
        return Incident(change.kind, self._stack, since, until, begin, rows, self._runbooks)
