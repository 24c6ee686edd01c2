"""What is told of an act, whole: in a mail, in a chat, on the bus; whom it is done to, until when, how to end it."""

from decimal import Decimal
from typing import Any, Literal

import pytest
from openai_proxy.events.ulid import ulid_of_fact, ulid_time
from openai_proxy.guards.action import Action, action_of, done_text, event_of, subject_of, text_of, undo_command
from openai_proxy.guards.rules import Act, Counting, Doing, Guard
from openai_proxy.guards.seen import Seen

MONDAY = 1_795_392_000.0
"""2026-11-23, 00:00 UTC."""
KEY, USER = "0123456789ab", "c" * 32


def seen(at: float = 0.0, key_id: str = KEY) -> Seen:
    return Seen(ulid_of_fact(MONDAY + at, "x"), "web", key_id, "Web", "gpt-5", frozenset({200}), "d", Decimal(0))


def guard(act: Act = "lower", lasts: int = 7200, **limits: int) -> Guard:
    return Guard("flood", Counting("repeat", 3, 60), Doing(act, lasts, limits))


def acted(act: Act = "lower", at: float = 30.5, key_id: str = KEY, **limits: int) -> Action:
    return action_of(guard(act, **limits), seen(at, key_id), "the same request 3 times within 1m")


def test_an_act_has_one_id_in_each_stretch_of_the_clock_and_lasts_its_time_from_its_request() -> None:
    first, last, later = acted(at=0.0), acted(at=7199.5), acted(at=7200.0)
    assert first.id == last.id != later.id
    assert [ulid_time(each.id).timestamp() - MONDAY for each in (last, later)] == [0.0, 7200.0]
    assert [(each.at - MONDAY, each.until - MONDAY) for each in (last, later)] == [(7199.5, 14399.5), (7200, 14400)]
    assert (
        len({each.id for each in (first, acted(key_id=USER), action_of(guard()._replace(name="x"), seen(), ""))}) == 3
    )
    assert first[1:] == ("flood", "repeat", Doing("lower", 7200, {}), seen(0.0), first.reason)


@pytest.mark.parametrize(
    ("act", "limits", "text"),
    [
        ("notify", {}, "nothing else is done"),
        ("lower", {"rpm": 5, "parallel": 1}, "its limits are lowered to 5 rpm, 1 parallel"),
        ("cache_only", {}, "it gets answers of the response cache alone"),
        ("disable", {}, "it is disabled"),
    ],
)
def test_what_is_done_in_words(act: Act, limits: dict[str, int], text: str) -> None:
    assert done_text(act, limits) == text
    assert acted(act).holds is (act != "notify")


WHO = "The guard flood of the stack openai-proxy has acted on client web"
WHY = "\n\nWhy: the same request 3 times within 1m.\n\n"
BOOK = "Runbook: docs/runbooks/guards.md#what-to-look-at"


def test_a_mail_says_whom_what_until_when_why_and_how_to_end_it() -> None:
    action = acted(rpm=5)
    wrong = "If that is wrong, this ends it now, and the guard leaves it alone until then:\n"
    held = f"{WHO}, key {KEY}: its limits are lowered to 5 rpm, until 2026-11-23 02:00 UTC."
    assert text_of(action, "openai-proxy", "docs/runbooks") == (
        f"{held}{WHY}{wrong}  openai-proxy guards undo {action.id}\n\n{BOOK}"
    )


def test_where_nothing_is_held_nothing_is_undone() -> None:
    action = acted("notify", key_id=USER)
    assert text_of(action, "openai-proxy", "docs/runbooks") == f"{WHO}, user {USER}: nothing else is done.{WHY}{BOOK}"
    assert undo_command(action, "openai-proxy") == undo_command(action, "other") == ""


def test_another_stack_is_named_in_the_command() -> None:
    action = acted()
    assert undo_command(action, "other") == f"openai-proxy guards undo {action.id} --stack-name other"


@pytest.mark.parametrize("length", [72, 73, 74, 200])
def test_a_subject_is_shorter_than_the_hundred_characters_that_sns_refuses(length: int) -> None:
    usual = f"[{'s' * length}] Guard flood: web (lower)"
    assert subject_of(acted(), "s" * length) == usual[:99]
    assert len(usual) == length + 27


@pytest.mark.parametrize("form", ["slack", "teams"])
def test_an_event_says_all_that_is_known(form: Literal["slack", "teams"]) -> None:
    action = acted(rpm=5)
    text = text_of(action, "other", "docs/runbooks")
    event = event_of(action, "other", "docs/runbooks", form)
    message: Any = event.data["message"]
    assert (event.detail_type, event.id, event.timestamp) == ("GuardActed", action.id, "2026-11-23T00:00:30.500Z")
    assert (event.request_id, event.client_id) == (action.request.id, "web")
    assert event.data == {
        "guard": "flood",
        "rule": "repeat",
        "act": "lower",
        "limits": {"rpm": 5},
        "client": {"key_id": KEY, "name": "Web"},
        "reason": "the same request 3 times within 1m",
        "since": "2026-11-23T00:00:30.500Z",
        "until": "2026-11-23T02:00:30.500Z",
        "undo": f"openai-proxy guards undo {action.id} --stack-name other",
        "text": text,
        "message": message,
    }
    body = message if form == "slack" else message["attachments"][0]["content"]["body"][0]
    assert body["text"] == text
