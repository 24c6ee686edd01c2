"""Whatever a path is called, what its answer cost is not taken for nothing."""

import json
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.request.parse import OPERATIONS

from tests.fakes import Connection, Received
from tests.relays import USAGE, Proxy, proxy, streaming

PATHS = st.lists(st.text("abcz-_0", min_size=1, max_size=8), min_size=1, max_size=3).map("/".join)
KNOWN = {path.partition("/")[0] for path in OPERATIONS}
FREE = ("conversations", "batch", "uploads", "vector_stores", "tokenize", "detokenize", "v1", "messages")


class Server:
    """A server, behind one proxy, that gives whatever answer it is told to."""

    def __init__(self, relay: Proxy) -> None:
        self.relay = relay

    def source_of(self, path: str, document: dict[str, Any], method: str = "POST") -> str:
        self.relay.bus.details.clear()
        body = {"model": "m", "input": "a", "answer": document}
        assert self.relay.call(body, path=f"/up/v1/{path}", method=method).status == 200
        detail_type, data = self.relay.event
        assert detail_type == "InferenceCompleted"
        return data["usage"]["source"]


@pytest.fixture(scope="module")
def server() -> Generator[Server]:
    def script(connection: Connection, request: Received) -> None:
        connection.answer(json.dumps(json.loads(request.body)["answer"]).encode())

    with proxy(script) as (relay, _):
        yield Server(relay)


@given(path=PATHS.filter(lambda path: path.partition("/")[0] not in (*KNOWN, *FREE)))
def test_a_path_that_nobody_knows_is_metered_and_never_free(server: Server, path: str) -> None:
    assert server.source_of(path, {"results": []}) == "missing"
    assert server.source_of(path, {"results": [], "usage": USAGE}) == "reported"
    assert server.source_of(path, {"results": []}, "GET") == "none"


@pytest.mark.parametrize(
    ("path", "document", "source"),
    [
        ("rerank", {"results": [], "usage": {"total_tokens": 7}}, "reported"),
        ("rerank", {"results": [], "meta": {"billed_units": {"search_units": 1}}}, "reported"),
        ("rerank", {"results": [], "meta": {"tokens": {"input_tokens": 7, "output_tokens": 0}}}, "reported"),
        ("ocr", {"pages": [], "usage_info": {"pages_processed": 3}}, "reported"),
        ("search", {"results": []}, "missing"),
        ("messages", {"content": [], "usage": {"input_tokens": 3, "output_tokens": 4}}, "reported"),
        ("threads/t/runs", {"object": "thread.run", "usage": None}, "missing"),
        ("fine_tuning/jobs", {"object": "fine_tuning.job"}, "missing"),
        ("moderations", {"results": []}, "none"),
        ("moderations", {"results": [], "usage": USAGE}, "reported"),
        ("conversations", {"id": "conv_1", "object": "conversation"}, "none"),
        ("conversations/conv_1/items", {"object": "list", "data": []}, "none"),
        ("conversations", {"object": "conversation.response", "outputs": [], "usage": USAGE}, "reported"),
        ("conversations/conv_1/restart", {"object": "conversation.response", "usage": USAGE}, "reported"),
        ("conversation", {"id": "conv_1"}, "missing"),
        ("batch/jobs", {"id": "job", "object": "batch", "succeeded_requests": 0, "usage": USAGE}, "none"),
        *((path, {"object": "x", "usage": USAGE}, "none") for path in ("files", "uploads/u/parts", "batches")),
        *((path, {"object": "x", "usage": USAGE}, "none") for path in ("vector_stores/v/files", "models")),
        ("vector_stores/v/search", {"object": "vector_store.search_results.page"}, "missing"),
        ("chat/completions/c-1", {"object": "chat.completion", "choices": [], "usage": USAGE}, "none"),
        ("responses/r-1/cancel", {"object": "response", "output": [], "usage": USAGE}, "none"),
        ("responses/input_tokens", {"object": "response.input_tokens", "input_tokens": 5}, "none"),
        ("messages/count_tokens", {"input_tokens": 5}, "none"),
        ("responses/compact", {"object": "response.compaction", "output": [], "usage": USAGE}, "reported"),
    ],
)
def test_usage_is_read_wherever_it_is_reported_for_the_first_time(
    server: Server, path: str, document: dict[str, Any], source: str
) -> None:
    assert server.source_of(path, document) == source


def test_events_of_another_form_are_no_errors() -> None:
    pieces = [
        b'event: start\ndata: {"kind": "start", "message": "begins"}\n\n',
        b'event: piece\ndata: {"detail": "a text"}\n\n',
        b'event: done\ndata: {"usage": {"input_tokens": 2, "output_tokens": 3}}\n\n',
    ]
    with proxy(streaming(*pieces)) as (relay, _):
        response = relay.call({"model": "m", "stream": True}, path="/up/v1/agents/a/run")
    assert response.body == b"".join(pieces)
    detail_type, data = relay.event
    assert (detail_type, data["usage"]["input_tokens"], data["usage"]["output_tokens"]) == ("InferenceCompleted", 2, 3)


QUESTIONS = ("chat/completions", "completions", "responses", "messages", "embeddings")
OF_QUESTIONS = {"id": "a", "model": "m", "choices": [{"message": {"content": "xxxx"}, "finish_reason": "stop"}]}


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "GET", "DELETE"])
@pytest.mark.parametrize("path", QUESTIONS)
def test_a_question_costs_what_it_costs_whatever_its_method_is(server: Server, path: str, method: str) -> None:
    assert server.source_of(path, OF_QUESTIONS | {"usage": USAGE}, method) == "reported"
    assert server.source_of(path, OF_QUESTIONS, method) == "estimated"
