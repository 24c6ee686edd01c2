"""The authorizer function asked and remembered; identity fails closed."""

import json
from typing import Any

import pytest
from openai_proxy.key_refusals import TOKEN_REFUSALS
from proxy.access.authenticator import Authorizer, AuthorizerFunction, ClientKey, authorizer_event
from proxy.aws.client import AwsError
from proxy.errors import ClientError, ProxyError, UnavailableError
from proxy.request.parse import InferenceRequest

from tests.fakes import refused_key

POLICY = {"Statement": [{"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}]}
CONTEXT = {"client_id": "team-a", "client_name": "Team A", "servers": "openai,ollama", "models": ""}


def request(authorization: str | None = "Bearer k", identity: dict[str, Any] | None = None) -> InferenceRequest:
    headers = {"authorization": authorization} if authorization else {}
    return InferenceRequest("function_url", "POST", "/openai/v1/x", "", headers, b"", identity)


class FakeFunction:
    """The authorizer function: answers alike until told otherwise."""

    def __init__(self, answer: object, failed: bool = False, error: Exception | None = None) -> None:
        self.answer, self.failed, self.error = answer, failed, error
        self.asked: list[dict[str, Any]] = []

    def __call__(self, function: str, payload: bytes) -> tuple[bytes, bool]:
        assert function == "authorizer"
        self.asked.append(json.loads(payload))
        if self.error:
            raise self.error
        return (self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()), self.failed


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def authorizer(function: FakeFunction, clock: Clock | None = None) -> Authorizer:
    return Authorizer(AuthorizerFunction(function, "authorizer", "eu-central-1"), ttl=60, clock=clock or Clock())


def test_a_key_is_asked_for_as_api_gateway_would_ask() -> None:
    function = FakeFunction({"policyDocument": POLICY, "context": CONTEXT})
    assert authorizer(function).authorize(request()) == ClientKey("team-a", ("openai", "ollama"), None, name="Team A")
    [event] = function.asked
    assert (event["type"], event["headers"]) == ("REQUEST", {"Authorization": "Bearer k"})
    assert event["methodArn"] == "arn:aws:execute-api:eu-central-1:000000000000:function-url/url/POST/openai/v1/x"


def test_a_yes_is_remembered_for_its_time_and_per_key() -> None:
    function, clock = FakeFunction({"policyDocument": POLICY, "context": CONTEXT}), Clock()
    keys = authorizer(function, clock)
    for now, asked in ((0, 1), (59, 1), (60, 2)):
        clock.now = now
        keys.authorize(request())
        assert len(function.asked) == asked
    keys.authorize(request("Bearer other"))
    assert len(function.asked) == 3
    keys.forget()
    keys.authorize(request())
    assert len(function.asked) == 4


def test_the_authorizer_is_asked_as_api_gateway_asks_and_told_of_the_key_alone() -> None:
    headers = {"x-api-key": "k", "cookie": "not for it"}
    sent = InferenceRequest("function_url", "PATCH", "/openai/v1/x", "a=secret", headers, b"nor this", None)
    assert authorizer_event(sent, "k", "eu-west-1") == {
        "type": "REQUEST",
        "methodArn": "arn:aws:execute-api:eu-west-1:000000000000:function-url/url/PATCH/openai/v1/x",
        "resource": "/{proxy+}",
        "path": "/openai/v1/x",
        "httpMethod": "PATCH",
        "headers": {"Authorization": "Bearer k"},
        "queryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {
            "path": "/openai/v1/x",
            "httpMethod": "PATCH",
            "stage": "url",
            "apiId": "function-url",
        },
    }


def test_a_key_is_the_same_in_every_header_and_a_yes_is_for_it_alone() -> None:
    function = FakeFunction({"policyDocument": POLICY, "context": CONTEXT})
    keys = authorizer(function)

    def ask(headers: dict[str, str]) -> None:
        keys.authorize(InferenceRequest("function_url", "POST", "/openai/v1/x", "", headers, b"", None))

    for headers in ({"authorization": "Bearer k"}, {"x-api-key": "k"}, {"api-key": "k", "authorization": ""}):
        ask(headers)
    assert len(function.asked) == 1
    ask({"x-api-key": "k", "authorization": "Bearer other"})
    ask({"x-api-key": "another"})
    assert [event["headers"] for event in function.asked] == [
        {"Authorization": "Bearer k"},
        {"Authorization": "Bearer other"},
        {"Authorization": "Bearer another"},
    ]
    for unclear in ({"x-api-key": "k", "api-key": "other"}, {"authorization": "Basic k"}, {"x-api-key": " "}):
        with pytest.raises(ClientError) as refused:
            ask(unclear)
        assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")
    assert len(function.asked) == 3


USER = CONTEXT | {"end_user": "ada", "expires_at": "1000", "key_id": "a" * 32, "limits_id": "a" * 32}


def test_a_token_is_remembered_until_it_ends_and_the_authorizer_says_what_then() -> None:
    function, clock, now = FakeFunction({"policyDocument": POLICY, "context": USER}), Clock(), Clock()
    keys = Authorizer(AuthorizerFunction(function, "authorizer", "eu-central-1"), ttl=60, clock=clock, now=now)
    for moment, asked in ((950, 1), (999, 1), (1000, 2), (1001, 3)):
        now.now = moment
        assert keys.authorize(request("Bearer a.b.c")).end_user == "ada"
        assert len(function.asked) == asked
    assert keys.authorize(request(identity=USER)).end_user == "ada"  # API Gateway has just asked
    function.answer = denied("token_expired")
    with pytest.raises(ClientError) as refused:
        keys.authorize(request("Bearer a.b.c"))
    assert (refused.value.status, refused.value.code) == (401, "token_expired")


def denied(code: object) -> dict[str, Any]:
    return {"policyDocument": {"Statement": [{"Effect": "Deny"}]}, "context": {"error_code": code}}


@pytest.mark.parametrize("code", TOKEN_REFUSALS)
def test_a_refused_token_is_told_why_and_that_is_never_remembered(code: str) -> None:
    function = FakeFunction(denied(code))
    told = refusal(function)
    assert (told.status, told.code, told.message) == (401, code, TOKEN_REFUSALS[code])
    assert told.to_object()["error"]["type"] == "authentication_error"
    assert len(function.asked) == 2


@pytest.mark.parametrize("answer", [denied("made_up"), denied(None), denied(["x"]), {**denied("x"), "context": None}])
def test_a_refusal_that_is_not_understood_is_no_refusal_and_no_leave(answer: dict[str, Any]) -> None:
    told = refusal(FakeFunction(answer))
    assert (told.status, told.code) == (503, "authorization_unavailable")


def test_a_thousand_keys_are_remembered_and_who_was_asked_about_longest_ago_is_forgotten_first() -> None:
    function, clock = FakeFunction({"policyDocument": POLICY, "context": CONTEXT}), Clock()
    keys = authorizer(function, clock)

    def asks(*numbers: int) -> int:
        before = len(function.asked)
        for number in numbers:
            keys.authorize(request(f"Bearer {number}"))
        return len(function.asked) - before

    assert asks(*range(1000)) == 1000
    assert asks(*range(1000)) == 0
    clock.now = 60
    assert asks(0, 1000) == 2
    assert asks(0, 1000) == 0


@pytest.mark.parametrize("at_gateway", [True, False])
def test_a_key_ends_at_the_second_that_it_names_wherever_its_yes_comes_from(at_gateway: bool) -> None:
    context = CONTEXT | {"expires_at": "1000"}
    function, now = FakeFunction({"policyDocument": POLICY, "context": context}), [999.0]
    asked = AuthorizerFunction(function, "authorizer", "eu-central-1")
    keys = Authorizer(asked, ttl=60, clock=Clock(), now=lambda: now[0])
    sent = request(identity=context if at_gateway else None)
    assert [keys.authorize(sent).expires_at for _ in range(2)] == [1000, 1000]
    now[0] = 1000.0
    with pytest.raises(ClientError):
        keys.authorize(sent)


def test_a_gateway_that_has_asked_already_is_believed() -> None:
    function = FakeFunction({})
    assert authorizer(function).authorize(request(identity=CONTEXT)).client_id == "team-a"
    assert function.asked == []


@pytest.mark.parametrize("identity", [{}, {"principalId": "x"}])
def test_a_gateway_without_an_authorizer_is_not_believed(identity: dict[str, Any]) -> None:
    with pytest.raises(ClientError) as refused:
        authorizer(FakeFunction({})).authorize(request(None, identity))
    assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")


def refusal(function: FakeFunction) -> ProxyError:
    keys = authorizer(function)
    for asked in (1, 2):  # a no is never remembered
        with pytest.raises(ProxyError) as refused:
            keys.authorize(request())
        assert len(function.asked) == asked
    return refused.value


def test_who_sends_no_key_is_told_so_and_nobody_is_asked() -> None:
    function = FakeFunction({"policyDocument": POLICY, "context": CONTEXT})
    for sent in (None, "", " "):
        with pytest.raises(ClientError) as refused:
            authorizer(function).authorize(request(sent))
        said = "No client key. Send it as 'Authorization: Bearer <key>', in an SDK as its API key."
        assert (refused.value.status, refused.value.code, str(refused.value)) == (401, "invalid_api_key", said)
    assert function.asked == []


def test_a_wrong_key_is_refused() -> None:
    error = refusal(FakeFunction(refused_key()))
    assert (error.status, error.code, error.type) == (401, "invalid_api_key", "authentication_error")


@pytest.mark.parametrize(
    "function",
    [
        FakeFunction({"errorMessage": "timed out"}, failed=True),
        FakeFunction(refused_key(), failed=True),
        FakeFunction({}, error=AwsError("lambda", "TooManyRequestsException")),
        FakeFunction({}),
        FakeFunction(b"not json"),
        FakeFunction(b""),
        FakeFunction(b"[" * 100_000),
        FakeFunction(b"<html>"),
        FakeFunction({"errorMessage": "Unauthorized"}),
        FakeFunction({"policyDocument": POLICY}),
        FakeFunction({"policyDocument": POLICY, "context": None}),
        FakeFunction({"policyDocument": POLICY, "context": {"client_id": ""}}),
        *(
            FakeFunction({"policyDocument": POLICY, "context": {**CONTEXT, name: value}})
            for name in ("client_id", "client_name", "key_id", "servers", "models", "rpm", "budget_day", "tags")
            for value in (7, True, ["x"], {"x": "y"})
        ),
        FakeFunction([]),
        FakeFunction(None),
        FakeFunction({"policyDocument": {"Statement": []}}),
        FakeFunction({"policyDocument": {"Statement": [{"Effect": "Allow"}, {"Effect": "Allow"}]}, "context": CONTEXT}),
        FakeFunction({"policyDocument": {"Statement": {"Effect": "Allow"}}, "context": CONTEXT}),
        FakeFunction({"policyDocument": POLICY, "context": {}}),
        FakeFunction({"policyDocument": {"Statement": [{"Effect": "Deny"}]}, "context": CONTEXT}),
    ],
)
def test_an_identity_that_cannot_be_checked_is_unavailable_and_not_wrong(function: FakeFunction) -> None:
    error = refusal(function)
    assert isinstance(error, UnavailableError)
    assert (error.status, error.code, error.headers) == (503, "authorization_unavailable", {"retry-after": "5"})
