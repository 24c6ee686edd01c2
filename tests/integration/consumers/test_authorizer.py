"""The authorizer against DynamoDB (moto)."""

import importlib
import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from authorizer.authorizer import Unauthorized
from authorizer.refusal import KeysUnavailableError
from botocore.exceptions import ClientError
from openai_proxy.client_keys import hash_client_key, new_client_key
from openai_proxy.identity import pseudonym_of

from tests.identity.issuers import good, jwk, token
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


# ------------------------------------------------------------------------------------------------------------- settings

SECRET = "s" * 32


class Services:
    """boto3, as far as the authorizer asks it: a key table, and the secret of pseudonyms."""

    def __init__(self, **items: Any) -> None:
        self.items = items

    def client(self, service: str, **_: Any) -> Any:
        return {
            "dynamodb": SimpleNamespace(get_item=self.item),
            "secretsmanager": SimpleNamespace(get_secret_value=self.secret),
        }[service]

    def item(self, *, TableName: str, Key: Any, **_: Any) -> Any:  # noqa: N803 - boto's names
        assert TableName == TABLE
        item = self.items.get(Key["key_hash"]["S"])
        return {"ConsumedCapacity": {"TableName": TABLE}, **({"Item": item} if item else {})}

    def secret(self, *, SecretId: str) -> Any:  # noqa: N803
        return {"the-secret": {"SecretString": SECRET}}[SecretId]


@contextmanager
def started(services: Services, monkeypatch: pytest.MonkeyPatch, **settings: str) -> Generator[Any]:
    """The handler of a sandbox with these settings."""
    monkeypatch.setattr(boto3, "client", services.client)
    for name, value in {"KEYS_TABLE": TABLE, **settings}.items():
        monkeypatch.setenv(name, value)
    logging.Logger.manager.loggerDict.pop("authorizer", None)
    try:
        yield importlib.import_module("authorizer.handler").handler
    finally:
        sys.modules.pop("authorizer.handler", None)
        logging.Logger.manager.loggerDict.pop("authorizer", None)


@pytest.mark.parametrize(("setting", "guards"), [({}, None), ({"GUARDS": "off"}, None), ({"GUARDS": "on"}, "on")])
def test_guards_are_asked_where_they_are_on(
    setting: dict[str, str], guards: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = new_client_key()
    item: Any = {"key_hash": {"S": hash_client_key(key)}, "client_id": {"S": "web"}, "name": {"S": "Web"}}
    services = Services(**{hash_client_key(key): item | {"enabled": {"BOOL": True}}})
    with started(services, monkeypatch, **setting) as handler:
        assert handler(event(key), None)["context"].get("guards") == guards


def test_a_user_of_an_issuer_has_a_pseudonym_by_the_secret_of_the_stack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Issuer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            described = {"issuer": address, "jwks_uri": f"{address}/keys"}
            documents = {"/keys": {"keys": [jwk("RS256")]}, "/.well-known/openid-configuration": described}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(documents[self.path]).encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing of it."""

    with HTTPServer(("127.0.0.1", 0), Issuer) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
        file = tmp_path / "identity.yaml"
        file.write_text(IDENTITY.format(address).replace("plan: free", "plan: free, pseudonyms: true"))
        now = int(time.time())
        sent = token(good(iss=address, iat=now, exp=now + 300))
        settings = {"IDENTITY_FILE": str(file), "AWS_ENDPOINT_URL": address, "PSEUDONYM_SECRET": "the-secret"}
        try:
            with started(Services(), monkeypatch, **settings) as handler:
                assert handler(event(sent), None)["context"]["end_user"] == pseudonym_of(SECRET, address, "ada")
        finally:
            server.shutdown()


def test_the_keys_of_an_issuer_are_asked_for_while_the_sandbox_starts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        (file := tmp_path / "identity.yaml").write_text(IDENTITY.format(address))
        settings = {"IDENTITY_FILE": str(file), "AWS_ENDPOINT_URL": address}
        with started(Services(), monkeypatch, **settings):
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(100).startswith(b"GET /.well-known/openid-configuration ")


@pytest.mark.parametrize("level", ["", "ERROR", "CRITICAL"])
def test_a_file_that_cannot_be_used_is_told_in_the_log_from_the_level_that_is_set(
    level: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "identity.yaml"
    file.write_text(IDENTITY.format("http://id.example.com"))
    settings = {"IDENTITY_FILE": str(file)} | ({"LOG_LEVEL": level} if level else {})
    with started(Services(), monkeypatch, **settings) as handler:
        with pytest.raises(KeysUnavailableError, match=r"^the identity file cannot be used$"):
            handler(event("a.b.c"), None)
        with pytest.raises(Unauthorized):
            handler(event("opx-short"), None)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    said = [(line["service"], line["level"], line["message"]) for line in lines]
    unusable = "The identity file cannot be used: no access token is taken"
    all_of_it = [
        ("authorizer", "ERROR", unusable),
        ("authorizer", "ERROR", "A client key was not checked"),
        ("authorizer", "WARNING", "A client was refused"),
    ]
    assert said == {"": all_of_it, "ERROR": all_of_it[:2], "CRITICAL": []}[level]
    assert all(str(file) in line["reason"] for line in lines if line["message"] == unusable)
