import base64
import json
import struct
from typing import Any

import pytest
from starlette.testclient import TestClient

from local.demo_answers import Shape, answer_chat, answer_completion, tokenize
from local.demo_server import CutError, DemoServer, directions

HELLO = [{"role": "user", "content": "Hello there, you"}]


@pytest.fixture
def client() -> TestClient:
    return TestClient(DemoServer("secret", delay=0.0).app(), headers={"authorization": "Bearer secret"})


def chat(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/chat/completions", json={"model": "demo", "messages": HELLO, **body})


def events(text: str) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_tokens_are_words_and_marks():
    assert tokenize("Hello, you  there!") == ["Hello", ",", " you", "  there", "!"]
    assert "".join(tokenize("One, two.")) == "One, two."


def test_answer_says_what_it_is_and_repeats(client: TestClient):
    answer = chat(client).json()
    assert answer["object"] == "chat.completion"
    text = answer["choices"][0]["message"]["content"]
    assert text == "This is the demo server, not a model: it repeats what you send. Hello there, you"
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["prompt_tokens"] == 4
    assert answer["usage"]["completion_tokens"] == len(tokenize(text))
    assert answer["usage"]["total_tokens"] == 4 + len(tokenize(text))


@pytest.mark.parametrize("options", [None, {}, {"include_usage": False}])
def test_stream_without_usage(client: TestClient, options: Any):
    response = chat(client, stream=True, stream_options=options)
    assert response.headers["content-type"].startswith("text/event-stream")
    chunks = events(response.text)
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"][0]["delta"] == {}
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text.endswith("Hello there, you")


def test_stream_with_usage_has_one_more_chunk(client: TestClient):
    *chunks, last = events(chat(client, stream=True, stream_options={"include_usage": True}).text)
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == 4


def test_text_completion(client: TestClient):
    body = {"model": "demo", "prompt": "Once upon a time"}
    whole = client.post("/v1/completions", json=body).json()
    assert whole["object"] == "text_completion"
    assert whole["choices"][0]["text"].endswith("Once upon a time")
    streamed = events(client.post("/v1/completions", json={**body, "stream": True}).text)
    assert "".join(chunk["choices"][0]["text"] for chunk in streamed) == whole["choices"][0]["text"]


def test_limit_of_tokens_ends_the_answer():
    answer = answer_chat({"messages": HELLO, "max_tokens": 3}, {})
    assert (answer.text, answer.finish_reason) == ("This is the", "length")
    assert answer.usage()["completion_tokens"] == 3


def test_long_prompts_count_as_cached_from_1024_tokens_on():
    assert answer_completion({"prompt": "a " * 1023}, {}).cached_tokens == 0
    assert answer_completion({"prompt": "a " * 1024}, {}).cached_tokens == 1024


def test_reasoning_is_part_of_the_completion():
    answer = answer_chat({"messages": HELLO, "model": "demo-reasoning"}, {"tokens": 5})
    usage = answer.usage()
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 16
    assert usage["completion_tokens"] == 21


def test_numbers_of_tokens_can_be_ordered():
    answer = answer_chat({"messages": HELLO}, {"tokens": 5000, "reasoning_tokens": 7, "cached_tokens": 2})
    assert len(answer.tokens) == 5000
    assert (answer.reasoning_tokens, answer.cached_tokens) == (7, 2)


def test_parts_of_a_message_are_read():
    content = [{"type": "text", "text": "one two"}, {"type": "image_url", "image_url": {"url": "x"}}]
    assert answer_chat({"messages": [{"role": "user", "content": content}]}, {}).prompt_tokens == 2


def test_embeddings_as_numbers_and_as_base64(client: TestClient):
    body = {"model": "demo", "input": ["one", "two words"]}
    numbers = client.post("/v1/embeddings", json=body).json()
    encoded = client.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()
    first = numbers["data"][0]["embedding"]
    assert sum(value * value for value in first) == pytest.approx(1.0)
    assert struct.unpack("<8f", base64.b64decode(encoded["data"][0]["embedding"])) == pytest.approx(first)
    assert numbers["data"][1]["embedding"] != first
    assert numbers["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


def test_models(client: TestClient):
    names = [each["id"] for each in client.get("/v1/models").json()["data"]]
    assert "demo" in names
    assert client.get("/v1/models/demo").json()["id"] == "demo"
    assert client.get("/v1/models/none").json()["error"]["code"] == "model_not_found"


def test_audio_in_and_out(client: TestClient):
    said = client.post("/v1/audio/transcriptions", files={"file": ("a.wav", b"\0" * 500)}, data={"model": "demo"})
    assert "demo server" in said.json()["text"]
    spoken = client.post("/v1/audio/speech", json={"model": "demo", "input": "x", "voice": "y"})
    assert spoken.content.startswith(b"RIFF")


@pytest.mark.parametrize("authorization", ["Bearer opx-client-key", "Bearer ", "secret", ""])
def test_other_tokens_than_its_own_are_refused(client: TestClient, authorization: str):
    response = client.get("/v1/models", headers={"authorization": authorization})
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("body", ["{", "[]", "{}", '{"model":"demo"}', '{"messages":[{}]}'])
def test_bad_requests_are_refused_like_openai_does(client: TestClient, body: str):
    response = client.post("/v1/chat/completions", content=body)
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_unknown_paths(client: TestClient):
    assert client.get("/v1/nothing").status_code == 404
    assert client.get("/v1/chat/completions").json()["error"]["code"] == "unknown_url"


def test_errors_come_by_the_models_name(client: TestClient):
    response = chat(client, model="demo-error-429")
    assert (response.status_code, response.headers["retry-after"]) == (429, "1")
    assert response.json()["error"]["type"] == "rate_limit_error"
    assert chat(client, model="demo-error-500", stream=True).json()["error"]["type"] == "server_error"


def test_errors_come_by_the_field_demo(client: TestClient):
    response = chat(client, demo={"status": 503, "retry_after": 7})
    assert (response.status_code, response.headers["retry-after"]) == (503, "7")


def test_answers_that_are_not_json(client: TestClient):
    assert chat(client, model="demo-not-json").headers["content-type"].startswith("text/html")


def test_usage_can_be_withheld(client: TestClient):
    assert "usage" not in chat(client, model="demo-no-usage").json()
    chunks = events(chat(client, model="demo-no-usage", stream=True, stream_options={"include_usage": True}).text)
    assert all("usage" not in chunk for chunk in chunks)


@pytest.mark.parametrize("stream", [True, False])
def test_cut_ends_a_response_in_the_middle(client: TestClient, stream: bool):
    with pytest.raises((CutError, ExceptionGroup)):
        chat(client, model="demo-cut", stream=stream)


def test_field_demo_overrides_the_models_name():
    assert directions({"model": "demo-cut"}) == {"cut_after": 6}
    assert directions({"model": "demo-cut", "demo": {"cut_after": 2, "delay": 0}}) == {"cut_after": 2, "delay": 0}
    assert directions({"model": "gpt", "demo": "nonsense"}) == {}


def test_shape_of_a_chunk():
    shape = Shape(chat=True, id="x", created=1, model="m")
    first = next(shape.chunks(answer_chat({"messages": HELLO}, {}), include_usage=False))
    assert {name: first[name] for name in ("id", "object", "created", "model")} == {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
    }
