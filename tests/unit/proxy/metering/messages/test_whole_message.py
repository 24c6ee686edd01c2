"""Messages that are proven whole: what a stream tells is the message, and what any part is missing from is not kept."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.cache.conversion import converted, is_possible
from proxy.metering.whole_answer import flaw_of
from proxy.metering.whole_message import events_of, message_of

from tests.recordings import STREAMS, recorded

TEXTS = st.text(max_size=8)
INPUTS = st.dictionaries(TEXTS, st.integers() | TEXTS, max_size=2)
BLOCKS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": TEXTS, "signature": TEXTS}),
    st.fixed_dictionaries({"type": st.just("tool_use"), "id": st.just("t"), "name": st.just("f"), "input": INPUTS}),
    st.just({"type": "redacted_thinking", "data": "abc"}),
)
REASONS = st.sampled_from(["end_turn", "max_tokens", "stop_sequence", "tool_use"])


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    content = draw(st.lists(BLOCKS, min_size=1, max_size=3))
    calls = any(block["type"] == "tool_use" for block in content)
    reason = "tool_use" if calls else draw(REASONS.filter(lambda each: each != "tool_use"))
    usage = {"input_tokens": draw(st.integers(0, 99)), "output_tokens": 7}
    return {"id": "msg", "type": "message", "role": "assistant", "model": "m", "content": content} | {
        "stop_reason": reason,
        "stop_sequence": "END" if reason == "stop_sequence" else None,
        "usage": usage,
    }


@given(messages())
def test_why_a_message_ended_is_told_at_its_end_and_not_before(message: dict[str, Any]) -> None:
    why = {name: message[name] for name in ("stop_reason", "stop_sequence")}
    begun, *_, told, over = events_of(message)
    assert begun == {"type": "message_start", "message": message | {"content": [], **dict.fromkeys(why)}}
    assert told == {"type": "message_delta", "delta": why, "usage": message["usage"]}
    assert over == {"type": "message_stop"}


def stream_of(events: list[dict[str, Any]]) -> bytes:
    return "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events).encode()


def flaw(body: bytes, *, is_stream: bool) -> str | None:
    return flaw_of("/messages", {}, body, is_stream=is_stream)


@given(message=messages())
def test_a_message_has_two_forms_that_say_the_same(message: dict[str, Any]) -> None:
    document = json.dumps(message).encode()
    stream = converted("/messages", document, to_stream=True)
    assert stream is not None
    back = converted("/messages", stream, to_stream=False)
    assert back is not None
    assert json.loads(back) == message == message_of(events_of(message))
    assert (flaw(document, is_stream=False), flaw(stream, is_stream=True)) == (None, None)
    assert is_possible("/messages", to_stream=True)
    assert is_possible("/messages", to_stream=False)


@given(message=messages(), data=st.data())
def test_a_stream_without_one_of_its_events_or_with_one_twice_is_not_whole(
    message: dict[str, Any], data: st.DataObject
) -> None:
    events = events_of(message)
    place = data.draw(st.integers(0, len(events) - 1))
    is_piece = events[place]["type"] == "content_block_delta"
    is_needless = is_piece and events[place]["delta"]["type"] != "input_json_delta"
    if not is_needless:  # of a text nobody says how long it is
        spoiled = stream_of([*events[:place], *events[place + 1 :]])
        missing = flaw(spoiled, is_stream=True)
        given_anyway = is_piece and events[place]["delta"]["partial_json"] == "{}"
        assert given_anyway or missing in ("cut", "unreadable", "unended"), missing
    if not is_piece and events[place]["type"] != "message_delta":
        assert flaw(stream_of([*events[: place + 1], *events[place:]]), is_stream=True) in ("cut", "unreadable")
    assert flaw(stream_of(events[:place]), is_stream=True) is not None
    ping = {"type": "ping"}
    assert flaw(stream_of([*events[:place], ping, *events[place:]]), is_stream=True) is None
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    assert flaw(stream_of([*events[:place], error, *events[place:]]), is_stream=True) == "error"


def test_pieces_of_a_text_and_its_citations_come_in_any_order() -> None:
    cited = [{"type": "char_location", "start_char_index": place} for place in range(2)]
    deltas = [
        {"type": "citations_delta", "citation": cited[0]},
        {"type": "text_delta", "text": "a"},
        {"type": "citations_delta", "citation": cited[1]},
        {"type": "text_delta", "text": "b"},
    ]
    told: dict[str, Any] = {"id": "m", "type": "message", "content": [], "usage": {"input_tokens": 1}}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": told},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    assert message_of(events) == told | {
        "content": [{"type": "text", "text": "ab", "citations": cited}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 2},
    }


NOT_GOOD: list[tuple[dict[str, Any], str]] = [
    ({"stop_reason": "refusal"}, "unended"),
    ({"stop_reason": "pause_turn"}, "unended"),
    ({"stop_reason": "model_context_window_exceeded"}, "unended"),
    ({"stop_reason": None}, "unended"),
    ({"usage": None}, "unended"),
    ({"stop_reason": "tool_use"}, "cut"),
    ({"content": [{"type": "tool_use", "id": "t", "name": "f", "input": '{"a'}], "stop_reason": "tool_use"}, "cut"),
    ({"content": None}, "unreadable"),
    ({"type": "error", "error": {"type": "api_error", "message": "x"}}, "error"),
]


@pytest.mark.parametrize(("changed", "why"), NOT_GOOD, ids=range(len(NOT_GOOD)))
def test_what_is_no_whole_good_message_is_not_kept_in_either_form(changed: dict[str, Any], why: str) -> None:
    message = {"id": "m", "type": "message", "content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn"}
    usage = {"usage": {"input_tokens": 1, "output_tokens": 2}}
    assert flaw(json.dumps(message | usage).encode(), is_stream=False) is None
    assert flaw(json.dumps(message | usage | changed).encode(), is_stream=False) == why


NOT_WHOLE = {"anthropic-messages-error.sse": "error", "anthropic-messages-search.sse": "searched"}
RECORDED = [entry for entry in recorded() if entry["endpoint"] == "messages"]


@pytest.mark.parametrize("entry", RECORDED, ids=[entry["file"] for entry in RECORDED])
def test_recorded_messages_are_kept_when_they_are_whole(entry: dict[str, Any]) -> None:
    body, is_stream = (STREAMS / entry["file"]).read_bytes(), entry["file"].endswith(".sse")
    assert flaw(body, is_stream=is_stream) == NOT_WHOLE.get(entry["file"])
    if is_stream and entry["file"] not in NOT_WHOLE:
        document = converted("/messages", body, to_stream=False)
        assert document is not None
        assert flaw(document, is_stream=False) is None


def test_a_tool_call_whose_input_never_came_is_not_whole() -> None:
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {"city": "Paris"}}
    told = {"stop_reason": "tool_use", "usage": {"input_tokens": 1, "output_tokens": 2}}
    events = events_of({"id": "m", "type": "message", "role": "assistant", "content": [call]} | told)
    [place] = [at for at, event in enumerate(events) if event["type"] == "content_block_delta"]
    assert flaw(stream_of([*events[:place], *events[place + 1 :]]), is_stream=True) == "unreadable"
    empty = {**events[place], "delta": {"type": "input_json_delta", "partial_json": ""}}
    assert flaw(stream_of([*events[:place], empty, *events[place + 1 :]]), is_stream=True) is None


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": "a", "citations": [{"type": "page_location"}]},
        {"type": "thinking", "thinking": "a", "signature": "s", "citations": [1]},
        {"type": "of tomorrow", "text": "a"},
    ],
    ids=["cited text", "cited thought", "unknown"],
)
def test_a_block_that_says_more_than_its_text_is_in_one_piece(block: dict[str, Any]) -> None:
    message: dict[str, Any] = {
        "id": "msg",
        "content": [block],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {},
    }
    assert events_of(message)[1:3] == [
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_stop", "index": 0},
    ]
