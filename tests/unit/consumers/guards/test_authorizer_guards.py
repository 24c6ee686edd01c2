"""What the authorizer makes of acts of guards: for keys and users, at both doors, and when nobody can say."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from authorizer.authorizer import Authorizer
from authorizer.guards import DamagedOverlayError, Guards
from openai_proxy.client_keys import hash_client_key, key_id_of, new_client_key
from openai_proxy.guards.overlay import overlay_key
from openai_proxy.key_context import CACHE_ONLY, ClientKey
from openai_proxy.key_limits import Limits

from tests.tables import Log

NOW = 1_795_426_200.0
KEY = new_client_key()
KEY_HASH = hash_client_key(KEY)
KEY_ID = key_id_of(KEY_HASH)
ITEM = {"key_hash": KEY_HASH, "client_id": "web", "name": "Web", "enabled": True, "rpm": Decimal(60)}
USER = "c" * 32
DOORS = {
    "rest": "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/dev/POST/openai/v1/chat",
    "url": "arn:aws:execute-api:us-east-1:000000000000:function-url/url/POST/openai/v1/chat",
}


def act(kind: str, until: float = NOW + 60, **more: Any) -> dict[str, Any]:
    return {"a": {"guard": "g", "act": kind, "until": Decimal(repr(until)), **more}}


class Keys:
    """The key table. Counts what it is asked."""

    def __init__(self, *items: Mapping[str, Any]) -> None:
        self.items = {item["key_hash"]: item for item in items}
        self.asked: list[str] = []

    def find(self, key_hash: str) -> Mapping[str, Any] | None:
        self.asked.append(key_hash)
        return self.items.get(key_hash)


def answer(keys: Keys, sent: str = KEY, door: str = "url", log: Log | None = None) -> dict[str, Any]:
    logger: Any = log or Log()
    guards = Guards(keys.find, lambda: NOW)
    user = ClientKey("free", key_id=USER, end_user="ada", limits=Limits(USER, rpm=10), line=USER)
    authorizer = Authorizer(keys, logger, lambda: NOW, users=lambda _: user, guards=guards)
    return authorizer({"methodArn": DOORS[door], "headers": {"Authorization": f"Bearer {sent}"}})


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("sent", "whose"), [(KEY, KEY_ID), ("a.b.c", USER)], ids=["key", "user"])
def test_who_is_paused_is_denied_at_both_doors_and_told_why(door: str, sent: str, whose: str) -> None:
    keys, log = Keys(ITEM, {"key_hash": overlay_key(whose), "acts": act("disable")}), Log()
    denied = answer(keys, sent, door, log)
    assert denied["policyDocument"]["Statement"][0]["Effect"] == "Deny"
    assert denied["context"]["error_code"] == "client_paused"
    [line] = log.lines
    assert (line["message"], line["reason"], line["key_id"]) == ("A client was refused", "client_paused", whose)
    assert "guards undo" in line["remedy"]
    keys.items[overlay_key(whose)] = {"key_hash": overlay_key(whose), "acts": act("disable", NOW)}
    assert answer(keys, sent, door)["policyDocument"]["Statement"][0]["Effect"] == "Allow"


@pytest.mark.parametrize(("sent", "whose", "rpm"), [(KEY, KEY_ID, 60), ("a.b.c", USER, 10)], ids=["key", "user"])
def test_limits_are_lowered_for_the_time_and_what_the_operator_sets_holds_at_once(
    sent: str, whose: str, rpm: int
) -> None:
    overlay = {"key_hash": overlay_key(whose), "acts": act("lower", limits={"rpm": Decimal(5), "parallel": Decimal(1)})}
    keys = Keys(ITEM, overlay)
    held = ClientKey.from_context(answer(keys, sent)["context"])
    assert held.limits is not None
    assert (held.limits.rpm, held.limits.parallel, held.guards) == (5, 1, "on")
    if sent == KEY:
        keys.items[KEY_HASH] = {**ITEM, "rpm": Decimal(3), "tpm": Decimal(1000)}
        changed = ClientKey.from_context(answer(keys)["context"]).limits
        assert changed is not None
        assert (changed.rpm, changed.tpm, changed.parallel) == (3, 1000, 1)
    del keys.items[overlay_key(whose)]
    free = ClientKey.from_context(answer(keys, sent)["context"]).limits
    assert free is not None
    assert free.rpm == (3 if sent == KEY else rpm)


def test_the_cache_alone_is_told_to_the_proxy() -> None:
    keys = Keys(ITEM, {"key_hash": overlay_key(KEY_ID), "acts": act("cache_only")})
    context = answer(keys)["context"]
    assert ClientKey.from_context(context).guards == CACHE_ONLY
    with pytest.raises(ValueError, match="not understood"):
        ClientKey.from_context({**context, "guards": "something new"})


def test_a_damaged_overlay_lets_nobody_in_and_does_not_call_the_key_bad() -> None:
    with pytest.raises(DamagedOverlayError):
        answer(Keys(ITEM, {"key_hash": overlay_key(KEY_ID), "acts": {"a": {"act": "disable"}}}))


def test_without_guards_nothing_is_asked_and_nothing_is_told() -> None:
    keys, logger = Keys(ITEM), Log()
    authorizer = Authorizer(keys, logger, lambda: NOW)  # pyright: ignore[reportArgumentType]
    context = authorizer({"methodArn": DOORS["url"], "headers": {"Authorization": f"Bearer {KEY}"}})["context"]
    assert keys.asked == [KEY_HASH]
    assert "guards" not in context
    assert ClientKey.from_context(context).guards == ""
