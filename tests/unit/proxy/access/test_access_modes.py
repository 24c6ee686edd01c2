"""The two switches beside the authorizer: open to all, and a server's own token as a key for it."""

from typing import Any

import pytest
from openai_proxy.key_context import ClientKey
from openai_proxy.servers import parse_servers
from proxy.access.modes import ANONYMOUS, Open, WithProviderTokens
from proxy.aws.client import AwsError
from proxy.errors import ClientError, UnavailableError
from proxy.request.parse import InferenceRequest
from proxy.upstream.provider_tokens import ProviderTokens

TOKEN = "provider-token-0123456789"
SERVERS = parse_servers(
    "up: {url: 'https://up.example/v1', token: '${UP}', model: m}\n"
    "other: {url: 'https://other.example/v1', token: '${OTHER}', model: m}\n"
    "short: {url: 'https://short.example/v1', token: '${SHORT}', model: m}\n"
    f"literal: {{url: 'http://127.0.0.1:1/v1', token: {TOKEN}, model: m}}\n"
    "secret: {url: 'https://secret.example/v1', token: 'secretsmanager:openai-proxy/x', model: m}\n"
)


class FakeAuthorizer:
    """Refuses everybody, and counts."""

    def __init__(self) -> None:
        self.asked = 0

    def authorize(self, request: InferenceRequest) -> ClientKey:
        self.asked += 1
        raise ClientError(401, "invalid_api_key", "no")

    def forget(self) -> None:
        self.asked = 0


class FakeAws:
    """Holds no secret, and counts who asks."""

    def __init__(self) -> None:
        self.asked = 0
        self.failure = AwsError("secretsmanager", "ResourceNotFoundException", status=400)

    def get_secret(self, secret_id: str, timeout: float | None = None) -> str:
        self.asked += 1
        raise self.failure


def request(path: str, authorization: str | None, identity: dict[str, Any] | None = None) -> InferenceRequest:
    headers = {} if authorization is None else {"authorization": authorization}
    return InferenceRequest("function_url", "POST", path, "", headers, b"", identity)


def door() -> tuple[WithProviderTokens, FakeAuthorizer, FakeAws]:
    authorizer: Any = FakeAuthorizer()
    aws: Any = FakeAws()
    environment = {"UP": TOKEN, "OTHER": TOKEN[::-1], "SHORT": "short"}
    return WithProviderTokens(authorizer, SERVERS, ProviderTokens(aws, environment, None)), authorizer, aws


@pytest.mark.parametrize("authorization", [f"Bearer {TOKEN}", f"bearer  {TOKEN} "])
def test_the_token_of_a_server_is_a_key_for_that_server(authorization: str) -> None:
    keeper, authorizer, _ = door()
    key = keeper.authorize(request("/up/v1/chat/completions", authorization))
    assert (key.client_id, key.servers, key.limits) == ("token.up", ("up",), None)
    assert not key.may_use(SERVERS["other"])
    assert authorizer.asked == 0


@pytest.mark.parametrize(
    ("path", "authorization", "identity"),
    [
        ("/other/v1/chat/completions", f"Bearer {TOKEN}", None),
        ("/v1/chat/completions", f"Bearer {TOKEN}", None),
        ("/nowhere/v1/chat/completions", f"Bearer {TOKEN}", None),
        ("/up/v2/chat", f"Bearer {TOKEN}", None),
        ("/up/v1/chat/completions", f"Basic {TOKEN}", None),
        ("/up/v1/chat/completions", f"Bearer {TOKEN}x", None),
        ("/up/v1/chat/completions", f"Bearer {TOKEN[:-1]}", None),
        ("/up/v1/chat/completions", "Bearer ", None),
        ("/up/v1/chat/completions", None, None),
        ("/up/v1/chat/completions", f"Bearer {TOKEN[:-1]}\ud800", None),
        ("/short/v1/chat/completions", "Bearer short", None),
        ("/literal/v1/chat/completions", f"Bearer {TOKEN}", None),
        ("/secret/v1/chat/completions", f"Bearer {TOKEN}", None),
        ("/up/v1/chat/completions", f"Bearer {TOKEN}", {"client_id": "from-the-gateway"}),
    ],
)
def test_everything_else_is_the_authorizers_to_judge(
    path: str, authorization: str | None, identity: dict[str, Any] | None
) -> None:
    keeper, authorizer, _ = door()
    with pytest.raises(ClientError):
        keeper.authorize(request(path, authorization, identity))
    assert authorizer.asked == 1


@pytest.mark.parametrize("header", ["x-api-key", "api-key"])
def test_other_sdks_send_a_token_in_headers_of_their_own(header: str) -> None:
    keeper, _, _ = door()
    sent = InferenceRequest("function_url", "POST", "/up/v1/chat/completions", "", {header: TOKEN}, b"", None)
    assert keeper.authorize(sent).client_id == "token.up"


def test_a_client_key_makes_nobody_look_a_token_up() -> None:
    keeper, authorizer, aws = door()
    with pytest.raises(ClientError):
        keeper.authorize(request("/secret/v1/x", "Bearer opx-" + "a" * 49))
    assert (authorizer.asked, aws.asked) == (1, 0)


def test_without_authorization_everybody_is_the_same_client() -> None:
    assert Open().authorize(request("/up/v1/x", None)) == ANONYMOUS
    assert ANONYMOUS.may_use(SERVERS["up"])


def test_a_token_that_cannot_be_read_now_is_not_called_a_wrong_key() -> None:
    keeper, authorizer, aws = door()
    aws.failure = AwsError("secretsmanager", "InternalServiceError", status=500)
    with pytest.raises(UnavailableError) as error:
        keeper.authorize(request("/secret/v1/chat/completions", f"Bearer {TOKEN}"))
    assert error.value.code == "authorization_unavailable"
    with pytest.raises(ClientError):
        keeper.authorize(request("/secret/v1/chat/completions", "Bearer opx-0123456789abcdefghij"))
    assert (authorizer.asked, aws.asked) == (1, 1)


@pytest.mark.parametrize(("length", "is_key"), [(20, True), (19, False)])
def test_a_token_that_could_be_guessed_is_no_key(length: int, is_key: bool) -> None:
    servers = parse_servers("up: {url: 'http://127.0.0.1:1/v1', token: '${UP}', model: m}")
    authorizer, token = FakeAuthorizer(), TOKEN[:length]
    aws: Any = FakeAws()
    judging: Any = authorizer
    keeper = WithProviderTokens(judging, servers, ProviderTokens(aws, {"UP": token}, None))
    asked = request("/up/v1/chat/completions", f"Bearer {token}")
    if is_key:
        assert keeper.authorize(asked) == ClientKey("token.up", servers=("up",), name="Provider token")
    else:
        with pytest.raises(ClientError):
            keeper.authorize(asked)
    assert authorizer.asked == (not is_key)


def test_what_the_authorizer_said_is_forgotten_with_these_tokens_too() -> None:
    """After a SnapStart restore nobody knows how old its answers are."""
    keeper, authorizer, _ = door()
    with pytest.raises(ClientError):
        keeper.authorize(request("/other/v1/x", f"Bearer {TOKEN}"))
    assert authorizer.asked == 1
    keeper.forget()
    assert authorizer.asked == 0, "it has forgotten"
