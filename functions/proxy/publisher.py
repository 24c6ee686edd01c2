"""Events to the bus: the only module that calls PutEvents. Its one rule: it never raises, and an event is never silent.

What the bus does not take after a few tries, or before the invocation's time is up, is written to the log whole, ready
to be put again by hand.
"""

import time
from collections.abc import Callable, Sequence

from openai_proxy.events import TERMINAL_DETAIL_TYPES, Event

from proxy.aws import Aws, AwsError
from proxy.log import log

_PAUSES = (0.05, 0.25)
"""Seconds between tries: short, because the sandbox is billed and busy meanwhile."""
_LONGEST_TRY = 2.0
_TIME_TO_LOG = 0.1


class Publisher:
    """Publishes the events of one request in one call."""

    def __init__(self, aws: Aws, bus_name: str, sleep: Callable[[float], None] = time.sleep) -> None:
        self._aws = aws
        self._bus_name = bus_name
        self._sleep = sleep

    def publish(self, events: Sequence[Event], deadline: float, trace_id: str | None = None) -> bool:
        """Put `events`; retry those that fail; log those that keep failing. Done by `deadline` (Unix seconds).

        Returns whether the bus has taken the terminal event.
        """
        entries = [event.to_entry(self._bus_name, trace_id) for event in events]
        reason = ""
        for pause in (0.0, *_PAUSES):
            left = deadline - _TIME_TO_LOG - pause - time.time()
            if left <= 0:
                reason = reason or "no time was left"
                break
            if pause:
                self._sleep(pause)
            entries, reason = self._put(entries, min(_LONGEST_TRY, left))
            if not entries:
                return True
        for entry in entries:
            if entry["DetailType"] == "ResponseCaptured":
                log("ERROR", "An answer was not cached: its event was not published", reason=reason)
            else:
                log("ERROR", "An event was not published", reason=reason, entry=entry)
        return all(entry["DetailType"] not in TERMINAL_DETAIL_TYPES for entry in entries)

    def _put(self, entries: list[dict[str, str]], timeout: float) -> tuple[list[dict[str, str]], str]:
        """Those of `entries` that were not taken, and why."""
        try:
            results = self._aws.put_events(entries, timeout)
        except AwsError as error:
            return entries, str(error)
        if len(results) != len(entries):
            return entries, "an answer for other entries"
        failed = [(entry, result) for entry, result in zip(entries, results, strict=True) if result.get("ErrorCode")]
        return [entry for entry, _ in failed], ", ".join(str(result["ErrorCode"]) for _, result in failed)
