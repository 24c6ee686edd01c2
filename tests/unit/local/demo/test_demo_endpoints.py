"""Every endpoint of the demo server through the OpenAI SDK, which holds each answer to its types."""

from __future__ import annotations

import base64
import io
import json
import wave
from typing import Any

import pytest
from pydantic import BaseModel

from local.demo.audio import heard, tone
from local.demo.images import png
from local.demo.kept.files import MOST_FILES
from tests.sdks import openai

SAID = "This is the demo server, not a model: it repeats what you send. "
BYTES = bytes(range(256)) * 8 + b"\r\n--x--\r\n\r\n--"
WEATHER: dict[str, Any] = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "minimum": 2}},
        "required": ["city", "days"],
    },
}
CITY = {"city": "Paris", "days": 2}


# Image variations and audio translations are deprecated in the SDK, and still an endpoint.
OLD = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Trip(BaseModel):
    city: str
    stops: list[int]


def ask(sdk: openai.OpenAI, **options: Any) -> Any:
    messages = [{"role": "user", "content": options.pop("says", "Hello")}, *options.pop("more", [])]
    completions: Any = sdk.chat.completions
    return completions.create(model="demo", messages=messages, **options)


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "weather"}}])
def test_chat_calls_the_tool_and_then_tells_its_result(sdk: openai.OpenAI, choice: Any):
    tools = {"tools": [{"type": "function", "function": WEATHER}], "tool_choice": choice}
    called = ask(sdk, says="What is the weather?", **tools).choices[0]
    assert (called.finish_reason, called.message.content) == ("tool_calls", None)
    (call,) = called.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", CITY)
    result = {"role": "tool", "tool_call_id": call.id, "content": "Rain"}
    assert ask(sdk, more=[called.message, result], **tools).choices[0].message.content == f"{SAID}Rain"


def test_chat_streams_the_arguments_of_a_tool(sdk: openai.OpenAI):
    tools = [{"type": "function", "function": WEATHER}]
    chunks = list(ask(sdk, says="Please call weather.", tools=tools, stream=True))
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    assert (calls[0].function.name, calls[0].type) == ("weather", "function")
    assert json.loads("".join(call.function.arguments for call in calls)) == CITY
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_tools_may_be_left_alone(sdk: openai.OpenAI):
    tools = [{"type": "function", "function": WEATHER}]
    assert ask(sdk, tools=tools, tool_choice="none").choices[0].message.content == f"{SAID}Hello"
    with pytest.raises(openai.BadRequestError):
        ask(sdk, tools=tools, tool_choice={"type": "function", "function": {"name": "none of them"}})


AGENTS = ("shell", "apply_patch", "get_weather", "read_file")
"""Tools that a coding agent offers, and would carry out."""


@pytest.mark.parametrize(
    ("says", "tools", "called"),
    [
        ("Hello", ("get_weather",), None),
        ("What is the weather in Rome?", ("get_weather",), "get_weather"),
        ("what's the WEATHER", ("getWeather",), "getWeather"),
        ("Do you get it?", ("get_weather",), None),
        ("List my files and run the tests", ("run_shell_command", "list_files"), None),
        ("Fix the bug in shell.py, and read file a", AGENTS, None),
        ("What is the weather in Rome?", AGENTS, None),
        ("Please call get_weather for Rome", AGENTS, "get_weather"),
        ("Use the tool `read_file`.", AGENTS, "read_file"),
    ],
)
def test_a_tool_is_called_only_where_the_last_message_asks_for_it(
    sdk: openai.OpenAI, says: str, tools: tuple[str, ...], called: str | None
):
    offered = [{"type": "function", "function": WEATHER | {"name": name}} for name in tools]
    said = ask(sdk, says=says, tools=offered).choices[0].message
    assert [call.function.name for call in said.tool_calls or ()] == ([called] if called else [])
    assert "demo" not in "".join(call.function.arguments for call in said.tool_calls or ())
    later = [{"role": "assistant", "content": "So?"}, {"role": "user", "content": "Thanks."}]
    assert ask(sdk, says=says, more=later, tools=offered).choices[0].message.tool_calls is None


