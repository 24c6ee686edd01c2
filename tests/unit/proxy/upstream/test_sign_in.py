"""What a server gets to sign in: its token or a signature last, the file's headers before, one of the client's own."""

import pytest
from openai_proxy.servers import Server, parse_servers
from openai_proxy.servers.sign_in import Auth
from proxy.aws.sigv4 import Credentials
from proxy.http.wire import Outgoing
from proxy.upstream.sign_in import signed_by_role, with_token

OF_FILE = {"anthropic-version": "2023-06-01", "x-of-file": "file", "x-of-both": "file", "authorization": "file"}
OF_CLIENT = {"content-type": "application/json", "x-of-both": "client", "authorization": "client"}
BOTH = {**OF_CLIENT, **OF_FILE}


def server(**fields: object) -> Server:
    plain = parse_servers("a: {url: 'https://a.test/v1', token: t, model: m}")["a"]
    return plain._replace(**{"headers": OF_FILE, **fields})  # pyright: ignore[reportArgumentType]


def outgoing(**more: str) -> Outgoing:
    named = {name.replace("_", "-"): value for name, value in more.items()}
    return Outgoing("POST", "https://a.test/v1/x", {**OF_CLIENT, **named}, b"{}")


@pytest.mark.parametrize(
    ("header", "prefix", "of_server"),
    [("authorization", "Bearer ", {"authorization": "Bearer t"}), ("x-api-key", "", {"x-api-key": "t"})],
)
def test_the_token_is_set_last_and_the_file_says_more_than_the_client(
    header: str, prefix: str, of_server: dict[str, str]
) -> None:
    signs_in = server(auth=Auth(header, prefix))
    assert with_token(signs_in, outgoing(), "t") == BOTH | of_server
    assert with_token(signs_in, outgoing(), "") == BOTH, "a server that wants none gets none"


def test_which_form_of_the_api_it_reads_a_client_knows_itself() -> None:
    asked = outgoing(anthropic_version="2099-01-01")
    own = {"anthropic-version": "2099-01-01", "authorization": "Bearer t"}
    assert with_token(server(), asked, "t") == BOTH | own
    assert with_token(server(headers={}), asked, "t") == {**OF_CLIENT, **own}


@pytest.mark.parametrize("session", ["of the session", None])
def test_a_signature_is_set_last_and_covers_what_nothing_on_the_way_changes(session: str | None) -> None:
    signs_in = server(auth=Auth("authorization", "", service="bedrock", region="eu-west-1"))
    headers = signed_by_role(signs_in, outgoing(x_amz_date="client"), Credentials("AKID", "secret", session))
    own = {"authorization", "x-amz-date", *(["x-amz-security-token"] if session else [])}
    assert {name: value for name, value in headers.items() if name not in own} == {
        name: value for name, value in BOTH.items() if name != "authorization"
    }
    assert headers.get("x-amz-security-token") == session
    day = headers["x-amz-date"][:8]
    names = ";".join(sorted({"content-type", "host", *own} - {"authorization"}))
    begin = f"AWS4-HMAC-SHA256 Credential=AKID/{day}/eu-west-1/bedrock/aws4_request, SignedHeaders={names}, Signature="
    assert headers["authorization"].startswith(begin)
    assert len(headers["authorization"]) == len(begin) + 64
