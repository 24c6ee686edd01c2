"""Converts the data of genai-prices to `prices.json`, the price list that ships with the application. Pure.

Its one rule: nothing becomes cheaper on the way. A price that distinguishes what usage does not count is marked
`uncounted`, and what has no price gets none.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import time
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, cast

from openai_proxy.pricing.list_prices import PriceList
from openai_proxy.usage import tier_of

from console.errors import ConsoleError
from console.prices.source import PACKAGE, Source

_RATES = {
    "input_mtok": "input",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "cache_write_5m_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "cache_audio_read_mtok": "cached_audio_input",
    "input_image_mtok": "image_input",
    "cache_image_read_mtok": "cached_image_input",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "output_audio_mtok": "audio_output",
    "output_image_mtok": "image_output",
    "requests_kcount": "request",
    "audio_hours": "audio_hour",
    "input_audio_hours": "audio_hour",
}
# What is billed by the thousand pieces, as usage names the pieces: servers have two names for running code.
_UNITS = {
    "web_searches_kcount": ("web_search",),
    "social_searches_kcount": ("x_search",),
    "storage_searches_kcount": ("file_search",),
    "code_executions_kcount": ("code_execution", "code_interpreter"),
    "rerank_searches_kcount": ("search",),
}
# Tools whose calls cost nothing but their tokens, where no price is listed (https://openai.com/api/pricing,
# https://docs.claude.com/en/docs/about-claude/pricing).
_FREE_UNITS = ("mcp", "tool_search", "web_fetch")
# Models of chats that search before each answer (https://openai.com/api/pricing): USD.
_UNITS_OF = {
    ("openai", "gpt-4o-search-preview"): {"web_search": "0.025"},
    ("openai", "gpt-5-search-api"): {"web_search": "0.01"},
}
# Service tiers that cost as much as the standard price, or less, where no price of their own is listed: names of it
# (Groq says on_demand), and what is slower or paid in advance. Priority is none of them.
_STANDARD_TIERS = ("auto", "batch", "default", "flex", "on_demand", "scale", "standard")
_DECIMALS = Decimal(1).scaleb(-9)
# Groq bills at least ten seconds of a transcription (https://console.groq.com/docs/speech-to-text).
_LEAST_SECONDS = {("groq", "whisper-large-v3"): 10, ("groq", "whisper-large-v3-turbo"): 10}
# The same models at the same prices behind another address (https://docs.aws.amazon.com/bedrock/latest/userguide/endpoints.html).
_MORE_URLS = {
    "aws": (r"https://(?:bedrock-mantle\.[a-z0-9-]+\.api\.aws|bedrock-runtime-fips\.[a-z0-9-]+\.amazonaws\.com)(/|$)",)
}


Document = dict[str, Any]


def price_list_of(source: Source, licence: str) -> Document:
    """The document of `prices.json`. Raises ConsoleError when the source is not what it was in version 0.2."""
    try:
        document = {
            "source": PACKAGE,
            "version": source.version,
            "licence": source.licence or licence,
            "standard_tiers": list(_STANDARD_TIERS),
            "free_units": list(_FREE_UNITS),
            "providers": {provider["id"]: _provider(provider) for provider in source.providers},
        }
        PriceList(document).read_all()
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        problem = f"{PACKAGE} {source.version} is not in the form that this command reads ({error!r})"
        raise ConsoleError(f"{problem}. Remedy: name an earlier version with --version.") from error
    return document


def to_text(document: Document) -> str:
    """The document as JSON with a line for each model, so that a change of prices can be read as a diff."""
    lines = ["{"]
    lines += [
        f"{json.dumps(name)}: {json.dumps(document[name])},"
        for name in ("source", "version", "licence", "standard_tiers", "free_units")
    ]
    lines.append('"providers": {')
    providers = list(document["providers"].items())
    for number, (name, provider) in enumerate(providers, 1):
        head = {key: value for key, value in provider.items() if key != "models"}
        lines.append(f'{json.dumps(name)}: {json.dumps(head)[:-1]}, "models": [')
        models = [json.dumps(model, separators=(",", ":"), ensure_ascii=False) for model in provider["models"]]
        lines += [f"{model}," for model in models[:-1]] + models[-1:]
        lines.append("]}" if number == len(providers) else "]},")
    return "\n".join([*lines, "}", "}", ""])


def changes_between(old: Document, new: Document) -> dict[str, list[str]]:
    """The models whose prices were added, removed or changed, as `provider/model`."""
    before, after = _prices_by_name(old), _prices_by_name(new)
    return {
        "added": sorted(after.keys() - before.keys()),
        "removed": sorted(before.keys() - after.keys()),
        "changed": sorted(name for name in before.keys() & after.keys() if before[name] != after[name]),
    }


def _prices_by_name(document: Document) -> dict[str, Any]:
    return {
        f"{provider}/{model['id']}": [model["prices"], model.get("tiers")]
        for provider, entry in document["providers"].items()
        for model in entry["models"]
    }


def _provider(provider: Mapping[str, Any]) -> Document:
    urls = [provider["api_pattern"], *_MORE_URLS.get(provider["id"], ())]
    converted: Document = {"url": "|".join(f"(?:{url})" for url in urls) if len(urls) > 1 else urls[0]}
    if fallbacks := provider.get("fallback_model_providers"):
        converted["fallbacks"] = fallbacks
    return converted | {"models": [_model(provider["id"], model) for model in provider["models"]]}


def _model(provider: str, model: Mapping[str, Any]) -> Document:
    prices: Any = model["prices"]
    dated = cast("list[Document]", prices if isinstance(prices, list) else [{"prices": prices}])
    converted = [_conditions(price.get("constraint")) | _rates(price["prices"]) for price in dated]
    if least := _LEAST_SECONDS.get((provider, model["id"])):
        converted = [price | {"least_seconds": least} for price in converted]
    if units := _UNITS_OF.get((provider, model["id"])):
        converted = [price | {"units": units} for price in converted]
    if model["id"].endswith(":free"):  # OpenRouter's name for what costs nothing; an empty price elsewhere is none
        converted = [price or {"free": True} for price in converted]
    tiers = _tiers(model.get("price_variants") or ())
    found = {"id": model["id"], "match": model["match"], "prices": [price for price in converted if price]}
    return found | {"tiers": tiers} if tiers else found


def _tiers(variants: Sequence[Mapping[str, Any]]) -> dict[str, list[Document]]:
    """What differs by service tier. What depends on anything else that no answer tells is left out."""
    found: dict[str, list[Document]] = {}
    for variant in variants:
        tier, rates = _tier(variant["when"]), _rates(variant["prices"])
        if tier and rates:
            found.setdefault(tier, []).append(_conditions(variant.get("constraint")) | rates)
    return found


def _tier(when: Mapping[str, str]) -> str | None:
    """The service tier that a condition is about, as answers name it."""
    if len(when) != 1:
        return None
    [(name, value)] = when.items()
    is_named = name == "service_tier" or (name, value) in (("processing", "batch"), ("speed", "fast"))
    return tier_of(value) if is_named else None


def _conditions(constraint: Mapping[str, Any] | None) -> Document:
    if not constraint:
        return {}
    if "start_date" in constraint:
        return {"from": constraint["start_date"]}
    return {"hours": [_utc(constraint["start_time"]), _utc(constraint["end_time"])]}


def _utc(text: str) -> str:
    moment = time.fromisoformat(text)
    if moment.utcoffset():
        raise ValueError(f"{text} is not in UTC")
    return moment.replace(tzinfo=None).isoformat("minutes")


def _rates(prices: Mapping[str, Any]) -> Document:
    given = {name: value for name, value in prices.items() if value is not None}
    rates: Document = {}
    for name, rate in _RATES.items():
        if name in given:
            rates[rate] = _rate(given[name], per=1000 if name == "requests_kcount" else 1)
    if units := {unit: _rate(given[name], per=1000) for name in _UNITS if name in given for unit in _UNITS[name]}:
        rates["units"] = units
    if uncounted := sorted(
        name for name in given.keys() - _RATES.keys() - _UNITS.keys() if given[name] != _charged_as(name, given)
    ):
        rates["uncounted"] = uncounted
    return rates


def _charged_as(name: str, given: Mapping[str, Any]) -> Any:
    """The price of the class that an uncounted class is charged as. If both cost the same, it need not be counted."""
    match name.split("_"):
        case ["cache", _, "read", "mtok"]:
            return given.get("cache_read_mtok")
        case ["input" | "output" as direction, _, "mtok"]:
            return given.get(f"{direction}_mtok")
        case _:
            return None


def _rate(price: Any, per: int) -> str | list[Any]:
    if isinstance(price, Mapping):
        tiered = cast("Document", price)
        return [_text(tiered["base"], per), *([tier["start"], _text(tier["price"], per)] for tier in tiered["tiers"])]
    return _text(price, per)


def _text(price: Any, per: int) -> str:
    rate = (Decimal(str(price)) / per).quantize(_DECIMALS, ROUND_HALF_EVEN).normalize()
    if not rate.is_finite() or rate < 0:
        raise ValueError(f"{price} is not a price")
    return f"{rate:f}"
