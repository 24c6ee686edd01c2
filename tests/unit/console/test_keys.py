"""The commands about client keys as a person types them, against an emulated account (moto)."""

import errno
import io
import json
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai_proxy.client_keys import hash_client_key, is_well_formed, new_client_key, without_keys

from console.keys.store import StoredKey
from console.keys.text import key_details, keys_table
from console.text import harmless
from tests.command_line import Ran, Run, ran
from tests.tables import make_table, mocked_table

CREATE = ("keys", "create", "--client-id", "web-shop", "--name", "Web shop")
TERMS = (
    *("--owner", "Team Web", "--tag", "env=prod", "--tag", "team=web", "--server", "openai", "--server", "ollama"),
    *("--model", "gpt-5*", "--model", "openai/o3", "--rpm", "60", "--tpm", "100000", "--parallel", "5"),
    *("--budget-day", "0.5", "--budget-month", "10", "--expires-at", "2999-12-31", "--cache", "on"),
)

ANNOUNCED = re.compile(r"\AAccount 123456789012, Region .*\n")
"""What every command says first that changes something."""


@pytest.fixture(scope="module")
def aws() -> Iterator[Any]:
    with mocked_table("keys", "key_hash") as client:
        yield client


@pytest.fixture
def client(aws: Any) -> Iterator[Any]:
    """Each test begins with no keys."""
    yield aws
    for item in items(aws):
        aws.delete_item(TableName="keys", Key={"key_hash": item["key_hash"]})


