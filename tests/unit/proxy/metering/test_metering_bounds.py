"""Where a server counts beside its sums, what an estimate counts, and what a meter says before it is asked to look."""

import itertools
import json
from typing import Any

import pytest
from openai_proxy.usage import Usage
from proxy.metering.estimate import input_tokens
from proxy.metering.meter import AnswerTraits, Meter
from proxy.metering.reported_error import reported_error
from proxy.metering.usage import usage_of
from proxy.metering.whole_answer import flaw_of
from proxy.metering.whole_message import events_of

NOTHING: dict[str, Any] = {}
PROMPT, COMPLETION = 100, 50
PARTS = {"cached": 8, "written": 4, "audio": 2, "reasoning": 1}
WAYS = [
    (),
    ("reasoning",),
    ("audio",),
    ("audio", "reasoning"),
    ("cached", "written"),
    ("cached", "written", "reasoning"),
]
"""Which parts servers count beside their prompt and their completion."""


def report(total: int) -> dict[str, Any]:
    return {
        "prompt_tokens": PROMPT,
        "completion_tokens": COMPLETION,
        "total_tokens": total,
        "prompt_tokens_details": {
            "cached_tokens": PARTS["cached"],
            "cache_write_tokens": PARTS["written"],
            "audio_tokens": PARTS["audio"],
        },
        "completion_tokens_details": {"reasoning_tokens": PARTS["reasoning"]},
    }


@pytest.mark.parametrize("beside", [each for n in range(5) for each in itertools.combinations(PARTS, n)])
def test_a_total_says_what_is_counted_beside_it(beside: tuple[str, ...]) -> None:
    total = PROMPT + COMPLETION + sum(PARTS[name] for name in beside)
    found = usage_of(report(total))
    of_input = sum(PARTS[name] for name in beside if name != "reasoning")
    of_output = PARTS["reasoning"] if "reasoning" in beside else 0
    if beside not in WAYS:  # nobody counts so: what no part explains are thoughts
        of_input, of_output = 0, total - PROMPT - COMPLETION
    assert found == Usage(
        PROMPT + of_input,
        COMPLETION + of_output,
        PARTS["cached"],
        PARTS["written"],
        max(PARTS["reasoning"], of_output),
        "reported",
        PARTS["audio"],
    )


