"""`openai-proxy guards`, against an emulated account (moto): what is checked, replayed, listed and undone."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.events.envelope import rfc3339
from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.guards.overlay import held_by, overlay_key

from tests.command_line import Run, ran
from tests.tables import ENTRY, NAMES, make_table

TABLES = {"KEYS_TABLE": "keys", "COSTS_TABLE": "costs", "AWS_DEFAULT_REGION": "eu-central-1"}
KEY = "0123456789ab"
FILE = """
guards:
  same-request: {rule: repeat, times: 3, within: 1m, act: lower, limits: {rpm: 5}, for: 1h}
  dear: {rule: spend, factor: 10, at_least: 5, act: disable, for: 6h, clients: [web]}
"""


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    patch = pytest.MonkeyPatch()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "test")
    patch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    patch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", "http://127.0.0.1:1")  # there is no stack
    with mock_aws():
        client: Any = boto3.client("dynamodb")  # pyright: ignore[reportUnknownMemberType] - stubs of all services
        for name, key in (("keys", ["key_hash"]), ("costs", ["pk", "sk"])):
            make_table(client, name, *key)
        yield client
    patch.undo()


@pytest.fixture
def run(client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    file = tmp_path / "guards.yaml"
    file.write_text(FILE)
    return lambda *arguments: ran(capsys, ["guards", *arguments], {**TABLES, "GUARDS_FILE": str(file)})


def put_requests(client: Any, moments: list[datetime], name: str = "web", **fields: Any) -> None:
    for number, moment in enumerate(moments):
        day = f"{moment:%Y-%m-%d}"
        entry = {"client_id": name, "key_id": KEY, "model": "gpt-5", "status_code": 200, "cost": Decimal(0), **fields}
        key = {"pk": f"client#{name}#{day}", "sk": ulid_of_fact(moment.timestamp(), f"{name}{number}{fields}")}
        client.put_item(TableName="costs", Item=to_item({**ENTRY, **key, **entry}))
        rollup = {"pk": f"day#{day}", "sk": name, "client_id": name, "requests": 1, **NAMES}
        client.put_item(TableName="costs", Item=to_item(rollup))


def test_the_past_is_tried_with_the_history_before_it(client: Any, run: Run) -> None:
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
    put_requests(client, [noon + timedelta(seconds=n) for n in (1, 2, 3, 4)], request_digest="0" * 16)
    put_requests(client, [noon - timedelta(hours=n) for n in range(2, 100)], cost=Decimal("0.5"))
    put_requests(client, [noon], cost=Decimal(6))
    put_requests(client, [noon + timedelta(minutes=n) for n in range(3)], "other", request_digest="1" * 16)
    done = json.loads(run("replay", "--last", "5d", "--json").out)
    assert [(each["guard"], each["act"], each["key_id"]) for each in done] == [
        ("dear", "disable", KEY),
        ("same-request", "lower", KEY),
    ]
    assert done[0]["reason"].endswith("12.0 times its usual 0.50 USD an hour")
    assert datetime.fromisoformat(done[1]["since"]) == noon + timedelta(seconds=3)
    assert datetime.fromisoformat(done[1]["until"]) == noon + timedelta(hours=1, seconds=3)
    assert run("replay", "--last", "5d", "--client", "other", "--json").out.strip() == "[]"
    said = run("replay", "--last", "5d").out
    assert "same-request" in said
    assert "2 acts on one key or user" in said
    assert "it is not known which are equal" in said
    assert "Nothing would have been done" in run("replay", "--day", "today").out


def stored(client: Any, act_id: str, until: float, key_id: str = KEY, **more: Any) -> None:
    act = {"guard": "dear", "act": "disable", "at": Decimal(1), "until": Decimal(f"{until:.3f}"), "reason": "12 USD"}
    item = {"key_hash": overlay_key(key_id), "client_id": "web", "version": 1, "acts": {act_id: {**act, **more}}}
    client.put_item(TableName="keys", Item=to_item(item))


def read(client: Any, key_id: str = KEY) -> dict[str, Any]:
    return from_item(client.get_item(TableName="keys", Key=to_item({"key_hash": overlay_key(key_id)}))["Item"])


@pytest.mark.parametrize("acts", [None, "abc", {"a": "b"}, []], ids=str)
def test_what_no_guard_can_have_written_is_named(client: Any, run: Run, acts: Any) -> None:
    client.put_item(TableName="keys", Item=to_item({"key_hash": overlay_key(KEY), "acts": acts}))
    said = run("list")
    assert said.code == 2
    assert f"The keys table has a damaged item '{overlay_key(KEY)}'" in said.err
    assert "Remedy: delete it" in said.err


def test_what_holds_is_listed_and_undone_once_and_the_key_itself_is_not_touched(client: Any, run: Run) -> None:
    now = time.time()
    act_id = ulid_of_fact(now, "act")
    client.put_item(TableName="keys", Item=to_item({"key_hash": "a" * 64, "client_id": "web", "rpm": 7}))
    stored(client, act_id, now + 1000)
    stored(client, ulid_of_fact(now, "over"), now - 1, "ba9876543210")
    [act] = json.loads(run("list", "--json").out)
    assert (act["id"], act["state"], act["key_id"], act["act"]) == (act_id, "holds", KEY, "disable")
    assert (act["since"], act["until"]) == ("1970-01-01T00:00:01.000Z", rfc3339(round(now + 1000, 3)))
    assert act_id in run("list").out
    assert {each["state"] for each in json.loads(run("list", "--all", "--json").out)} == {"holds", "over"}
    assert held_by(read(client), now).is_disabled

    assert json.loads(run("undo", act_id.lower(), "--json").out)["undone"]
    assert not held_by(read(client), now).is_disabled
    assert read(client)["version"] == 2
    assert from_item(client.get_item(TableName="keys", Key=to_item({"key_hash": "a" * 64}))["Item"])["rpm"] == 7
    assert run("undo", act_id).out == "Nothing to do: it is undone already.\n"
    assert json.loads(run("list", "--json").out) == []
    assert run("list").out == "No guard holds anybody.\n"

    act_id = ulid_of_fact(now, "again")
    stored(client, act_id, now + 1000)
    assert "The guard leaves it alone until" in run("undo", act_id).out
    missing = run("undo", "01M83T4CM0RHJ0VJ2GG9DD5A6M")
    assert missing.code == 2
    assert "Remedy: `openai-proxy guards list --all`" in missing.err
    over = run("undo", ulid_of_fact(now, "over"))
    assert over.out == "Nothing to do: it is over already.\n"


def test_the_file_is_checked_and_said_in_words(run: Run, tmp_path: Path) -> None:
    said = run("check").out
    assert "the same request, 3x within 1m" in said
    assert "an hour costs 10 times the usual one, and 5 USD or more" in said
    assert [each["for_seconds"] for each in json.loads(run("check", "--json").out)] == [3600, 21600]
    broken = tmp_path / "broken.yaml"
    broken.write_text("guards: {a: {rule: repeat, times: 0, act: notify, for: 1h}}")
    refused = run("check", str(broken))
    assert refused.code == 2
    assert f"{broken}: guard 'a', key 'times'" in refused.err
    assert "Remedy: write a whole number from 2 to 200" in refused.err
    assert run("check", str(tmp_path / "none.yaml")).code == 2
    broken.write_text("# nothing")
    assert run("check", str(broken)).out == f"{broken} has no guards: nothing is done by itself.\n"
    assert run("replay", str(broken)).out == f"{broken} has no guards.\n"
