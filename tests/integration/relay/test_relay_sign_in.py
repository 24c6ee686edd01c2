"""Servers that want another sign-in than a bearer token: a Bedrock that verifies signatures, an Azure, a gateway."""

import json
from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st
from proxy.upstream.attempts import Attempts
from proxy.upstream.breaker import Breakers
from proxy.upstream.provider_tokens import ProviderTokens

from tests.fakes import Connection, Received, Script, ScriptedServer
from tests.relays import CONTENT, DONE, ROLE, TOKEN, USAGE, USAGE_CHUNK, Proxy, error_of, scripted_proxy, streaming

ANSWER = json.dumps({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": USAGE}).encode()
SERVERS = """
bedrock: {url: 'URL/openai/v1', auth: {aws: bedrock, region: eu-west-1}, model: amazon.nova, retries: 0}
azure: {url: 'URL/openai/deployments/gpt', auth: {header: api-key}, token: azure-token, model: '', retries: 0,
  query: {api-version: 2025-04-01-preview}}
router: {url: 'URL/v1', token: router-token, model: m, retries: 0, headers: {HTTP-Referer: 'https://app.example',
  accept: application/json, idempotency-key: fixed}}
"""


def signature_of(request: Received, region: str = "eu-west-1", service: str = "bedrock") -> str:
    """The signature that AWS expects of `request`, made by botocore from what arrived."""
    names = request.headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    sent: Any = AWSRequest(
        request.method, f"http://{request.headers['host']}{request.target}", data=request.body,
        headers={name: request.headers[name] for name in names if name != "host"},
    )  # fmt: skip
    sent.context["timestamp"] = request.headers["x-amz-date"]
    theirs: Any = SigV4Auth(BotocoreCredentials(*ROLE), service, region)
    return theirs.signature(theirs.string_to_sign(sent, theirs.canonical_request(sent)), sent)


def verifying(answer: Script) -> Script:
    """A Bedrock: it tells, as AWS does, what it would have signed."""

    def script(connection: Connection, request: Received) -> None:
        said = request.headers.get("authorization", "")
        if f"/{datetime.now(UTC):%Y%m%d}/eu-west-1/bedrock/aws4_request, " not in said:
            connection.answer(b'{"message": "Missing Authentication Token"}', "403 Forbidden")
        elif not said.endswith(f"Signature={signature_of(request)}"):
            body = f"The signature does not match: {dict(request.headers)}"
            connection.answer(json.dumps({"message": body}).encode(), "403 Forbidden")
        else:
            answer(connection, request)

    return script


def answering(connection: Connection, _: Received) -> None:
    connection.answer(ANSWER)


def test_a_stream_of_a_server_that_verifies_signatures() -> None:
    with scripted_proxy(verifying(streaming(*CONTENT, USAGE_CHUNK, DONE)), SERVERS) as (relay, server):
        response = relay.call({"stream": True, "messages": []}, path="/bedrock/v1/chat/completions")
    assert (response.status, response.body[-len(DONE) :]) == (200, DONE)
    [request] = server.received
    assert request.target == "/openai/v1/chat/completions"
    assert request.headers["x-amz-security-token"] == ROLE.session_token
    assert relay.event[1]["usage"]["input_tokens"] == USAGE["prompt_tokens"]


@given(
    method=st.sampled_from(["GET", "POST", "DELETE"]),
    path=st.lists(st.text("aZ0-_~:é +%;=@!$&'()*,", min_size=1, max_size=8), min_size=1, max_size=3),
    query=st.text("aZ0&=%2F+ /?:é", max_size=20),
    text=st.text(max_size=40) | st.integers(0, 100_000).map("x".__mul__),
    content_type=st.sampled_from(["application/json", "application/json;  charset=utf-8", ""]),
)
def test_whatever_a_client_asks_is_signed_as_aws_would(
    signer: tuple[Proxy, ScriptedServer], method: str, path: list[str], query: str, text: str, content_type: str
) -> None:
    relay, server = signer
    relay.bus.details.clear()
    server.received.clear()
    headers = {"content-type": content_type} if content_type else {}
    body: dict[str, Any] = {"model": "m", "messages": [], "text": text}
    target = "/bedrock/v1/" + "/".join(["files", *path]).replace("%", "%25")
    response = relay.call(body, path=target, method=method, query=query, headers=headers)
    assert response.status == (200 if server.received else 404)  # 404: a path that leads out of the API


@pytest.fixture(scope="module")
def signer() -> Generator[tuple[Proxy, ScriptedServer]]:
    with scripted_proxy(verifying(answering), SERVERS) as pair:
        yield pair


def test_the_roles_session_is_kept_out_of_what_a_server_says() -> None:
    def refusing(connection: Connection, request: Received) -> None:
        said = {"message": f"Canonical string: {request.headers['x-amz-security-token']}"}
        connection.answer(json.dumps(said).encode(), "403 Forbidden")

    with scripted_proxy(refusing, SERVERS) as (relay, _):
        response = relay.call({"messages": []}, path="/bedrock/v1/chat/completions")
    assert response.status == 403
    assert str(ROLE.session_token) not in response.body.decode() + json.dumps(relay.bus.details)
    assert "Canonical string" in error_of(response)["message"]


@pytest.mark.parametrize("environment", [{}, {"BEDROCK_ENABLED": "false"}], ids=["unset", "false"])
def test_bedrock_is_not_called_where_the_stack_does_not_say_so(environment: dict[str, str]) -> None:
    with scripted_proxy(answering, SERVERS) as (relay, server):
        tokens = ProviderTokens(cast("Any", relay.bus), environment, None)
        relay.use(servers=Attempts(relay.transport, tokens, Breakers()))
        response = relay.call({"messages": []}, path="/bedrock/v1/chat/completions")
    assert (response.status, error_of(response)["code"]) == (503, "server_not_configured")
    assert server.received == []


def wants_a_version(connection: Connection, request: Received) -> None:
    """An Azure."""
    given = dict(parse_qsl(urlsplit(request.target).query))
    if given.get("api-version") != "2025-04-01-preview":
        connection.answer(b'{"error": {"code": "404", "message": "Resource not found"}}', "404 Not Found")
    elif request.headers.get("api-key") != "azure-token" or "authorization" in request.headers:
        connection.answer(b'{"error": {"code": "401", "message": "Access denied"}}', "401 Unauthorized")
    else:
        filtered = {"id": "", "object": "", "model": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]}
        streaming(f"data: {json.dumps(filtered)}\n\n".encode(), *CONTENT, USAGE_CHUNK, DONE)(connection, request)


@pytest.mark.parametrize("query", ["", "api-version=1", "api%2Dversion=1&a=b", "a=b"])
def test_a_servers_own_parameters_go_before_a_clients(query: str) -> None:
    with scripted_proxy(wants_a_version, SERVERS) as (relay, server):
        response = relay.call({"stream": True, "messages": []}, path="/azure/v1/chat/completions", query=query)
    assert response.status == 200
    assert relay.event[0] == "InferenceCompleted"
    more = "&a=b" if "a=b" in query else ""
    assert server.received[0].target == f"/openai/deployments/gpt/chat/completions?api-version=2025-04-01-preview{more}"


def test_headers_of_the_file_go_before_a_clients_and_none_hides_the_token() -> None:
    with scripted_proxy(answering, SERVERS) as (relay, server):
        sent = {"accept": "text/event-stream", "idempotency-key": "mine", "http-referer": "https://other.example"}
        assert relay.call({"messages": []}, path="/router/v1/chat/completions", headers=sent).status == 200
    headers = server.received[0].headers
    assert (headers["http-referer"], headers["accept"]) == ("https://app.example", "application/json")
    assert (headers["idempotency-key"], headers["authorization"]) == ("fixed", "Bearer router-token")


def test_lists_of_models_are_asked_for_with_each_servers_sign_in() -> None:
    def listing(connection: Connection, request: Received) -> None:
        connection.answer(b'{"object": "list", "data": [{"id": "a-model", "object": "model"}]}')

    with scripted_proxy(verifying(listing), SERVERS, {"servers": "bedrock,azure,router"}) as (relay, server):
        response = relay.call(path="/v1/models", method="GET")
    listed = [model["id"] for model in json.loads(response.body)["data"]]
    assert "bedrock/a-model" in listed
    by_path: dict[str, Callable[[str], str | None]] = {each.target: each.headers.get for each in server.received}
    assert by_path["/openai/deployments/gpt/models?api-version=2025-04-01-preview"]("api-key") == "azure-token"
    assert by_path["/v1/models"]("http-referer") == "https://app.example"
    assert TOKEN not in response.body.decode()
