"""What is said of an answer that is to be kept, whole; and which answers nothing is said of."""

import base64
import hashlib
import zlib
from typing import Any, NamedTuple

import pytest
from openai_proxy.cache.answers import LARGEST_BODY
from openai_proxy.events.ulid import ulid_time
from openai_proxy.key_context import ClientKey
from openai_proxy.servers import Server, TokenReference
from openai_proxy.usage import Usage
from proxy.cache.capture import Capture
from proxy.cache.captured_event import LARGEST_IN_EVENT, captured_event
from proxy.cache.fill import CacheFill, Wanted
from proxy.cache.item import CachedAnswer
from proxy.cache.key import Keys
from proxy.cache.policy import Policy
from proxy.cache.replay import Replay
from proxy.call import Call
from proxy.delivery import Delivery
from proxy.metering.meter import Meter
from proxy.outcome import Outcome
from proxy.request.parse import InferenceRequest, Target

NOW = 1_900_000_000.75
SERVER = Server("s", "http://host", TokenReference("literal", ""), "own-model")
PIECES = [b"data: {}\n\n" * 20, b"data: [DONE]\n\n"]
BODY = b"".join(PIECES)
USAGE = Usage(3, 5, source="reported")
HEADERS = {"content-type": "text/event-stream; charset=utf-8"}


def fill(pieces: list[bytes] = PIECES, *, is_stream: bool = True, scope: str = "client:acme", **more: Any) -> CacheFill:
    moments = iter([50.0, 50.25, 51.0])
    policy = Policy(scope, 60, False, keeps=frozenset(more.pop("keeps", ())))
    capture = Capture(LARGEST_BODY + 1, lambda: next(moments))
    for _ in capture.watch(pieces):
        pass
    return CacheFill(Keys("k", "d"), policy, Wanted("/chat/completions", "s", {}, is_stream), capture, **more)


def call(client_id: str = "acme") -> Call:
    asked = InferenceRequest("function_url", "POST", "/", "", {"x-request-id": "own"}, b"", None)
    return Call("id", NOW + 9, asked, ClientKey(client_id), Target("s", "/chat/completions"))


class Answer(NamedTuple):
    headers: dict[str, str]


def outcome(usage: Usage = USAGE, server: Server | None = SERVER, headers: Any = HEADERS, **more: Any) -> Outcome:
    upstream: Any = Answer(headers)
    delivery = Delivery(server, status=200, headers=headers, upstream=upstream)
    return Outcome(200, delivery, usage=usage)._replace(**more)


RESPONSE = {
    "status_code": 200,
    "content_type": "text/event-stream; charset=utf-8",
    "model": None,
    "encoding": "zlib",
    "body_size": len(BODY),
    "body_sha256": hashlib.sha256(BODY).hexdigest(),
}
TIMING = {"timing": [(0, 0), (200, 250)]}
DATA = {
    "cache_key": "k",
    "digest": "d",
    "scope": "client:acme",
    "server": {"name": "s"},
    "usage": USAGE.to_event(),
    "created_at": 1_900_000_000,
    "expires_at": 1_900_000_060,
}


@pytest.mark.parametrize("has_bucket", [True, False])
@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize("namespace", ["", "n"])
def test_all_that_is_said_of_an_answer(has_bucket: bool, is_stream: bool, namespace: str) -> None:
    headers = HEADERS if is_stream else {"content-type": "application/json"}
    kept = fill(is_stream=is_stream, namespace=namespace)
    event, packed = captured_event(kept, call(), outcome(headers=headers), NOW, has_bucket=has_bucket)
    assert event
    data: dict[str, Any] = {**event.data}
    response = data.pop("response")
    assert zlib.decompress(base64.b64decode(response.pop("body"))) == BODY
    assert response == RESPONSE | {"content_type": headers["content-type"]} | (TIMING if is_stream else {})
    asked = {"path": "/chat/completions", "model": None, "stream": is_stream}
    assert data == DATA | {"request": asked} | ({"namespace": namespace} if namespace else {})
    assert (event.detail_type, event.timestamp, event.request_id, event.client_id) == (
        "ResponseCaptured",
        "2030-03-17T17:46:40.750Z",
        "own",
        "acme",
    )
    assert ulid_time(event.id).timestamp() == NOW
    assert packed is None


