"""Events on their way to a bus that refuses what is too large, as AWS does: whatever an answer says, its request is
recorded.
"""

import asyncio
import json
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from openai_proxy.events.envelope import Event, rfc3339
from openai_proxy.events.ulid import new_ulid
from proxy.aws.client import Aws, Credentials
from proxy.http.transport import HttpTransport, Timeouts
from proxy.records.publisher import Publisher

from local.stack.aws_gate import AwsGate, entry_size
from tests.caches import CHAT, Caches, StoringBus, caches
from tests.fakes import Connection, Received, Script, ScriptedServer
from tests.relays import DONE

LIMIT = 256 * 1024
HUGE = "m" * 1_000_000


def taken(connection: Connection, request: Received) -> None:
    """What the bus says when it has taken every entry."""
    entries = json.loads(request.body)["Entries"]
    connection.answer(json.dumps({"FailedEntryCount": 0, "Entries": [{"EventId": "e"} for _ in entries]}).encode())


@contextmanager
def gated_aws() -> Generator[tuple[Aws, ScriptedServer]]:
    """The proxy's own client of AWS, the gate, and a bus behind it that takes everything."""
    loop, transport = asyncio.new_event_loop(), HttpTransport(Timeouts())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def opened(endpoint: str) -> tuple[AwsGate, str]:
        gate = AwsGate(endpoint, limit=1)
        return gate, await gate.start("127.0.0.1")

    with ScriptedServer(taken) as server:
        gate, url = asyncio.run_coroutine_threadsafe(opened(server.url), loop).result(20)
        try:
            yield Aws(transport.post, lambda: Credentials("a", "s", None), "eu-central-1", url), server
        finally:
            transport.close()
            asyncio.run_coroutine_threadsafe(gate.close(), loop).result(20)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(20)
            loop.close()


class GatedBus(StoringBus):
    """The bus behind the gate. What it takes is checked and stored as ever."""

    def __init__(self, cached: Caches, aws: Aws) -> None:
        super().__init__(cached.table)
        self._aws = aws

    def put_events(self, entries: list[dict[str, str]], timeout: float) -> list[dict[str, Any]]:
        self._aws.put_events(entries, timeout)
        return super().put_events(entries, timeout)


def document(**fields: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}
    return {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], **fields}


def answering(body: dict[str, Any], *, is_stream: bool) -> Script:
    if not is_stream:
        return lambda connection, _: connection.answer(json.dumps(body).encode())
    chunk = {**body, "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}
    events = f"data: {json.dumps(chunk)}\n\n".encode() + DONE
    return lambda connection, _: connection.answer(events, content_type="text/event-stream")


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        ({}, {"model": HUGE}),
        ({}, {"model": "\u00fc\U0001f600" * 50_000, "id": HUGE}),
        ({}, {"id": HUGE, "system_fingerprint": HUGE, "service_tier": HUGE}),
        ({}, {"usage": {"prompt_tokens": 5, "completion_tokens": 1, "x": HUGE}}),
        ({"model": HUGE}, {}),
        ({"user": HUGE, "metadata": {"a": HUGE}}, {}),
    ],
    ids=["model", "model-and-id", "other-texts", "usage", "asked-model", "end-user"],
)
def test_whatever_an_answer_says_its_request_is_recorded(
    asked: dict[str, Any], answered: dict[str, Any], is_stream: bool
) -> None:
    with caches(answering(document(**answered), is_stream=is_stream)) as cached, gated_aws() as (aws, behind):
        cached.bus = GatedBus(cached, aws)
        cached.proxy().call({**CHAT, **asked, "stream": is_stream}, path="/kept/v1/chat/completions")
    assert [name for name, _ in cached.bus.terminal] == ["InferenceCompleted"]
    assert len(cached.bus.captured) == 1
    assert len(behind.received) == 1, "both events in one call"
    entries = json.loads(behind.received[0].body)["Entries"]
    assert sum(map(entry_size, entries)) < LIMIT


def event(detail_type: Any, size: int) -> Event[Any, Any]:
    return Event(detail_type, new_ulid(1e9), rfc3339(1e9), "r", "a", {"x": "x" * size})


def test_an_event_that_is_too_large_does_not_take_the_terminal_event_with_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with gated_aws() as (aws, behind):
        publisher = Publisher(aws, "bus", lambda _: None)
        is_there = publisher.publish([event("InferenceCompleted", 10), event("ResponseCaptured", LIMIT)], 10**10)
    assert is_there
    brought = [entry["DetailType"] for call in behind.received for entry in json.loads(call.body)["Entries"]]
    assert brought == ["InferenceCompleted"]
    assert "x" * 100 not in capsys.readouterr().out
