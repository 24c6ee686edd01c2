"""When apply_guards acts, to the millisecond, in which order, and what it says of a batch: whole."""

import copy
import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from apply_guards.consumer import ApplyGuards
from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.guards.action import Action, action_of
from openai_proxy.guards.rules import Act, Counting, Doing, Guard
from openai_proxy.guards.seen import Seen
from openai_proxy.pricing.price_book import parse_price_book

from tests.tables import Log

SAMPLE = json.loads((Path(__file__).parents[4] / "events/samples/InferenceCompleted.chat-stream.json").read_text())
PRICES = parse_price_book("servers: {openai: {models: {gpt-5: {request: 1}}}}")
MONDAY = 1_795_392_000.0
DAY = 86400.0
KEY = "0123456789ab"


def acted(act: Act, at: float = 0.5) -> Action:
    seen = Seen(ulid_of_fact(MONDAY + at, act), "web", KEY, "Web", "gpt-5", frozenset({200}), "d", Decimal(0))
    return action_of(Guard(act, Counting("repeat", 3, 60), Doing(act, 3600, {})), seen, "because")


class World:
    """A consumer whose engine finds what it is told for each key, and whose acts are in memory."""

    def __init__(self, *actions: Action, begun: str = "new", now: float = MONDAY) -> None:
        self.actions, self.begun, self.now, self.log = actions, begun, now, Log()
        self.judged: list[list[str]] = []
        self.done: list[str] = []
        self.fails = ""
        parts: Any = self
        self.consumer = ApplyGuards(PRICES, parts, parts, parts, parts.log, lambda: self.now)

    def judge(self, seen: Iterable[Seen]) -> tuple[Action, ...]:
        self.judged.append([each.key_id for each in seen])
        if self.judged[-1][0] == self.fails:
            raise ValueError("damaged")
        return self.actions

    def settled(self, action: Action) -> None:
        self.done.append(f"settled {action.guard}")

    def begin(self, action: Action, now: float) -> str:
        assert now == self.now
        self.done.append(f"begin {action.guard}")
        return self.begun

    def tell(self, action: Action) -> None:
        self.done.append(f"tell {action.guard}")

    def told(self, action: Action) -> None:
        self.done.append(f"told {action.guard}")


def message(number: int, key_id: str = KEY, at: float = 0.0) -> dict[str, Any]:
    envelope = copy.deepcopy(SAMPLE)
    envelope["detail"]["metadata"]["id"] = ulid_of_fact(MONDAY + at, str(number))
    envelope["detail"]["data"]["client"]["key_id"] = key_id
    header = f"Root={trace(number)};Sampled=1"
    return {"messageId": str(number), "body": json.dumps(envelope), "attributes": {"AWSTraceHeader": header}}


def trace(number: int) -> str:
    return f"1-{number:08x}-{0:024x}"


def asked_again(world: World, *messages: dict[str, Any]) -> list[str]:
    return [each["itemIdentifier"] for each in world.consumer({"Records": list(messages)})["batchItemFailures"]]


def line(acts: int = 0, failed: int = 0, *traces: int) -> dict[str, Any]:
    said = {"level": "info", "message": "A batch was judged", "acts": acts, "failed": failed}
    return {**said, "traces": [trace(each) for each in traces or (1,)]}


@pytest.mark.parametrize(
    ("begun", "done"),
    [
        ("new", ["begin lower", "tell lower", "told lower", "settled lower"]),
        ("untold", ["begin lower", "tell lower", "told lower", "settled lower"]),
        ("told", ["begin lower", "settled lower"]),
        ("undone", ["begin lower", "settled lower"]),
    ],
)
def test_an_act_is_written_told_remembered_and_done_in_this_order(begun: str, done: list[str]) -> None:
    world = World(acted("lower"), begun=begun)
    assert asked_again(world, message(1)) == []
    assert world.done == done
    assert world.log.lines == [line(int(begun in ("new", "untold")))]


@pytest.mark.parametrize(
    ("act", "late", "is_done"),
    [
        ("lower", 3600.499, True),
        ("lower", 3600.5, False),
        ("notify", DAY + 0.499, True),
        ("notify", DAY + 0.5, False),
    ],
)
def test_what_would_be_over_is_not_begun_and_of_a_notice_people_hear_for_a_day(
    act: Act, late: float, is_done: bool
) -> None:
    world = World(acted(act), now=MONDAY + late)
    asked_again(world, message(1))
    assert world.done == ([f"{what} {act}" for what in ("begin", "tell", "told", "settled")] if is_done else [])


def test_one_that_is_over_keeps_no_other_from_being_done() -> None:
    world = World(acted("lower"), acted("disable", 1.0), now=MONDAY + 3600.5)
    asked_again(world, message(1))
    assert world.done == [f"{what} disable" for what in ("begin", "tell", "told", "settled")]


@pytest.mark.parametrize(("ahead", "judged"), [(299.999, [[KEY]]), (300.0, [])])
def test_what_is_dated_ahead_by_more_than_clocks_differ_is_not_judged(ahead: float, judged: list[list[str]]) -> None:
    world = World()
    assert asked_again(world, message(1, at=ahead)) == []
    assert world.judged == judged


@pytest.mark.parametrize(("late", "judged"), [(6 * DAY - 3600.001, [[KEY]]), (6 * DAY - 3600, [])])
def test_what_was_perhaps_added_and_forgotten_is_not_added_again(late: float, judged: list[list[str]]) -> None:
    world = World(now=MONDAY + late)
    assert asked_again(world, message(1)) == []
    assert world.judged == judged


def test_the_requests_of_a_key_are_judged_together_and_fail_together_and_alone() -> None:
    world = World()
    world.fails = KEY
    other = "f" * 12
    poison = {"messageId": "4", "body": "{}"}
    messages = [message(1), message(2, other), message(3), poison, message(5, "")]

    assert asked_again(world, *messages) == ["4", "1", "3"]
    assert world.judged == [[KEY, KEY], [other]]
    unread, unjudged, batch = world.log.lines
    assert unread["level"] in ("warning", "error", "exception")
    assert unjudged == {
        "level": "warning",
        "message": "Requests were not judged",
        "key_id": KEY,
        "reason": "ValueError('damaged')",
    }
    assert batch == line(0, 3, 1, 2, 3, 5)


def test_an_event_that_has_no_entry_is_nobodys_request() -> None:
    world = World()
    throttled = json.loads((Path(__file__).parents[4] / "events/samples/InferenceThrottled.key-rpm.json").read_text())
    assert asked_again(world, {**message(1), "body": json.dumps(throttled)}) == []
    assert world.judged == []