@pytest.fixture
def run(client: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", "http://127.0.0.1:1")  # there is no stack

    def run(*arguments: str) -> Ran:
        code, out, err = ran(capsys, arguments, {"KEYS_TABLE": "keys"})
        return Ran(code, out, ANNOUNCED.sub("", err))

    return run


def items(client: Any) -> list[dict[str, Any]]:
    return client.scan(TableName="keys")["Items"]


def put(client: Any, **attributes: Any) -> str:
    """Store an item as no command would; returns its id."""
    key_hash = hash_client_key(new_client_key())
    item = {"key_hash": {"S": key_hash}, "client_id": {"S": "web-shop"}, "name": {"S": "x"}, "enabled": {"BOOL": True}}
    client.put_item(TableName="keys", Item=item | attributes)
    return key_hash[:12]


class TestCreate:
    def test_a_new_key_is_printed_once_and_stored_as_its_hash(self, run: Run, client: Any):
        ran = run(*CREATE)

        key = ran.out.strip()
        assert ran.code == 0
        assert is_well_formed(key)
        assert ran.err == (
            f"Client key {hash_client_key(key)[:12]} of 'web-shop': servers all; models all; no limits; "
            "response cache as of the server; never expires.\n"
            "It is not stored: copy it now.\n"
        )
        [item] = items(client)
        assert item["key_hash"] == {"S": hash_client_key(key)}
        assert item.keys() == {"key_hash", "client_id", "name", "enabled", "created_at"}
        assert key not in json.dumps(item)

    def test_every_attribute_is_stored(self, run: Run, client: Any):
        ran = run(*CREATE, *TERMS)

        may = (
            "servers openai, ollama; models gpt-5*, openai/o3; 60 rpm, 100k tpm, 5 parallel, 0.5 USD/day, 10 USD/month"
        )
        assert f"{may}; response cache on: 3,600 s; good until 2999-12-31 00:00 UTC.\n" in ran.err
        [item] = items(client)
        del item["created_at"]
        assert item == {
            "key_hash": {"S": hash_client_key(ran.out.strip())},
            "client_id": {"S": "web-shop"},
            "name": {"S": "Web shop"},
            "owner": {"S": "Team Web"},
            "tags": {"M": {"env": {"S": "prod"}, "team": {"S": "web"}}},
            "enabled": {"BOOL": True},
            "expires_at": {"N": "32503593600"},
            "servers": {"L": [{"S": "openai"}, {"S": "ollama"}]},
            "models": {"L": [{"S": "gpt-5*"}, {"S": "openai/o3"}]},
            "rpm": {"N": "60"},
            "tpm": {"N": "100000"},
            "parallel": {"N": "5"},
            "budget_day": {"N": "0.5"},
            "budget_month": {"N": "10"},
            "currency": {"S": "USD"},
            "cache": {"M": {"mode": {"S": "on"}, "ttl": {"N": "3600"}}},
        }

    def test_programs_get_everything(self, run: Run):
        before = time.time()

        made = run(*CREATE, "--expires-in-days", "30", "--budget-day", "0.10", "--json").json

        assert hash_client_key(made.pop("key"))[:12] == made["key_id"] == made["limits_id"]
        assert before + 30 * 86400 - 1 <= made["expires_at"] <= time.time() + 30 * 86400
        assert (made["state"], made["budget_day"], made["currency"]) == ("enabled", "0.1", "USD")
        assert (made["rpm"], made["servers"], made["tags"], made["problems"]) == (None, [], {}, [])

    def test_budgets_of_other_periods_can_be_chosen(self, run: Run):
        budgets = ("--budget-week", "7", "--budget-total", "5", "--reset-weekday", "sunday")
        ran = run(*CREATE, *budgets, "--budget-month", "20", "--reset-day", "15", "--json").json

        assert (ran["budget_week"], ran["budget_total"], ran["currency"]) == ("7", "5", "USD")
        assert (ran["reset_weekday"], ran["reset_day"]) == ("sunday", 15)
        shown = run("keys", "show", ran["key_id"]).out
        assert "Budget a week      7 USD" in shown
        assert "Budget in total    5 USD" in shown
        left = run("keys", "update", ran["key_id"], "--unset", "budget-week")
        assert (left.code, "--reset-weekday has no effect without --budget-week" in left.err) == (2, True)
        assert "or --unset reset-weekday" in left.err
        changed = run("keys", "update", ran["key_id"], "--unset", "budget-week", "reset-weekday", "--json").json
        assert (changed["budget_week"], changed["reset_weekday"], changed["budget_total"]) == (None, None, "5")

    def test_a_cache_policy_can_be_chosen(self, run: Run):
        policy = ("--cache", "on", "--cache-ttl", "60", "--cache-pool", "all")

        assert run(*CREATE, *policy, "--json").json["cache"] == {"mode": "on", "ttl": 60, "pool": "all"}
        assert run(*CREATE, "--cache", "off", "--json").json["cache"] == {"mode": "off", "ttl": None, "pool": None}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--client-id", "a b"], "client_id must be 1 to 64 letters, digits, '_', '.' and '-'."),
            (["--client-id", "a" * 65], "client_id must be"),
            (["--name", ""], "name must be"),
            (["--name", "a\x1b[31m"], "name must be"),
            (["--owner", " "], "owner must be"),
            (["--tag", "a b=c"], "tags must be"),
            (["--server", "b,c"], "servers must be 1 to 100 names as in openai_servers.yaml, each given by itself"),
            (["--server", "openai/gpt-5"], "servers must be"),
            (["--model", "a,b"], "models must be 1 to 100 names, each given by itself"),
            (["--model", "*-mini"], "'*' only as the last"),
            (["--budget-day", "5", "--currency", "EUR"], "--currency: 'EUR' is none of the choices; choose from USD"),
            (["--expires-at", "2020-01-01"], "That expiry is in the past."),
            (["--cache-ttl", "60"], "add --cache on"),
            (["--cache", "on", "--cache-pool", "a:b"], "cache must be"),
        ],
    )
    def test_what_cannot_be_stored_is_said(self, run: Run, client: Any, arguments: list[str], message: str):
        ran = run(*CREATE, *arguments)

        assert (ran.code, ran.out) == (2, "")
        assert ran.err.startswith("openai-proxy")
        assert message in ran.err
        assert items(client) == []

    @pytest.mark.parametrize(
        ("option", "text", "message"),
        [
            *((f"--{limit}", text, "whole number from 1 to") for limit in ("rpm", "tpm", "parallel") for text in "0x"),
            *(("--budget-day", text, "must be US dollars") for text in ("0", "0.0000001", "5 EUR", "-5", "1e3", "NaN")),
            ("--budget-total", "0", "must be US dollars"),
            ("--reset-day", "29", "whole number from 1 to 28"),
            ("--reset-weekday", "Mon", "'Mon' is none of the choices; choose from"),
            ("--rpm", "\N{FULLWIDTH DIGIT ONE}", "whole number"),
            ("--rpm", "9" * 5000, "whole number"),
            ("--tag", "env", "must be NAME=VALUE"),
            ("--expires-at", "31.12.2999", "must be YYYY-MM-DD"),
            ("--cache", "maybe", "choose from"),
        ],
    )
    def test_what_cannot_be_meant_is_a_wrong_argument(self, run: Run, option: str, text: str, message: str):
        ran = run(*CREATE, f"{option}={text}")

        assert (ran.code, ran.out) == (2, "")
        assert f"argument {option}: " in ran.err
        assert message in ran.err


