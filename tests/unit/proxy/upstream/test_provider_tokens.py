"""Provider tokens: every form of reference, renewed in time, and clear to the owner when missing."""

import json
from typing import Any

import pytest
from openai_proxy.servers import Server, TokenReference, token_reference
from openai_proxy.servers.sign_in import Auth
from proxy.aws.client import NO_ANSWER, SECRET_IS_BINARY, UNREACHABLE, AwsError
from proxy.aws.sigv4 import Credentials
from proxy.errors import UnavailableError
from proxy.http.wire import Outgoing
from proxy.upstream.provider_tokens import UNAVAILABLE, ProviderTokens, TokenNotFoundError
from proxy.upstream.sign_in import signed_by_role


class FakeAws:
    """Secrets and parameters by name; every look-up fails with `failure`, if there is one."""

    def __init__(self, secrets: dict[str, str], parameters: dict[str, str]) -> None:
        self.secrets, self.parameters = secrets, parameters
        self.timeouts: list[float | None] = []
        self.failure: AwsError | None = None

    @property
    def asked(self) -> int:
        return len(self.timeouts)

    def get_secret(self, secret_id: str, timeout: float | None = None) -> str:
        return self._look_up(self.secrets, secret_id, "ResourceNotFoundException", timeout)

    def get_parameter(self, name: str, timeout: float | None = None) -> str:
        return self._look_up(self.parameters, name, "ParameterNotFound", timeout)

    def _look_up(self, where: dict[str, str], name: str, missing: str, timeout: float | None) -> str:
        self.timeouts.append(timeout)
        if self.failure:
            raise self.failure
        if name not in where:
            raise AwsError("secretsmanager", missing, status=400)
        return where[name]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


AWS = {
    "plain": "t-plain",
    "json": json.dumps({"a": "t-a"}),
    "stack": json.dumps({"STACK_KEY": "t-stack"}),
    "list": '["a"]',
    "odd": '{"null": null, "map": {}, "truth": true, "number": 12345678}',
    "deep": '{"a":' * 9_000,
    "empty": "",
    "accented": "t-é",
    "two lines": "t-a\nt-b",
}


def tokens(aws: Any = None, clock: Clock | None = None, secret: str | None = "stack") -> ProviderTokens:
    aws = aws or FakeAws(AWS, {"/p": "t-ssm"})
    return ProviderTokens(aws, {"LOCAL_KEY": "t-env"}, secret, ttl=300, clock=clock or Clock())


def server(token: str) -> Server:
    return Server("s", "https://x", token_reference(token), "")


@pytest.mark.parametrize(
    ("reference", "token"),
    [
        ("literal", "literal"),
        ("", ""),
        ("${LOCAL_KEY}", "t-env"),
        ("${STACK_KEY}", "t-stack"),
        ("secretsmanager:plain", "t-plain"),
        ("secretsmanager:json#a", "t-a"),
        ("secretsmanager:odd#number", "12345678"),
        ("ssm:/p", "t-ssm"),
    ],
)
def test_a_token_is_found(reference: str, token: str) -> None:
    assert tokens().token_for(server(reference)) == token


