"""`prices`: checks the owner's price file, shows what is charged for what, and refreshes the list prices."""

import argparse
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from openai_proxy.pricing.list_prices import PRICE_LIST_FILE
from openai_proxy.pricing.price_book import PriceBook, Quote
from openai_proxy.pricing.rates import Price, Rates
from openai_proxy.pricing.rules import Adjustment

from console.arguments import adding, known
from console.errors import ConsoleError
from console.output import show, terminal_width
from console.prices.book import add_book_options, add_servers_file, chosen_book
from console.tables import Columns, table
from console.text import count, to_json

_LOCAL = "demo"
"""The local stack's own server, which no servers file lists."""
_MOST_NAMED = 40
"""How many changed models `refresh` names."""


def add_prices(prices: argparse.ArgumentParser) -> None:
    """Give `prices` its commands."""
    add = adding(prices)
    check = add("check", _check, "check your own prices")
    file = Path("prices.yaml")
    check.add_argument("prices", nargs="?", type=Path, default=file, metavar="FILE", help=f"default: {file}")
    add_servers_file(check)
    check.add_argument("--json", action="store_true", help="print JSON, for programs")

    show = add("show", _show, "show what a server or a model costs")
    show.add_argument("--server", metavar="NAME", help="only prices of this server")
    show.add_argument("--model", metavar="NAME", help="only prices of this model")
    at = "the prices of then: YYYY-MM-DD or YYYY-MM-DDTHH:MM (UTC); default: now"
    show.add_argument("--at", type=_moment, metavar="WHEN", help=at)
    show.add_argument("--tier", metavar="NAME", help="the prices of this service tier, such as priority or batch")
    show.add_argument("--json", action="store_true", help="print JSON, for programs")
    add_book_options(show)

    refresh = add("refresh", _refresh, "take over the newest list prices of genai-prices")
    source = refresh.add_mutually_exclusive_group()
    source.add_argument("--from", dest="file", type=Path, metavar="FILE", help="read this wheel, or data.json")
    source.add_argument("--installed", action="store_true", help="read the package that is installed here")
    refresh.add_argument("--version", metavar="VERSION", help="of the package to download, or of a data.json")
    refresh.add_argument(
        "--into",
        type=Path,
        default=PRICE_LIST_FILE,
        metavar="FILE",
        help="write this file; default: the list that ships",
    )
    refresh.add_argument("--dry-run", action="store_true", help="only say what would change")
    refresh.add_argument("--json", action="store_true", help="print JSON, for programs")


def _check(options: argparse.Namespace, _environ: Mapping[str, str]) -> int:
    book = chosen_book(options)
    warnings = [f"{options.prices}: {warning}" for warning in warnings_of(book)]
    if options.json:
        known = _overview(book)
        print(to_json({name: known[name] for name in ("price_version", "servers")} | {"warnings": warnings}))
        return 0
    show(servers_table(book, terminal_width()))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def warnings_of(book: PriceBook) -> list[str]:
    """Warnings of what a price file is allowed to say, but is hardly meant to say."""
    found: list[str] = []
    for server, rules in book.rules.items():
        key = f"servers.{server}"
        if server not in (*book.servers, _LOCAL):
            found.append(f"{key}: the servers file has no such server. Remedy: correct the name, or remove it.")
        provider = book.providers.get(server)
        for rule in rules.rules:
            for adjustment in [price for _, price in rule.dated if isinstance(price, Adjustment)]:
                if provider is None:
                    remedy = "say with `provider` whose list prices it has, or give the price itself"
                    found.append(f"{key}: `{rule.pattern}` refers to list prices, which it has not. Remedy: {remedy}.")
                elif adjustment.like and not book.list.find(provider, adjustment.like):
                    problem = f"{provider} has no listed model '{adjustment.like}'"
                    found.append(f"{key}.models.{rule.pattern}.like: {problem}. Remedy: see `prices show --server`.")
    return found


def servers_table(book: PriceBook, width: int | None = None) -> str:
    """Where each server's prices come from."""
    rows: list[tuple[str, ...]] = []
    for server in sorted({*book.servers, *book.rules}):
        own = book.rules.get(server)
        rules = own.rules if own else ()
        provider = book.providers.get(server)
        listed = f"{provider} ({count(book.list.providers[provider])} models)" if provider else "-"
        is_unpriced = not rules and not provider
        rows.append(
            (server, listed, " ".join(rule.pattern for rule in rules) or "-", "unpriced" if is_unpriced else "")
        )
    shown = table(Columns(("SERVER", "LIST PRICES", "YOUR OWN", ""), drop=()), rows, width=width)
    return f"{shown}\n\nPrice book: {book.version}"


def _show(options: argparse.Namespace, _environ: Mapping[str, str]) -> int:
    book, at = chosen_book(options), options.at or datetime.now(UTC)
    _check_names(book, options)
    if options.server is None and options.model is None:
        if options.json:
            print(to_json(_overview(book)))
        else:
            show(_overview_text(book))
        return 0
    servers: list[str] = [options.server] if options.server else sorted({*book.servers, *book.rules})
    asked = [
        (server, model)
        for server in servers
        for model in ([options.model] if options.model else _known_models(book, server))
    ]
    quotes = [
        (server, model, quote) for server, model in asked if (quote := book.find(server, model, at, options.tier))
    ]
    if not quotes:
        what = f"'{options.model}'" if options.model else "anything"
        what += f" of the service tier '{options.tier}'" if options.tier else ""
        where = f"on '{options.server}'" if options.server else "on any server"
        remedy = "Remedy: give it one in prices.yaml. Until then its requests are recorded as unpriced."
        raise ConsoleError(f"There is no price for {what} {where}. {remedy}")
    if options.json:
        print(to_json([_quoted(*each) | {"price_version": book.version} for each in quotes]))
        return 0
    rows = [(server, model, *_rates_text(quote.price), quote.rule) for server, model, quote in quotes]
    headings = ("SERVER", "MODEL", "INPUT", "CACHED", "OUTPUT", "OTHER", "RULE")
    show(table(Columns(headings, drop=("RULE", "OTHER", "SERVER"), whole=headings[2:5]), rows, width=terminal_width()))
    print(f"\nUSD per million tokens at {at:%Y-%m-%d %H:%M} UTC. Price book: {book.version}")
    return 0