class TestList:
    def test_it_shows_all_keys_and_no_secret(self, run: Run):
        keys = [run("keys", "create", "--client-id", name, "--name", "x", "--json").json["key"] for name in "bab"]

        listed = run("keys", "list", "--json")
        text = run("keys", "list")
        assert [record["client_id"] for record in listed.json] == ["a", "b", "b"]
        assert text.out.splitlines()[0].split() == [
            *("KEY", "ID", "CLIENT", "NAME", "STATE", "EXPIRES", "LIMITS", "SERVERS", "MODELS")
        ]
        for key in keys:
            assert hash_client_key(key)[:12] in text.out
            for shown in (listed.out, text.out):
                assert key not in shown
                assert hash_client_key(key)[12:20] not in shown

    def test_it_can_be_of_one_client(self, run: Run):
        for name in ("a", "b"):
            run("keys", "create", "--client-id", name, "--name", "x")

        assert [key["client_id"] for key in run("keys", "list", "--client-id", "b", "--json").json] == ["b"]
        assert run("keys", "list", "--client-id", "c").out.startswith("There are no client keys of client 'c'.")
        assert run("keys", "list", "--client-id", "c", "--json").json == []

    def test_no_keys_are_said_to_be_none(self, run: Run):
        assert run("keys", "list") == Ran(0, "There are no client keys. `openai-proxy keys create` makes one.\n", "")

    @pytest.mark.parametrize(
        ("attributes", "now", "line"),
        [
            ({}, 0, "enabled  never       none    all      all"),
            ({"enabled": False}, 0, "revoked  never       none    all      all"),
            ({"rpm": "60"}, 0, "damaged  never       damaged  all    all"),
            ({"servers": []}, 0, "damaged  never     damaged  damaged  all"),
            ({"expires_at": 10**9}, 0, "enabled  2001-09-09  none    all      all"),
            ({"expires_at": 10**9}, 10**9 - 90_000, "enabled  in 25 h  none    all      all"),
            ({"expires_at": 10**9}, 10**9 - 90, "enabled  in 2 min  none    all      all"),
            ({"expires_at": 10**9}, 10**9, "expired  2001-09-09  none    all      all"),
            ({"replaced_by": "0" * 12, "expires_at": 10**9}, 10**9 - 7200, "rotated  in 2 h   none    all      all"),
            ({"rpm": 1500, "tpm": 2_000_000}, 0, "enabled  never    1,500 rpm, 2,000k tpm  all      all"),
            ({"rpm": 10_000, "tpm": 20_000_000}, 0, "enabled  never    10k rpm, 20M tpm  all      all"),
        ],
    )
    def test_a_line_says_whether_a_key_is_good_and_for_how_much(self, attributes: Any, now: float, line: str):
        item = {"key_hash": "0" * 64, "client_id": "web-shop", "name": "Web shop", "enabled": True}

        text = keys_table([StoredKey(item | attributes)], now, None)

        assert text.splitlines()[2].split() == ["000000000000", "web-shop", "Web", "shop", *line.split()]

    @pytest.mark.parametrize("width", [80, 100, 120, 200])
    def test_it_fits_the_terminal(self, width: int):
        item = {
            "key_hash": "0" * 64,
            "client_id": "analytics.nightly-batch",
            "name": "Everything that runs at night",
            "enabled": True,
            "rpm": 1234,
            "tpm": 12345,
            "parallel": 7,
            "servers": ["openai", "mistral", "ollama"],
            "models": ["gpt-5*", "mistral/mistral-large"],
        }

        lines = keys_table([StoredKey(item)], 0, width).splitlines()

        assert max(len(line) for line in lines) <= width
        assert lines[2].startswith("000000000000  analytics")
        assert "LIMITS" in lines[0]
        assert ("MODELS" in lines[0]) == (width >= 100)


