"""The streams of a sandbox call what its environment names, each part over the connections that are its own."""

import json
import random
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from proxy.aws.client import AwsError
from proxy.aws.sigv4 import Credentials
from proxy.errors import UpstreamError
from proxy.http.wire import Outgoing
from proxy.streams.table import LARGEST_ITEM, Piece
from proxy.streams.wiring import from_environ

ENVIRON = {"STREAMS_TABLE": "the-streams", "CACHE_BUCKET": "the-bucket", "STREAM_KEPT_SECONDS": "90"}
QUEUE = "https://sqs.eu-west-1.amazonaws.com/1/the-queue"


class Asked(NamedTuple):
    """One call: over whose connections, to which host, what of it, and within how many seconds."""

    by: str
    host: str
    what: str
    body: Any
    timeout: float


class Transport:
    """Keeps what is asked over it, and answers nothing of use."""

    def __init__(self, name: str, asked: list[Asked]) -> None:
        self.name, self.asked = name, asked
        self.siblings = 0

    def post(
        self, url: str, headers: Mapping[str, str], body: bytes, timeout: float, *, repeats: bool
    ) -> tuple[int, Any, bytes]:
        assert repeats
        self.asked.append(Asked(self.name, urlsplit(url).netloc, headers["x-amz-target"], json.loads(body), timeout))
        return 500, {}, b""

    def stream(self, _server: Any, outgoing: Outgoing, _deadline: float) -> Any:
        place = urlsplit(outgoing.url)
        what = f"{outgoing.method} {place.path}"
        self.asked.append(Asked(self.name, place.netloc, what, len(outgoing.body), 0.0))
        raise UpstreamError(502, "upstream_unreachable", "away")

    def sibling(self) -> "Transport":
        self.siblings += 1
        return Transport("sibling", self.asked)

    def let_stop(self, _stopper: Any) -> None: ...


def wired(**more: str) -> tuple[Any, Any]:
    transport: Any = Transport("own", [])
    records: Any = object()
    environ = ENVIRON | more
    streams: Any = from_environ(environ, "eu-west-1", transport, lambda: Credentials("a", "b", "c"), records)
    return streams, transport


def asked_by(transport: Any, call: Callable[[], object]) -> Asked:
    transport.asked.clear()
    with suppress(AwsError):
        call()
    [asked] = transport.asked
    return asked


@pytest.mark.parametrize(
    ("more", "host", "bucket", "seconds"),
    [
        ({}, "dynamodb.eu-west-1.amazonaws.com", "the-bucket.s3.eu-west-1.amazonaws.com", 1.0),
        ({"AWS_ENDPOINT_URL": "http://local:4566"}, "local:4566", "local:4566", 5.0),
    ],
    ids=["AWS", "emulator"],
)
def test_readers_have_the_connections_of_the_sandbox_and_writers_those_of_another_thread(
    more: dict[str, str], host: str, bucket: str, seconds: float
) -> None:
    streams, transport = wired(**more)
    writing = streams._another()
    assert streams._another() is writing
    assert transport.siblings == 1
    for name, table in (("own", streams._reader._table), ("sibling", writing)):
        asked = asked_by(transport, lambda: table.state("id"))  # noqa: B023  # called at once
        assert (asked.by, asked.host, asked.timeout) == (name, host, seconds)
        assert (asked.what, asked.body["TableName"]) == ("DynamoDB_20120810.GetItem", "the-streams")
        large = Piece(1, random.Random(1).randbytes(2 * LARGEST_ITEM), 1)
        asked = asked_by(transport, lambda: table.put_piece("id", large, 0.0))  # noqa: B023  # called at once
        path = "/streams/id/1" if not more else "/the-bucket/streams/id/1"
        assert (asked.by, asked.host, asked.what) == (name, bucket, f"PUT {path}")


@pytest.mark.parametrize("queue", ["", QUEUE])
def test_a_queue_that_is_named_is_told_to_look(queue: str) -> None:
    streams, transport = wired(**({"STREAMS_QUEUE": queue} if queue else {}))
    if not queue:
        streams._another().have_looked_at("id")
        assert transport.asked == []
    else:
        asked = asked_by(transport, lambda: streams._another().have_looked_at("id"))
        assert (asked.by, asked.what, asked.body["QueueUrl"]) == ("sibling", "AmazonSQS.SendMessage", QUEUE)


def test_how_long_streams_are_kept_and_what_may_stop_them_and_who_signs_for_a_webhook(
    capsys: pytest.CaptureFixture[str],
) -> None:
    streams, transport = wired()
    settings = streams._settings
    assert (settings.kept, settings.let_stop, settings.sign) == (90.0, transport.let_stop, None)
    streams, transport = wired(STREAM_WEBHOOK_SECRET="the-secret")
    settings = streams._settings
    assert (settings.kept, settings.let_stop) == (90.0, transport.let_stop)
    asked = asked_by(transport, lambda: settings.sign("text"))
    assert (asked.by, asked.host) == ("own", "secretsmanager.eu-west-1.amazonaws.com")
    assert (asked.what, asked.body) == ("secretsmanager.GetSecretValue", {"SecretId": "the-secret"})
    assert "its secret is unavailable" in capsys.readouterr().out
    streams, transport = wired(STREAM_WEBHOOK_SECRET="the-secret", AWS_ENDPOINT_URL="http://local:4566")
    assert asked_by(transport, lambda: streams._settings.sign("text")).host == "local:4566"


@pytest.mark.parametrize("lacks", ENVIRON)
def test_a_setting_that_is_not_there_is_no_other(lacks: str) -> None:
    environ = {name: value for name, value in ENVIRON.items() if name != lacks}
    nothing: Any = Transport("own", [])
    with pytest.raises(KeyError, match=lacks):
        from_environ(environ, "eu-west-1", nothing, lambda: Credentials("a", "b", "c"), nothing)
