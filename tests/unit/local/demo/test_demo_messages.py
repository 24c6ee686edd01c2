"""The demo server's Messages API through the Anthropic SDK, which holds each answer to its types."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.sdks import anthropic

URL = "http://testserver"
SAID = "This is the demo server, not a model: it repeats what you send. "
WEATHER: dict[str, Any] = {
    "name": "weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CITY = {"city": "Paris"}


@pytest.fixture
def sdk(transport: TestClient) -> anthropic.Anthropic:
    return anthropic.Anthropic(
        auth_token="secret", base_url=URL, http_client=transport, max_retries=0, _strict_response_validation=True
    )


def body(*more: Any, **options: Any) -> dict[str, Any]:
    return {"model": "demo", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}, *more], **options}


def created(sdk: anthropic.Anthropic, *more: Any, **options: Any) -> anthropic.types.Message:
    messages: Any = sdk.messages
    return messages.create(**body(*more, **options))


def streamed(sdk: anthropic.Anthropic, **options: Any) -> anthropic.types.Message:
    messages: Any = sdk.messages
    with messages.stream(**body(**options)) as stream:
        return stream.get_final_message()


def test_a_message_and_the_same_as_a_stream(sdk: anthropic.Anthropic):
    for message in (created(sdk, system="Be brief."), streamed(sdk, system="Be brief.")):
        assert [block.to_dict() for block in message.content] == [{"type": "text", "text": f"{SAID}Hello"}]
        assert (message.stop_reason, message.usage.input_tokens, message.usage.output_tokens) == ("end_turn", 4, 17)
    hello: Any = body()["messages"]
    assert sdk.messages.count_tokens(model="demo", system="Be brief.", messages=hello).input_tokens == 4


def test_a_tool_is_called_and_then_its_result_is_told(sdk: anthropic.Anthropic):
    whole = created(sdk, tools=[WEATHER], tool_choice={"type": "tool", "name": "weather"})
    chosen: Any = {"tool_choice": {"type": "any"}}
    for message in (whole, streamed(sdk, tools=[WEATHER], **chosen)):
        (call,) = message.content
        assert isinstance(call, anthropic.types.ToolUseBlock)
        assert (message.stop_reason, call.name, call.input) == ("tool_use", "weather", CITY)
    results = [{"type": "tool_result", "tool_use_id": "t", "content": "Rain"}]
    more = {"role": "assistant", "content": whole.content}, {"role": "user", "content": results}
    (told,) = created(sdk, *more, tools=[WEATHER]).content
    assert isinstance(told, anthropic.types.TextBlock)
    assert told.text == f"{SAID}Rain"


def test_a_coding_agent_with_many_tools_gets_a_text_unless_it_asks_for_a_call(sdk: anthropic.Anthropic):
    tools = [WEATHER | {"name": name} for name in ("Agent", "Bash")]
    for choice, kinds in ((None, ["text"]), ("auto", ["text"]), ("none", ["text"]), ("any", ["tool_use"])):
        chosen = {"tool_choice": {"type": choice}} if choice else {}
        assert [block.type for block in streamed(sdk, tools=tools, **chosen).content] == kinds


def test_thoughts_cached_tokens_and_a_limit(sdk: anthropic.Anthropic):
    thinks: dict[str, Any] = {"thinking": {"type": "adaptive"}, "extra_body": {"demo": {"cached_tokens": 1}}}
    message = streamed(sdk, max_tokens=3, **thinks)
    assert [block.type for block in message.content] == ["thinking", "text"]
    usage = message.usage
    assert (usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens) == (0, 1, 19)
    assert usage.output_tokens_details is not None
    assert usage.output_tokens_details.thinking_tokens == 16
    assert message.stop_reason == "max_tokens"


@pytest.mark.parametrize(
    ("model", "error"), [("demo-error-429", "RateLimitError"), ("demo-error-500", "InternalServerError")]
)
def test_ordered_errors(sdk: anthropic.Anthropic, model: str, error: str):
    with pytest.raises(getattr(anthropic, error), match="as ordered"):
        created(sdk, model=model)


def test_what_is_refused_has_anthropics_form(sdk: anthropic.Anthropic):
    with pytest.raises(anthropic.BadRequestError) as caught:
        created(sdk, messages=[])
    assert caught.value.body == {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "You must provide the parameter 'messages'."},
    }
