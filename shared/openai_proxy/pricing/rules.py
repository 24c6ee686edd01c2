"""The owner's own prices: what `prices.yaml` says, checked. Its form is described at the top of that file. Pure.

One rule: a file with any fault is refused whole, with the file, the key and the remedy. Prices are read from the text
of the file, not from floats, so that 0.1 stays 0.1.
"""

import fnmatch
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, NoReturn, cast

from openai_proxy.pricing.rates import FREE, RATES, Price, Rates
from openai_proxy.usage import UNNAMED_TIER, tier_of, unit_of
from openai_proxy.yaml_files import YamlFileError, is_number, plain_values


class PriceBookError(ValueError):
    """A file of the price book cannot be used. The message names the file, the key, what is wrong and the remedy."""


@dataclass(frozen=True, slots=True)
class Adjustment:
    """The list price of the model, or of the one it is `like`, times `factor`."""

    factor: Decimal = Decimal(1)
    like: str | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """What the owner says of the models that match `pattern`: the price from a moment on, newest first."""

    pattern: str
    dated: tuple[tuple[datetime, Price | Adjustment], ...]
    _regex: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_regex", re.compile(fnmatch.translate(self.pattern.lower())))

    def matches(self, model: str) -> bool:
        return self._regex.match(model.lower()) is not None

    def at(self, moment: datetime) -> Price | Adjustment | None:
        """What holds at `moment`; None before the first price."""
        return next((price for starts, price in self.dated if starts <= moment), None)

    @property
    def specificity(self) -> tuple[bool, int]:
        wildcards = sum(self.pattern.count(character) for character in "*?[")
        return wildcards == 0, len(self.pattern) - wildcards


@dataclass(frozen=True, slots=True)
class ServerRules:
    """What the owner says of a server: whose list prices it has (None: the file does not say), and the rules.

    The most specific rule is first.
    """

    provider: str | None = None
    rules: tuple[Rule, ...] = ()


def price_file_fault(file: str, fault: YamlFileError) -> PriceBookError:
    """What is wrong with a price file before anything in it is looked at."""
    key = f" {fault.path}:" if fault.path else ""
    return PriceBookError(f"{file}:{key} {fault.problem}. Remedy: {fault.remedy}.")


def parse_rules(text: str, file: str, providers: Collection[str]) -> tuple[dict[str, ServerRules], Any]:
    """Check the text of a price file. Returns its rules by server, and the plain document. Raises PriceBookError."""
    try:
        document = plain_values(text)
        if document is None:
            return {}, None
        top = _mapping(document, "the file", required=("servers",))
        if not top["servers"]:
            return {}, None
        servers = _mapping(top["servers"], "servers")
        return {name: _server(f"servers.{name}", entry, providers) for name, entry in servers.items()}, document
    except YamlFileError as fault:
        raise price_file_fault(file, fault) from fault
    except _FaultError as fault:
        raise PriceBookError(f"{file}: {fault}") from None


_HIGHEST_RATE = Decimal(1_000_000)
_MOST_DECIMALS = 9
_MOST_DIGITS = 12
"""Of a number of tokens."""
_HIGHEST_FACTOR = Decimal(1000)
_BEGINNING = datetime.min.replace(tzinfo=UTC)
_SERVER_KEYS = ("free", "provider", "multiply", "models")
_OWN_RATES = (*RATES, "audio_minute")


class _FaultError(Exception):
    """Key, problem and remedy; the file's name is added where it is known."""


def _fault(key: str, problem: str, remedy: str) -> NoReturn:
    raise _FaultError(f"{key}: {problem}. Remedy: {remedy}.")


def _mapping(
    value: Any, key: str, required: tuple[str, ...] = (), optional: tuple[str, ...] | None = None
) -> dict[str, Any]:
    """`value` as a mapping with all of `required`; and, if these are said, with none but them and `optional`."""
    if not isinstance(value, dict) or not value:
        _fault(key, "is empty or not a mapping", "write `name: value` lines under it")
    mapping = cast("dict[str, Any]", value)
    for name in required:
        if name not in mapping:
            _fault(key, f"has no `{name}`", f"add `{name}:`")
    allowed = required + (optional or ())
    for name in mapping if allowed else ():
        if name not in allowed:
            _fault(f"{key}.{name}", "unknown key", f"use only {', '.join(allowed)}")
    return mapping


