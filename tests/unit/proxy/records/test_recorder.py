"""What a watched answer says: texts of streams put together, documents, what is no text."""

import json
from typing import Any

import pytest
from proxy.records.recorder import ResponseRecorder

MOST = 4 * 1024 * 1024


def watched(content_type: str, *pieces: bytes) -> ResponseRecorder:
    answer = ResponseRecorder(content_type)
    assert list(answer.pass_on(pieces)) == list(pieces)
    return answer


def sse(*frames: Any) -> list[bytes]:
    return [f"data: {json.dumps(frame)}\n\n".encode() for frame in frames] + [b"data: [DONE]\n\n"]


def delta(index: int = 0, **fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": fields, "finish_reason": None}]}


def test_texts_of_a_stream_are_put_together_by_where_they_stand() -> None:
    def call(index: int, text: str) -> list[Any]:
        return [{"index": index, "function": {"arguments": text}}]

    frames = sse(
        delta(content="me@exa"),
        delta(content="mple.com", reasoning_content="h"),
        delta(1, content="other"),
        delta(tool_calls=call(1, '{"a')),
        delta(tool_calls=call(1, '":1}')),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    )
    whole = b"".join(frames)
    for pieces in (frames, [whole], [whole[n : n + 7] for n in range(0, len(whole), 7)]):
        assert watched("text/event-stream", *pieces).content() == {
            "choices.0.delta.content": "me@example.com",
            "choices.0.delta.reasoning_content": "h",
            "choices.1.delta.content": "other",
            "choices.0.delta.tool_calls.1.function.arguments": '{"a":1}',
            "choices.0.finish_reason": "stop",
        }


def test_a_stream_of_the_responses_api() -> None:
    piece = {"type": "response.output_text.delta", "output_index": 0, "content_index": 1}
    frames = sse(
        {**piece, "delta": "me@exa"},
        {**piece, "delta": "mple.com"},
        {"type": "response.completed", "response": {"id": 1}},
    )
    assert watched("text/event-stream; charset=utf-8", *frames).content() == {
        "response.output_text.delta.0.1": "me@example.com",
        "response": {"id": 1},
    }


def test_a_stream_of_the_messages_api() -> None:
    frames = sse(
        {"type": "message_start", "message": {"id": "m"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "me@exa"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "mple.com"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "s"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "name": "weather"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a'}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '":1}'}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    )
    assert watched("text/event-stream", *frames).content() == {
        "content.0.thinking": "me@example.com",
        "content.1.partial_json": '{"a":1}',
        "content.1.name": "weather",
        "stop_reason": "tool_use",
    }


@pytest.mark.parametrize(
    ("content_type", "body", "content"),
    [
        ("application/json", b'{"a": "b"}', {"a": "b"}),
        ("application/json", b'{"a": ', None),
        ("text/plain", "grüße".encode(), "grüße"),
        ("audio/mpeg", b"\xff\xfb", None),
        ("text/event-stream", b"data: no JSON\n\n", {}),
    ],
)
def test_other_answers(content_type: str, body: bytes, content: Any) -> None:
    answer = watched(content_type, body)
    assert (answer.content(), answer.size, answer.is_cut) == (content, len(body), False)


def test_memory_is_bounded_and_a_cut_document_is_not_read() -> None:
    answer = watched("application/json", *[b" " * 2**20] * 6)
    assert (answer.size, answer.is_cut, answer.content()) == (6 * 2**20, True, None)


@pytest.mark.parametrize("field", ["delta", "text", "message"])
@pytest.mark.parametrize("index", [0, 1, None])
def test_a_text_is_kept_in_whichever_field_a_choice_has_it(field: str, index: int | None) -> None:
    place = {} if index is None else {"index": index}
    pieces = [{"choices": [{**place, field: text}]} for text in ("me@exa", "mple.com")]
    found = watched("text/event-stream", *sse(*pieces, {"choices": [{**place, "finish_reason": "stop"}]})).content()
    where = f"choices.{index or 0}"
    assert found == {f"{where}.{field}": "me@example.com", f"{where}.finish_reason": "stop"}


@pytest.mark.parametrize("index", [0, 3, None])
def test_a_block_of_a_message_without_a_place_is_the_first(index: int | None) -> None:
    place = {} if index is None else {"index": index}
    frames = sse(
        {"type": "content_block_start", **place, "content_block": {"type": "tool_use", "name": "look"}},
        {"type": "content_block_delta", **place, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
        {"type": "content_block_delta", **place, "delta": {"type": "input_json_delta", "partial_json": ":1}"}},
    )
    where = f"content.{index or 0}"
    expected = {f"{where}.partial_json": '{"a":1}', f"{where}.name": "look"}
    assert watched("text/event-stream", *frames).content() == expected


def test_an_error_in_a_stream_is_kept_as_it_was_told() -> None:
    error = {"message": "no", "code": 5}
    found = watched("text/event-stream", *sse(delta(content="a"), {"error": error})).content()
    assert found == {"choices.0.delta.content": "a", "error": error}


@pytest.mark.parametrize("sizes", [[MOST], [MOST - 1, 1], [MOST, 1], [MOST - 1, 2], [MOST - 1, 1, 1], [MOST + 1]])
def test_an_answer_is_remembered_to_the_last_byte_that_there_is_room_for(sizes: list[int]) -> None:
    answer = watched("text/plain", *(b"x" * size for size in sizes))
    assert (len(answer.content()), answer.is_cut) == (MOST, sum(sizes) > MOST)
