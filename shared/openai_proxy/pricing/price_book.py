"""The price book: what a request cost, in USD, from its `Usage`. Pure but for the read of its files.

One rule: a price that is not known is `Unpriced`, never zero; but what the server states that an answer cost counts
where the book knows none. Money is `Decimal` and exact.

    server ─▶ the owner's most specific rule in force ─▶ its price
           └▶ none, or a discount on the list: provider ─▶ model ─▶ list price in force
                                                                        └▶ rates for the size of the input ─▶ Cost
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from openai_proxy.pricing.list_prices import NO_LIST, ListedModel, PriceList, load_price_list
from openai_proxy.pricing.rates import Price, UnpricedReason, components_of, exact_sum
from openai_proxy.pricing.rules import PriceBookError, Rule, ServerRules, parse_rules, price_file_fault
from openai_proxy.servers import load_servers
from openai_proxy.usage import Usage
from openai_proxy.yaml_files import YamlFileError, read_text

__all__ = ["Cost", "PriceBook", "PriceBookError", "Quote", "Unpriced", "load_price_book", "parse_price_book"]

LAYER = Path(__file__).parents[2]
"""Where the layer was unpacked: relative PRICES_FILE and SERVERS_FILE are files that it carries."""
PRICES_FILE = LAYER / "prices.yaml"
SERVERS_FILE = LAYER / "openai_servers.yaml"

RULE_OF_REPORTED = "the server's own cost"
"""The rule of what the price book did not price."""

_MOST_REMEMBERED = 4096


@dataclass(frozen=True, slots=True)
class Cost:
    """USD by component. `rule` names the line of the price book that set it.

    `reported`: the price book knows no price, and `stated` is what the server says the answer cost; it has no parts.
    `unpriced_units`: how many pieces of what is billed by the piece have no price; they are in no amount.
    """

    pricing: Literal["priced", "free", "none", "reported"]
    components: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    rule: str = ""
    stated: Decimal | None = None
    unpriced_units: int = 0

    @property
    def total(self) -> Decimal:
        return exact_sum(self.components) if self.stated is None else self.stated


@dataclass(frozen=True, slots=True)
class Unpriced:
    """The cost is not known."""

    reason: UnpricedReason
    pricing: Literal["unpriced"] = "unpriced"


@dataclass(frozen=True, slots=True)
class Quote:
    """The price of a model at a moment. `rule` says where it stands: `own:server/pattern`, `list:provider/model`, or
    both with the factor between them.
    """

    rule: str
    price: Price


class PriceBook:
    """The owner's rules over the list prices. `version` changes with anything that a price depends on."""

    def __init__(
        self,
        price_list: PriceList = NO_LIST,
        rules: Mapping[str, ServerRules] | None = None,
        urls: Mapping[str, str] | None = None,
        document: Any = None,
    ) -> None:
        """`urls` are the servers' addresses: they tell whose list prices hold. `document` is what `rules` stand in."""
        self.list = price_list
        self.rules = dict(rules or {})
        self.servers = tuple(urls or ())
        self.providers = self._resolved(urls or {})
        """Whose list prices a server has, by the server's name."""
        self.version = _version(price_list, document, self.providers)
        self._remembered: dict[tuple[str, str], tuple[tuple[Rule, ...], ListedModel | None]] = {}

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "PriceBook":
        """The book of the files that a function's layer carries. Raises PriceBookError and ServersFileError."""
        prices, servers = environ.get("PRICES_FILE") or PRICES_FILE, environ.get("SERVERS_FILE") or SERVERS_FILE
        return load_price_book(LAYER / prices, LAYER / servers)

    def _resolved(self, urls: Mapping[str, str]) -> dict[str, str]:
        found = {name: self.list.provider_at(url) for name, url in urls.items()}
        found |= {name: rules.provider for name, rules in self.rules.items() if rules.provider}
        return {name: provider for name, provider in found.items() if provider}

    @property
    def service_tiers(self) -> set[str]:
        """Every service tier that the list or a rule of the owner's knows."""
        dated = (price for own in self.rules.values() for rule in own.rules for _, price in rule.dated)
        own = {name for price in dated if isinstance(price, Price) for name, _ in price.by_service_tier}
        return {*self.list.standard_tiers, *self.list.service_tiers, *own}

    def find(self, server: str, model: str, at: datetime, tier: str | None = None) -> Quote | None:
        """The price in force for `model` on `server`, for requests of a service `tier` where one is named; or None."""
        rules, listed = self._candidates(server, model)
        for rule in rules:
            own = rule.at(at)
            name = f"own:{server}/{rule.pattern}"
            if isinstance(own, Price):
                price = own.at_service_tier(tier, self.list.standard_tiers) if tier else own
                return price and Quote(name if price == own else f"{name} {tier}", price)
            if own is not None:
                quote = self._quote(self._listed(server, own.like) if own.like else listed, at, tier)
                return quote and Quote(f"{name} {own.factor:f}x {quote.rule}", quote.price.times(own.factor))
        return self._quote(listed, at, tier)

    def price(self, usage: Usage, server: str | None, model: str | None, at: datetime) -> Cost | Unpriced:
        """What `usage` of `model` on `server` cost at the moment `at` (with its time zone)."""
        if usage.source == "none":
            return Cost("none")
        quote = self.find(server or "", model or "", at, usage.service_tier)
        if quote is None:
            is_known = usage.service_tier and self.find(server or "", model or "", at)
            return Unpriced("unknown_tier" if is_known else "unknown_price")
        components = components_of(usage, quote.price)
        if isinstance(components, str):
            return Unpriced(components)
        known = {*self.list.free_units, *(name for name, _ in quote.price.units)}
        unpriced = 0 if quote.price.is_free else sum(count for name, count in usage.units if name not in known)
        if unpriced and not any(components.values()):
            return Unpriced("unknown_price")
        return Cost("free" if quote.price.is_free else "priced", components, quote.rule, unpriced_units=unpriced)

    def price_answer(
        self, usage: Usage, server: str | None, answered: str | None, asked: str | None, at: datetime
    ) -> tuple[Cost | Unpriced, str | None]:
        """What a request cost, and the model whose price that is.

        The model that answered sets the price. When it has none, the one that was asked for does: an alias that the
        server resolved to a name that is not listed still has its own. Without either, what the server states counts.
        """
        cost, model = self.price(usage, server, answered, at), answered
        if isinstance(cost, Unpriced) and cost.reason == "unknown_price" and asked != answered:
            cost, model = self.price(usage, server, asked, at), asked
        if isinstance(cost, Unpriced) and usage.cost_reported is not None:
            cost = Cost("reported", rule=RULE_OF_REPORTED, stated=usage.cost_reported)
        return cost, model

    def _candidates(self, server: str, model: str) -> tuple[tuple[Rule, ...], ListedModel | None]:
        """What may hold for a model; remembered, because few models answer many requests."""
        known = self._remembered.get((server, model))
        if known is None:
            own = self.rules.get(server)
            rules = tuple(rule for rule in own.rules if rule.matches(model)) if own else ()
            known = rules, self._listed(server, model)
            if len(self._remembered) >= _MOST_REMEMBERED:  # clients make names up
                self._remembered.clear()
            self._remembered[server, model] = known
        return known

    def _quote(self, listed: ListedModel | None, at: datetime, tier: str | None) -> Quote | None:
        """The list price; of a service tier its own, or the standard price where that is no lower."""
        if listed is None:
            return None
        price = listed.price_at(at)
        if price is None:
            return None
        own = listed.price_of_tier(tier, at) if tier else None
        if own and own != price:
            return Quote(f"list:{listed.name} {tier}", own)
        is_standard = own or not tier or price.at_service_tier(tier, self.list.standard_tiers)
        return Quote(f"list:{listed.name}", price) if is_standard else None

    def _listed(self, server: str, model: str) -> ListedModel | None:
        provider = self.providers.get(server)
        return self.list.find(provider, model) if provider else None


