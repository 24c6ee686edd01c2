"""The `id:` lines of a resumable stream: each event gets one, `{inference id}.{n}`, counted from 1. Pure.

The line is the last one of its event. So a client that has read the line has read the whole event. It also counts where
the server has sent an `id:` of its own: of two in one event, the later one counts
(https://html.spec.whatwg.org/multipage/server-sent-events.html). Every other byte stays, but for blank lines: once a
client has seen an id, SDKs take each blank line for the end of an event, and one without data breaks them. So a block
of nothing but comments goes without its blank line, which makes it part of the event that follows, and blank lines
between events are left out.
"""

import re

from proxy.metering.sse import LONGEST_EVENT, EventFrames, split_events

KEEP_ALIVE = b": keep-alive\n"
"""A comment that ends no event."""
KEEP_ALIVES = (b": keep-alive\n\n", KEEP_ALIVE)
_COMMENTS = re.compile(rb"(?::[^\r\n]*(?:\r\n|\n|\r))+(?:\r\n|\n|\r)")
_LINE_ENDS = b"\r\n"


class Numbering:
    """Puts an `id:` line into each event of a stream that comes in pieces of any size."""

    def __init__(self, stream_id: str, max_held: int = LONGEST_EVENT) -> None:
        self._prefix = f"id: {stream_id}.".encode()
        self._frames = EventFrames(max_held)
        self._is_open = False
        """Whether comments wait for the end of their event."""
        self._is_large = False
        """Whether something of a very large event was passed on, and not its end."""
        self._line_ends = b""
        """What a very large event has at its end as far as it was passed on: they may be its end."""
        self.number = 0
        """Of the latest event."""

    def feed(self, data: bytes) -> bytes:
        """The events that are whole by now, with their ids."""
        was_inside = self._frames.is_inside
        events = self._frames.whole(data)
        if self._frames.is_inside or was_inside:
            return self._of_large(events)
        quickly = self._all_numbered(events)
        return self._each_numbered(events) if quickly is None else quickly

    def _of_large(self, events: bytes) -> bytes:
        """The next bytes of an event that passes in pieces. At its end they get its id, and the events after it
        follow.
        """
        events, self._line_ends, before = self._line_ends + events, b"", b""
        end = len(split_events(events)[0]) if self._is_large and events else 0
        if end and not (self._frames.is_inside and end == len(events)):
            before, events, self._is_large = self._with_id(events[:end]), events[end:], False
        if not self._frames.is_inside:
            return before + self._each_numbered(events)
        passed = events.rstrip(_LINE_ENDS)
        self._line_ends = events[len(passed) :]
        passed = passed if self._is_large else passed.lstrip(_LINE_ENDS)
        self._is_large = self._is_large or bool(passed)
        return before + passed

    def end(self) -> bytes:
        """The rest of a stream whose last event has no blank line."""
        rest, before = self._line_ends + self._frames.rest(), b""
        if self._is_large and (end := len(split_events(rest + b".")[0])) <= len(rest):
            before, rest, self._is_large = self._with_id(rest[:end]), rest[end:], False
        rest = rest if self._is_large else rest.lstrip(_LINE_ENDS)
        if not (rest or self._is_large or self._is_open):
            return before
        between = b"\n" if (rest or self._is_large) and not rest.endswith((b"\r", b"\n")) else b""
        return before + rest + between + self._next_id() + b"\n"

    @property
    def is_between(self) -> bool:
        """Whether another line may be written now, because no event is half written."""
        return not self._frames.is_inside

    def _all_numbered(self, events: bytes) -> bytes | None:
        """A faster way for events as most servers send them: LF, a blank line after each, no comments. None if one is
        different.

        It takes a third of the time of handling each event separately.
        """
        if b"\r" in events:
            return None
        *blocks, _ = events.split(b"\n\n")  # at the end there may be a line end too many, which is left out
        prefix, number, numbered = self._prefix, self.number, list[bytes]()
        for block in blocks:
            if not block or block.startswith((b":", b"\n")):
                return None
            number += 1
            numbered.append(b"%b\n%b%d\n\n" % (block, prefix, number))
        if not numbered:
            return None
        self._is_open, self.number = False, number
        return b"".join(numbered)

    def _each_numbered(self, events: bytes) -> bytes:
        return b"".join(map(self._numbered, split_events(events)))

    def _numbered(self, event: bytes) -> bytes:
        event = event.lstrip(_LINE_ENDS)
        if not event:
            return b""
        if event.startswith(b":") and _COMMENTS.fullmatch(event):
            self._is_open = True
            return event[: _before_blank(event)]
        return self._with_id(event)

    def _with_id(self, event: bytes) -> bytes:
        end = _before_blank(event)
        return event[:end] + self._next_id() + event[end:]

    def _next_id(self) -> bytes:
        self._is_open = False
        self.number += 1
        return b"%b%d\n" % (self._prefix, self.number)


def _before_blank(event: bytes) -> int:
    """The position of an event's last line end, counted from the event's end."""
    return -2 if event.endswith(b"\r\n") else -1


def after(events: bytes, stream_id: str, number: int) -> bytes:
    """The events after the one with `number` in a run of numbered events; empty if the run does not have that event."""
    line = re.search(rb"(?<![^\r\n])id: %b\.%d\n" % (stream_id.encode(), number), events)
    if line is None:
        return b""
    rest = events[line.end() :]
    return rest[2:] if rest.startswith(b"\r\n") else rest[1:]


def last_number(events: bytes, stream_id: str) -> int:
    """The number of the last event in a run of numbered events; 0 where it has none."""
    found = re.findall(rb"(?<![^\r\n])id: %b\.([0-9]{1,12})\n" % stream_id.encode(), events)
    return int(found[-1]) if found else 0