def test_each_prompt_of_a_list_has_its_choices(sdk: openai.OpenAI):
    completions: Any = sdk.completions
    said = completions.create(model="demo", prompt=["one", "two"], n=2)
    assert [(each.index, each.text) for each in said.choices] == [
        *((0, f"{SAID}one"), (1, f"{SAID}one")),
        *((2, f"{SAID}two"), (3, f"{SAID}two")),
    ]
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (2, 4 * 17)


@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "clock"}}, None])
def test_of_several_tools_none_is_called_that_nobody_asked_for(sdk: openai.OpenAI, choice: Any):
    tools = [{"type": "function", "function": WEATHER | {"name": name}} for name in ("weather", "clock")]
    said = ask(sdk, tools=tools, **({"tool_choice": choice} if choice else {})).choices[0].message
    expected = {"required": "weather", "auto": None, None: None}.get(choice if isinstance(choice, str) else None)
    expected = "clock" if isinstance(choice, dict) else expected
    assert [call.function.name for call in said.tool_calls or ()] == ([expected] if expected else [])
    assert said.content == (None if expected else f"{SAID}Hello")


def test_chat_answers_in_a_given_structure(sdk: openai.OpenAI):
    hello: Any = [{"role": "user", "content": "Hello"}]
    parsed = sdk.chat.completions.parse(model="demo", messages=hello, response_format=Trip)
    assert parsed.choices[0].message.parsed == Trip(city="Paris", stops=[1])
    any_object = json.loads(ask(sdk, response_format={"type": "json_object"}).choices[0].message.content)
    assert any_object == {"answer": SAID.strip(), "question": "Hello"}


def test_response_in_one_piece_is_kept(sdk: openai.OpenAI):
    response = sdk.responses.create(model="demo", instructions="Be brief.", input="Hello", metadata={"a": "b"})
    assert response.output_text == f"{SAID}Hello"
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (4, 17)
    kept = sdk.responses.retrieve(response.id)
    assert kept.output_text == response.output_text
    sdk.responses.delete(response.id)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(response.id)


def test_response_that_is_not_stored(sdk: openai.OpenAI):
    response = sdk.responses.create(model="demo", input="Hello", store=False)
    with pytest.raises(openai.NotFoundError):
        sdk.responses.retrieve(response.id)


def test_events_of_a_response(sdk: openai.OpenAI):
    events = list(sdk.responses.create(model="demo-reasoning", input="Hello", max_output_tokens=3, stream=True))
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds == [
        *("created", "in_progress", "output_item.added", "output_item.done"),
        *("output_item.added", "content_part.added", *["output_text.delta"] * 3),
        *("output_text.done", "content_part.done", "output_item.done", "incomplete"),
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    last: Any = events[-1]
    assert last.response.incomplete_details.reason == "max_output_tokens"
    assert (last.response.usage.output_tokens, last.response.usage.output_tokens_details.reasoning_tokens) == (19, 16)
    assert sdk.responses.retrieve(last.response.id).output_text == "This is the"


def test_response_through_the_streaming_helper(sdk: openai.OpenAI):
    with sdk.responses.stream(model="demo", input="Hello", text_format=Trip) as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        whole = stream.get_final_response()
    assert whole.output_parsed == Trip(city="Paris", stops=[1])
    assert "".join(deltas) == whole.output_text


@pytest.mark.parametrize("stream", [True, False])
def test_response_calls_the_tool_and_then_tells_its_result(sdk: openai.OpenAI, stream: bool):
    tools: Any = [{"type": "function", "strict": None, **WEATHER}]
    called: Any = sdk.responses.create(model="demo", input="Use the weather tool", tools=tools, stream=stream)
    response = [*called][-1].response if stream else called
    (call,) = response.output
    assert (call.name, json.loads(call.arguments)) == ("weather", CITY)
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "Rain"}
    told = sdk.responses.create(model="demo", input=[call, result], tools=tools)
    assert told.output_text == f"{SAID}Rain"


