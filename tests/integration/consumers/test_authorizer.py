"""The authorizer against DynamoDB (moto)."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from authorizer.refusal import KeysUnavailableError
from botocore.exceptions import ClientError
from openai_proxy.client_keys import hash_client_key, new_client_key

from tests.identity.issuers import good, token
from tests.tables import mocked_table

ROOT = Path(__file__).parents[3]
PATHS = ("functions", "shared")
API = ROOT / "events" / "api"
TABLE = "keys"


@pytest.fixture
def client() -> Iterator[Any]:
    with mocked_table(TABLE, "key_hash") as client:
        yield client


@pytest.fixture
def handler(client: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("KEYS_TABLE", TABLE)
    yield importlib.import_module("authorizer.handler").handler
    del sys.modules["authorizer.handler"]


def put(client: Any, **attributes: Any) -> str:
    """Store a new key with these attributes; returns the key."""
    key = new_client_key()
    item = {"key_hash": {"S": hash_client_key(key)}, "client_id": {"S": "web-shop"}, "name": {"S": "Web shop"}}
    client.put_item(TableName=TABLE, Item=item | {"enabled": {"BOOL": True}} | attributes)
    return key


def event(key: str) -> Any:
    request = json.loads((API / "rest_authorizer_request.json").read_text(encoding="utf-8"))
    request["headers"]["Authorization"] = f"Bearer {key}"
    request["multiValueHeaders"]["Authorization"] = [f"Bearer {key}"]
    return request


def test_a_stored_key_is_let_in(client: Any, handler: Any):
    answer = handler(event(put(client)), None)

    assert answer["principalId"] == "web-shop"
    assert answer["context"]["servers"] == ""


def test_all_attributes_are_read(client: Any, handler: Any):
    key = put(
        client,
        owner={"S": "Team Web"},
        tags={"M": {"env": {"S": "prod"}}},
        servers={"L": [{"S": "openai"}, {"S": "ollama"}]},
        models={"L": [{"S": "gpt-5*"}]},
        limits_id={"S": "0123456789ab"},
        rpm={"N": "60"},
        tpm={"N": "100000"},
        parallel={"N": "5"},
        budget_day={"N": "0.5"},
        budget_month={"N": "100"},
        currency={"S": "USD"},
        cache={"M": {"mode": {"S": "on"}, "ttl": {"N": "3600"}, "pool": {"S": "web"}}},
        log_content={"BOOL": True},
        resumable={"BOOL": True},
        on_disconnect={"S": "stop"},
        expires_at={"N": "4000000000"},
        created_at={"S": "2026-11-23T09:30:00.000Z"},
        rotated_at={"S": "2026-11-23T09:30:00.000Z"},
        replaced_by={"S": "ba9876543210"},
    )

    assert handler(event(key), None)["context"] == {
        "client_id": "web-shop",
        "client_name": "Web shop",
        "key_id": hash_client_key(key)[:12],
        "limits_id": "0123456789ab",
        "owner": "Team Web",
        "tags": '{"env":"prod"}',
        "expires_at": "4000000000",
        "servers": "openai,ollama",
        "models": "gpt-5*",
        "rpm": "60",
        "tpm": "100000",
        "parallel": "5",
        "budget_day": "0.5",
        "budget_month": "100",
        **dict.fromkeys(("budget_week", "budget_total", "reset_weekday", "reset_day"), ""),
        "currency": "USD",
        "cache": "on:3600:web",
        "log_content": "on",
        "resumable": "on",
        "on_disconnect": "stop",
        "end_user": "",
    }


@pytest.mark.parametrize(
    "attributes", [{"enabled": {"BOOL": False}}, {"expires_at": {"N": "1000000000"}}], ids=["disabled", "expired"]
)
def test_a_key_that_is_not_good_any_more_is_refused(client: Any, handler: Any, attributes: Any):
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        handler(event(put(client, **attributes)), None)


def test_an_unknown_key_is_refused(handler: Any):
    with pytest.raises(Exception, match=r"^Unauthorized$"):
        handler(event(new_client_key()), None)


def test_without_the_table_nobody_is_called_unauthorized(client: Any, handler: Any):
    key = put(client)
    client.delete_table(TableName=TABLE)

    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        handler(event(key), None)


@pytest.mark.parametrize(
    "damage",
    [
        {"enabled": {"S": "yes"}},
        {"rpm": {"S": "60"}},
        {"rpm": {"N": "-60"}},
        {"rpm": {"NULL": True}},
        {"budget_day": {"N": "0.0000001"}},
        {"servers": {"SS": ["openai"]}},
        {"servers": {"L": []}},
        {"models": {"B": b"gpt-5"}},
        {"name": {"N": "7"}},
    ],
    ids=str,
)
def test_a_damaged_item_lets_nobody_in_and_is_not_called_unauthorized(client: Any, handler: Any, damage: Any):
    key = put(client, **damage)

    with pytest.raises(Exception, match=r"^The item of a client key is damaged\.$"):
        handler(event(key), None)


def test_the_hash_of_a_key_is_no_key(client: Any, handler: Any):
    key_hash = hash_client_key(put(client))

    for no_key in (key_hash, f"opx-{key_hash[:49]}"):
        with pytest.raises(Exception, match=r"^Unauthorized$"):
            handler(event(no_key), None)


IDENTITY = "issuers: [{{issuer: '{}', audience: chat, plan: free}}]\nplans: {{free: {{rpm: 1}}}}\n"


def test_without_an_identity_file_nothing_of_it_is_loaded(client: Any, handler: Any):
    sandbox = (
        "import authorizer.handler, gc, sys; print([m for m in sys.modules if m in ('jwt', 'yaml', 'authorizer.users')]"
        ", gc.isenabled(), gc.get_freeze_count() > 0)"
    )
    environment = {**os.environ, "KEYS_TABLE": TABLE, "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in PATHS)}
    ran = subprocess.run([sys.executable, "-c", sandbox], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[] True True"  # garbage of invocations is collected, what INIT made is not looked at


def test_a_file_that_cannot_be_used_takes_no_token_and_leaves_keys_as_they_are(
    client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    file = tmp_path / "identity.yaml"
    file.write_text(IDENTITY.format("http://id.example.com"))
    monkeypatch.setenv("IDENTITY_FILE", os.path.relpath(file, ROOT / "shared"))  # as seen from the layer
    monkeypatch.setenv("KEYS_TABLE", TABLE)
    handler = importlib.import_module("authorizer.handler").handler
    try:
        assert handler(event(put(client)), None)["principalId"] == "web-shop"
        with pytest.raises(KeysUnavailableError):
            handler(event("a.b.c"), None)
    finally:
        del sys.modules["authorizer.handler"]


def test_a_token_is_judged_where_the_file_names_an_issuer(client: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The issuer does not answer here: a token that would need its keys is neither good nor bad."""
    file = tmp_path / "identity.yaml"
    file.write_text(IDENTITY.format("http://127.0.0.1:1"))
    for name, value in (
        ("IDENTITY_FILE", str(file)),
        ("KEYS_TABLE", TABLE),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
    ):
        monkeypatch.setenv(name, value)
    handler = importlib.import_module("authorizer.handler").handler
    try:
        answer = handler(event("a.b.c"), None)
        assert answer["policyDocument"]["Statement"][0]["Effect"] == "Deny"
        assert answer["context"]["error_code"] == "token_malformed"
        with pytest.raises(KeysUnavailableError):
            handler(event(token(good(iss="http://127.0.0.1:1"))), None)
    finally:
        del sys.modules["authorizer.handler"]
