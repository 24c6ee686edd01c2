"""The proxy's own AWS calls: signatures equal botocore's, answers are read, failures are named."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st
from proxy.aws import Aws, AwsError, ContainerCredentials, Credentials, sign
from proxy.upstream import Answered, ConnectionFailedError

CREDENTIALS = Credentials("AKID", "secret", "session")


@given(
    path=st.sampled_from(["/", "/2015-03-31/functions/name/invocations", "/f/arn%3Aaws%3Alambda%3Ax/invocations"]),
    host=st.sampled_from(["lambda.eu-central-1.amazonaws.com", "127.0.0.1:4566"]),
    target=st.text("abcXYZ.", min_size=1),
    body=st.binary(),
    session=st.none() | st.text("abc+/=", min_size=1),
    moment=st.integers(0, 4_000_000_000),
)
def test_signatures_equal_botocores(
    path: str, host: str, target: str, body: bytes, session: str | None, moment: int
) -> None:
    url, headers = f"https://{host}{path}", {"content-type": "application/x-amz-json-1.1", "x-amz-target": target}
    ours = sign(Credentials("AKID", "secret", session), "eu-central-1", "lambda", url, headers, body, moment)

    request: Any = AWSRequest("POST", url, headers=headers, data=body)
    request.headers["x-amz-date"] = datetime.fromtimestamp(moment, UTC).strftime("%Y%m%dT%H%M%SZ")
    request.context["timestamp"] = request.headers["x-amz-date"]
    if session:
        request.headers["x-amz-security-token"] = session
    theirs: Any = SigV4Auth(BotocoreCredentials("AKID", "secret", session), "lambda", "eu-central-1")
    expected = theirs.signature(theirs.string_to_sign(request, theirs.canonical_request(request)), request)
    assert ours["authorization"].endswith(f"Signature={expected}")


def test_credentials_do_not_show_themselves() -> None:
    assert "secret" not in repr(CREDENTIALS)


class FakeServices:
    """Answers every call alike and keeps what was posted."""

    def __init__(self, status: int = 200, answer: object = None, headers: Mapping[str, str] | None = None) -> None:
        self.answered: Answered = status, headers or {}, json.dumps(answer).encode()
        self.posted: list[tuple[str, Mapping[str, str], bytes]] = []

    def __call__(self, url: str, headers: Mapping[str, str], body: bytes, timeout: float) -> Answered:
        self.posted.append((url, headers, body))
        return self.answered


def aws(services: Any, endpoint: str | None = None, region: str = "eu-central-1") -> Aws:
    return Aws(services, lambda: CREDENTIALS, region, endpoint)


def test_calls_go_to_the_services_of_the_region() -> None:
    services = FakeServices(answer={"SecretString": "s", "Parameter": {"Value": "p"}, "Entries": [{"EventId": "1"}]})
    assert aws(services).get_secret("id") == "s"
    assert aws(services, region="cn-north-1").get_parameter("name") == "p"
    assert aws(services, "http://127.0.0.1:4566/").put_events([{"Source": "x"}], 1.0) == [{"EventId": "1"}]
    assert [url for url, _, _ in services.posted] == [
        "https://secretsmanager.eu-central-1.amazonaws.com/",
        "https://ssm.cn-north-1.amazonaws.com.cn/",
        "http://127.0.0.1:4566/",
    ]
    assert services.posted[1][2] == b'{"Name": "name", "WithDecryption": true}'


def test_an_invocation_tells_a_result_from_an_error_report() -> None:
    assert aws(FakeServices(answer={"a": 1})).invoke("f", b"{}") == (b'{"a": 1}', False)
    failed = FakeServices(answer={"errorMessage": "no"}, headers={"x-amz-function-error": "Unhandled"})
    assert aws(failed).invoke("f", b"{}") == (b'{"errorMessage": "no"}', True)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"__type": "com.amazonaws#ThrottlingException"}, "ThrottlingException"),
        ({"__type": "AccessDeniedException"}, "AccessDeniedException"),
        ({"Type": "User"}, "User"),
        ("<html>", "HTTP 400"),
    ],
)
def test_errors_are_named(answer: object, code: str) -> None:
    failing = aws(FakeServices(400, answer))
    calls: list[Callable[[], object]] = [
        lambda: failing.get_secret("s"),
        lambda: failing.invoke("f", b""),
        lambda: failing.put_events([], 1.0),
    ]
    for call in calls:
        with pytest.raises(AwsError) as error:
            call()
        assert error.value.code == code


@pytest.mark.parametrize("answer", [None, [], {}, {"SecretString": "s"}, "text"])
def test_an_answer_of_another_shape_is_an_error(answer: object) -> None:
    with pytest.raises(AwsError, match="without what was asked for"):
        aws(FakeServices(answer=answer)).put_events([], 1.0)


def test_a_broken_connection_is_an_aws_error() -> None:
    def fail(*_: object) -> Answered:
        raise ConnectionFailedError("ConnectError")

    with pytest.raises(AwsError, match="ConnectError"):
        aws(fail).get_secret("s")


def container(expiration: str, status: int = 200) -> tuple[ContainerCredentials, list[Mapping[str, str]]]:
    asked: list[Mapping[str, str]] = []

    def get(url: str, headers: Mapping[str, str], timeout: float) -> Answered:
        asked.append(headers)
        answer = {"AccessKeyId": "A", "SecretAccessKey": "S", "Token": "T", "Expiration": expiration}
        return status, {}, json.dumps(answer if status == 200 else {"code": "no"}).encode()

    return ContainerCredentials(get, "http://169.254.100.1/creds", "the-token"), asked


def test_container_credentials_are_kept_while_they_last() -> None:
    credentials, asked = container("2999-01-01T00:00:00Z")
    assert credentials() == credentials() == Credentials("A", "S", "T")
    assert asked == [{"authorization": "the-token"}]


def test_container_credentials_are_renewed_before_they_expire() -> None:
    credentials, asked = container("2020-01-01T00:00:00Z")
    credentials()
    credentials()
    assert len(asked) == 2


def test_container_credentials_that_are_refused() -> None:
    with pytest.raises(AwsError, match="credentials"):
        container("2999-01-01T00:00:00Z", status=403)[0]()
