"""Usage and facts of answers in every form the OpenAI API has, and the hiding of a usage chunk nobody asked for."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.usage import Usage
from proxy.metering.meter import AnswerTraits, Meter
from proxy.metering.usage import usage_of

from tests.examples import examples

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 60},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
REPORTED = Usage(100, 20, 60, 0, 5, "reported")


def sse(*documents: object) -> bytes:
    return b"".join(b"data: " + json.dumps(document).encode() + b"\n\n" for document in documents)


def compact(document: object) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


def chunk(text: str = "", finish: str | None = None, usage: object = None, choices: bool = True) -> dict[str, object]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return {"id": "chatcmpl-1", "model": "m-1", "choices": [choice] if choices else [], "usage": usage}


def metered(*chunks: bytes, content_type: str = "text/event-stream; charset=utf-8", uses_tokens: bool = True) -> Meter:
    meter = Meter(content_type, uses_tokens)
    for piece in chunks:
        meter.see(piece)
    meter.end()
    return meter


@pytest.mark.parametrize("unnamed", range(10))
def test_who_answers_is_looked_for_in_the_first_eight_events_however_often_it_is_asked(unnamed: int) -> None:
    nameless = [{"choices": [{"index": 0, "delta": {"content": "a"}}]}] * unnamed
    events = [compact(each) for each in (*nameless, chunk("b"), chunk("c"))]
    meter = Meter("text/event-stream", uses_tokens=True)
    for event in events:
        meter.see(event)
        assert meter.usage.source == "missing"
    assert (meter.model, meter.id) == (("m-1", "chatcmpl-1") if unnamed < 8 else (None, None))


LONG = [chunk("word " * 9, None) | {"service_tier": "default"} for _ in range(400)]


@pytest.mark.parametrize(
    ("said", "tier"),
    [
        ([{"service_tier": "flex", "usage": USAGE}], "flex"),
        ([{"service_tier": "Priority", "usage": USAGE}], "priority"),
        ([{"usage": {**USAGE, "service_tier": "batch"}}], "batch"),
        ([{"service_tier": "auto", "usage": {**USAGE, "service_tier": "standard"}}], "standard"),
        ([{"usage": {**USAGE, "service_tier": "standard", "speed": "fast"}}], "fast"),
        ([{"usage": {**USAGE, "speed": "standard"}}], None),
        ([{"service_tier": None, "usage": USAGE}], None),
        ([{"service_tier": {"name": "flex"}, "usage": USAGE}], None),
        ([{"service_tier": "a b", "usage": USAGE}], "other"),
        ([{"service_tier": "x" * 33, "usage": USAGE}], "other"),
        (
            [
                {"type": "response.created", "response": {"service_tier": "auto", "status": "in_progress"}},
                {"type": "response.completed", "response": {"service_tier": "flex", "usage": USAGE}},
            ],
            "flex",
        ),
        ([*LONG, chunk("b", "stop", USAGE) | {"service_tier": "priority"}], "priority"),
        ([chunk("b", "stop", USAGE)], None),
    ],
)
def test_the_service_tier_is_the_one_that_the_answer_names(said: list[Any], tier: str | None) -> None:
    meters = [metered(*map(compact, said))]
    if len(said) == 1:
        meters.append(metered(json.dumps(said[0]).encode(), content_type="application/json"))
    assert [(meter.usage is not None, meter.service_tier) for meter in meters] == [(True, tier)] * len(meters)


TIERS = st.lists(st.sampled_from([None, "flex", "default", "Priority"]), min_size=2, max_size=5)


@settings(max_examples=examples(25))
@given(TIERS, st.booleans(), st.booleans(), st.sampled_from([", ", ","]), st.sampled_from(["\n", "\r\n"]))
def test_the_last_tier_that_any_chunk_names_counts_wherever_it_stands(
    tiers: list[str | None], hides: bool, one_choice: bool, comma: str, end: str
) -> None:
    said = [chunk("x" * 900) for _ in tiers] + [chunk("", "stop"), chunk(usage=USAGE, choices=False)]
    for piece, tier in zip(said, tiers, strict=False):
        piece["service_tier"] = tier
    separators = comma, ": " if comma == ", " else ":"
    events = [f"data: {json.dumps(each, separators=separators)}{end * 2}".encode() for each in said]
    last = next((tier.lower() for tier in reversed(tiers) if tier), None)
    for chunks in (events, [b"".join(events)]):
        meter = Meter(
            "text/event-stream", True, AnswerTraits(has_terminator=True, hides_usage=hides, one_choice=one_choice)
        )
        for piece in chunks:
            meter.see(piece)
        assert (meter.usage.output_tokens, meter.service_tier) == (USAGE["completion_tokens"], last)


def test_a_chat_stream_with_a_usage_chunk() -> None:
    body = sse(chunk("a"), chunk("b", "stop"), chunk(usage=USAGE, choices=False)) + b"data: [DONE]\n\n"
    meter = metered(*(piece + b"\n\n" for piece in body.split(b"\n\n")[:-1]))
    assert (meter.usage, meter.model, meter.id, meter.finish_reasons) == (REPORTED, "m-1", "chatcmpl-1", ["stop"])
    assert (meter.chunks, meter.size) == (4, len(body))


def test_usage_that_comes_with_the_last_choice() -> None:
    assert metered(sse(chunk("a"), chunk("", "length", USAGE))).usage == REPORTED


def test_the_last_of_several_running_totals_counts() -> None:
    running = [{**USAGE, "completion_tokens": tokens} for tokens in (1, 2, 20)]
    assert metered(*(sse(chunk("a", usage=usage)) for usage in running)).usage == REPORTED


def test_a_stream_without_usage_is_missing_and_never_zero_in_silence() -> None:
    assert metered(sse(chunk("a", "stop"))).usage.source == "missing"
    assert metered(sse(chunk("a", "stop")), uses_tokens=False).usage.source == "none"


def test_text_that_looks_like_usage_is_not_usage() -> None:
    text = json.dumps({"usage": {"prompt_tokens": 10**9}, "finish_reason": "stop"})
    meter = metered(sse(chunk("a")), sse(chunk(text), chunk(f"\n\ndata: {text}\n\n")))
    assert meter.usage.source == "missing"
    assert meter.finish_reasons == []


def test_a_responses_stream() -> None:
    usage = {"input_tokens": 7, "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 4}}
    answer = {"object": "response", "id": "resp-1", "model": "m-2", "status": "in_progress", "usage": None}
    created = {"type": "response.created", "response": answer}
    delta = {"type": "response.output_text.delta", "delta": "x"}
    completed = {"type": "response.completed", "response": {**answer, "status": "completed", "usage": usage}}
    meter = metered(*(b"event: x\n" + sse(event) for event in (created, delta, completed)))
    assert meter.usage == Usage(7, 9, 0, 0, 4, "reported")
    assert (meter.model, meter.id, meter.finish_reasons) == ("m-2", "resp-1", ["completed"])


def test_a_json_answer_in_pieces() -> None:
    body = json.dumps({"id": "x", "model": "m", "choices": [{"finish_reason": "stop"}], "usage": USAGE}).encode()
    meter = metered(body[:50], body[50:], content_type="application/json")
    assert (meter.usage, meter.model, meter.finish_reasons) == (REPORTED, "m", ["stop"])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"null", b"[" * 100_000, b"\xff\xfe"])
def test_a_json_answer_that_is_none_has_no_usage(body: bytes) -> None:
    assert metered(body, content_type="application/json").usage.source == "missing"


def test_binary_answers_are_counted_and_not_read() -> None:
    meter = metered(b"\x00" * 10, content_type="audio/mpeg")
    assert (meter.size, meter.usage.source) == (10, "missing")


@pytest.mark.parametrize("wrong", [None, 3, [], {}, {"a": 1}, "x"])
def test_what_is_no_usage(wrong: object) -> None:
    assert usage_of(wrong) is None


@given(st.lists(st.sampled_from(["a", "ü", "\n\n", '"usage": {', "data: "])), st.booleans())
def test_hiding_takes_the_usage_chunk_out_and_nothing_else(texts: list[str], together: bool) -> None:
    content = [sse(chunk(text)) for text in texts] + [b": ping\n\n"]
    hidden, done = sse(chunk(usage=USAGE, choices=False)), b"data: [DONE]\n\n"
    pieces = [b"".join([*content, hidden, done])] if together else [*content, hidden, done]
    assert b"".join(hiding(pieces)[0]) == b"".join(content) + done


def test_a_document_that_is_known_is_not_read_again() -> None:
    meter = Meter("application/json", uses_tokens=True)
    meter.see(json.dumps({"model": "read", "usage": USAGE}).encode())
    meter.end({"model": "known"})
    assert (meter.model, meter.usage.source) == ("known", "missing")


def test_why_a_choice_ended_early_in_a_long_stream_is_said_before_why_the_last_one_did() -> None:
    def piece(index: int, text: str, finish: str | None = None) -> dict[str, object]:
        choice = {"index": index, "delta": {"content": text}, "finish_reason": finish}
        return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}

    meter = Meter("text/event-stream", True, AnswerTraits(has_terminator=True))
    both = [piece(index % 2, "x" * 900) for index in range(90)]
    usage: dict[str, object] = {
        "id": "c",
        "object": "chat.completion.chunk",
        "model": "m",
        "choices": [],
        "usage": USAGE,
    }
    for run in ([*both, piece(0, "", "length")], [*both[1::2], piece(1, "", "stop"), usage]):
        meter.see(sse(*run))
    meter.see(b"data: [DONE]\n\n")
    meter.end()
    assert (meter.usage.source, meter.finish_reasons) == ("reported", ["length", "stop"])


def test_a_last_chunk_with_choices_and_usage_stays() -> None:
    both = sse(chunk("end", "stop", USAGE))
    visible, meter = hiding([both])
    assert (visible, meter.usage) == ([both], REPORTED)


EMPTY: list[object] = [
    [],
    None,
    [{"delta": {}}],
    [{"index": 0, "delta": {}, "finish_reason": None}],
    [{"index": 0, "delta": {"content": ""}, "finish_reason": "", "logprobs": None}],
    [{"index": 0, "delta": None}, {"index": 1, "text": "", "finish_reason": None}],
]
TOLD: list[object] = [
    [{"delta": {"content": " "}}],
    [{"index": 0, "delta": {}, "finish_reason": "stop"}],
    [{"index": 0, "delta": {}}, {"index": 1, "delta": {"reasoning_content": "x"}}],
    [{"index": 0, "delta": {"tool_calls": [{"index": 0}]}, "finish_reason": None}],
    [{"index": 0, "delta": {"role": "assistant", "content": ""}}],
    [{"index": 0, "delta": {"content": "", "audio": {"expires_at": 17}}}],
    [{"index": 0, "delta": {}, "flagged": True}],
    "text",
]


@pytest.mark.parametrize("choices", EMPTY)
@pytest.mark.parametrize("together", [True, False])
def test_a_chunk_with_usage_and_nothing_else_is_hidden(choices: object, together: bool) -> None:
    content = [sse({**chunk(text), "usage": None}) for text in ("a", "b")] + [sse(chunk("", "stop"))]
    hidden, done = sse({"id": "chatcmpl-1", "model": "m-1", "choices": choices, "usage": USAGE}), b"data: [DONE]\n\n"
    pieces = [*content, hidden, done]
    visible, meter = hiding([b"".join(pieces)] if together else pieces)
    assert b"".join(visible) == b"".join(content) + done
    assert (meter.usage, meter.finish_reasons[0]) == (REPORTED, "stop")


@pytest.mark.parametrize("choices", TOLD)
def test_a_chunk_with_usage_and_content_stays_as_it_came(choices: object) -> None:
    both = sse({"id": "chatcmpl-1", "model": "m-1", "choices": choices, "usage": USAGE})
    visible, meter = hiding([both])
    assert (visible, meter.usage) == ([both], REPORTED)


ROLE = {"role": "assistant"}
NOTHING_TO_SHOW: list[dict[str, Any]] = [
    {"delta": {**ROLE, "content": ""}, "finish_reason": None},
    {"delta": {**ROLE, "content": None, "tool_calls": None, "refusal": None, "reasoning_content": None}},
    {"delta": {**ROLE, "tool_calls": [], "audio": {}, "name": "assistant"}, "logprobs": None, "finish_reason": ""},
    {"delta": {"content": "", "token_id": 128009}, "logprobs": {"content": [], "refusal": None}, "seed": 1234},
    {"delta": ROLE, "message": None, "text": "", "matched_stop": None, "token_ids": None, "stop_reason": None},
    {"delta": {}, "content_filter_results": {}, "content_filter_offsets": {"start": 0, "end": None}},
]


@given(st.lists(st.sampled_from(NOTHING_TO_SHOW), min_size=1, max_size=3), st.booleans(), st.booleans())
def test_a_usage_chunk_is_hidden_whatever_empty_fields_its_choices_have(
    choices: list[dict[str, Any]], one_choice: bool, together: bool
) -> None:
    choices = [{"index": index, **choice} for index, choice in enumerate(choices[: 1 if one_choice else 3])]
    first = [sse({"choices": [{"index": index, "delta": {**ROLE, "content": "a"}}]}) for index in range(len(choices))]
    last = sse({**chunk(usage=USAGE), "choices": choices})
    meter = Meter("text/event-stream", True, AnswerTraits(hides_usage=True, one_choice=one_choice))
    pieces = [b"".join([*first, last])] if together else [*first, last]
    assert b"".join(map(meter.see, pieces)) == b"".join(first)
    assert meter.usage == REPORTED


@pytest.mark.parametrize("beginning", [{**ROLE, "content": ""}, ROLE])
@pytest.mark.parametrize("one_choice", [True, False])
def test_a_role_is_content_in_the_first_chunk_of_a_choice(beginning: dict[str, str], one_choice: bool) -> None:
    def told(index: int) -> bytes:
        return sse({"choices": [{"index": index, "delta": beginning, "finish_reason": None}], "usage": USAGE})

    meter = Meter("text/event-stream", True, AnswerTraits(hides_usage=True, one_choice=one_choice))
    assert [meter.see(told(0)) == told(0), meter.see(told(0)) == b""] == [True, True]
    assert meter.see(told(1)) == (b"" if one_choice else told(1))
    assert meter.see(told(1)) == b""


@pytest.mark.parametrize(
    "more", [{"citations": ["https://a"]}, {"search_results": [{"url": "https://a"}]}, {"images": [{"url": "a"}]}]
)
def test_a_usage_chunk_with_something_to_show_beside_its_choices_stays(more: dict[str, Any]) -> None:
    shown, empty = (sse({**chunk(usage=USAGE, choices=False), **each}) for each in (more, dict.fromkeys(more)))
    assert hiding([shown, empty])[0] == [shown, b""]


def test_an_error_beside_usage_is_not_hidden() -> None:
    both = sse({"choices": [], "usage": USAGE, "error": {"message": "no"}})
    assert hiding([both])[0] == [both]


def hiding(pieces: list[bytes]) -> tuple[list[bytes], Meter]:
    """What a client sees that did not ask for usage, and what the meter knows all the same."""
    meter = Meter("text/event-stream", True, AnswerTraits(has_terminator=True, hides_usage=True))
    return [meter.see(piece) for piece in pieces], meter


def test_usage_that_is_hidden_is_metered_however_it_comes() -> None:
    text, stop = sse(chunk("a" * 1000)) * 3, sse(chunk("", "stop"))
    hidden, done = sse(chunk(usage=USAGE, choices=False)), b"data: [DONE]\n\n"
    for pieces in ([text, stop, hidden, done], [text + stop + hidden + done], [text + stop, hidden + done], [hidden]):
        visible, meter = hiding(pieces)
        assert b"".join(visible) == b"".join(pieces).replace(hidden, b"")
        assert (meter.usage, meter.model, meter.size) == (REPORTED, "m-1", len(b"".join(pieces)))
        assert meter.finish_reasons == (["stop"] if stop in b"".join(pieces) else [])


@pytest.mark.parametrize("choices", [True, False])
def test_memory_stays_bounded_where_every_chunk_reports_usage(choices: bool) -> None:
    piece = sse(chunk("a" * 1000, usage=USAGE, choices=choices)) + b": " + b"x" * 1000 + b"\n\n"
    meter = Meter("text/event-stream", True, AnswerTraits(hides_usage=True))
    tracemalloc.start()
    try:
        for _ in range(2000):
            meter.see(bytes(bytearray(piece)))  # as from a socket, every time other memory
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (meter.usage, meter.size) == (REPORTED, 2000 * len(piece))
    assert peak < 1024 * 1024


def test_zeros_that_are_hidden_are_no_report() -> None:
    nothing = sse(chunk(usage={"prompt_tokens": 0, "completion_tokens": 0}, choices=False))
    _, meter = hiding([sse(chunk("a" * 3000)), sse(chunk("", "stop", USAGE)), nothing, b"data: [DONE]\n\n"])
    assert (meter.usage, meter.finish_reasons[0]) == (REPORTED, "stop")


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"prompt_tokens": 21, "completion_tokens": 4, "total_tokens": 85}, Usage(21, 64, 0, 0, 60, "reported")),
        (
            {
                "prompt_tokens": 5,
                "completion_tokens": 20,
                "total_tokens": 400,
                "prompt_tokens_details": {"audio_tokens": 375},
            },
            Usage(380, 20, 0, 0, 0, "reported", input_audio_tokens=375),
        ),
        ({"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 3}, Usage(9, 1, source="reported")),
        ({"total_tokens": 7}, Usage(7, 0, source="reported")),
        ({"type": "duration", "seconds": 12.5}, Usage(source="reported", duration=12.5)),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 1,
                "cache_read_input_tokens": 4,
                "cache_creation_input_tokens": 3,
            },
            Usage(9, 1, 4, 3, source="reported"),
        ),
        (
            {"input_tokens": 9, "output_tokens": 8, "output_tokens_details": {"audio_tokens": 8}},
            Usage(9, 8, source="reported", output_audio_tokens=8),
        ),
    ],
)
def test_what_servers_count_in_their_own_way(reported: dict[str, object], usage: Usage) -> None:
    assert usage_of(reported) == usage


def test_a_mark_of_the_end_counts_though_something_follows_it() -> None:
    end = b"data: [DONE]\n\n"
    said = sse({**chunk("a"), "object": "chat.completion.chunk"})
    assert metered(said).is_cut
    assert not metered(said, end, b"\n").is_cut
    assert not metered(said, end + b": bye\n\n").is_cut


def test_usage_of_a_question_about_an_answer_is_not_counted_again() -> None:
    body = json.dumps({"object": "response", "status": "completed", "usage": USAGE}).encode()
    assert metered(body, content_type="application/json", uses_tokens=False).usage == Usage(source="none")


CHAT = [
    sse(chunk("a" * 700)),
    sse({**chunk("a" * 1500), "object": "chat.completion.chunk"}),
    sse(chunk("b", usage=USAGE)),
    sse(chunk("b", usage={**USAGE, "completion_tokens": 3})),
    sse(chunk(usage=USAGE, choices=False)),
    sse(chunk(usage={"prompt_tokens": 0, "completion_tokens": 0}, choices=False)),
    sse(chunk("", "stop")),
    sse(chunk("", "length")),
    sse(chunk("", "")),
    compact({**chunk("a", "stop"), "object": "chat.completion.chunk"}),
    compact(chunk("", "length")),
    compact(chunk("", "")),
    compact({**chunk(usage={**USAGE, "completion_tokens": 4}, choices=False), "object": "chat.completion.chunk"}),
    b'data: {"choices":[{"delta":{},"native_finish_reason":"STOP","finish_reason":null}]}\n\n',
    b'data: {"choices":[{"finish_reason" :\t"tool_calls"}]}\n\n',
    sse({**chunk("a"), "model": "m-2"}),
    sse({"choices": [], "usage": USAGE}),
    sse({"error": {"message": "no"}}),
    sse({"error": None, "choices": []}),
    b'data: {"usage":\r\ndata: {"prompt_tokens": 5}}\r\n\r\n',
    b": a comment\n\n",
    b"data: [DONE]\n\n",
]
RESPONSES = [
    sse({"type": "response.created", "response": {"object": "response", "status": "in_progress", "model": "m-3"}}),
    sse({"type": "response.output_text.delta", "delta": "a" * 900}),
    sse({"type": "response.completed", "response": {"object": "response", "status": "completed", "usage": USAGE}}),
    sse({"type": "response.failed", "response": {"object": "response", "status": "failed", "error": {"code": "x"}}}),
    sse({"type": "error", "error": {"message": "no"}}),
    b": a comment\n\n",
]


STOP = [
    sse(chunk("", "stop")),
    compact({**chunk("", "stop"), "object": "chat.completion.chunk"}),
    compact({**chunk("", "stop"), "base_resp": {"status_code": 1004, "status_msg": "no"}}),
    compact(chunk("", "length")) + compact(chunk("", "")),
    b"",
]
LAST = [
    compact({**chunk(usage=USAGE, choices=False), "object": "chat.completion.chunk", "model": "m-4"}),
    sse({**chunk(usage=USAGE, choices=False), "object": "chat.completion.chunk"}),
    b"",
]


@settings(max_examples=examples(150))
@given(
    st.sampled_from([CHAT, RESPONSES, CHAT + RESPONSES]).flatmap(
        lambda events: st.lists(st.sampled_from(events), max_size=12)
    ),
    st.tuples(st.sampled_from(STOP), st.sampled_from(LAST), st.sampled_from([b"data: [DONE]\n\n", b""])),
    st.booleans(),
)
def test_read_many_at_a_time_events_say_what_they_say_one_by_one(
    events: list[bytes], end: tuple[bytes, ...], one_choice: bool
) -> None:
    def meter(pieces: list[bytes], *, one_by_one: bool = False, hides_usage: bool = False) -> Meter:
        meter = Meter(
            "text/event-stream", True, AnswerTraits(has_terminator=True, hides_usage=hides_usage, one_choice=one_choice)
        )
        for piece in pieces:
            meter.see(piece)
            assert not one_by_one or meter.usage  # reads what has come by now
        return meter

    events = [event for event in (*events, *end) if event]
    expected = said(meter(events, one_by_one=True))
    assert said(meter(events)) == expected
    assert said(meter([b"".join(events)])) == expected
    assert said(meter(events, one_by_one=True, hides_usage=True)) == expected
    assert said(meter(events, hides_usage=True)) == expected
    assert said(meter([b"".join(events)], hides_usage=True)) == expected


def test_one_choice_ends_for_one_reason_however_often_it_is_said() -> None:
    events = sse(chunk("a", ""), chunk("", "length"), chunk("", "stop"), chunk("", ""))
    several, one = (Meter("text/event-stream", True, AnswerTraits(one_choice=one)) for one in (False, True))
    for meter in (several, one):
        meter.see(events)
    assert (several.finish_reasons, one.finish_reasons) == (["", "length", "stop", ""], ["stop"])


def said(meter: Meter) -> tuple[object, ...]:
    return meter.usage, meter.model, meter.id, meter.finish_reasons, meter.error, meter.is_cut, meter.size


@pytest.mark.parametrize("empty", [0, 300])
def test_no_more_reasons_are_kept_than_a_request_can_ask_for(empty: int) -> None:
    meter = Meter("text/event-stream", uses_tokens=True)
    for index in range(empty):
        meter.see(b'data: {"choices":[{"index":%d,"finish_reason":""}]}\n\n' % index)
        assert len(meter.finish_reasons) <= 256
    for index in range(300):
        meter.see(b'data: {"choices":[{"index":%d,"finish_reason":"r%d"}]}\n\n' % (index, index))
    assert [reason for reason in meter.finish_reasons if reason] == [f"r{index}" for index in range(256)]


def test_a_long_stream_is_read_in_between() -> None:
    long = sse(chunk("x" * 1000)) * 200
    meter = metered(sse(chunk("a", "stop", USAGE)), long, *[sse(chunk("y" * 1000))] * 200)
    assert (meter.usage, meter.finish_reasons[0]) == (REPORTED, "stop")
    sample, factor = meter.sample
    assert len(sample) <= 32 * 1024
    assert len(sample) * factor == pytest.approx(meter.size)


@pytest.mark.parametrize("has_end", [True, False])
@pytest.mark.parametrize(
    ("last", "is_cut"),
    [
        (b'data: {"any": 1}\n\n', False),
        (b'data: {"any": 1}', False),
        (b'data: {"any": ', True),
        (b'data: {"any": \n\n', True),
        (b"data: words\n\n", False),
        (b'data: ["any"\n\n', False),
        (b"data: {}\n\n", False),
    ],
)
def test_a_stream_of_a_form_that_nobody_knows_is_cut_where_its_json_is(
    last: bytes, is_cut: bool, has_end: bool
) -> None:
    meter = Meter("text/event-stream", True, AnswerTraits(has_terminator=has_end))
    for event in (b'data: {"any": 0}\n\n', last):
        meter.see(event)
    meter.end()
    assert meter.is_cut is is_cut
