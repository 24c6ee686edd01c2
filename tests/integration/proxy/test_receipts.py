"""Receipts: for the key that made the request, when the ledger has it, and in a comment at the end of a stream."""

import json
from typing import Any

import pytest
from openai_proxy.ledger.shards import shard_key
from proxy.aws.client import AwsError

from tests.fakes import Connection, Received
from tests.relays import CONTENT, DONE, USAGE, USAGE_CHUNK, error_of, proxy, streaming

ID = "01M8558AXTR9M5E4B7N3QK2VWC"
KEY = {"key_id": "0123456789ab"}
ENTRY = {
    "pk": {"S": "client#team-a#2026-11-23"},
    "sk": {"S": ID},
    "key_id": {"S": "0123456789ab"},
    "request_id": {"S": "mine"},
    "server": {"S": "up"},
    "model": {"S": "m"},
    "outcome": {"S": "completed"},
    "input_tokens": {"N": "9"},
    "output_tokens": {"N": "3"},
    "cost": {"N": "0.000123"},
    "cost_input": {"N": "0.0001"},
    "cost_output": {"N": "0.000023"},
    "currency": {"S": "USD"},
    "duration": {"N": "1.5"},
    "finish_reasons": {"L": [{"S": "stop"}]},
}


def ask(entry: dict[str, Any] | None, path: str, **context: str) -> Any:
    def nobody(connection: Connection, _: Received) -> None:
        raise AssertionError("no server is asked")

    with proxy(nobody, KEY | context) as (relay, _):
        ledger: Any = relay.bus

        def get_item(arguments: dict[str, Any], _timeout: float) -> dict[str, Any]:
            if entry is None:
                raise AwsError("dynamodb:GetItem", "no route")
            found = arguments["Key"] == {"pk": entry.get("pk"), "sk": entry.get("sk")}
            return entry if arguments["TableName"] == "costs" and found else {}

        ledger.get_item = get_item
        return relay.call(path=path, method="GET")


def test_a_receipt() -> None:
    response = ask(ENTRY, f"/v1/receipts/{ID}")
    assert response.status == 200
    assert json.loads(response.body) == {
        "object": "receipt",
        "id": ID,
        "request_id": "mine",
        "server": "up",
        "model": "m",
        "outcome": "completed",
        "currency": "USD",
        "usage": {"input_tokens": 9, "output_tokens": 3},
        "cost": "0.000123",
        "cost_components": {"input": "0.0001", "output": "0.000023"},
        "duration": 1.5,
    }


@pytest.mark.parametrize(
    ("path", "context"),
    [
        (f"/v1/receipts/{ID}", {"key_id": "ffffffffffff"}),
        (f"/v1/receipts/{ID}", {"client_id": "team-b"}),
        (f"/v1/receipts/{ID[:-1]}D", {}),
        ("/v1/receipts/nothing", {}),
        (f"/v1/receipts/{ID}/more", {}),
        (f"/v1/receipts/{ID}%23", {}),
    ],
)
def test_what_is_not_there_and_what_is_somebody_elses_look_the_same(path: str, context: dict[str, str]) -> None:
    response = ask(ENTRY, path, **context)
    assert (response.status, error_of(response)["code"]) == (404, "receipt_not_found")
    assert response.headers["retry-after"] == "2"


def test_the_receipt_of_a_busy_client_is_in_a_shard() -> None:
    entry = ENTRY | {"pk": {"S": shard_key("client#team-a#2026-11-23", ID)}}
    assert json.loads(ask(entry, f"/v1/receipts/{ID}").body)["request_id"] == "mine"


def test_a_ledger_that_cannot_be_read() -> None:
    assert error_of(ask(None, f"/v1/receipts/{ID}"))["code"] == "receipts_unavailable"


def test_the_receipt_at_the_end_of_a_stream() -> None:
    with proxy(streaming(*CONTENT, USAGE_CHUNK, DONE), KEY) as (relay, _):
        plain = relay.call({"stream": True})
        response = relay.call({"stream": True}, headers={"x-receipt": "comment"})
    comment = response.body.removeprefix(plain.body)
    assert comment.startswith(b": receipt {")
    assert comment.endswith(b"}\n\n")
    receipt = json.loads(comment.removeprefix(b": receipt "))
    assert (receipt["id"], receipt["server"], receipt["attempts"]) == (response.headers["x-inference-id"], "up", 1)
    assert receipt["usage"]["output_tokens"] == USAGE["completion_tokens"]


@pytest.mark.parametrize("body", [{"user": "ada@example.com"}, {"safety_identifier": "ada@example.com", "user": "x"}])
def test_an_end_user_is_known_by_a_pseudonym(body: dict[str, str]) -> None:
    with proxy(lambda connection, _: connection.answer(b'{"id": "a"}'), KEY) as (relay, _):
        relay.call(body)
        relay.call(body)
        relay.call({"user": 7})
    first, second, third = (detail["data"]["end_user"] for _, detail in relay.bus.details)
    assert first == second
    assert len(first) == 32
    assert third is None
    assert "example.com" not in json.dumps(relay.bus.details)
