"""Recorded answers of real servers, played through the relay in every chunking: the client gets their bytes, the
event what they say. The recordings, where they are from and what each says: tests/data/streams/index.yaml.
"""

import json
import re
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai_proxy.servers import parse_servers
from proxy.access.authenticator import Authorizer, AuthorizerFunction
from proxy.admission import Admission
from proxy.endpoints.cors import Cors
from proxy.endpoints.models import ModelList
from proxy.endpoints.responder import Responder
from proxy.endpoints.routes import Endpoints
from proxy.http.transport import HttpTransport, Timeouts
from proxy.limits.counters import TableAccess
from proxy.limits.table import LimitsTable
from proxy.metering.sse import split_events
from proxy.records.publisher import Publisher
from proxy.records.records import Records
from proxy.relay import Relay
from proxy.request.routing import Routes
from proxy.upstream.attempts import Attempts
from proxy.upstream.breaker import Breakers
from proxy.upstream.provider_tokens import ProviderTokens

from tests.error_forms import own_forms
from tests.examples import examples
from tests.fakes import Connection, Received, RecordedResponse, ScriptedServer, envelope_of
from tests.recordings import STREAMS, recorded
from tests.relays import validator_of

MAX_FILE_BYTES, MAX_BYTES = 60_000, 1_000_000
SLOW_BYTES = 2_500
SECRETS = re.compile(rb"sk-\w{10,}|org-\w{6,}|proj_\w{6,}|user-\w{8,}|[Bb]earer |[\w.+-]+@[\w-]+\.\w+")
EVENT = re.compile(rb".+?(?:\r\n\r\n|\n\n)", re.DOTALL)
ALLOWED = {"policyDocument": {"Statement": [{"Effect": "Allow"}]}, "context": {"client_id": "team-a"}}
FORM = '--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm\r\n--b--\r\n'


class Recording:
    """One entry of the index."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.name: str = entry["file"]
        self.endpoint: str = entry["endpoint"]
        self.content_type: str = entry["content type"]
        self.request: dict[str, Any] = entry["request"]
        self.said = {"model": entry["model"], "id": entry["id"], "finish_reasons": entry["finish reasons"]}
        self.usage: dict[str, Any] | str = entry["usage"]
        self.outcome: str = entry.get("outcome", "InferenceCompleted")
        self.body = (STREAMS / self.name).read_bytes()

    @property
    def may_ask_usage(self) -> bool:
        """Whether the request has `stream_options`, with which a client asks for a chunk of usage."""
        return self.name.endswith(".sse") and self.endpoint in ("chat/completions", "completions")

    @property
    def body_without_usage_chunk(self) -> bytes:
        """What a client gets that did not ask for usage: all but the event with usage and without content."""
        if not self.may_ask_usage:
            return self.body
        return b"".join(event for event in EVENT.findall(self.body) if not is_usage_only(event))

    def request_event(self, *, asks_usage: bool) -> dict[str, Any]:
        """The function URL event of a client that makes this request."""
        body: dict[str, Any] = {"model": self.request["model"] or "m", "stream": self.request.get("stream", False)}
        if "n" in self.request:
            body["n"] = self.request["n"]
        if asks_usage:
            body["stream_options"] = {"include_usage": True}
        is_form, method = self.endpoint.startswith("audio/"), "GET" if self.endpoint == "models" else "POST"
        content_type = "multipart/form-data; boundary=b" if is_form else "application/json"
        return {
            "version": "2.0",
            "rawPath": f"/up/v1/{self.endpoint}",
            "rawQueryString": "",
            "headers": {"authorization": "Bearer key", "content-type": content_type},
            "requestContext": {"http": {"method": method}},
            "body": "" if method == "GET" else FORM if is_form else json.dumps(body),
        }


def is_usage_only(event: bytes) -> bool:
    if not event.startswith(b"data: {"):
        return False
    fields = json.loads(event.removeprefix(b"data: "))
    choices: list[dict[str, Any]] = fields.get("choices") or []
    told = [{**each, **each.get("delta", {})} for each in choices]
    said = [value for each in told for name, value in each.items() if name not in ("role", "index", "delta")]
    return bool(fields.get("usage")) and not any(said)


RECORDINGS = [Recording(entry) for entry in recorded()]
every_recording = pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.name)


class Upstream:
    """The script of a server that sends what it is given, each piece as one chunk."""

    def __init__(self) -> None:
        self.pieces: Sequence[bytes] = ()
        self.content_type = ""

    def __call__(self, connection: Connection, _: Received) -> None:
        connection.start_chunked(self.content_type)
        for piece in self.pieces:
            connection.chunk(piece)
        connection.end_chunked()


class Bus:
    """Takes events, checked against their schemas."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def put_events(self, entries: list[dict[str, str]], _timeout: float) -> list[dict[str, Any]]:
        for entry in entries:
            validator_of(entry["DetailType"]).validate(envelope_of(entry))
            self.events.append((entry["DetailType"], json.loads(entry["Detail"])["data"]))
        return [{"EventId": "e"} for _ in entries]


