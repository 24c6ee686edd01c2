"""`costs what-if`: prices the past with another model's or another book's prices, and says what it cannot know."""

import argparse
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from openai_proxy.pricing.price_book import PriceBook
from openai_proxy.pricing.rates import COMPONENTS

from console.arguments import Parser, known
from console.costs.filters import add_source
from console.costs.reading import Ledger
from console.costs.summary import NAMES, attribute, is_dimension
from console.errors import ConsoleError
from console.known import check_filters
from console.lake.reading import chosen_lake
from console.output import show, terminal_width
from console.period import add_period, chosen_period, last_days
from console.prices.book import add_book_options, chosen_book
from console.stack import add_table_options, chosen_table
from console.tables import Columns, table
from console.text import count, harmless, to_json
from console.what_if.figures import OF_ENTRIES, STATED, UNKNOWABLE, Sums, Target, WhatIf, what_if

_USUAL_DAYS = "30d"
_VERSION = r"([-@]\d{4}-?\d{2}-?\d{2})?"
"""What servers add to the name of a model that answers."""


def add_what_if(command: Parser) -> None:
    """Give `what-if` its options. What stands before its name holds for it too."""
    command.description = (
        "Prices the requests that a model answered with the prices of another model, or of another price file "
        "(--prices), by class of token. Nothing is changed."
    )
    command.add_argument("--from", dest="from_model", metavar="MODEL", help="only what this model answered")
    command.add_argument("--from-server", metavar="NAME", help="only what this server answered")
    command.add_argument(
        "--to", dest="to_model", metavar="MODEL", help="the model whose prices hold instead; default: its own"
    )
    help_ = "the server whose prices hold; needed where servers price the model differently"
    command.add_argument("--to-server", metavar="NAME", help=help_)
    command.add_argument("--client", default=argparse.SUPPRESS, metavar="NAME", help="only of this client")
    names = ", ".join(NAMES)
    command.add_argument("--by", type=dimensions, default=[], metavar="DIMENSION", help=f"also by {names} or tag:NAME")
    add_period(command, inherited=True, days=False)
    command.also_taken = frozenset({"first", "last"})  # `costs --from 2026-11-01 what-if`
    add_source(command, inherited=True)
    add_book_options(command)
    add_table_options(command, "CostsTable", inherited=True)
    command.set_defaults(run=run_what_if)


