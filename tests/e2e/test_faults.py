"""What goes wrong goes wrong for one request; then everything is counted."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.harness import Client, wait_for
from tests.sdks import openai

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]


def chat(client: Client, model: str = "demo", **demo: Any) -> str:
    """A streamed chat, read to its end."""
    stream = client.openai().chat.completions.create(
        model=model, messages=HELLO, stream=True, extra_body={"demo": demo} if demo else None
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in stream)


def outcomes(client: Client, count: int) -> list[str]:
    return sorted(entry["outcome"] for entry in client.wait_for_entries(count))


def test_twenty_streams_at_once(client: Client):
    with ThreadPoolExecutor(20) as threads:
        chats = [threads.submit(chat, client, tokens=60 + number, delay=0.02) for number in range(20)]
        texts = [each.result() for each in chats]
    assert all(text.startswith("This is the demo server") for text in texts)
    entries = client.wait_for_entries(20)
    assert sorted(int(entry["output_tokens"]) for entry in entries) == list(range(60, 80))
    assert len({entry["request_id"] for entry in entries}) == 20


def test_sandbox_killed_in_the_middle(client: Client):
    stream = client.openai().chat.completions.create(
        model="demo", messages=HELLO, stream=True, extra_body={"demo": {"hang_after": 5}}
    )
    chunks = iter(stream)
    assert next(chunks)
    client.stack.end_sandboxes()
    with pytest.raises(openai.APIConnectionError):
        list(chunks)
    assert chat(client).endswith("Hello"), "another sandbox serves the next request"
    assert outcomes(client, 1) == ["completed"]


def test_server_that_breaks_off(client: Client):
    with pytest.raises(openai.APIError) as broken:
        chat(client, "demo-cut")
    assert broken.value.code == "upstream_broken_off"
    assert chat(client).endswith("Hello")
    assert outcomes(client, 2) == ["completed", "failed"]


def test_demo_server_killed_in_the_middle(client: Client):
    stream = client.openai().chat.completions.create(
        model="demo", messages=HELLO, stream=True, extra_body={"demo": {"hang_after": 5}}
    )
    chunks = iter(stream)
    assert next(chunks)
    (pid,) = client.stack.children("local.demo.server")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(openai.APIError):
        list(chunks)

    def served() -> str:
        try:
            return chat(client)
        except openai.APIStatusError as error:
            if error.code != "upstream_unreachable":
                raise
            return ""

    assert wait_for(served, "the demo server to be back").endswith("Hello")


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("demo-error-500", 500, None),
        ("demo-error-400", 400, None),
        ("demo-error-429", 429, "rate_limit_exceeded"),
    ],
)
def test_errors_of_the_server_are_passed_on(client: Client, model: str, status: int, code: str | None):
    with pytest.raises(openai.APIStatusError) as refused:
        chat(client, model)
    assert (refused.value.status_code, refused.value.code) == (status, code)
    assert refused.value.response.headers["x-request-id"]


def test_server_that_hangs_before_it_answers(client: Client):
    with pytest.raises(openai.APITimeoutError):
        client.openai().with_options(timeout=1.0).chat.completions.create(model="demo-hang", messages=HELLO)
    assert chat(client).endswith("Hello")


def test_answer_that_is_not_json(client: Client):
    answer = client.post("demo/v1/chat/completions", json={"model": "demo-not-json", "messages": HELLO})
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_no_answer")
    assert len(client.wait_for_entries(1)) == 1


def test_ledger_and_metrics_agree_with_what_was_done(client: Client):
    """Entries = authorised requests that completed or failed, none twice; the metrics of the model say the same."""
    model = f"counted-{client.id}"
    for _ in range(7):
        assert chat(client, model).endswith("Hello")
    for broken in ({"cut_after": 3}, {"status": 500}):
        with pytest.raises(openai.APIError):
            chat(client, model, **broken)
    with pytest.raises(openai.RateLimitError):
        chat(client, model, status=429)
    with pytest.raises(openai.AuthenticationError):
        client.openai(client.key[:-1]).chat.completions.create(model=model, messages=HELLO)

    entries = client.wait_for_entries(9)
    assert sorted(entry["outcome"] for entry in entries) == ["completed"] * 7 + ["failed"] * 2
    assert [entry["usage_source"] for entry in entries if entry["status_code"] == 200 and "error_type" in entry] == [
        "estimated"
    ]
    completed = [entry for entry in entries if entry["outcome"] == "completed"]
    expected = {"Requests": 7.0, "output": float(sum(entry["output_tokens"] for entry in completed))}
    assert wait_for(lambda: (found := metrics(client, model)) == expected and found, f"metrics {expected}")

    rollups = [  # of one day, or of two
        item
        for item in client.stack.table("COSTS_TABLE").scan(ConsistentRead=True)["Items"]
        if item["pk"].startswith("day#") and item["sk"] == f"{client.id}#demo#{model}"
    ]
    assert sum(rollup.get("cost", 0) for rollup in rollups) == sum(entry.get("cost", 0) for entry in entries)
    assert sum(rollup["output_tokens"] for rollup in rollups) == sum(entry["output_tokens"] for entry in entries)


def metrics(client: Client, model: str) -> dict[str, float]:
    """Today's sums of one model: requests, and tokens of the type `output`."""
    dimensions = [{"Name": "Server", "Value": "demo"}, {"Name": "Model", "Value": model}]
    metrics = {
        "Requests": ("Requests", dimensions),
        "output": ("gen_ai.client.token.usage", [*dimensions, {"Name": "TokenType", "Value": "output"}]),
    }
    queries = [
        {
            "Id": name.lower(),
            "MetricStat": {
                "Metric": {"Namespace": "OpenAIProxy/openai-proxy", "MetricName": metric, "Dimensions": dimensions},
                "Period": 86400,
                "Stat": "Sum",
            },
        }
        for name, (metric, dimensions) in metrics.items()
    ]
    now = datetime.now(UTC)
    answer = client.stack.aws("cloudwatch").get_metric_data(
        MetricDataQueries=queries, StartTime=now - timedelta(days=1), EndTime=now + timedelta(minutes=1)
    )
    return {name: sum(result["Values"]) for name, result in zip(metrics, answer["MetricDataResults"], strict=True)}
