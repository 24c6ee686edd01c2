"""Responses that a server makes in the background: usage is told to everybody who fetches them, and counts once."""

import json
import time
from typing import Any

import pytest
from openai_proxy.events.ulid import ulid_day, ulid_time

from tests.fakes import Connection, Received, Script
from tests.relays import proxy, streaming

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
    # The ledger takes back what the first request is missing when it hears of the usage.
    assert [each["data"].get("fetched", {}).get("names") for each in (begun, early, *fetched)] == [
        ["resp_1"],
        None,
        ["resp_1"],
        ["resp_1"],
    ]
    assert ulid_time(fetched[0]["metadata"]["id"]).timestamp() == int(began)
    assert all(detail_type == "InferenceCompleted" for detail_type, _ in relay.bus.details)


def test_a_stream_of_an_answer_in_the_background_is_known_by_its_name_whole_and_cut() -> None:
    began = time.time() - 5
    body: dict[str, Any] = {"model": "m", "input": "Hi", "background": True, "stream": True}
    running, done = answer("in_progress", began), answer("completed", began, usage=USAGE)
    events = [
        b'event: %s\ndata: {"type": "%s", "sequence_number": %d, "response": %s}\n\n' % (kind, kind, number, response)
        for number, (kind, response) in enumerate([(b"response.created", running), (b"response.completed", done)])
    ]
    for told in (events, events[:1]):
        with proxy(streaming(*told)) as (relay, _):
            relay.call(body, path="/up/v1/responses")
        [(_, detail)] = relay.bus.details
        assert detail["data"]["fetched"] == {"names": ["resp_1"], "others": []}
        assert detail["data"]["usage"]["source"] == ("reported" if told == events else "missing")


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


def batch(state: str, began: Any, **more: Any) -> bytes:
    counts = {"total": 3, "completed": 2, "failed": 1}
    document = {"id": "batch_1", "object": "batch", "created_at": began, "status": state, "model": "real-model"}
    return json.dumps({**document, "request_counts": counts, **more}).encode()


def fetched_batches(path: str, *answers: bytes) -> list[dict[str, Any]]:
    with proxy(in_turn(*answers)) as (relay, _):
        for _ in answers:
            relay.call(path=path, method="GET")
    return [detail for _, detail in relay.bus.details]


def test_a_batch_counts_once_when_it_is_over_at_the_tier_of_batches() -> None:
    began = int(time.time()) - 3600
    zeros = dict.fromkeys(USAGE, 0)
    answers = [batch("in_progress", began, usage=zeros), *[batch("completed", began, usage=USAGE)] * 2]
    early, *told = fetched_batches("/up/v1/batches/batch_1", *answers)
    assert early["data"]["usage"]["source"] == "none"
    assert [(each["data"]["usage"]["input_tokens"], each["data"]["usage"]["service_tier"]) for each in told] == [
        (11, "batch"),
        (11, "batch"),
    ]
    assert told[0]["data"]["response"]["model"] == "real-model"
    assert told[0]["metadata"]["id"] == told[1]["metadata"]["id"] != early["metadata"]["id"]
    assert ulid_time(told[0]["metadata"]["id"]).timestamp() == began


def test_a_batch_that_does_not_say_what_it_used_is_missing_once_and_one_that_did_nothing_is_free() -> None:
    began = int(time.time()) - 60
    at = time.strftime("%Y-%m-%dT%H:%M:%S.000000+00:00", time.gmtime(began))
    counts = {"processing": 0, "succeeded": 2, "errored": 0}
    fields: dict[str, Any] = {"id": "msgbatch_1", "type": "message_batch", "created_at": at}
    ended, waiting, failed = (
        json.dumps(fields | {"processing_status": state, "request_counts": counts | more}).encode()
        for state, more in (("ended", {}), ("in_progress", {}), ("ended", {"succeeded": 0, "errored": 2}))
    )
    found = fetched_batches("/up/v1/messages/batches/msgbatch_1", ended, ended, waiting, failed)
    assert [each["data"]["usage"]["source"] for each in found] == ["missing", "missing", "none", "none"]
    assert found[0]["metadata"]["id"] == found[1]["metadata"]["id"]
    assert len({each["metadata"]["id"] for each in found}) == 3
    assert ulid_time(found[0]["metadata"]["id"]).timestamp() == began