@pytest.mark.parametrize(
    "reference",
    [
        *("${NO_KEY}", "secretsmanager:none", "secretsmanager:json#b", "secretsmanager:plain#a"),
        *("secretsmanager:empty", "secretsmanager:accented", "secretsmanager:two lines", "ssm:/none"),
    ],
)
def test_a_token_that_is_not_there(reference: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnavailableError) as error:
        tokens().token_for(server(reference))
    assert (error.value.status, error.value.code) == (503, "server_not_configured")
    line = json.loads(capsys.readouterr().out)
    assert (line["level"], line["server"], line["message"], line["cause"]) == ("ERROR", "s", UNAVAILABLE, "not_set_up")
    assert line["reason"]
    assert "t-" not in json.dumps(line).replace("resource-", "")


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("${NO_KEY}", 'the secret stack has no text under the key "NO_KEY": add it'),
        ("secretsmanager:json#b", 'the secret json has no text under the key "b": add it'),
        ("secretsmanager:deep#a", 'the secret deep has no text under the key "a": add it'),
        ("secretsmanager:list#a", 'the secret list has no text under the key "a": add it'),
        ("secretsmanager:odd#null", 'the secret odd has no text under the key "null": add it'),
        ("secretsmanager:odd#map", 'the secret odd has no text under the key "map": add it'),
        ("secretsmanager:odd#truth", 'the secret odd has no text under the key "truth": add it'),
        ("secretsmanager:plain#a", 'the secret plain has no text under the key "a": add it'),
        (
            "secretsmanager:empty",
            "TokenReference(secretsmanager:empty) is empty, or holds characters that no HTTP header can carry",
        ),
        (
            "secretsmanager:none",
            "TokenReference(secretsmanager:none) cannot be found: secretsmanager: ResourceNotFoundException",
        ),
        ("ssm:/none", "TokenReference(ssm:/none) cannot be found: secretsmanager: ParameterNotFound"),
    ],
)
def test_the_owner_is_told_the_remedy_and_the_client_who_has_to_find_it(
    reference: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UnavailableError) as error:
        tokens().token_for(server(reference))
    assert error.value.message == "The proxy's owner has not set up a token for the server 's'."
    line = json.loads(capsys.readouterr().out)
    told = {name: line[name] for name in ("level", "message", "server", "cause", "reason", "still_used")}
    assert told == {
        "level": "ERROR",
        "message": "A server's token is unavailable",
        "server": "s",
        "cause": "not_set_up",
        "reason": reason,
        "still_used": False,
    }


@pytest.mark.parametrize(
    "code",
    [
        *("ResourceNotFoundException", "ParameterNotFound", "ParameterVersionNotFound"),
        *("InvalidRequestException", SECRET_IS_BINARY),
    ],
)
def test_a_service_that_says_for_sure_that_there_is_none_is_asked_again_every_ten_seconds(code: str) -> None:
    aws, clock = FakeAws(AWS, {}), Clock()
    found, one = tokens(aws, clock), server("secretsmanager:plain")
    aws.failure = AwsError("secretsmanager", code, status=400)
    for now, asked in ((0.0, 1), (9.9, 1), (10.0, 2), (19.9, 2), (20.0, 3)):
        clock.now = now
        with pytest.raises(UnavailableError) as error:
            found.token_for(one)
        assert (error.value.code, error.value.headers, aws.asked) == ("server_not_configured", {}, asked)
    aws.failure, clock.now = AwsError("secretsmanager", "ThrottlingException", status=400), 30.0
    with pytest.raises(UnavailableError) as error:
        found.token_for(one)
    assert error.value.code == "token_unavailable"
    assert error.value.message == "The token of the server 's' cannot be read at the moment."
    aws.failure, clock.now = None, 31.0
    assert found.token_for(one) == "t-plain"


def test_a_token_of_the_environment_goes_before_that_of_the_secret_and_asks_nobody() -> None:
    aws = FakeAws({"stack": json.dumps({"LOCAL_KEY": "t-stack"})}, {})
    assert tokens(aws).token_for(server("${LOCAL_KEY}")) == "t-env"
    assert aws.asked == 0


def test_without_a_stack_secret_what_is_not_in_the_environment_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnavailableError):
        tokens(secret=None).token_for(server("${STACK_KEY}"))
    assert json.loads(capsys.readouterr().out)["reason"] == "the environment variable STACK_KEY is not set"


def test_those_of_a_sandbox_are_made_of_its_environment() -> None:
    services: Any = FakeAws(AWS, {})
    environ = {"LOCAL_KEY": "t-env", "PROVIDER_TOKENS_SECRET": "stack"}
    found = ProviderTokens.from_environ(services, environ)
    assert (found.find(server("${LOCAL_KEY}")), found.find(server("${STACK_KEY}"))) == ("t-env", "t-stack")


def test_without_a_stack_secret_the_environment_is_all_there_is() -> None:
    with pytest.raises(UnavailableError):
        tokens(secret=None).token_for(server("${STACK_KEY}"))


def test_a_rotated_token_is_picked_up() -> None:
    aws, clock = FakeAws({"plain": "old"}, {}), Clock()
    found = tokens(aws, clock)
    assert found.token_for(server("secretsmanager:plain")) == "old"
    aws.secrets["plain"] = "new"
    for now, token, asked in ((299, "old", 1), (300, "new", 2)):
        clock.now = now
        assert found.token_for(server("secretsmanager:plain")) == token
        assert aws.asked == asked
    found.forget()
    found.token_for(server("secretsmanager:plain"))
    assert aws.asked == 3