class TestShow:
    def test_it_shows_every_attribute(self, run: Run):
        key_id = run(*CREATE, *TERMS, "--json").json["key_id"]

        lines = run("keys", "show", key_id).out.splitlines()

        created = lines.pop(6)
        assert created.startswith("Created            2")
        assert lines == [
            f"Key id             {key_id}",
            "State              enabled",
            "Client             web-shop",
            "Name               Web shop",
            "Owner              Team Web",
            "Tags               env=prod, team=web",
            "Expires            2999-12-31 00:00 UTC",
            "Servers            openai, ollama",
            "Models             gpt-5*, openai/o3",
            "Requests a minute  60",
            "Tokens a minute    100,000",
            "Parallel requests  5",
            "Budget a day       0.5 USD",
            "Budget a month     10 USD",
            "Response cache     on: 3,600 s",
        ]

    def test_what_is_not_set_is_said_too(self, run: Run):
        key_id = run(*CREATE, "--json").json["key_id"]

        shown = run("keys", "show", key_id).out

        assert shown.count("no limit") == 5
        assert "Servers            all\nModels             all\n" in shown
        assert "Expires            never\n" in shown

    def test_long_lists_are_folded(self, run: Run):
        item = {"key_hash": "0" * 64, "client_id": "a", "name": "x", "enabled": True, "models": ["some-model"] * 20}

        lines = key_details(StoredKey(item), 0, 80).splitlines()

        assert max(len(line) for line in lines) <= 80
        assert sum(line.count("some-model") for line in lines) == 20

    def test_a_damaged_item_is_shown_with_what_is_wrong(self, run: Run, client: Any):
        key_id = put(client, name={"S": "red \x1b[31m"}, client_id={"B": b"x"}, rpm={"S": "many"}, rpn={"N": "60"})

        for shown in (run("keys", "show", key_id).out, run("keys", "list").out, run("keys", "revoke", key_id).out):
            assert "\x1b" not in shown
            assert key_id in shown
        shown = run("keys", "show", key_id, "--json").json
        assert [problem.split()[0] for problem in shown["problems"]] == ["client_id", "name", "rpm"]
        assert "Without effect     rpn\n" in run("keys", "show", key_id).out
        assert "Requests a minute  damaged\n" in run("keys", "show", key_id).out


