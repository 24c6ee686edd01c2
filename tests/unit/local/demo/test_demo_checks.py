"""Chats that OpenAI refuses are refused by the demo server, with OpenAI's code and the place of the fault."""

from typing import Any

import pytest

from local.demo.checks import check_chat
from local.demo.replies import RefusedError

USER: dict[str, Any] = {"role": "user", "content": "Hello"}
CALL: dict[str, Any] = {"id": "call_1", "type": "function", "function": {"name": "a", "arguments": "{}"}}
IMAGE: dict[str, Any] = {"type": "image_url", "image_url": {"url": "data:,"}}
MISSING, TYPE, VALUE = "missing_required_parameter", "invalid_type", "invalid_value"

MESSAGES: list[tuple[Any, str | None, str]] = [
    ({"content": "Hello"}, MISSING, "role"),
    ({"role": 7, "content": "Hello"}, VALUE, "role"),
    ({"role": "nobody", "content": "Hello"}, VALUE, "role"),
    ({"role": "user"}, None, "content"),
    ({"role": "assistant", "content": None}, None, "content"),
    ({"role": "user", "content": 7}, TYPE, "content"),
    ({"role": "user", "content": {"text": "Hello"}}, TYPE, "content"),
    ({"role": "user", "content": ["Hello"]}, TYPE, "content[0]"),
    ({"role": "user", "content": [{"text": "Hello"}]}, MISSING, "content[0].type"),
    ({"role": "user", "content": [{"type": "nonsense"}]}, VALUE, "content[0].type"),
    ({"role": "user", "content": [IMAGE, {"type": "text"}]}, MISSING, "content[1].text"),
    ({"role": "user", "content": [{"type": "text", "text": 7}]}, TYPE, "content[0].text"),
    ({"role": "user", "content": [{"type": "image_url", "image_url": "data:,"}]}, TYPE, "content[0].image_url"),
    ({"role": "tool", "content": "Rain"}, MISSING, "tool_call_id"),
    ({"role": "assistant", "tool_calls": "a"}, TYPE, "tool_calls"),
    ({"role": "assistant", "tool_calls": [{}]}, MISSING, "tool_calls[0].id"),
    (
        {"role": "assistant", "tool_calls": [CALL, CALL | {"function": {"name": "a"}}]},
        MISSING,
        "tool_calls[1].function.arguments",
    ),
]
OPTIONS: list[tuple[Any, str | None, str]] = [
    ({"n": "2"}, TYPE, "n"),
    ({"n": True}, TYPE, "n"),
    ({"n": 0}, "integer_below_min_value", "n"),
    ({"temperature": "hot"}, TYPE, "temperature"),
    ({"temperature": 2.5}, "decimal_above_max_value", "temperature"),
    ({"top_p": -0.1}, "decimal_below_min_value", "top_p"),
    ({"max_tokens": 1.5}, TYPE, "max_tokens"),
    ({"stream": "yes"}, TYPE, "stream"),
    ({"stop": [7]}, VALUE, "stop"),
    ({"stop": ["a"] * 5}, VALUE, "stop"),
    ({"model": 7}, TYPE, "model"),
    ({"metadata": 7}, TYPE, "metadata"),
    ({"stream_options": {"include_usage": True}}, None, "stream_options"),
    ({"tool_choice": "required"}, None, "tool_choice"),
    ({"tools": "a"}, TYPE, "tools"),
    ({"tools": [{}]}, MISSING, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, MISSING, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": 7}}]}, TYPE, "tools[0].function.name"),
    ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, VALUE, "tools[0].function.name"),
    (
        {"tools": [{"type": "function", "function": {"name": "a", "strict": True, "parameters": {"type": "object"}}}]},
        "invalid_function_parameters",
        "tools[0].function.parameters",
    ),
    ({"response_format": "json"}, TYPE, "response_format"),
    ({"response_format": {"type": "xml"}}, VALUE, "response_format.type"),
    ({"response_format": {"type": "json_schema"}}, MISSING, "response_format.json_schema.name"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": True}}},
        None,
        "response_format",
    ),
]


def refused(**body: Any) -> RefusedError:
    with pytest.raises(RefusedError) as refusal:
        check_chat({"model": "demo", "messages": [USER], **body})
    assert refusal.value.status == 400
    return refusal.value


@pytest.mark.parametrize(("message", "code", "place"), MESSAGES)
def test_a_malformed_message_is_refused(message: Any, code: str | None, place: str) -> None:
    refusal = refused(messages=[USER, message])
    assert (refusal.code, refusal.param) == (code, f"messages[1].{place}")


@pytest.mark.parametrize(("options", "code", "place"), OPTIONS)
def test_a_malformed_option_is_refused(options: Any, code: str | None, place: str) -> None:
    refusal = refused(**options)
    assert (refusal.code, refusal.param) == (code, place)
    assert str(refusal)


@pytest.mark.parametrize(
    "body",
    [
        {"n": None, "temperature": 1, "stop": None, "tools": [], "tool_choice": "auto", "metadata": {}},
        {"stop": ["a", "b"], "stream": True, "stream_options": {"include_usage": True}, "seed": -1},
        {"messages": [{"role": "developer", "content": [{"type": "text", "text": ""}]}]},
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}]},
        {
            "messages": [
                USER,
                {"role": "assistant", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "call_1", "content": ""},
            ]
        },
        {"messages": [{"role": "user", "content": [IMAGE, {"type": "file", "file": {"file_id": "file-1"}}]}]},
        {"tools": [{"type": "custom", "custom": {"name": "a"}}], "tool_choice": "required"},
        {"response_format": {"type": "json_object"}},
    ],
)
def test_what_openai_takes_is_taken(body: Any) -> None:
    check_chat({"model": "demo", "messages": [USER], **body})