def run_what_if(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run `costs what-if`. Raises ConsoleError and botocore's errors."""
    if options.to_model and not options.from_model:
        raise ConsoleError("--to needs --from. Remedy: name the model whose requests are to be priced otherwise.")
    if options.to_server and not options.to_model:
        raise ConsoleError("--to-server needs --to. Remedy: name the model of that server whose prices are to hold.")
    period, book = chosen_period(options) or last_days(_USUAL_DAYS), chosen_book(options)
    if options.to_server:
        known(options.to_server, {*book.servers, *book.rules}, "Server", "`openai-proxy prices show` lists all")
    ledger = Ledger(chosen_table("CostsTable", options, environ))
    rollups = [row for row in ledger.rollups(period) if _is_wanted(row, options)]
    if not rollups:
        check_filters(argparse.Namespace(client=options.client, server=options.from_server), environ)
        raise ConsoleError(
            f"The ledger has no request {period.text}{_asked(options)}. "
            "Remedy: `openai-proxy costs --by client,server,model` shows what there was."
        )
    target = target_of(book, options, {row["server"] for row in rollups})
    if lake := chosen_lake(rollups, options, environ):
        entries = (each for each in lake.entries(_wanted_of(rollups, options), OF_ENTRIES) if _is_wanted(each, options))
    else:
        entries = (each for each in ledger.entries(rollups, OF_ENTRIES) if _is_wanted(each, options))
    found = what_if(entries, target, options.by)
    if options.json:
        print(to_json(as_document(found, target)))
    else:
        which = _asked(options) or " of all models"
        print(f"Requests {period.text}{which}, at the prices of {_named(target)}, in USD\n")
        show(as_text(found, terminal_width()))
    return 0


def target_of(book: PriceBook, options: argparse.Namespace, servers: set[str]) -> Target:
    """Whose prices hold. Raises ConsoleError where nobody has the model, or several have it at different prices."""
    if not options.to_model:
        return Target(book)
    now, model = datetime.now(UTC), options.to_model
    known = [options.to_server] if options.to_server else sorted({*book.servers, *book.rules})
    quotes = {name: quote.price for name in known if (quote := book.find(name, model, now))}
    if not quotes:
        remedy = "Remedy: name one that `openai-proxy prices show` knows, or give it a price in prices.yaml."
        who = f"The server '{harmless(options.to_server)}' has no" if options.to_server else "No server has a"
        raise ConsoleError(f"{who} price of the model '{harmless(model)}'. {remedy}")
    own = [name for name in quotes if name in servers]
    if len(own) == 1 or all(price == next(iter(quotes.values())) for price in quotes.values()):
        return Target(book, (own or list(quotes))[0], model)
    raise ConsoleError(
        f"'{harmless(model)}' has different prices at {', '.join(quotes)}. Remedy: choose one with --to-server."
    )


def _is_wanted(row: Mapping[str, Any], options: argparse.Namespace) -> bool:
    return (
        (options.client is None or row["client_id"] == options.client)
        and (options.from_server is None or row.get("server") == options.from_server)
        and (options.from_model is None or is_version_of(str(row.get("model", "-")), options.from_model))
    )


def _wanted_of(rollups: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> dict[str, set[str]]:
    """The values that are wanted, by column: of models those that answered, dated versions among them."""
    named = {"client_id": options.client, "server": options.from_server, "model": options.from_model}
    return {name: {str(row[name]) for row in rollups} for name, wanted in named.items() if wanted is not None}


def is_version_of(model: str, name: str) -> bool:
    """Whether a model that answered is the one that is called so, or a dated version of it."""
    return re.fullmatch(re.escape(name) + _VERSION, model) is not None


def _asked(options: argparse.Namespace) -> str:
    wanted = {"client": options.client, "server": options.from_server, "model": options.from_model}
    named = [f"{what} '{harmless(name)}'" for what, name in wanted.items() if name is not None]
    return f" with {', '.join(named)}" if named else ""


def _named(target: Target) -> str:
    return f"{harmless(target.model)} of {harmless(target.server)}" if target.model else "the price file"


def as_text(found: WhatIf, width: int | None = None) -> str:
    """A comparison for people: by class, by what was asked for, and what it cannot know."""
    names = [*COMPONENTS, STATED]
    rows = [[name.replace("_", " "), *_figures(found.classes[name])] for name in names if name in found.classes]
    headings = ("CLASS", "REQUESTS", "OLD", "NEW", "DIFFERENCE", "PERCENT")
    texts = [table(Columns(headings, numbers=5), [*rows, ["TOTAL", *_figures(found.total)]], width=width, total=True)]
    if found.by:
        ordered = sorted(found.groups.items(), key=lambda each: (each[1].difference, each[0]))
        grouped = [[*map(harmless, key), *_figures(sums)] for key, sums in ordered]
        texts.append(table(Columns((*map(str.upper, found.by), *headings[1:]), numbers=5), grouped, width=width))
    return "\n\n".join([*texts, "\n".join(_left_out(found)), "\n".join(("What nobody can know of it:", *UNKNOWABLE))])


def _left_out(found: WhatIf) -> list[str]:
    reasons = ", ".join(f"{count(number)} {reason}" for reason, number in sorted(found.reasons.items()))
    known = {
        f"No new price is known of requests, which are in neither cost: {reasons}.": found.reasons,
        f"Requests that had no price are in neither cost: {count(found.unpriced_before)}.": found.unpriced_before,
        f"Answers of the response cache, which cost nothing either way: {count(found.cache_hits)}.": found.cache_hits,
        f"Requests with an estimated usage: {count(found.usage_estimated)}.": found.usage_estimated,
        f"Searches and the like without a new price: {count(found.unpriced_units)}.": found.unpriced_units,
        f"Requests of a service tier, priced as others are: {count(found.tiers)}.": found.tiers,
    }
    cache = f"The new cost if no prompt cache knows anything there: {found.new_without_cache:.6f}."
    return [*(line for line, number in known.items() if number), *([cache] if found.total.requests else [])]


def _figures(sums: Sums) -> list[str]:
    if not sums.requests:
        return ["0", *["-"] * 4]
    percent = "-" if sums.percent is None else f"{sums.percent:+.1f} %"
    return [count(sums.requests), f"{sums.old:.6f}", f"{sums.new:.6f}", f"{sums.difference:+.6f}", percent]


def as_document(found: WhatIf, target: Target) -> dict[str, Any]:
    """A comparison for programs. Amounts are exact."""
    without_cache = found.new_without_cache if found.total.requests else None
    return {
        "to": {"server": target.server or None, "model": target.model or None, "price_version": target.book.version},
        "total": _document(found.total) | {"cost_new_without_cache": without_cache},
        "classes": [{"class": name} | _document(sums) for name, sums in sorted(found.classes.items())],
        "groups": [
            dict(zip(map(attribute, found.by), key, strict=True)) | _document(sums)
            for key, sums in sorted(found.groups.items())
            if found.by
        ],
        "left_out": {
            "without_new_price": found.reasons,
            "without_old_price": found.unpriced_before,
            "cache_hits": found.cache_hits,
        },
        "usage_estimated": found.usage_estimated,
        "unpriced_units": found.unpriced_units,
        "of_service_tiers": found.tiers,
        "not_known": list(UNKNOWABLE),
    }


def _document(sums: Sums) -> dict[str, Any]:
    costs = {"cost_old": sums.old, "cost_new": sums.new, "cost_difference": sums.difference}
    return {"requests": sums.requests, **(costs if sums.requests else dict.fromkeys(costs))}


def dimensions(text: str) -> list[str]:
    """By what a comparison is made besides. Raises ArgumentTypeError."""
    for name in text.split(","):
        if not is_dimension(name):
            raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(NAMES)} and tag:NAME")
    return text.split(",")