FAULTS = [
    AwsError("secretsmanager", code, status=status)
    for code, status in [
        ("ThrottlingException", 400),
        ("InternalServiceError", 500),
        ("AccessDeniedException", 400),
        ("ExpiredTokenException", 400),
        ("HTTP 400", 400),
        ("HTTP 503", 503),
        (UNREACHABLE, 0),
        (NO_ANSWER, 0),
    ]
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.code)
@pytest.mark.parametrize("reference", ["secretsmanager:plain", "secretsmanager:json#a", "ssm:/p", "${STACK_KEY}"])
def test_a_token_that_cannot_be_read_now_is_another_fault_than_one_that_is_not_set_up(
    fault: AwsError, reference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    aws, clock = FakeAws(AWS, {"/p": "t-ssm"}), Clock()
    found = tokens(aws, clock)
    aws.failure = fault
    for _ in range(3):  # nobody makes the proxy ask and ask
        with pytest.raises(UnavailableError) as error:
            found.token_for(server(reference))
        assert (error.value.status, error.value.code) == (503, "token_unavailable")
        assert error.value.headers == {"retry-after": "1"}
    assert aws.asked == 1
    line = json.loads(capsys.readouterr().out)
    assert (line["level"], line["message"], line["cause"]) == ("ERROR", UNAVAILABLE, "not_readable")
    aws.failure, clock.now = None, 1.0
    assert found.token_for(server(reference)).startswith("t-")


def test_what_cannot_be_read_is_asked_for_less_and_less_often() -> None:
    aws, clock = FakeAws(AWS, {}), Clock()
    found = tokens(aws, clock)
    aws.failure = FAULTS[0]
    asked: list[float] = []
    for second in range(60):
        clock.now = float(second)
        before = aws.asked
        with pytest.raises(UnavailableError) as error:
            found.token_for(server("secretsmanager:plain"))
        if aws.asked > before:
            asked.append(clock.now)
        assert clock.now + float(error.value.headers["retry-after"]) <= asked[-1] + 8
    assert asked == [0, 1, 3, 7, 15, 23, 31, 39, 47, 55]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.code)
def test_a_known_token_is_used_for_as_long_as_it_cannot_be_renewed(
    fault: AwsError, capsys: pytest.CaptureFixture[str]
) -> None:
    aws, clock = FakeAws({"plain": "old"}, {}), Clock()
    found = tokens(aws, clock)
    found.token_for(server("secretsmanager:plain"))
    aws.failure, asked = fault, list[float]()
    for second in range(300, 4000, 5):
        clock.now, before = float(second), aws.asked
        assert found.token_for(server("secretsmanager:plain")) == "old"
        if aws.asked > before:
            asked.append(clock.now)
    assert asked[:6] == [300, 310, 330, 370, 430, 490]
    assert set(aws.timeouts[1:]) == {1.0}, "a request waits for a new token no longer than a moment"
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == len(asked)
    assert {(line["level"], line["cause"], line["still_used"]) for line in lines} == {("WARN", "not_readable", True)}
    aws.failure, aws.secrets["plain"], clock.now = None, "new", 4100.0
    assert found.token_for(server("secretsmanager:plain")) == "new"


def test_a_known_token_that_is_deleted_is_no_more() -> None:
    aws, clock = FakeAws({"plain": "old"}, {}), Clock()
    found = tokens(aws, clock)
    found.token_for(server("secretsmanager:plain"))
    del aws.secrets["plain"]
    clock.now = 300.0
    with pytest.raises(UnavailableError) as error:
        found.token_for(server("secretsmanager:plain"))
    assert error.value.code == "server_not_configured"


