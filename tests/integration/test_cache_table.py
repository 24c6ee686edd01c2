"""The calls of the cache table as DynamoDB (moto) understands them, and as the fake of the other tests does."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from proxy.aws import Aws, AwsError
from proxy.cache_table import CacheTable, Lease
from proxy.signing import Credentials
from proxy.upstream import Answered, ConnectionFailedError

from tests.caches import FakeTable

KEY = "a" * 64


class Boto:
    """As much of `Aws` as the table uses, over boto3."""

    def __init__(self) -> None:
        self._client: Any = boto3.client("dynamodb", region_name="eu-central-1")  # pyright: ignore[reportUnknownMemberType]
        self._client.create_table(
            TableName="cache",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "cache_key", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "cache_key", "KeyType": "HASH"}],
        )

    def get_item(self, arguments: dict[str, Any], _timeout: float) -> dict[str, Any]:
        return self._client.get_item(**arguments).get("Item") or {}

    def put_item(self, arguments: dict[str, Any], timeout: float) -> bool:
        return self._write(self._client.put_item, arguments)

    def delete_item(self, arguments: dict[str, Any], timeout: float) -> bool:
        return self._write(self._client.delete_item, arguments)

    def _write(self, write: Any, arguments: dict[str, Any]) -> bool:
        try:
            write(**arguments)
        except self._client.exceptions.ConditionalCheckFailedException:
            return False
        return True


@pytest.fixture(params=["fake", "moto"])
def table(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[CacheTable]:
    services: Any
    if request.param == "fake":
        services = FakeTable()
        yield CacheTable(services, "cache")
        return
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        services = Boto()
        yield CacheTable(services, "cache")


def test_one_takes_the_lease_and_others_see_it(table: CacheTable) -> None:
    assert table.lease_of(KEY, now=1000.0) is None
    assert table.lease(KEY, "one", now=1000.0, seconds=30)
    assert not table.lease(KEY, "other", now=1010.0, seconds=30)
    assert table.lease_of(KEY, now=1029.0) == Lease("one", 1030.0)
    assert table.get(KEY) == {}, "a lease is no answer"
    assert table.event_id_of(KEY) == ""


def test_a_call_that_is_sent_twice_takes_one_lease(table: CacheTable) -> None:
    assert table.lease(KEY, "one", now=1000.0, seconds=30)
    assert table.lease(KEY, "one", now=1000.0, seconds=30)
    assert not table.lease(KEY, "other", now=1000.0, seconds=30)


def test_a_lease_ends_by_itself(table: CacheTable) -> None:
    assert table.lease(KEY, "one", now=1000.0, seconds=7)
    assert table.lease_of(KEY, now=1007.0) is None
    assert table.lease(KEY, "other", now=1007.0, seconds=30)
    assert not table.lease(KEY, "one", now=1031.0, seconds=30)


@pytest.mark.parametrize(
    "damaged",
    [{}, {"lease_until": {"S": "soon"}}, {"lease_until": {"N": "99999999999999"}}, {"lease_until": {"NULL": True}}],
    ids=["no end", "an end of no number", "an end of another age", "an end of nothing"],
)
def test_a_damaged_lease_is_nobodys(table: CacheTable, damaged: dict[str, Any]) -> None:
    services: Any = table._aws
    put: dict[str, Any] = {
        "TableName": "cache",
        "Item": {"cache_key": {"S": f"lease#{KEY}"}, "owner": {"S": "x"}, **damaged},
        "ConditionExpression": "#owner = :owner",
        "ExpressionAttributeNames": {"#owner": "owner"},
        "ExpressionAttributeValues": {":owner": {"S": "x"}},
    }
    assert table.lease(KEY, "x", now=1000.0, seconds=30)
    assert services.put_item(put, 1.0)
    assert table.lease_of(KEY, now=1001.0) is None
    assert table.lease(KEY, "one", now=1001.0, seconds=30)
    assert table.lease_of(KEY, now=1002.0) == Lease("one", 1031.0)


def test_only_its_owner_gives_a_lease_back(table: CacheTable) -> None:
    assert table.lease(KEY, "one", now=1000.0, seconds=30)
    table.give_back(KEY, "other")
    assert table.lease_of(KEY, now=1001.0)
    table.give_back(KEY, "one")
    assert table.lease_of(KEY, now=1001.0) is None
    table.give_back(KEY, "one")


def test_only_its_owner_says_that_the_answer_is_stored_soon(table: CacheTable) -> None:
    table.stored_soon(KEY, "one", "01A", until=1002.0)
    assert table.lease_of(KEY, now=1001.0) is None, "there is no lease to say it on"
    assert table.lease(KEY, "one", now=1000.0, seconds=30)
    table.stored_soon(KEY, "other", "01B", until=1002.0)
    assert table.lease_of(KEY, now=1001.0) == Lease("one", 1030.0)
    table.stored_soon(KEY, "one", "01A", until=1002.0)
    assert table.lease_of(KEY, now=1001.0) == Lease("one", 1002.0, "01A")
    assert table.lease(KEY, "other", now=1002.0, seconds=30)


def test_every_call_waits_no_longer_than_the_table_may_take() -> None:
    waits: list[float] = []

    def post(url: str, headers: Any, body: bytes, timeout: float) -> Answered:
        waits.append(timeout)
        if len(waits) > 5:
            raise ConnectionFailedError("SilenceError: nothing came")
        return 200, {}, json.dumps({"ConsumedCapacity": {"TableName": "cache"}}).encode()

    table = CacheTable(Aws(post, lambda: Credentials("a", "s", None), "eu-central-1"), "cache")
    table.get(KEY)
    table.event_id_of(KEY)
    table.lease(KEY, "one", 0.0, 30)
    table.stored_soon(KEY, "one", "01A", 2.0)
    table.give_back(KEY, "one")
    with pytest.raises(AwsError, match="SilenceError"):
        table.lease_of(KEY, 0.0)
    assert waits == [0.15] * 6