def _check_names(book: PriceBook, options: argparse.Namespace) -> None:
    """Raises ConsoleError for a server or a service tier that nothing knows, and for an option that has no use."""
    if options.server is not None:
        servers = {*book.servers, *book.rules}
        known(options.server, servers, "Server", "`openai-proxy prices show` lists all; of a pool, name a member")
    if options.tier is not None:
        tiers = book.service_tiers
        known(
            options.tier, tiers, "Service tier", f"name one of {', '.join(sorted(tiers))}, or price it in prices.yaml"
        )
    if options.server is None and options.model is None and (options.tier or options.at):
        raise ConsoleError("--tier and --at need --server or --model. Remedy: name a server, a model or both.")


def _known_models(book: PriceBook, server: str) -> list[str]:
    """The patterns of the owner's rules, then the listed models of the server's provider."""
    own = [rule.pattern for rule in book.rules[server].rules] if server in book.rules else []
    provider = book.providers.get(server)
    return own + (book.list.models_of(provider) if provider else [])


def _overview(book: PriceBook) -> dict[str, Any]:
    return {
        "price_version": book.version,
        "servers": {server: book.providers.get(server) for server in sorted({*book.servers, *book.rules})},
        "providers": dict(book.list.providers),
    }


def _overview_text(book: PriceBook) -> str:
    servers = servers_table(book, terminal_width())
    listed = ", ".join(f"{name} ({models})" for name, models in book.list.providers.items())
    return f"{servers}\n\nProviders in {book.list.source} {book.list.version}, and how many models:\n{listed}"


def _rates_text(price: Price) -> tuple[str, str, str, str]:
    if price.is_free:
        return "free", "free", "free", ""
    rates = price.rates.given()
    shown = ("input", "cached_input", "output")
    first, cached, output = (_amount(price.rates.of(name)) for name in shown)
    other = [f"{name} {_amount(rate)}" for name, rate in rates.items() if name not in shown]
    other += [f"above {above:,}: {_amount(tier.input)}/{_amount(tier.output)}" for above, tier in price.tiers]
    other += [f"at least {price.least_seconds} s"] if price.least_seconds else []
    other += [f"unpriced: {', '.join(price.uncounted)} not counted"] if price.uncounted else []
    return first, cached, output, ", ".join(other)


def _quoted(server: str, model: str, quote: Quote) -> dict[str, Any]:
    def usd(rates: Rates) -> dict[str, str]:
        return {name: _amount(rate) for name, rate in rates.given().items()}

    price = quote.price
    return {
        "server": server,
        "model": model,
        "rule": quote.rule,
        "free": price.is_free,
        "usd": usd(price.rates),
        "above": [{"input_tokens": above, "usd": usd(rates)} for above, rates in price.tiers],
        "uncounted": list(price.uncounted),
        "least_seconds": price.least_seconds or None,
    }


def _amount(rate: Decimal | None) -> str:
    return "-" if rate is None else f"{rate.normalize():f}"


def _refresh(options: argparse.Namespace, _environ: Mapping[str, str]) -> int:
    # Only this command needs them, and they load a lot: archives, processes and the metadata of packages.
    from console.export.files import written  # noqa: PLC0415
    from console.prices.conversion import changes_between, price_list_of, to_text  # noqa: PLC0415
    from console.prices.source import downloaded, installed, read_file  # noqa: PLC0415

    old = _price_list(options.into if options.into.is_file() else PRICE_LIST_FILE)
    if options.installed and options.version:
        raise ConsoleError("--installed reads the version that is installed. Remedy: leave --version out.")
    if options.installed:
        source = installed()
    elif options.file:
        source = read_file(options.file, options.version)
    else:
        source = downloaded(options.version)
    new = price_list_of(source, old["licence"])
    changes, versions = changes_between(old, new), (old["version"], new["version"])
    if not options.dry_run:
        with written(options.into) as stream:
            stream.write(to_text(new))
    if options.json:
        said: dict[str, Any] = dict(zip(("version_before", "version_after"), versions, strict=True))
        print(to_json(said | {"changes": changes, "written": None if options.dry_run else str(options.into)}))
        return 0
    print(f"{old['source']} {' > '.join(versions)}")
    for kind, names in changes.items():
        print(f"{kind}: {count(len(names))}")
        for name in names[:_MOST_NAMED]:
            print(f"  {name}")
        if len(names) > _MOST_NAMED:
            print(f"  and {count(len(names) - _MOST_NAMED)} more")
    written = f"Wrote {options.into}. It takes effect with the next deployment; `costs reprice` is for the past."
    print("Nothing was written." if options.dry_run else written)
    return 0


def _price_list(file: Path) -> dict[str, Any]:
    """The list that a file holds. Raises ConsoleError: what is none is not written over."""
    try:
        found = json.loads(file.read_bytes())
        return {name: found[name] for name in ("source", "version", "licence", "providers")}
    except (ValueError, KeyError, TypeError) as error:
        raise ConsoleError(f"{file}: is no list of prices. Remedy: name another file with --into.") from error


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not YYYY-MM-DD or YYYY-MM-DDTHH:MM") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
