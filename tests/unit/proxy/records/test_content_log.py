"""Whose content is written, within which time, and what the log says where it is not."""

import json
from typing import Any

import pytest
from openai_proxy.key_context import ClientKey
from openai_proxy.servers import parse_servers
from proxy.aws.client import AwsError
from proxy.call import Call
from proxy.delivery import Delivery
from proxy.outcome import Outcome
from proxy.records.content_log import ContentLog
from proxy.records.records import Invocation, Records
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target
from proxy.timeline import Clock, Timeline

NOW = 1_795_000_000.0
SERVER = parse_servers("main: {url: 'http://up.test/v1', token: t, model: m}")["main"]
REQUEST = InferenceRequest(
    "function_url",
    "POST",
    "/main/v1/chat/completions",
    "",
    {"content-type": "application/json", "authorization": "Bearer the pass phrase"},
    json.dumps({"model": "m", "messages": ["the pass phrase, größe, \ud800 and the token"]}).encode(),
    None,
)
BODY = RequestBody(REQUEST, Target("main", "/chat/completions"))
SENT = Delivery(SERVER, BODY.outgoing("m"), 200, token="the token")
WANTED = ClientKey("team-a", key_id="0a", logs_content=True)


class Store:
    """S3 and the salt of a stack: what is put, and when they fail."""

    def __init__(self, error: Exception | None = None, salt: str | Exception = "salt") -> None:
        self.error, self.salt = error, salt
        self.put_with: list[Any] = []
        self.asked = 0
        s3: Any = self
        self.log = ContentLog(s3, "bucket", self.read)

    def read(self) -> str:
        self.asked += 1
        if isinstance(self.salt, Exception):
            raise self.salt
        return self.salt

    def put(self, bucket: str, key: str, body: bytes, timeout: float, content_type: str) -> None:
        if self.error:
            raise self.error
        self.put_with.append((bucket, key, json.loads(body), round(timeout, 6), content_type))

    def publish(self, *_: Any) -> bool:
        return True

    def keep(self, seconds: float = 60, key: ClientKey | None = WANTED, delivery: Delivery = SENT) -> None:
        """Keep the records of a request whose invocation has so many seconds left."""
        publisher: Any = self
        clock = Clock(lambda: NOW, lambda: 100.0)
        records, timeline = Records(publisher, self.log, clock=clock), Timeline(clock)
        timeline.end()
        call = Call("id 1", 0.0, REQUEST, key, Target("main", "/chat/completions"), BODY)
        records.keep(call, Outcome(200, delivery), timeline, Invocation(NOW + seconds))


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [
        {name: value for name, value in line.items() if name not in ("timestamp", "trace")}
        for line in lines
        if line["message"] != "request"
    ]


@pytest.mark.parametrize(
    ("left", "timeout"), [(60, 3.0), (3.2, 3.0), (3.0, 2.8), (0.25, 0.05), (0.125, None), (0, None)]
)
def test_it_is_written_in_what_time_is_left_but_for_a_moment(
    left: float, timeout: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store()
    store.keep(left)
    late = {"level": "WARN", "message": "Content was not logged", "id": "id 1", "reason": "no time was left"}
    assert said(capsys) == ([late] if timeout is None else [])
    assert [each[3] for each in store.put_with] == ([] if timeout is None else [timeout])
    assert store.asked == len(store.put_with)


def test_what_is_known_by_the_letter_is_in_no_content_and_half_a_character_does_no_harm() -> None:
    store = Store()
    store.keep()
    [(bucket, key, content, _, kind)] = store.put_with
    assert (bucket, key, kind) == ("bucket", "content/2026-11-18/team-a/id 1.json", "application/json")
    [text] = content["request"]["content"]["messages"]
    assert text.startswith("[client_key:")
    assert "], größe, " in text
    assert " and [provider_token:" in text
    assert content["redacted"] == {"client_key": 1, "provider_token": 1}
    assert content["response"] == {"size": 0, "content_type": None, "content": None, "is_cut": False}


@pytest.mark.parametrize(
    ("key", "delivery"),
    [
        (None, SENT),
        (WANTED._replace(logs_content=False), SENT),
        (WANTED, Delivery(SERVER)),
        (WANTED, Delivery()),
    ],
)
def test_nothing_is_written_that_nobody_wants_or_that_went_nowhere(
    key: ClientKey | None, delivery: Delivery, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store()
    store.keep(key=key, delivery=delivery)
    assert (store.put_with, store.asked, said(capsys)) == ([], 0, [])


@pytest.mark.parametrize(
    ("error", "salt", "reason"),
    [
        (AwsError("s3:PutObject", "AccessDenied"), "salt", "s3:PutObject: AccessDenied"),
        (None, "", "salt: Empty"),
        (None, AwsError("ssm:GetParameter", "NotFound"), "ssm:GetParameter: NotFound"),
    ],
)
def test_the_log_says_why_it_was_not_written(
    error: Exception | None, salt: Any, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(error, salt)
    store.keep()
    assert said(capsys) == [{"level": "WARN", "message": "Content was not logged", "id": "id 1", "reason": reason}]
    assert store.put_with == []


def test_a_fault_of_its_own_says_where_and_nothing_of_the_content(capsys: pytest.CaptureFixture[str]) -> None:
    Store(ValueError("the pass phrase")).keep()
    assert said(capsys) == [
        {"level": "ERROR", "message": "A request was not recorded in full", "id": "id 1", "error": "ValueError"}
    ]


def test_the_salt_is_asked_for_once() -> None:
    store = Store()
    store.keep()
    store.keep()
    assert (store.asked, len(store.put_with)) == (1, 2)
