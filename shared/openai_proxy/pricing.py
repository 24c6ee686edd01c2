"""The price book: what a request cost, in USD, from its `Usage`. Pure but for the read of the file.

One rule: a price that is not known is `Unpriced`, never zero. Money is `Decimal` and exact: prices are read from the
text of the file, not from floats, and a cost is `tokens x rate`, shifted by six digits.

    price file ─▶ PriceBook: server ─▶ model pattern ─▶ Price of the day ─▶ Rates for the size of the input ─▶ Cost
"""

import fnmatch
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, NoReturn, cast

import yaml

from openai_proxy.usage import Usage

DEFAULT_PRICES_FILE = Path(__file__).with_name("prices.yaml")

UnpricedReason = Literal["unknown_price", "usage_missing", "usage_inconsistent"]


class PriceBookError(ValueError):
    """The price file cannot be used. The message names the file, the key, what is wrong and the remedy."""


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens of each class. `output` is None for models that put none out (embeddings)."""

    input: Decimal
    cached_input: Decimal
    cache_write: Decimal
    output: Decimal | None


FREE = Rates(input=Decimal(0), cached_input=Decimal(0), cache_write=Decimal(0), output=Decimal(0))


@dataclass(frozen=True, slots=True)
class Price:
    """The rates of a model from a day on. Above `above` input tokens, `rates_above` hold for the whole request."""

    rates: Rates
    effective_from: date = date.min
    above: int | None = None
    rates_above: Rates | None = None

    @property
    def is_free(self) -> bool:
        return self.rates is FREE

    def rates_for(self, input_tokens: int) -> Rates:
        if self.above is not None and self.rates_above is not None and input_tokens > self.above:
            return self.rates_above
        return self.rates


@dataclass(frozen=True, slots=True)
class Cost:
    """USD by token class. `rule` is the line of the price book that set it, as `server/pattern`."""

    pricing: Literal["priced", "free", "none"]
    input: Decimal = Decimal(0)
    cached_input: Decimal = Decimal(0)
    cache_write: Decimal = Decimal(0)
    output: Decimal = Decimal(0)
    rule: str = ""

    @property
    def total(self) -> Decimal:
        return self.input + self.cached_input + self.cache_write + self.output


@dataclass(frozen=True, slots=True)
class Unpriced:
    """The cost is not known: no price for the model on that day, no usage, or usage that contradicts itself."""

    reason: UnpricedReason
    pricing: Literal["unpriced"] = "unpriced"


@dataclass(frozen=True, slots=True)
class _Pattern:
    text: str
    prices: tuple[Price, ...]
    """Newest first."""
    regex: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "regex", re.compile(fnmatch.translate(self.text)))

    @property
    def specificity(self) -> tuple[bool, int]:
        wildcards = sum(self.text.count(character) for character in "*?[")
        return wildcards == 0, len(self.text) - wildcards

    def price_on(self, day: date) -> Price | None:
        return next((price for price in self.prices if price.effective_from <= day), None)


class PriceBook:
    """Prices by server and model pattern. An exact name wins over a pattern, a longer pattern over a shorter one."""

    def __init__(self, version: str, servers: Mapping[str, Mapping[str, tuple[Price, ...]]]) -> None:
        self.version = version
        self._servers = {
            server: sorted(
                (
                    _Pattern(text, tuple(sorted(prices, key=lambda price: price.effective_from, reverse=True)))
                    for text, prices in models.items()
                ),
                key=lambda pattern: pattern.specificity,
                reverse=True,
            )
            for server, models in servers.items()
        }

    @property
    def servers(self) -> list[str]:
        return list(self._servers)

    def find(self, server: str, model: str, day: date) -> tuple[str, Price] | None:
        """The rule (`server/pattern`) and the price in force for `model` on `day`, or None."""
        for pattern in self._servers.get(server, ()):
            if pattern.regex.match(model) and (price := pattern.price_on(day)):
                return f"{server}/{pattern.text}", price
        return None

    def price(self, usage: Usage, server: str | None, model: str | None, day: date) -> Cost | Unpriced:
        """What `usage` of `model` on `server` cost on `day`."""
        if usage.source == "none":
            return Cost("none")
        found = self.find(server or "", model or "", day)
        if found is None:
            return Unpriced("unknown_price")
        rule, price = found
        if price.is_free:
            return Cost("free", rule=rule)
        if usage.source == "missing":
            return Unpriced("usage_missing")
        return _cost(usage, price.rates_for(usage.input_tokens), rule)


def _cost(usage: Usage, rates: Rates, rule: str) -> Cost | Unpriced:
    fresh = usage.input_tokens - usage.cache_read_input_tokens - usage.cache_creation_input_tokens
    if fresh < 0:
        return Unpriced("usage_inconsistent")
    if rates.output is None and usage.output_tokens:
        return Unpriced("unknown_price")
    return Cost(
        "priced",
        input=_usd(fresh, rates.input),
        cached_input=_usd(usage.cache_read_input_tokens, rates.cached_input),
        cache_write=_usd(usage.cache_creation_input_tokens, rates.cache_write),
        output=_usd(usage.output_tokens, rates.output or Decimal(0)),
        rule=rule,
    )


def _usd(tokens: int, rate: Decimal) -> Decimal:
    return (tokens * rate).scaleb(-6)


def load_price_book(path: Path = DEFAULT_PRICES_FILE) -> PriceBook:
    """Read and check the price file at `path`. Raises PriceBookError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PriceBookError(f"{path}: cannot be read ({error}). Remedy: put the price file there.") from error
    return parse_price_book(text, str(path))