@dataclass
class Player:
    """Plays recordings to a client, one at a time."""

    upstream: Upstream
    relay: Relay
    bus: Bus

    def play(self, recording: Recording, pieces: Sequence[bytes], *, asks_usage: bool = False) -> bytes:
        """Play `recording` in `pieces`, check the event, and return what the client got."""
        response, detail_type, data = self._play(recording, pieces, asks_usage=asks_usage)
        assert (response.status, response.headers["content-type"]) == (200, recording.content_type)
        assert detail_type == recording.outcome
        assert {name: data["response"][name] for name in recording.said} == recording.said
        named = re.findall(rb'"service_tier": ?"([a-z_]+)"', b"".join(pieces))
        check_usage(data["usage"], recording.usage, named[-1].decode() if named else None)
        return response.body

    def failed(self, recording: Recording, pieces: Sequence[bytes]) -> tuple[RecordedResponse, str, dict[str, Any]]:
        """Play what has an error in it."""
        return self._play(recording, pieces, asks_usage=True)

    def _play(
        self, recording: Recording, pieces: Sequence[bytes], *, asks_usage: bool
    ) -> tuple[RecordedResponse, str, dict[str, Any]]:
        self.upstream.pieces, self.upstream.content_type = pieces, recording.content_type
        self.bus.events.clear()
        response = RecordedResponse()
        self.relay.serve(recording.request_event(asks_usage=asks_usage), response, time.time() + 60)
        assert response.ended
        [(detail_type, data)] = self.bus.events
        return response, detail_type, data


def check_usage(told: dict[str, Any], expected: dict[str, Any] | str, tier: str | None) -> None:
    if expected == "estimated":
        assert told["source"] == "estimated"
        assert told["output_tokens"] > 0
        return
    usage: dict[str, Any] = {} if isinstance(expected, str) else expected
    assert told == {
        "input_tokens": usage.get("input", 0),
        "output_tokens": usage.get("output", 0),
        "cache_read": {"input_tokens": usage.get("cached", 0)},
        "cache_creation": {
            "input_tokens": usage.get("cache_written", 0),
            "ephemeral_1h_input_tokens": usage.get("written_for_an_hour", 0),
        },
        "reasoning": {"output_tokens": usage.get("reasoning", 0)},
        "audio": {"input_tokens": usage.get("input_audio", 0), "output_tokens": usage.get("output_audio", 0)},
        "image": {"input_tokens": usage.get("input_image"), "output_tokens": usage.get("output_image")},
        "duration": usage.get("seconds"),
        "source": expected if isinstance(expected, str) else "reported",
        "reason": None,
        "cost_reported": usage.get("cost"),
        "service_tier": tier,
        "units": usage.get("units", {}),
    }


def allow(_function: str, _payload: bytes) -> tuple[bytes, bool]:
    return json.dumps(ALLOWED).encode(), False


