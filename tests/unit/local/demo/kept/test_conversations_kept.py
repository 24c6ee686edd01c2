"""Conversations of the demo server, and the responses that continue one, through the OpenAI SDK."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sdks import openai

SAID = "This is the demo server, not a model: it repeats what you send."


def said(items: Any) -> list[tuple[str, str]]:
    return [(item.role, item.content[0].text) for item in items]


def test_what_is_said_in_a_conversation_stays_in_it(sdk: openai.OpenAI):
    made = sdk.conversations.create(items=[{"role": "user", "content": "One"}], metadata={"a": "b"})
    assert (made.metadata, sdk.conversations.retrieve(made.id)) == ({"a": "b"}, made)
    response = sdk.responses.create(model="demo", input="Two", conversation=made.id)
    assert (response.conversation and response.conversation.id, response.usage and response.usage.input_tokens) == (
        made.id,
        2,
    )
    expected = [("user", "One"), ("user", "Two"), ("assistant", f"{SAID} Two")]
    assert said(sdk.conversations.items.list(made.id, order="asc", limit=2)) == expected, "page after page"
    assert said(sdk.conversations.items.list(made.id)) == expected[::-1]
    *_, last = sdk.responses.create(model="demo", input="Three", conversation={"id": made.id}, stream=True)
    assert last.type == "response.completed"
    assert len(list(sdk.conversations.items.list(made.id))) == 5


def test_conversations_are_changed_and_deleted(sdk: openai.OpenAI):
    made = sdk.conversations.create()
    assert sdk.conversations.update(made.id, metadata={"c": "d"}).metadata == {"c": "d"}
    (item,) = sdk.conversations.items.create(
        made.id, items=[{"type": "function_call_output", "call_id": "call_1", "output": "Rain"}]
    ).data
    found: Any = sdk.conversations.items.retrieve(str(item.id), conversation_id=made.id)
    assert (found.type, found.output, found.status) == ("function_call_output", "Rain", "completed")
    assert sdk.conversations.items.delete(str(item.id), conversation_id=made.id).id == made.id
    with pytest.raises(openai.NotFoundError, match="not found in conversation"):
        sdk.conversations.items.retrieve(str(item.id), conversation_id=made.id)
    assert sdk.conversations.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError, match=f"Conversation with id '{made.id}' not found"):
        sdk.responses.create(model="demo", input="Hello", conversation=made.id)


def test_a_response_goes_on_where_another_ended(sdk: openai.OpenAI):
    first = sdk.responses.create(model="demo", input="One")
    second = sdk.responses.create(model="demo", input="Two", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    expected = [("user", "One"), ("assistant", f"{SAID} One"), ("user", "Two")]
    items = list(sdk.responses.input_items.list(second.id, order="asc", limit=1))
    assert said(items) == expected
    reference: Any = [{"type": "item_reference", "id": items[1].id}, {"role": "user", "content": "Three"}]
    third = sdk.responses.create(model="demo", input=reference, store=False)
    assert third.output_text == f"{SAID} Three"
    with pytest.raises(openai.NotFoundError, match=f"Response with id '{third.id}' not found"):
        sdk.responses.input_items.list(third.id)
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.responses.create(model="demo", input="Two", previous_response_id=third.id)
    assert refused.value.code == "previous_response_not_found"


def test_tokens_are_counted_as_the_answer_counts_them(sdk: openai.OpenAI):
    first = sdk.responses.create(model="demo", instructions="Be brief.", input="One, two")
    assert first.usage is not None
    counted = sdk.responses.input_tokens.count(model="demo", instructions="Be brief.", input="One, two")
    assert counted.input_tokens == first.usage.input_tokens == 6
    second = sdk.responses.create(model="demo", input="Three", previous_response_id=first.id)
    counted = sdk.responses.input_tokens.count(input="Three", previous_response_id=first.id)
    assert second.usage is not None
    assert counted.input_tokens == second.usage.input_tokens > 20


def test_a_compacted_conversation_is_what_the_user_said_and_one_item(sdk: openai.OpenAI):
    first = sdk.responses.create(model="demo", input="One")
    # As it came: the SDK's types know no message of a user in an output, which OpenAI documents.
    raw = sdk.responses.with_raw_response.compact(model="demo", input="Two", previous_response_id=first.id)
    compacted = json.loads(raw.text)
    *users, last = compacted["output"]
    assert [item["content"][0]["text"] for item in users] == ["One", "Two"]
    assert (last["type"], compacted["usage"]["input_tokens"]) == ("compaction", 2 + 17)
    assert 0 < compacted["usage"]["output_tokens"] < compacted["usage"]["total_tokens"]
    again: Any = [*compacted["output"], {"role": "user", "content": "Three"}]
    assert sdk.responses.create(model="demo", input=again).output_text == f"{SAID} Three"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"items": [{"role": "user", "content": "Hello"}] * 21}, "array_above_max_length"),
        ({"items": [{"role": "nobody", "content": "Hello"}]}, "invalid_value"),
        ({"items": [{"role": "user", "content": 7}]}, "invalid_type"),
        ({"items": [{"content": "Hello"}]}, "missing_required_parameter"),
        ({"items": "Hello"}, "invalid_type"),
        ({"items": [7]}, None),
        ({"metadata": {str(number): "" for number in range(17)}}, "object_above_max_properties"),
        ({"metadata": {"a": 1}}, "invalid_type"),
        ({"metadata": ["a"]}, "invalid_type"),
        ({"metadata": {"a": "x" * 513}}, "string_above_max_length"),
    ],
)
def test_what_is_no_conversation_is_refused(sdk: Any, asked: Any, code: str | None):
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.conversations.create(**asked)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"conversation": "conv_a", "previous_response_id": "resp_a"}, "mutually_exclusive_parameters"),
        ({"conversation": {"id": 7}}, "invalid_type"),
        ({"previous_response_id": {"id": "resp_a"}}, None),
    ],
)
def test_what_refers_to_nothing_is_refused(sdk: Any, asked: Any, code: str | None):
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.responses.create(model="demo", input="Hello", **asked)
    assert refused.value.code == code


def test_a_finished_response_cannot_be_cancelled(sdk: Any):
    for asked, told in (({}, "background"), ({"background": True}, "completed")):
        response = sdk.responses.create(model="demo", input="Hello", **asked)
        with pytest.raises(openai.BadRequestError, match=told):
            sdk.responses.cancel(response.id)
