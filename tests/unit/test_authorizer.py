import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from authorizer.authorizer import Authorizer, Unauthorized
from authorizer.keys_table import ClientKey
from aws_lambda_powertools import Logger
from openai_proxy.client_keys import hash_client_key, new_client_key

API = Path(__file__).parents[2] / "events" / "api"
NOW = 1_795_426_200
KEY = new_client_key()
CLIENT = ClientKey("web-shop", "Web shop", enabled=True, expires_at=None, servers=(), models=())


class FakeKeys:
    """Keys by hash. Counts what it is asked, fails when told to."""

    def __init__(self, *clients: ClientKey, error: Exception | None = None) -> None:
        self._clients = {hash_client_key(KEY): client for client in clients}
        self._error = error
        self.asked: list[str] = []

    def find(self, key_hash: str) -> ClientKey | None:
        self.asked.append(key_hash)
        if self._error:
            raise self._error
        return self._clients.get(key_hash)


def event(name: str = "rest", authorization: str | None = f"Bearer {KEY}", header: str = "Authorization") -> Any:
    request = json.loads((API / f"{name}_authorizer_request.json").read_text(encoding="utf-8"))
    del request["headers"]["Authorization"]
    if authorization is not None:
        request["headers"][header] = authorization
    return request


def authorizer(keys: FakeKeys) -> Authorizer:
    return Authorizer(keys, Logger(service="test"), clock=lambda: NOW)


def client(**changes: Any) -> ClientKey:
    facts = {name: getattr(CLIENT, name) for name in ClientKey.__dataclass_fields__}
    return ClientKey(**facts | changes)


def test_a_good_key_may_call_everything_of_the_api():
    assert authorizer(FakeKeys(CLIENT))(event()) == {
        "principalId": "web-shop",
        "policyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Action": "execute-api:Invoke",
                    "Effect": "Allow",
                    "Resource": "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/dev/*/*",
                }
            ],
        },
        "context": {"client_id": "web-shop", "client_name": "Web shop", "servers": "", "models": ""},
    }


def test_the_function_url_is_answered_alike():
    policy = authorizer(FakeKeys(CLIENT))(event("function_url"))

    [statement] = policy["policyDocument"]["Statement"]
    assert statement["Resource"] == "arn:aws:execute-api:eu-central-1:000000000000:function-url/url/*/*"
    assert policy["context"]["client_id"] == "web-shop"


def test_allow_lists_are_passed_on_as_text():
    context = authorizer(FakeKeys(client(servers=("openai", "ollama"), models=("gpt-5",))))(event())["context"]

    assert (context["servers"], context["models"]) == ("openai,ollama", "gpt-5")
    assert all(isinstance(value, str) for value in context.values())


@pytest.mark.parametrize("header", ["authorization", "AUTHORIZATION"])
@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "  Bearer   {}  "])
def test_headers_are_read_as_http_says(header: str, form: str):
    assert (
        authorizer(FakeKeys(CLIENT))(event(authorization=form.format(KEY), header=header))["principalId"] == "web-shop"
    )


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        KEY,
        f"Basic {KEY}",
        "Bearer sk-proj-1234",
        f"Bearer {KEY[:-1]}",
        f"Bearer {KEY} x",
    ],
)
def test_garbage_is_refused_without_a_look_up(authorization: str | None):
    keys = FakeKeys(CLIENT)

    with pytest.raises(Unauthorized):
        authorizer(keys)(event(authorization=authorization))
    assert keys.asked == []


@pytest.mark.parametrize("headers", [None, {}])
def test_an_event_without_headers_is_refused(headers: Any):
    with pytest.raises(Unauthorized):
        authorizer(FakeKeys(CLIENT))(event() | {"headers": headers})


@pytest.mark.parametrize(
    "found",
    [None, client(enabled=False), client(expires_at=NOW), client(expires_at=NOW - 1)],
    ids=["unknown", "disabled", "expires now", "expired"],
)
def test_a_key_that_is_not_good_is_refused_in_the_words_that_api_gateway_understands(found: ClientKey | None):
    with pytest.raises(Exception) as error:  # noqa: PT011 - the message and the class's name are the contract
        authorizer(FakeKeys(*([found] if found else [])))(event())

    assert (str(error.value), type(error.value).__name__) == ("Unauthorized", "Unauthorized")


def test_a_key_is_good_until_it_expires():
    assert authorizer(FakeKeys(client(expires_at=NOW + 1)))(event())["principalId"] == "web-shop"


def test_a_key_that_cannot_be_checked_is_not_called_bad():
    with pytest.raises(ConnectionError):
        authorizer(FakeKeys(error=ConnectionError("no table")))(event())


def test_neither_keys_nor_hashes_are_logged(caplog: pytest.LogCaptureFixture):
    for found in ([], [client(enabled=False)], [CLIENT]):
        with contextlib.suppress(Unauthorized):
            authorizer(FakeKeys(*found))(event())

    logged = str([vars(record) for record in caplog.records])
    assert "disabled client key" in logged
    assert "web-shop" in logged
    for secret in (KEY, hash_client_key(KEY)):
        assert not any(secret[start : start + 8] in logged for start in range(len(secret) - 8))
