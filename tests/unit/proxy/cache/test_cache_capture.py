"""Captures stay within their bounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.cache.capture import Capture

MOST_MARKS = 128


@settings(deadline=None)
@given(pieces=st.lists(st.binary(max_size=40), max_size=400), largest=st.integers(0, 4000))
def test_a_capture_is_the_whole_body_or_nothing(pieces: list[bytes], largest: int) -> None:
    capture = Capture(largest)
    assert list(capture.watch(pieces)) == pieces
    whole = b"".join(pieces)
    assert capture.size == len(whole)
    assert b"".join(capture.pieces) == (whole if len(whole) <= largest else b"")
    assert len(capture.timing) <= MOST_MARKS
    assert all(begin < capture.size for begin, _ in capture.timing)


def test_a_body_that_grows_too_large_is_let_go_at_once() -> None:
    capture = Capture(100)
    for _ in range(3):
        capture.take(b"x" * 40)
    assert capture.is_too_large
    assert (capture.pieces, capture.timing) == ([], [])


@pytest.mark.parametrize("count", [1, MOST_MARKS, MOST_MARKS + 1, 1000, 10_000])
def test_marks_are_spread_over_the_whole_body_and_say_when_pieces_came(count: int) -> None:
    now = [5.0]
    capture = Capture(10**9, lambda: now[0])
    for _ in range(count):
        capture.take(b"four")
        now[0] += 0.01
    every = next(2**n for n in range(20) if len(range(0, count, 2**n)) <= MOST_MARKS)
    assert [begin for begin, _ in capture.timing] == [4 * place for place in range(0, count, every)]
    assert all(abs(passed - begin // 4 * 10) <= 1 for begin, passed in capture.timing)