@pytest.mark.parametrize(
    ("path", "more", "source", "file"),
    [
        ("batch/jobs/job", {"status": "SUCCESS", "succeeded_requests": 2, "output_file": "f"}, "missing", "f"),
        ("batch/jobs/job", {"status": "TIMEOUT_EXCEEDED", "succeeded_requests": 1, "output_file": "f"}, "missing", "f"),
        ("batch/jobs/job", {"status": "RUNNING", "succeeded_requests": 1, "output_file": None}, "none", None),
        ("batch/jobs/job", {"status": "FAILED", "succeeded_requests": 0, "error_file": "e"}, "none", None),
        ("batches/b", {"status": "COMPLETED", "output_file_id": "f", "request_count": 3}, "missing", "f"),  # Together's
        ("batches/b", {"status": "FAILED", "output_file_id": None}, "none", None),
        ("batches/b", {"status": "expired", "request_counts": {"completed": 1}, "output_file_id": "f"}, "missing", "f"),
        ("batches/b", {"status": "cancelled", "request_counts": {"completed": 1, "total": 9}}, "missing", None),
        ("batches/b", {"status": "cancelling", "request_counts": {"completed": 1, "total": 9}}, "none", None),
        ("batches/b", {"status": "expired", "request_counts": {"completed": 0}, "error_file_id": "e"}, "none", None),
    ],
)
def test_a_batch_of_any_server_is_over_and_has_cost_something_when_it_says_so(
    path: str, more: dict[str, Any], source: str, file: str | None
) -> None:
    document = {"id": "job", "object": "batch", "created_at": int(time.time()) - 9, **more}
    [told] = fetched_batches(f"/up/v1/{path}", json.dumps(document).encode())
    assert told["data"]["usage"]["source"] == source
    if source != "none":
        assert told["data"]["fetched"]["names"] == ["job", *([file] if file else [])]
        assert told["data"]["usage"]["service_tier"] == "batch"


def test_making_batches_and_fetching_their_files_costs_nothing_of_its_own() -> None:
    done = batch("completed", int(time.time()), usage=USAGE)
    paths = [("POST", "batches"), ("POST", "messages/batches"), ("POST", "batches/batch_1/cancel")]
    paths += [("POST", "batch/jobs"), ("POST", "batch/jobs/job/cancel"), ("GET", "batch/jobs")]
    paths += [("GET", "batches"), ("GET", "files/file-1/content"), ("GET", "messages/batches/msgbatch_1/results")]
    with proxy(in_turn(*[done] * len(paths))) as (relay, _):
        for method, path in paths:
            relay.call({"model": "m"} if method == "POST" else None, path=f"/up/v1/{path}", method=method)
    assert {detail["data"]["usage"]["source"] for _, detail in relay.bus.details} == {"none"}


def lines_of_a_batch(*models: str) -> bytes:
    usage = {"input_tokens": 100, "output_tokens": 10}
    lines: list[dict[str, Any]] = [
        {"custom_id": str(n), "result": {"type": "succeeded", "message": {"id": "m", "model": model, "usage": usage}}}
        for n, model in enumerate(models)
    ]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def test_the_lines_of_a_batch_tell_what_it_used_under_the_name_of_the_batch() -> None:
    body = lines_of_a_batch("a", "b", "a")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-jsonl\r\ntransfer-encoding: chunked\r\n\r\n"

    def in_pieces(connection: Connection, _: Received) -> None:
        connection.send(head)
        for start in range(0, len(body), 70):
            piece = body[start : start + 70]
            connection.send(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        connection.send(b"0\r\n\r\n")

    for path, name in (("messages/batches/msgbatch_1/results", "msgbatch_1"), ("files/file-1/content", "file-1")):
        with proxy(in_pieces) as (relay, _):
            response = relay.call(path=f"/up/v1/{path}", method="GET")
        assert response.body == body
        [(detail_type, detail)] = relay.bus.details
        data = detail["data"]
        assert detail_type == "InferenceCompleted"
        assert (data["response"]["model"], data["usage"]["input_tokens"]) == ("a", 200)
        assert {data["usage"]["service_tier"], data["usage"]["source"]} == {"batch", "reported"}
        assert data["fetched"]["names"] == [name]
        assert len(data["fetched"]["digest"]) == 32
        [other] = data["fetched"]["others"]
        assert (other["model"], other["usage"]["output_tokens"], other["usage"]["service_tier"]) == ("b", 10, "batch")


def test_lines_that_did_not_all_come_are_told_when_they_are_fetched_again() -> None:
    body = lines_of_a_batch("a", "a")

    def cut(connection: Connection, _: Received) -> None:
        connection.send(f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body[:-20])
        connection.close()

    with proxy(cut) as (relay, _):
        relay.call(path="/up/v1/messages/batches/msgbatch_1/results", method="GET")
    [(detail_type, detail)] = relay.bus.details
    assert (detail_type, detail["data"]["usage"]["source"]) == ("InferenceFailed", "none")
    assert "fetched" not in detail["data"]


def test_a_batch_is_known_by_its_own_name_and_that_of_its_file() -> None:
    began = int(time.time()) - 3600
    [told] = fetched_batches("/up/v1/batches/batch_1", batch("completed", began, usage=USAGE, output_file_id="file-1"))
    assert told["data"]["fetched"] == {"names": ["batch_1", "file-1"], "others": []}
