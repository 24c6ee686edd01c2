"""What an answer has cost, as its client is told: by what it is priced, and what is said where nobody knows."""

import json
from collections.abc import Mapping
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from openai_proxy.pricing.price_book import parse_price_book
from openai_proxy.servers import parse_servers
from openai_proxy.usage import Usage
from proxy.call import Call
from proxy.delivery import OFF, CacheUse, Delivery
from proxy.endpoints.answer_cost import CostOf, Prices
from proxy.outcome import Outcome
from proxy.request.body import OutgoingBody
from proxy.request.parse import InferenceRequest, Target
from proxy.timeline import Clock, Timeline

UP = parse_servers("up: {url: 'http://127.0.0.1:1/v1', token: t, model: m}")["up"]
LONG = "x" * 128
BOOK = parse_price_book(
    "servers: {up: {models: {real: {input: 1, output: 10}, asked: {input: 2, output: 20},"
    f" {LONG}: {{input: 3, output: 30}}, now: [{{input: 1, output: 1, effective_from: 2030-01-01}}]}}}}}}"
)
USAGE = Usage(source="reported", input_tokens=100, output_tokens=10)
CALL = Call(
    "01M8558AXTR9M5E4B7N3QK2VWC",
    0.0,
    InferenceRequest("function_url", "POST", "/v1/chat/completions", "", {}, b"", None),
    target=Target("up", "/chat/completions"),
)


def cost(answered: str | None, asked: str | None, cache: CacheUse = OFF, usage: Usage = USAGE) -> CostOf:
    timeline = Timeline(Clock(lambda: 1_795_400_000.0, lambda: 50.0))
    facts = {"model": answered, "usage": usage, "service_tier": None, "is_half_counted": False, "is_queued": False}
    meter: Any = SimpleNamespace(**facts, is_readable=True, is_stream=True, error=None, background_since=None)
    sent = OutgoingBody(b"", asked, True, False)
    return Prices(lambda: BOOK).cost_of(CALL, Outcome(200, Delivery(UP, sent), cache, meter), timeline)


@pytest.mark.parametrize(
    ("answered", "asked", "amount"),
    [
        ("real", "asked", "0.0002"),
        (None, "asked", "0.0004"),
        ("", "asked", "0.0004"),
        ("unknown", "asked", "0.0004"),
        ("unknown", "unknown", None),
        (None, None, None),
        (LONG + "y", "asked", "0.0006"),
        ("unknown", LONG + "y", "0.0006"),
        ("now", "now", None),
    ],
)
def test_the_model_that_answered_sets_the_price_or_else_the_one_that_was_asked_for(
    answered: str | None, asked: str | None, amount: str | None
) -> None:
    found = cost(answered, asked)
    assert found.to_receipt() == {"cost": amount, "currency": "USD", "pricing": "priced" if amount else "unpriced"}
    assert found.cost == (None if amount is None else Decimal(amount))


def test_an_answer_of_the_cache_has_cost_nothing() -> None:
    assert cost("real", "real", CacheUse("HIT", None, 1, None, USAGE)).to_receipt()["cost"] == "0"


@pytest.mark.parametrize(
    ("amount", "text"),
    [(None, None), ("0", "0"), ("-0", "0"), ("1E+3", "1000"), ("1.50", "1.5"), ("1E-9", "0.000000001")],
)
def test_a_cost_is_written_plainly(amount: str | None, text: str | None) -> None:
    assert CostOf(None if amount is None else Decimal(amount)).text == text


def test_a_price_book_is_loaded_once_and_what_goes_wrong_costs_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    loads: list[int] = []

    def load() -> Any:
        loads.append(len(loads))
        if len(loads) == 1:
            raise LookupError("a secret")
        return BOOK

    prices = Prices(load)
    facts: Mapping[str, Any] = {"call": CALL, "outcome": Outcome(), "timeline": Timeline()}
    assert prices.cost_of(**facts) == CostOf(None, "unpriced")
    line = json.loads(capsys.readouterr().out)
    assert line.pop("timestamp")
    assert "in load" in line.pop("trace")
    assert line == {"level": "ERROR", "message": "A cost could not be told", "id": CALL.id, "error": "LookupError"}
    assert [prices.cost_of(**facts).pricing for _ in range(3)] == ["none"] * 3
    assert loads == [0, 1]
    assert capsys.readouterr().out == ""