@pytest.fixture(scope="module")
def player() -> Generator[Player]:
    upstream, bus = Upstream(), Bus()
    with ScriptedServer(upstream) as server:
        servers = parse_servers(
            f"up: {{url: '{server.url}/v1', token: t, model: m, retries: 0, breaker: {{failures: 0}}}}"
        )
        aws: Any = bus
        transport, tokens = HttpTransport(Timeouts()), ProviderTokens(aws, {}, None)
        authorizer = Authorizer(AuthorizerFunction(allow, "authorizer", "eu-central-1"), 60)
        models = ModelList(servers, transport, tokens)
        relay = Relay(
            Admission(authorizer, Routes(servers), LimitsTable(TableAccess(aws, "limits"), "open")),
            Attempts(transport, tokens, Breakers()),
            Responder(Cors("*"), Endpoints({"/models": lambda: models})),
            Records(Publisher(aws, "bus")),
        )
        yield Player(upstream, relay, bus)
        transport.close()


@every_recording
def test_in_one_piece_to_a_client_that_asks_for_usage(recording: Recording, player: Player) -> None:
    assert player.play(recording, [recording.body], asks_usage=recording.may_ask_usage) == recording.body


@every_recording
def test_in_one_piece_to_a_client_that_does_not(recording: Recording, player: Player) -> None:
    assert player.play(recording, [recording.body]) == recording.body_without_usage_chunk


@every_recording
def test_byte_by_byte(recording: Recording, player: Player) -> None:
    """The first and the last part of it: what is between is more of the same."""
    body, end = recording.body, max(SLOW_BYTES, len(recording.body) - SLOW_BYTES)
    pieces = [body[at : at + 1] for at in range(len(body)) if at < SLOW_BYTES or at >= end]
    if end > SLOW_BYTES:
        pieces.insert(SLOW_BYTES, body[SLOW_BYTES:end])
    assert player.play(recording, pieces, asks_usage=recording.may_ask_usage) == recording.body


@every_recording
@settings(max_examples=examples(5), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_in_any_chunking(recording: Recording, player: Player, data: st.DataObject) -> None:
    cuts = data.draw(st.sets(st.integers(1, len(recording.body) - 1), max_size=30).map(sorted), label="cuts")
    asks_usage = recording.may_ask_usage and data.draw(st.booleans(), label="asks usage")
    edges = [0, *cuts, len(recording.body)]
    pieces = [recording.body[start:end] for start, end in pairwise(edges)]
    got = player.play(recording, pieces, asks_usage=asks_usage)
    assert got == (recording.body if asks_usage else recording.body_without_usage_chunk)


@pytest.mark.parametrize(
    "recording", [each for each in RECORDINGS if each.name.endswith(".sse")], ids=lambda each: each.name
)
@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_with_an_error_in_its_place_no_stream_is_completed(
    recording: Recording, player: Player, data: st.DataObject
) -> None:
    said = "Our engine is down."
    form = data.draw(st.sampled_from(own_forms(said)), label="form")
    events = split_events(recording.body)
    place = data.draw(st.integers(0, len(events)), label="place")
    error = f"data: {json.dumps(form)}\n\n".encode()
    body = b"".join([*events[:place], error, *events[place:]])
    cuts = data.draw(st.sets(st.integers(1, len(body) - 1), max_size=30).map(sorted), label="cuts")
    pieces = [body[start:end] for start, end in pairwise([0, *cuts, len(body)])]
    response, kind, told = player.failed(recording, pieces)
    assert (kind, told["error"]["type"]) == ("InferenceFailed", "upstream_error")
    assert said.encode() in response.body
    if response.status == 200:
        assert body.startswith(response.body[:100])


def test_some_recordings_have_a_chunk_to_hide() -> None:
    hiding = [recording for recording in RECORDINGS if recording.body_without_usage_chunk != recording.body]
    assert {recording.name.partition("-")[0] for recording in hiding} >= {"openai", "openrouter", "scaleway"}


def test_the_index_lists_the_folder() -> None:
    assert sorted(entry["file"] for entry in recorded()) == sorted(
        path.name for path in STREAMS.iterdir() if path.suffix != ".yaml"
    )


def test_recordings_are_small_and_hold_no_secrets() -> None:
    assert max(len(recording.body) for recording in RECORDINGS) <= MAX_FILE_BYTES
    assert sum(len(recording.body) for recording in RECORDINGS) <= MAX_BYTES
    assert [recording.name for recording in RECORDINGS if SECRETS.search(recording.body)] == []
