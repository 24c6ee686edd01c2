"""The response cache when things go wrong: damaged items, large answers, many at once, leaders that die."""

import base64
import hashlib
import json
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from proxy.aws.client import AwsError
from proxy.cache.response_cache import Settings

from tests.caches import CHAT, STREAM, caches
from tests.fakes import Connection, Received, RecordedResponse
from tests.relays import CONTENT, DONE, USAGE, USAGE_CHUNK, Proxy, sse, streaming

KEPT = "/kept/v1/chat/completions"
STREAMED = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
PATIENT = Settings(wait=20.0)


def ask(proxied: Proxy, **more: Any) -> RecordedResponse:
    return proxied.call({**STREAMED, **more}, path=KEPT)


def bytes_of(item: dict[str, Any]) -> bytes:
    return base64.b64decode(item["body"]["B"])


def b64(data: bytes) -> dict[str, str]:
    return {"B": base64.b64encode(data).decode()}


DAMAGES: list[tuple[str, str, Callable[[dict[str, Any]], dict[str, Any]]]] = [
    ("of another request", "digest", lambda item: {"digest": {"S": "0" * 64}}),
    (
        "another body",
        "sha256",
        lambda item: {"body": b64(zlib.compress(b"x" * len(STREAM)))},
    ),
    ("half a body", "unreadable", lambda item: {"body": b64(b"no zlib")}),
    ("a body cut short", "size", lambda item: {"body": b64(bytes_of(item)[:-10])}),
    ("a longer body", "size", lambda item: {"body": b64(zlib.compress(STREAM + b"more"))}),
    ("a body that would fill the memory", "size", lambda item: {"body": b64(zlib.compress(b"0" * 50_000_000))}),
    ("a size beyond reason", "unreadable", lambda item: {"body_size": {"N": str(10**12)}}),
    ("an error of a server", "unreadable", lambda item: {"status_code": {"N": "429"}}),
    ("another content type", "unreadable", lambda item: {"content_type": {"S": "text/html"}}),
    ("a header in a header", "unreadable", lambda item: {"content_type": {"S": "text/event-stream\r\nset-cookie: a"}}),
    ("an unknown encoding", "unreadable", lambda item: {"encoding": {"S": "br"}}),
    ("no base64", "unreadable", lambda item: {"body": {"B": "***"}}),
    ("usage that is none", "unreadable", lambda item: {"usage": {"S": "12"}}),
    (
        "usage of no number",
        "unreadable",
        lambda item: {"usage": {"M": item["usage"]["M"] | {"input_tokens": {"S": "9"}}}},
    ),
    ("body and object", "unreadable", lambda item: {"object": {"S": "captured/a/01M83WG2WWY5ZPAS4GM821024C"}}),
    ("marks beyond the body", "unreadable", lambda item: {"timing": {"S": "[[0,0],[99999,1]]"}}),
    ("marks out of order", "unreadable", lambda item: {"timing": {"S": "[[9,0],[0,1]]"}}),
    ("no time", "unreadable", lambda item: {"created_at": {"S": "now"}}),
    ("no attribute as it should be", "unreadable", lambda item: {name: {} for name in item if name != "digest"}),
]


