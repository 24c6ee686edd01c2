"""List prices against an independent computation: genai-prices' own, on its own data.

The package is read as `openai-proxy prices refresh` reads it; every listed model has to cost the same here and there.
"""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price, extract_usage
from genai_prices.data import providers
from genai_prices.types import ModelInfo, Provider
from hypothesis import given, settings
from hypothesis import strategies as st
from openai_proxy.pricing.list_prices import PriceList, load_price_list
from openai_proxy.pricing.price_book import Cost, PriceBook, Unpriced
from openai_proxy.pricing.rates import Price, Rates
from openai_proxy.usage import Usage, counted_units
from proxy.metering.usage import told_in

from console.prices.conversion import price_list_of
from console.prices.source import installed
from tests.examples import examples
from tests.recordings import STREAMS, recorded

FAR_AWAY = datetime(2020, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
URLS = {"anthropic": "https://api.anthropic.com/v1", "azure": "https://x.openai.azure.com/openai/v1"}


@cache
def converted() -> PriceList:
    """The installed package's data in the form that ships."""
    return PriceList(price_list_of(installed(), ""))


@cache
def book() -> PriceBook:
    """A price book with a server for each provider, of its name."""
    prices = PriceBook(converted())
    prices.providers |= {name: name for name in converted().providers}
    return prices


def names_in(match: object) -> Iterator[str]:
    """Names that a provider's rule is made of."""
    values: list[Any] = list(vars(match).values())
    for value in values:
        if isinstance(value, str):
            yield value
        else:
            for part in value:
                yield from names_in(part)


NAMES = sorted(
    {(provider.id, name) for provider in providers for model in provider.models for name in names_in(model.match)}
    | {(provider.id, model.id) for provider in providers for model in provider.models}
    | {("azure", "gpt-5"), ("azure", "claude-opus-5"), ("azure", "deepseek-v3"), ("google", "claude-sonnet-4-5")}
    | {("openrouter", "openai/gpt-4o-mini-20240718"), ("openai", "GPT-5-20250807"), ("openai", "gpt-5-20259999")}
)


def test_every_name_means_the_same_model():
    by_id: dict[str, Provider] = {provider.id: provider for provider in providers}

    for provider, name in NAMES:
        model = by_id[provider].find_model(name, all_providers=providers)
        found = converted().find(provider, name)
        assert (found.name.split("/", 1)[1] if found else None) == (model.id if model else None), (provider, name)


def test_every_address_means_the_same_provider():
    for url in [*URLS.values(), "https://api.groq.com/openai/v1", "https://openrouter.ai/api/v1", "https://x.example"]:
        theirs = next((each.id for each in providers if re.match(each.api_pattern, url)), None)
        assert converted().provider_at(url) == theirs


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """Usage whose parts fit into their wholes, of all classes that genai-prices and the proxy have in common."""
    parts = st.sampled_from([0, 0, 1, 7, 1_000, 99_999, 300_000, 2_000_000])
    fresh, cached, written, spoken, text, thought, voice = (draw(parts) for _ in range(7))
    seen, drawn = draw(parts), draw(parts)
    searches = draw(st.integers(0, 3))
    seconds = draw(st.sampled_from([None, None, 0.5, 3.0, 61.25]))
    return Usage(
        fresh + cached + written + spoken + seen,
        text + thought + voice + drawn,
        cached,
        written,
        thought,
        "reported",
        spoken,
        voice,
        seconds,
        seen,
        drawn,
        cache_creation_1h_input_tokens=draw(st.integers(0, written)),
        units=counted_units({"web_search": searches, "file_search": draw(st.integers(0, 2))}),
    )


def theirs(provider: str, model: str, usage: Usage, at: datetime) -> Decimal:
    seconds = {} if usage.duration is None else {"audio_seconds": Decimal(str(usage.duration))}
    used = TheirUsage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_input_tokens,
        cache_write_tokens=usage.cache_creation_input_tokens,
        cache_write_1h_tokens=usage.cache_creation_1h_input_tokens,
        web_searches=dict(usage.units).get("web_search", 0),
        storage_searches=dict(usage.units).get("file_search", 0),
        input_audio_tokens=usage.input_audio_tokens,
        cache_audio_read_tokens=0,
        output_tokens=usage.output_tokens,
        output_reasoning_tokens=usage.reasoning_output_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        input_image_tokens=usage.input_image_tokens,
        cache_image_read_tokens=0,
        output_image_tokens=usage.output_image_tokens,
        **seconds,
        **{f"input_{name}": value for name, value in seconds.items()},
    )
    return calc_price(used, model, provider_id=provider, genai_request_timestamp=at).total_price


