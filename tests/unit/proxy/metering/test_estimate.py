"""Estimates of tokens: of the right size, for every form of prompt, and never a crash.

And what is near to them: seconds of audio where a server states them in passing, and answers of which nothing can be
estimated.
"""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.usage import Usage
from proxy.call import Call
from proxy.delivery import Delivery
from proxy.metering.estimate import estimated_usage, input_tokens
from proxy.metering.meter import AnswerTraits, Meter
from proxy.metering.scan import last_cue
from proxy.outcome import Outcome, usage_of
from proxy.request.body import OutgoingBody
from proxy.request.parse import Target

SRT = b"1\n00:00:00,000 --> 00:00:02,500\nHello\n\n2\n00:59:58,120 --> 01:00:01,250\nworld --> end\n"
VTT = b"WEBVTT\n\n00:00.000 --> 00:02.500 align:start\nHello\n\n00:02.500 --> 00:09.040\nworld\n"

PICTURE = "data:image/png;base64," + "A" * 100_000
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"messages": [{"role": "user", "content": "x" * 40}]}, 14),
        ({"messages": [{"role": "system", "content": "x" * 4}, {"role": "user", "content": "x" * 4}]}, 10),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 8}]}]}, 6),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": PICTURE}}]}]}, 804),
        (
            {"messages": [{"content": [{"input_audio": {"data": "UklG" * 999, "format": "wav!"}}]}]},
            805,
        ),
        ({"prompt": "x" * 400}, 104),
        ({"input": ["x" * 40, "x" * 40]}, 24),
        ({"input": [1, 2, 3, 4, 5]}, 9),
        ({"input": [[1, 2], [3]]}, 7),
        ({"input": "\N{CJK UNIFIED IDEOGRAPH-4E2D}" * 4}, 7),
        ({"model": "not a prompt", "temperature": 1}, 4),
        ({}, 4),
        *(({name: "x" * 8}, 6) for name in ("system", "prompt", "input", "instructions", "response_format", "text")),
        *(({name: ["x" * 8]}, 6) for name in ("tools", "functions")),
        ({"x": "x" * 8, "metadata": "x" * 8}, 4),
        ({"messages": []}, 4),
        ({"messages": "x" * 8}, 6),
        ({"messages": [{"role": "user"}] * 3}, 12),
        ({"prompt": ["x", 1, 2, [3, "x"]]}, 8),
        ({"prompt": [True, None, 1.5]}, 6),
    ],
)
def test_the_size_of_a_prompt(fields: dict[str, Any], tokens: int) -> None:
    assert input_tokens(fields) == tokens


MEDIA = ("image", "audio", "video", "bytes")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("x" * 1023, 256),
        ("x" * 1024, 800),
        ("x" * 100_000, 800),
        ("x" * 1023 + " " + "x" * 1024, 512),
        ("x" * 1024 + " ", 800),
        ("\u00fc" * 1024, 512),
        ("data:", 800),
        (" data:", 2),
        ("xxxxx", 2),
        ("\ud800", 1),
    ],
    ids=range(10),
)
def test_a_text_without_a_blank_for_so_long_is_a_file(text: str, tokens: int) -> None:
    for name in ("data", "url", "image_url", "video_url", "file_url", "file_data", "image_data", *MEDIA):
        assert input_tokens({"input": [{name: text}]}) == tokens + 4
        assert input_tokens({"messages": [{"content": [{"type": "image", "source": {name: [text]}}]}]}) == tokens + 4


LONG = ["data:" + "x" * 99_995, "x" * 100_000, "word\n" * 20_000, "data:image/png;base64," + "A" * 99_978]


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_where_no_file_may_be_a_text_is_as_long_as_it_is(text: str) -> None:
    bodies: list[dict[str, Any]] = [
        *({name: text} for name in ("prompt", "input", "system", "instructions", "messages")),
        {"messages": [{"role": "user", "content": text}]},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]},
        {"messages": [{"content": [{"type": "document", "source": {"type": "text", "data": text}}]}]},
        {"input": [[text]]},
        {"tools": [{"function": {"description": text}}]},
    ]
    assert {input_tokens(body) for body in bodies} == {25_004}