@pytest.mark.parametrize(
    ("more", "tokens"),
    [
        (NOTHING, 14),
        ({"input_tokens_details": {"text_tokens": 10}}, 10),
        ({"total_tokens": 15}, 10),
        ({"total_tokens": 19}, 14),
    ],
)
def test_anthropics_names_are_of_what_is_beside_its_input(more: dict[str, Any], tokens: int) -> None:
    found = usage_of({"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 4, **more})
    assert found
    assert (found.input_tokens, found.cache_read_input_tokens) == (tokens, 4)


@pytest.mark.parametrize(
    "name", ["messages", "system", "prompt", "input", "instructions", "tools", "functions", "response_format", "text"]
)
def test_a_prompt_is_whatever_a_model_reads(name: str) -> None:
    assert input_tokens({name: "x" * 400}) == 104
    assert input_tokens({f"{name}_x": "x" * 400}) == 4


def test_a_failed_response_says_why_in_its_own_words() -> None:
    assert reported_error({"type": "response.failed", "response": {"code": "c", "message": "m"}}) == ("m", "c", None)


def test_a_meter_looks_when_it_is_asked() -> None:
    chunk = b'data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"a"}}]}\n\n'
    meter = Meter("text/event-stream", True)
    meter.see(chunk)
    assert meter.sample == (chunk, 1.0)
    assert meter.is_half_counted is False
    begun = Meter("text/event-stream", True)
    start = {"type": "message_start", "message": {"id": "m", "usage": {"input_tokens": 3, "output_tokens": 1}}}
    begun.see(b"event: message_start\ndata: " + json.dumps(start).encode() + b"\n\n")
    assert begun.is_half_counted is True


def vectors(*given: dict[str, Any]) -> bytes:
    return json.dumps({"object": "list", "data": [each | {"embedding": [0.5]} for each in given]}).encode()


@pytest.mark.parametrize(
    ("inputs", "given", "is_whole"),
    [
        ("x", [NOTHING], True),
        ("x", [{"index": 0}], True),
        ("x", [{"index": 1}], False),
        (["x"], [NOTHING], True),
        (["x", "y"], [NOTHING, NOTHING], False),
        (["x", "y"], [{"index": 1}, {"index": 0}], True),
        (["x", "y"], [{"index": 0}], False),
    ],
)
def test_one_vector_needs_no_number(inputs: Any, given: list[dict[str, Any]], is_whole: bool) -> None:
    assert (flaw_of("/embeddings", {"input": inputs}, vectors(*given), is_stream=False) is None) is is_whole


@pytest.mark.parametrize(("name", "flaw"), [("message", None), ("error", "error"), ("content_filter", "error")])
def test_an_event_that_is_called_an_error_is_one_whatever_its_data_says(name: str, flaw: str | None) -> None:
    facts = {"id": "c", "object": "chat.completion.chunk", "model": "m"}
    last = facts | {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}
    body = f"event: {name}\ndata: {json.dumps(last)}\n\ndata: [DONE]\n\n".encode()
    assert flaw_of("/chat/completions", {}, body, is_stream=True) == flaw


def test_what_a_message_says_comes_in_deltas() -> None:
    blocks: list[dict[str, Any]] = [
        {"type": "text", "text": "Hi"},
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
        {"type": "text", "text": ""},
    ]
    facts = {"id": "m", "type": "message", "role": "assistant", "model": "x", "stop_reason": "end_turn"}
    usage = {"input_tokens": 3, "output_tokens": 5}
    events = events_of({**facts, "stop_sequence": None, "content": blocks, "usage": usage})
    assert [(each["index"], each["delta"]) for each in events if each["type"] == "content_block_delta"] == [
        (0, {"type": "text_delta", "text": "Hi"}),
        (1, {"type": "thinking_delta", "thinking": "hm"}),
        (1, {"type": "signature_delta", "signature": "s"}),
        (2, {"type": "input_json_delta", "partial_json": '{"a": 1}'}),
    ]
    empty = [each["content_block"] for each in events if each["type"] == "content_block_start"]
    assert empty[0] == {"type": "text", "text": ""}
    assert empty[2] == {"type": "tool_use", "id": "t", "name": "f", "input": {}}


@pytest.mark.parametrize("has_own_form", [False, True])
@pytest.mark.parametrize("uses_tokens", [False, True])
@pytest.mark.parametrize("said", [b'{"message": "the model is gone"}', b"internal failure"])
def test_only_what_answers_a_question_has_to_be_a_piece_of_an_answer(
    said: bytes, uses_tokens: bool, has_own_form: bool
) -> None:
    meter = Meter("text/event-stream", uses_tokens, AnswerTraits(has_own_form=has_own_form))
    meter.see(b"data: " + said + b"\n\n")
    assert (meter.error is not None) is (uses_tokens and not has_own_form)


@pytest.mark.parametrize(("more", "is_kept"), [(0, True), (1, False)])
def test_of_a_document_so_much_is_kept_and_no_more(more: int, is_kept: bool) -> None:
    meter = Meter("application/json", uses_tokens=True)
    meter.see(b"{" + b" " * (16 * 1024 * 1024 - 2))
    meter.see(b"}" + b" " * more)
    meter.end()
    assert meter.is_readable is is_kept
    assert len(meter.sample[0]) == 16 * 1024 * 1024 - (not is_kept)


@pytest.mark.parametrize(("after", "is_there"), [(2000, True), (3000, False)])
def test_of_a_text_its_end_is_kept(after: int, is_there: bool) -> None:
    meter = Meter("text/plain", uses_tokens=True)
    for piece in (b"00:00:01.000 --> 00:00:02.000\n", b"x" * (after // 2), b"x" * (after // 2)):
        meter.see(piece)
    meter.end()
    assert meter.usage.source == ("estimated" if is_there else "missing")


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize(("count", "is_whole"), [(1, True), (2, False)])
def test_a_choice_without_an_index_is_the_only_one(count: int, is_whole: bool, is_stream: bool) -> None:
    choice = {"delta" if is_stream else "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
    document = json.dumps({"choices": [choice] * count, "usage": {"prompt_tokens": 1, "completion_tokens": 1}})
    body = f"data: {document}\n\ndata: [DONE]\n\n" if is_stream else document
    found = flaw_of("/chat/completions", {"n": count}, body.encode(), is_stream=is_stream)
    assert (found is None) is is_whole, found


@pytest.mark.parametrize(
    ("name", "arguments", "flaw"),
    [("f", "{}", None), ("f", '{"a": 1}', None), ("f", '{"a":', "unreadable"), ("f", "[]", "cut"), ("", "{}", "cut")],
)
def test_a_response_is_whole_if_the_calls_in_it_are(name: str, arguments: str, flaw: str | None) -> None:
    call = {"type": "function_call", "call_id": "c", "name": name, "arguments": arguments}
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    response = {"id": "r", "object": "response", "status": "completed", "output": [call], "usage": usage}
    assert flaw_of("/responses", {}, json.dumps(response).encode(), is_stream=False) == flaw