def _server(key: str, value: Any, providers: Collection[str]) -> ServerRules:
    entry = _mapping(value, key, optional=_SERVER_KEYS)
    provider = entry.get("provider")
    if "provider" in entry and provider not in list(providers):
        remedy = "use a name that `openai-proxy prices show` lists"
        _fault(f"{key}.provider", f"{provider!r} is no provider of the price list", remedy)
    if "free" in entry:
        if len(entry) > 1:
            _fault(f"{key}.free", "a free server has no prices", "remove the other keys, or this one")
        _check_free(f"{key}.free", entry["free"])
        return ServerRules(None, (Rule("*", ((_BEGINNING, FREE),)),))
    rules = list(_rules(f"{key}.models", entry["models"])) if "models" in entry else []
    if "multiply" in entry:
        if any(rule.pattern == "*" for rule in rules):
            _fault(f"{key}.multiply", "`models` has a rule for all models already, `*`", "keep one of them")
        rules.append(Rule("*", ((_BEGINNING, Adjustment(_factor(f"{key}.multiply", entry["multiply"]))),)))
    return ServerRules(provider, tuple(sorted(rules, key=lambda rule: rule.specificity, reverse=True)))


def _rules(key: str, value: Any) -> Iterator[Rule]:
    seen: set[str] = set()
    for names, entry in _mapping(value, key).items():
        items = cast("list[Any]", entry) if isinstance(entry, list) else [entry]
        dated = [_dated_price(f"{key}.{names}", item) for item in items]
        if len({starts for starts, _ in dated}) != len(dated) or not dated:
            problem = "has no price, or two from the same moment"
            _fault(f"{key}.{names}", problem, "give each price its own effective_from")
        for pattern in names.split():
            if pattern.lower() in seen:
                remedy = "keep one, with a list of dated prices if it changed"
                _fault(f"{key}.{names}", f"{pattern} is priced twice", remedy)
            seen.add(pattern.lower())
            yield Rule(pattern, tuple(sorted(dated, key=lambda pair: pair[0], reverse=True)))


def _dated_price(key: str, value: Any) -> tuple[datetime, Price | Adjustment]:
    if value == "free":
        return _BEGINNING, FREE
    entry = _mapping(value, key)
    starts = _moment(f"{key}.effective_from", entry["effective_from"]) if "effective_from" in entry else _BEGINNING
    if "free" in entry:
        _check_free(f"{key}.free", _mapping(entry, key, ("free",), ("effective_from",))["free"])
        return starts, FREE
    if "multiply" in entry or "like" in entry:
        _mapping(entry, key, optional=("multiply", "like", "effective_from"))
        like = entry.get("like")
        if "like" in entry and not (isinstance(like, str) and like):
            _fault(f"{key}.like", "is not the name of a model", "write the model whose list price it has")
        return starts, Adjustment(_factor(f"{key}.multiply", entry.get("multiply", "1")), like)
    return starts, _price(key, entry)


