"""Whatever a client asks and a server says: the event follows its schema, is small, and every consumer books it."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai_proxy.dynamodb import to_item
from openai_proxy.events.envelope import Event
from openai_proxy.events.incoming import from_envelope, is_terminal
from openai_proxy.key_context import ClientKey
from openai_proxy.key_limits import Limits
from openai_proxy.ledger.entries import add_shares, entry_of, has_entry
from openai_proxy.ledger.lake import json_line, lake_row
from openai_proxy.limits import Windows
from openai_proxy.pricing.price_book import load_price_book
from openai_proxy.servers import parse_servers
from openai_proxy.throttles.entries import FewModels, throttle_entry_of
from openai_proxy.usage import MOST_TOKENS
from proxy.call import Call
from proxy.delivery import Delivery
from proxy.errors import ProxyError, UpstreamError
from proxy.json_shapes import object_of
from proxy.limits.item import Share
from proxy.limits.reservation import Reservation
from proxy.metering.meter import AnswerTraits, Meter
from proxy.outcome import Outcome, usage_of
from proxy.records.terminal_event import terminal_event
from proxy.request.body import RequestBody
from proxy.request.parse import InferenceRequest, Target
from proxy.request.tags import with_metadata
from proxy.timeline import Timeline
from record_metrics.measurements import measurements_of
from settle_limits.settlement import settlement_of

from tests.examples import examples
from tests.fakes import envelope_of
from tests.schemas import validator_of

PRICES = load_price_book()
SERVER = parse_servers("openai: {url: 'http://up.test/v1', token: t, model: m}")["openai"]
LARGEST = 64 * 1024
"""Bytes of a terminal event in which everybody says as much as they can, in characters that JSON writes as twelve."""
DIGITS = "@digits@"
"""Stands for a number of 5,000 digits, which `json.dumps` does not write."""

texts = st.one_of(
    st.text(st.characters(codec=None, exclude_categories=()), max_size=20),
    st.sampled_from(["m", "gpt-5", "stop", "\ud800", "\x00\x1b[2J\u202e", "💥" * 1000, "a" * 100_000, "completed"]),
)
numbers = st.one_of(
    st.integers(-5, 2000),
    st.floats(),
    st.sampled_from([DIGITS, True, "12", 10**12, 10**13, 10**40, 10**400, 1e308, -1, 14417.92, "many"]),
)
values = st.recursive(
    st.none() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts.map(str), inner, max_size=2),
    max_leaves=4,
)
COUNTS = ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens"]
SHARES = ["cached_tokens", "audio_tokens", "reasoning_tokens", "image_tokens"]
details = st.dictionaries(st.sampled_from(SHARES), numbers)
usages = values | st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(COUNTS, numbers),
        **dict.fromkeys(("cache_read_input_tokens", "cache_creation_input_tokens", "seconds"), numbers),
        "prompt_tokens_details": details | values,
        "completion_tokens_details": details | values,
        "cost": values,
        "type": st.just("duration") | values,
    },
)

choice = st.fixed_dictionaries({}, optional={"index": values, "delta": values, "finish_reason": values})
choices = st.lists(
    choice | values,
    max_size=20,
)
said = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(("id", "model", "object", "status", "x_groq", "text", "duration", "error"), values),
        "object": st.sampled_from(["response", "chat.completion.chunk"]) | values,
        "status": st.sampled_from(["completed", "queued"]) | values,
        "background": st.booleans() | values,
        "created_at": numbers,
        "choices": choices | values,
        "usage": usages,
        "tool_usage": st.fixed_dictionaries({"image_gen": usages}) | values,
    },
)
answers = st.lists(said | st.fixed_dictionaries({"response": said}) | values, min_size=1, max_size=4)


def written(documents: list[Any], *, as_stream: bool) -> bytes:
    """As a server writes it."""
    parts = [json.dumps(each).replace(json.dumps(DIGITS), "9" * 5000).encode() for each in documents]
    return b"".join(b"data: " + part + b"\n\n" for part in parts) if as_stream else parts[0]


def event_of(
    documents: list[Any], model: str, name: str, *, as_stream: bool, path: str, **came: Any
) -> Event[Any, Any]:
    """The event of a request that was answered with `documents`, and of which else `came` what is given."""
    asked = json.dumps({"model": model, "stream": as_stream, "messages": [{"role": "user", "content": name}]}).encode()
    headers = {"content-type": "application/json"}
    request = InferenceRequest("function_url", "POST", f"/openai/v1{path}", "", headers, asked, None)
    limits = Limits("line-1", rpm=5, tpm=5000, budget_day=Decimal(5))
    taken = Reservation(limits, Windows.of(1_795_000_000), Share("i", 1_795_000_100, 900, Decimal("0.01")), {})
    target = Target("openai", path)
    body = RequestBody(request, target)
    key = ClientKey("c", key_id="0a", name=name, owner=name, tags={name: name, "b": model}, limits=limits)
    call = Call("01M8K70092HVPK9KBPZFVGWRVG", 0.0, request, came.pop("key", key), target, body, reservation=taken)
    call = call._replace(tags=with_metadata({}, path, came.pop("fields", {})))
    sent = body.outgoing("m")
    kind = "text/event-stream" if as_stream else "application/json"
    meter = Meter(
        kind,
        call.uses_tokens,
        AnswerTraits(has_terminator=True, hides_usage=sent.asks_usage_unasked, one_choice=sent.one_choice),
    )
    meter.see(written(documents, as_stream=as_stream))
    meter.end()
    delivery = Delivery(SERVER, sent, came.pop("status", 200), retry_after=came.pop("retry_after", None))
    timeline = Timeline()
    for _ in range(came.pop("attempts", 0)):
        timeline.attempted("openai", 503, None, 0.1)
    timeline.end()
    outcome = Outcome(delivery.status, delivery, meter=meter, reservation=taken, **came)
    outcome = outcome._replace(usage=usage_of(call, outcome, timeline.started_at))
    return terminal_event(call, outcome, timeline.moments(), cold_start=False)


def check_number(item: Any) -> None:
    """DynamoDB refuses a number of more than 38 digits."""
    fields = object_of(item)
    for kind, value in fields.items():
        if kind == "N" and isinstance(value, str):  # a map may have a member of that name
            assert len(Decimal(value).as_tuple().digits) <= 38
        check_number(value)


def check(event: Event[Any, Any]) -> None:
    """The event follows its schema, is small, and is booked by everybody who takes it."""
    entry = event.to_entry("bus")
    assert len(entry["Detail"]) <= LARGEST
    envelope = json.loads(json.dumps(envelope_of(entry)))
    validator_of(event.detail_type).validate(envelope)
    read = from_envelope(envelope)
    assert is_terminal(read)
    assert measurements_of(read)
    assert settlement_of(read, PRICES) is not None
    if read.detail_type == "InferenceThrottled":
        kept = throttle_entry_of(read, FewModels())
        check_number(to_item(kept.attributes))
        assert all(len(rollup.key[1].encode()) <= 1024 for rollup in kept.rollups)
        json_line(lake_row(event.id, kept.attributes, event.timestamp)).decode()
    if has_entry(read):
        booked = entry_of(read, PRICES)
        assert booked.attributes["usage_source"] == event.data["usage"]["source"]
        if booked.attributes["usage_source"] == "invalid":
            assert booked.share["usage_invalid"] == 1
            assert booked.attributes["pricing"] in ("unpriced", "reported")
        check_number(to_item(booked.attributes))
        check_number(to_item(dict(add_shares([booked.share] * 1000))))
        json_line(lake_row(event.id, booked.attributes, event.timestamp)).decode()


@settings(max_examples=examples(30), suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    documents=answers,
    model=texts.filter(bool),
    name=texts,
    as_stream=st.booleans(),
    path=st.sampled_from(["/chat/completions", "/responses", "/audio/transcriptions", "/embeddings"]),
    error=st.sampled_from([None, UpstreamError(502, "upstream_broken_off", "It broke.")]),
    retry_after=st.sampled_from([None, 1e308, 3.0]),
    status=st.sampled_from([200, 429, 500]),
)
def test_every_event_is_valid_small_and_booked(
    documents: list[Any],
    model: str,
    name: str,
    as_stream: bool,
    path: str,
    error: ProxyError | None,
    retry_after: float | None,
    status: int,
) -> None:
    came = {"error": error, "retry_after": retry_after, "status": status}
    check(event_of(documents, model, name, as_stream=as_stream, path=path, **came))


@pytest.mark.parametrize("as_stream", [True, False])
@pytest.mark.parametrize("text", ["💥" * 400_000, "\x00" * 1_000_000, "\ud800" * 1_000_000])
def test_an_event_stays_small_whatever_is_said_in_it(text: str, as_stream: bool) -> None:
    choices: list[Any] = [{"index": place, "delta": {}, "finish_reason": text[:2000]} for place in range(100)]
    said: dict[str, Any] = {
        "id": text,
        "model": text,
        "choices": choices,
        "usage": {"prompt_tokens": 5, "completion_tokens": 5},
    }
    key = ClientKey("c", name=text, owner=text, tags={f"{place:02}{'n' * 62}": text for place in range(100)})
    fields = {"metadata": {f"{place:02}{'💥' * 31}": "💥" * 32 for place in range(100)}}
    came: dict[str, Any] = {"key": key, "attempts": 1000, "path": "/chat/completions", "fields": fields}
    event = event_of([said], text[:100_000], text[:100_000], as_stream=as_stream, **came)
    assert event.data["usage"]["input_tokens"] == 5
    assert len(event.data["tags"]) == 16
    assert len(event.to_entry("bus")["Detail"]) <= LARGEST


@pytest.mark.parametrize("tokens", [MOST_TOKENS // 2, 10**9])
def test_large_counts_that_are_valid_are_booked_and_settled_to_the_last_digit(tokens: int) -> None:
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens, "total_tokens": 2 * tokens}
    said: dict[str, Any] = {"id": "a", "model": "gpt-5", "choices": [], "usage": usage}
    event = event_of([said], "gpt-5", "n", as_stream=False, path="/chat/completions")
    check(event)
    settlement, booked = settlement_of(event, PRICES), entry_of(event, PRICES)
    assert settlement is not None
    assert settlement.actual == booked.attributes["cost"] > tokens / 10**6
    assert event.data["usage"]["source"] == "reported"