@pytest.mark.parametrize(
    ("given", "flagged"),
    [
        ("All is well", [False]),
        (["calm", "Violence and hate"], [False, True]),
        ([{"type": "text", "text": "violence"}, {"type": "image_url", "image_url": {"url": "x"}}], [True]),
    ],
)
def test_moderations(sdk: openai.OpenAI, given: Any, flagged: list[bool]):
    results = sdk.moderations.create(model="demo", input=given).results
    assert [result.flagged for result in results] == flagged
    assert results[-1].categories.violence == flagged[-1]


@OLD
def test_images(sdk: openai.OpenAI):
    made = sdk.images.generate(model="demo", prompt="A red square", n=2, size="256x256")
    assert made.data is not None
    assert [base64.b64decode(str(image.b64_json)) for image in made.data] == [
        png("A red square", 256, 256),
        png("A red square1", 256, 256),
    ]
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens) == (3, 128)
    edited = sdk.images.edit(model="demo", image=[("a.png", BYTES), ("b.png", BYTES)], prompt="Blue", size="256x256")
    assert edited.usage is not None
    assert edited.usage.input_tokens_details.image_tokens == 128
    legacy: Any = sdk.images
    varied = legacy.create_variation(model="demo", image=("a.png", BYTES), size="256x256", response_format="url")
    assert str(varied.data[0].url).startswith("data:image/png;base64,iVBOR")


def test_images_as_events(sdk: openai.OpenAI):
    made = sdk.images.generate(model="demo", prompt="Red", size="256x256", stream=True, partial_images=2)
    *partial, whole = list(made)
    assert [event.type for event in partial] == ["image_generation.partial_image"] * 2
    assert whole.type == "image_generation.completed"
    assert whole.usage.total_tokens == 65
    edited = sdk.images.edit(model="demo", image=("a.png", BYTES), prompt="Red", size="256x256", stream=True)
    assert [event.type for event in edited] == ["image_edit.completed"]


