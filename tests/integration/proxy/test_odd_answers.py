"""What calls itself a success and is not what AWS documents is none, through boto3 too: each call, on a real socket."""

import contextlib
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import boto3
import pytest
from authorizer.keys_table import KeysTable
from botocore.config import Config
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.cloudwatch import CloudWatch
from openai_proxy.events.bus import Bus
from openai_proxy.events.envelope import Event
from openai_proxy.events.incoming import from_sqs_body
from openai_proxy.ledger.entries import LedgerEntry
from openai_proxy.ledger.lake import Lake
from openai_proxy.ledger.table import DUPLICATE, CostsTable
from openai_proxy.pricing.price_book import load_price_book
from proxy.json_shapes import array_of, object_of
from record_metrics.markers import Markers, Run
from settle_limits.settlement import LeftLease, PriceHint, settlement_of
from settle_limits.table import LimitsTable
from settle_limits.thresholds import Crossing
from store_response.table import CacheTable

from tests.contract.template_stack import ROOT
from tests.fakes import Connection, Received, ScriptedServer

ODD = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"<html><body>Service unavailable</body></html>",
    b'{"message": null}',
    b'{"ConsumedCapacity": null, "Entries": null, "RequestResponses": null, "Responses": null, "Item": null}',
    b'{"ConsumedCapacity": {"TableName": "t"}, "Item": {"key_hash": {"S": "ano',
    b'{"Entries": [null], "RequestResponses": [null], "ConsumedCapacity": [null]}',
    b'{"Entries": [{}], "RequestResponses": [{}], "Item": {}, "Attributes": {}}',
    b'{"ConsumedCapacity": [], "Entries": [], "RequestResponses": []}',
    b'{"ConsumedCapacity": [{"TableName": 1}], "Entries": [{"EventId": 1}], "RequestResponses": [{"RecordId": [1]}]}',
]
ENTRY = LedgerEntry(("client#shop#2026-11-23", "id"), {"client_id": "shop"}, (), {})
SETTLED = "InferenceCompleted.chat-stream"
_BOTO3: Any = boto3  # whose types know every service only with stubs of it


def sample(name: str) -> Event[Any, Any]:
    return from_sqs_body((ROOT / "events" / "samples" / f"{name}.json").read_text())


def raises(call: Callable[[], object]) -> bool:
    """Whether a call fails: then its message comes again."""
    try:
        call()
    except Exception:  # noqa: BLE001  # whatever it is, it is no success
        return True
    return False


def no_pause(_: int) -> None:
    """Nobody else wants the table."""


def finds_no_key(client: Any) -> bool:
    return raises(lambda: KeysTable(client("dynamodb"), "keys").find("hash"))


def records_no_entry(client: Any) -> bool:
    refused: dict[Any, str] = {}

    def record() -> None:
        refused.update(CostsTable(client("dynamodb"), "costs", no_pause).record([ENTRY]))

    return raises(record) or refused.get(ENTRY.key) not in (None, DUPLICATE)


def settles_nothing(client: Any) -> bool:
    limits = {"id": "l", "status": "checked", "reserved": {"cost": "1", "tokens": 1}, "has_budget": True}
    limits |= {"taken_at": 1795426200, "budget_day": "9", "budget_month": None, "currency": "USD", "lease": None}
    event = sample(SETTLED)
    settlement = settlement_of(event._replace(client_id="c", data={**event.data, "limits": limits}), load_price_book())
    assert settlement
    unsettled: dict[str, str] = {}
    table = LimitsTable(client("dynamodb"), "limits", no_pause)
    return raises(lambda: unsettled.update(table.settle([settlement]))) or settlement.event_id in unsettled


def reads_no_counter(client: Any) -> bool:
    return raises(lambda: LimitsTable(client("dynamodb"), "limits").counter("l"))


def marks_no_threshold(client: Any) -> bool:
    crossing = Crossing("l", "day", "2026-11-23", 80, Decimal(1), Decimal(1))
    return raises(lambda: LimitsTable(client("dynamodb"), "limits").mark_told(crossing))


def writes_no_hint(client: Any) -> bool:
    hint = PriceHint("s", "m", Decimal(1), Decimal(1))
    return raises(lambda: LimitsTable(client("dynamodb"), "limits").write_hint(hint))


def reads_no_usual_answer(client: Any) -> bool:
    hint = PriceHint("s", "m", Decimal(1), Decimal(1))
    return raises(lambda: LimitsTable(client("dynamodb"), "limits").usual_answer(hint))


def gives_no_place_back(client: Any) -> bool:
    lease = LeftLease("l", "lease", in_doubt=False)
    return raises(lambda: LimitsTable(client("dynamodb"), "limits").give_back(lease))


def publishes_no_threshold(client: Any) -> bool:
    return raises(lambda: Bus(client("events"), "bus").publish(sample("BudgetThresholdReached.day-80")))


def claims_no_event(client: Any) -> bool:
    return raises(lambda: Markers(client("dynamodb"), "markers", no_pause).claim(["id"], Run("owner", 0, 1)))


def ends_no_run(client: Any) -> bool:
    return raises(lambda: Markers(client("dynamodb"), "markers", no_pause).done(Run("owner", 0, 1)))


def publishes_no_metrics(client: Any) -> bool:
    return raises(lambda: CloudWatch(client("cloudwatch"), "ns").put([{"MetricName": "m", "Value": 1.0}]))


