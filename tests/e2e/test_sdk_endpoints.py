"""The OpenAI SDK over every group of endpoints: what is sent arrives, byte for byte, and what it used is counted."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from local.demo.audio import heard, tone
from tests.e2e.harness import WAIT_SECONDS, Client, LocalStack, wait_for
from tests.sdks import openai

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello there, proxy"}]
SAID = "This is the demo server, not a model: it repeats what you send. "
SAID_TOKENS = 16
BYTES = bytes(range(256)) * 2000 + b"\r\n--boundary--\r\n\x00\xff"
WEATHER: dict[str, Any] = {
    "name": "weather",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class Trip(BaseModel):
    city: str
    stops: list[int]


@pytest.fixture
def sdk(client: Client) -> openai.OpenAI:
    return client.openai()


@pytest.fixture
def at_the_root(client: Client) -> Iterator[openai.OpenAI]:
    """The SDK with the one address that reaches all servers."""
    with openai.OpenAI(
        api_key=client.key, base_url=f"{client.stack.url}v1", max_retries=0, timeout=WAIT_SECONDS
    ) as sdk:
        yield sdk


def entries_of(client: Client, count: int) -> list[tuple[Any, ...]]:
    """What the ledger says of a client's requests, without their order."""
    names = ("operation", "usage_source", "input_tokens", "output_tokens")
    return sorted(tuple(entry[name] for name in names) for entry in client.wait_for_entries(count))


def test_tools_are_called_and_answered(sdk: openai.OpenAI):
    tools: list[ChatCompletionToolParam] = [{"type": "function", "function": WEATHER}]  # pyright: ignore[reportAssignmentType]
    asking: Any = [{"role": "user", "content": "What is the weather?"}]
    with sdk.chat.completions.stream(model="demo", messages=asking, tools=tools) as stream:
        called = stream.get_final_completion().choices[0].message
    assert called.tool_calls is not None
    (call,) = called.tool_calls
    assert call.function.parsed_arguments == {"city": "Paris"}
    result: Any = {"role": "tool", "tool_call_id": call.id, "content": "Sunny in 東京"}
    told = sdk.chat.completions.create(model="demo", messages=[*HELLO, called, result], tools=tools)  # pyright: ignore[reportArgumentType]
    assert told.choices[0].message.content == f"{SAID}Sunny in 東京"


def test_structured_output(sdk: openai.OpenAI):
    parsed = sdk.chat.completions.parse(model="demo", messages=HELLO, response_format=Trip)
    assert parsed.choices[0].message.parsed == Trip(city="Paris", stops=[1])
    with sdk.responses.stream(model="demo", input="Hello", text_format=Trip) as stream:
        assert stream.get_final_response().output_parsed == Trip(city="Paris", stops=[1])