def test_png_is_one():
    content = png("red", 3, 2)
    assert content.startswith(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x03\0\0\0\x02")
    assert png("red", 3, 2) == content != png("blue", 3, 2)


def test_speech(sdk: openai.OpenAI):
    spoken = sdk.audio.speech.create(model="demo", voice="alloy", input="Hello there").content
    assert spoken == tone("Hello there")
    with wave.open(io.BytesIO(spoken)) as sound:
        assert (sound.getnframes(), sound.getframerate()) == (1600, 8000)


@OLD
def test_transcription_tells_what_arrived(sdk: openai.OpenAI):
    said = sdk.audio.transcriptions.create(model="demo", file=("a.wav", BYTES), prompt="two words")
    assert said.text == heard("a.wav", BYTES)
    assert said.usage is not None
    assert said.usage.type == "tokens"
    assert (said.usage.input_tokens, said.usage.output_tokens) == (5, 18)
    legacy: Any = sdk.audio.translations
    assert legacy.create(model="demo", file=("a.wav", BYTES)).text == said.text


def test_transcription_that_is_paid_for_by_the_second(sdk: openai.OpenAI):
    said: Any = sdk.audio.transcriptions.create(model="whisper-1", file=("a.wav", BYTES * 9))
    assert (said.usage.type, said.usage.seconds) == ("duration", 2)


@pytest.mark.parametrize("form", ["text", "srt", "vtt", "verbose_json"])
def test_forms_of_a_transcript(sdk: openai.OpenAI, form: Any):
    transcriptions: Any = sdk.audio.transcriptions
    said = transcriptions.create(model="demo", file=("a.wav", BYTES), response_format=form)
    assert heard("a.wav", BYTES) in (said.text if form == "verbose_json" else said)


def test_events_of_a_transcription(sdk: openai.OpenAI):
    *deltas, done = list(sdk.audio.transcriptions.create(model="demo", file=("a.wav", BYTES), stream=True))
    assert done.type == "transcript.text.done"
    assert "".join(event.delta for event in deltas if event.type == "transcript.text.delta") == done.text
    assert done.usage is not None


def test_events_of_speech(sdk: openai.OpenAI):
    body = {"model": "demo", "voice": "alloy", "input": "Hello", "stream_format": "sse"}
    transport: Any = sdk._client
    answer = transport.post("/v1/audio/speech", json=body, headers={"authorization": "Bearer secret"})
    *_, last = answer.text.strip().split("\n\n")
    assert json.loads(last.removeprefix("data: "))["usage"]["output_tokens"] == 1


def test_files_are_kept_as_they_came(sdk: openai.OpenAI):
    uploaded = [sdk.files.create(file=(f"{name}.bin", BYTES), purpose="user_data") for name in "abc"]
    other = sdk.files.create(file=("d.jsonl", b"{}"), purpose="batch")
    assert (uploaded[0].filename, uploaded[0].bytes) == ("a.bin", len(BYTES))
    assert sdk.files.content(uploaded[1].id).content == BYTES
    assert sdk.files.retrieve(other.id).purpose == "batch"
    names = [file.filename for file in sdk.files.list(purpose="user_data", limit=1, order="asc")]
    assert names == ["a.bin", "b.bin", "c.bin"], "page after page"
    assert sdk.files.delete(other.id).deleted
    for lost in (sdk.files.retrieve, sdk.files.content, sdk.files.delete):
        with pytest.raises(openai.NotFoundError):
            lost(other.id)


def test_oldest_files_are_forgotten(sdk: openai.OpenAI):
    first = sdk.files.create(file=("first", b"x"), purpose="user_data")
    for _ in range(MOST_FILES):
        sdk.files.create(file=("next", b"x"), purpose="user_data")
    with pytest.raises(openai.NotFoundError):
        sdk.files.retrieve(first.id)


def line(number: int, model: str, **more: Any) -> bytes:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **more}
    request = {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
    return json.dumps(request).encode() + b"\n"


def run_batch(sdk: openai.OpenAI, content: bytes) -> Any:
    file = sdk.files.create(file=("batch.jsonl", content), purpose="batch")
    batch = sdk.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert batch.status == "validating"
    for _ in range(1000):
        if (batch := sdk.batches.retrieve(batch.id)).status not in ("validating", "in_progress"):
            break
    return batch


def test_batch(sdk: openai.OpenAI):
    batch = run_batch(sdk, line(1, "demo") + line(2, "demo-error-429") + line(3, "demo", n=99) + line(4, "demo"))
    assert batch.status == "completed"
    assert batch.request_counts.model_dump() == {"total": 4, "completed": 2, "failed": 2}
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (2, 34)
    answers = [json.loads(each) for each in sdk.files.content(batch.output_file_id).text.splitlines()]
    assert [answer["custom_id"] for answer in answers] == ["line-1", "line-4"]
    assert answers[0]["response"]["body"]["choices"][0]["message"]["content"] == f"{SAID}Hello"
    errors = [json.loads(each) for each in sdk.files.content(batch.error_file_id).text.splitlines()]
    assert [answer["response"]["status_code"] for answer in errors] == [429, 400]
    assert [each.id for each in sdk.batches.list()] == [batch.id]


@pytest.mark.parametrize("content", [b"no JSON", b'{"url": "/v1/embeddings", "custom_id": "a", "body": {}}', b"[]"])
def test_batch_of_something_else(sdk: openai.OpenAI, content: bytes):
    batch = run_batch(sdk, content)
    assert (batch.status, batch.errors.data[0].code) == ("failed", "invalid_json_line")


def test_batch_can_be_cancelled(sdk: openai.OpenAI):
    file = sdk.files.create(file=("batch.jsonl", line(1, "demo") * 5000), purpose="batch")
    batch = sdk.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    assert sdk.batches.cancel(batch.id).status == "cancelled"
    assert sdk.batches.retrieve(batch.id).status == "cancelled"
