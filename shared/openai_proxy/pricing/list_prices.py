"""The public list prices that ship with the application: `prices.json`, made by `openai-proxy prices refresh`.

One rule: it says what its source says. The source is the data of genai-prices (https://github.com/pydantic/genai-prices,
MIT); names are compared as it compares them, and of several prices the last one that is in force holds.

    provider ─▶ the first model that matches ─▶ the last price in force at a moment
                                                    └▶ with what differs for a service tier
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from openai_proxy.pricing.rates import FREE, RATES, Price, Rates
from openai_proxy.servers.sign_in import REGION

PRICE_LIST_FILE = Path(__file__).with_name("prices.json")

_COMPACT_DATE = re.compile(r"-(20\d{2})(\d{2})(\d{2})(?=-|:|$)")
_BEDROCK_VERSION = re.compile(r"(?:-20\d{6})?-(?:v\d+(?::\d+)?|\d+:\d+)$")
_GEMINI_PREFIX = "models/"
"""Gemini's own API puts it before every name, and its OpenAI endpoint takes it."""


@dataclass(frozen=True, slots=True)
class DatedPrice:
    """A price from a moment on; with `hours`, only between two times of the day (UTC). `entry` is that of the list."""

    price: Price
    starts: datetime | None = None
    hours: tuple[time, time] | None = None
    entry: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def is_in_force(self, at: datetime) -> bool:
        if self.starts is not None and at < self.starts:
            return False
        if self.hours is None:
            return True
        begin, end = self.hours
        now = at.astimezone(UTC).time()
        return begin <= now < end if begin <= end else now >= begin or now < end


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model's prices as listed. `name` is `provider/model`."""

    name: str
    prices: tuple[DatedPrice, ...]
    by_service_tier: Mapping[str, tuple[DatedPrice, ...]] = field(default_factory=dict[str, tuple[DatedPrice, ...]])
    """What differs where a request was served so; of several that are in force the first holds."""

    def price_at(self, at: datetime) -> Price | None:
        """The standard price."""
        return next((dated.price for dated in reversed(self.prices) if dated.is_in_force(at)), None)

    def price_of_tier(self, tier: str, at: datetime) -> Price | None:
        """The price of a service tier; None where the list has none of its own."""
        standard = next((dated for dated in reversed(self.prices) if dated.is_in_force(at)), None)
        changes = [dated.entry for dated in self.by_service_tier.get(tier, ()) if dated.is_in_force(at)]
        if standard is None or not changes:
            return None
        entry = dict(standard.entry)
        for change in reversed(changes):
            entry |= change
        return _price(entry)


class PriceList:
    """The prices of all providers. `version` is that of the source. Prices are read when they are first asked for."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.version: str = document["version"]
        self.source: str = document["source"]
        self._providers: Mapping[str, Mapping[str, Any]] = document["providers"]
        self.standard_tiers = frozenset[str](document.get("standard_tiers", ()))
        """Service tiers that cost no more than the standard price where they have none of their own."""
        self.free_units = frozenset[str](document.get("free_units", ()))
        """What is counted by the piece and costs nothing beyond its tokens where it has no price."""
        self._read: dict[tuple[str, int], ListedModel] = {}

    @property
    def providers(self) -> Mapping[str, int]:
        """The providers, and how many models of each are listed."""
        return {name: len(provider["models"]) for name, provider in self._providers.items()}

    @property
    def service_tiers(self) -> set[str]:
        """The service tiers that have a price of their own anywhere."""
        models = (model for provider in self._providers.values() for model in provider["models"])
        return {tier for model in models for tier in model.get("tiers", ())}

    def models_of(self, provider: str) -> list[str]:
        """The names of the models that are listed for a provider."""
        return [model["id"] for model in self._providers[provider]["models"]]

    def provider_at(self, url: str) -> str | None:
        """The provider whose API has the address `url`, in which the Region may be left open."""
        somewhere = url.replace(REGION, "us-east-1")
        return next((name for name, provider in self._providers.items() if re.match(provider["url"], somewhere)), None)

    def find(self, provider: str, model: str) -> ListedModel | None:
        """The prices of `model` at `provider`, or at those whose models it offers. Case does not matter."""
        name = model.lower().removeprefix(_GEMINI_PREFIX)
        found = self._find(provider, name) or self._find(provider, _with_dashes(name))
        return found or self._find(provider, self._with_version(provider, name))

    def _with_version(self, provider: str, model: str) -> str:
        """The listed name of a model that one of two addresses of Bedrock calls without date and version."""
        listed = self.models_of(provider) if provider in self._providers else []
        names = (name.removeprefix("regional.") for name in listed)
        return next((name for name in names if _BEDROCK_VERSION.sub("", name) == model), model)

    def _find(self, provider: str, model: str) -> ListedModel | None:
        own = self._providers.get(provider)
        if own is None:
            return None
        for name in (provider, *own.get("fallbacks", ())):
            for index, entry in enumerate(self._providers[name]["models"]):
                if _matches(entry["match"], model):
                    return self._model(name, index)
        return None

    def _model(self, provider: str, index: int) -> ListedModel:
        found = self._read.get((provider, index))
        if found is None:
            entry = self._providers[provider]["models"][index]
            prices, tiers = entry["prices"], entry.get("tiers", {})
            by_tier = {tier: tuple(map(_dated_price, changes)) for tier, changes in tiers.items()}
            found = ListedModel(f"{provider}/{entry['id']}", tuple(map(_dated_price, prices)), by_tier)
            self._read[provider, index] = found
        return found

    def newest_start(self, at: datetime) -> datetime | None:
        """When the newest price began that holds at `at`: the list is no older. None for one without dates."""
        dates = {
            datetime.combine(date.fromisoformat(entry["from"]), time(), UTC)
            for provider in self._providers.values()
            for model in provider["models"]
            for entry in model["prices"]
            if "from" in entry
        }
        return max((start for start in dates if start <= at), default=None)

    def read_all(self) -> list[ListedModel]:
        """Every model's prices. Raises KeyError, TypeError, ValueError or ArithmeticError for what is no price."""
        return [self._model(name, index) for name, count in self.providers.items() for index in range(count)]


