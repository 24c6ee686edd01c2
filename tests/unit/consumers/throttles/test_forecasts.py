"""What is kept of servers' announcements, and the forecast that is told of a limit that goes: whole, and told once."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError
from openai_proxy.dynamodb import from_item
from openai_proxy.events.envelope import Event
from openai_proxy.throttles.weather import Left, Weather
from record_throttles.forecasts import Forecasts, forecast_of

from tests.tables import Log

NOW = 1_795_426_900.25
"""2026-11-23T09:41:40.250Z"""
AT = "2026-11-23T09:41:40.250Z"


@dataclass
class Table:
    """As much of DynamoDB as is asked for. `before` are what others do before each of the next writes."""

    items: dict[str, Any] = field(default_factory=dict[str, Any])
    writes: int = 0
    before: list[Callable[[], None]] = field(default_factory=list[Callable[[], None]])
    fails: str = ""

    def get_item(self, **request: Any) -> dict[str, Any]:
        assert (request["TableName"], request["ConsistentRead"]) == ("costs", True)
        assert request["Key"]["pk"] == {"S": "weather"}
        found = self.items.get(request["Key"]["sk"]["S"])
        return {"Item": found} if found else {}

    def put_item(self, **request: Any) -> None:
        self.writes += 1
        if self.before:
            self.before.pop(0)()
        if self.fails:
            raise ClientError({"Error": {"Code": self.fails}}, "PutItem")
        assert request["TableName"] == "costs"
        name, condition = request["Item"]["sk"]["S"], request["ConditionExpression"]
        known = self.items.get(name)
        if condition == "attribute_not_exists(pk)":
            holds = known is None
        else:
            assert (condition, request["ExpressionAttributeNames"]) == ("#seen = :seen", {"#seen": "seen_at"})
            holds = known is not None and known["seen_at"] == request["ExpressionAttributeValues"][":seen"]
        if not holds:
            raise ClientError({"Error": {"Code": "ConditionalCheckFailedException"}}, "PutItem")
        self.items[name] = request["Item"]


@dataclass
class World:
    table: Table = field(default_factory=Table)
    told: list[Event[Any, Any]] = field(default_factory=list[Event[Any, Any]])
    log: Log = field(default_factory=Log)
    is_away: bool = False

    def __post_init__(self) -> None:
        client: Any = self.table
        logger: Any = self.log
        self.forecasts = Forecasts(client, "costs", self, logger)

    def publish(self, event: Event[Any, Any]) -> None:
        if self.is_away:
            raise ConnectionError("away")
        self.told.append(event)

    def sees(self, *samples: Weather) -> list[Weather]:
        return self.forecasts.observe(samples)

    def kept(self, name: str = "openai#gpt-5") -> Weather:
        return Weather.of(from_item(self.table.items[name]))


def seen(seconds: float, remaining: int, model: str = "gpt-5") -> Weather:
    return Weather("openai", model, NOW + seconds, {"requests": Left(remaining, 1000, 90.0)})


GOING = [seen(-30, 290), seen(-20, 260), seen(-10, 230), seen(0, 200)]


def test_a_forecast_is_told_whole_and_with_the_id_of_its_fact() -> None:
    world = World()
    [told] = world.sees(*GOING)
    [event] = world.told
    assert (event.detail_type, event.timestamp, event.request_id, event.client_id) == (
        *("ThrottleForecast", AT, event.id, "openai-proxy"),
    )
    assert event.data == {
        "server": {"name": "openai"},
        "model": "gpt-5",
        "resource": "requests",
        "remaining": 200,
        "limit": 1000,
        "reset": 90.0,
        "per_minute": 180.0,
        "seconds": 66.667,
        "runs_out_at": "2026-11-23T09:42:46.917Z",
    }
    assert told == world.kept() == Weather("openai", "gpt-5", NOW, {"requests": Left(200, 1000, 90.0, 3.0)}, 0.0, NOW)


def test_a_fact_has_one_id_and_another_fact_another() -> None:
    going = Weather("openai", "gpt-5", NOW, {"requests": Left(10, 1000, None, 1.0)})
    assert forecast_of(going) == forecast_of(going)
    tokens = Weather("openai", "gpt-5", NOW, {"tokens": Left(10, 1000, None, 1.0)})
    others = [tokens, Weather("x", "gpt-5", NOW, going.left), Weather("openai", "x", NOW, going.left)]
    assert len({forecast_of(each).id for each in (going, *others)}) == 4
    with pytest.raises(ValueError, match="no limit is going"):
        forecast_of(seen(0, 1))


def test_a_forecast_has_three_decimals() -> None:
    data = forecast_of(Weather("openai", "gpt-5", NOW, {"requests": Left(10, 1000, None, 1 / 7)})).data
    assert (data["per_minute"], data["seconds"], data["runs_out_at"][-5:]) == (8.571, 70.0, ".250Z")


@pytest.mark.parametrize("batches", [[GOING], [GOING[::-1]], [GOING[:1], GOING[1:]], [[each] for each in GOING]])
def test_answers_come_in_any_order_and_in_any_batch(batches: list[list[Weather]]) -> None:
    world = World()
    told = [each for batch in batches for each in world.sees(*batch)]
    assert [each.seen_at for each in told] == [NOW]
    assert len(world.told) == 1
    assert world.table.writes == len(batches)
    assert world.kept().left["requests"] == Left(200, 1000, 90.0, 3.0)


def test_what_is_as_old_as_what_is_known_changes_nothing() -> None:
    world = World()
    world.sees(*GOING)
    for late in (seen(0, 1), seen(-5, 999)):
        assert world.sees(late) == []
    assert (world.table.writes, len(world.told), world.kept().left["requests"].remaining) == (1, 1, 200)


@pytest.mark.parametrize("others", range(5))
def test_what_others_write_in_between_is_read_three_times(others: int) -> None:
    world, other = World(), World()
    other.table.items = world.table.items
    world.sees(seen(-40, 320))
    before = [seen(-39 + number, 319 - number) for number in range(others)]

    def sees(each: Weather) -> None:
        other.sees(each)

    world.table.before = [partial(sees, each) for each in before]
    told = world.sees(*GOING)
    is_kept = others < 3
    assert world.kept().seen_at == (NOW if is_kept else before[2].seen_at)
    assert (len(told), len(world.told)) == ((1, 1) if is_kept else (0, 0))
    assert world.log.lines == []


def test_a_model_whose_limits_cannot_be_kept_costs_no_other_model() -> None:
    world = World()
    world.table.items["openai#odd"] = {"pk": {"S": "weather"}}
    told = world.sees(*GOING, seen(0, 5, "odd"))
    assert [each.model for each in told] == ["gpt-5"]
    reason = "KeyError('server')"
    line = {"level": "warning", "message": "The limits of a server were not kept", "server": "openai", "model": "odd"}
    assert world.log.lines == [{**line, "reason": reason}]


def test_a_write_that_is_refused_for_another_reason_is_not_tried_again() -> None:
    world = World(Table(fails="ThrottlingException"))
    assert world.sees(*GOING) == []
    assert (world.table.writes, world.told, len(world.log.lines)) == (1, [], 1)
    assert "ThrottlingException" in world.log.lines[0]["reason"]


def test_a_forecast_that_could_not_be_told_is_none() -> None:
    world = World(is_away=True)
    assert world.sees(*GOING) == []
    assert [line["reason"] for line in world.log.lines] == ["ConnectionError('away')"]
