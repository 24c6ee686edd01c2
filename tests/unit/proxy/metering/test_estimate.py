"""Estimates of tokens: of the right size, for every form of prompt, and never a crash."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.metering.estimate import estimated_usage, input_tokens

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
    ],
)
def test_the_size_of_a_prompt(fields: dict[str, Any], tokens: int) -> None:
    assert input_tokens(fields) == tokens


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


def test_the_size_of_a_document() -> None:
    document = json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 400}}]}).encode()
    assert estimated_usage(b"", document, 1.0, is_stream=False).output_tokens == 100


@given(JSON, st.binary(), st.booleans())
def test_no_prompt_and_no_answer_is_too_strange(prompt: Any, sample: bytes, is_stream: bool) -> None:
    body = json.dumps({"messages": prompt, "input": prompt}).encode()
    usage = estimated_usage(body, sample + event({"choices": prompt}), 1.0, is_stream=is_stream)
    assert usage.input_tokens > 0
    assert usage.output_tokens >= 0