def leaves_something_out(price: Price, usage: Usage) -> bool:
    """Whether the price does not cover the usage: genai-prices charges the rest, here it is no cost at all."""
    rates = price.rates_for(usage.input_tokens)
    has_tokens = usage.input_tokens or usage.output_tokens
    return not (
        rates.are_of_tokens
        and (rates.input is not None or not usage.input_tokens)
        and (rates.output is not None or not usage.output_tokens)
        and (rates.audio_hour is not None or has_tokens or not usage.duration)
    )


def cost_if_comparable(price: Price, usage: Usage, cost: Cost | Unpriced) -> Decimal | None:
    """What was charged here. None where genai-prices charges what it can, and here it is unpriced for a good reason."""
    if isinstance(cost, Cost):
        return cost.total
    match cost.reason:
        case "unknown_price":
            assert usage.units or leaves_something_out(price, usage)
        case "usage_missing":
            assert usage.duration is None
        case _:
            assert cost.reason == "usage_incomplete"
            assert price.uncounted
    return None


OWN_UNITS = ("gpt-4o-search-preview", "gpt-5-search-api")
"""Their searches have a price here that the package does not know."""
TIERS = {"processing": "batch", "speed": "fast", "service_tier": None}


def test_every_service_tier_costs_the_same():
    usage = Usage(1000, 200, cache_read_input_tokens=300, source="reported")
    compared = 0
    for provider in providers:
        for model in provider.models:
            for when in [variant.when for variant in model.price_variants or ()]:
                [(name, value)] = when.items()
                if name not in TIERS or (TIERS[name] or value) != value or provider.find_model(model.id) is not model:
                    continue
                ours = book().price(usage._replace(service_tier=value), provider.id, model.id, NOW)
                used = TheirUsage(input_tokens=1000, output_tokens=200, cache_read_tokens=300)
                theirs = calc_price(
                    used, model.id, provider_id=provider.id, genai_request_timestamp=NOW, price_context={name: value}
                )
                if isinstance(ours, Cost):
                    assert ours.total == theirs.total_price, (provider.id, model.id, when)
                    compared += 1
                else:
                    assert ours.reason in ("unknown_price", "usage_incomplete", "usage_missing"), (
                        provider.id,
                        model.id,
                        when,
                    )
    assert compared > 150


@pytest.mark.parametrize("tier", ["auto", "batch", "default", "flex", "on_demand", "scale", "standard"])
def test_a_tier_that_is_no_dearer_costs_at_most_the_standard_price(tier: str):
    usage = Usage(1000, 200, source="reported")
    for name in ("gpt-4", "gpt-5", "gpt-5.4-mini"):
        standard, ours = (book().price(usage._replace(service_tier=each), "openai", name, NOW) for each in (None, tier))
        assert isinstance(standard, Cost)
        assert isinstance(ours, Cost)
        assert 0 < ours.total <= standard.total


def test_a_tier_that_may_be_dearer_has_a_price_of_its_own_or_none():
    usage = Usage(1000, 200, source="reported")
    dear = book().price(usage._replace(service_tier="priority"), "openai", "gpt-5", NOW)
    plain = book().price(usage, "openai", "gpt-5", NOW)
    assert isinstance(dear, Cost)
    assert isinstance(plain, Cost)
    assert (dear.rule, dear.total > plain.total) == ("list:openai/gpt-5 priority", True)
    for tier in ("priority", "performance", "other"):
        assert book().price(usage._replace(service_tier=tier), "openai", "gpt-4", NOW) == Unpriced("unknown_tier")
    assert book().price(usage._replace(service_tier="priority"), "openai", "no-model", NOW) == Unpriced("unknown_price")


@cache
def named() -> list[tuple[Provider, ModelInfo]]:
    """Every model that its id means; another one, listed before it, may take the name."""
    models = [(provider, model) for provider in providers for model in provider.models]
    return [(provider, model) for provider, model in models if provider.find_model(model.id) is model]


