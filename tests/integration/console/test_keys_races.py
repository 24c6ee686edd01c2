"""Client keys that several people change at once, against DynamoDB (moto)."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from authorizer.authorizer import Authorizer, Unauthorized
from authorizer.keys_table import KeysTable
from aws_lambda_powertools import Logger
from openai_proxy.client_keys import hash_client_key

from console.errors import ConsoleError
from console.keys.keys import Wanted, create_key, revoke_client, revoke_key, rotate_key, update_key
from console.keys.store import KeyStore, StoredKey
from console.stack import Table
from tests.tables import mocked_table

NOW = 1_795_426_200.0
HOUR = 3600
CHANGED = "was changed or deleted at the same time"
TERMS: dict[str, Any] = {
    "client_id": "web-shop",
    "name": "Web shop",
    "owner": "Team Web",
    "servers": ["openai"],
    "models": ["gpt-5*", "openai/*"],
    "rpm": 60,
    "tpm": 100_000,
    "parallel": 5,
    "budget_day": Decimal("0.5"),
    "budget_month": Decimal(10),
}


@pytest.fixture
def client() -> Iterator[Any]:
    with mocked_table("keys", "key_hash") as client:
        yield client


@pytest.fixture
def store(client: Any) -> KeyStore:
    return KeyStore(Table(client, "keys"))


@pytest.fixture
def authorize(client: Any) -> Callable[..., dict[str, str]]:
    """What the authorizer says of a key."""

    def authorize(key: str, now: float = NOW) -> dict[str, str]:
        event = {
            "headers": {"Authorization": f"Bearer {key}"},
            "methodArn": "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/dev/GET/",
        }
        return Authorizer(KeysTable(client, "keys"), Logger(service="test"), lambda: now)(event)["context"]

    return authorize


def make(store: KeyStore, **more: Any) -> tuple[str, StoredKey]:
    wanted = Wanted(TERMS | more, tags={"env": "prod"}, cache={"mode": "on", "ttl": 60})
    return create_key(store, wanted, NOW)


def test_the_authorizer_reads_what_the_console_writes(store: KeyStore, authorize: Callable[..., dict[str, str]]):
    key, made = make(store)

    assert authorize(key) == {
        "client_id": "web-shop",
        "client_name": "Web shop",
        "key_id": made.key_id,
        "limits_id": made.key_id,
        "owner": "Team Web",
        "tags": '{"env":"prod"}',
        "expires_at": "",
        "servers": "openai",
        "models": "gpt-5*,openai/*",
        "rpm": "60",
        "tpm": "100000",
        "parallel": "5",
        "budget_day": "0.5",
        "budget_month": "10",
        "budget_week": "",
        "budget_total": "",
        "reset_weekday": "",
        "reset_day": "",
        "currency": "USD",
        "cache": "on:60:",
        "log_content": "",
        "resumable": "",
        "on_disconnect": "",
        "end_user": "",
    }


def test_a_rotated_key_is_good_for_its_grace_and_both_are_counted_together(
    store: KeyStore, authorize: Callable[..., dict[str, str]]
):
    key, made = make(store)
    second, new, old = rotate_key(store, made, 24 * HOUR, NOW)
    third, newest, _ = rotate_key(store, new, HOUR, NOW)

    contexts = [authorize(each) for each in (key, second, third)]
    assert [context["key_id"] for context in contexts] == [made.key_id, new.key_id, newest.key_id]
    for context in contexts:
        of_its_own = {name: contexts[0][name] for name in ("key_id", "expires_at")}
        assert context | of_its_own == contexts[0]
    assert old.values["replaced_by"] == new.key_id
    assert "replaced_by" not in newest.values
    assert authorize(key, NOW + 24 * HOUR - 1)
    for expired, end in ((key, 24 * HOUR), (second, HOUR)):
        with pytest.raises(Unauthorized):
            authorize(expired, NOW + end)
    assert authorize(third, NOW + 10**6)


@pytest.mark.parametrize(("grace", "end"), [(0, 0), (HOUR, HOUR), (3 * HOUR, 2 * HOUR)])
def test_a_grace_time_makes_no_key_live_longer(store: KeyStore, grace: int, end: int):
    _, made = make(store, expires_at=int(NOW) + 2 * HOUR)

    _, new, old = rotate_key(store, made, grace, NOW)

    assert old.values["expires_at"] == NOW + end
    assert new.values["expires_at"] == NOW + 2 * HOUR


def test_of_two_rotations_at_once_one_wins_and_the_other_says_so(store: KeyStore):
    _, made = make(store)
    before = store.find(made.key_id)

    _, new, _ = rotate_key(store, before, HOUR, NOW)
    with pytest.raises(ConsoleError, match=CHANGED):
        rotate_key(store, before, HOUR, NOW)

    assert {key.key_id for key in store.all()} == {made.key_id, new.key_id}
    with pytest.raises(ConsoleError, match=f"was replaced by {new.key_id}. Remedy: rotate that one"):
        rotate_key(store, store.find(made.key_id), HOUR, NOW)


@pytest.mark.parametrize(
    "meanwhile",
    [{"rpm": 5}, {"cache": {"mode": "off"}}, {"enabled": False}, {"expires_at": int(NOW) + HOUR}],
    ids=str,
)
def test_a_change_meanwhile_is_neither_lost_nor_undone(store: KeyStore, meanwhile: dict[str, Any]):
    _, made = make(store)
    before = store.find(made.key_id)
    now = update_key(store, before, Wanted(meanwhile))

    for late in (
        lambda: update_key(store, before, Wanted({"owner": "Team Late"})),
        lambda: update_key(store, before, Wanted({}, unset=["rpm", "cache"])),
        lambda: rotate_key(store, before, HOUR, NOW),
    ):
        with pytest.raises(ConsoleError, match=CHANGED):
            late()

    assert [key.values for key in store.all()] == [now.values]


def test_what_was_added_meanwhile_stays(store: KeyStore):
    _, made = create_key(store, Wanted({"client_id": "a", "name": "x"}), NOW)
    before = store.find(made.key_id)
    update_key(store, before, Wanted({"rpm": 5}))

    with pytest.raises(ConsoleError, match=CHANGED):
        update_key(store, before, Wanted({"owner": "Team Late"}))
    assert store.find(made.key_id).values["rpm"] == 5


def test_what_others_keep_in_an_item_stays(store: KeyStore, client: Any):
    _, made = make(store)
    client.update_item(
        TableName="keys",
        Key={"key_hash": {"S": made.key_hash}},
        UpdateExpression="SET note = :note",
        ExpressionAttributeValues={":note": {"B": b"\x00"}},
    )

    _, new, _ = rotate_key(store, update_key(store, store.find(made.key_id), Wanted({"rpm": 5})), HOUR, NOW)

    assert [bytes(key.item["note"]) for key in store.all()] == 2 * [b"\x00"]
    assert new.values["rpm"] == 5


@pytest.mark.parametrize("late", ["update", "rotate", "revoke"])
def test_a_key_that_was_deleted_is_not_made_again(store: KeyStore, client: Any, late: str):
    _, made = make(store)
    client.delete_item(TableName="keys", Key={"key_hash": {"S": made.key_hash}})

    if late == "revoke":
        assert revoke_key(store, made) is False
    else:
        with pytest.raises(ConsoleError, match=CHANGED):
            update_key(store, made, Wanted({"rpm": 5})) if late == "update" else rotate_key(store, made, HOUR, NOW)
    assert list(store.all()) == []


class RotatedMeanwhile(KeyStore):
    """A table in which a key is rotated just after it was listed for the first time."""

    listed = False

    def all(self) -> Iterator[StoredKey]:
        keys = list(super().all())
        if not self.listed:
            self.listed = True
            rotate_key(self, keys[0], HOUR, NOW)
        yield from keys


def test_no_key_of_a_revoked_client_escapes_by_a_rotation(client: Any, authorize: Callable[..., dict[str, str]]):
    store = RotatedMeanwhile(Table(client, "keys"))
    key, _ = make(store)

    revoked = revoke_client(store, "web-shop")

    assert len(revoked) == 2
    assert [stored.item["enabled"] for stored in store.all()] == [False, False]
    with pytest.raises(Unauthorized):
        authorize(key)


def test_rotated_keys_are_revoked_with_their_client(store: KeyStore):
    _, made = make(store)
    _, new, _ = rotate_key(store, made, HOUR, NOW)
    other, _ = make(store, client_id="other")

    assert {key.key_id for key in revoke_client(store, "web-shop")} == {made.key_id, new.key_id}
    assert revoke_client(store, "web-shop") == []
    assert store.find(hash_client_key(other)).state(NOW) == "enabled"


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [({"enabled": False}, "is revoked"), ({"expires_at": int(NOW)}, "is expired"), ({"rpm": "many"}, "is damaged")],
)
def test_only_a_good_key_can_be_rotated(store: KeyStore, attributes: dict[str, Any], reason: str):
    _, made = make(store)
    bad = store.replace(made, {**made.item, **attributes})

    with pytest.raises(ConsoleError, match=reason):
        rotate_key(store, bad, HOUR, NOW)
    assert len(list(store.all())) == 1
