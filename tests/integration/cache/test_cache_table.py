"""The calls of the cache table as DynamoDB (moto) understands them, and as the fake of the other tests does."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto import mock_aws
from proxy.aws.client import Aws, AwsError
from proxy.aws.sigv4 import Credentials
from proxy.cache.table import CacheTable, Lease
from proxy.http.transport import Answered, ConnectionFailedError

from tests.caches import FakeTable
from tests.tables import make_table

KEY = "a" * 64


class Boto:
    """As much of `Aws` as the table uses, over boto3."""

    def __init__(self) -> None:
        self._client: Any = boto3.client("dynamodb", region_name="eu-central-1")  # pyright: ignore[reportUnknownMemberType]
        make_table(self._client, "cache", "cache_key")

    def get_item(self, arguments: dict[str, Any], _timeout: float) -> dict[str, Any]:
        return self._client.get_item(**arguments).get("Item") or {}

    def put_item(self, arguments: dict[str, Any], timeout: float) -> tuple[bool, dict[str, Any] | None]:
        return self._write(self._client.put_item, arguments)

    def delete_item(self, arguments: dict[str, Any], timeout: float) -> bool:
        return self._write(self._client.delete_item, arguments)[0]

    def _write(self, write: Any, arguments: dict[str, Any]) -> tuple[bool, dict[str, Any] | None]:
        try:
            write(**arguments)
        except self._client.exceptions.ConditionalCheckFailedException as error:
            return False, error.response.get("Item")
        return True, None


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


def take(table: CacheTable, owner: str, now: float, seconds: float = 30) -> Lease | None:
    """Whose the lease is instead; None when it is taken."""
    return table.take_lease(KEY, Lease(owner, now + seconds, now, usual=7.5), now)


def test_one_takes_the_lease_and_others_see_it(table: CacheTable) -> None:
    assert table.lease_of(KEY, now=1000.0) is None
    assert take(table, "one", 1000.0) is None
    held = Lease("one", 1030.0, since=1000.0, usual=7.5)
    assert take(table, "other", 1010.0) == held, "who does not get it is told whose it is by the same call"
    assert table.lease_of(KEY, now=1029.0) == held
    assert table.get(KEY) == {}, "a lease is no answer"
    assert table.event_id_of(KEY) == ""


def test_a_call_that_is_sent_twice_takes_one_lease(table: CacheTable) -> None:
    assert take(table, "one", 1000.0) is None
    assert take(table, "one", 1000.0) is None
    assert take(table, "other", 1000.0)


def test_a_lease_ends_by_itself(table: CacheTable) -> None:
    assert take(table, "one", 1000.0, seconds=7) is None
    assert table.lease_of(KEY, now=1007.0) is None
    assert take(table, "other", 1007.0) is None
    assert take(table, "one", 1031.0)


@pytest.mark.parametrize(
    "damaged",
    [{}, {"lease_until": {"S": "soon"}}, {"lease_until": {"N": "99999999999999"}}, {"lease_until": {"NULL": True}}],
    ids=["no end", "an end of no number", "an end of another age", "an end of nothing"],
)
def test_a_damaged_lease_is_nobodys(table: CacheTable, damaged: dict[str, Any]) -> None:
    replace_lease(table, damaged)
    assert table.lease_of(KEY, now=1001.0) is None
    assert take(table, "one", 1001.0) is None
    assert table.lease_of(KEY, now=1002.0) == Lease("one", 1031.0, 1001.0, 7.5)


@pytest.mark.parametrize("since", [{}, {"S": "1"}, {"N": "1.5"}, {"N": "0"}, {"N": "-1"}, {"N": "1030001"}], ids=str)
@pytest.mark.parametrize("usual", [{"N": "7500"}, {"N": "-1"}, {"N": "1000001"}, {"NULL": True}], ids=str)
def test_of_a_lease_that_is_damaged_elsewhere_only_its_end_is_believed(
    table: CacheTable, since: dict[str, Any], usual: dict[str, Any]
) -> None:
    replace_lease(table, {"lease_until": {"N": "1030000"}, "usual": usual} | ({"since": since} if since else {}))
    assert table.lease_of(KEY, now=1001.0) == Lease("x", 1030.0)
    assert take(table, "other", 1001.0) == Lease("x", 1030.0)


def replace_lease(table: CacheTable, attributes: dict[str, Any]) -> None:
    services: Any = table._aws
    put: dict[str, Any] = {
        "TableName": "cache",
        "Item": {"cache_key": {"S": f"lease#{KEY}"}, "owner": {"S": "x"}, **attributes},
        "ConditionExpression": "#owner = :owner",
        "ExpressionAttributeNames": {"#owner": "owner"},
        "ExpressionAttributeValues": {":owner": {"S": "x"}},
    }
    assert take(table, "x", 1000.0) is None
    assert services.put_item(put, 1.0)[0]


def test_only_its_owner_gives_a_lease_back(table: CacheTable) -> None:
    assert take(table, "one", 1000.0) is None
    table.give_back(KEY, "other")
    assert table.lease_of(KEY, now=1001.0)
    table.give_back(KEY, "one")
    assert table.lease_of(KEY, now=1001.0) is None
    table.give_back(KEY, "one")


def test_only_its_owner_says_that_the_answer_is_stored_soon(table: CacheTable) -> None:
    table.stored_soon(KEY, Lease("one", 1002.0, event_id="01A"))
    assert table.lease_of(KEY, now=1001.0) is None, "there is no lease to say it on"
    assert take(table, "one", 1000.0) is None
    table.stored_soon(KEY, Lease("other", 1002.0, event_id="01B"))
    assert table.lease_of(KEY, now=1001.0) == Lease("one", 1030.0, 1000.0, 7.5)
    table.stored_soon(KEY, Lease("one", 1002.0, 1000.0, event_id="01A"))
    assert table.lease_of(KEY, now=1001.0) == Lease("one", 1002.0, 1000.0, event_id="01A")
    assert take(table, "other", 1002.0) is None


def test_whose_a_lease_is_may_stay_untold(table: CacheTable) -> None:
    class Silent:
        def put_item(self, arguments: dict[str, Any], timeout: float) -> tuple[bool, None]:
            return False, None

    silent: Any = Silent()
    assert take(CacheTable(silent, "cache"), "one", 1000.0) == Lease("", float("inf"))


def test_every_call_waits_no_longer_than_the_table_may_take() -> None:
    waits: list[float] = []

    def post(url: str, headers: Any, body: bytes, timeout: float, *, repeats: bool = True) -> Answered:
        waits.append(timeout)
        if len(waits) > 5:
            raise ConnectionFailedError("SilenceError: nothing came", was_sent=True)
        return 200, {}, json.dumps({"ConsumedCapacity": {"TableName": "cache"}}).encode()

    table = CacheTable(Aws(post, lambda: Credentials("a", "s", None), "eu-central-1"), "cache")
    table.get(KEY)
    table.event_id_of(KEY)
    take(table, "one", 0.0)
    table.stored_soon(KEY, Lease("one", 2.0, event_id="01A"))
    table.give_back(KEY, "one")
    with pytest.raises(AwsError, match="SilenceError"):
        table.lease_of(KEY, 0.0)
    assert waits == [0.15] * 6
