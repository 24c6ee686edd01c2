import base64
import json
import struct
from typing import Any

import pytest
from starlette.testclient import TestClient

from local.demo.answers import Question, answer, tokenize
from local.demo.chat import Shape, usage_of
from local.demo.faults import CutError, directions
from local.demo.server import DemoServer

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
    whole = chat(client).json()
    assert whole["object"] == "chat.completion"
    text = whole["choices"][0]["message"]["content"]
    assert text == "This is the demo server, not a model: it repeats what you send. Hello there, you"
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert whole["usage"]["prompt_tokens"] == 4
    assert whole["usage"]["completion_tokens"] == len(tokenize(text))
    assert whole["usage"]["total_tokens"] == 4 + len(tokenize(text))


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


def test_a_stream_of_several_prompts_numbers_their_choices_one_after_the_other(client: TestClient):
    body = {"model": "demo", "prompt": ["one", [1, 2]], "n": 2, "stream": True}
    texts = ["", "", "", ""]
    for chunk in events(client.post("/v1/completions", json=body).text):
        [choice] = chunk["choices"]
        texts[choice["index"]] += choice["text"]
    assert [text.rpartition(". ")[2] for text in texts] == ["one", "one", "1 2", "1 2"]
    assert client.post("/v1/completions", json={**body, "prompt": ["a"] * 99}).status_code == 400


def test_a_long_message_is_repeated_in_part_and_that_is_said(client: TestClient):
    short, long = "word " * 200, "word " * 1200
    for text, end in ((short, "word"), (long, "… and 1000 more words, which are left out here.")):
        choice = chat(client, messages=[{"role": "user", "content": text}]).json()["choices"][0]
        assert choice["finish_reason"] == "stop"
        assert choice["message"]["content"].endswith(end)
        assert choice["message"]["content"].count("word ") >= 199


ODD_VALUES: dict[str, list[Any]] = {
    "messages": ["text", [], {}, [1], [[]], [None], 7, [{"content": 7}], [{"content": [7, None]}]],
    "tools": [7, [7], [{}], [{"type": "function"}], [{"type": "function", "function": {}}]],
    "n": ["2", [], {}, -1, 0.5],
    "stop": [7, {}, [7], [""]],
    "max_tokens": ["7", [], 0, -1],
    "response_format": [7, "json", {"type": "json_schema"}, {"type": "json_schema", "json_schema": 7}],
    "stream_options": [7, "x", []],
    "tool_choice": [7, {}, [], "x"],
}
OFFERED = {"tools": [{"type": "function", "function": {"name": "f"}}]}
ODD_FIELDS: list[dict[str, Any]] = [
    {**(OFFERED if name == "tool_choice" else {}), name: value}
    for name, values in ODD_VALUES.items()
    for value in values
]


@pytest.mark.parametrize("path", ["chat/completions", "completions", "responses", "messages", "embeddings"])
def test_a_malformed_field_is_the_clients_fault(client: TestClient, path: str):
    usual: dict[str, Any] = {"model": "demo", "max_tokens": 9, "prompt": "a", "input": "a"}
    for odd in ODD_FIELDS:
        body = usual | {"messages": [{"role": "user", "content": "a"}]} | odd
        answer = client.post(f"/v1/{path}", json=body | {"prompt": body["messages"], "input": body["messages"]})
        assert answer.status_code in (200, 400), odd


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", "conversations"), ("GET", "uploads"), ("PATCH", "vector_stores"), ("POST", "responses/resp_1")),
        *(("GET", "fine_tuning/jobs"), ("POST", "containers"), ("GET", "nothing"), ("POST", "nothing")),
    ],
)
def test_what_the_demo_server_has_not_is_refused_as_openai_does(client: TestClient, method: str, path: str):
    answer = client.request(method, f"/v1/{path}", json={})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (404, "invalid_request_error")
    assert error["message"].startswith(f"Unknown request URL: {method} /v1/{path}. Please check the URL for typos")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(400, "invalid_request_error"), (404, "invalid_request_error"), (429, "rate_limit_error"), (503, "server_error")],
)
def test_an_ordered_error_has_the_type_that_goes_with_its_status(client: TestClient, status: int, kind: str):
    answer = chat(client, model=f"demo-error-{status}")
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind), "agents repeat a server's errors"


