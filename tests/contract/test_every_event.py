"""Whatever a client asks and a server says: the event follows its schema, is small, and every consumer books it."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openai_proxy.dynamodb import to_item
from openai_proxy.events.envelope import TERMINAL_DETAIL_TYPES, Event
from openai_proxy.pricing.price_book import load_price_book
from openai_proxy.usage import MOST_TOKENS
from proxy.errors import ProxyError, UpstreamError
from proxy.inference import Inference
from proxy.json_shapes import object_of
from proxy.limits.item import Share, Windows
from proxy.limits.reservation import Taken
from proxy.metering.meter import Meter
from proxy.records.terminal_event import terminal_event
from proxy.request.body import RequestBody
from proxy.request.key_context import ClientKey, Limits
from proxy.request.parse import InferenceRequest, Target
from record_cost.lake import json_line, lake_row
from record_cost.ledger import OUTCOMES, add_shares, entry_of
from record_metrics.measurements import measurements_of
from settle_limits.settlement import settlement_of

from tests.fakes import envelope_of, inference_with

SCHEMAS = Path(__file__).parents[2] / "events" / "schemas"
VALIDATORS: dict[str, Any] = {
    name: Draft202012Validator(json.loads((SCHEMAS / f"{name}.v1.json").read_text())) for name in TERMINAL_DETAIL_TYPES
}
PRICES = load_price_book()
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


def inference_of(documents: list[Any], model: str, name: str, *, as_stream: bool, path: str) -> Inference:
    """The record of a request that was answered with `documents`."""
    asked = json.dumps({"model": model, "stream": as_stream, "messages": [{"role": "user", "content": name}]}).encode()
    headers = {"content-type": "application/json"}
    request = InferenceRequest("function_url", "POST", f"/openai/v1{path}", "", headers, asked, None)
    limits = Limits("line-1", rpm=5, tpm=5000, budget_day=Decimal(5))
    taken = Taken(limits, Windows.of(1_795_000_000), Share("i", 1_795_000_100, 900, Decimal("0.01")), {})
    inference = inference_with(server="openai", status=200, request=request, target=Target("openai", path), taken=taken)
    inference.key = ClientKey("c", key_id="0a", name=name, owner=name, tags={name: name, "b": model}, limits=limits)
    inference.body = RequestBody(request, inference.target or Target("openai", path)).outgoing("m")
    inference.end_user = name
    kind = "text/event-stream" if as_stream else "application/json"
    inference.meter = meter = Meter(
        kind,
        inference.uses_tokens,
        says_its_end=True,
        hides_usage=inference.hides_usage,
        one_choice=inference.one_choice,
    )
    meter.see(written(documents, as_stream=as_stream))
    meter.end()
    return inference


def check_number(item: Any) -> None:
    """DynamoDB refuses a number of more than 38 digits."""
    fields = object_of(item)
    for kind, value in fields.items():
        if kind == "N":
            assert len(Decimal(value).as_tuple().digits) <= 38
        check_number(value)


def check(event: Event) -> None:
    """The event follows its schema, is small, and is booked by everybody who takes it."""
    entry = event.to_entry("bus")
    assert len(entry["Detail"]) <= LARGEST
    envelope = json.loads(json.dumps(envelope_of(entry)))
    VALIDATORS[event.detail_type].validate(envelope)
    read = Event.from_envelope(envelope)
    assert measurements_of(read)
    assert settlement_of(read, PRICES) is not None
    if event.detail_type in OUTCOMES:
        booked = entry_of(read, PRICES)
        assert booked.attributes["usage_source"] == event.data["usage"]["source"]
        if booked.attributes["usage_source"] == "invalid":
            assert booked.share["usage_invalid"] == 1
            assert booked.attributes["pricing"] in ("unpriced", "reported")
        check_number(to_item(booked.attributes))
        check_number(to_item(dict(add_shares([booked.share] * 1000))))
        json_line(lake_row(event.id, booked.attributes, event.timestamp)).decode()


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow], deadline=None)
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
    inference = inference_of(documents, model, name, as_stream=as_stream, path=path)
    inference.error, inference.retry_after, inference.status = error, retry_after, status
    check(terminal_event(inference))


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
    inference = inference_of([said], text[:100_000], text[:100_000], as_stream=as_stream, path="/chat/completions")
    assert inference.key is not None
    inference.key = ClientKey("c", name=text, owner=text, tags={f"{place}{text}": text for place in range(100)})
    inference.attempts = [{"server": "openai", "status_code": 503, "error": None, "duration": 0.1}] * 1000
    event = terminal_event(inference)
    assert event.data["usage"]["input_tokens"] == 5
    assert len(event.to_entry("bus")["Detail"]) <= LARGEST


@pytest.mark.parametrize("tokens", [MOST_TOKENS // 2, 10**9])
def test_large_counts_that_are_valid_are_booked_and_settled_to_the_last_digit(tokens: int) -> None:
    usage = {"prompt_tokens": tokens, "completion_tokens": tokens, "total_tokens": 2 * tokens}
    said: dict[str, Any] = {"id": "a", "model": "gpt-5", "choices": [], "usage": usage}
    event = terminal_event(inference_of([said], "gpt-5", "n", as_stream=False, path="/chat/completions"))
    check(event)
    settlement, booked = settlement_of(event, PRICES), entry_of(event, PRICES)
    assert settlement is not None
    assert settlement.actual == booked.attributes["cost"] > tokens / 10**6
    assert event.data["usage"]["source"] == "reported"
