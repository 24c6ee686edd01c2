"""`openai-proxy users`, against an emulated account (moto), and `openai-proxy identity check`."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from authorizer.keys_table import KeysTable
from moto import mock_aws
from openai_proxy.dynamodb import to_item
from openai_proxy.events.ulid import first_ulid_of
from openai_proxy.identity import blocked_key, parse_identity, user_id_of

from console.command_line import main
from console.errors import ConsoleError
from console.users.users import named, spenders
from tests.tables import ENTRY, NAMES, make_table

ISSUER = "https://id.example.com"
FILE = f"issuers: [{{issuer: '{ISSUER}', audience: a, plan: free}}]\nplans: {{free: {{budget_day: 1}}}}\n"
TWO = FILE.replace("]\n", ", {issuer: 'https://b.example.com', audience: a, plan: free, pseudonyms: true}]\n")
ADA = user_id_of(ISSUER, "ada")
TABLES = {"KEYS_TABLE": "keys", "COSTS_TABLE": "costs", "LIMITS_TABLE": "limits", "AWS_DEFAULT_REGION": "eu-central-1"}


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", "http://127.0.0.1:1")  # there is no stack
    with mock_aws():
        client: Any = boto3.client("dynamodb")  # pyright: ignore[reportUnknownMemberType] - stubs of all services
        for name, key in (("keys", ["key_hash"]), ("limits", ["pk"]), ("costs", ["pk", "sk"])):
            make_table(client, name, *key)
        yield client


@pytest.fixture
def users(client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs `users` with JSON; what it printed."""
    (tmp_path / "identity.yaml").write_text(FILE)
    environ = {**TABLES, "IDENTITY_FILE": str(tmp_path / "identity.yaml")}

    def run(*arguments: str) -> Any:
        assert main(["users", *arguments, "--json"], environ) == 0
        return json.loads(capsys.readouterr().out)

    return run


@cache
def today() -> str:
    """Who is to be blocked must have asked in the last 30 days."""
    return str(datetime.now(UTC).date())


def entry(user: str, client: str = "free", **more: Any) -> dict[str, Any]:
    return {
        "client_id": client,
        "key_id": user_id_of(ISSUER, user),
        "end_user": user,
        "outcome": "completed",
        "timestamp": f"{today()}T10:00:00.000Z",
        **more,
    }


def put(client: Any, *entries: dict[str, Any]) -> None:
    clients: dict[str, int] = {}
    for number, each in enumerate(entries):
        key = {"pk": f"client#{each['client_id']}#{today()}", "sk": first_ulid_of(number)}
        client.put_item(TableName="costs", Item=to_item({**ENTRY, **key, **each}))
        clients[each["client_id"]] = clients.get(each["client_id"], 0) + 1
    for name, requests in clients.items():
        rollup = {"pk": f"day#{today()}", "sk": name, "client_id": name, "requests": requests, **NAMES}
        client.put_item(TableName="costs", Item=to_item(rollup))


def test_who_spends_is_listed_and_client_keys_are_not(client: Any, users: Any):
    put(
        client,
        entry("ada", cost=Decimal("0.1")),
        entry("ada", outcome="failed"),
        entry("ada", "pro", cost=Decimal(3)),
        entry("grace", cost=Decimal(2)),
        entry("key", key_id="0123456789ab", cost=Decimal(9)),
    )
    found = users("list", "--day", today())
    rows = [(each["end_user"], each["client_id"], each["requests"], each["cost"]) for each in found]
    assert rows == [("ada", "pro", 1, "3"), ("grace", "free", 1, "2"), ("ada", "free", 2, "0.1")]
    assert [(each["failed"], each["unpriced"], each["state"]) for each in found][2] == (1, 1, "good")
    assert [each["end_user"] for each in users("list", "--day", today(), "--client", "pro")] == ["ada"]


def test_a_blocked_user_is_refused_by_the_authorizers_reading_and_let_in_again(client: Any, users: Any):
    table = KeysTable(client, "keys")
    assert users("block", "ada", "--reason", "too much", "--force") == {
        "user_id": ADA,
        "blocked": True,
        "new": True,
        "remembered_seconds": None,
    }
    assert table.find(blocked_key(ADA))
    assert not users("block", ADA, "--force")["new"]
    shown = users("show", "ada")
    assert (shown["state"], shown["reason"], shown["issuer"]) == ("blocked", "too much", ISSUER)
    assert [(each["user_id"], each["state"]) for each in users("list")] == [(ADA, "blocked")]
    assert users("unblock", "ada") == {"user_id": ADA, "blocked": False, "new": True}
    assert not users("unblock", "ada")["new"]
    assert table.find(blocked_key(ADA)) is None
    assert users("show", ADA)["state"] == "unknown"  # nobody has seen a request of this user
    put(client, entry("ada"))
    assert users("show", ADA)["state"] == "good"


