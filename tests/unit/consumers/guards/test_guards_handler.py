"""apply_guards as its settings make it: which service and which place it writes, reads and tells."""

import importlib
import json
import sys
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import boto3
import pytest
from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.guards.action import action_of, event_of, subject_of, text_of
from openai_proxy.guards.rules import Counting, Doing, Guard
from openai_proxy.guards.seen import Seen

GUARD = Guard("flood", Counting("repeat", 3, 60), Doing("lower", 3600, {"rpm": 5}))
SEEN = Seen(ulid_of_fact(1_795_392_000.0, ""), "web", "0" * 12, "Web", "gpt-5", frozenset({200}), "d", Decimal(0))
ACTION = action_of(GUARD, SEEN, "because")
SETTINGS = {
    "PRICES_FILE": "",
    "SERVERS_FILE": "",
    "GUARDS_FILE": "",
    "COSTS_TABLE": "costs",
    "KEYS_TABLE": "keys",
    "EVENT_BUS_NAME": "bus",
    "ALARM_TOPIC": "arn:topic",
    "STACK_NAME": "prod",
    "ALARM_CHAT": "teams",
    "RUNBOOKS_URL": "docs/books",
}


class Client:
    """One of boto3's: notes what it is asked, by service and operation."""

    def __init__(self, service: str, asked: list[tuple[str, str, Mapping[str, Any]]]) -> None:
        self._service, self._asked = service, asked

    def __getattr__(self, operation: str) -> Any:
        def call(**request: Any) -> Any:
            self._asked.append((self._service, operation, request))
            used = {"ConsumedCapacity": {"TableName": "any"}} if "ReturnConsumedCapacity" in request else {}
            return {"Items": [], "Entries": [{"EventId": "1"}], "MessageId": "1", **used}

        return call


@pytest.mark.parametrize("has_topic", [True, False])
def test_what_guards_do_goes_where_the_settings_say(has_topic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, Mapping[str, Any]]] = []
    monkeypatch.setattr(boto3, "client", lambda service, *, config: Client(service, asked))  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
    for name, value in {**SETTINGS, **({} if has_topic else {"ALARM_TOPIC": ""})}.items():
        monkeypatch.setenv(name, value)
    try:
        made = importlib.import_module("apply_guards.handler")._apply_guards
    finally:
        sys.modules.pop("apply_guards.handler", None)
    made.teller.tell(ACTION)
    event, *mail = asked
    [entry] = event[2]["Entries"]
    told = event_of(ACTION, "prod", "docs/books", "teams").to_entry("bus")
    assert (event[:2], entry["EventBusName"]) == (("events", "put_events"), "bus")
    assert json.loads(entry["Detail"]) == json.loads(told["Detail"])
    whole = {
        "TopicArn": "arn:topic",
        "Subject": subject_of(ACTION, "prod"),
        "Message": text_of(ACTION, "prod", "docs/books"),
    }
    assert mail == ([("sns", "publish", whole)] if has_topic else [])
    asked.clear()
    made.acts.begin(ACTION, ACTION.at)
    made.engine._evidence.times("g", 7, [SEEN.id], 5)
    places = [(service, operation, request["TableName"]) for service, operation, request in asked]
    assert places == [
        *(("dynamodb", operation, "keys") for operation in ("get_item", "put_item")),
        *(("dynamodb", operation, "costs") for operation in ("get_item", "put_item", "query")),
    ]
    assert made.engine._guards == ()
