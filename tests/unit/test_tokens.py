"""Provider tokens: every form of reference, renewed in time, and clear to the owner when missing."""

import json
from typing import Any

import pytest
from openai_proxy.servers import Server, token_reference
from proxy.aws import AwsError
from proxy.errors import UnavailableError
from proxy.tokens import ProviderTokens


class FakeAws:
    """Secrets and parameters by name."""

    def __init__(self, secrets: dict[str, str], parameters: dict[str, str]) -> None:
        self.secrets, self.parameters = secrets, parameters
        self.asked = 0

    def get_secret(self, secret_id: str) -> str:
        self.asked += 1
        if secret_id not in self.secrets:
            raise AwsError("secretsmanager", "ResourceNotFoundException")
        return self.secrets[secret_id]

    def get_parameter(self, name: str) -> str:
        self.asked += 1
        return self.parameters[name]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


AWS = {"plain": "t-plain", "json": json.dumps({"a": "t-a"}), "stack": json.dumps({"STACK_KEY": "t-stack"}), "empty": ""}


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
        ("ssm:/p", "t-ssm"),
    ],
)
def test_a_token_is_found(reference: str, token: str) -> None:
    assert tokens().token_for(server(reference)) == token


@pytest.mark.parametrize(
    "reference",
    ["${NO_KEY}", "secretsmanager:none", "secretsmanager:json#b", "secretsmanager:plain#a", "secretsmanager:empty"],
)
def test_a_token_that_is_not_there(reference: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnavailableError) as error:
        tokens().token_for(server(reference))
    assert (error.value.status, error.value.code) == (503, "server_not_configured")
    line = json.loads(capsys.readouterr().out)
    assert (line["level"], line["server"]) == ("ERROR", "s")
    assert line["reason"]
    assert "t-" not in json.dumps(line).replace("resource-", "")


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