def event(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("sample", "factor", "tokens"),
    [
        (event({"choices": [{"index": 0, "delta": {"content": "x" * 8}}]}) * 3, 1.0, 6),
        (event({"choices": [{"index": 0, "delta": {"content": "x"}}]}) * 10, 1.0, 10),
        (event({"choices": [{"index": 0, "delta": {"content": "x"}}]}) * 10, 2.5, 25),
        (event({"type": "response.output_text.delta", "delta": "x" * 40}), 1.0, 10),
        (event({"type": "response.output_text.done", "text": "x" * 40}), 1.0, 0),
        (event({"choices": [{"delta": {"role": "assistant"}}]}), 1.0, 0),
        (b": comment\n\ndata: [DONE]\n\n", 1.0, 0),
    ],
)
def test_the_size_of_a_stream(sample: bytes, factor: float, tokens: int) -> None:
    usage = estimated_usage(b"{}", sample, factor, is_stream=True)
    assert (usage.output_tokens, usage.source) == (tokens, "estimated")


@pytest.mark.parametrize("name", ["choices", "output", "delta", "item", "content"])
def test_what_a_model_writes_is_counted_wherever_its_api_has_it(name: str) -> None:
    for is_stream, form in ((True, b"data: %b\n\n"), (False, b"%b")):
        for said, tokens in ((name, 2), (f"{name}_x", 0)):
            body = form % json.dumps({said: [{"x": "x" * 8}]}).encode()
            assert estimated_usage(b"{}", body, 1.0, is_stream=is_stream).output_tokens == tokens


@pytest.mark.parametrize(("written", "tokens"), [(PICTURE, 800), ("A" * 1024, 800), ("A" * 1020, 255), ("a " * 8, 4)])
@pytest.mark.parametrize("is_stream", [True, False])
def test_a_picture_that_a_model_makes_costs_what_one_does(written: str, tokens: int, is_stream: bool) -> None:
    said: dict[str, Any] = {"content": written}
    sample = event({"choices": [{"delta": said}]}) if is_stream else json.dumps({"choices": [said]}).encode()
    assert estimated_usage(b"", sample, 1.0, is_stream=is_stream).output_tokens == tokens


def test_the_size_of_a_document() -> None:
    document = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 400}}]}).encode()
    assert estimated_usage(b"", document, 1.0, is_stream=False).output_tokens == 100


@given(JSON, st.binary(), st.booleans())
def test_no_prompt_and_no_answer_is_too_strange(prompt: Any, sample: bytes, is_stream: bool) -> None:
    body = json.dumps({"messages": prompt, "input": prompt}).encode()
    usage = estimated_usage(body, sample + event({"choices": prompt}), 1.0, is_stream=is_stream)
    assert usage.input_tokens > 0
    assert usage.output_tokens >= 0


def metered(body: bytes, content_type: str, *, is_packed: bool = False) -> Meter:
    meter = Meter(content_type, True, AnswerTraits(is_packed=is_packed))
    for start in range(0, len(body), 7):
        meter.see(body[start : start + 7])
    meter.end()
    return meter


@pytest.mark.parametrize(("text", "seconds"), [(SRT, 3601.25), (VTT, 9.04), (b"WEBVTT\n", None), (b"no cue", None)])
def test_subtitles_say_how_long_the_audio_is_at_least(text: bytes, seconds: float | None) -> None:
    usage = Usage(source="missing") if seconds is None else Usage(source="estimated", duration=seconds)
    assert last_cue(text) == seconds
    assert metered(text, "text/plain; charset=utf-8").usage == usage
    assert metered(b"x" * 100_000 + b"\n" + text, "text/vtt").usage == usage
    assert metered(text, "text/plain", is_packed=True).usage == Usage(source="missing")


@pytest.mark.parametrize(
    ("duration", "usage"),
    [
        (8.47, Usage(source="reported", duration=8.47)),
        ("8.47", Usage(source="reported", duration=8.47)),
        (-1, Usage(source="invalid", reason="negative")),
        (10**400, Usage(source="invalid", reason="too_large")),
        (True, Usage(source="invalid", reason="not_a_number")),
    ],
)
def test_a_verbose_transcription_says_how_long_the_audio_is(duration: object, usage: Usage) -> None:
    said: dict[str, Any] = {"task": "transcribe", "duration": duration, "text": "Hello", "segments": []}
    assert metered(json.dumps(said).encode(), "application/json").usage == usage


