"""Answers in their other form: exactly, or not at all."""

import copy
import itertools
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.cache.conversion import converted, is_possible
from proxy.json_shapes import array_of, object_of

from tests.examples import examples

CHAT, RESPONSES, MESSAGES = "/chat/completions", "/responses", "/messages"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
texts = st.none() | st.text(max_size=20)
calls: st.SearchStrategy[Any] = st.lists(
    st.fixed_dictionaries(
        {
            "id": st.text("abc", min_size=1, max_size=5),
            "type": st.just("function"),
            "function": st.fixed_dictionaries({"name": st.text(max_size=5), "arguments": st.text(max_size=20)}),
        }
    ),
    min_size=1,
    max_size=3,
)
messages: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"role": st.just("assistant"), "content": texts},
    optional={"refusal": texts, "reasoning_content": texts, "tool_calls": calls},
)


def document(*found: dict[str, Any], **more: Any) -> dict[str, Any]:
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": "stop"}
        for index, message in enumerate(found)
    ]
    answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": USAGE}
    return answer | more


def stream(*chunks: dict[str, Any], end: str = "data: [DONE]\n\n") -> bytes:
    return "".join([*(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks), end]).encode()


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    choice = {"index": index, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]} | more


LAST = chunk({}, "stop")
OF_USAGE = chunk({}, choices=[], usage=USAGE)


def test_every_field_of_a_stream_is_in_its_document_and_every_one_of_a_document_in_its_stream() -> None:
    more: dict[str, Any] = {"service_tier": "flex", "system_fingerprint": "fp"}
    pieces = (chunk({"role": "assistant", "content": "a"}), chunk({"content": "b"}, **more), LAST, OF_USAGE)
    whole = document({"role": "assistant", "content": "ab"}, **more)
    found = converted(CHAT, stream(*pieces), to_stream=False)
    assert found
    assert json.loads(found) == whole
    back = converted(CHAT, found, to_stream=True)
    assert back
    *chunks, end = [event.removeprefix("data: ") for event in back.decode().split("\n\n") if event]
    assert end == "[DONE]"
    common = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", **more}
    choice = {"index": 0, "logprobs": None}
    assert [json.loads(each) for each in chunks] == [
        {**common, "choices": [{**choice, "delta": whole["choices"][0]["message"], "finish_reason": None}]},
        {**common, "choices": [{**choice, "delta": {}, "finish_reason": "stop"}]},
        {**common, "choices": [], "usage": USAGE},
    ]


@settings(deadline=None, max_examples=examples(50))
@given(found=st.lists(messages, min_size=1, max_size=3))
def test_a_document_that_was_a_stream_for_a_while_is_the_same_again(found: list[dict[str, Any]]) -> None:
    whole = document(*found)
    streamed = converted(CHAT, json.dumps(whole).encode(), to_stream=True)
    assert streamed is not None
    back = converted(CHAT, streamed, to_stream=False)
    assert back is not None
    assert json.loads(back) == whole


def test_the_pieces_of_a_stream_are_put_together() -> None:
    call = {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}
    pieces = stream(
        chunk({"role": "assistant", "content": ""}, obfuscation="x1", system_fingerprint="fp"),
        chunk({"content": "Hel"}),
        chunk({"role": "assistant", "content": None, "tool_calls": [call]}, index=1),
        chunk({"content": "lo"}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]}, index=1),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]}, index=1),
        chunk({}, "tool_calls", index=1),
        LAST,
        OF_USAGE,
    )
    answer = json.loads(converted(CHAT, b": a comment\n\n" + pieces, to_stream=False) or b"")
    first, second = answer["choices"]
    assert first["message"] == {"role": "assistant", "content": "Hello"}
    assert second["message"] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
    }
    assert [first["finish_reason"], second["finish_reason"]] == ["stop", "tool_calls"]
    assert answer["usage"] == USAGE
    assert (answer["object"], answer["system_fingerprint"]) == ("chat.completion", "fp")


