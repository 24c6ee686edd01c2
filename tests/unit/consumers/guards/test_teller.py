"""Who tells of an act, and in which order: the bus, then the topic where there is one, then one line of the log."""

from decimal import Decimal
from typing import Any

import pytest
from apply_guards.teller import Teller, Words
from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.guards.action import action_of, event_of, subject_of, text_of
from openai_proxy.guards.rules import Counting, Doing, Guard
from openai_proxy.guards.seen import Seen

from tests.tables import Log

GUARD = Guard("flood", Counting("repeat", 3, 60), Doing("lower", 3600, {"rpm": 5}))
SEEN = Seen(ulid_of_fact(1_795_392_000.0, ""), "web", "0" * 12, "Web", "gpt-5", frozenset({200}), "d", Decimal(0))
ACTION = action_of(GUARD, SEEN, "because")
LINE = {
    "level": "warning",
    "message": "A guard acted",
    "guard": "flood",
    "act": "lower",
    "id": ACTION.id,
    "client_id": "web",
    "key_id": "0" * 12,
    "reason": "because",
}


class People:
    """A bus, or a topic. `fails` is what happens there."""

    def __init__(self, told: list[tuple[Any, ...]], fails: Exception | None = None) -> None:
        self._told, self._fails = told, fails

    def publish(self, *what: Any) -> None:
        if self._fails:
            raise self._fails
        self._told.append(what)


@pytest.mark.parametrize("has_topic", [True, False])
def test_an_act_is_told_whole(has_topic: bool) -> None:
    told, log = list[tuple[Any, ...]](), Log()
    logger: Any = log
    people: Any = People(told)
    Teller(people, people if has_topic else None, Words("prod", "docs/books", "teams"), logger).tell(ACTION)

    mail = (subject_of(ACTION, "prod"), text_of(ACTION, "prod", "docs/books"))
    assert told == [(event_of(ACTION, "prod", "docs/books", "teams"),), *([mail] if has_topic else [])]
    assert log.lines == [LINE]


@pytest.mark.parametrize("bus_fails", [True, False])
def test_what_was_not_told_is_not_logged_as_told(bus_fails: bool) -> None:
    told, log, fault = list[tuple[Any, ...]](), Log(), ValueError("down")
    logger: Any = log
    bus: Any = People(told, fault if bus_fails else None)
    topic: Any = People(told, None if bus_fails else fault)
    with pytest.raises(ValueError, match="down"):
        Teller(bus, topic, Words("prod", "docs/books", "slack"), logger).tell(ACTION)
    assert (len(told), log.lines) == (0 if bus_fails else 1, [])