def load_price_book(prices_file: Path = PRICES_FILE, servers_file: Path = SERVERS_FILE) -> PriceBook:
    """The list prices under the rules of `prices_file`, for the servers of `servers_file`.

    Raises PriceBookError and ServersFileError.
    """
    try:
        text = read_text(prices_file)
    except YamlFileError as fault:
        raise price_file_fault(str(prices_file), fault) from fault
    urls = {server.name: server.url for server in load_servers(servers_file).values() if not server.pool}
    return parse_price_book(text, str(prices_file), load_price_list(), urls)


def parse_price_book(
    text: str, file: str = "prices.yaml", price_list: PriceList = NO_LIST, urls: Mapping[str, str] | None = None
) -> PriceBook:
    """The price book of the text of a price file. Raises PriceBookError."""
    rules, document = parse_rules(text, file, price_list.providers)
    return PriceBook(price_list, rules, urls, document)


def _version(price_list: PriceList, document: Any, providers: Mapping[str, str]) -> str:
    """The list's name and version, and a digest of what the owner adds to it: not of comments or order."""
    own = json.dumps([document, providers], sort_keys=True).encode()
    name = f"{price_list.source} {price_list.version}".strip().replace(" ", "-")
    return f"{name}+{hashlib.sha256(own).hexdigest()[:8]}"
