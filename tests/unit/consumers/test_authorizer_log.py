"""What the authorizer answers and says in its log, compared whole; what it asks of its table and of its secrets."""

from typing import Any

import pytest
from authorizer.authorizer import Authorizer, Unauthorized
from authorizer.client_key import DamagedKeyError, UnknownTeamError
from authorizer.keys_table import KeysTable
from authorizer.pseudonyms import pseudonyms_of
from authorizer.refusal import KeysUnavailableError, TokenRefusedError
from openai_proxy.aws_answers import NoAnswerError
from openai_proxy.client_keys import hash_client_key, new_client_key, team_key
from openai_proxy.identity import pseudonym_of
from openai_proxy.key_context import ClientKey
from openai_proxy.key_refusals import TOKEN_REFUSALS

from tests.tables import Log

NOW = 1_795_426_200
KEY = new_client_key()
HASH = hash_client_key(KEY)
ITEM = {"key_hash": HASH, "client_id": "web-shop", "name": "Web shop", "enabled": True}
WHO = {"client_id": "web-shop", "key_id": HASH[:12]}
NOBODY = {"client_id": None, "key_id": None}
URL = "arn:aws:execute-api:eu-central-1:000000000000:function-url/url/POST/openai/v1/models"
REST = "arn:aws:execute-api:eu-central-1:123456789012:a1b2c3d4e5/dev/POST/x"
TOKEN = "eyJ.a.b"


class Desk:
    """An authorizer with a table of items, a log, and a judge of tokens that answers or raises."""

    def __init__(self, *items: dict[str, Any], user: ClientKey | Exception | None = None) -> None:
        self.items = {item["key_hash"]: item for item in items}
        self.log, self.user = Log(), user
        self.error: Exception | None = None
        logger: Any = self.log
        self.judge = Authorizer(self, logger, lambda: NOW, None if user is None else self.of_token)

    def find(self, key_hash: str) -> dict[str, Any] | None:
        if self.error:
            raise self.error
        return self.items.get(key_hash)

    def of_token(self, text: str) -> ClientKey:
        assert text == TOKEN
        if isinstance(self.user, ClientKey):
            return self.user
        raise self.user or AssertionError

    def ask(self, key: str | None = KEY, arn: Any = URL) -> dict[str, Any]:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return self.judge({"methodArn": arn, "headers": headers})


def refused(reason: str, **named: Any) -> dict[str, Any]:
    return {"level": "warning", "message": "A client was refused", "reason": reason, **named}


def denied(code: str, message: str) -> dict[str, Any]:
    statement = {"Action": "execute-api:Invoke", "Effect": "Deny", "Resource": "*"}
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    context = {"error_code": code, "error_message": message}
    return {"principalId": "nobody", "policyDocument": policy, "context": context}


CASES: list[tuple[list[dict[str, Any]], str | None, dict[str, Any]]] = [
    ([ITEM], None, refused("no well-formed client key", **NOBODY)),
    ([ITEM], "opx-short", refused("no well-formed client key", **NOBODY)),
    ([], KEY, refused("unknown client key", **NOBODY)),
    ([ITEM | {"enabled": False}], KEY, refused("disabled client key", **WHO)),
    ([{"key_hash": HASH, "enabled": False}], KEY, refused("disabled client key", **WHO | {"client_id": None})),
    ([ITEM | {"expires_at": NOW}], KEY, refused("expired client key", **WHO)),
    ([ITEM | {"expires_at": NOW - 1}], KEY, refused("expired client key", **WHO)),
]


@pytest.mark.parametrize("place", range(len(CASES)))
def test_a_key_that_is_not_good_is_refused_at_both_doors_and_named_in_the_log(place: int) -> None:
    items, key, line = CASES[place]
    desk = Desk(*items)
    assert desk.ask(key) == denied("invalid_api_key", "The client key is not valid.")
    with pytest.raises(Unauthorized, match=r"^Unauthorized$"):
        desk.ask(key, REST)
    assert desk.log.lines == [line, line]


def test_a_key_is_good_to_the_second_before_its_end() -> None:
    desk = Desk(ITEM | {"expires_at": NOW + 1})
    answer = desk.ask()
    [statement] = answer["policyDocument"]["Statement"]
    assert statement == {
        "Action": "execute-api:Invoke",
        "Effect": "Allow",
        "Resource": "arn:aws:execute-api:eu-central-1:000000000000:function-url/url/*/*",
    }
    assert (answer["principalId"], answer["context"]["expires_at"]) == ("web-shop", str(NOW + 1))
    assert desk.log.lines == []


def not_checked(reason: str) -> dict[str, Any]:
    return {"level": "error", "message": "A client key was not checked", "reason": reason}


@pytest.mark.parametrize("arn", [URL, REST])
def test_what_cannot_be_checked_is_an_error_at_both_doors(arn: str) -> None:
    desk = Desk(ITEM)
    desk.error = NoAnswerError("dynamodb:GetItem")
    with pytest.raises(NoAnswerError):
        desk.ask(arn=arn)
    assert desk.log.lines == [not_checked("NoAnswerError")]
    damaged = Desk({**ITEM, "rpm": "many"})
    with pytest.raises(DamagedKeyError) as raised:
        damaged.ask(arn=arn)
    line = {"level": "error", "message": "A client key is damaged", "problems": raised.value.problems, **WHO}
    assert damaged.log.lines == [line, not_checked("DamagedKeyError")]
    assert raised.value.problems
    assert "many" not in str(raised.value.problems)


