"""What is kept of a request when its client has been served: event, log line, content where it is wanted, trace.

Its one rule: the client has its answer already, so no failure here fails a request.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from openai_proxy.key_context import ClientKey

from proxy.aws.client import AwsError
from proxy.call import Call
from proxy.delivery import Delivery
from proxy.log import log, place_of
from proxy.outcome import Outcome
from proxy.records.log_line import MESSAGE, request_line
from proxy.records.publisher import Publisher
from proxy.records.terminal_event import terminal_event
from proxy.request.trace_context import w3c_trace_id, xray_context
from proxy.timeline import Clock, Moments, Timeline

if TYPE_CHECKING:  # loaded only where the stack has a place for content
    from openai_proxy.events.types import CapturedEvent, TerminalEvent

    from proxy.records.content_log import ContentLog
    from proxy.records.recorder import ResponseRecorder
    from proxy.workers.memory import SharedText

UNAUTHORIZED = "Requests failed before it was known whose they are"
"""What the log says of them: they have no event. A metric filter of the template adds up `requests` of the lines."""
_BETWEEN_LINES = 1.0
"""Seconds between two such lines of a sandbox: whoever has no key must not fill the log."""

_TO_TELL = 5.0
"""Seconds to publish the event of a request whose worker was killed."""
_ON_DEMAND = ("on-demand", "snap-start", None)


class Invocation(NamedTuple):
    """The invocation of a request: until when its event has to be published (Unix seconds), its X-Ray header, and
    whether the sandbox was started for it.
    """

    deadline: float
    trace: str | None = None
    is_first: bool = False


class Records:
    """Begins and ends the record of each request. `initialization` is Lambda's word for how the sandbox was started.

    All times in the records are from `clock`.
    """

    def __init__(
        self,
        publisher: Publisher,
        content_log: "ContentLog | None" = None,
        daemon: str | None = None,
        initialization: str | None = None,
        clock: Clock = Clock(),  # noqa: B008  # it cannot be changed
    ) -> None:
        self._publisher = publisher
        self._content_log = content_log
        self._daemon = daemon
        self._is_cold = initialization in _ON_DEMAND
        self._clock = clock
        self._unauthorized: dict[str, Any] = {}
        self._quiet_until = 0.0
        self._memory: SharedText | None = None

    def watch(self, memory: "SharedText") -> None:
        """Publish the event of the unfinished request in `memory`, if there is one. From now on, keep there what is
        known of each request that begins.
        """
        self.tell_of(memory)
        self._memory = memory

    def tell_of(self, memory: "SharedText") -> None:
        """Publish the terminal event of a request whose worker was killed before it could."""
        if not (text := memory.get()):
            return
        from proxy.records.unfinished import told_at  # noqa: PLC0415  # hardly any worker is killed

        self.tell(*told_at(self._clock.unix(), text))
        memory.clear()

    def forget(self) -> None:
        """Forget the current request: if this process is killed now, another function publishes its event."""
        if self._memory is not None:
            self._memory.clear()

    def tell(self, event: "TerminalEvent", header: str | None) -> bool:
        """Publish the terminal event of a request that could not do so itself, and write its log line.

        False: only the log has the event.
        """
        trace = xray_context(header)
        deadline = self._clock.unix() + _TO_TELL
        fate = self._publisher.publish([event], deadline, trace.header if trace else None)
        log("ERROR", MESSAGE, **request_line(event, fate, trace_id=trace.trace_id if trace else None))
        return fate != "lost"

    def admitted(self, call: Call, timeline: Timeline, trace: str | None) -> None:
        """Keep what is known of a request, in case this process is killed. Nothing is kept where no other process could
        read it.
        """
        if self._memory is None or call.key is None:
            return
        try:
            from proxy.records.unfinished import unfinished  # noqa: PLC0415  # only among several workers

            self._memory.put(unfinished(call, timeline, trace))
        except Exception as error:  # noqa: BLE001  # the outermost edge: the request can be served all the same
            log("ERROR", "A request cannot be told of if it is killed", id=call.id, trace=place_of(error))

    @staticmethod
    def _event(call: Call, outcome: Outcome, moments: Moments, *, cold_start: bool) -> "TerminalEvent":
        """The terminal event; if something that the answer says of itself cannot be told, the event without that."""
        try:
            return terminal_event(call, outcome, moments, cold_start=cold_start)
        except Exception as error:  # noqa: BLE001  # the outermost edge: every request has its event
            log("ERROR", "An answer cannot be told of in full", id=call.id, trace=place_of(error))
            return terminal_event(call, outcome.untold(), moments._replace(answers=()), cold_start=cold_start)

    def begin(self) -> tuple[Timeline, bool]:
        """The timeline of a request that begins now, and whether the sandbox was started for this request."""
        is_cold, self._is_cold = self._is_cold, False
        return Timeline(self._clock), is_cold

    def recorder(self, key: ClientKey | None, delivery: Delivery) -> "ResponseRecorder | None":
        """A recorder that keeps the answer while it passes, if the key's owner has asked for content."""
        if self._content_log is None or key is None or not key.logs_content:
            return None
        return self._content_log.recorder(delivery.content_type)

    def unauthorized(self, call: Call) -> None:
        """Log a request that failed before its client was known, if that was not the client's fault. An alarm counts
        these lines.
        """
        error = call.refused
        if error is None or error.status < 500:
            return
        cause = error.__cause__
        reason = str(cause) if isinstance(cause, AwsError) else type(cause).__name__ if cause else None
        number = self._unauthorized.get("requests", 0) + 1
        self._unauthorized = {"requests": number, "error": error.code, "reason": reason, "id": call.id}
        if self._clock.reading() >= self._quiet_until:
            self._tell_unauthorized()

    def _tell_unauthorized(self) -> None:
        log("ERROR", UNAUTHORIZED, **self._unauthorized)
        self._unauthorized, self._quiet_until = {}, self._clock.reading() + _BETWEEN_LINES

    def keep(
        self,
        call: Call,
        outcome: Outcome,
        timeline: Timeline,
        invocation: Invocation,
        captured: "Sequence[CapturedEvent]" = (),
    ) -> None:
        """Publish the terminal event, and `captured` with it; then write the log line, and content and trace where they
        are wanted.
        """
        if self._unauthorized:
            self._tell_unauthorized()
        trace = xray_context(invocation.trace)
        event = self._event(call, outcome, timeline.moments(), cold_start=invocation.is_first)
        fate = self._publisher.publish([event, *captured], invocation.deadline, trace.header if trace else None)
        if self._memory:
            self._memory.clear()
        headers = call.request.headers if call.request else dict[str, str]()
        trace_id = trace.trace_id if trace else None
        line = request_line(event, fate, trace_id=trace_id, w3c_trace_id=w3c_trace_id(headers))
        # An event that was not published has to be in the log whatever the log level: alarms count these lines.
        log("INFO" if fate == "published" else "ERROR", MESSAGE, **line)
        try:
            if trace and trace.sampled and trace.parent and self._daemon:
                from proxy.records.tracing import Daemon, subsegment_of  # noqa: PLC0415  # most requests are not sampled

                Daemon(self._daemon).send(subsegment_of(timeline, event, line, trace))
            if self._content_log and outcome.delivery.sent and call.key and call.key.logs_content:
                left = invocation.deadline - self._clock.unix()
                self._content_log.write(call, outcome, line, event.timestamp, left)
        except Exception as error:  # noqa: BLE001  # the outermost edge: the request has been served
            name, where = type(error).__name__, place_of(error)
            log("ERROR", "A request was not recorded in full", id=call.id, error=name, trace=where)