@pytest.mark.parametrize(
    "chunks",
    [
        [chunk({"content": "a"}), LAST],
        [chunk({"content": "a"}), OF_USAGE],
        [OF_USAGE],
        [chunk({"content": "a", "audio": {"id": "a"}}), LAST, OF_USAGE],
        [chunk({"content": "a"}, citations=["u"]), LAST, OF_USAGE],
        [chunk({"content": "a"}), chunk({}, "stop", id="d"), OF_USAGE],
        [chunk({"content": "a"}, choices=[{"index": 0, "delta": {}, "logprobs": {"content": []}}]), LAST, OF_USAGE],
        [chunk({"tool_calls": [{"index": 1, "id": "t", "type": "function"}]}), LAST, OF_USAGE],
        [chunk({"tool_calls": [{"index": 0, "id": "t", "type": "custom"}]}), LAST, OF_USAGE],
        [chunk({"tool_calls": [{"index": 0, "function": {"arguments": "x"}}]}), LAST, OF_USAGE],
        [{"object": "chat.completion.chunk"}],
        [chunk({}, "stop", object="other"), OF_USAGE],
        [],
    ],
)
def test_a_stream_with_anything_unknown_is_not_converted(chunks: list[dict[str, Any]]) -> None:
    assert converted(CHAT, stream(*chunks), to_stream=False) is None


def calling(**more: Any) -> dict[str, Any]:
    """A piece of a tool's call."""
    call: dict[str, Any] = {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return chunk({"tool_calls": [call | more]})


LISTED: Any = [{"type": "text", "text": "a"}]
FORMS: dict[str, dict[str, Any]] = {
    "a list for a text": chunk({"content": LISTED}),
    "a number for a text": chunk({"reasoning": 0}),
    "a text for a delta": chunk({}, choices=[{"index": 0, "delta": "a"}]),
    "an object for choices": chunk({}, choices={"0": {"delta": {"content": "a"}}}),
    "an object for calls": chunk({"tool_calls": {"0": {"id": "t"}}}),
    "a text for a function": calling(function="f"),
    "an object for arguments": calling(function={"name": "f", "arguments": {}}),
    "a number for arguments": calling(function={"name": "f", "arguments": 0}),
    "an index that is true": chunk({}, choices=[{"index": True, "delta": {"content": "a"}, "finish_reason": "stop"}]),
    "an index that is no whole number": chunk({}, choices=[{"index": 0.0, "delta": {"content": "a"}}]),
    "an index below 0": chunk({}, choices=[{"index": -1, "delta": {"content": "a"}, "finish_reason": "stop"}]),
    "a list of usage": chunk({"content": "a"}, usage=[1]),
    "another role": chunk({"role": "tool", "content": "a"}),
    "another end": chunk({"content": "a"}, "length"),
    "an end that is a number": chunk({"content": "a"}, choices=[{"index": 0, "delta": {}, "finish_reason": 1}]),
    "another fingerprint": chunk({"content": "a"}, system_fingerprint="other"),
    "another tier": chunk({"content": "a"}, service_tier="other"),
    "another call": calling(id="other"),
    "a number that JSON lacks": chunk({"content": "a"}, usage={"a": float("inf")}),
}


@pytest.mark.parametrize("form", FORMS)
def test_what_has_another_form_than_a_document_may_have_is_not_lost_but_not_converted(form: str) -> None:
    begin = chunk({"role": "assistant"}, system_fingerprint="fp", service_tier="flex")
    for chunks in ([begin, calling(), FORMS[form], LAST], [begin, calling(), LAST, FORMS[form]]):
        assert converted(CHAT, stream(*chunks), to_stream=False) is None
        if form != "a number that JSON lacks":  # the last usage holds
            assert converted(CHAT, stream(*chunks, OF_USAGE), to_stream=False) is None
    assert converted(CHAT, stream(begin, calling(), LAST, OF_USAGE), to_stream=False) is not None


def test_a_piece_that_says_nothing_takes_nothing_away() -> None:
    pieces = [
        chunk({"role": "assistant", "content": "a", "reasoning": "b"}),
        calling(),
        chunk({"content": None, "reasoning": None, "role": None}, created=2),
        chunk({"tool_calls": [{"index": 0, "id": None, "type": None, "function": None}]}),
        chunk({"tool_calls": None}, "stop"),
        OF_USAGE,
    ]
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": "a", "reasoning": "b", "tool_calls": [call]}
    found = converted(CHAT, stream(*pieces), to_stream=False)
    assert found
    assert json.loads(found) == document(message)


def test_a_name_that_stands_twice_is_not_converted() -> None:
    once = stream(chunk({"content": "a"}), LAST, OF_USAGE)
    twice = once.replace(b'"content": "a"', b'"content": "a", "content": "b"')
    assert converted(CHAT, once, to_stream=False) is not None
    assert converted(CHAT, twice, to_stream=False) is None
    whole = json.dumps(document({"role": "assistant", "content": "a"})).encode()
    assert converted(CHAT, whole.replace(b'"content": "a"', b'"content": "a", "content": "b"'), to_stream=True) is None


def test_what_only_a_later_piece_says_is_in_the_document() -> None:
    pieces = [chunk({"content": "a"}, service_tier=None), chunk({}, "stop", service_tier="flex"), OF_USAGE]
    found = converted(CHAT, stream(*pieces), to_stream=False)
    assert found
    assert json.loads(found) == document({"role": "assistant", "content": "a"}, service_tier="flex")


@pytest.mark.parametrize(
    "events",
    [
        {"message_delta": {"context_management": {"applied_edits": []}}},
        {"message_stop": {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 1}}},
        {"message_start": {"id": "other"}},
        {"message_delta": {"usage": [1]}},
        {"content_block_start": {"title": "a"}},
        {"content_block_stop": {"end": 1}},
        {"content_block_delta": {"delta": {"type": "text_delta", "text": "a", "start": 1}}},
    ],
    ids=str,
)
def test_an_event_of_a_message_with_anything_unknown_is_not_converted(events: dict[str, dict[str, Any]]) -> None:
    message: dict[str, Any] = {"id": "m", "type": "message", "role": "assistant", "model": "m", "usage": {"a": 1}}
    message |= {"content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn", "stop_sequence": None}
    sent = converted(MESSAGES, json.dumps(message).encode(), to_stream=True)
    assert sent
    found: list[dict[str, Any]] = [
        json.loads(each.partition("data: ")[2]) for each in sent.decode().split("\n\n") if each
    ]
    back = converted(MESSAGES, stream(*found, end=""), to_stream=False)
    assert back
    assert json.loads(back) == message
    odd = [each | events.get(each["type"], {}) for each in found]
    assert converted(MESSAGES, stream(*odd, end=""), to_stream=False) is None


