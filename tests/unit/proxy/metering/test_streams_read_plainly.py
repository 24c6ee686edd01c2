"""Reading a stream by shortcuts, against a plain reader that goes line by line through every byte."""

import itertools
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st
from proxy.metering import scan
from proxy.metering.meter import Meter
from proxy.metering.sse import (
    EventFrames,
    WholeChunks,
    data_of,
    end_of_event,
    find_events,
    name_of,
    split_events,
)

LINE_ENDS = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"])
PIECES = (
    b'{"choices":[{"index":0,"delta":{"content":"a"}}]}',
    b'{"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}',
    b'{"choices":[{"finish_reason":"length"}]}',
    b'{"choices":[{"finish_reason"\t:\t"tool_calls"}]}',
    b'{"choices":[],"usage":{"total_tokens":3}}',
    b'{"error":"text"}',
    b'{"sequence_number": 17}',
    b'{"sequence_number":4}',
    b"[DONE]",
    b" [DONE] ",
    b"[DONE]x",
    b"plain text",
    b"",
)
FIELDS = st.one_of(
    st.tuples(st.sampled_from([b"data:", b"data: ", b"data:  "]), st.sampled_from(PIECES)).map(b"".join),
    st.sampled_from([b"event:error", b"event: a", b": ping", b"id: 3", b"data", b"xdata: 1"]),
)
NAMED = [b"event: response.delta", b'data: {"type":"response.delta","delta":"event: response.delta"}']
BLANK = st.sampled_from([[], [b""]])
"""A blank line between two events, or two."""
EVENTS = st.one_of(st.lists(FIELDS, min_size=1, max_size=3), st.just([b"data: " + PIECES[0]]), st.just(NAMED), BLANK)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A stream of events, most of them alike and with one line end, as servers send; the last may lack its end."""
    end = draw(LINE_ENDS)
    events = draw(st.lists(EVENTS, max_size=5))
    text = b"".join(line + draw(st.one_of(st.just(end), LINE_ENDS)) for event in events for line in [*event, b""])
    cut = draw(st.integers(0, 3))
    return text[:-cut] if cut == 1 else text


class Event(NamedTuple):
    start: int
    end: int
    lines: list[bytes]


def events_of(stream: bytes) -> Iterator[Event]:
    """The events of a stream by the letter of the specification: a blank line ends one. The last may lack it."""
    start = position = 0
    lines: list[bytes] = []
    line = bytearray()
    after_end = False  # whether a line end has just been read, so that another makes a blank line
    while position < len(stream):
        if stream[position : position + 1] not in (b"\r", b"\n"):
            line += stream[position : position + 1]
            position, after_end = position + 1, False
            continue
        position += 2 if stream.startswith(b"\r\n", position) else 1
        lines.append(bytes(line))
        line.clear()
        if after_end:
            yield Event(start, position, lines)
            start, lines, after_end = position, [], False
        else:
            after_end = True
    if start < len(stream):
        yield Event(start, position, [*lines, bytes(line)])


def values(event: Event, field: bytes) -> list[bytes]:
    pairs = [line.partition(b":") for line in event.lines]
    return [value.removeprefix(b" ") for name, colon, value in pairs if name == field and colon]


@given(streams())
def test_events_their_data_and_their_names(stream: bytes) -> None:
    events = list(events_of(stream))
    assert split_events(stream) == [stream[event.start : event.end] for event in events]
    for event in events:
        assert end_of_event(stream, event.start) == event.end
        text = stream[event.start : event.end]
        assert data_of(text) == b"\n".join(values(event, b"data"))
        names = values(event, b"event")
        assert name_of(text) == (names[-1].strip().decode() if names else "")


@given(streams(), st.sampled_from([b"DONE", b"finish_reason", b"event:", b"a"]), st.data())
def test_events_are_found_from_an_event_on(stream: bytes, pattern: bytes, data: st.DataObject) -> None:
    events = list(events_of(stream))
    since = data.draw(st.sampled_from([0, *(event.start for event in events)]))
    wanted = [event[:2] for event in events if event.start >= since and pattern in stream[event.start : event.end]]
    assert find_events(re.compile(pattern), stream, since) == wanted


BLOCKS = (b"\n\n", b"DONE\n\n", b"a\n\n", b"DONE", b"\r\n\r\n", b"DO\n\nNE\n\n")


def test_events_are_found_in_every_short_run() -> None:
    for stream in map(b"".join, itertools.product(BLOCKS, repeat=4)):
        ends = [0, *itertools.accumulate(map(len, split_events(stream)))]
        for pattern in (b"DONE", b"a|DO\\n\\nNE"):
            wanted = [edge for edge in pairwise(ends) if re.search(pattern, stream[slice(*edge)])]
            assert find_events(re.compile(pattern), stream) == wanted, stream


@given(streams(), st.lists(st.integers(0, 400), max_size=4), st.sampled_from([12, 60, 10_000]))
def test_whole_events_leave_as_soon_as_they_are_whole(stream: bytes, cuts: list[int], max_held: int) -> None:
    frames, held, inside = EventFrames(max_held), b"", False
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    for start, end in pairwise(edges):
        held += stream[start:end]
        blank = re.compile(rb"(?s).*(?:\r\n\r\n|\r\n\r|\n\r\n|\r\r\n|\n\n|\n\r|\r\r)").match(held)
        whole = blank.end() if blank else 0
        if whole:
            inside = False
        elif len(held) > max_held:
            whole, inside = len(held), True
        assert frames.whole(stream[start:end]) == held[:whole]
        assert frames.is_inside is inside
        held = held[whole:]
        assert frames.rest() == held


def test_a_body_that_is_no_stream_is_never_held_back() -> None:
    frames = WholeChunks()
    assert (frames.whole(b"ab"), frames.rest(), frames.is_inside) == (b"ab", b"", False)


@given(streams())
def test_what_a_stream_says_by_its_bytes(stream: bytes) -> None:
    events = list(events_of(stream))
    texts = [stream[event.start : event.end] for event in events]
    odd = [event[:2] for event, text in zip(events, texts, strict=True) if scan.is_odd(text)]
    looked = scan.look_for_odd_events(stream)
    assert [place for place in looked.odd if place[0] < place[1]] == odd
    if any(line.startswith((b"event:", b'data: {"error"')) for event in events for line in event.lines):
        assert scan.may_hold_error(stream, has_names=looked.has_names)
    assert scan.has_end_mark(stream) is any(data_of(text).strip() == b"[DONE]" for text in texts)
    numbers = re.findall(rb'"sequence_number": ?(\d+)', stream)
    assert scan.next_sequence_number(stream) == (int(numbers[-1]) + 1 if numbers else 0)
    meter = Meter("text/event-stream", uses_tokens=True)
    meter.see(stream)
    assert meter.next_sequence_number == (int(numbers[-1]) + 1 if numbers else 0)
    reasons = [found.decode() for found in re.findall(rb'"finish_reason"[ \t]*:[ \t]*"(\w+)"', stream)]
    assert scan.finish_reasons_in(stream) == reasons
    places = [found.start() for found in re.finditer(rb'"finish_reason"[ \t]*:[ \t]*"\w', stream)]
    for end in [0, *(event.end for event in events)]:
        assert scan.has_finish_reason(stream, end) is any(place + 18 < end for place in places)


@given(
    st.lists(st.sampled_from([b'"finish_reason":"a"', b'"finish_reason": "b"', b"x"])).map(b"".join), st.integers(0, 60)
)
def test_the_last_reason_is_the_last_in_the_form_that_most_write(text: bytes, since: int) -> None:
    compact, spaced = text.rfind(b'"finish_reason":"', since), text.rfind(b'"finish_reason": "', since)
    assert scan.find_last_finish_reason(text, since) == (compact if compact >= 0 else spaced)