class TestUpdate:
    def test_it_shows_what_changed(self, run: Run, client: Any):
        key_id = run(*CREATE, *TERMS, "--json").json["key_id"]

        ran = run(
            *("keys", "update", key_id, "--rpm", "120", "--unset", "tpm", "model", "--server", "mistral"),
            *("--tag", "env=dev", "--cache-ttl", "60", "--budget-day", "1.50", "--unset", "budget-month", "expires"),
        )

        assert ran.code == 0
        assert ran.out.splitlines() == [
            f"Changed {key_id} of 'web-shop' (Web shop):",
            "  Tags: env=prod, team=web → env=dev, team=web",
            "  Expires: 2999-12-31 00:00 UTC → never",
            "  Servers: openai, ollama → mistral",
            "  Models: gpt-5*, openai/o3 → all",
            "  Requests a minute: 60 → 120",
            "  Tokens a minute: 100,000 → no limit",
            "  Budget a day: 0.5 USD → 1.5 USD",
            "  Budget a month: 10 USD → no limit",
            "  Response cache: on: 3,600 s → on: 60 s",
        ]
        may, doors = ran.err.splitlines()
        assert may == (
            "It may now: servers mistral; models all; 120 rpm, 5 parallel, 1.5 USD/day; response cache on: 60 s; "
            "never expires."
        )
        assert doors.startswith(
            "For up to AuthorizerCacheSeconds (60 s by default), a door that remembers the key goes"
        )
        [item] = items(client)
        assert not item.keys() & {"tpm", "models", "budget_month", "expires_at"}
        assert (item["rpm"], item["budget_day"], item["owner"]) == ({"N": "120"}, {"N": "1.50"}, {"S": "Team Web"})

    def test_without_budgets_there_is_no_currency(self, run: Run, client: Any):
        key_id = run(*CREATE, "--budget-day", "5", "--json").json["key_id"]

        assert run("keys", "update", key_id, "--unset", "budget-day").code == 0
        assert "currency" not in items(client)[0]

    def test_everything_can_be_unset(self, run: Run, client: Any):
        key_id = run(*CREATE, *TERMS, "--json").json["key_id"]
        names = ("owner", "tag", "server", "model", "rpm", "tpm", "parallel", "budget-day", "budget-month", "expires")

        assert run("keys", "update", key_id, "--unset", *names, "cache").code == 0
        assert items(client)[0].keys() == {"key_hash", "client_id", "name", "enabled", "created_at"}

    def test_a_key_can_be_switched_off_and_on(self, run: Run):
        key_id = run(*CREATE, "--json").json["key_id"]

        off = run("keys", "update", key_id, "--disable")
        on = run("keys", "update", key_id, "--enable")

        assert "  Enabled: yes → no\n" in off.out
        assert ".\nNote: the key is revoked.\nFor up to " in off.err
        assert "  Enabled: no → yes\n" in on.out
        assert "For up to" not in on.err  # a refusal is remembered nowhere

    @pytest.mark.parametrize("arguments", [["--rpm", "60"], ["--unset", "tpm"], ["--enable"], ["--name", "Web shop"]])
    def test_what_is_so_already_is_not_done(self, run: Run, arguments: list[str]):
        key_id = run(*CREATE, "--rpm", "60", "--json").json["key_id"]

        assert run("keys", "update", key_id, *arguments) == Ran(
            0, f"Nothing to do: {key_id} is already like that.\n", ""
        )

    def test_the_other_key_of_a_rotation_is_mentioned(self, run: Run):
        key_id = run(*CREATE, "--json").json["key_id"]
        new_id = run("keys", "rotate", key_id, "--json").json["key_id"]

        ran = run("keys", "update", new_id, "--rpm", "5")

        assert f"Not changed: {key_id}, of the same rotation, good until 2" in ran.err

    def test_a_damaged_key_can_be_mended(self, run: Run, client: Any):
        key_id = put(client, rpm={"S": "many"}, tags={"S": "env"}, cache={"L": []})

        refused = run("keys", "update", key_id, "--owner", "me")
        mended = run("keys", "update", key_id, "--rpm", "60", "--tag", "env=prod", "--cache", "on", "--json")

        assert refused.code == 2
        assert [part.split()[0] for part in refused.err.removeprefix("openai-proxy: ").split("; ")] == [
            *("tags", "rpm", "cache")
        ]
        assert mended.json["problems"] == []
        assert mended.json["before"]["state"] == "damaged"
        assert (mended.json["rpm"], mended.json["tags"]) == (60, {"env": "prod"})

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "No change is named. Remedy: "),
            (["--rpm", "5", "--unset", "rpm"], "These are set and unset at once: rpm. Remedy: "),
            (["--tag", "a=b", "--unset", "tag"], "set and unset at once: tags."),
            (["--cache-ttl", "60"], "add --cache on"),
            (["--currency", "EUR", "--budget-day", "1"], "--currency: 'EUR' is none of the choices"),
        ],
    )
    def test_what_cannot_be_done_is_said(self, run: Run, client: Any, arguments: list[str], message: str):
        key_id = run(*CREATE, "--json").json["key_id"]
        before = items(client)

        ran = run("keys", "update", key_id, *arguments)

        assert (ran.code, ran.out) == (2, "")
        assert message in ran.err
        assert items(client) == before


