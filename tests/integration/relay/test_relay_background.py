"""Responses that a server makes in the background: usage is told to everybody who fetches them, and counts once."""

import json
import time
from typing import Any

from openai_proxy.events.ulid import ulid_day, ulid_time

from tests.fakes import Connection, Received, Script
from tests.relays import proxy

USAGE = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}


def answer(status: str, began: float, **more: Any) -> bytes:
    document = {"id": "resp_1", "object": "response", "created_at": int(began), "model": "real-model", "status": status}
    return json.dumps({**document, "background": True, "usage": None, **more}).encode()


def in_turn(*answers: bytes) -> Script:
    left = list(answers)

    def script(connection: Connection, _: Received) -> None:
        connection.answer(left.pop(0))

    return script


def test_it_is_missing_until_it_is_fetched_and_then_counts_once() -> None:
    began = time.time() - 60
    waiting, done = answer("queued", began), answer("completed", began, usage=USAGE)
    with proxy(in_turn(waiting, answer("in_progress", began), done, done)) as (relay, _):
        relay.call({"model": "m", "input": "Hi", "background": True}, path="/up/v1/responses")
        for _ in range(3):
            relay.call(path="/up/v1/responses/resp_1", method="GET")
    begun, early, *fetched = [detail for _, detail in relay.bus.details]
    assert begun["data"]["usage"]["source"] == "missing"
    assert early["data"]["usage"]["source"] == "none"
    assert [each["data"]["usage"]["input_tokens"] for each in fetched] == [11, 11]
    assert fetched[0]["metadata"]["id"] == fetched[1]["metadata"]["id"]  # so the ledger takes it once
    assert len({each["metadata"]["id"] for each in (begun, early, fetched[0])}) == 3
    assert ulid_time(fetched[0]["metadata"]["id"]).timestamp() == int(began)
    assert all(detail_type == "InferenceCompleted" for detail_type, _ in relay.bus.details)


def test_answers_that_were_made_at_once_are_counted_when_they_are_made() -> None:
    with proxy(in_turn(answer("completed", time.time(), background=False, usage=USAGE))) as (relay, _):
        relay.call(path="/up/v1/responses/resp_1", method="GET")
    assert relay.event[1]["usage"]["source"] == "none"


def test_a_day_that_cannot_be_is_nobodys() -> None:
    long_ago = answer("completed", 1000, usage=USAGE)
    with proxy(in_turn(long_ago)) as (relay, _):
        relay.call(path="/up/v1/responses/resp_1", method="GET")
    [(_, detail)] = relay.bus.details
    assert detail["data"]["usage"]["source"] == "none"
    assert ulid_day(detail["metadata"]["id"]) != "1970-01-01"