@pytest.mark.parametrize(
    "answer",
    [
        document({"role": "assistant", "content": "a", "score": 0}),
        document({"role": "assistant", "content": "a", "cut": False}),
        document({"role": "assistant", "content": None, "tool_calls": {"id": "t", "type": "function"}}),
        document({"role": "assistant", "content": None, "tool_calls": ["t"]}),
        document({"role": "assistant", "content": "a"}, usage="9"),
        document({"role": "assistant", "content": "a"}, usage={"a": float("nan")}),
        document() | {"choices": [{"index": 0, "message": "a", "finish_reason": "stop"}]},
        document() | {"choices": {"0": {"index": 0, "message": {"content": "a"}, "finish_reason": "stop"}}},
        document({"role": "assistant", "content": "a", "annotations": [{"type": "url_citation"}]}),
        document({"role": "assistant", "content": None, "audio": {"id": "a"}}),
        document({"role": "assistant", "content": None, "tool_calls": [{"id": "t", "type": "custom", "custom": {}}]}),
        document({"role": "assistant", "content": "a"}, citations=["u"]),
        document(),
        document(object="text_completion"),
        {},
    ],
)
def test_a_document_with_anything_unknown_is_not_converted(answer: dict[str, Any]) -> None:
    assert converted(CHAT, json.dumps(answer).encode(), to_stream=True) is None


def test_what_is_empty_in_a_message_is_nothing_to_convert() -> None:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "a",
        "annotations": [],
        "audio": None,
        "function_call": None,
    }
    streamed = converted(CHAT, json.dumps(document(message)).encode(), to_stream=True) or b""
    assert streamed.count(b"data: ") == 4, "one chunk, its end, usage, the end mark"


def test_a_responses_stream_holds_its_document() -> None:
    response: dict[str, Any] = {"id": "r", "object": "response", "status": "completed", "output": [], "usage": USAGE}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": {}},
        {"type": "response.completed", "response": response},
    ]
    streamed = b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)
    assert json.loads(converted(RESPONSES, streamed, to_stream=False) or b"") == response
    assert converted(RESPONSES, streamed.partition(b"event: response.completed")[0], to_stream=False) is None


@pytest.mark.parametrize(
    ("path", "to_stream", "possible"),
    [
        (CHAT, True, True),
        (CHAT, False, True),
        (RESPONSES, False, True),
        (RESPONSES, True, False),
        ("/completions", False, False),
    ],
)
def test_which_forms_there_are(path: str, to_stream: bool, possible: bool) -> None:
    assert is_possible(path, to_stream=to_stream) is possible