def test_what_a_verbose_transcription_reports_goes_first() -> None:
    said: dict[str, Any] = {"duration": 8.47, "text": "Hello", "usage": {"type": "duration", "seconds": 9}}
    assert metered(json.dumps(said).encode(), "application/json").usage == Usage(source="reported", duration=9.0)


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "text/plain"])
def test_a_packed_answer_is_missing_and_no_stream_that_was_cut(content_type: str) -> None:
    meter = Meter(content_type, True, AnswerTraits(has_terminator=True, is_packed=True))
    meter.see(b"\x1b\x00\x00\xff" * 10_000)
    meter.end()
    assert (meter.usage.source, meter.is_stream, meter.is_cut, meter.is_readable) == ("missing", False, False, False)


@pytest.mark.parametrize(
    ("body", "is_readable"), [(b'{"choices": []}', True), (b'{"choices": [', False), (b"\x28\xb5\x2f\xfd", False)]
)
def test_an_answer_that_is_no_json_is_not_estimated(body: bytes, is_readable: bool) -> None:
    assert metered(body, "application/json").is_readable is is_readable


@pytest.mark.parametrize(
    ("path", "is_estimated"),
    [
        *((path, True) for path in ("/chat/completions", "/completions", "/embeddings", "/responses", "/messages")),
        *((path, False) for path in ("/images/generations", "/audio/speech", "/rerank")),
    ],
)
def test_an_answer_of_text_without_usage_is_estimated(path: str, is_estimated: bool) -> None:
    sent = OutgoingBody(b'{"input": "xxxxxxxx"}', "m", stream=False, asks_usage_unasked=False)
    meter = metered(b'{"choices": [{"text": "xxxxxxxx"}]}', "application/json")
    found = usage_of(Call("i", 0.0, target=Target(None, path)), Outcome(200, Delivery(sent=sent), meter=meter), 0.0)
    assert found == (Usage(6, 2, source="estimated") if is_estimated else Usage(source="missing"))


def test_nothing_is_estimated_of_nothing() -> None:
    assert usage_of(Call("i", 0.0), Outcome(), 0.0) == Usage(source="none")


@pytest.mark.parametrize(
    "name",
    [
        *("id", "role", "type", "object", "finish_reason", "status", "obfuscation", "item_id", "logprobs", "error"),
        *("stop_reason", "stop_sequence", "signature"),
    ],
)
def test_what_no_model_reads_or_writes_is_no_text(name: str) -> None:
    said, named = {"content": "four"}, {"content": "four", name: "x" * 400}
    assert input_tokens({"messages": [named]}) == input_tokens({"messages": [said]}) == 5
    for is_stream, form in ((True, b"data: %b\n\n"), (False, b"%b")):
        bodies = [form % json.dumps({"choices": [{"delta": each}]}).encode() for each in (said, named)]
        found = [estimated_usage(b"{}", body, 1.0, is_stream=is_stream).output_tokens for body in bodies]
        assert found == [1, 1]
    assert input_tokens({"messages": [{"content": "four", f"{name}_x": "x" * 400}]}) == 105


def test_what_a_stream_repeats_at_its_end_is_not_estimated_again() -> None:
    text = "word " * 40
    piece = event({"type": "response.output_text.delta", "delta": text})
    again = event({"type": "response.output_text.done", "output": [{"text": text}], "content": text})
    plain = estimated_usage(b"{}", piece, 1.0, is_stream=True)
    assert plain.output_tokens >= 40
    assert estimated_usage(b"{}", piece + again, 1.0, is_stream=True) == plain


@pytest.mark.parametrize("form", ["delta", "message", "text"])
@pytest.mark.parametrize("path", ["/deployments/m/chat/completions", "/x", "/chat/completions"])
def test_what_a_model_has_written_is_estimated_wherever_it_was_asked(path: str, form: str) -> None:
    sent = OutgoingBody(b'{"messages": [{"content": "xxxxxxxx"}]}', "m", stream=False, asks_usage_unasked=False)
    said = "xxxxxxxx" if form == "text" else {"content": "xxxxxxxx"}
    answer = json.dumps({"choices": [{"index": 0, form: said, "finish_reason": "stop"}]}).encode()
    is_stream = form == "delta"
    meter = metered(b"data: %b\n\n" % answer, "text/event-stream") if is_stream else metered(answer, "application/json")
    call = Call("i", 0.0, target=Target(None, path))
    assert usage_of(call, Outcome(200, Delivery(sent=sent), meter=meter), 0.0) == Usage(6, 2, source="estimated")
