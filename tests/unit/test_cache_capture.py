"""Captures stay within their bounds, and tell whole answers from others."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.capture import MOST_MARKS, Capture, is_complete


@settings(deadline=None)
@given(pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=400), largest=st.integers(0, 4000))
def test_a_capture_is_the_whole_body_or_nothing(pieces: list[bytes], largest: int) -> None:
    capture = Capture(largest)
    assert list(capture.watch(pieces)) == pieces
    whole = b"".join(pieces)
    assert capture.size == len(whole)
    assert b"".join(capture.pieces) == (whole if len(whole) <= largest else b"")
    assert len(capture.timing) <= MOST_MARKS


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
    offsets = [begin for begin, _ in capture.timing]
    assert offsets[0] == 0
    assert all(begin % 4 == 0 and abs(passed - begin // 4 * 10) <= 1 for begin, passed in capture.timing)
    assert min(count, MOST_MARKS // 2) <= len(offsets) <= MOST_MARKS
    assert offsets[-1] >= 4 * count - 2 * (4 * count) // len(offsets)
    assert offsets == sorted(set(offsets))


CHAT, TEXT, RESPONSES, EMBEDDINGS = "/chat/completions", "/completions", "/responses", "/embeddings"


@pytest.mark.parametrize(
    ("path", "fields", "reasons", "is_whole"),
    [
        (CHAT, {}, ["stop"], True),
        (CHAT, {}, ["length"], True),
        (CHAT, {}, ["tool_calls"], True),
        (CHAT, {}, ["function_call"], True),
        (CHAT, {}, ["content_filter"], False),
        (CHAT, {}, ["never_heard_of"], False),
        (CHAT, {}, [], False),
        (CHAT, {"n": 2}, ["stop"], False),
        (CHAT, {"n": 2}, ["stop", "stop"], True),
        (CHAT, {"n": 2}, ["stop", "content_filter"], False),
        (TEXT, {"prompt": ["a", "b"]}, ["stop"], False),
        (TEXT, {"prompt": ["a", "b"], "n": 2}, ["stop"] * 4, True),
        (TEXT, {"prompt": [1, 2]}, ["stop"], True),
        (RESPONSES, {}, ["completed"], True),
        (RESPONSES, {}, ["incomplete"], False),
        (RESPONSES, {}, ["failed"], False),
        (RESPONSES, {}, [], False),
    ],
)
def test_an_answer_is_whole_when_each_choice_came_to_its_own_end(
    path: str, fields: dict[str, Any], reasons: list[str], is_whole: bool
) -> None:
    assert is_complete(path, fields, [b"{}"], reasons, is_stream=False) is is_whole


@pytest.mark.parametrize(
    ("pieces", "is_whole"),
    [
        ([b"data: {}\n\n", b"data: [DONE]\n\n"], True),
        ([b"data: {}\n\ndata: [DO", b"NE]\r\n\r\n"], True),
        ([b"data: [DONE]", b"\n", b"\n"], True),
        ([b"data: {}\n\n"], False),
        ([b"data: [DONE]\n\n", b"data: {}\n\n"], False),
        ([], False),
    ],
)
def test_a_stream_of_chat_ends_in_its_end_mark(pieces: list[bytes], is_whole: bool) -> None:
    assert is_complete(CHAT, {}, pieces, ["stop"], is_stream=True) is is_whole


@pytest.mark.parametrize(
    ("given_input", "body", "is_whole"),
    [
        ("a", b'{"data": [{"embedding": [1]}]}', True),
        (["a", "b"], b'{"data": [{"embedding": [1]}, {"embedding": "AA=="}]}', True),
        ([[1], [2]], b'{"data": [{"embedding": [1]}]}', False),
        ("a", b'{"data": [{"embedding": []}]}', False),
        ("a", b'{"data": [{"embedding": [1]}], "error": {"message": "x"}}', False),
        ("a", b'{"data": [{"embedding": [1', False),
        ("a", b"[]", False),
    ],
)
def test_embeddings_are_whole_when_each_input_has_one(given_input: Any, body: bytes, is_whole: bool) -> None:
    pieces = [body[:10], body[10:]]
    assert is_complete(EMBEDDINGS, {"input": given_input}, pieces, [], is_stream=False) is is_whole
