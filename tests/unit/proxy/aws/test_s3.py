"""Objects of S3: requests as S3 wants them, signatures equal to botocore's, every failure named."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given, settings
from hypothesis import strategies as st
from proxy.aws.client import AwsError
from proxy.aws.s3 import S3
from proxy.aws.sigv4 import Credentials
from proxy.http.transport import HttpTransport, Timeouts
from proxy.http.wire import Outgoing

from tests.examples import examples
from tests.fakes import Connection, Received, Script, ScriptedServer

CREDENTIALS = Credentials("AKID", "secret", "session")


class Bucket:
    """Answers as S3 does: keeps what is put, gives what it has."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def __call__(self, connection: Connection, request: Received) -> None:
        if request.method == "PUT":
            self.objects[request.target] = request.body
            connection.answer(b"", more='etag: "1"\r\n')
        elif request.target in self.objects:
            connection.answer(self.objects[request.target], more='etag: "1"\r\n')
        else:
            error = b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code><Message>no</Message></Error>'
            connection.answer(error, "404 Not Found")


@contextmanager
def s3_at(url: str) -> Generator[S3]:
    transport = HttpTransport(Timeouts())
    try:
        yield S3(transport, lambda: CREDENTIALS, "eu-central-1", url)
    finally:
        transport.close()


def test_what_is_put_is_what_is_got_at_an_endpoint_by_path() -> None:
    body = bytes(range(256)) * 2048
    with ScriptedServer(Bucket()) as server, s3_at(server.url + "/") as s3:
        s3.put("bucket", "captured/a b+ü", body, 5.0, content_type="application/zlib")
        assert s3.get("bucket", "captured/a b+ü", 5.0) == body
    put, get = server.received
    assert (put.method, put.target) == ("PUT", "/bucket/captured/a%20b%2B%C3%BC")
    assert (put.headers["content-type"], put.headers["content-length"]) == ("application/zlib", str(len(body)))
    assert (get.method, get.target, get.body) == ("GET", put.target, b"")


@settings(deadline=None, max_examples=examples(30))
@given(key=st.text(min_size=1, max_size=40).filter(lambda key: key.isprintable()), body=st.binary(max_size=64))
def test_signatures_equal_botocores(key: str, body: bytes) -> None:
    sent: list[tuple[str, str, dict[str, str]]] = []

    class Recording:
        def stream(self, server: Any, outgoing: Outgoing, deadline: float) -> Any:
            sent.append((outgoing.method, outgoing.url, dict(outgoing.headers)))
            raise InterruptedError

    s3 = S3(Recording(), lambda: CREDENTIALS, "eu-central-1")
    with pytest.raises(InterruptedError):
        s3.put("bucket", key, body, 1.0)
    [(method, url, headers)] = sent
    authorization, moment = headers.pop("authorization"), headers.pop("x-amz-date")
    request: Any = AWSRequest(method, url, headers={k: v for k, v in headers.items() if k != "host"}, data=body)
    request.headers["x-amz-date"] = moment
    request.context["timestamp"] = moment
    theirs: Any = S3SigV4Auth(BotocoreCredentials("AKID", "secret", "session"), "s3", "eu-central-1")
    expected = theirs.signature(theirs.string_to_sign(request, theirs.canonical_request(request)), request)
    assert authorization.endswith(f"Signature={expected}")
    assert datetime.strptime(moment, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp() == pytest.approx(
        time.time(), abs=60
    )


@pytest.mark.parametrize(
    ("region", "url"),
    [
        ("eu-central-1", "https://bucket.s3.eu-central-1.amazonaws.com/captured/x"),
        ("cn-north-1", "https://bucket.s3.cn-north-1.amazonaws.com.cn/captured/x"),
    ],
)
def test_buckets_are_addressed_by_host_name(region: str, url: str) -> None:
    asked: list[str] = []

    class Recording:
        def stream(self, server: Any, outgoing: Outgoing, deadline: float) -> Any:
            asked.append(outgoing.url)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        S3(Recording(), lambda: CREDENTIALS, region).get("bucket", "captured/x", 1.0)
    assert asked == [url]


def _says(status: str, body: bytes = b"") -> Script:
    return lambda connection, _: connection.answer(body, status)


def _is_silent(connection: Connection, _: Received) -> None:
    connection.wait_for_end()


def _breaks_off(connection: Connection, _: Received) -> None:
    connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
    connection.stop()


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (Bucket(), "NoSuchKey"),
        (_says("403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>"), "AccessDenied"),
        (_says("503 Slow Down"), "HTTP 503"),
        (_says("307 Temporary Redirect"), "HTTP 307"),
        (_says("200 OK", b"x" * 101), "TooLarge"),
        (_breaks_off, "NoAnswer"),
        (_says("200 OK", b""), "NoAnswer"),
        (_says("200 OK", b"<html>Service unavailable</html>"), "NoAnswer"),
        (_is_silent, "NoAnswer"),
    ],
)
def test_a_failure_is_an_aws_error_with_its_code(script: Script, code: str) -> None:
    with ScriptedServer(script) as server, s3_at(server.url) as s3, pytest.raises(AwsError) as failure:
        s3.get("bucket", "key", 0.3 if script is _is_silent else 20.0, largest=100)
    assert failure.value.code == code


@pytest.mark.parametrize(("status", "is_transient"), [("200 OK", False), ("404 Not Found", False), ("503 Slow", True)])
def test_a_long_page_of_an_error_does_not_hide_what_the_status_means(status: str, is_transient: bool) -> None:
    with ScriptedServer(_says(status, b"<html>" + b"x" * 20_000)) as server, s3_at(server.url) as s3:
        with pytest.raises(AwsError) as failure:
            s3.get("bucket", "key", 20.0, largest=100)
        assert (failure.value.code, failure.value.is_transient) == ("TooLarge", is_transient)


def test_an_unreachable_bucket_is_an_aws_error() -> None:
    with s3_at("http://127.0.0.1:9") as s3, pytest.raises(AwsError, match="upstream_unreachable"):
        s3.put("bucket", "key", b"x", 1.0)