class TestRotate:
    def test_the_new_key_is_printed_once_with_what_becomes_of_the_old(self, run: Run, client: Any):
        old = run(*CREATE, *TERMS, "--json").json

        ran = run("keys", "rotate", old["key_id"])

        key = ran.out.strip()
        assert is_well_formed(key)
        new_id = hash_client_key(key)[:12]
        introduction, copy, replaces = ran.err.splitlines()
        assert introduction.startswith(f"Client key {new_id} of 'web-shop': servers openai, ollama; models ")
        assert copy == "It is not stored: copy it now."
        assert replaces.startswith(f"It replaces {old['key_id']}, which stays good until 2")
        shown = run("keys", "show", new_id, "--json").json
        for own in ("key", "key_id", "created_at"):
            old.pop(own)
            shown.pop(own, None)
        assert shown == old

    def test_without_a_grace_the_old_key_ends_now(self, run: Run):
        key_id = run(*CREATE, "--json").json["key_id"]

        ran = run("keys", "rotate", key_id, "--grace-hours", "0")

        assert "which is not good any more" in ran.err
        assert ran.err.endswith("a door that remembers the key lets the old one in.\n")
        assert run("keys", "show", key_id, "--json").json["state"] == "expired"

    def test_programs_get_both(self, run: Run):
        key_id = run(*CREATE, "--json").json["key_id"]

        rotated = run("keys", "rotate", key_id, "--grace-hours", "1", "--json").json

        assert hash_client_key(rotated["key"])[:12] == rotated["key_id"]
        assert (rotated["state"], rotated["limits_id"]) == ("enabled", key_id)
        old = rotated["replaces"]
        assert (old["key_id"], old["state"], old["replaced_by"]) == (key_id, "rotated", rotated["key_id"])
        assert "Counted with       " + key_id in run("keys", "show", rotated["key_id"]).out

    def test_a_key_is_rotated_once(self, run: Run, client: Any):
        key_id = run(*CREATE, "--json").json["key_id"]
        new_id = run("keys", "rotate", key_id, "--json").json["key_id"]

        ran = run("keys", "rotate", key_id)

        assert (ran.code, ran.out) == (2, "")
        assert f"was replaced by {new_id}. Remedy: rotate that one." in ran.err
        assert len(items(client)) == 2


class Gone(io.StringIO):
    """A stream that cannot be written, which it says when a text has to go on its way; without a buffer, at once."""

    def __init__(self, error: int, *, at_once: bool = False) -> None:
        super().__init__()
        self.error, self.at_once = OSError(error, os.strerror(error)), at_once

    def write(self, text: str, /) -> int:
        if self.at_once:
            raise self.error
        return super().write(text)

    def flush(self) -> None:
        if self.getvalue():
            raise self.error