def test_a_block_is_no_client_key(client: Any, users: Any, capsys: pytest.CaptureFixture[str]):
    users("block", "ada", "--force")
    assert main(["keys", "list", "--json"], TABLES) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_what_a_user_has_used_is_shown(client: Any, users: Any):
    counter: dict[str, Any] = {"pk": f"limits#{ADA}", "day": "2999-01-01", "day_spent": Decimal(1), "live": {}}
    client.put_item(TableName="limits", Item=to_item(counter))
    usage = users("usage", "ada")
    assert (usage["requests"], usage["parallel"], usage["day"]["spent"]) == (0, 0, "0")
    assert users("show", "ada")["day"] == usage["day"]


@pytest.mark.parametrize("command", [["list"], ["show", "ada"], ["usage", "ada"], ["block", "ada"], ["unblock", "ada"]])
def test_for_people_there_is_text(client: Any, command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "i.yaml").write_text(FILE)
    put(client, entry("ada", cost=Decimal(1)))
    period = ["--day", today()] if command == ["list"] else ["--identity-file", str(tmp_path / "i.yaml")]
    assert main(["users", *command, *period], TABLES) == 0
    said = capsys.readouterr().out
    assert (ADA in said, "unknown" in said) == (True, False)


@pytest.mark.parametrize("command", ["show", "usage"])
def test_a_user_who_never_came_is_not_shown_as_good(
    client: Any, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "i.yaml").write_text(FILE)
    assert main(["users", command, "nobody", "--identity-file", str(tmp_path / "i.yaml")], TABLES) == 0
    said = capsys.readouterr().out
    assert ("unknown: no request in 30d" in said, "good" in said) == (True, False)


def test_who_is_shown_by_an_id_is_not_called_nobody(client: Any, capsys: pytest.CaptureFixture[str]):
    assert main(["users", "show", ADA], TABLES) == 0
    [user, issuer] = [line for line in capsys.readouterr().out.splitlines() if line.startswith(("User  ", "Issuer"))]
    assert "`openai-proxy users list` names who made requests" in user
    assert issuer.endswith("an id does not tell")


@pytest.mark.parametrize(
    ("file", "text", "issuer", "told"),
    [
        ("", "ada", None, "Remedy: name the issuer with --issuer"),
        (TWO, "ada", None, f"Remedy: name one of {ISSUER}, https://b.example.com with --issuer"),
        (TWO, "ada", "https://c.example.com", "lists no issuer 'https://c.example.com'"),
        (TWO, "ada", "https://b.example.com", "known by pseudonyms"),
    ],
)
def test_a_user_is_named_without_doubt(file: str, text: str, issuer: str | None, told: str):
    with pytest.raises(ConsoleError, match="Remedy") as refused:
        named(text, issuer, parse_identity(file))
    assert told in str(refused.value)


def test_a_user_is_named_by_id_or_by_issuer_and_name():
    both = parse_identity(TWO)
    assert named(ADA, None, both).id == ADA
    assert named("ada", ISSUER, both).id == named("ada", ISSUER, None).id == ADA
    assert named("p-" + "0" * 32, "https://b.example.com", both).end_user == "p-" + "0" * 32
    assert named("0" * 32, ISSUER, both).id == user_id_of(ISSUER, "0" * 32)


