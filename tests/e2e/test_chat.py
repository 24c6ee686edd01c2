"""The OpenAI SDK, unmodified, against the function URL; and what the ledger says of it afterwards."""

from __future__ import annotations

import http.client
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.e2e.harness import WAIT_SECONDS, Client, LocalStack
from tests.sdks import openai

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello there, proxy"}]
ANSWER = "This is the demo server, not a model: it repeats what you send. Hello there, proxy"
ANSWER_TOKENS = 20

INPUT_PRICE = Decimal("0.5") / 1_000_000
CACHED_PRICE = Decimal("0.05") / 1_000_000
OUTPUT_PRICE = Decimal(2) / 1_000_000


def texts_of(stream: Any) -> list[str]:
    return [chunk.choices[0].delta.content or "" for chunk in stream]


def test_stream_and_its_ledger_entry(client: Client):
    stream = client.openai().chat.completions.create(model="demo", messages=HELLO, stream=True)
    texts = texts_of(stream)
    assert "".join(texts) == ANSWER, "the usage chunk that the proxy asked for is hidden: every chunk has a choice"
    assert len(texts) > ANSWER_TOKENS
    (entry,) = client.wait_for_entries(1)
    assert entry["outcome"] == "completed"
    assert (entry["server"], entry["model"], entry["operation"]) == ("demo", "demo", "chat")
    assert entry["stream"] is True
    assert (entry["input_tokens"], entry["output_tokens"]) == (4, ANSWER_TOKENS)
    assert entry["cost"] == 4 * INPUT_PRICE + ANSWER_TOKENS * OUTPUT_PRICE
    assert entry["usage_source"] == "reported"
    assert entry["time_to_first_chunk"] < entry["duration"]
    assert entry["door"] == "function_url"


def test_stream_with_usage_has_the_usage_chunk(client: Client):
    stream = client.openai().chat.completions.create(
        model="demo", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER
    assert last.choices == []
    assert last.usage is not None
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (4, ANSWER_TOKENS)


def test_tokens_arrive_while_the_server_still_works(client: Client):
    """The server stops after five chunks without ending: what it sent must be here nevertheless."""
    stream = client.openai().chat.completions.create(
        model="demo", messages=HELLO, stream=True, extra_body={"demo": {"hang_after": 5}}
    )
    chunks = iter(stream)
    assert [next(chunks).choices[0].delta.content for _ in range(5)] == ["", "This", " is", " the", " demo"]
    stream.close()


def test_options_reach_the_server(client: Client):
    chunks = client.openai().chat.completions.create(
        model="demo", messages=HELLO, stream=True, n=2, max_tokens=9, stop=["server"], logprobs=True, top_logprobs=1
    )
    texts = ["", ""]
    for chunk in chunks:
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        assert (choice.logprobs is not None) == bool(choice.delta.content)
    assert texts == ["This is the demo"] * 2
    (entry,) = client.wait_for_entries(1)
    assert (entry["output_tokens"], entry["usage_source"]) == (8, "reported")


def test_answer_in_one_piece(client: Client):
    answer = client.openai().chat.completions.create(model="demo", messages=HELLO)
    assert answer.choices[0].message.content == ANSWER
    assert answer.usage is not None
    assert answer.usage.total_tokens == 4 + ANSWER_TOKENS
    (entry,) = client.wait_for_entries(1)
    assert entry["stream"] is False
    assert entry["cost"] == 4 * INPUT_PRICE + ANSWER_TOKENS * OUTPUT_PRICE


def test_default_model_of_the_server(client: Client):
    answer = client.post("demo/v1/chat/completions", json={"messages": HELLO})
    assert answer.json()["model"] == "demo"


def test_cached_and_reasoning_tokens_are_recorded(client: Client):
    order = {"tokens": 10, "cached_tokens": 3, "reasoning_tokens": 7}
    client.openai().chat.completions.create(model="demo", messages=HELLO, extra_body={"demo": order})
    (entry,) = client.wait_for_entries(1)
    assert (entry["input_tokens"], entry["cache_read_input_tokens"]) == (4, 3)
    assert (entry["output_tokens"], entry["reasoning_output_tokens"]) == (17, 7)
    assert entry["cost"] == 1 * INPUT_PRICE + 3 * CACHED_PRICE + 17 * OUTPUT_PRICE


def test_long_prompt_in_and_out(client: Client):
    """32,768 tokens each way, streamed and in one piece."""
    prompt: list[ChatCompletionMessageParam] = [{"role": "user", "content": "word " * 32768}]
    order = {"demo": {"tokens": 32768, "delay": 0}}
    whole = client.openai().chat.completions.create(model="demo", messages=prompt, extra_body=order)
    body = {"model": "demo", "messages": prompt, "stream": True, **order}
    frames = client.post("demo/v1/chat/completions", json=body).text.split("\n\n")  # an SDK takes seconds to read them
    chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames if frame.startswith("data: {")]
    streamed = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
    assert whole.choices[0].message.content == "".join(streamed)
    assert whole.usage is not None
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (32768, 32768)
    entries = client.wait_for_entries(2)
    assert [(entry["input_tokens"], entry["output_tokens"]) for entry in entries] == [(32768, 32768)] * 2