@settings(max_examples=examples(3))
@given(usage=usages(), days=st.integers(0, 365 * 7 + 200), minutes=st.integers(0, 24 * 60 - 1))
def test_every_model_costs_the_same_at_any_time(usage: Usage, days: int, minutes: int):
    at = FAR_AWAY + timedelta(days=days, minutes=minutes)
    compared = 0
    for provider, model in named():
        quote = book().find(provider.id, model.id, at)
        if quote is None or model.id in OWN_UNITS:
            continue
        ours = cost_if_comparable(quote.price, usage, book().price(usage, provider.id, model.id, at))
        if ours is not None:
            paid = theirs(provider.id, model.id, usage, at)
            # Nine decimals of a rate, twelve of what is paid by time: what they have more is noise of floats.
            assert abs(ours - paid) <= paid * Decimal("1e-8") + Decimal("1e-12"), (provider.id, model.id)
            compared += 1
    assert compared > 1000


PROVIDERS = {"xai": "x-ai", "gemini": "google"}


def reported_answer(file: Path) -> dict[str, Any] | None:
    """The recorded answer, or the event of a recorded stream, that reports the usage."""
    text = file.read_text(encoding="utf-8")
    datas = [text] if file.suffix == ".json" else [line[5:] for line in text.splitlines() if line.startswith("data:")]
    found: dict[str, Any] | None = None
    for data in datas:
        document: dict[str, Any] = json.loads(data) if data.strip().startswith("{") else {}
        wrapped: Any = document.get("response")
        answer = cast("dict[str, Any]", wrapped) if isinstance(wrapped, dict) else document
        beside: dict[str, Any] = document.get("x_groq") or {}
        if answer.get("usage") or beside.get("usage"):
            found = {"usage": beside.get("usage")} | answer
    return found


def their_cost(answer: dict[str, Any], provider: str, endpoint: str) -> Decimal | None:
    """What genai-prices makes of the answer as its server sent it; None for what it does not know."""
    flavors = {"chat/completions": "chat", "responses": "responses", "embeddings": "embeddings", "completions": "chat"}
    for flavor in (flavors.get(endpoint, "default"), "default"):
        try:
            extracted = extract_usage(answer, provider_id=provider, api_flavor=flavor)
        except (ValueError, LookupError):
            continue
        return extracted.calc_price(genai_request_timestamp=NOW).total_price if extracted.model else None
    return None


def comparable_recordings() -> Iterator[Any]:
    """Recorded answers that report a usage, of models and endpoints that genai-prices knows."""
    for entry in recorded():
        answer = reported_answer(STREAMS / entry["file"])
        server: str = entry["server"]
        provider = PROVIDERS.get(server, server)
        # It does not read the audio of transcriptions.
        if answer and entry["endpoint"] != "audio/transcriptions":
            paid = their_cost(answer, provider, entry["endpoint"])
            if paid is not None:
                yield pytest.param(answer, provider, paid, id=entry["file"])


COMPARABLE = list(comparable_recordings())


def test_many_recordings_are_comparable():
    assert len(COMPARABLE) >= 45


@pytest.mark.parametrize(("answer", "provider", "paid"), COMPARABLE)
def test_answers_of_real_servers_cost_what_genai_prices_says(answer: dict[str, Any], provider: str, paid: Decimal):
    usage, _ = told_in(answer, is_whole=True)
    assert usage is not None

    cost = book().price(usage, provider, answer["model"], NOW)

    assert isinstance(cost, Cost)
    assert cost.total == paid


def test_the_price_list_that_ships_is_fit_and_says_where_it_is_from():
    shipped = load_price_list()

    assert shipped.source == "genai-prices"
    assert shipped.version.count(".") == 2
    assert len(shipped.read_all()) > 1000


@pytest.mark.parametrize(
    ("provider", "model", "reason"),
    [
        ("openai", "gpt-image-1", "usage_incomplete"),
        ("openai", "tts-1", "usage_incomplete"),
        ("mistral", "mistral-ocr-latest", "usage_incomplete"),
        ("openai", "whisper-1", "usage_missing"),
        ("cerebras", "qwen-3-coder-480b", "unknown_price"),
        ("openai", "no-such-model", "unknown_price"),
        ("no-such-provider", "gpt-5", "unknown_price"),
    ],
)
def test_what_cannot_be_priced_has_a_reason_and_no_cost(provider: str, model: str, reason: str):
    assert book().price(Usage(10, 10, source="reported"), provider, model, NOW) == Unpriced(reason)  # pyright: ignore[reportArgumentType]


