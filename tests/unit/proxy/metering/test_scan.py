"""What is found in the bytes of a stream without reading them as JSON: exactly where it stands, and nothing like it."""

import itertools
import json
from typing import Any

import pytest
from proxy.metering import scan
from proxy.metering.meter import AnswerTraits, Meter
from proxy.metering.scan import find_end_of_chat, is_odd, is_ping, is_unusual, look_for_odd_events, worth_reading
from proxy.metering.sse import EventFrames, find_events, split_events


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
    assert find_end_of_chat(LAST + events, has_names=False, one_choice=one_choice) == (one_choice and len(LAST) + since)


def test_nothing_is_inside_an_event_before_anything_has_come_or_after_one_has_ended() -> None:
    frames = EventFrames(max_held=10)
    assert not frames.is_inside
    assert (frames.whole(b"data: a"), frames.is_inside) == (b"", False)
    assert (frames.whole(b"bcdef"), frames.is_inside) == (b"data: abcdef", True)
    assert (frames.whole(b"\n\n"), frames.is_inside) == (b"\n\n", False)


@pytest.mark.parametrize("one_choice", [True, False])
def test_a_reason_that_is_no_utf_8_is_one_with_marks_in_it(one_choice: bool) -> None:
    """Nothing that a server sends ends the stream that it comes in."""
    broken = LAST.replace(b"stop", b"st\xffp")
    assert scan.finish_reasons_in(PIECE + broken) == ["st\ufffdp"]
    meter = Meter("text/event-stream", True, AnswerTraits(one_choice=one_choice))
    assert meter.see(PIECE + broken) == PIECE + broken
    assert meter.finish_reasons == ["st\ufffdp"]


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


