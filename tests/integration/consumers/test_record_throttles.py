"""record_throttles against DynamoDB (moto): who was throttled by what is written down once, and names stay few."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from openai_proxy.dynamodb import from_item
from openai_proxy.events.envelope import Event, rfc3339
from openai_proxy.events.ulid import new_ulid
from openai_proxy.ledger.entries import Key, LedgerEntry
from openai_proxy.ledger.table import CostsTable
from record_throttles.busiest import Busiest
from record_throttles.consumer import RecordThrottles
from record_throttles.forecasts import Forecasts

from tests.tables import Log, failures, make_table

FROM_THROTTLES, MOST_CLIENTS, MOST_NAMES, READ_EVERY = 10, 10, 20, 60.0

SAMPLES = Path(__file__).parents[3] / "events" / "samples"
NOW = 1_795_426_900
"""2026-11-23T09:41:40Z"""
TABLE = "costs"


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with mock_aws():
        client: Any = boto3.client("dynamodb")  # pyright: ignore[reportUnknownMemberType]
        names = {"pk": "HASH", "sk": "RANGE"}
        make_table(client, TABLE, *names)
        yield client


@pytest.fixture
def table(client: Any) -> Any:
    for item in client.scan(TableName=TABLE)["Items"]:
        client.delete_item(TableName=TABLE, Key={name: item[name] for name in ("pk", "sk")})
    return client


@dataclass
class World:
    """The consumer, with a lake and metrics in memory."""

    table: Any
    lake_refuses: bool = False
    sent: list[str] = field(default_factory=list[str])
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    told: list[Any] = field(default_factory=list[Any])
    log: Log = field(default_factory=Log)

    def __post_init__(self) -> None:
        logger: Any = self.log
        ledger, busiest = CostsTable(self.table, TABLE, lambda _: None), Busiest(self.table, TABLE)
        self.consumer = RecordThrottles(ledger, self, busiest, logger, Stream(self), self.forecasts(), lambda: NOW)

    def forecasts(self) -> Forecasts:
        logger: Any = self.log
        return Forecasts(self.table, TABLE, self, logger)

    def publish(self, event: Event[Any, Any]) -> None:
        self.told.append(event.data)

    def put(self, data: Sequence[Any]) -> None:
        for datum in data:
            dimension = next(iter(datum["Dimensions"]), {"Value": "all"})
            name = (
                dimension["Value"] if datum["MetricName"] == "ClientThrottles" else f"forecasts of {dimension['Value']}"
            )
            number = sum(value * many for value, many in zip(datum["Values"], datum["Counts"], strict=True))
            self.metrics[name] = self.metrics.get(name, 0) + number

    def __call__(self, *messages: Mapping[str, str]) -> list[str]:
        return failures(self.consumer({"Records": messages}))

    def items(self, begin: str) -> dict[tuple[str, str], dict[str, Any]]:
        found = map(from_item, self.table.scan(TableName=TABLE)["Items"])
        return {(item["pk"], item["sk"]): item for item in found if item["pk"].startswith(begin)}


@dataclass
class Stream:
    """The lake of a world."""

    world: World

    def put(self, entries: Iterable[LedgerEntry]) -> dict[Key, str]:
        if self.world.lake_refuses:
            return {entry.key: "no" for entry in entries}
        self.world.sent += [entry.event_id for entry in entries]
        return {}


def message(
    sample: str, number: int, change: Callable[[Any], None] = lambda _: None, **metadata: str
) -> dict[str, str]:
    envelope = json.loads((SAMPLES / f"{sample}.json").read_text(encoding="utf-8"))
    envelope["detail"]["metadata"] |= {"id": new_ulid(NOW + number / 1000), **metadata}
    change(envelope["detail"]["data"])
    return {"messageId": str(number), "body": json.dumps(envelope)}


def test_a_throttle_is_an_entry_and_a_part_of_the_sums_of_its_hour_and_its_day(table: Any) -> None:
    world = World(table)
    assert world(message("InferenceThrottled.key-rpm", 1), message("InferenceThrottled.key-rpm", 2)) == []
    assert world(message("InferenceThrottled.upstream", 3), message("InferenceThrottled.team-rpm", 4)) == []
    entries = world.items("throttled#")
    assert sorted(pk for pk, _ in entries) == ["throttled#ci.nightly#2026-11-23"] * 3 + [
        "throttled#web-shop#2026-11-23"
    ]
    for pk in ("throttles#2026-11-23T09", "throttles#2026-11-23"):
        sums = {sk: item for (_, sk), item in world.items(pk).items() if item["pk"] == pk}
        assert {sk: int(item["requests"]) for sk, item in sums.items()} == {
            "ci.nightly#key_rpm#openai#gpt-4o-mini": 2,
            "ci.nightly#team_rpm#openai#gpt-4o-mini": 1,
            "web-shop#upstream#gemini#gemini-2.5-flash": 1,
        }
        own = sums["ci.nightly#key_rpm#openai#gpt-4o-mini"]
        told = ("client_id", "source", "server", "model", "throttle_subject", "throttle_subject_id", "throttle_limit")
        assert [own[name] for name in told] == [
            *("ci.nightly", "key_rpm", "openai", "gpt-4o-mini", "key", "3f2a91c07be4", "60")
        ]
        assert (own["throttle_span"], own["key_id"], own["retry_after"]) == ("minute", "3f2a91c07be4", 29)
        assert own["expires_at"] > NOW + 365 * 86400
        assert sums["ci.nightly#team_rpm#openai#gpt-4o-mini"]["team"] == "web"
    assert len(world.sent) == 4


def test_what_comes_again_counts_once_and_is_sent_to_the_lake_again(table: Any) -> None:
    world = World(table)
    throttle = message("InferenceThrottled.key-rpm", 1)
    again = {**throttle, "messageId": "again"}
    assert world(throttle, again) == []
    assert world(throttle) == []
    [hour] = world.items("throttles#2026-11-23T").values()
    assert (hour["requests"], world.metrics) == (1, {"other": 1})
    assert len(world.sent) == 2


HOUR = "2026-11-23T09"


def test_the_busiest_clients_have_a_metric_whoever_came_first_and_never_more_than_a_few(table: Any) -> None:
    busiest = Busiest(table, TABLE)
    assert busiest.among(HOUR, {"a": FROM_THROTTLES - 1}) == frozenset()
    assert busiest.among(HOUR, {"a": 1}) == {"a"}
    others = {f"c{number}": FROM_THROTTLES + 1 for number in range(MOST_CLIENTS - 1)}
    named = busiest.among(HOUR, others)
    assert named == {"a", *(f"c{number}" for number in range(MOST_CLIENTS - 1))}
    assert busiest.among(HOUR, {"loud": 1000}) == named - {"a"} | {"loud"}, "it takes the place of the least busy one"
    assert busiest.among(HOUR, {"a": 500}) >= {"a", "loud"}, "who is busy again has its own again"
    assert busiest.among("2026-11-23T10", {"late": 1000}) == {"late"}, "each hour begins anew"


def test_all_sandboxes_together_name_no_more_than_the_bound(table: Any) -> None:
    one, other = Busiest(table, TABLE), Busiest(table, TABLE)
    seen: set[str] = set()
    for number in range(3 * MOST_NAMES):
        seen |= (one, other)[number % 2].among(HOUR, {f"c{number}": FROM_THROTTLES + number})
    assert len(seen) == MOST_NAMES
    assert seen == {f"c{number}" for number in range(MOST_NAMES)}


def test_who_is_busiest_the_rollups_of_all_sandboxes_say(table: Any) -> None:
    world, moment = World(table), [0.0]
    busiest = Busiest(table, TABLE, lambda: moment[0])
    assert busiest.among(HOUR, {"shared": 1}) == frozenset()
    storm = [message("InferenceThrottled.key-rpm", number, client_id="shared") for number in range(FROM_THROTTLES)]
    storm += [message("InferenceThrottled.upstream", 100 + number, client_id=f"c{number % 4}") for number in range(40)]
    assert world(*storm) == []
    moment[0] = READ_EVERY - 1
    assert busiest.among(HOUR, {"shared": 1}) == frozenset(), "a look each minute is enough"
    moment[0] = READ_EVERY
    assert busiest.among(HOUR, {"shared": 1}) == {"shared", *(f"c{number}" for number in range(4))}


def test_the_metric_counts_each_throttle_once_by_client_or_as_other(table: Any) -> None:
    world = World(table)
    storm = [message("InferenceThrottled.key-rpm", number, client_id="loud") for number in range(FROM_THROTTLES)]
    assert world(*storm, message("InferenceThrottled.key-rpm", 50, client_id="quiet")) == []
    assert world(message("InferenceThrottled.upstream", 51, client_id="loud")) == []
    assert world.metrics == {"loud": FROM_THROTTLES + 1, "other": 1}


# ------------------------------------------------------------------------------------------------ what servers announce


def answered(second: int, remaining: int, **more: Any) -> dict[str, str]:
    """An answer of a server that announces what is left of 1,000 requests, which are full again in a minute."""

    def announce(data: Any) -> None:
        left = {"requests": {"remaining": remaining, "limit": 1000, "reset": 60.0}}
        data["announced"] = [{"server": "openai", "model": "gpt-5", "refused_for": None, **left, **more}]

    at = rfc3339(NOW + second)
    return message("InferenceCompleted.chat-stream", 1000 * second, announce, timestamp=at)


def test_a_limit_that_goes_is_told_before_the_first_refusal_and_once(table: Any) -> None:
    world = World(table)
    assert world(answered(0, 500), answered(10, 400)) == []
    assert world(answered(20, 300)) == []
    assert world.told == []
    assert world(answered(30, 200)) == []
    assert world(answered(40, 100), answered(45, 50)) == []
    [told] = world.told
    assert (told["server"], told["model"], told["resource"]) == ({"name": "openai"}, "gpt-5", "requests")
    assert (told["remaining"], told["seconds"], told["per_minute"]) == (200, 20.0, 600.0)
    assert world.metrics == {"forecasts of all": 1, "forecasts of openai": 1}
    item = world.items("weather")["weather", "openai#gpt-5"]
    assert float(item["full_until"]) > NOW + 30
    assert not world.items("throttled#"), "nothing was refused"


def test_two_sandboxes_and_what_comes_late_lose_nothing(table: Any) -> None:
    one, other = World(table), World(table)
    one(answered(0, 500))
    other(answered(10, 400))
    one(answered(20, 300))
    other(answered(30, 200))
    one(answered(5, 490), answered(30, 200))
    assert [len(each.told) for each in (one, other)] == [0, 1]
    assert world_pace(other) == 10


def world_pace(world: World) -> float:
    return float(world.items("weather")["weather", "openai#gpt-5"]["requests"]["pace"])


def test_a_refusal_says_until_when_its_server_is_full(table: Any) -> None:
    world = World(table)
    assert world(message("InferenceThrottled.upstream", 1, timestamp=rfc3339(NOW))) == []
    assert float(world.items("weather")["weather", "gemini#gemini-2.5-flash"]["full_until"]) == NOW + 21.5
