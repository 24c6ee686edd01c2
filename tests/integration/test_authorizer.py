"""The authorizer against DynamoDB (moto)."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from openai_proxy.client_keys import hash_client_key, new_client_key

from tests.tables import mocked_table

API = Path(__file__).parents[2] / "events" / "api"
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
    return request


def test_a_stored_key_is_let_in(client: Any, handler: Any):
    answer = handler(event(put(client)), None)

    assert answer["principalId"] == "web-shop"
    assert answer["context"]["servers"] == ""


def test_all_attributes_are_read(client: Any, handler: Any):
    key = put(
        client,
        servers={"L": [{"S": "openai"}, {"S": "ollama"}]},
        models={"L": [{"S": "gpt-5"}]},
        expires_at={"N": "4000000000"},
        created_at={"S": "2026-11-23T09:30:00.000Z"},
    )

    context = handler(event(key), None)["context"]
    assert (context["servers"], context["models"], context["client_name"]) == ("openai,ollama", "gpt-5", "Web shop")


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


def test_a_damaged_item_lets_nobody_in_and_is_not_called_unauthorized(client: Any, handler: Any):
    key = put(client, enabled={"S": "yes"})

    with pytest.raises(KeyError):
        handler(event(key), None)
