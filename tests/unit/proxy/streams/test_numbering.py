"""The ids of a resumable stream: what a client reads stays what it was, and the place after each event is found."""

import itertools
import re
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.metering.sse import LONGEST_EVENT
from proxy.streams.numbering import Numbering, after, last_number

from tests.examples import examples

STREAM = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
LINES = st.sampled_from(
    [
        *(b"data: {}", b"data:x", b"data", b": a comment", b":", b"id: of the server", b"id", b"event: delta"),
        *(b"retry: 5", b"data: id: 01ARZ3NDEKTSV4RRFFQ69G5FAV.1", b"other: id: x"),
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


def block(lines: list[bytes], end: bytes, blanks: int) -> bytes:
    return b"".join(line + end for line in lines) + end * blanks


def stream_of(blocks: list[bytes], rest: bytes) -> bytes:
    return b"".join(blocks) + rest


BLOCKS = st.builds(block, st.lists(LINES, min_size=1, max_size=4), ENDS, st.integers(1, 3))
STREAMS = st.builds(stream_of, st.lists(BLOCKS, max_size=5), LINES | st.just(b""))

CUTS = st.lists(st.integers(0, 400), max_size=6)
HELD = st.sampled_from([LONGEST_EVENT, LONGEST_EVENT, 0, 3, 12])
"""Bytes of an event that are held: of a larger one the beginning passes before its end has come."""


def read(stream: bytes) -> list[tuple[str, list[str]]]:
    """The events of a stream as the standard reads them, the last one although its blank line may be missing."""
    found: list[tuple[str, list[str]]] = []
    name, data = "", list[str]()
    for line in [*re.split(r"\r\n|\n|\r", stream.decode()), ""]:
        field, _, value = line.partition(":")
        if not line and data:
            found.append((name, data))
        if not line:
            name, data = "", []
        elif field == "data":
            data.append(value.removeprefix(" "))
        elif field == "event":
            name = value.removeprefix(" ")
    return found


def numbered(stream: bytes, cuts: Sequence[int], held: int = LONGEST_EVENT) -> list[bytes]:
    numbering = Numbering(STREAM, held)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    pieces = [numbering.feed(stream[a:b]) for a, b in itertools.pairwise(places)]
    return [*pieces, numbering.end()]


@settings(max_examples=examples(60))
@given(STREAMS, CUTS, HELD)
def test_events_stay_what_they_are_and_each_has_its_id(stream: bytes, cuts: list[int], held: int) -> None:
    found = b"".join(numbered(stream, cuts, held))

    assert read(found) == read(stream)
    lines = re.split(rb"\r\n|\n|\r", found)
    ids = [line for line in lines if line.startswith(f"id: {STREAM}.".encode())]
    assert ids == [f"id: {STREAM}.{number}".encode() for number in range(1, len(ids) + 1)]
    assert last_number(found, STREAM) == len(ids)


@settings(max_examples=examples(40))
@given(STREAMS, CUTS, HELD)
def test_each_blank_line_ends_an_event_that_has_our_id_last(stream: bytes, cuts: list[int], held: int) -> None:
    """An SDK takes each blank line for an event once it has seen an id, and fails on one without data."""
    *lines, last = re.split(rb"\r\n|\n|\r", b"".join(numbered(stream, cuts, held)))

    assert last == b""
    for before, line in itertools.pairwise([b"", *lines]):
        assert (line == b"") == before.startswith(f"id: {STREAM}.".encode())


@settings(max_examples=examples(40))
@given(STREAMS, CUTS, HELD)
def test_all_but_ids_and_blank_lines_are_the_bytes_of_the_server(stream: bytes, cuts: list[int], held: int) -> None:
    found = re.sub(rb"(?<![^\r\n])id: %b\.[0-9]+\n" % STREAM.encode(), b"", b"".join(numbered(stream, cuts, held)))

    assert re.split(rb"[\r\n]+", found.strip(b"\r\n")) == re.split(rb"[\r\n]+", stream.strip(b"\r\n"))


@settings(max_examples=examples(40))
@given(STREAMS, CUTS, HELD)
def test_what_came_before_an_event_and_what_comes_after_are_the_whole(
    stream: bytes, cuts: list[int], held: int
) -> None:
    found = b"".join(numbered(stream, cuts, held))

    for number in range(1, last_number(found, STREAM) + 1):
        rest = after(found, STREAM, number)
        assert last_number(found[: len(found) - len(rest)], STREAM) == number
        assert found.endswith(rest)
        assert not rest.startswith((b"\r", b"\n"))
    assert after(found, STREAM, last_number(found, STREAM) + 1) == b""


@pytest.mark.parametrize(
    ("stream", "seen"),
    [
        (b"data: a\n\n", b"data: a\nid: S.1\n\n"),
        (b"id: 7\ndata: a\n\n", b"id: 7\ndata: a\nid: S.1\n\n"),
        (b"data: a\r\n\r\n", b"data: a\r\nid: S.1\n\r\n"),
        (b": busy\n\ndata: a\n\n", b": busy\ndata: a\nid: S.1\n\n"),
        (b"data: a\n\n: receipt {}\n\n", b"data: a\nid: S.1\n\n: receipt {}\nid: S.2\n\n"),
        (b"data: [DONE]", b"data: [DONE]\nid: S.1\n\n"),
        (b"data: [DONE]\n", b"data: [DONE]\nid: S.1\n\n"),
        (b"\n\n", b""),
        (b"", b""),
    ],
)
def test_the_form_of_an_id(stream: bytes, seen: bytes) -> None:
    numbering = Numbering("S")

    assert numbering.feed(stream) + numbering.end() == seen


class Quick(Numbering):
    """Does not look at events one by one."""

    def _numbered(self, event: bytes) -> bytes:
        raise AssertionError(event)


@pytest.mark.parametrize("count", [1, 2, 50])
def test_events_as_most_servers_send_them_are_not_looked_at_one_by_one(count: int) -> None:
    blocks = [b"event: a\ndata: %d" % number for number in range(1, count + 1)]
    found = Quick("S").feed(b"".join(block + b"\n\n" for block in blocks))
    assert found == b"".join(b"%b\nid: S.%d\n\n" % (block, number) for number, block in enumerate(blocks, 1))


@pytest.mark.parametrize("odd", [b"data: a\r\n\r\n", b": a\n\n", b"data: a\n\n\n\n", b"data: a\n\n\ndata: b\n\n"])
def test_other_events_are(odd: bytes) -> None:
    with pytest.raises(AssertionError):
        Quick("S").feed(odd)


def test_an_event_that_is_too_large_to_be_held_passes_in_pieces_and_has_its_id_at_its_end() -> None:
    numbering = Numbering("S")
    large = b"data: " + b"x" * (16 * 1024 * 1024)
    pieces = [numbering.feed(piece) for piece in (large, b"y" * 10, b"\n\n", b"data: b\n\n")]

    assert pieces[0] == large, "memory stays bounded"
    assert b"".join(pieces[1:]) == b"y" * 10 + b"\nid: S.1\n\n" + b"data: b\nid: S.2\n\n"