def load_price_list() -> PriceList:
    """The price list that is part of this package."""
    return PriceList(json.loads(PRICE_LIST_FILE.read_bytes()))


NO_LIST = PriceList({"source": "no list", "version": "", "providers": {}})


def _matches(rule: Any, name: str) -> bool:
    """Whether a lower-case name is what `rule` describes: {"equals": …}, {"starts_with": …}, {"or": […]} …"""
    [(kind, value)] = rule.items()
    match kind:
        case "equals":
            return name == value.lower()
        case "starts_with":
            return name.startswith(value.lower())
        case "ends_with":
            return name.endswith(value.lower())
        case "contains":
            return value.lower() in name
        case "regex":
            return re.search(value, name) is not None
        case "or":
            return any(_matches(one, name) for one in value)
        case "and":
            return all(_matches(one, name) for one in value)
        case _:
            raise ValueError(f"{kind!r} is no way to match a name")


def _with_dashes(model: str) -> str:
    """A date at the end of a name in its long form: OpenRouter says gpt-5-20250807 for gpt-5-2025-08-07."""

    def dashed(found: re.Match[str]) -> str:
        try:
            return f"-{date(*map(int, found.groups())).isoformat()}"
        except ValueError:
            return found[0]

    return _COMPACT_DATE.sub(dashed, model)


def _dated_price(entry: Mapping[str, Any]) -> DatedPrice:
    starts = datetime.combine(date.fromisoformat(entry["from"]), time(), UTC) if "from" in entry else None
    hours = None
    if "hours" in entry:
        begin, end = entry["hours"]
        hours = time.fromisoformat(begin), time.fromisoformat(end)
    return DatedPrice(_price(entry), starts, hours, entry)


def _price(entry: Mapping[str, Any]) -> Price:
    """Each rate is a text, or a list of a text and of [above, text] pairs for longer inputs."""
    if entry.get("free"):
        return FREE
    given: dict[str, Sequence[Any]] = {
        name: [entry[name]] if isinstance(entry[name], str) else entry[name] for name in RATES if name in entry
    }
    starts = sorted({above for rates in given.values() for above, _ in rates[1:]})
    tiers = tuple((start, Rates(**{name: _rate_at(rates, start) for name, rates in given.items()})) for start in starts)
    return Price(
        Rates(**{name: Decimal(rates[0]) for name, rates in given.items()}),
        tiers,
        uncounted=tuple(entry.get("uncounted", ())),
        least_seconds=entry.get("least_seconds", 0),
        units=tuple((name, Decimal(rate)) for name, rate in entry.get("units", {}).items()),
    )


def _rate_at(rates: Sequence[Any], start: int) -> Decimal:
    return Decimal(next((rate for above, rate in reversed(rates[1:]) if above <= start), rates[0]))
