"""Server-sent events: cutting a byte stream at the ends of events, and reading one. Pure.

An event ends at a blank line; lines end with CR LF, LF or CR
(https://html.spec.whatwg.org/multipage/server-sent-events.html). Its one rule: bytes are read, never changed.
"""

import re

BLANK = b" \t\r\n\xef\xbb\xbf"
"""What may stand before the first event of a stream, or before JSON, a byte order mark included."""
LONGEST_EVENT = 16 * 1024 * 1024
"""Bytes. A larger one is passed on in pieces."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r){2}")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BLANK_LINES = (b"\n\n", b"\n\r", b"\r\r")
"""Two line ends in a row contain one of these, whichever line ends they are."""


class WholeChunks:
    """Frames of a body that is no event stream: every chunk is whole."""

    is_inside = False

    def whole(self, chunk: bytes) -> bytes:
        """The part that may be passed on now: all of it."""
        return chunk

    def rest(self) -> bytes:
        """The part that was held back: nothing."""
        return b""


class EventFrames:
    """Holds back an event until its end has come.

    A client can do nothing with half an event, and only between events can the proxy put an error frame that a client
    can read when the server breaks off. Servers send whole events, so in practice nothing waits. An event larger than
    `max_held` bytes is passed on in pieces, so memory stays bounded.
    """

    def __init__(self, max_held: int = LONGEST_EVENT) -> None:
        self._max_held = max_held
        self._held = bytearray()
        self.is_inside = False
        """Whether the beginning of an event may have been passed on without its end."""

    def whole(self, chunk: bytes) -> bytes:
        """The whole events that have come so far, together, or nothing. Each byte is searched once."""
        held = self._held
        if not held and chunk.endswith(b"\n\n"):
            self.is_inside = False
            return chunk
        searched = max(0, len(held) - 1)
        held += chunk
        last = max(held.rfind(blank, searched) for blank in _BLANK_LINES)
        if last >= 0:
            end = last + 3 if held.startswith(b"\r\n", last + 1) else last + 2
            self.is_inside = False
        elif len(held) > self._max_held:
            end = len(held)
            self.is_inside = True
        else:
            return b""
        events = bytes(held[:end])
        del held[:end]
        return events

    def rest(self) -> bytes:
        """What came after the last whole event."""
        return bytes(self._held)


def split_events(events: bytes) -> list[bytes]:
    """Cut a run of events into single ones, each with its blank line; the last may lack it."""
    if b"\r" not in events:  # this is what servers send in practice, and it is many times faster
        *whole, last = events.split(b"\n\n")
        return [event + b"\n\n" for event in whole] + ([last] if last else [])
    found: list[bytes] = []
    start = 0
    for match in _BLANK_LINE.finditer(events):
        found.append(events[start : match.end()])
        start = match.end()
    return [*found, events[start:]] if start < len(events) else found


def end_of_event(events: bytes, start: int) -> int:
    """The end of the event that begins at `start`, its blank line included."""
    if b"\r" in events:
        blank = _BLANK_LINE.search(events, start)
        return blank.end() if blank else len(events)
    end = events.find(b"\n\n", start)
    return end + 2 if end >= 0 else len(events)


def find_events(pattern: re.Pattern[bytes], events: bytes, since: int = 0) -> list[tuple[int, int]]:
    """The events of a run that contain `pattern`: start and end of each, blank line included.

    The search begins at `since`. Most events of a long run are touched by nothing but the search.
    """
    if b"\r" in events:
        return _find_slowly(pattern, events, since)
    found: list[tuple[int, int]] = []
    position = 0
    while match := pattern.search(events, max(position, since)):
        start = events.rfind(b"\n\n", position, match.start()) + 2
        start = start if start >= 2 else position
        end = events.find(b"\n\n", match.start()) + 2
        end = end if end >= 2 else len(events)
        if match.end() <= end:  # a match that crosses a blank line is in no event
            found.append((start, end))
        position = end
    return found


def _find_slowly(pattern: re.Pattern[bytes], events: bytes, since: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    start = 0
    for event in split_events(events):
        end = start + len(event)
        if end > since and pattern.search(event):
            found.append((start, end))
        start = end
    return found


def data_of(event: bytes) -> bytes:
    """The data of one event: its `data:` lines joined by newlines; empty when it has none."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and b"\r" not in event:
        return event[6:-2]
    lines = (line for line in _lines_of(event) if line.startswith(b"data:"))
    return b"\n".join(line[6:] if line[5:6] == b" " else line[5:] for line in lines)


def name_of(event: bytes) -> str:
    """The name of one event; "" when it has none."""
    names = [line[6:].strip() for line in _lines_of(event) if line.startswith(b"event:")]
    return names[-1].decode(errors="replace") if names else ""


def _lines_of(event: bytes) -> list[bytes]:
    """The lines of an event. Before the first one of a stream there may be a byte order mark."""
    return _LINE_END.split(event.removeprefix(_BYTE_ORDER_MARK))
