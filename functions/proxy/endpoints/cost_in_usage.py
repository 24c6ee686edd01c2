"""The cost of an answer as a member of its own `usage` object, for a client that asks for it. Pure but for its writes.

Its one rule: one member is put in, and every other byte of the server's answer stays as it was. If reading the result
again does not prove that, nothing is changed.
"""

from collections.abc import Callable
from typing import Any

from proxy.json_shapes import loads_or_none, object_of
from proxy.metering.meter import Meter
from proxy.metering.scan import USAGE
from proxy.metering.sse import data_of, find_events

_MOST_PLACES = 16
"""That are tried: schemas of tools, which a Responses answer repeats, may name a field `usage` too."""
_LONGEST_PART = 4 * 1024 * 1024
"""Bytes of an event, or of a document, that is looked into."""


class CostWriter:
    """Writes an answer that `meter` has seen. `cost` is called when there is a usage: it gives USD as text, None if
    unknown.

    A document is held back until its end, because its usage may be anywhere in it.
    """

    def __init__(self, write: Callable[[bytes], None], meter: Meter, cost: Callable[[], str | None]) -> None:
        self._write = write
        self._meter = meter
        self._cost = cost
        self._held = bytearray()
        self._holds = not meter.is_stream

    def write(self, data: bytes) -> None:
        """Write whole events, or any part of a document."""
        if not self._holds:
            self._write(self._priced_events(data) if self._meter.is_stream else data)
            return
        self._held += data
        if len(self._held) > _LONGEST_PART:
            self._holds = False
            self._release(bytes(self._held))

    def end(self) -> None:
        """Write the rest: the answer is whole, and its meter has been told so."""
        if self._holds and self._held:
            document = bytes(self._held)
            cost = self._cost() if USAGE.search(document) else None
            self._release(document if cost is None else with_cost(document, cost))

    def _release(self, document: bytes) -> None:
        self._held.clear()
        self._write(document)

    def _priced_events(self, events: bytes) -> bytes:
        places = find_events(USAGE, events)
        # The beginning of a message counts only the input; its end counts everything.
        if not places or self._meter.is_half_counted or (cost := self._cost()) is None:
            return events
        for start, end in reversed(places):
            events = events[:start] + with_cost(events[start:end], cost, is_event=True) + events[end:]
        return events


def with_cost(part: bytes, cost: str, *, is_event: bool = False) -> bytes:
    """An event, or a document, with the cost in its `usage`; unchanged if it has no usage, or one with a cost."""
    if len(part) > _LONGEST_PART:
        return part
    wanted = _expected(object_of(_read(part, is_event=is_event)), cost)
    if wanted is None:
        return part
    for match in list(USAGE.finditer(part))[-_MOST_PLACES:][::-1]:
        changed = part[: match.end()] + f'"cost":"{cost}",'.encode() + part[match.end() :]
        if _read(changed, is_event=is_event) == wanted:
            return changed
    return part


def _read(part: bytes, *, is_event: bool) -> Any:
    return loads_or_none(data_of(part) if is_event else part)


def _expected(fields: dict[str, Any], cost: str) -> dict[str, Any] | None:
    """The document as it should be with the cost in it; None if it has no place for one. `fields` are not changed."""
    if "response" in fields:
        response = _priced(object_of(fields["response"]), cost)
        return None if response is None else {**fields, "response": response}
    return _priced(fields, cost)


def _priced(fields: dict[str, Any], cost: str) -> dict[str, Any] | None:
    usage = object_of(fields.get("usage"))
    return {**fields, "usage": {**usage, "cost": cost}} if usage and "cost" not in usage else None
