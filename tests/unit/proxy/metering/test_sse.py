"""Cutting streams at the ends of events, whatever their line ends and however they are chunked."""

import re
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from proxy.metering.sse import EventFrames, data_of, end_of_event, find_events, name_of, split_events

BYTES = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"data: x", b":", b"a", b"\n\n", b"\xc3\xbc"])).map(b"".join)


def chunked(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


@given(BYTES, st.lists(st.integers(0, 1000)), st.integers(1, 50))
def test_what_goes_in_comes_out_in_order_whatever_the_chunks(data: bytes, cuts: list[int], max_held: int) -> None:
    frames = EventFrames(max_held)
    assert b"".join(frames.whole(chunk) for chunk in chunked(data, cuts)) + frames.rest() == data


@given(BYTES, st.lists(st.integers(0, 1000)))
def test_only_whole_events_leave_before_the_end(data: bytes, cuts: list[int]) -> None:
    frames = EventFrames()
    for chunk in chunked(data, cuts):
        passed = frames.whole(chunk)
        assert not passed or passed.endswith((b"\n\n", b"\r\r", b"\n\r", b"\n\r\n", b"\r\r\n"))


@given(BYTES)
def test_nothing_whole_is_held_back(data: bytes) -> None:
    frames = EventFrames()
    frames.whole(data)
    assert len(split_events(frames.rest())) <= 1


def test_one_byte_chunks_leave_as_events() -> None:
    frames = EventFrames()
    stream = b"data: a\r\n\r\ndata: b\n\n: ping\n\nleft"
    passed = [frames.whole(stream[index : index + 1]) for index in range(len(stream))]
    assert [piece for piece in passed if piece] == [b"data: a\r\n\r", b"\ndata: b\n\n", b": ping\n\n"]
    assert frames.rest() == b"left"


def test_an_event_larger_than_the_limit_is_passed_on_in_pieces() -> None:
    frames = EventFrames(max_held=10)
    assert frames.whole(b"data: 45") == b""
    assert frames.whole(b"789") == b"data: 45789"
    assert frames.whole(b"\n\n") == b"\n\n"


def test_splitting_keeps_every_byte() -> None:
    assert split_events(b"a\n\nb\r\n\r\nc\r\rd") == [b"a\n\n", b"b\r\n\r\n", b"c\r\r", b"d"]
    assert split_events(b"") == []


def test_data_lines_are_joined_and_comments_and_names_left_out() -> None:
    assert data_of(b'data: {"a":1}\n\n') == b'{"a":1}'
    assert data_of(b": ping\nevent: x\ndata:one\r\ndata: two\rid: 3\n\n") == b"one\ntwo"
    assert data_of(b": ping\n\n") == b""


@given(st.lists(st.sampled_from([b"a", b"x1", b"\n", b"\n\n", b"\r\n", b"\r", b"data: ", b"x"])).map(b"".join))
def test_events_are_found_as_if_each_were_searched(run: bytes) -> None:
    pattern = re.compile(rb"x1")
    places = find_events(pattern, run)
    # Blank lines before an event belong to no event: they may be cut off with it, or be left where they are.
    found = [run[start:end].lstrip(b"\r\n") for start, end in places]
    assert found == [event.lstrip(b"\r\n") for event in split_events(run) if pattern.search(event)]
    assert places == sorted(places)


@given(BYTES)
@example(b"\n\ndata: x\n\n:")
@example(b"\r\rdata: x\r\r")
def test_where_an_event_ends_is_where_a_run_is_cut(run: bytes) -> None:
    found, position = list[bytes](), 0
    while position < len(run):
        end = end_of_event(run, position)
        found.append(run[position:end])
        position = end
    assert found == split_events(run)


@given(
    st.sampled_from([b"\n", b"\r\n", b"\r"]), st.lists(st.sampled_from([b"a", b"error", b""]), min_size=1, max_size=3)
)
def test_a_byte_order_mark_before_the_first_line_is_no_part_of_it(line_end: bytes, data: list[bytes]) -> None:
    lines = line_end.join([b"event: x", *(b"data: " + each for each in data), b"", b""])
    for start in (b"", b"\xef\xbb\xbf"):
        assert (data_of(start + lines), name_of(start + lines)) == (b"\n".join(data), "x")
        assert data_of(start + lines.removeprefix(b"event: x" + line_end)) == b"\n".join(data)


@pytest.mark.parametrize("names", [(), ("a",), ("a", "b"), ("b", "", "c")])
def test_of_several_names_of_an_event_the_last_counts(names: tuple[str, ...]) -> None:
    event = b"".join(b"event: %b\n" % name.encode() for name in names) + b"data: x\n\n"
    assert name_of(event) == (names[-1] if names else "")