def test_responses_are_metered_when_made_and_not_when_read(client: Client, sdk: openai.OpenAI):
    events = list(sdk.responses.create(model="demo", input="Hello", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last = events[-1]
    assert last.type == "response.completed"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == last.response.output_text == f"{SAID}Hello"
    whole = sdk.responses.create(model="demo", input="Hello")
    assert sdk.responses.retrieve(whole.id).output_text == f"{SAID}Hello"
    sdk.responses.delete(whole.id)
    made = ("responses", "reported", 1, SAID_TOKENS + 1)
    assert entries_of(client, 4) == [("responses", "none", 0, 0)] * 2 + [made] * 2


def test_what_a_conversation_costs_is_what_its_answers_cost(client: Client, sdk: openai.OpenAI):
    conversation = sdk.conversations.create(items=[{"role": "user", "content": "Hello"}])
    response = sdk.responses.create(model="demo", input="Hello", conversation=conversation.id)
    assert len(sdk.conversations.items.list(conversation.id).data) == 3
    asked: Any = {"model": "demo", "previous_response_id": response.id}
    assert len(sdk.responses.input_items.list(response.id).data) == 2
    assert sdk.responses.input_tokens.count(**asked, input="Hello").input_tokens == SAID_TOKENS + 4
    compacted = json.loads(sdk.responses.with_raw_response.compact(**asked).text)
    used = compacted["usage"]["input_tokens"], compacted["usage"]["output_tokens"]
    made = [("responses", "reported", 2, SAID_TOKENS + 1), ("responses", "reported", *used)]
    free = [("other", "none", 0, 0)] * 2 + [("responses", "none", 0, 0)] * 2
    assert entries_of(client, 6) == sorted([*made, *free])


def test_vector_stores_search_what_was_uploaded_in_parts(client: Client, sdk: openai.OpenAI):
    text = b"The moon is no cheese.\n" * 100
    uploaded = sdk.uploads.upload_file_chunked(
        file=text, filename="a.txt", bytes=len(text), mime_type="text/plain", purpose="assistants", part_size=2000
    )
    assert uploaded.file is not None
    store = sdk.vector_stores.create(name="a", file_ids=[uploaded.file.id])
    found = sdk.vector_stores.search(store.id, query="moon").data
    assert (found[0].file_id, found[0].score) == (uploaded.file.id, 1.0)
    with pytest.raises(openai.NotFoundError, match="Vector store with id 'vs_x' not found"):
        sdk.vector_stores.retrieve("vs_x")
    entries = entries_of(client, 7)
    assert [entry[1] for entry in entries] == ["missing"] + ["none"] * 6, "nobody says what a search costs"


def test_broken_stream_of_a_response(client: Client, sdk: openai.OpenAI):
    with pytest.raises(openai.APIError) as broken:
        list(sdk.responses.create(model="demo-cut", input="Hello", stream=True))
    assert broken.value.code == "upstream_broken_off"
    assert [entry["outcome"] for entry in client.wait_for_entries(1)] == ["failed"]


def test_images(client: Client, sdk: openai.OpenAI):
    whole = sdk.images.generate(model="demo", prompt="A red square", size="256x256")
    assert whole.data is not None
    streamed = sdk.images.generate(model="demo", prompt="A red square", size="256x256", stream=True, partial_images=1)
    partial, last = list(streamed)
    assert (partial.type, last.type) == ("image_generation.partial_image", "image_generation.completed")
    assert last.b64_json == whole.data[0].b64_json
    edited = sdk.images.edit(model="demo", image=[("a.png", BYTES), ("b.png", BYTES)], prompt="Blue", size="256x256")
    assert edited.usage is not None
    assert edited.usage.total_tokens == 1 + 2 * 64 + 64
    assert entries_of(client, 3) == [("images", "reported", 3, 64)] * 2 + [("images", "reported", 129, 64)]


def test_audio_byte_for_byte(client: Client, sdk: openai.OpenAI):
    said = sdk.audio.transcriptions.create(model="demo", file=("Grüße.wav", BYTES))
    assert said.text == heard("Grüße.wav", BYTES)
    *_, last = list(sdk.audio.transcriptions.create(model="demo", file=("a.wav", BYTES), stream=True))
    assert last.type == "transcript.text.done"
    assert last.text == heard("a.wav", BYTES)
    long = "Hello there " * 60
    assert sdk.audio.speech.create(model="demo", voice="alloy", input=long).content == tone(long)
    with sdk.audio.speech.with_streaming_response.create(model="demo", voice="alloy", input=long) as spoken:
        assert hashlib.sha256(b"".join(spoken.iter_bytes(1000))).digest() == hashlib.sha256(tone(long)).digest()
    entries = entries_of(client, 4)
    assert [entry[0] for entry in entries] == ["audio"] * 4
    assert [entry[1:3] for entry in entries if entry[1] == "reported"] == [("reported", 513)] * 2


def test_files_byte_for_byte(sdk: openai.OpenAI):
    file = sdk.files.create(file=("a b.bin", BYTES), purpose="user_data")
    assert (file.filename, file.bytes) == ("a b.bin", len(BYTES))
    assert sdk.files.content(file.id).content == BYTES
    other = sdk.files.create(file=("other", b"x"), purpose="user_data")
    assert [each.id for each in sdk.files.list(limit=1)][:2] == [other.id, file.id], "the query arrives"
    assert sdk.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        sdk.files.retrieve(file.id)


def test_batch(client: Client, sdk: openai.OpenAI):
    request = {"custom_id": "a", "method": "POST", "url": "/v1/responses", "body": {"model": "demo", "input": "Hello"}}
    file = sdk.files.create(file=("batch.jsonl", json.dumps(request).encode()), purpose="batch")
    begun = sdk.batches.create(input_file_id=file.id, endpoint="/v1/responses", completion_window="24h")
    wait_for(lambda: sdk.batches.retrieve(begun.id).output_file_id, "the batch")
    batch = sdk.batches.retrieve(begun.id)
    assert batch.usage is not None
    assert batch.usage.output_tokens == SAID_TOKENS + 1
    (line,) = sdk.files.content(str(batch.output_file_id)).text.splitlines()
    assert json.loads(line)["response"]["body"]["status"] == "completed"
    # It is seen once more. When what is asked after that is in the ledger, so is the batch, however often it counts.
    sdk.batches.retrieve(begun.id)
    sdk.chat.completions.create(model="demo", messages=HELLO)
    wait_for(lambda: [each for each in client.entries() if each["operation"] == "chat"], "what came after it")
    of_batch = [entry for entry in client.entries() if entry["operation"] != "chat"]
    counted = [entry["output_tokens"] for entry in of_batch if entry["output_tokens"]]
    assert counted == [SAID_TOKENS + 1], "a batch counts once, however often it is seen"


def test_moderations(sdk: openai.OpenAI):
    results = sdk.moderations.create(model="demo", input=["calm", "violence"]).results
    assert [result.flagged for result in results] == [False, True]


def test_retry_of_the_proxy_is_an_attempt(client: Client, sdk: openai.OpenAI):
    answer = sdk.chat.completions.with_raw_response.create(model="demo-flaky", messages=HELLO)
    assert answer.headers["x-attempts"] == "2"
    assert answer.parse().choices[0].message.content == f"{SAID}Hello there, proxy"
    assert [entry["outcome"] for entry in client.wait_for_entries(1)] == ["completed"]


def test_what_the_proxy_has_repeated_the_sdk_does_not(client: Client, sdk: openai.OpenAI):
    order = {"demo": {"status": 500, "times": 2}}
    with pytest.raises(openai.InternalServerError) as failed:
        sdk.with_options(max_retries=2).chat.completions.create(model="demo", messages=HELLO, extra_body=order)
    assert failed.value.response.headers["x-attempts"] == "2"
    assert [entry["outcome"] for entry in client.wait_for_entries(1)] == ["failed"]


def test_headers_of_an_answer(sdk: openai.OpenAI):
    answer = sdk.chat.completions.with_raw_response.create(
        model="demo", messages=HELLO, extra_headers={"x-request-id": "my-own-id"}
    )
    assert answer.request_id == "my-own-id"
    assert (answer.headers["x-served-by"], answer.headers["x-served-model"]) == ("demo", "demo")
    with pytest.raises(openai.BadRequestError) as refused:
        sdk.chat.completions.create(model="demo", messages=[], extra_headers={"x-request-id": "another"})
    assert (refused.value.request_id, refused.value.param) == ("another", "messages")


def test_one_address_for_all_servers(client: Client, at_the_root: openai.OpenAI):
    assert "demo/demo" in [model.id for model in at_the_root.models.list()]
    answer = at_the_root.chat.completions.create(model="demo/demo", messages=HELLO)
    assert (answer.model, answer.choices[0].message.content) == ("demo", f"{SAID}Hello there, proxy")
    said = at_the_root.audio.transcriptions.create(model="demo/demo", file=("a.wav", BYTES))
    assert said.text == heard("a.wav", BYTES), "the model in an upload is replaced, and nothing else"
    assert at_the_root.responses.create(model="demo/demo", input="Hello").output_text == f"{SAID}Hello"
    assert {entry.get("model") for entry in client.wait_for_entries(4)} >= {"demo"}


def test_async_sdk(client: Client, stack: LocalStack):
    async def streams() -> list[str]:
        async with openai.AsyncOpenAI(api_key=client.key, base_url=stack.base_url, max_retries=0) as sdk:

            async def one(number: int) -> str:
                asked: list[ChatCompletionMessageParam] = [{"role": "user", "content": f"Number {number}"}]
                stream = await sdk.chat.completions.create(model="demo", messages=asked, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

            hanging = asyncio.ensure_future(sdk.chat.completions.create(model="demo-hang", messages=HELLO))
            texts = await asyncio.gather(*(one(number) for number in range(8)))
            hanging.cancel()
            with pytest.raises(asyncio.CancelledError):
                await hanging
            return texts

    assert asyncio.run(streams()) == [f"{SAID}Number {number}" for number in range(8)]
    assert entries_of(client, 8) == [("chat", "reported", 2, SAID_TOKENS + 2)] * 8


def test_impatient_client(sdk: openai.OpenAI):
    with pytest.raises(openai.APITimeoutError):
        sdk.with_options(timeout=0.5).chat.completions.create(model="demo-hang", messages=HELLO)
    assert sdk.chat.completions.create(model="demo", messages=HELLO).choices[0].message.content
