"""The OpenID provider of the local stack: its tokens are those that the authorizer takes."""

import base64
import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from authorizer.https_get import FetchError
from authorizer.users import Users, keys_of_issuers
from aws_lambda_powertools import Logger
from flask.testing import FlaskClient
from openai_proxy.identity import parse_identity

from local.issuer.people import CLIENT_ID, PEOPLE, identity_file
from local.issuer.server import application

ISSUER = "http://127.0.0.1:8091"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
BACK = "http://127.0.0.1:8000/index.html"
ASKED = {
    "response_type": "code",
    "client_id": CLIENT_ID,
    "redirect_uri": BACK,
    "scope": "openid profile",
    "state": "s",
    "nonce": "n",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}


@pytest.fixture(scope="module")
def provider() -> FlaskClient:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
        return application(ISSUER).test_client()


@pytest.fixture
def users(provider: FlaskClient) -> Users:
    """The authorizer's own judgement, with this issuer."""
    identity = parse_identity(identity_file(ISSUER), allow_loopback=True)
    assert identity

    def fetch(address: str, _seconds: float) -> dict[str, Any]:
        answer = provider.get(address.removeprefix(ISSUER))
        if answer.status_code != 200:
            raise FetchError("no")
        return answer.get_json()

    class Nobody:
        def find(self, key_hash: str) -> None:
            return None

    keys = keys_of_issuers(identity, fetch, Logger(service="issuer"))
    return Users(identity, Nobody(), keys, lambda issuer, sub: sub)


def test_a_password_gives_a_token_that_the_authorizer_takes(provider: FlaskClient, users: Users):
    for person, client in zip(PEOPLE, ("free", "pro"), strict=True):
        form = {"grant_type": "password", "client_id": CLIENT_ID, "username": person.user_name}
        answer = provider.post("/token", data={**form, "password": person.user_name})
        key = users(answer.get_json()["access_token"])
        assert (key.client_id, key.end_user) == (client, person.sub)
        assert key.limits
        refused = provider.post("/token", data={**form, "password": "wrong"})
        assert (refused.status_code, "access_token" in refused.get_json()) == (400, False)


def test_a_page_signs_somebody_in_with_a_code(provider: FlaskClient, users: Users):
    page = provider.get("/authorize", query_string=ASKED).get_data(as_text=True)
    assert "Sign in as Ada" in page
    sent = provider.get("/authorize", query_string={**ASKED, "login": "ada"})
    answered = parse_qs(urlsplit(sent.headers["location"]).query)
    assert sent.headers["location"].startswith(BACK)
    assert answered["state"] == ["s"]
    form = {
        "grant_type": "authorization_code",
        "client_id": CLIENT_ID,
        "redirect_uri": BACK,
        "code": answered["code"][0],
    }
    assert provider.post("/token", data={**form, "code_verifier": "w" * 43}).status_code == 400
    given = provider.post("/token", data={**form, "code_verifier": VERIFIER})
    assert given.headers["access-control-allow-origin"] == "*"
    assert users(given.get_json()["access_token"]).end_user == "user-ada"
    assert given.get_json()["id_token"]
    assert provider.post("/token", data={**form, "code_verifier": VERIFIER}).status_code == 400  # once


@pytest.mark.parametrize(
    "changed",
    [
        {"redirect_uri": "https://evil.example.com/"},
        {"client_id": "another"},
        {"response_type": "token"},
        {"code_challenge": None},
    ],
)
def test_what_no_page_of_this_machine_asks_is_refused(provider: FlaskClient, changed: dict[str, Any]):
    asked = {name: value for name, value in ({**ASKED, **changed, "login": "ada"}).items() if value is not None}
    answer = provider.get("/authorize", query_string=asked)
    assert answer.status_code == 400 or "error=" in answer.headers["location"]
