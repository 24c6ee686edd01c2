"""`auth`, `query` and `headers` of the servers file: what may be said, and how each fault is named."""

import pytest
from openai_proxy.servers import Server, ServersFileError, parse_servers
from openai_proxy.servers.sign_in import BEARER, Auth

SIGNED = "a: {url: 'URL', auth: AUTH, model: m}\n"


def signed(url: str, auth: str = "aws", region: str = "eu-central-1") -> Server:
    return parse_servers(SIGNED.replace("URL", url).replace("AUTH", auth), region=region)["a"]


def with_token(more: str) -> Server:
    return parse_servers(f"a: {{url: 'https://x/v1', token: t, model: m, {more}}}")["a"]


@pytest.mark.parametrize(
    ("url", "service", "region"),
    [
        ("https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1", "bedrock", "us-west-2"),
        ("https://bedrock-runtime.{region}.amazonaws.com/openai/v1", "bedrock", "eu-central-1"),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com/openai/v1", "bedrock", "us-gov-west-1"),
        ("https://vpce-1-2.bedrock-runtime.eu-west-1.vpce.amazonaws.com/openai/v1", "bedrock", "eu-west-1"),
        ("https://bedrock-mantle.{region}.api.aws/v1", "bedrock-mantle", "eu-central-1"),
        ("https://bedrock-mantle.ap-southeast-3.api.aws/openai/v1", "bedrock-mantle", "ap-southeast-3"),
        ("https://abc.execute-api.eu-west-1.amazonaws.com/prod/v1", "execute-api", "eu-west-1"),
        ("https://abc.lambda-url.eu-north-1.on.aws/v1", "lambda", "eu-north-1"),
        ("https://bedrock-runtime.cn-north-1.amazonaws.com.cn/openai/v1", "bedrock", "cn-north-1"),
    ],
)
def test_service_and_region_are_those_of_the_host(url: str, service: str, region: str) -> None:
    server = signed(url)
    assert (server.auth.service, server.auth.region, server.auth.is_aws) == (service, region, True)
    assert server.url == url.replace("{region}", "eu-central-1")
    assert server.token.name == ""


def test_where_no_region_is_known_the_placeholder_stays() -> None:
    server = parse_servers(SIGNED.replace("URL", "https://bedrock-mantle.{region}.api.aws/v1").replace("AUTH", "aws"))
    assert (server["a"].url, server["a"].auth.region) == ("https://bedrock-mantle.{region}.api.aws/v1", "{region}")


def test_service_and_region_may_be_given() -> None:
    assert signed("http://127.0.0.1:1/v1", "{aws: bedrock}").auth == Auth(service="bedrock", region="eu-central-1")
    given = signed("https://gateway.example.com/v1", "{aws: execute-api, region: us-east-1}")
    assert given.auth == Auth(service="execute-api", region="us-east-1")


def test_a_token_may_have_another_header() -> None:
    assert with_token("auth: {header: Api-Key}").auth == Auth("api-key", "")
    assert with_token("retries: 1").auth == BEARER


def test_parameters_and_headers_of_every_call() -> None:
    server = with_token(
        "query: {api-version: 2025-04-01 preview, ü: '&'}, headers: {HTTP-Referer: 'https://a.example'}"
    )
    assert server.query == "api-version=2025-04-01%20preview&%C3%BC=%26"
    assert server.headers == {"http-referer": "https://a.example"}


FAULTS: list[tuple[str, str, str]] = [
    ("token: t, auth: aws", "token", "beside `auth: aws`"),
    ("auth: aws", "auth", "no AWS service"),
    ("auth: {aws: bedrock}, token: t", "token", "beside `auth: aws`"),
    ("token: t, auth: bearer", "auth", "not a way to sign in"),
    ("token: t, auth: [aws]", "auth", "not a way to sign in"),
    ("token: t, auth: {}", "auth", "not a way to sign in"),
    ("token: t, auth: {header: api-key, aws: bedrock}", "auth", "not a way to sign in"),
    ("token: t, auth: {header: 'a b'}", "auth", "no header that can carry a token"),
    ("token: t, auth: {header: Host}", "auth", "no header that can carry a token"),
    ("token: t, auth: {header: [x]}", "auth", "no header that can carry a token"),
    ("auth: {aws: 'Bed rock'}", "auth", "not the name of a service"),
    ("auth: {aws: bedrock, region: here}", "auth", "no Region"),
    ("auth: {header: api-key}", "token", "missing"),
    ("token: t, query: api-version=1", "query", "not a mapping"),
    ("token: t, query: {a: [b]}", "query", "has no text"),
    ("token: t, query: {a: ''}", "query", "has no text"),
    (f"token: t, query: {{{', '.join(f'k{i}: v' for i in range(17))}}}", "query", "more than 16"),
    ("token: t, headers: {authorization: x}", "headers", "no header that a file may set"),
    ("token: t, headers: {Content-Length: '1'}", "headers", "no header that a file may set"),
    ("token: t, headers: {x-amz-date: '1'}", "headers", "no header that a file may set"),
    ('token: t, headers: {x-a: "b\\r\\nc: d"}', "headers", "none that a header can carry"),
    ("token: t, headers: {x-a: ü}", "headers", "none that a header can carry"),
    (f"token: t, headers: {{x-a: {'b' * 1025}}}", "headers", "has no text of up to 1024"),
]


@pytest.mark.parametrize(("given", "key", "problem"), FAULTS, ids=[str(number) for number in range(len(FAULTS))])
def test_a_fault_is_named_with_server_key_and_remedy(given: str, key: str, problem: str) -> None:
    with pytest.raises(ServersFileError) as caught:
        parse_servers(f"a: {{url: 'https://x.example/v1', model: m, {given}}}", "f.yaml")
    told, _, remedy = str(caught.value).partition(". Remedy: ")
    assert told.startswith(f"f.yaml: server 'a', key '{key}': ")
    assert problem in told
    assert remedy
    assert problem not in remedy


@pytest.mark.parametrize("key", ["query", "headers"])
def test_as_many_and_as_long_as_may_be_are_taken(key: str) -> None:
    names = ", ".join(f"k{number}: {'v' * 1024}" for number in range(16))
    assert with_token(f"{key}: {{{names}}}")


@pytest.mark.parametrize("url", ["https://x.{zone}.example/v1", "https://x/{region", "https://x/}v1"])
def test_no_other_placeholder_stands_for_anything(url: str) -> None:
    with pytest.raises(ServersFileError, match=r"only \{region\} stands for something"):
        parse_servers(f"a: {{url: '{url}', token: t, model: m}}")
