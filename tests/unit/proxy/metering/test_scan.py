"""What is found in the bytes of a stream without reading them as JSON: exactly where it stands, and nothing like it."""

import json
from typing import Any

import pytest
from proxy.metering.scan import find_end_of_chat, is_ping, is_unusual
from proxy.metering.sse import EventFrames


@pytest.mark.parametrize(
    ("data", "is_one"),
    [
        (b'{"type": "ping"}', True),
        (b'{"type":"ping"}', True),
        (b' { "type" : "ping" } ', True),
        (b'{"type": "ping", "cost": "0.1"}', False),
        (b'{"delta": {"text": "ping"}}', False),
        (b'{"type": "pong"}', False),
        (b'["ping"]', False),
        (b"ping", False),
        (b"", False),
    ],
)
def test_a_ping_says_nothing_else(data: bytes, is_one: bool) -> None:
    assert is_ping(data) is is_one


def event(**fields: object) -> bytes:
    return b"data: " + json.dumps(fields, separators=(",", ":")).encode() + b"\n\n"


PIECE = event(choices=[{"index": 0, "delta": {"content": "word " * 9}, "finish_reason": None}])
NOTHING: dict[str, Any] = {}
LAST = event(choices=[{"index": 0, "delta": NOTHING, "finish_reason": "stop"}])
USAGE = event(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 9})


@pytest.mark.parametrize("pieces", [20, 21, 40])
@pytest.mark.parametrize("one_choice", [True, False])
def test_the_end_of_a_chat_begins_where_an_event_begins(pieces: int, one_choice: bool) -> None:
    events = PIECE * pieces + LAST + USAGE
    since = find_end_of_chat(events, has_names=False, one_choice=one_choice)
    assert 0 < since <= len(PIECE) * pieces
    assert events[since - 2 : since] == b"\n\n"
    assert events.startswith(b"data: ", since)
    for lacks in (PIECE * pieces + USAGE, PIECE * pieces + LAST, events + event(error={"message": "no"})):
        assert find_end_of_chat(lacks, has_names=False, one_choice=one_choice) == 0
    assert find_end_of_chat(events, has_names=True, one_choice=one_choice) == 0


def test_nothing_is_inside_an_event_before_anything_has_come_or_after_one_has_ended() -> None:
    frames = EventFrames(max_held=10)
    assert not frames.is_inside
    assert (frames.whole(b"data: a"), frames.is_inside) == (b"", False)
    assert (frames.whole(b"bcdef"), frames.is_inside) == (b"data: abcdef", True)
    assert (frames.whole(b"\n\n"), frames.is_inside) == (b"\n\n", False)


UNUSUAL = [
    b'data: {"base_resp": {"status_code": 1004}}\n\n',
    b"event: error\ndata: {}\n\n",
    b"event:error\ndata: {}\n\n",
    b"event: response.failed\ndata: {}\n\n",
    b"event: response.error\ndata: {}\n\n",
]


@pytest.mark.parametrize("unusual", UNUSUAL)
@pytest.mark.parametrize("place", range(3))
def test_what_only_errors_say_is_seen_wherever_it_stands(unusual: bytes, place: int) -> None:
    events = [PIECE, LAST]
    assert not is_unusual(b"".join(events))
    events.insert(place, unusual)
    assert is_unusual(b"".join(events))
