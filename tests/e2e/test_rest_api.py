"""The other door: the REST API with its authorizer, as deployed. The embedded AWS gives whole answers only."""

import json

import httpx
import pytest

from tests.e2e.harness import WAIT_SECONDS, Client

HELLO = {"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}


def post(client: Client, key: str | None, body: object) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    url = f"{client.stack.environment['REST_API_URL']}demo/v1/chat/completions"
    return httpx.post(url, headers=headers, json=body, timeout=WAIT_SECONDS)


def test_chat_through_the_rest_api(client: Client):
    answer = post(client, client.key, HELLO)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"].endswith("Hello")
    (entry,) = client.wait_for_entries(1)
    assert (entry["door"], entry["outcome"], entry["input_tokens"]) == ("rest_api", "completed", 1)


@pytest.mark.parametrize("header", ["x-api-key", "api-key"])
def test_a_key_in_the_header_of_another_sdk(client: Client, header: str):
    url = f"{client.stack.environment['REST_API_URL']}demo/v1/chat/completions"
    assert httpx.post(url, headers={header: client.key}, json=HELLO, timeout=WAIT_SECONDS).status_code == 200
    assert httpx.post(url, headers={header: "opx-wrong"}, json=HELLO, timeout=WAIT_SECONDS).status_code == 401


def test_stream_through_the_rest_api_is_whole(client: Client):
    answer = post(client, client.key, {**HELLO, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, done = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert done == "[DONE]"
    assert "".join(json.loads(chunk)["choices"][0]["delta"].get("content", "") for chunk in chunks).endswith("Hello")


@pytest.mark.parametrize("key", [None, "opx-wrong"])
def test_refusal_of_the_gateway_is_an_openai_error(client: Client, key: str | None):
    answer = post(client, key, HELLO)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"