def parse_price_book(text: str, file: str = "prices.yaml") -> PriceBook:
    """Check the text of a price file; its form is described at the top of `prices.yaml`. Raises PriceBookError."""
    try:
        document = _plain(yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)), "")
    except yaml.YAMLError as error:
        raise PriceBookError(f"{file}: is not valid YAML: {error}. Remedy: correct that line.") from error
    except _FaultError as fault:
        raise PriceBookError(f"{file}: {fault}") from None
    try:
        top = _mapping(document, "the file", required=("version", "servers"))
        version = top["version"]
        if not isinstance(version, str) or not version:
            _fault("version", "is not a text", "name this edition of the prices, such as a date")
        servers = _mapping(top["servers"], "servers")
        return PriceBook(version, {server: dict(_models(f"servers.{server}", servers[server])) for server in servers})
    except _FaultError as fault:
        raise PriceBookError(f"{file}: {fault}") from None


_CLASSES = ("input", "cached_input", "cache_write", "output")
_HIGHEST_RATE = Decimal(1_000_000)
_MOST_DECIMALS = 9


class _FaultError(Exception):
    """Key, problem and remedy; the file's name is added where it is known."""


def _fault(key: str, problem: str, remedy: str) -> NoReturn:
    raise _FaultError(f"{key}: {problem}. Remedy: {remedy}.")


def _plain(node: Any, key: str) -> Any:
    """A YAML node as dicts, lists and the scalars' own text, so that 0.1 stays 0.1. A key twice is a fault."""
    if isinstance(node, yaml.MappingNode):
        plain: dict[str, Any] = {}
        for key_node, value_node in node.value:
            name = str(key_node.value)
            if name in plain:
                _fault(f"{key}.{name}".lstrip("."), "stands there twice", f"remove line {key_node.start_mark.line + 1}")
            plain[name] = _plain(value_node, f"{key}.{name}".lstrip("."))
        return plain
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, f"{key}[{index}]") for index, item in enumerate(node.value)]
    return node.value if isinstance(node, yaml.ScalarNode) else None


def _mapping(
    value: Any, key: str, required: tuple[str, ...] = (), optional: tuple[str, ...] | None = ()
) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        _fault(key, "is empty or not a mapping", "write `name: value` lines under it")
    mapping = cast("dict[str, Any]", value)
    for name in required:
        if name not in mapping:
            _fault(key, f"has no `{name}`", f"add `{name}:`")
    for name in mapping if required else ():
        if name not in required + (optional or ()):
            _fault(f"{key}.{name}", "unknown key", f"use only {', '.join(required + (optional or ()))}")
    return mapping


def _models(key: str, value: Any) -> Iterator[tuple[str, tuple[Price, ...]]]:
    seen: set[str] = set()
    for names, entry in _mapping(value, key).items():
        entries = cast("list[Any]", entry) if isinstance(entry, list) else [entry]
        prices = tuple(_price(f"{key}.{names}", item) for item in entries)
        if len({price.effective_from for price in prices}) != len(prices) or not prices:
            _fault(f"{key}.{names}", "has no price, or two from the same day", "give each price its own effective_from")
        for pattern in names.split():
            if pattern in seen:
                _fault(
                    f"{key}.{names}",
                    f"{pattern} is priced twice",
                    "keep one, with a list of dated prices if it changed",
                )
            seen.add(pattern)
            yield pattern, prices


def _price(key: str, value: Any) -> Price:
    if value == "free":
        return Price(FREE)
    entry = _mapping(value, key, required=("input",), optional=(*_CLASSES[1:], "effective_from", "above"))
    rates = _rates(key, entry)
    try:
        effective_from = date.fromisoformat(entry["effective_from"]) if "effective_from" in entry else date.min
    except (TypeError, ValueError):
        _fault(f"{key}.effective_from", f"{entry['effective_from']!r} is not a day", "write it as YYYY-MM-DD")
    if "above" not in entry:
        return Price(rates, effective_from)
    key = f"{key}.above"
    above = _mapping(entry["above"], key, required=("input_tokens", "input"), optional=_CLASSES[1:])
    limit = str(above["input_tokens"])
    if not (limit.isascii() and limit.isdigit()):
        _fault(f"{key}.input_tokens", f"{limit!r} is not a number of tokens", "write a whole number, such as 200000")
    return Price(rates, effective_from, int(limit), _rates(key, above))


def _rates(key: str, entry: Mapping[str, Any]) -> Rates:
    given = {name: _rate(f"{key}.{name}", entry[name]) for name in _CLASSES if name in entry}
    # Without a price of their own, cached tokens cost what any input token costs.
    return Rates(
        input=given["input"],
        cached_input=given.get("cached_input", given["input"]),
        cache_write=given.get("cache_write", given["input"]),
        output=given.get("output"),
    )


def _rate(key: str, value: Any) -> Decimal:
    try:
        rate = Decimal(value)
        exponent = rate.as_tuple().exponent
        if isinstance(exponent, int) and exponent >= -_MOST_DECIMALS and 0 <= rate <= _HIGHEST_RATE:
            return rate
    except (InvalidOperation, TypeError, ValueError):
        pass
    remedy = f"write USD per million tokens, such as 2.5 (at most {_MOST_DECIMALS} decimals), or `free` for the model"
    _fault(key, f"{value!r} is not a price", remedy)