def stores_no_answer(client: Any) -> bool:
    item = {"cache_key": {"S": "k"}, "event_id": {"S": "e"}}
    return raises(lambda: CacheTable(client("dynamodb"), "cache").store(item))


def puts_nothing_into_the_lake(client: Any) -> bool:
    unsent: dict[Any, str] = {}
    lake = Lake(client("firehose"), "stream", no_pause)
    return raises(lambda: unsent.update(lake.put([ENTRY]))) or ENTRY.key in unsent


CALLS = [
    finds_no_key,
    records_no_entry,
    settles_nothing,
    reads_no_counter,
    marks_no_threshold,
    writes_no_hint,
    reads_no_usual_answer,
    gives_no_place_back,
    publishes_no_threshold,
    claims_no_event,
    ends_no_run,
    publishes_no_metrics,
    stores_no_answer,
    puts_nothing_into_the_lake,
]


class Odd:
    """A service that answers every call with `body`."""

    body: bytes = b""

    def script(self, connection: Connection, _: Received) -> None:
        connection.answer(self.body, content_type="application/x-amz-json-1.1")


@pytest.fixture(scope="module")
def odd() -> Iterator[tuple[Odd, Callable[[str], Any]]]:
    service, clients = Odd(), dict[str, Any]()
    with ScriptedServer(service.script) as server:
        config = Config(retries={"total_max_attempts": 1}, parameter_validation=False)

        def client(name: str) -> Any:
            if name not in clients:
                clients[name] = _BOTO3.client(
                    name,
                    endpoint_url=server.url,
                    region_name="eu-central-1",
                    aws_access_key_id="a",
                    aws_secret_access_key="s",
                    config=config,
                )
            return clients[name]

        yield service, client
        for each in clients.values():
            with contextlib.suppress(Exception):
                each.close()


@pytest.mark.parametrize("body", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("nothing_is_done", CALLS)
def test_an_odd_success_is_none(
    odd: tuple[Odd, Callable[[str], Any]], nothing_is_done: Callable[[Any], bool], body: bytes
) -> None:
    service, client = odd
    service.body = body
    assert nothing_is_done(client)


_JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "x", "None", "ConditionalCheckFailed"]),
    lambda parts: (
        st.lists(parts, max_size=2)
        | st.dictionaries(
            st.sampled_from(["TableName", "CapacityUnits", "EventId", "RecordId", "ErrorCode", "S", "t", "markers"]),
            parts,
            max_size=2,
        )
    ),
    max_leaves=6,
)
_NAMES = (
    *("ConsumedCapacity", "Item", "Attributes", "Responses", "UnprocessedKeys", "UnprocessedItems"),
    *("Entries", "FailedEntryCount", "RequestResponses", "FailedPutCount", "__type", "message", "Error"),
)
_OBJECTS = st.dictionaries(st.sampled_from(_NAMES), _JUNK, max_size=5).filter(lambda answer: not may_be_real(answer))
_BODIES = (
    st.one_of(_OBJECTS, st.lists(_OBJECTS, max_size=2), st.integers(), st.text(max_size=5))
    .map(json.dumps)
    .map(str.encode)
    | st.binary(max_size=20).filter(lambda body: not body.strip().startswith(b"{"))
    | _OBJECTS.map(json.dumps).map(lambda text: text[:-1].encode())
)


def may_be_real(answer: dict[str, Any]) -> bool:
    """Whether one of the calls below is answered so by AWS when it has done what it was asked for."""
    only: dict[str, dict[str, Any]] = {}
    for name, value in answer.items():
        parts = array_of(value)
        only[name] = object_of(parts[0]) if len(parts) == 1 else {}
    names = [
        only.get("Entries", {}).get("EventId"),
        only.get("RequestResponses", {}).get("RecordId"),
        only.get("ConsumedCapacity", {}).get("TableName"),
        object_of(answer.get("ConsumedCapacity")).get("TableName"),
    ]
    left = [answer.get("UnprocessedItems"), answer.get("UnprocessedKeys") if "Responses" in answer else None]
    return any(isinstance(name, str) and name for name in names) or any(isinstance(each, dict) for each in left)


@pytest.mark.parametrize("nothing_is_done", CALLS)
@given(body=_BODIES)
@settings(max_examples=25)
def test_no_odd_success_at_all_is_one(
    odd: tuple[Odd, Callable[[str], Any]], nothing_is_done: Callable[[Any], bool], body: bytes
) -> None:
    service, client = odd
    service.body = body
    assert nothing_is_done(client)


def test_the_answer_without_an_item_is_believed(odd: tuple[Odd, Callable[[str], Any]]) -> None:
    service, client = odd
    service.body = json.dumps({"ConsumedCapacity": {"TableName": "keys", "CapacityUnits": 1.0}}).encode()
    assert KeysTable(client("dynamodb"), "keys").find("hash") is None


def test_the_item_of_another_key_is_no_answer(odd: tuple[Odd, Callable[[str], Any]]) -> None:
    service, client = odd
    item = {"key_hash": {"S": "another"}, "client_id": {"S": "shop"}}
    service.body = json.dumps({"ConsumedCapacity": {"TableName": "keys"}, "Item": item}).encode()
    assert finds_no_key(client)
