"""What an answer cost, told with it: the same as the ledger has it, and to nobody who has not asked."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from openai_proxy.ledger.entries import entry_of
from openai_proxy.pricing.price_book import PriceBook, parse_price_book
from proxy.endpoints.answer_cost import Prices

from tests.fakes import Connection, Received, RecordedResponse, envelope_of, read_event
from tests.relays import CONTENT, DONE, USAGE, USAGE_CHUNK, Proxy, Script, proxy, sse, streaming

BOOK = parse_price_book(
    "servers: {up: {models: {real-model: {input: 1.25, cached_input: 0.1, output: 10}, dear: {input: 3, output: 9}}}}"
)
IN_USAGE = {"x-receipt": "usage"}
IN_BOTH = {"x-receipt": "comment, usage"}
SAYS_COST = sse(usage=USAGE | {"cost": 0.5}, choices=False)
MESSAGE = [
    f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n".encode()
    for name, fields in (
        ("message_start", {"message": {"id": "m", "model": "dear", "usage": {"input_tokens": 40, "output_tokens": 1}}}),
        ("content_block_delta", {"delta": {"text": "Hi"}}),
        ("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}}),
        ("message_stop", {}),
    )
]
RESPONSE: dict[str, Any] = {
    "id": "r",
    "model": "dear",
    "object": "response",
    "status": "completed",
    "tools": [{"parameters": {"properties": {"usage": {"type": "string"}}}}],
    "usage": {"input_tokens": 4, "output_tokens": 2, "total_tokens": 6},
}
RESPONSES = [
    f"event: {name}\ndata: {json.dumps({'type': name, 'response': {**RESPONSE, **more}})}\n\n".encode()
    for name, more in (("response.created", {"usage": None, "status": "in_progress"}), ("response.completed", {}))
]
EMBEDDINGS = b'{"object": "list", "model": "dear", "data": [], "usage": {"prompt_tokens": 8, "total_tokens": 8}}'


def document(body: bytes) -> Script:
    return lambda connection, _: connection.answer(body)


def ask(
    script: Script, path: str, headers: Mapping[str, str], *, book: PriceBook | None = BOOK, stream: bool = True
) -> tuple[RecordedResponse, Proxy, bytes]:
    """An answer, and what it was to a client that asked for nothing."""
    with proxy(script) as (relay, _):
        plain = relay.call({"stream": stream}, path=f"/up/v1{path}")
        relay.bus.details.clear()
        relay.use(prices=lambda: Prices(lambda: book or 1 / 0))  # pyright: ignore[reportArgumentType]
        assert relay.call({"stream": stream}, path=f"/up/v1{path}").body == plain.body
        relay.bus.details.clear()
        return relay.call({"stream": stream}, path=f"/up/v1{path}", headers=dict(headers)), relay, plain.body


def cost_in_ledger(relay: Proxy) -> Decimal | None:
    [(detail_type, detail)] = relay.bus.details
    entry = {"DetailType": detail_type, "Source": "openai-proxy", "Detail": json.dumps(detail)}
    return entry_of(read_event(envelope_of(entry)), BOOK).attributes.get("cost")


def usages(body: bytes) -> list[dict[str, Any]]:
    """The usage objects of a stream or a document, as clients read them."""
    lines = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")] or [body]
    found = [json.loads(line) for line in lines]
    return [usage for each in found if (usage := each.get("response", each).get("usage"))]


@pytest.mark.parametrize(
    ("path", "script", "stream"),
    [
        ("/chat/completions", streaming(*CONTENT, USAGE_CHUNK, DONE), True),
        ("/chat/completions", streaming(b"".join([*CONTENT, USAGE_CHUNK, DONE])), True),
        ("/messages", streaming(*MESSAGE), True),
        ("/responses", streaming(*RESPONSES), True),
        ("/responses", document(json.dumps(RESPONSE).encode()), False),
        ("/embeddings", document(EMBEDDINGS), False),
    ],
)
def test_the_cost_in_the_usage_is_that_of_the_ledger(path: str, script: Script, stream: bool) -> None:
    response, relay, _ = ask(script, path, IN_USAGE, stream=stream)
    *before, last = usages(response.body)
    assert all("cost" not in each for each in before)
    cost = cost_in_ledger(relay)
    assert cost
    assert Decimal(last["cost"]) == cost
    assert isinstance(last["cost"], str)
    assert "E" not in last["cost"]


def test_nothing_else_changes() -> None:
    response, _, plain = ask(streaming(*MESSAGE), "/messages", IN_USAGE)
    [last] = [usage for usage in usages(response.body) if "cost" in usage]
    assert response.body.replace(f'"cost":"{last["cost"]}",'.encode(), b"") == plain


def test_who_asks_for_the_cost_sees_the_usage_that_was_asked_for_on_its_behalf() -> None:
    response, _, plain = ask(streaming(*CONTENT, USAGE_CHUNK, DONE), "/chat/completions", IN_BOTH)
    assert plain == b"".join([*CONTENT, DONE])
    events, comment = response.body.split(b": receipt ")
    [usage] = usages(events)
    receipt = json.loads(comment)
    assert usage.pop("cost") == receipt["cost"]
    assert usage == USAGE
    assert (receipt["currency"], receipt["pricing"]) == ("USD", "priced")


@pytest.mark.parametrize(
    ("chunk", "pricing", "cost"),
    [
        (sse(usage=USAGE, choices=False).replace(b"real-model", b"new-model"), "unpriced", None),
        (SAYS_COST.replace(b"real-model", b"new-model"), "reported", "0.5"),
        (USAGE_CHUNK.replace(b"3", b'"many"'), "unpriced", None),
    ],
)
def test_what_is_not_known_is_not_told(chunk: bytes, pricing: str, cost: str | None) -> None:
    response, relay, _ = ask(streaming(*CONTENT, chunk, DONE), "/chat/completions", IN_BOTH)
    events, comment = response.body.split(b": receipt ")
    assert events == b"".join([*CONTENT, chunk, DONE])
    receipt = json.loads(comment)
    assert (receipt["pricing"], receipt["cost"]) == (pricing, cost)
    assert cost_in_ledger(relay) == (None if cost is None else Decimal(cost))


def test_an_estimate_is_priced_as_the_ledger_prices_it() -> None:
    response, relay, _ = ask(streaming(*CONTENT, DONE), "/chat/completions", {"x-receipt": "comment"})
    receipt = json.loads(response.body.split(b": receipt ")[1])
    assert receipt["usage"]["source"] == "estimated"
    assert Decimal(receipt["cost"]) == cost_in_ledger(relay)


def test_a_price_book_that_cannot_be_read_costs_nobody_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    response, relay, _ = ask(streaming(*CONTENT, USAGE_CHUNK, DONE), "/chat/completions", IN_BOTH, book=None)
    assert response.body.startswith(b"".join([*CONTENT, USAGE_CHUNK, DONE]))
    assert json.loads(response.body.split(b": receipt ")[1])["cost"] is None
    assert "ZeroDivisionError" in capsys.readouterr().out
    assert relay.event[0] == "InferenceCompleted"


@pytest.mark.parametrize("asked", ["", "no", "usages", "usage=1", "comments"])
def test_another_word_asks_for_nothing(asked: str) -> None:
    response, _, plain = ask(streaming(*CONTENT, USAGE_CHUNK, DONE), "/chat/completions", {"x-receipt": asked})
    assert response.body == plain


def test_an_error_and_an_upload_pass_as_they_are() -> None:
    def refusing(connection: Connection, _: Received) -> None:
        connection.answer(b'{"error": {"message": "no"}, "usage": {"prompt_tokens": 1}}', "400 Bad Request")

    response, _, plain = ask(refusing, "/chat/completions", IN_USAGE)
    assert response.body == plain
    response, _, plain = ask(document(b"not json"), "/chat/completions", IN_USAGE, stream=False)
    assert response.body == plain