@settings(deadline=None, max_examples=examples(40))
@given(body=st.binary(max_size=100), to_stream=st.booleans(), path=st.sampled_from([CHAT, RESPONSES]))
def test_no_body_makes_the_conversion_fail(body: bytes, to_stream: bool, path: str) -> None:
    assert converted(path, body, to_stream=to_stream) is None


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a JSON document: what holds it, and under which name or number."""
    for name, each in [*object_of(value).items(), *enumerate(array_of(value))]:
        yield value, name
        yield from places(each)


CALL: dict[str, Any] = {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}
WHOLE = document({"role": "assistant", "content": "a", "tool_calls": [CALL]}, {"role": "assistant", "content": "b"})
CHUNKS = [
    chunk({"role": "assistant", "content": "a", "tool_calls": [{"index": 0, **CALL}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": "x"}}]}),
    LAST,
    OF_USAGE,
]


MESSAGE: dict[str, Any] = {
    "id": "m",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "usage": {"input_tokens": 1},
    "content": [
        {"type": "text", "text": "a", "citations": None},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
        {"type": "thinking", "thinking": "b", "signature": "s"},
    ],
    "stop_reason": "end_turn",
    "stop_sequence": None,
}
EVENTS = [
    json.loads(data)
    for data in re.findall(b"data: (.*)", converted(MESSAGES, json.dumps(MESSAGE).encode(), to_stream=True) or b"")
]
RESPONSE: list[dict[str, Any]] = [
    {"type": "response.created", "response": {"id": "r", "output": []}},
    {"type": "response.output_text.delta", "delta": "a"},
    {"type": "response.completed", "response": {"id": "r", "output": [{"content": []}]}},
]


@pytest.mark.parametrize("other", [None, True, 7, -1.5, "text", [], [None], {}, {"x": "y"}])
@pytest.mark.parametrize(
    ("path", "to_stream", "whole", "end"),
    [
        (CHAT, True, WHOLE, b"data: [DONE]\n\n"),
        (CHAT, False, CHUNKS, b""),
        (MESSAGES, True, MESSAGE, b'data: {"type":"message_stop"}\n\n'),
        (MESSAGES, False, EVENTS, b""),
        (RESPONSES, False, RESPONSE, b""),
    ],
    ids=["a chat", "chunks", "a message", "events of a message", "events of a response"],
)
def test_nothing_in_an_answer_makes_its_conversion_fail(
    path: str, to_stream: bool, whole: Any, end: bytes, other: Any
) -> None:
    sent = json.dumps(whole).encode() if to_stream else stream(*whole)
    assert converted(path, sent, to_stream=to_stream)
    for number in range(sum(1 for _ in places(whole))):
        changed: Any = copy.deepcopy(whole)
        holder, name = next(itertools.islice(places(changed), number, None))
        holder[name] = other
        body = json.dumps(changed).encode() if to_stream else stream(*changed)
        found = converted(path, body, to_stream=to_stream)
        assert found is None or (found.endswith(end) if to_stream else json.loads(found))


@pytest.mark.parametrize("cited", [[], [{"type": "char_location", "cited_text": "a"}]], ids=["nothing", "a text"])
def test_a_message_that_was_a_stream_for_a_while_is_the_same_again_with_what_it_cites(cited: list[Any]) -> None:
    delta = {"type": "content_block_delta", "index": 0}
    told = [{**delta, "delta": {"type": "citations_delta", "citation": each}} for each in cited]
    begin = next(number for number, each in enumerate(EVENTS) if each["type"] == "content_block_start") + 1
    found = converted(MESSAGES, stream(*EVENTS[:begin], *told, *EVENTS[begin:], end=""), to_stream=False)
    text, *others = MESSAGE["content"]
    assert found
    assert json.loads(found) == MESSAGE | {"content": [text | ({"citations": cited} if cited else {}), *others]}


def test_an_answer_that_was_cut_anywhere_is_not_converted() -> None:
    for to_stream, body in ((True, json.dumps(WHOLE).encode()), (False, stream(*CHUNKS).removesuffix(b"[DONE]\n\n"))):
        for length in range(len(body) if to_stream else body.rindex(b"data: {") + 8):
            assert converted(CHAT, body[:length], to_stream=to_stream) is None
