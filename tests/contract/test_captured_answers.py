"""Whatever answer the proxy captures, the function that stores answers takes it, and the proxy reads it again."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.key_context import ClientKey
from openai_proxy.pricing.price_book import parse_price_book
from openai_proxy.servers import parse_servers
from proxy.cache.capture import Capture
from proxy.cache.captured_event import LARGEST_IN_EVENT, captured_event
from proxy.cache.fill import CacheFill, Wanted
from proxy.cache.item import answer_of, header_of
from proxy.cache.key import Keys
from proxy.cache.policy import Policy
from proxy.call import Call
from proxy.delivery import Delivery
from proxy.metering.meter import Meter
from proxy.outcome import Outcome
from proxy.request.body import OutgoingBody
from proxy.request.parse import Target
from store_response.cached_response import cached_response_of
from store_response.item import LARGEST_ITEM, item_of, item_size

from tests.caches import wire
from tests.examples import examples
from tests.fakes import envelope_of, read_event

PRICES = parse_price_book("servers:\n  up: {free: true}\n")
NOW = 1_800_000_000.0
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)  # half characters too
NAMES = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True) | ANY_TEXT
SCOPES = st.builds("{}:{}".format, st.sampled_from(["client", "key-pool", "server-pool", "pool"]), NAMES)
CONTENT_TYPES = st.sampled_from(["application/json", "Application/JSON; charset=utf-8", "text/event-stream"]) | ANY_TEXT
COUNTS = st.integers(-1, 10**13) | st.floats() | ANY_TEXT
PIECES = st.lists(st.binary(max_size=30) | st.just(b'data: {"a": 1}\n\n'), max_size=6)


SERVER = parse_servers("up: {url: 'http://up.test/v1', token: t, model: m}")["up"]


def call_of(client: str) -> Call:
    return Call("i", 0.0, key=ClientKey(client), target=Target("up", "/chat/completions"))


def metered(model: Any, tokens: Any) -> Meter:
    meter = Meter("application/json", uses_tokens=True)
    meter.see(json.dumps({"model": model, "usage": {"prompt_tokens": tokens, "completion_tokens": 1}}).encode())
    meter.end()
    return meter


@settings(deadline=None, max_examples=examples(100))
@given(data=st.data(), client=NAMES, model=ANY_TEXT, is_stream=st.booleans(), pieces=PIECES, tokens=COUNTS)
def test_what_is_captured_is_stored(
    data: st.DataObject, client: str, model: str, is_stream: bool, pieces: list[bytes], tokens: Any
) -> None:
    moments = iter(sorted(data.draw(st.lists(st.floats(0, 500), min_size=len(pieces), max_size=len(pieces)))))
    capture = Capture(10**6, lambda: next(moments))
    for piece in pieces:
        if piece:
            capture.take(piece)
    scope = data.draw(st.just(f"client:{client}") | SCOPES)
    wanted = Wanted("/chat/completions", "up", {}, is_stream)
    fill = CacheFill(Keys("0" * 64, "1" * 64), Policy(scope, 60, False), wanted, capture)
    headers = {"content-type": data.draw(CONTENT_TYPES)}
    body = OutgoingBody(b"{}", model * data.draw(st.sampled_from([1, 1000])), is_stream, asks_usage_unasked=False)
    meter = metered(data.draw(ANY_TEXT) * 1000, tokens)
    outcome = Outcome(200, Delivery(SERVER, body, headers=headers), meter=meter, usage=meter.usage)

    event, packed = captured_event(fill, call_of(client), outcome, NOW, has_bucket=False)

    if event is None:
        return
    assert packed is None
    entry = event.to_entry("bus")
    assert len(entry["Detail"].encode()) < LARGEST_IN_EVENT * 4 / 3 + 20_000
    item = item_of(cached_response_of(read_event(envelope_of(entry)), PRICES))
    assert item_size(item) <= LARGEST_ITEM
    header = header_of(wire(item), "1" * 64, NOW, 60, 60)
    assert header.packed is not None
    assert answer_of(header, header.packed).body == b"".join(pieces)


def test_the_usual_answer_is_captured() -> None:
    capture = Capture(10**6)
    capture.take(b"{}")
    wanted = Wanted("/chat/completions", "up", {}, is_stream=False)
    fill = CacheFill(Keys("0" * 64, "1" * 64), Policy("client:a", 60, False), wanted, capture, namespace="alice")
    meter = metered("m" * 1000 + "\ud83d", 5)
    delivery = Delivery(SERVER, headers={"content-type": "application/json"})
    outcome = Outcome(200, delivery, meter=meter, usage=meter.usage)

    event, _ = captured_event(fill, call_of("a"), outcome, NOW, has_bucket=False)

    assert event is not None
    assert event.data["response"].get("model") == "m" * 256
    item = item_of(cached_response_of(read_event(envelope_of(event.to_entry("bus"))), PRICES))
    assert item["namespace"] == {"S": "alice"}