def _price(key: str, entry: Mapping[str, Any]) -> Price:
    rates = _rates(key, _mapping(entry, key, optional=(*_OWN_RATES, "effective_from", "above", "tiers", "units")))
    units = _units(f"{key}.units", entry["units"]) if "units" in entry else ()
    if not (rates.given() or units):
        _fault(key, "has no price", "give `input` and `output`, `request`, `audio_minute` or `units`, or write `free`")
    above = entry.get("above", [])
    tiers: dict[int, Rates] = {}
    for item in cast("list[Any]", above) if isinstance(above, list) else [above]:
        tier = _mapping(item, f"{key}.above", required=("input_tokens",), optional=_OWN_RATES)
        limit = str(tier["input_tokens"])
        if not (limit.isascii() and limit.isdigit() and len(limit) <= _MOST_DIGITS):
            remedy = "write a whole number, such as 200000"
            _fault(f"{key}.above.input_tokens", f"{limit!r} is not a number of tokens", remedy)
        if int(limit) in tiers:
            _fault(f"{key}.above.input_tokens", f"{limit} stands there twice", "keep one of them")
        given = _rates(f"{key}.above", tier)
        if missing := rates.given().keys() - given.given().keys():
            _fault(f"{key}.above", f"has no `{min(missing)}`", "give every price that the model has, changed or not")
        tiers[int(limit)] = given
    price = Price(rates, tuple(sorted(tiers.items())), units=units)
    if "tiers" not in entry:
        return price
    named = _mapping(entry["tiers"], f"{key}.tiers")
    return replace(price, by_service_tier=tuple(_service_tier(f"{key}.tiers", each, price) for each in named.items()))


def _service_tier(key: str, named: tuple[str, Any], price: Price) -> tuple[str, Price]:
    """The price of a service tier beside the standard `price` of the model."""
    name, value = named
    key = f"{key}.{name}"
    if tier_of(name) != name or name == UNNAMED_TIER:
        _fault(key, "is no service tier", "name it as the server does, in lower case, such as `flex`")
    if value == "standard":
        return name, price
    entry = _mapping(value, key, optional=(*_OWN_RATES, "above", "units"))
    own = _price(key, entry)
    own = replace(own, units=tuple((dict(price.units) | dict(own.units)).items()))
    if missing := price.rates.given().keys() - own.rates.given().keys():
        _fault(key, f"has no `{min(missing)}`", "give every price that the model has, or write `standard`")
    if price.tiers and not own.tiers:
        _fault(key, "has no `above`", "give what holds for long inputs too")
    return name, own


def _rates(key: str, entry: Mapping[str, Any]) -> Rates:
    given = {name: _rate(f"{key}.{name}", entry[name]) for name in _OWN_RATES if name in entry}
    if (minute := given.pop("audio_minute", None)) is not None:
        if "audio_hour" in given:
            _fault(f"{key}.audio_minute", "`audio_hour` is given too", "keep one of them")
        given["audio_hour"] = minute * 60
    return Rates(**given)


def _units(key: str, value: Any) -> tuple[tuple[str, Decimal], ...]:
    """USD for each piece of what is billed so."""
    named = _mapping(value, key)
    for name in named:
        if unit_of(name) != name:
            _fault(f"{key}.{name}", "is no name of a unit", "name it as `units` of an entry does, such as `web_search`")
    return tuple((name, _rate(f"{key}.{name}", each)) for name, each in named.items())


def _check_free(key: str, value: Any) -> None:
    if value != "true":
        _fault(key, f"{value!r} is not `true`", "write `free: true`, or prices")


def _moment(key: str, value: Any) -> datetime:
    try:
        if len(value) == len("YYYY-MM-DD"):
            return datetime.combine(date.fromisoformat(value), time(), UTC)
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        pass
    _fault(key, f"{value!r} is no day and no moment", "write a day (UTC), YYYY-MM-DD, or YYYY-MM-DDTHH:MMZ")


def _factor(key: str, value: Any) -> Decimal:
    factor = _decimal(value)
    if factor is None or not 0 < factor <= _HIGHEST_FACTOR:
        _fault(key, f"{value!r} is not a factor", "write a number such as 0.9 for a tenth less, or `free`")
    return factor


def _rate(key: str, value: Any) -> Decimal:
    rate = _decimal(value)
    if rate is None or not 0 <= rate <= _HIGHEST_RATE:
        remedy = f"write USD, such as 2.5 (at most {_MOST_DECIMALS} decimals), or `free` for the model"
        _fault(key, f"{value!r} is not a price", remedy)
    return rate


def _decimal(value: Any) -> Decimal | None:
    """A finite number with a bounded number of decimals, or None."""
    if not is_number(value):
        return None
    number = Decimal(value)
    exponent = number.as_tuple().exponent
    return number if isinstance(exponent, int) and exponent >= -_MOST_DECIMALS else None
