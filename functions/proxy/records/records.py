"""What is kept of a request when its client has been served: event, log line, content where it is wanted, trace.

Its one rule: nothing here can reach the client any more, so no failure here fails a request.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from openai_proxy.events.envelope import Event

from proxy.aws.client import AwsError
from proxy.inference import Inference
from proxy.log import log, place_of
from proxy.records.log_line import MESSAGE, request_line
from proxy.records.publisher import Publisher
from proxy.records.terminal_event import terminal_event
from proxy.request.trace_context import w3c_trace_id, xray_context

if TYPE_CHECKING:  # loaded only where the stack has a place for content
    from proxy.records.content_log import ContentLog

UNAUTHORIZED = "Requests failed before it was known whose they are"
"""What the log says of them: they have no event. A metric filter of the template adds up `requests` of the lines."""
_BETWEEN_LINES = 1.0
"""Seconds between two such lines of a sandbox: whoever has no key must not fill the log."""

_ON_DEMAND = ("on-demand", "snap-start", None)


class Records:
    """Begins and ends the record of each request. `initialization` is how Lambda says that the sandbox was started."""

    def __init__(
        self,
        publisher: Publisher,
        content_log: "ContentLog | None" = None,
        daemon: str | None = None,
        initialization: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._publisher = publisher
        self._content_log = content_log
        self._daemon = daemon
        self._is_cold = initialization in _ON_DEMAND
        self._clock = clock
        self._unauthorized: dict[str, Any] = {}
        self._quiet_until = 0.0

    def begin(self) -> Inference:
        """The record of a request that has just arrived. The first one of a sandbox that was started for it is cold."""
        is_cold, self._is_cold = self._is_cold, False
        return Inference(cold_start=is_cold)

    def watched(self, inference: Inference, body: Iterable[bytes], content_type: str) -> Iterable[bytes]:
        """`body` itself, unless the owner of the key has asked for content: then what goes by is remembered."""
        key = inference.key
        if self._content_log is None or key is None or not key.logs_content:
            return body
        return self._content_log.watched(inference, body, content_type)

    def unauthorized(self, inference: Inference) -> None:
        """Count a request that failed, by no fault of its client, before it was known whose it is."""
        error = inference.error
        if error is None or error.status < 500:
            return
        cause = error.__cause__
        reason = str(cause) if isinstance(cause, AwsError) else type(cause).__name__ if cause else None
        number = self._unauthorized.get("requests", 0) + 1
        self._unauthorized = {"requests": number, "error": error.code, "reason": reason, "id": inference.id}
        if self._clock() >= self._quiet_until:
            self._tell_unauthorized()

    def _tell_unauthorized(self) -> None:
        log("ERROR", UNAUTHORIZED, **self._unauthorized)
        self._unauthorized, self._quiet_until = {}, self._clock() + _BETWEEN_LINES

    def keep(
        self, inference: Inference, deadline: float, trace_header: str | None, captured: Sequence[Event] = ()
    ) -> None:
        """Publish the terminal event, and `captured` with it; then write down what else is wanted."""
        if self._unauthorized:
            self._tell_unauthorized()
        event, trace = terminal_event(inference), xray_context(trace_header)
        published = self._publisher.publish([event, *captured], deadline, trace.header if trace else None)
        headers = inference.request.headers if inference.request else dict[str, str]()
        trace_id = trace.trace_id if trace else None
        line = request_line(event, published=published, trace_id=trace_id, w3c_trace_id=w3c_trace_id(headers))
        log("INFO", MESSAGE, **line)
        try:
            if trace and trace.sampled and trace.parent and self._daemon:
                from proxy.records.tracing import Daemon, subsegment_of  # noqa: PLC0415  # most requests are not sampled

                Daemon(self._daemon).send(subsegment_of(inference, event, line, trace))
            if self._content_log and inference.body and inference.key and inference.key.logs_content:
                self._content_log.write(inference, line, event.timestamp, deadline - time.time())
        except Exception as error:  # noqa: BLE001  # the outermost edge: the request has been served
            name, where = type(error).__name__, place_of(error)
            log("ERROR", "A request was not recorded in full", id=inference.id, error=name, trace=where)
