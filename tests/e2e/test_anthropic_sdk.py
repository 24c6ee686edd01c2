"""The SDK of Anthropic, as it comes, with a client key: what it gets, how it fails, and what the ledger says of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.harness import WAIT_SECONDS, Client
from tests.sdks import anthropic

if TYPE_CHECKING:
    from anthropic.types import MessageParam

HELLO: list[MessageParam] = [{"role": "user", "content": "Hello there, proxy"}]
SAID = "This is the demo server, not a model: it repeats what you send. Hello there, proxy"
USED = (4, 20)


@pytest.fixture
def sdk(client: Client) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        api_key=client.key, base_url=f"{client.stack.url}demo", max_retries=0, timeout=WAIT_SECONDS
    ) as sdk:
        yield sdk


def entries_of(client: Client, count: int) -> list[tuple[object, ...]]:
    """What the ledger says of a client's requests, without their order."""
    names = ("path", "operation", "usage_source", "input_tokens", "output_tokens")
    return sorted(tuple(entry[name] for name in names) for entry in client.wait_for_entries(count))


def test_messages_are_answered_streamed_counted_and_in_the_ledger(client: Client, sdk: anthropic.Anthropic):
    whole = sdk.messages.create(model="demo", max_tokens=100, messages=HELLO)
    with sdk.messages.stream(model="demo", max_tokens=100, messages=HELLO) as stream:
        text = "".join(stream.text_stream)
        streamed = stream.get_final_message()
    assert text == SAID
    for message in (whole, streamed):
        (block,) = message.content
        assert isinstance(block, anthropic.types.TextBlock)
        assert (block.text, message.stop_reason) == (SAID, "end_turn")
        assert (message.usage.input_tokens, message.usage.output_tokens) == USED
    assert sdk.messages.count_tokens(model="demo", messages=HELLO).input_tokens == USED[0]
    metered = ("/messages", "chat", "reported", *USED)
    assert entries_of(client, 3) == [metered, metered, ("/messages/count_tokens", "other", "none", 0, 0)]


def test_errors_of_the_server_and_of_the_proxy_are_those_that_the_sdk_knows(client: Client, sdk: anthropic.Anthropic):
    with pytest.raises(anthropic.RateLimitError, match="as ordered"):
        sdk.messages.create(model="demo-error-429", max_tokens=9, messages=HELLO)
    with pytest.raises(anthropic.AuthenticationError) as refused:
        sdk.with_options(api_key="opx-nobody").messages.create(model="demo", max_tokens=9, messages=HELLO)
    elsewhere = sdk.with_options(base_url=f"{client.stack.url}nowhere")
    with pytest.raises(anthropic.NotFoundError) as unknown:
        elsewhere.messages.create(model="demo", max_tokens=9, messages=HELLO)
    pieces = sdk.messages.create(model="demo-cut", max_tokens=100, messages=HELLO, stream=True)
    with pytest.raises(anthropic.APIStatusError) as cut:
        list(pieces)
    told = {"authentication_error": refused, "not_found_error": unknown, "api_error": cut}
    for kind, caught in told.items():
        body: Any = caught.value.body
        assert body["type"] == "error"
        assert body["error"]["type"] == kind
        assert body["request_id"]