def test_a_token_that_a_server_refuses_is_read_again_at_once_and_not_all_the_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    aws, clock = FakeAws({"plain": "old"}, {}), Clock()
    found, one = tokens(aws, clock), server("secretsmanager:plain")
    assert found.token_for(one) == "old"
    for second, asked in ((1.0, 2), (2.0, 2), (10.9, 2), (11.0, 3)):
        clock.now = second
        assert found.changed(one, "old") is None
        assert aws.asked == asked
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    told = (UNAVAILABLE, "refused", "the server refuses it, and there is no other one: set a new one", "ERROR")
    assert [(line["message"], line["cause"], line["reason"], line["level"]) for line in lines] == [told] * 2
    aws.secrets["plain"], clock.now = "new", 21.0
    assert found.changed(one, "old") == "new"
    assert found.token_for(one) == "new"
    assert found.changed(one, "old") == "new", "another request had the old one too"
    assert aws.asked == 4


def test_what_is_forgotten_may_be_read_again_at_once() -> None:
    aws = FakeAws({"plain": "old"}, {})
    found, one = tokens(aws), server("secretsmanager:plain")
    assert (found.changed(one, "old"), aws.asked) == (None, 1)
    found.forget()
    aws.secrets["plain"] = "new"
    assert (found.changed(one, "old"), aws.asked) == ("new", 2)


def test_a_token_that_stands_in_the_servers_file_is_never_another_one() -> None:
    assert tokens().changed(server("literal"), "literal") is None


def test_a_refused_token_that_cannot_be_read_again_stays() -> None:
    aws = FakeAws({"plain": "old"}, {})
    found, one = tokens(aws), server("secretsmanager:plain")
    found.token_for(one)
    aws.failure = FAULTS[0]
    assert found.changed(one, "old") is None
    assert found.token_for(one) == "old"


@pytest.mark.parametrize(
    ("value", "service", "is_set_up"),
    [
        ("true", "bedrock", True),
        ("true", "bedrock-runtime", True),
        ("false", "bedrock", False),
        ("", "bedrock", False),
        (None, "bedrock-runtime", False),
        (None, "execute-api", True),
    ],
)
def test_bedrock_is_called_where_the_stack_says_so(value: str | None, service: str, is_set_up: bool) -> None:
    class Role:
        def credentials(self) -> Credentials:
            return Credentials("a", "s", "session")

    aws: Any = Role()
    tokens = ProviderTokens(aws, {} if value is None else {"BEDROCK_ENABLED": value}, None)
    server = Server(
        "s", "https://s", TokenReference("literal", ""), "m", auth=Auth(service=service, region="eu-west-1")
    )
    if is_set_up:
        assert tokens.find(server) == "session"
    else:
        with pytest.raises(TokenNotFoundError, match="BedrockEnabled"):
            tokens.find(server)


def test_a_client_waits_a_second_for_a_role_that_cannot_be_had() -> None:
    class Nobody:
        def credentials(self) -> Credentials:
            raise FAULTS[0]

    aws: Any = Nobody()
    server = Server("s", "https://s", TokenReference("literal", ""), "m", auth=Auth(service="s3", region="eu-west-1"))
    with pytest.raises(UnavailableError) as error:
        ProviderTokens(aws, {}, None).token_for(server)
    assert (error.value.code, error.value.headers) == ("token_unavailable", {"retry-after": "1"})


def test_a_token_is_good_for_five_minutes_where_nothing_else_is_said() -> None:
    now, aws = [0.0], FakeAws({"plain": "one"}, {})
    services: Any = aws
    found = ProviderTokens(services, {}, None, clock=lambda: now[0])
    for moment, asked in ((0.0, 1), (299.0, 1), (299.9, 1), (300.0, 2)):
        now[0] = moment
        assert (found.find(server("secretsmanager:plain")), aws.asked) == ("one", asked)


def test_what_aws_is_sent_is_what_was_there_and_the_signature() -> None:
    auth = Auth(service="bedrock", region="eu-west-1")
    server = Server("s", "https://s", TokenReference("literal", ""), "m", headers={"x-own": "1"}, auth=auth)
    outgoing = Outgoing("POST", "https://s/v1/x", {"accept": "a", "content-type": "b"}, b"{}")
    signed = signed_by_role(server, outgoing, Credentials("key", "s", "session"))
    added = {"authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"}
    assert signed.keys() - added == {"accept", "content-type", "x-own"}
    assert signed["authorization"].startswith("AWS4-HMAC-SHA256 Credential=key/")
    assert signed["x-amz-security-token"] == "session"