def test_a_team_that_is_not_there_or_damaged_lets_nobody_in() -> None:
    desk = Desk(ITEM | {"team": "red"})
    with pytest.raises(UnknownTeamError, match=r"^There is no team 'red'\.$"):
        desk.ask()
    [line, last] = desk.log.lines
    assert {name: line[name] for name in line if name != "remedy"} == {
        "level": "error",
        "message": "A key names an unknown team",
        "team": "red",
        **WHO,
    }
    assert "openai-proxy teams create" in line["remedy"]
    assert last == not_checked("UnknownTeamError")
    damaged = Desk(ITEM | {"team": "red"}, {"key_hash": team_key("red"), "rpm": "many"})
    with pytest.raises(DamagedKeyError) as raised:
        damaged.ask()
    assert all(problem.startswith("team red: ") for problem in raised.value.problems)
    line = {"level": "error", "message": "A team is damaged", "problems": raised.value.problems, "team": "red", **WHO}
    assert damaged.log.lines == [line, not_checked("DamagedKeyError")]


@pytest.mark.parametrize("arn", [None, 5, "", "arn:aws:execute-api:eu-central-1:1:a/", f"x{REST}"])
def test_without_an_api_nobody_is_let_in(arn: Any) -> None:
    desk = Desk(ITEM)
    with pytest.raises(Exception, match=r"^methodArn is not the ARN of a method of an API$"):
        desk.ask(arn=arn)
    assert desk.log.lines == [not_checked("UnknownEventError")]


@pytest.mark.parametrize("code", TOKEN_REFUSALS)
@pytest.mark.parametrize("issuer", ["", "https://id.example.com"])
def test_a_token_that_is_refused_says_why_to_client_and_owner(code: str, issuer: str) -> None:
    desk = Desk(user=TokenRefusedError(code, issuer))
    for arn in (URL, REST):
        assert desk.ask(TOKEN, arn) == denied(code, TOKEN_REFUSALS[code])
    remedy = TokenRefusedError(code).remedy
    assert desk.log.lines == [refused(code, issuer=issuer or None, remedy=remedy)] * 2
    assert remedy.endswith(".")


def test_what_looks_like_a_token_is_judged_as_one_where_there_is_an_issuer() -> None:
    desk = Desk(ITEM, user=ClientKey("paying", key_id="0a", end_user="ada"))
    assert desk.ask(TOKEN)["principalId"] == "paying"
    assert desk.ask()["principalId"] == "web-shop"
    assert Desk(ITEM).ask(TOKEN) == denied("invalid_api_key", "The client key is not valid.")


def test_each_refusal_has_a_remedy_of_its_own() -> None:
    assert len({TokenRefusedError(code).remedy for code in TOKEN_REFUSALS}) == len(TOKEN_REFUSALS)


# ---------------------------------------------------------------------------------------------------------------- table


class Answers:
    """DynamoDB, or Secrets Manager, with one answer."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer, self.asked = answer, list[dict[str, Any]]()

    def get_item(self, **request: Any) -> dict[str, Any]:
        self.asked.append(request)
        return self.answer

    get_secret_value = get_item


PROVEN = {"ConsumedCapacity": {"TableName": "keys"}}


def test_the_table_is_asked_consistently_and_believed_when_it_proves_it() -> None:
    client: Any = Answers({**PROVEN, "Item": {"key_hash": {"S": "h"}, "rpm": {"N": "5"}}})
    assert KeysTable(client, "keys").find("h") == {"key_hash": "h", "rpm": 5}
    [request] = client.asked
    assert (request["TableName"], request["Key"], request["ConsistentRead"]) == ("keys", {"key_hash": {"S": "h"}}, True)
    nothing: Any = Answers(PROVEN)
    assert KeysTable(nothing, "keys").find("h") is None


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({}, "dynamodb:GetItem"),
        ({"Item": {"key_hash": {"S": "h"}}}, "dynamodb:GetItem"),
        ({**PROVEN, "Item": {"key_hash": {"S": "i"}}}, "dynamodb:GetItem: an item that was not asked for"),
        ({**PROVEN, "Item": {}}, "dynamodb:GetItem: an item that was not asked for"),
    ],
)
def test_an_answer_without_proof_or_of_another_key_is_none(answer: dict[str, Any], why: str) -> None:
    client: Any = Answers(answer)
    with pytest.raises(NoAnswerError) as raised:
        KeysTable(client, "keys").find("h")
    assert str(raised.value) == why


@pytest.mark.parametrize(
    ("secret", "name", "why"),
    [
        ("s" * 32, None, "pseudonyms need UserPseudonymsEnabled=true"),
        ("s" * 32, "", "pseudonyms need UserPseudonymsEnabled=true"),
        ("s" * 31, "id", "the secret of pseudonyms has less than 32 characters"),
        (None, "id", "the secret of pseudonyms has less than 32 characters"),
        (["s"] * 32, "id", "the secret of pseudonyms has less than 32 characters"),
    ],
)
def test_without_its_secret_nobody_has_a_pseudonym(secret: Any, name: str | None, why: str) -> None:
    client = Answers({} if secret is None else {"SecretString": secret})
    named = pseudonyms_of(lambda: client, name)
    for _ in range(2):
        with pytest.raises(KeysUnavailableError) as raised:
            named("issuer", "ada")
        assert str(raised.value) == why
    assert len(client.asked) == (2 if name else 0), "what is not there may be there the next time"


def test_the_secret_is_read_once() -> None:
    client = Answers({"SecretString": "s" * 32})
    named = pseudonyms_of(lambda: client, "id")
    assert named("issuer", "ada") == named("issuer", "ada") == pseudonym_of("s" * 32, "issuer", "ada")
    assert client.asked == [{"SecretId": "id"}]