def test_what_has_the_form_of_an_id_is_one_and_a_sub_like_that_needs_its_issuer(
    client: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sub = "0123456789abcdef" * 2
    assert main(["users", "block", sub], TABLES) == 2  # nobody of this id has been there
    assert main(["users", "block", sub, "--force"], TABLES) == 0
    assert "a `sub` of this form needs its --issuer" in capsys.readouterr().out
    assert main(["users", "block", sub, "--issuer", ISSUER, "--force"], TABLES) == 0
    assert "needs its --issuer" not in capsys.readouterr().out
    blocked = {item["key_hash"]["S"] for item in client.scan(TableName="keys")["Items"]}
    assert blocked == {blocked_key(sub), blocked_key(user_id_of(ISSUER, sub))}


def test_a_reason_is_bounded(client: Any, capsys: pytest.CaptureFixture[str]):
    for reason in ("x" * 257, "\x1b[31m", ""):
        assert main(["users", "block", ADA, "--reason", reason], TABLES) == 2
        assert "Remedy" in capsys.readouterr().err


def test_nobody_is_nobody():
    assert spenders([]) == []


# ------------------------------------------------------------------------------------------------------- identity check

IDENTITY = """
issuers:
  - {issuer: "https://id.example.com", audience: [chat, other], plans: {claim: tier, gold: pro, default: free}}
  - {issuer: "https://b.example.com", audience: chat, plan: free, jwks_url: "https://keys.example.net/jwks"}
plans:
  free: {servers: [openai], rpm: 10, budget_day: 0.5}
  pro: {client_id: paying, parallel: 2, budget_month: 20}
"""


def test_the_file_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "identity.yaml"
    file.write_text(IDENTITY)
    assert main(["identity", "check", str(file)], {}) == 0
    out, err = capsys.readouterr()
    for text in ("tier {gold: pro}, else free", "10 rpm, 0.5 USD/day", "paying", "2 parallel, 20 USD/month"):
        assert text in out
    assert err == ""
    assert main(["identity", "check", str(file), "--json"], {}) == 0
    document = json.loads(capsys.readouterr().out)
    assert [each["plans"] for each in document["issuers"]] == [["pro", "free"], ["free"]]
    assert [(each["plan"], each["client_id"], each["budget_day"]) for each in document["plans"]] == [
        ("free", "free", "0.5"),
        ("pro", "paying", None),
    ]


def test_a_file_that_says_nothing_is_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "identity.yaml").write_text("# nobody\n")
    assert main(["identity", "check", str(tmp_path / "mistyped.yaml")], {}) == 2
    assert "mistyped.yaml: cannot be read (No such file or directory). Remedy: " in capsys.readouterr().err
    for arguments, told in (([], "names no issuer"), (["--json"], '"issuers": []')):
        assert main(["identity", "check", str(tmp_path / "identity.yaml"), *arguments], {}) == 0
        assert told in capsys.readouterr().out


def test_a_fault_is_told_with_its_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "identity.yaml"
    file.write_text(IDENTITY.replace("gold: pro", "gold: platinum"))
    assert main(["identity", "check", str(file)], {}) == 2
    assert f"{file}: issuer 'https://id.example.com', key 'plans': there is no plan 'platinum'. Remedy: " in (
        capsys.readouterr().err
    )
    file.write_text(IDENTITY.replace(", budget_day: 0.5", ""))
    assert main(["identity", "check", str(file)], {}) == 0
    assert "warning: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ("[openai]", "[openai, opnai]", "plan 'free': Server 'opnai' is not known. Did you mean openai?"),
        ("parallel: 2", "servers: [opnai]", "plan 'pro': Server 'opnai' is not known. Did you mean openai?"),
        ("rpm: 10", "models: [gtp-4o-mini]", "plan 'free': Model 'gtp-4o-mini' is not known. Did you mean gpt-4o-mini"),
        ("parallel: 2", "models: [openai/gpt-9000]", "plan 'pro': Model 'gpt-9000' is not known."),
    ],
)
def test_a_plan_names_only_what_the_servers_file_has(
    was: str, now: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "identity.yaml"
    file.write_text(IDENTITY.replace(was, now))
    assert main(["identity", "check", str(file)], {}) == 2
    out, err = capsys.readouterr()
    assert (f"{file}: {told}" in err, "or add --force" in err, out) == (True, True, "")
    assert main(["identity", "check", str(file), "--force"], {}) == 0


OF_TEAMS = IDENTITY.replace("rpm: 10", "rpm: 10, team: web").replace("parallel: 2", "parallel: 2, team: trials")


def test_teams_that_plans_name_are_looked_for(client: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "identity.yaml"
    file.write_text(OF_TEAMS)

    def told(*arguments: str, **environ: str) -> str:
        assert main(["identity", "check", str(file), *arguments], environ) == 0
        return capsys.readouterr().err

    missing = f"{file}: plan 'pro': there is no team 'trials': its users would get 503. Remedy: `openai-proxy teams cr"
    assert main(["teams", "create", "web"], TABLES) == 0
    capsys.readouterr()
    assert (missing in (said := told(**TABLES)), said.count("warning: ")) == (True, 1)
    assert missing in told("--keys-table", "keys")
    client.put_item(TableName="keys", Item=to_item({"key_hash": "team#trials", "rpm": "many"}))
    assert "plan 'pro': team 'trials' is damaged" in told(**TABLES)
    for environ in ({}, {"KEYS_TABLE": "nowhere"}):
        said = told(**environ)
        assert "no stack answers that could say whether there are the teams of its plans (trials, web)." in said
        assert "--keys-table" in said
    assert main(["identity", "check", str(file), "--json"], TABLES) == 0
    assert [plan["team"] for plan in json.loads(capsys.readouterr().out)["plans"]] == ["web", "trials"]