def test_embeddings_models_and_text_completions(client: Client):
    sdk = client.openai()
    assert "demo" in [model.id for model in sdk.models.list()]
    embedding = sdk.embeddings.create(model="demo", input=["one", "two"])
    assert len(embedding.data) == 2
    completion = sdk.completions.create(model="demo", prompt="Once upon")
    assert completion.choices[0].text.endswith("Once upon")
    pieces = sdk.completions.create(model="demo", prompt="Once upon", stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == completion.choices[0].text
    operations = [entry["operation"] for entry in client.wait_for_entries(4)]
    assert sorted(operations) == ["embeddings", "models", "text_completion", "text_completion"]


def test_wrong_and_missing_keys_are_refused(stack: LocalStack, client: Client):
    with pytest.raises(openai.AuthenticationError) as refused:
        client.openai(client.mistyped_key).chat.completions.create(model="demo", messages=HELLO)
    assert refused.value.code == "invalid_api_key"
    url = f"{stack.base_url}/chat/completions"
    missing = httpx.post(url, json={"model": "demo", "messages": HELLO}, timeout=WAIT_SECONDS)
    assert (missing.status_code, missing.json()["error"]["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("nowhere/v1/chat/completions", 404, "unknown_server"),
        ("__proto__/v1/chat/completions", 404, "unknown_server"),
        ("chat/completions", 404, "unknown_path"),
        ("demo/v1/../../openai/v1/models", 404, "unknown_path"),
        ("demo/v1/a%2F..%2Fb", 404, "unknown_path"),
        ("demo/v1//models", 404, "unknown_path"),
        ("", 404, "unknown_path"),
    ],
)
def test_paths_that_lead_nowhere(client: Client, path: str, status: int, code: str):
    # An HTTP library would tidy the path up before it sends it.
    connection = http.client.HTTPConnection("127.0.0.1", client.stack.ports["PORT"], timeout=WAIT_SECONDS)
    connection.request("POST", f"/{path}", "{}", {"authorization": f"Bearer {client.key}"})
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]["code"]) == (status, code)
    connection.close()


def test_broken_json_is_refused(client: Client):
    answer = client.post("demo/v1/chat/completions", content=b'{"model":')
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_json")


def test_body_of_six_megabytes(client: Client):
    message = {"role": "user", "content": "x" * (6 * 1024 * 1024 - 16384)}
    fits = client.post("demo/v1/chat/completions", json={"messages": [message], "demo": {"tokens": 5}})
    assert fits.status_code == 200
    message["content"] += "x" * 16384
    too_large = client.post("demo/v1/chat/completions", json={"messages": [message]})
    assert (too_large.status_code, too_large.json()["error"]["code"]) == (413, "request_too_large")


def test_browser_may_ask_first(stack: LocalStack):
    headers = {"origin": "https://app.example.com", "access-control-request-method": "POST"}
    answer = httpx.options(f"{stack.base_url}/chat/completions", headers=headers, timeout=WAIT_SECONDS)
    assert answer.status_code == 200
    assert answer.headers.get_list("access-control-allow-origin") == ["*"]