def named(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\n".encode() + event(type=kind, **fields)


START, WORD = named("message_start", message=NOTHING), named("content_block_delta", delta={"text": "word"})
SAID, STOP = named("message_delta", usage={"output_tokens": 5}), named("message_stop")
SAYS_ERROR = b'data: {"a": {"error": 1}}\n\n'


@pytest.mark.parametrize(
    ("events", "begins_at"),
    [
        ([START, WORD, SAID, STOP], 2),
        ([START, SAID, WORD, SAID, STOP], 3),
        ([START, WORD], 0),
        ([WORD, STOP], 0),
        ([WORD, WORD], 2),
        ([START, SAYS_ERROR, WORD, SAID], 0),
        ([START, WORD, SAID, SAYS_ERROR], 0),
        *(([START, unusual, WORD, SAID], 0) for unusual in UNUSUAL),
        *(([START, SAYS_ERROR, unusual, SAID], 0) for unusual in UNUSUAL),
    ],
)
def test_of_messages_what_was_said_last_is_read_unless_anything_is_unusual(events: list[bytes], begins_at: int) -> None:
    run = b"".join(events)
    pattern, since = worth_reading(run, 0, is_message=True)
    assert since == len(b"".join(events[:begins_at]))
    found = [run[start:end] for start, end in find_events(pattern, run, since)]
    assert [each for each in found if each in (START, SAID, STOP)] == [
        each for each in events[begins_at:] if each in (START, SAID, STOP)
    ]
    assert worth_reading(run, 7, is_message=False)[1] == 7


@pytest.mark.parametrize("line_end", [b"\n", b"\n\n"])
@pytest.mark.parametrize("size", [1000, 4095, 4096])
def test_the_sample_of_a_stream_is_its_beginning_in_whole_lines(line_end: bytes, size: int) -> None:
    line = b"data: " + b"x" * (size - 6 - len(line_end)) + line_end
    run = line * (40_000 // size) + b"\n\n"
    meter = Meter("text/event-stream", uses_tokens=False)
    meter.see(run)
    sample, factor = meter.sample
    whole = 32 * 1024 // size
    assert run.startswith(sample)
    assert sample.rstrip(b"\n") == (line * whole).rstrip(b"\n")
    assert factor == len(run) / len(sample)


@pytest.mark.parametrize("size", [32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1])
def test_a_sample_has_all_of_a_stream_that_is_no_longer(size: int) -> None:
    run = b"data: a\n\ndata: " + b"x" * (size - 15)
    meter = Meter("text/event-stream", uses_tokens=False)
    meter.see(run)
    assert meter.sample[0] == (run if size <= 32 * 1024 else b"data: a\n\n")


@pytest.mark.parametrize("events", [b"", PIECE, PIECE * 30, event(choices=[], note="finish_reason")])
def test_where_no_reason_stands_none_is_looked_for_slowly(events: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_FINISH_REASON", None)
    assert scan.has_finish_reason(events.replace(b'"finish_reason": null', b'"reason": null'), len(events)) is False


@pytest.mark.parametrize("before", [b"", b"\n", b"\n\n", b"\r\n\r\n", b"\r\r", PIECE])
@pytest.mark.parametrize("known", [None, "default"])
def test_the_event_that_names_another_tier_begins_where_an_event_begins(before: bytes, known: str | None) -> None:
    named_by = event(choices=[], service_tier="flex")
    assert scan.last_other_tier(before + named_by + PIECE, known).lstrip(b"\n") == named_by
    assert scan.last_other_tier(before + named_by + PIECE, "flex") == b""


def delta(kind: str, place: int = 0) -> bytes:
    return named(f"response.{kind}.delta", item_id="i", output_index=place, delta="word")


FAULT = b"event: trouble\ndata: {}\n\n"
OF_RESPONSES = (delta("output_text"), delta("output_text", 1), delta("refusal"), FAULT, b"data: fault\n\n")
OF_MESSAGES = (WORD, named("content_block_stop", index=0), named("ping"), FAULT, b"data: fault\n\n")
OF_CHATS = (PIECE, LAST, event(id="c", choices=[{"index": 1}]), FAULT, b"data: fault\n\n")


@pytest.mark.parametrize("kinds", [OF_RESPONSES, OF_MESSAGES, OF_CHATS], ids=["responses", "messages", "chats"])
def test_a_run_of_events_is_looked_over_as_if_each_were_looked_at(kinds: tuple[bytes, ...]) -> None:
    for events in itertools.chain.from_iterable(itertools.product(kinds, repeat=count) for count in range(1, 6)):
        ends = list(itertools.accumulate(map(len, events)))
        odd = [(end - len(each), end) for each, end in zip(events, ends, strict=True) if is_odd(each)]
        run = b"".join(events)
        assert [each for each in look_for_odd_events(run).odd if is_odd(run[slice(*each)])] == odd, events
        assert list(split_events(run)) == list(events)


@pytest.mark.parametrize(
    "kinds", [OF_RESPONSES[:3], OF_MESSAGES[:3], OF_CHATS[:3]], ids=["responses", "messages", "chats"]
)
def test_no_event_of_a_usual_run_is_looked_at_alone(kinds: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[bytes] = []
    monkeypatch.setattr(scan, "is_odd", looked_at.append)
    first, *others = kinds
    for other in others:
        look_for_odd_events(first * 3 + other + first)
        look_for_odd_events(first * 3 + other * (other != named("ping")))
        look_for_odd_events(first + other * 2 + first * 2 + b"data: [DONE]\n\n")
    assert looked_at == []
    look_for_odd_events(first + FAULT + first)
    assert FAULT in looked_at


@pytest.mark.parametrize("place", range(4))
def test_a_name_is_seen_at_whatever_place_of_a_chat(place: int) -> None:
    pieces = [OF_CHATS[0]] * 3
    assert not look_for_odd_events(b"".join(pieces)).has_names
    pieces.insert(place, b"event: error\n" + OF_CHATS[0])
    assert look_for_odd_events(b"".join(pieces)).has_names


NAME_ALONE, FAULT_BELOW_A_NAME = b"event: response.x\n\n", b"id: 1\nevent: response.x\ndata: fault\n\n"


@pytest.mark.parametrize(
    ("before", "odd", "names"),
    [(b"", FAULT_BELOW_A_NAME, 1), (b"", FAULT_BELOW_A_NAME, 2), (b"", b"data: fault\n\n", 3)]
    + [(delta("output_text"), b"data: fault\n\n", count) for count in (1, 3, 4)],
)
def test_an_event_without_data_does_not_hide_one_that_is_odd(before: bytes, odd: bytes, names: int) -> None:
    found = look_for_odd_events(before + odd + NAME_ALONE * names).odd
    assert (len(before), len(before + odd)) in found


@pytest.mark.parametrize(("numbers", "following"), [([], 0), ([0], 1), ([7], 8), ([7, 3], 4)])
def test_the_next_number_is_that_after_the_last_one(numbers: list[int], following: int) -> None:
    events = b"".join(event(type="response.x", sequence_number=number) for number in numbers)
    assert scan.next_sequence_number(events) == following