@pytest.mark.parametrize(
    "block",
    [
        "path/to/a.js\n```\nrm\n```",
        "```sh\nrm\n```",
        "  ~~~\nrm",
        "<<<<<<< SEARCH\nx",
        "*** Begin Patch\n",
        "diff --git a b",
        "<write_to_file>x",
    ],
)
def test_nothing_is_repeated_that_an_agent_would_carry_out(client: TestClient, block: str):
    messages = [{"role": "user", "content": f"Hello\n{block}\nand more"}]
    said = chat(client, messages=messages).json()["choices"][0]["message"]["content"]
    assert "send. Hello" in said
    assert "more words, which are left out here." in said
    assert block.splitlines()[0] not in said or "/" in block
    assert "```" not in said
    call = {"id": "call_1", "type": "function", "function": {"name": "read", "arguments": "{}"}}
    result = {"role": "tool", "tool_call_id": "call_1", "content": f"{block}\nand more"}
    messages += [{"role": "assistant", "tool_calls": [call]}, result]
    assert f"send. {block}\nand more" in chat(client, messages=messages).json()["choices"][0]["message"]["content"]


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_limit_of_tokens_ends_the_answer(client: TestClient, limit: str):
    whole = chat(client, **{limit: 3}).json()
    choice = whole["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("This is the", "length")
    assert whole["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize(("stop", "text"), [("not", "This is the demo server,"), (["it", " demo"], "This is the")])
def test_stop_ends_the_answer(client: TestClient, stop: Any, text: str):
    choice = chat(client, stop=stop).json()["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == (text, "stop")


def test_several_choices(client: TestClient):
    whole = chat(client, n=3, max_tokens=4).json()
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert whole["usage"]["completion_tokens"] == 12
    streamed = events(chat(client, n=3, max_tokens=4, stream=True).text)
    assert [chunk["choices"][0]["index"] for chunk in streamed] == [0, 1, 2] * 6
    assert chat(client, n=1000).json()["error"]["param"] == "n"


def test_log_probabilities_of_one_who_is_certain(client: TestClient):
    told = chat(client, logprobs=True, top_logprobs=2, max_tokens=2).json()["choices"][0]["logprobs"]["content"]
    assert [(each["token"], each["logprob"], each["bytes"]) for each in told] == [
        ("This", 0.0, list(b"This")),
        (" is", 0.0, list(b" is")),
    ]
    assert [other["token"] for each in told for other in each["top_logprobs"]] == ["This", " is"]
    streamed = events(chat(client, logprobs=True, max_tokens=2, stream=True).text)
    assert [chunk["choices"][0]["logprobs"] is None for chunk in streamed] == [True, False, False, True]
    body = {"model": "demo", "prompt": "x", "logprobs": 1, "max_tokens": 3}
    legacy = client.post("/v1/completions", json=body).json()["choices"][0]["logprobs"]
    assert (legacy["tokens"], legacy["text_offset"]) == (["This", " is", " the"], [0, 4, 7])


def test_long_prompts_count_as_cached_from_1024_tokens_on():
    assert answer(Question("demo", ["a " * 1023]), {}).cached_tokens == 0
    assert answer(Question("demo", ["a " * 1024]), {}).cached_tokens == 1024


def test_reasoning_is_part_of_the_completion():
    usage = usage_of(answer(Question("demo-reasoning", ["Hello"]), {"tokens": 5}))
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 16
    assert usage["completion_tokens"] == 21


def test_numbers_of_tokens_can_be_ordered():
    said = answer(Question("demo", ["Hello"]), {"tokens": 5000, "reasoning_tokens": 7, "cached_tokens": 2})
    assert len(said.tokens) == 5000
    assert (said.reasoning_tokens, said.cached_tokens) == (7, 2)


def test_parts_of_a_message_are_read(client: TestClient):
    content = [{"type": "text", "text": "one two"}, {"type": "image_url", "image_url": {"url": "x"}}]
    whole = chat(client, messages=[{"role": "user", "content": content}]).json()
    assert whole["usage"]["prompt_tokens"] == 2


def test_embeddings_as_numbers_and_as_base64(client: TestClient):
    body = {"model": "demo", "input": ["one", "two words"]}
    numbers = client.post("/v1/embeddings", json=body).json()
    encoded = client.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()
    first = numbers["data"][0]["embedding"]
    assert sum(value * value for value in first) == pytest.approx(1.0)
    assert struct.unpack("<8f", base64.b64decode(encoded["data"][0]["embedding"])) == pytest.approx(first)
    assert numbers["data"][1]["embedding"] != first
    assert numbers["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    longer = client.post("/v1/embeddings", json={**body, "dimensions": 300}).json()
    assert [len(each["embedding"]) for each in longer["data"]] == [300, 300]


@pytest.mark.parametrize(("tokens", "texts"), [([1, 2, 3], 1), ([[1, 2], [3]], 2)])
def test_embeddings_of_tokens(client: TestClient, tokens: Any, texts: int):
    found = client.post("/v1/embeddings", json={"model": "demo", "input": tokens}).json()
    assert (len(found["data"]), found["usage"]["total_tokens"]) == (texts, 3)


def test_models(client: TestClient):
    names = [each["id"] for each in client.get("/v1/models").json()["data"]]
    assert "demo" in names
    assert client.get("/v1/models/demo").json()["id"] == "demo"
    assert client.get("/v1/models/none").json()["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("authorization", ["Bearer opx-client-key", "Bearer ", "secret", ""])
def test_other_tokens_than_its_own_are_refused(client: TestClient, authorization: str):
    response = client.get("/v1/models", headers={"authorization": authorization})
    assert response.status_code == 401
    assert response.json()["error"]["code"] == "invalid_api_key"


BAD_REQUESTS = {
    "chat/completions": ["{", "[]", "{}", '{"model":"demo"}', '{"model":"demo","messages":[{}]}'],
    "responses": ["{", '{"model":"demo"}', '{"model":"demo","input":[3]}'],
    "embeddings": ['{"model":"demo","input":{}}', '{"model":"demo","input":"x","dimensions":0}'],
    "images/generations": ["{}", '{"prompt":"x","n":11}', '{"prompt":"x","size":"9999x1"}'],
    "batches": ["{}", '{"input_file_id":"x","endpoint":"/v1/images","completion_window":"24h"}'],
    "files": ["{}", "--x--"],
    "audio/transcriptions": ["--x"],
}


@pytest.mark.parametrize(("path", "body"), [(path, body) for path, bodies in BAD_REQUESTS.items() for body in bodies])
def test_bad_requests_are_refused_like_openai_does(client: TestClient, path: str, body: str):
    response = client.post(f"/v1/{path}", content=body, headers={"content-type": "multipart/form-data; boundary=x"})
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


def test_errors_may_come_a_few_times(client: TestClient):
    assert [chat(client, demo={"status": 500, "times": 2}).status_code for _ in range(6)] == [500, 500, 200] * 2
    assert chat(client, model="demo-flaky").status_code == 500
    assert chat(client, model="demo-flaky", max_tokens=3).status_code == 500, "another request"
    assert chat(client, model="demo-flaky").status_code == 200


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
    first = next(shape.chunks([answer(Question("m", ["Hello"]), {})], include_usage=False))
    assert {name: first[name] for name in ("id", "object", "created", "model")} == {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
    }