def noise(size: int) -> bytes:
    """Bytes that do not compress."""
    blocks = (hashlib.sha256(b"%d" % number).digest() for number in range(size // 32 + 1))
    return b"".join(blocks)[:size]


@pytest.mark.parametrize("beyond", [0, 1])
@pytest.mark.parametrize("has_bucket", [True, False])
def test_what_an_event_has_no_room_for_goes_by_an_object_where_there_is_a_bucket(beyond: int, has_bucket: bool) -> None:
    body = noise(LARGEST_IN_EVENT + beyond)
    event, packed = captured_event(fill([body]), call(), outcome(), NOW, has_bucket=has_bucket)
    if beyond and not has_bucket:
        assert (event, packed) == (None, None)
        return
    assert event
    response: Any = event.data["response"]
    assert (response["encoding"], response["body_size"]) == ("identity", len(body))
    if beyond:
        assert ("body" in response, response["object"], packed) == (False, f"captured/acme/{event.id}", body)
    else:
        assert (base64.b64decode(response["body"]), "object" in response, packed) == (body, False, None)


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "no client"},
        {"scope": "client:other"},
        {"usage": USAGE._replace(input_tokens=-1)},
        {"content_type": "application/json"},
        {"content_type": "text/event-stream; " + "x" * 300},
        {"pieces": []},
        {"server": None},
    ],
)
def test_what_may_not_be_stored_is_not_sent(changed: dict[str, Any]) -> None:
    kept = fill(changed.get("pieces", PIECES), scope=changed.get("scope", "client:acme"))
    headers = {"content-type": changed.get("content_type", HEADERS["content-type"])}
    ended = outcome(changed.get("usage", USAGE), changed.get("server", SERVER), headers)
    assert captured_event(kept, call(changed.get("client_id", "acme")), ended, NOW, has_bucket=True) == (None, None)


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_body_beyond_all_bounds_is_not_sent(beyond: int) -> None:
    event, _ = captured_event(fill([bytes(LARGEST_BODY + beyond)]), call(), outcome(), NOW, has_bucket=False)
    assert (event is None) == bool(beyond)


def test_a_call_without_a_key_is_nobodys() -> None:
    assert captured_event(fill(), call()._replace(key=None), outcome(), NOW, has_bucket=True) == (None, None)


# --------------------------------------------------------------------------------------------------- flaws of an answer


@pytest.mark.parametrize(
    ("status", "server", "headers", "keeps", "flaw"),
    [
        (201, "s", HEADERS, (), "not_answered"),
        (200, "other", HEADERS, (), "not_answered"),
        (200, None, HEADERS, (), "not_answered"),
        (200, "s", {}, (), "form"),
        (200, "s", {"content-type": "application/json"}, (), "form"),
        (200, "s", HEADERS | {"content-encoding": "gzip"}, (), "form"),
        (200, "s", HEADERS | {"cache-control": "private"}, (), "private"),
        (200, "s", HEADERS | {"vary": "tracestate"}, (), "private"),
        (200, "s", HEADERS | {"cache-control": "private"}, ("searches",), "private"),
    ],
)
def test_why_an_answer_is_not_kept(
    status: int, server: str | None, headers: dict[str, str], keeps: tuple[str, ...], flaw: str
) -> None:
    whose = SERVER._replace(name=server) if server else None
    ended = outcome(server=whose, headers=headers, status=status, meter=Meter("text/event-stream", True))
    assert fill(keeps=keeps).flaw(ended) == flaw


def test_without_a_meter_nothing_is_known_of_an_answer() -> None:
    assert (fill().lease, fill().since) == ("", None)
    assert fill().flaw(outcome()) == "error"


def test_an_answer_that_no_server_gave_is_not_kept() -> None:
    ended = outcome(meter=Meter("text/event-stream", True))
    assert fill().flaw(ended._replace(delivery=ended.delivery._replace(upstream=None))) == "error"


# --------------------------------------------------------------------------------------------------------------- replay

EVENTS = [b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\ndata: 4", b"\n\ndata: 5"]
MARKS = ((0, 0), (9, 250), (18, 1000), (34, 4000))


@pytest.mark.parametrize(
    ("pacing", "left", "moments"),
    [
        (False, 9.0, None),
        (True, 9.0, [0.0, 0.25, 1.0, 4.0, 4.0]),
        (True, 4.0, [0.0, 0.25, 1.0, 4.0, 4.0]),
        (True, 3.9, None),
    ],
)
def test_a_stream_comes_as_it_came_or_at_once_and_always_in_whole_events(
    pacing: bool, left: float, moments: list[float] | None
) -> None:
    now = 1000.0

    def sleep(seconds: float) -> None:
        nonlocal now
        assert seconds > 0
        now += seconds

    stored = CachedAnswer(True, "text/event-stream", b"".join(EVENTS), USAGE, 1, None, MARKS)
    came: list[tuple[bytes, float]] = []
    replay = Replay(stored, pacing, 1000.0 + left, sleep, lambda: now)
    for piece in replay.pieces():
        came.append((piece, now - 1000.0))
        now += 0.125
    assert b"".join(piece for piece, _ in came) == stored.body
    assert replay.content_type == "text/event-stream"
    if moments is None:
        assert [piece for piece, _ in came] == [b"".join(EVENTS)[:-7], b"data: 5"]
    else:
        assert [piece for piece, _ in came] == [*EVENTS[:2], b"data: 3\n\n", b"data: 4\n\n", b"data: 5"]
        assert [moment for _, moment in came] == [*moments[:4], 4.125]


def test_a_document_comes_in_one_piece() -> None:
    stored = CachedAnswer(False, "application/json", b"{}\n\n{}", USAGE, 1, None)
    assert list(Replay(stored, True, 0.0).pieces()) == [b"{}\n\n{}"]
