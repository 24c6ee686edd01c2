"""`openai-proxy teams`, and keys of a team, against an emulated account (moto)."""

import json
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import boto3
import pytest
from authorizer.client_key import client_key_of, with_team
from authorizer.keys_table import KeysTable
from moto import mock_aws
from openai_proxy.dynamodb import to_item
from openai_proxy.key_limits import Limits
from openai_proxy.limits import Calendar, Windows

from console.command_line import main
from tests.tables import make_table

NAMES = {"KEYS_TABLE": "keys", "LIMITS_TABLE": "limits", "AWS_DEFAULT_REGION": "eu-central-1"}
Run = Callable[..., Any]
KEY = ("keys", "create", "--client-id", "shop", "--name", "Shop")
LIMITS = ("--rpm", "50", "--budget-week", "9", "--budget-total", "100", "--reset-weekday", "friday")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", "http://127.0.0.1:1")  # there is no stack
    with mock_aws():
        client: Any = boto3.client("dynamodb")  # pyright: ignore[reportUnknownMemberType] - stubs of all services
        for name, key in (("keys", "key_hash"), ("limits", "pk")):
            make_table(client, name, key)
        yield client


@pytest.fixture
def run(client: Any, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command with JSON; what it printed, or of one that failed its message."""

    def run(*arguments: str, text: bool = False) -> Any:
        code = main([*arguments, *(() if text else ("--json",))], NAMES)
        printed = capsys.readouterr()
        if code:
            assert code == 2
            return printed.err
        return printed.out if text else json.loads(printed.out)

    return run


def test_a_team_is_made_shown_changed_and_deleted(run: Run) -> None:
    made = run("teams", "create", "web", "--owner", "Team Web", *LIMITS)
    assert (made["team"], made["rpm"], made["budget_week"], made["budget_total"]) == ("web", 50, "9", "100")
    assert (made["limits_id"], made["reset_weekday"], made["tpm"]) == ("team.web", "friday", None)
    assert "already" in run("teams", "create", "web")
    changed = run("teams", "update", "web", "--rpm", "60", "--unset", "budget-total", "owner")
    assert (changed["rpm"], changed["budget_total"], changed["owner"]) == (60, None, None)
    assert changed["before"]["rpm"] == 50
    assert [each["team"] for each in run("teams", "list")] == ["web"]
    assert "60 rpm, 9 USD/week" in run("teams", "list", text=True)
    assert "This deletes team 'web' (60 rpm, 9 USD/week)." in run("teams", "delete", "web")
    assert run("teams", "delete", "web", "--yes") == {"team": "web", "deleted": True}
    assert run("teams", "list") == []
    for command in ("show", "update", "usage", "delete", "release"):
        given = ("--rpm", "1") if command == "update" else ()
        assert "There is no team 'web'." in run("teams", command, "web", *given)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "a" * 49, "ü", "a#b"])
def test_a_name_that_is_none_is_refused(run: Run, name: str) -> None:
    assert "no name of a team" in run("teams", "create", name)


def test_what_cannot_be_done_is_said(run: Run) -> None:
    run("teams", "create", "web")
    assert "No change is named" in run("teams", "update", "web")
    assert "set and unset at once: rpm" in run("teams", "update", "web", "--rpm", "5", "--unset", "rpm")
    assert "Nothing to do" in run("teams", "update", "web", "--unset", "rpm", text=True)


def test_a_key_is_of_a_team_that_there_is(run: Run, client: Any) -> None:
    assert "There is no team 'web'." in run(*KEY, "--team", "web")
    assert run("keys", "list") == []
    run("teams", "create", "web", *LIMITS)
    key = run(*KEY, "--team", "web")
    assert key["team"] == "web"
    assert "There is no team 'other'." in run("keys", "update", key["key_id"], "--team", "other")
    assert [each["key_id"] for each in run("keys", "list")] == [key["key_id"]], "a team is no key"
    assert run("teams", "show", "web")["keys"] == [key["key_id"]]
    assert "Team               web" in run("keys", "show", key["key_id"], text=True)
    assert "would be refused" in run("teams", "delete", "web")
    table = KeysTable(client, "keys")
    item = client.scan(TableName="keys", FilterExpression="attribute_exists(team)")["Items"][0]
    stored = table.find(item["key_hash"]["S"])
    assert stored
    assert with_team(client_key_of(stored), table.find).team_limits == Limits.of_team(
        "web", {"rpm": 50, "budget_week": Decimal(9), "budget_total": Decimal(100), "reset_weekday": "friday"}
    )
    assert run("keys", "update", key["key_id"], "--unset", "team")["team"] is None
    assert run("teams", "delete", "web", "--yes")["deleted"]


def test_a_rotated_key_stays_of_its_team(run: Run) -> None:
    run("teams", "create", "web")
    key = run(*KEY, "--team", "web")
    assert run("keys", "rotate", key["key_id"])["team"] == "web"


def test_what_a_team_has_used_is_shown_and_given_back(run: Run, client: Any) -> None:
    run("teams", "create", "web", *LIMITS)
    assert run("teams", "usage", "web")["week"]["spent"] == "0"
    now = Windows.of(time.time(), Calendar(4, 1, total=True))
    lease = {"end": now.now + 900, "cost": Decimal(1), "at": now.now, "counted": "wt"}
    periods = {period: now.start(period) for period in now.periods}
    spent = {f"{period}_spent": Decimal(2) for period in periods} | {f"{period}_cost": Decimal(3) for period in periods}
    counter = {"pk": "limits#team.web", "minute": now.minute, "requests": 7, "live": {"a": lease}, **periods, **spent}
    client.put_item(TableName="limits", Item=to_item(counter))
    used = run("teams", "usage", "web")
    assert (used["week"]["spent"], used["week"]["reserved"], used["week"]["budget"]) == ("2", "1", "9")
    assert used["parallel"] == {"used": 1, "limit": None}
    assert "2.000000 spent, 1.000000 reserved, of 100 USD" in run("teams", "usage", text=True)
    assert run("teams", "release", "web", "--yes") == {"team": "web", "places": 1, "reserved": "1"}
    assert run("teams", "usage")[0]["week"]["reserved"] == "0"