class TestUnseen:
    """A key that nobody has seen is good all the same: whoever made it has to hear that."""

    @pytest.mark.parametrize("form", [[], ["--json"]])
    @pytest.mark.parametrize("error", [errno.EPIPE, errno.ENOSPC])
    @pytest.mark.parametrize("command", ["create", "rotate"])
    def test_a_key_that_could_not_be_written_is_named_with_what_ends_it(
        self, run: Run, client: Any, monkeypatch: pytest.MonkeyPatch, command: str, error: int, form: list[str]
    ):
        words, replaces = CREATE, ""
        if command == "rotate":
            old = run(*CREATE, "--json").json["key_id"]
            words, replaces = ("keys", "rotate", old, "--grace-hours", "0"), f" It replaces {old}, "
            replaces += "which is not good any more."
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", Gone(error))
            ran = run(*words, *form)

        [new] = [item for item in items(client) if "replaced_by" not in item]
        new_id = new["key_hash"]["S"][:12]
        assert ran.code == 2
        assert (
            f"openai-proxy: Client key {new_id} is made, but the output cannot be written ({os.strerror(error)}): "
            f"nobody has seen the key.{replaces} Remedy: `openai-proxy keys revoke {new_id}` "
            f"ends it; `openai-proxy keys rotate {new_id} --grace-hours 0` makes another in its place.\n"
        ) in ran.err
        again = run("keys", "rotate", new_id, "--grace-hours", "0")
        assert (again.code, is_well_formed(again.out.strip())) == (0, True)
        assert run("keys", "show", new_id, "--json").json["state"] == "expired"

    def test_a_closed_output_shows_no_key(self, run: Run, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(sys, "__stdout__", None)

        ran = run(*CREATE)

        assert (ran.code, ran.out) == (2, "")
        assert "(Bad file descriptor): nobody has seen the key. Remedy: " in ran.err

    def test_whoever_reads_the_key_alone_gets_it(self, run: Run, client: Any, monkeypatch: pytest.MonkeyPatch):
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", Gone(errno.EPIPE, at_once=True))
            ran = run(*CREATE)

        [item] = items(client)
        assert (ran.code, hash_client_key(ran.out.strip())) == (0, item["key_hash"]["S"])


class TestRevoke:
    @pytest.mark.parametrize("by", ["id", "prefix", "key", "client"])
    def test_a_revoked_key_is_disabled_and_still_listed(self, run: Run, by: str):
        created = run("keys", "create", "--client-id", "a", "--name", "x", "--json").json
        run("keys", "create", "--client-id", "other", "--name", "x")
        which = {
            "id": [created["key_id"]],
            "prefix": [created["key_id"][:8]],
            "key": [created["key"]],
            "client": ["--client-id", "a"],
        }

        ran = run("keys", "revoke", *which[by])

        assert (ran.code, ran.out) == (0, f"Revoked {created['key_id']} of 'a' (x).\n")
        assert ran.err == (
            "For up to AuthorizerCacheSeconds (60 s by default), a door that remembers the key lets it in.\n"
        )
        assert [record["enabled"] for record in run("keys", "list", "--json").json] == [False, True]
        assert "Nothing to do" in run("keys", "revoke", *which[by]).out

    def test_what_a_revoked_client_has_put_into_the_response_cache_can_be_erased(self, run: Run):
        for cache in ("on", "off"):
            run("keys", "create", "--client-id", f"cache-{cache}", "--name", "x", "--cache", cache)

        with_cache, without = (run("keys", "revoke", "--client-id", f"cache-{cache}").err for cache in ("on", "off"))

        assert "`openai-proxy cache erase --client cache-on`" in with_cache
        assert "cache erase" not in without

    @pytest.mark.parametrize("client_id", ["anonymous", "token.openai"])
    def test_no_key_is_made_for_those_who_come_without_one(self, run: Run, client_id: str):
        ran = run("keys", "create", "--client-id", client_id, "--name", "x")

        assert (ran.code, ran.out) == (2, "")
        assert "client_id must be" in ran.err
        assert run("keys", "list", "--json").json == []

    def test_all_keys_of_a_client_are_revoked_also_those_that_are_rotated(self, run: Run):
        key_id = run(*CREATE, "--json").json["key_id"]
        new_id = run("keys", "rotate", key_id, "--json").json["key_id"]

        revoked = run("keys", "revoke", "--client-id", "web-shop", "--json").json

        assert {key["key_id"] for key in revoked} == {key_id, new_id}
        assert {key["state"] for key in revoked} == {"revoked"}
        assert run("keys", "revoke", "--client-id", "web-shop", "--json").json == []

    def test_a_key_that_it_replaced_and_that_is_still_good_is_mentioned(self, run: Run):
        key_id = run(*CREATE, "--json").json["key_id"]
        new_id = run("keys", "rotate", key_id, "--json").json["key_id"]

        ran = run("keys", "revoke", new_id)

        assert f"Still good: {key_id}, of the same rotation, good until 2" in ran.err

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["0123456789ab"], "There is no key with id 0123456789ab. Remedy: `openai-proxy keys list` shows"),
            (["everything"], "'everything' is no key id"),
            (["abc"], "'abc' is no key id: those have 8 or more of the characters 0-9 and a-f"),
            (["--client-id", "nobody"], "There is no key of client 'nobody'."),
        ],
    )
    def test_what_cannot_be_done_is_said(self, run: Run, arguments: list[str], message: str):
        run(*CREATE)

        ran = run("keys", "revoke", *arguments)

        assert (ran.code, ran.out) == (2, "")
        assert message in ran.err

    def test_an_id_of_two_keys_revokes_neither(self, run: Run, client: Any):
        for last in "12":
            put(client, key_hash={"S": "0123456789ab" + last})

        ran = run("keys", "revoke", "0123456789ab")

        assert ran.code == 2
        assert "2 keys have ids that begin with 0123456789ab" in ran.err
        assert run("keys", "revoke", "0123456789ab2").code == 0