@pytest.mark.parametrize(("reason", "damage"), [case[1:] for case in DAMAGES], ids=[case[0] for case in DAMAGES])
def test_a_damaged_item_is_a_miss_with_its_reason_and_a_line_without_content(
    reason: str, damage: Callable[[dict[str, Any]], dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    with caches(streaming(*CONTENT, USAGE_CHUNK, DONE)) as cached:
        proxied = cached.proxy()
        ask(proxied)
        item = cached.table.answer
        item.update(damage(item))
        second, third = ask(proxied), ask(proxied)
    assert (second.body, third.body) == (STREAM, STREAM)
    assert (second.headers["x-cache"], second.headers["x-cache-reason"]) == ("MISS", reason)
    assert third.headers["x-cache"] == "HIT", "the good answer has taken the place of the damaged one"
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    [refused] = [line for line in lines if line["message"] == "A cached answer was refused"]
    assert (refused["level"], refused["reason"]) == ("ERROR", reason)
    assert "Hello" not in json.dumps(lines)


def test_an_object_elsewhere_is_not_even_asked_for() -> None:
    with caches(streaming(*CONTENT, USAGE_CHUNK, DONE)) as cached:
        proxied = cached.proxy()
        ask(proxied)
        item = cached.table.answer
        del item["body"]
        item["object"] = {"S": "captured/../secrets"}
        assert ask(proxied).headers["x-cache-reason"] == "unreadable"


def large(size: int) -> list[bytes]:
    """A stream of `size` bytes that does not compress to nothing."""
    texts = (hashlib.sha256(str(number).encode()).hexdigest() for number in range(size // 150))
    return [*(sse(text) for text in texts), sse("", "stop"), USAGE_CHUNK, DONE]


def test_an_answer_of_two_megabytes_goes_by_an_object() -> None:
    pieces, now = large(2_000_000), 1000.0
    with caches(streaming(b"".join(pieces))) as cached:
        proxied = cached.proxy(clock=lambda: now)
        first = ask(proxied)
        [data] = cached.bus.captured
        [(name, body)] = cached.bucket.objects.items()
        second = ask(proxied)
        cached.bucket.failure = AwsError("s3:GetObject", "SlowDown")
        third = ask(proxied)
        now, cached.bucket.failure = 1006.0, None
        cached.bucket.objects.update(dict.fromkeys(cached.bucket.objects, body[: len(body) // 2]))
        fourth = ask(proxied)
    assert len(first.body) > 1_900_000
    assert first.body == second.body == third.body == fourth.body
    assert data["response"]["object"] == name
    assert "body" not in data["response"]
    reasons = [reason for _, reason in cached.bus.uses]
    assert reasons == ["not_found", None, "object", "size"]


def test_an_object_that_is_not_put_leaves_no_event() -> None:
    with caches(streaming(*large(600_000))) as cached:
        cached.bucket.failure = AwsError("s3:PutObject", "AccessDenied")
        ask(cached.proxy(Settings(wait=0.1)))
    assert [name for name, _ in cached.bus.details] == ["InferenceCompleted"]
    assert cached.table.items == {}


def test_whatever_goes_wrong_while_an_answer_is_kept_its_lease_is_given_back() -> None:
    with caches(streaming(*large(600_000))) as cached:
        unheard_of: Any = RuntimeError("nobody has thought of this")
        cached.bucket.failure = unheard_of
        response = ask(cached.proxy(Settings(wait=0.1)))
    assert response.headers["x-cache"] == "MISS"
    assert [name for name, _ in cached.bus.details] == ["InferenceCompleted"]
    assert cached.table.items == {}


def test_what_grows_beyond_its_bound_is_dropped_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with caches(streaming(*large(100_000))) as cached:
        ask(cached.proxy(Settings(largest=50_000, wait=0)))
    assert cached.bus.captured == []
    assert "too large for the response cache" in capsys.readouterr().out


def test_the_original_pace_is_kept_where_it_is_asked_for() -> None:
    now, pauses = [time.time()], list[float]()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    with caches(streaming(*CONTENT, USAGE_CHUNK, DONE)) as cached:
        proxied = cached.proxy(clock=lambda: now[0], sleep=sleep)
        ask(proxied)
        marks = [0, len(CONTENT[0]), len(b"".join(CONTENT))]
        cached.table.answer["timing"] = {"S": json.dumps([[marks[0], 0], [marks[1], 500], [marks[2], 1500]])}
        paced = proxied.call(STREAMED, path=KEPT, headers={"x-cache-pacing": "original"})
        assert pauses == [pytest.approx(0.5), pytest.approx(1.0)]
        assert paced.pieces == [CONTENT[0], CONTENT[1], USAGE_CHUNK + DONE]
        at_once = ask(proxied)
        assert len(pauses) == 2
        assert at_once.pieces == [STREAM]
        cached.table.answer["timing"] = {"S": json.dumps([[marks[0], 0], [marks[1], 500], [marks[2], 100_000]])}
        late = proxied.call(STREAMED, path=KEPT, headers={"x-cache-pacing": "original"})
        assert late.pieces == [STREAM]
        assert len(pauses) == 2, "what would not be over before the deadline comes at once"


@pytest.mark.parametrize("first", [True, False])
def test_a_chat_is_had_in_the_other_form(first: bool) -> None:
    document = {
        "id": "c-1",
        "object": "chat.completion",
        "created": 7,
        "model": "real-model",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": USAGE,
    }
    common = {"id": "c-1", "object": "chat.completion.chunk", "created": 7, "model": "real-model"}
    parts: list[dict[str, Any]] = [
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {"role": "assistant", "content": "Hello"},
                    "logprobs": None,
                    "finish_reason": None,
                }
            ]
        },
        {"choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]},
        {"choices": [], "usage": USAGE},
    ]
    stream = b"".join(f"data: {json.dumps(common | part, separators=(',', ':'))}\n\n".encode() for part in parts) + DONE

    def script(connection: Connection, request: Received) -> None:
        if json.loads(request.body).get("stream"):
            streaming(stream)(connection, request)
        else:
            connection.answer(json.dumps(document).encode())

    with caches(script) as cached:
        proxied = cached.proxy()
        proxied.call({**CHAT, "stream": first}, path=KEPT)
        other = proxied.call({**CHAT, "stream": not first}, path=KEPT)
        assert len(cached.server.received) == 1
    assert cached.bus.uses[1] == ("HIT", None)
    if first:
        assert json.loads(other.body) == document
        assert other.headers["content-type"] == "application/json"
    else:
        assert other.body == stream.replace(stream.split(b"\n\n")[2] + b"\n\n", b""), "usage was not asked for"
        assert other.headers["content-type"].startswith("text/event-stream")


def test_what_cannot_be_told_in_the_other_form_is_a_miss() -> None:
    with caches(streaming(*CONTENT, DONE)) as cached:
        proxied = cached.proxy()
        ask(proxied)
        response = proxied.call({**CHAT, "stream": False}, path=KEPT)
        assert len(cached.server.received) == 2
    assert (response.headers["x-cache"], response.headers["x-cache-reason"]) == ("MISS", "form")


# ------------------------------------------------------------------------------------------------------------- the log


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What the cache logs, without the moments, which are of the real clock."""
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [
        {name: value for name, value in line.items() if name != "timestamp"}
        for line in lines
        if "cache" in line["message"]
    ]


def test_a_table_that_does_not_answer_is_logged_and_left_alone_for_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    now = 1000.0
    with caches(streaming(*CONTENT, USAGE_CHUNK, DONE)) as cached:
        proxied = cached.proxy(clock=lambda: now)
        cached.table.failure = AwsError("dynamodb:GetItem", "NoAnswer")
        seen: list[str] = []
        for passed in (0, 4.9, 0.1):
            now += passed
            seen.append(ask(proxied).headers["x-cache-reason"])
            cached.table.failure = None
    assert seen == ["table_error", "table_error", "not_found"]
    line = {"level": "WARN", "message": "The response cache does not answer", "reason": "dynamodb:GetItem: NoAnswer"}
    assert lines_of(capsys) == [line]


def test_what_is_not_kept_and_why_is_logged_whole(capsys: pytest.CaptureFixture[str]) -> None:
    with caches(streaming(b"".join(large(100_000)))) as cached:
        ask(cached.proxy(Settings(largest=50_000, wait=0)))
        sent = sum(map(len, large(100_000)))
        [(_, detail)] = cached.bus.terminal_details
    assert lines_of(capsys) == [
        {
            "level": "INFO",
            "message": "An answer is too large for the response cache",
            "id": detail["metadata"]["id"],
            "size": sent,
        }
    ]
    with caches(streaming(*CONTENT)) as cached:
        ask(cached.proxy())
        [(_, detail)] = cached.bus.terminal_details
    kept = {"level": "INFO", "message": "An answer is not kept in the response cache", "id": detail["metadata"]["id"]}
    assert lines_of(capsys) == [kept | {"reason": "cut"}]


def test_a_bucket_that_fails_is_logged_and_left_alone_for_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    now, text = 1000.0, "".join(hashlib.sha256(str(number).encode()).hexdigest() for number in range(10_000))
    with caches(streaming(sse(text), sse("", "stop"), USAGE_CHUNK, DONE)) as cached:
        proxied = cached.proxy(clock=lambda: now)
        cached.bucket.failure = AwsError("s3:PutObject", "SlowDown")
        ask(proxied)
        ask(proxied)
        assert cached.bucket.calls == ["put"]
        cached.bucket.failure, now = None, 1005.0
        ask(proxied)
        cached.bucket.failure = AwsError("s3:GetObject", "NoSuchKey")
        ask(proxied)
    assert cached.bucket.calls == ["put", "put", "get", "put"]
    put = {"level": "WARN", "message": "An answer was not cached: its object was not put"}
    assert lines_of(capsys) == [
        put | {"reason": "s3:PutObject: SlowDown"},
        {
            "level": "WARN",
            "message": "The object of a cached answer cannot be read",
            "reason": "s3:GetObject: NoSuchKey",
        },
        put | {"reason": "s3:GetObject: NoSuchKey"},
    ]


def test_a_damaged_answer_is_logged_with_its_key(capsys: pytest.CaptureFixture[str]) -> None:
    with caches(streaming(*CONTENT, USAGE_CHUNK, DONE)) as cached:
        ask(cached.proxy())
        key = next(iter(cached.table.answers))
        cached.table.answer["digest"] = {"S": "0" * 64}
        ask(cached.proxy())
    refused = {"level": "ERROR", "message": "A cached answer was refused", "reason": "digest", "cache_key": key}
    assert lines_of(capsys) == [refused]


@pytest.mark.parametrize(
    ("ahead", "least", "most"), [(0, 2.0, 2.0), (57, 0.05, 1.5), (61, 0.05, 0.05), (900, 0.05, 0.05)]
)
def test_an_object_is_put_in_half_of_the_time_that_is_left(ahead: float, least: float, most: float) -> None:
    text = "".join(hashlib.sha256(str(number).encode()).hexdigest() for number in range(10_000))
    with caches(streaming(sse(text), sse("", "stop"), USAGE_CHUNK, DONE)) as cached:
        ask(cached.proxy(clock=lambda: time.time() + ahead))  # the request may last for a minute
    (timeout,) = cached.bucket.put_timeouts
    assert least <= timeout <= most
