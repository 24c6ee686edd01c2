"""What the relay does between two sockets is the same for every way in which a stream may be cut into chunks."""

import gzip
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from openai_proxy.usage import Usage
from proxy.http.compression import decompressed
from proxy.metering.meter import AnswerTraits, Meter
from proxy.metering.sse import EventFrames

from conformance.chat import (
    DONE,
    RESPONSE_BEGINNING,
    ROLE,
    STOP,
    STOP_WITH_USAGE,
    STREAM,
    USAGE,
    USAGE_ONLY,
    WORDS,
    chunk_of,
    error_body,
    event,
    response_end,
    text,
    text_chunk,
)

EVENTS = (
    ROLE,
    WORDS[0],
    text("Grüße, 世界 🌍"),
    text('{"usage": {"prompt_tokens": 5}}'),
    STOP,
    STOP_WITH_USAGE,
    USAGE_ONLY,
    event(chunk_of(usage={**USAGE, "completion_tokens": 77})),
    event(chunk_of(prompt_filter_results=[])),
    text_chunk("Hello"),
    RESPONSE_BEGINNING[0],
    response_end("completed"),
    b"data: " + error_body("overloaded") + b"\n\n",
    b": ping\n\n",
    b"event: x\nid: 1\nretry: 5\n\n",
    b"data: {not json\n\n",
    b"data: \xff\xfe\n\n",
    b"\n",
    DONE,
)


@dataclass(frozen=True)
class Relayed:
    """What a client gets, without and with its usage hidden, and what the meter knows afterwards."""

    body: bytes
    hidden: list[tuple[bytes, ...]]
    usage: Usage
    facts: tuple[Any, ...]


def relayed(chunks: Iterable[bytes]) -> Relayed:
    """Pass chunks on as the relay does."""
    frames = EventFrames()
    passed = [whole for chunk in chunks if (whole := frames.whole(chunk))]
    passed += [rest] if (rest := frames.rest()) else []
    meter, hiding = (Meter("text/event-stream", True, AnswerTraits(hides_usage=hides)) for hides in (False, True))
    body, hidden = (b"".join(each.see(piece) for piece in passed) for each in (meter, hiding))
    assert facts(hiding) == facts(meter)
    return Relayed(body, parsed(hidden), meter.usage, facts(meter))


def facts(meter: Meter) -> tuple[Any, ...]:
    meter.end()
    return meter.usage, meter.model, meter.id, tuple(meter.finish_reasons), meter.size, meter.error, meter.is_cut


def parsed(stream: bytes) -> list[tuple[bytes, ...]]:
    """The lines of each event: a blank line more or less between two events is nothing to a client."""
    found: list[tuple[bytes, ...]] = [()]
    for line in re.split(rb"\r\n|\n|\r", stream):
        if line:
            found[-1] += (line,)
        elif found[-1]:
            found.append(())
    return [lines for lines in found if lines]


def cut(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


def with_line_ends(pair: tuple[bytes, bytes]) -> bytes:
    return pair[0].replace(b"\n", pair[1])


ANY_STREAM = st.lists(
    st.tuples(st.sampled_from(EVENTS), st.sampled_from([b"\n", b"\r\n", b"\r"])).map(with_line_ends), max_size=12
).map(b"".join)
CUTS = st.lists(st.integers(0, 10_000), max_size=40)


@given(st.binary(max_size=300), CUTS)
def test_any_bytes_in_any_chunks_pass_as_they_are(data: bytes, cuts: list[int]) -> None:
    assert relayed(cut(data, cuts)).body == data


@given(ANY_STREAM, CUTS)
def test_any_stream_in_any_chunks_is_one_stream(data: bytes, cuts: list[int]) -> None:
    assert relayed(cut(data, cuts)) == relayed([data])


@given(ANY_STREAM)
@example(ROLE + DONE + b": ping\n\n" * 3)
def test_a_stream_byte_by_byte_is_the_same_stream(data: bytes) -> None:
    assert relayed(data[place : place + 1] for place in range(len(data))) == relayed([data])


@given(ANY_STREAM, CUTS, st.integers(0, 9))
def test_a_compressed_stream_in_any_chunks_is_the_same_stream(data: bytes, cuts: list[int], level: int) -> None:
    chunks = cut(gzip.compress(data, level, mtime=0), cuts)
    assert relayed(decompressed(chunks, ["gzip"], "a server")) == relayed([data])


@given(CUTS, st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_usage_is_read_and_hidden_in_any_chunks(cuts: list[int], line_end: bytes) -> None:
    stream, expected = (b"".join(events).replace(b"\n", line_end) for events in (STREAM, (*STREAM[:-2], DONE)))
    found = relayed(cut(stream, cuts))
    assert found.hidden == parsed(expected)
    assert (found.usage.input_tokens, found.usage.output_tokens, found.usage.source) == (9, 3, "reported")
