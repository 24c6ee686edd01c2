"""A receipt, whole: what is read of the ledger, and what is made of an entry."""

import json
from decimal import Decimal
from typing import Any, cast

import pytest
from openai_proxy.dynamodb import to_item
from openai_proxy.key_context import ClientKey
from openai_proxy.ledger.shards import shard_key
from proxy.aws.client import AwsError
from proxy.endpoints.receipts import Receipts
from proxy.errors import ProxyError
from proxy.request.parse import Target
from proxy.timeline import Timeline

ID = "01M8558AXTR9M5E4B7N3QK2VWC"
KEY = ClientKey("team-a", key_id="0123456789ab")
PK = "client#team-a#2026-11-23"
TEXTS = {
    "timestamp": "2026-11-23T01:02:03Z",
    "server": "up",
    "model": "m",
    "operation": "chat",
    "outcome": "completed",
    "usage_source": "reported",
    "pricing": "priced",
    "price_version": "v+1",
    "currency": "USD",
}
NUMBERS: dict[str, int | float] = {
    "status_code": 200,
    "duration": 1.5,
    "time_to_first_chunk": 0.25,
    "time_per_output_token": 0.0125,
    "attempts": 2,
}
ENTRY: dict[str, Any] = {
    "key_id": KEY.key_id,
    "request_id": "mine",
    **TEXTS,
    **{name: Decimal(str(number)) for name, number in NUMBERS.items()},
    "input_tokens": Decimal(9),
    "output_tokens": Decimal(3),
    "odd_tokens": "three",
    "cost": Decimal("0.00000012"),
    "cost_input": Decimal("1E-7"),
    "cost_output": Decimal("0.00000002"),
    "cost_reported": Decimal("2E+1"),
    "finish_reasons": ["stop"],
    "client_id": "team-a",
}
RECEIPT: dict[str, Any] = {
    "object": "receipt",
    "id": ID,
    "request_id": "mine",
    **TEXTS,
    "usage": {"input_tokens": 9, "output_tokens": 3},
    "cost": "0.00000012",
    "cost_reported": "20",
    "cost_components": {"input": "0.0000001", "output": "0.00000002"},
    **NUMBERS,
}


class Ledger:
    """Holds one entry at one place; notes what is asked."""

    def __init__(self, entry: dict[str, Any], pk: str = PK, fault: AwsError | None = None) -> None:
        self.entry, self.pk, self.fault = entry, pk, fault
        self.asked: list[tuple[str, str, str, float]] = []

    def get_item(self, arguments: dict[str, Any], timeout: float) -> dict[str, Any]:
        pk, sk = arguments["Key"]["pk"]["S"], arguments["Key"]["sk"]["S"]
        self.asked.append((arguments["TableName"], pk, sk, timeout))
        if self.fault:
            raise self.fault
        return to_item(self.entry) if pk == self.pk else {}


def receipt(ledger: Ledger, name: str = ID, key: ClientKey = KEY) -> Any:
    receipts = Receipts(cast("Any", ledger), "costs")
    return json.loads(receipts.document(Target(None, f"/receipts/{name}"), key, Timeline()))


def test_a_receipt_says_all_that_the_ledger_does_and_nothing_else() -> None:
    ledger = Ledger(ENTRY)
    found = receipt(ledger)
    assert found == RECEIPT
    assert [type(found[name]) for name in NUMBERS] == [type(number) for number in NUMBERS.values()]
    assert ledger.asked == [("costs", PK, ID, 2.0)]


def test_of_what_is_not_in_the_ledger_nothing_is_said() -> None:
    assert receipt(Ledger({"pricing": "unpriced"})) == {
        "object": "receipt",
        "id": ID,
        "request_id": None,
        "pricing": "unpriced",
        "usage": {},
        "cost": None,
        "cost_components": {},
    }


def test_what_is_not_where_the_entries_of_a_client_are_is_looked_for_in_its_shard() -> None:
    ledger = Ledger(ENTRY, shard_key(PK, ID))
    assert receipt(ledger) == RECEIPT
    assert [pk for _, pk, _, _ in ledger.asked] == [PK, shard_key(PK, ID)]


@pytest.mark.parametrize(
    ("entry", "name", "key"),
    [
        ({}, ID, KEY),
        (ENTRY, ID, KEY._replace(key_id="ffffffffffff")),
        (ENTRY, ID, KEY._replace(client_id="team-b")),
        (ENTRY, "x" * 70, KEY),
    ],
)
def test_what_is_not_there_and_what_is_of_another_key_are_refused_alike(
    entry: dict[str, Any], name: str, key: ClientKey
) -> None:
    with pytest.raises(ProxyError) as caught:
        receipt(Ledger(entry), name, key)
    message = f"There is no receipt '{name[:64]}'. One is written within seconds of the end of an answer."
    assert told(caught.value) == (404, "receipt_not_found", message, {"retry-after": "2"})


def test_a_ledger_that_does_not_answer() -> None:
    with pytest.raises(ProxyError) as caught:
        receipt(Ledger(ENTRY, fault=AwsError("dynamodb:GetItem", "no route")))
    message = "The ledger cannot be read at the moment."
    assert told(caught.value) == (503, "receipts_unavailable", message, {"retry-after": "5"})


def told(error: ProxyError) -> tuple[int, str, str, dict[str, str]]:
    return error.status, error.code, error.message, error.headers
