"""Errors inside a stream: seen wherever and however they come, and never at the cost of reading every event."""

import itertools
import json
import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.json_shapes import loads_or_none
from proxy.metering.meter import AnswerTraits, Meter
from proxy.metering.scan import is_odd, look_for_odd_events
from proxy.metering.sse import EventFrames, split_events
from proxy.metering.whole_answer import flaw_of

from tests.error_forms import own_forms
from tests.examples import examples
from tests.recordings import STREAMS, recorded

USAGE = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
FACTS: dict[str, Any] = {"id": "c-1", "object": "chat.completion.chunk", "model": "m-1"}


def event(document: Any, name: str = "", *, compact: bool = True) -> bytes:
    separators = (",", ":") if compact else None
    named = f"event: {name}\n" if name else ""
    return f"{named}data: {json.dumps(document, separators=separators)}\n\n".encode()


def chunk(text: str = "", finish: str | None = None, **more: object) -> bytes:
    return event({**FACTS, "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}], **more})


HIDDEN = event({**FACTS, "choices": [], "usage": USAGE})
DONE = b"data: [DONE]\n\n"
ERRORS = [
    event({"error": "text"}),
    event({"error": "text"}, compact=False),
    event({"error": {"message": "m"}}, "error"),
    event({"code": "x", "message": "m"}, "error"),
    b"event:error\ndata: no JSON\n\n",
    b"data: m\nevent: error\n\n",
    event({**FACTS, "error": "text", "choices": [{"index": 0, "finish_reason": "error"}]}),
    event({**FACTS, "choices": [{"index": 1, "error": {"message": "m"}, "finish_reason": "stop"}]}),
    event({**FACTS, "choices": [{"index": 0, "finish_reason": "error"}]}),
    event({"type": "error", "code": "x", "message": "m"}),
    event({"type": "response.failed", "response": {"object": "response", "status": "failed", "error": None}}),
    event([{"error": {"message": "m"}}]),
    b'data: {"error":\ndata: "text"}\n\n',
    b'data: {"error" : \t"text"}\n\n',
]
BARE = [
    event({"code": 500, "message": "m"}),
    event({"base_resp": {"status_code": 1004, "status_msg": "m"}}),
    event({"success": False, "message": "m"}),
]
ORDINARY = [
    chunk("word " * 40),
    chunk(json.dumps({"error": "text"}) + "\nevent: error\n"),
    chunk("event: error"),
    chunk("", error=None),
    chunk("", error={}),
    chunk("", error=""),
    chunk("", error=False),
    b": error\n\n",
    event({**FACTS, "choices": [], "usage": None}),
]


def meter_of(events: bytes, cut: int, *, one_choice: bool, hides: bool) -> Meter:
    meter = Meter(
        "text/event-stream", True, AnswerTraits(has_terminator=True, one_choice=one_choice, hides_usage=hides)
    )
    frames = EventFrames()
    for start in range(0, len(events), cut):
        if whole := frames.whole(events[start : start + cut]):
            meter.see(whole)
    if rest := frames.rest():
        meter.see(rest)
    meter.end()
    return meter


WITH_ENDS = st.tuples(
    st.lists(st.sampled_from(ORDINARY), max_size=12),
    st.lists(st.sampled_from(ORDINARY), max_size=12),
    st.sampled_from([b"", chunk("", "stop"), chunk("", "stop") + HIDDEN, HIDDEN]),
    st.sampled_from([b"", DONE]),
)
LINE_ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
CUTS = st.sampled_from([50, 3000, 10**6])


@settings(max_examples=examples(30))
@given(WITH_ENDS, st.sampled_from(ERRORS), LINE_ENDS, CUTS, st.booleans(), st.booleans())
def test_an_error_is_seen_wherever_it_stands(
    around: tuple[list[bytes], list[bytes], bytes, bytes],
    error: bytes,
    line_end: bytes,
    cut: int,
    one_choice: bool,
    hides: bool,
) -> None:
    before, after, end, done = around
    events = b"".join([*before, error, *after, end, done]).replace(b"\n", line_end)
    meter = meter_of(events, cut, one_choice=one_choice, hides=hides)
    assert meter.error is not None
    assert not meter.is_cut


@settings(max_examples=examples(20))
@given(WITH_ENDS, st.sampled_from(BARE), st.booleans(), st.booleans())
def test_a_bare_error_is_seen_at_the_end(
    around: tuple[list[bytes], list[bytes], bytes, bytes], error: bytes, one_choice: bool, hides: bool
) -> None:
    before, _, end, done = around
    for events in ([*before, end, error, done], [*before, error, end, done]):
        assert meter_of(b"".join(events), 10**6, one_choice=one_choice, hides=hides).error


@settings(max_examples=examples(30))
@given(WITH_ENDS, LINE_ENDS, CUTS, st.booleans(), st.booleans())
def test_where_there_is_none_none_is_seen(
    around: tuple[list[bytes], list[bytes], bytes, bytes], line_end: bytes, cut: int, one_choice: bool, hides: bool
) -> None:
    before, after, end, done = around
    events = b"".join([*before, *after, end, done]).replace(b"\n", line_end)
    meter = meter_of(events, cut, one_choice=one_choice, hides=hides)
    assert meter.error is None
    assert meter.is_cut == (not done and b'"stop"' not in end)


def test_the_first_error_is_the_one_that_is_told() -> None:
    events = chunk("a") + event({"error": {"message": "first", "code": 503}}) + event({"error": "second"}) + DONE
    error = meter_of(events, 10**6, one_choice=True, hides=True).error
    assert error == ("first", "503", 503)


def decoded_by(run: Callable[[], object]) -> int:
    """How many documents are decoded while `run` runs."""
    return calls_of(loads_or_none, run)


def calls_of(function: Callable[..., object], run: Callable[[], object]) -> int:
    """How often a `function` is called while `run` runs."""
    calls = 0

    def count(frame: FrameType, kind: str, _: object) -> None:
        nonlocal calls
        calls += kind == "call" and frame.f_code is function.__code__

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(
    ("hides", "one_choice", "most"),
    [(True, True, 1), (False, True, 3), (False, False, 3)],
)
def test_of_an_ordinary_stream_only_the_last_events_are_decoded(hides: bool, one_choice: bool, most: int) -> None:
    word = chunk('An error, said the model, is no "error" of the server\'s. event: error? ')
    pieces = [word] * 200 + [chunk("", "stop"), HIDDEN, DONE]

    def read() -> None:
        meter = Meter(
            "text/event-stream", True, AnswerTraits(has_terminator=True, one_choice=one_choice, hides_usage=hides)
        )
        for piece in pieces:
            meter.see(piece)
        meter.end()
        assert (meter.usage.output_tokens, meter.finish_reasons, meter.error, meter.is_cut) == (
            20,
            ["stop"],
            None,
            False,
        )

    pieces = [piece.replace(b"event: error", b"event error") for piece in pieces]
    assert decoded_by(read) <= most


def test_of_chunks_that_say_there_is_no_error_none_is_decoded_for_it() -> None:
    pieces = [chunk("word", error=None)] * 200 + [chunk("", "stop", error=None), HIDDEN, DONE]
    assert decoded_by(lambda: meter_of(b"".join(pieces), 10**6, one_choice=True, hides=False).error) <= 4


@pytest.mark.parametrize("reasons", [[""], ["", ""], [None, ""], [None]])
@pytest.mark.parametrize("one_choice", [True, False])
def test_a_stream_that_never_says_why_it_ends_is_cut(reasons: list[str | None], one_choice: bool) -> None:
    events = b"".join(chunk("a" * 100, reason) for reason in reasons * 500)
    for cut in (100, 10**6):
        assert meter_of(events, cut, one_choice=one_choice, hides=True).is_cut
        assert not meter_of(events + DONE, cut, one_choice=one_choice, hides=True).is_cut
        assert not meter_of(events + chunk("", "length"), cut, one_choice=one_choice, hides=True).is_cut


@pytest.mark.parametrize(("end", "facts_first"), [(b'"}, "finish_reason": ""}]}\n\n', True), (b"", False)])
def test_an_event_of_30_mb_is_no_end_and_takes_bounded_memory(end: bytes, facts_first: bool) -> None:
    facts = b'"object": "chat.completion.chunk", ' if facts_first else b""
    meter = Meter("text/event-stream", True, AnswerTraits(has_terminator=True, one_choice=True, hides_usage=True))
    frames, passed = EventFrames(), 0
    word = b"word " * 13_000

    def see(piece: bytes) -> None:
        nonlocal passed
        if whole := frames.whole(piece):
            passed += len(meter.see(whole))

    tracemalloc.start()
    try:
        see(b"data: {" + facts + b'"choices": [{"delta": {"content": "')
        for _ in range(480):
            see(bytes(bytearray(word)))
        see(end) if end else None
        if rest := frames.rest():
            meter.see(rest)
        meter.end()
        assert meter.is_cut
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert meter.size > 30_000_000
    assert passed > 16_000_000
    assert peak < 100_000_000


RECORDED = [entry for entry in recorded() if entry["file"].endswith(".sse")]
PATHS = {entry["file"]: f"/{entry['endpoint']}" for entry in RECORDED}


@pytest.mark.parametrize("entry", RECORDED, ids=lambda entry: entry["file"])
@settings(max_examples=examples(6))
@given(st.data())
def test_an_error_in_any_form_is_seen_at_any_place_of_any_stream(entry: dict[str, Any], data: st.DataObject) -> None:
    said = data.draw(st.text(min_size=1, max_size=80).filter(str.strip), label="said")
    form = data.draw(st.sampled_from(own_forms(said)), label="form")
    name = data.draw(st.sampled_from(["", "", "", "error", "exception", "message"]), label="event")
    error = event(form, name, compact=data.draw(st.booleans(), label="compact"))
    events = split_events((STREAMS / entry["file"]).read_bytes())
    place = data.draw(st.integers(0, len(events)), label="place")
    body = b"".join([*events[:place], error, *events[place:]])
    one_choice, hides = data.draw(st.booleans()), data.draw(st.booleans())
    meter = meter_of(body, data.draw(CUTS, label="cut"), one_choice=one_choice, hides=hides)
    assert meter.error is not None
    if entry.get("outcome", "InferenceCompleted") == "InferenceCompleted":
        assert said.strip() in meter.error.message
    assert flaw_of(PATHS[entry["file"]], {"prompt": "a", "n": None}, body, is_stream=True)


@pytest.mark.parametrize("entry", RECORDED, ids=lambda entry: entry["file"])
def test_no_recorded_stream_has_an_error_that_its_server_did_not_report(entry: dict[str, Any]) -> None:
    body = (STREAMS / entry["file"]).read_bytes()
    for form in (body, body.replace(b"\r\n", b"\n"), body.replace(b'":', b'": ').replace(b',"', b', "')):
        for cut in (300, len(body)):
            for one_choice, hides in itertools.product([True, False], repeat=2):
                meter = meter_of(form, cut, one_choice=one_choice, hides=hides)
                assert (meter.error is None) == ("outcome" not in entry)


TEXTS = ["Internal Server Error", "[ERROR] upstream timed out", "Error: the engine failed", "429 rate limit exceeded"]
NO_ERRORS = ["ping", "keep-alive", "[DONE]", " [DONE] ", "heartbeat", '{"error', "[", "still thinking"]


@pytest.mark.parametrize("text", TEXTS + NO_ERRORS)
def test_a_text_in_the_place_of_a_piece_is_an_error_if_it_names_a_fault(text: str) -> None:
    events = chunk("a") + f"data: {text}\n\n".encode() + chunk("an error", "stop") + HIDDEN + DONE
    for one_choice, hides in itertools.product([True, False], repeat=2):
        error = meter_of(events, 10**6, one_choice=one_choice, hides=hides).error
        assert (error and error.message) == (text if text in TEXTS else None)


NOTICES: list[dict[str, Any]] = [
    {"status": "in_progress", "message": "loading"},
    {"type": "ping"},
    {"type": "status", "message": "searching"},
    {"event": "heartbeat", "msg": "3 before you"},
    {"code": 0, "message": "success"},
    {"success": True, "message": "queued"},
    {"ok": True, "detail": "queued"},
    {"error_code": 0, "error_msg": "", "message": "ok"},
    {"usage": USAGE},
    {"model": "m-1", "message": {"role": "assistant", "content": "a"}, "done": False},
    {"type": "response.mcp_call.failed", "item_id": "i", "output_index": 0},
    {"id": "c-1", "object": "chat.completion.chunk", "usage": USAGE, "detail": "final"},
]


@pytest.mark.parametrize("notice", NOTICES)
def test_what_is_no_piece_and_no_error_is_none(notice: dict[str, Any]) -> None:
    events = b"".join([chunk("a"), event(notice), chunk("b", "stop"), HIDDEN, DONE])
    for one_choice, hides in itertools.product([True, False], repeat=2):
        meter = meter_of(events, 10**6, one_choice=one_choice, hides=hides)
        assert (meter.error, meter.is_cut, meter.usage.output_tokens) == (None, False, 20)


def test_only_what_is_no_piece_of_an_answer_is_looked_at() -> None:
    streams = {path.name: path.read_bytes() for path in STREAMS.glob("*.sse")}
    odd = {name: [body[start:end] for start, end in look_for_odd_events(body).odd] for name, body in streams.items()}
    found = {name: len(events) for name, events in odd.items() if events}
    reporting = {"anthropic-messages-error.sse": 1, "groq-chat-error.sse": 1}
    assert found == {"azure-chat.sse": 1, "mistral-transcription.sse": 1, **reporting}
    for body in streams.values():
        assert [each for each in split_events(body) if is_odd(each)] == [
            body[start:end] for start, end in look_for_odd_events(body).odd
        ]


SPOKEN = [entry for entry in RECORDED if not entry["endpoint"].startswith("audio")]


@pytest.mark.parametrize("entry", SPOKEN, ids=lambda entry: entry["file"])
def test_pieces_that_are_all_alike_are_not_looked_at(entry: dict[str, Any]) -> None:
    events = split_events((STREAMS / entry["file"]).read_bytes())
    named = b"event: response.", b"event: content_block_"
    pieces = [each for each in events if b'"choices":[{' in each or each.startswith(named)]
    pings = [each for each in events if each.startswith(b"event: ping")]
    long = b"".join([*events[:1], *([*[pieces[len(pieces) // 2]] * 50, *pings] * 10), *events[-2:]])
    assert calls_of(is_odd, lambda: look_for_odd_events(long)) <= 4