KEY = new_client_key()


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", KEY],
        ["list", "--client-id", KEY],
        ["show", KEY],
        ["show", KEY + "x"],
        ["show", KEY[:30]],
        ["show", KEY, KEY],
        ["update", KEY],
        ["update", KEY, "--rpm", "5"],
        ["update", "--unset", "rpm", KEY],
        ["update", "{id}", "--name", KEY],
        ["update", "{id}", "--tag", f"k={KEY}"],
        ["update", "{id}", "--tag", KEY],
        ["update", "{id}", "--model", f"openai/{KEY[:40]}"],
        ["update", "{id}", "--cache", KEY],
        ["rotate", "{id}", "--grace-hours", KEY],
        ["rotate", KEY],
        ["revoke", KEY],
        ["revoke", "--client-id", KEY],
        ["create", "--name", "x", "--client-id", KEY],
        ["create", "--name", KEY, "--client-id", "x", "--budget-day", KEY],
        [KEY],
    ],
    ids=lambda arguments: without_keys(" ".join(arguments)),
)
def test_a_key_in_the_wrong_place_is_not_repeated_and_not_stored(run: Run, client: Any, arguments: list[str]):
    key_id = put(client)

    ran = run("keys", *(argument.replace("{id}", key_id) for argument in arguments))

    assert ran.code in ((0,) if arguments[:2] == ["list", "--client-id"] else (1, 2))
    for text in (ran.out, ran.err, json.dumps(items(client), default=str)):
        assert KEY[4:24] not in text


@given(st.text(max_size=20))
def test_nothing_that_a_terminal_obeys_is_shown(text: str):
    assert harmless(text).isprintable()


class FakeCloudFormation(BaseHTTPRequestHandler):
    """Answers DescribeStacks: there is one stack, `mine`, whose doors remember keys for 7 seconds."""

    NAMESPACE = 'xmlns="http://cloudformation.amazonaws.com/doc/2010-05-15/"'
    STACK = f"""<DescribeStacksResponse {NAMESPACE}><DescribeStacksResult><Stacks><member>
        <StackName>mine</StackName><StackStatus>CREATE_COMPLETE</StackStatus><CreationTime>2026-11-23T09:30:00Z</CreationTime>
        <Parameters><member><ParameterKey>AuthorizerCacheSeconds</ParameterKey><ParameterValue>7</ParameterValue></member>
        </Parameters><Outputs><member><OutputKey>KeysTable</OutputKey><OutputValue>keys</OutputValue></member></Outputs>
        </member></Stacks></DescribeStacksResult></DescribeStacksResponse>"""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "text/xml")
        self.send_header("content-length", str(len(self.STACK.encode())))
        self.end_headers()
        self.wfile.write(self.STACK.encode())

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class TestHowLongDoorsRemember:
    @pytest.fixture(autouse=True)
    def stack(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        with ThreadingHTTPServer(("127.0.0.1", 0), FakeCloudFormation) as server:
            threading.Thread(target=server.serve_forever, args=(0.02,)).start()
            monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDFORMATION", f"http://127.0.0.1:{server.server_port}")
            yield
            server.shutdown()

    def test_the_stack_says_it(self, run: Run):
        key_id = run(*CREATE, "--json").json["key_id"]

        ran = run("keys", "revoke", key_id, "--stack-name", "mine")

        assert ran.err == "For up to 7 s, a door that remembers the key lets it in.\n"

    def test_a_stack_with_another_table_does_not(self, run: Run, client: Any):
        make_table(client, "others", "key_hash")
        key_id = run(*CREATE, "--keys-table", "others", "--json").json["key_id"]

        ran = run("keys", "revoke", key_id, "--keys-table", "others", "--stack-name", "mine")

        assert ran.err.startswith("For up to AuthorizerCacheSeconds (60 s by default), ")