def test_free_models_are_free():
    assert book().price(Usage(10, 10, source="reported"), "openrouter", "openai/gpt-oss-20b:free", NOW) == Cost(
        "free", rule="list:openrouter/openai/gpt-oss-20b:free"
    )


@pytest.mark.parametrize(
    ("hour", "cost"), [("00:59", "0.15"), ("01:00", "0.3"), ("03:59", "0.3"), ("04:00", "0.15"), ("06:00", "0.3")]
)
def test_some_prices_depend_on_the_time_of_day(hour: str, cost: str):
    at = datetime.fromisoformat(f"2026-11-23T{hour}+00:00")

    price = book().price(Usage(1_000_000, source="reported"), "deepseek", "deepseek-v4-flash", at)

    assert isinstance(price, Cost)
    assert price.total == Decimal(cost) == theirs("deepseek", "deepseek-v4-flash", Usage(1_000_000), at)


def test_short_transcriptions_are_billed_for_ten_seconds_at_groq():
    def cost(seconds: float) -> Decimal:
        price = book().price(Usage(duration=seconds, source="reported"), "groq", "whisper-large-v3", NOW)
        assert isinstance(price, Cost)
        return price.total

    assert cost(3.0) == cost(10.0) == Decimal("0.000308333333")
    assert cost(20.0) == Decimal("0.000616666667")


@pytest.mark.parametrize(
    ("at_mantle", "at_runtime"),
    [
        ("openai.gpt-oss-20b", "openai.gpt-oss-20b-1:0"),
        ("anthropic.claude-haiku-4-5", "anthropic.claude-haiku-4-5-20251001-v1:0"),
        ("anthropic.claude-opus-4-8", "anthropic.claude-opus-4-8-v1:0"),
        ("qwen.qwen3-32b", "qwen.qwen3-32b-v1:0"),
        ("amazon.nova-lite", "amazon.nova-lite-v1:0"),
    ],
)
def test_bedrock_has_the_same_prices_behind_both_addresses(at_mantle: str, at_runtime: str) -> None:
    prices = load_price_list()
    urls = [
        *("https://bedrock-mantle.eu-west-1.api.aws/v1", "https://bedrock-mantle.eu-west-1.api.aws/openai/v1"),
        *("https://bedrock-runtime.{region}.amazonaws.com/openai/v1", "https://bedrock-mantle.{region}.api.aws/v1"),
        "https://bedrock-runtime-fips.us-east-1.amazonaws.com/openai/v1",
    ]
    assert {prices.provider_at(url) for url in urls} == {"aws"}
    found = prices.find("aws", at_mantle)
    assert found is not None
    assert found == prices.find("aws", at_runtime)


def test_another_model_is_not_taken_for_a_version() -> None:
    for name in ("openai.gpt-oss", "anthropic.claude-haiku", "amazon.nova", "anthropic.claude-haiku-4-5-2"):
        assert load_price_list().find("aws", name) is None


@pytest.mark.parametrize(
    ("name", "is_found"),
    [
        ("m-2025-01-31", True),
        ("M-20250131", True),
        ("m-20250131:free", True),
        ("m-20250131-fast", True),
        ("m-202501310", False),
        ("m-20250132", False),
    ],
)
def test_a_date_in_a_name_may_have_no_dashes(name: str, is_found: bool) -> None:
    model = {"id": "m", "match": {"starts_with": "m-2025-01-31"}, "prices": [{"input": "1"}]}
    listed = PriceList({"source": "s", "version": "1", "providers": {"p": {"url": "https://p", "models": [model]}}})
    assert [each.name for each in [listed.find("p", name)] if each] == ["p/m"] * is_found


def test_each_rate_rises_where_it_says() -> None:
    prices = [{"input": ["1", [100, "2"], [300, "2.5"]], "output": ["3", [200, "4"]], "request": "5"}]
    model = {"id": "m", "match": {"equals": "m"}, "prices": prices}
    listed = PriceList({"source": "s", "version": "1", "providers": {"p": {"url": "https://p", "models": [model]}}})
    found = listed.find("p", "m")
    assert found
    steps = {0: ("1", "3"), 100: ("2", "3"), 200: ("2", "4"), 300: ("2.5", "4")}
    rates = {above: Rates(input=Decimal(i), output=Decimal(o), request=Decimal(5)) for above, (i, o) in steps.items()}
    assert found.prices[0].price == Price(rates.pop(0), tuple(rates.items()))
