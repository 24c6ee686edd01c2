"""The options of `keys` that say what a key may do, and how they are read."""

import argparse
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from openai_proxy.client_keys import LIMITS
from openai_proxy.limits import LAST_RESET_DAY, WEEKDAYS

from console.errors import ConsoleError
from console.keys.keys import Wanted

_DAY = 86400
_UNSET = {
    "owner": "owner",
    "tag": "tags",
    "server": "servers",
    "model": "models",
    "rpm": "rpm",
    "tpm": "tpm",
    "parallel": "parallel",
    "budget-day": "budget_day",
    "budget-week": "budget_week",
    "budget-month": "budget_month",
    "budget-total": "budget_total",
    "reset-weekday": "reset_weekday",
    "reset-day": "reset_day",
    "team": "team",
    "expires": "expires_at",
    "cache": "cache",
    "log-content": "log_content",
    "resumable": "resumable",
    "on-disconnect": "on_disconnect",
}
_SET = (
    *("client_id", "name", "owner", "servers", "models", *LIMITS),
    *("currency", "enabled", "log_content", "resumable", "on_disconnect", "team"),
)


def add_attributes(command: argparse.ArgumentParser, *, required: bool) -> None:
    """Add the options that say what a key is. With `required`, it must at least have a client and a name."""
    add = command.add_argument
    add("--client-id", required=required, metavar="ID", help="to whom its usage is charged")
    add("--name", required=required, help="what the key is for")
    add("--owner", metavar="WHO", help="the person or team who answers for it")
    add("--tag", action="append", type=tag, dest="tags", metavar="NAME=VALUE", help="a label (repeatable)")
    add("--server", action="append", dest="servers", metavar="NAME", help="allow only this server (repeatable)")
    add(
        *("--model",),
        action="append",
        dest="models",
        metavar="NAME",
        help="allow only this model (repeatable): a name, SERVER/NAME, or a beginning and *, as in 'gpt-5*'",
    )
    add("--force", action="store_true", help="take names of servers and models that the files do not know")
    add_limits(command)
    add("--team", metavar="TEAM", help="a team, whose limits hold beside its own; `teams create` makes one")
    add("--currency", choices=("USD",), help="of the budgets; only USD, the currency of the price book")
    expiry = command.add_mutually_exclusive_group()
    expiry.add_argument(
        "--expires-in-days", type=whole(1, 36500), metavar="DAYS", help="it ends after so many days; default: never"
    )
    expiry.add_argument(
        "--expires-at", type=_time, metavar="DATE", help="when it ends: YYYY-MM-DD, or with THH:MM (UTC)"
    )
    _add_treatment(command)


def _add_treatment(command: argparse.ArgumentParser) -> None:
    """Add the options that say what else happens to its answers: whether they are cached, logged, read again."""
    add = command.add_argument
    add(
        "--cache",
        choices=("on", "off"),
        help="whether answers may come from the response cache; default: as of the server",
    )
    add("--cache-ttl", type=whole(1, 31_536_000), metavar="SECONDS", help="how long they are kept; default: 3600")
    add("--cache-pool", metavar="NAME", help="keys of one pool share answers; default: those of the client do")
    add(
        *("--log-content",),
        action="store_const",
        const=True,
        help="log its prompts and answers, redacted, where the stack has ContentLogEnabled; default: never",
    )
    add(
        *("--resumable",),
        action="store_const",
        const=True,
        help="its streams can be read again after a broken connection; default: where a request asks for it",
    )
    add(
        *("--on-disconnect",),
        choices=("finish", "stop"),
        help="whether such a stream goes on when nobody is there to read it; default: as of the server",
    )


def add_limits(command: argparse.ArgumentParser) -> None:
    """Add the options of limits and budgets."""
    add = command.add_argument
    add("--rpm", type=whole(1, 10**9), metavar="N", help="requests a minute")
    add("--tpm", type=whole(1, 10**9), metavar="N", help="tokens a minute, input and output")
    add("--parallel", type=whole(1, 10**9), metavar="N", help="requests at the same time")
    add("--budget-day", type=_money, metavar="USD", help="what it may cost in a day (UTC)")
    add("--budget-week", type=_money, metavar="USD", help="what it may cost in a week (UTC)")
    add("--budget-month", type=_money, metavar="USD", help="what it may cost in a month (UTC)")
    add("--budget-total", type=_money, metavar="USD", help="what it may cost in all, for ever")
    add("--reset-weekday", choices=WEEKDAYS, metavar="DAY", help="the day that a week begins with; default: monday")
    add(
        *("--reset-day",),
        type=whole(1, LAST_RESET_DAY),
        metavar="N",
        help=f"the day that a month begins with, up to {LAST_RESET_DAY}; default: 1",
    )


def add_unset(command: argparse.ArgumentParser) -> None:
    """Add the options that take something away, or switch the key off or on."""
    command.add_argument(
        "--unset",
        action="extend",
        nargs="+",
        choices=tuple(_UNSET),
        default=[],
        metavar="NAME",
        help=f"remove what was set with the option of this name: {', '.join(_UNSET)}",
    )
    switch = command.add_mutually_exclusive_group()
    switch.add_argument("--enable", action="store_const", const=True, dest="enabled", help="undo a revocation")
    switch.add_argument("--disable", action="store_const", const=False, dest="enabled", help="as revoke does")


def wanted(options: argparse.Namespace) -> Wanted:
    """The changes that the options ask for. Raises ConsoleError."""
    given = vars(options)
    values: dict[str, Any] = {name: given[name] for name in _SET if given.get(name) is not None}
    if options.expires_in_days is not None:
        values["expires_at"] = int(time.time()) + options.expires_in_days * _DAY
    if options.expires_at is not None:
        values["expires_at"] = options.expires_at
    if values.get("expires_at", time.time() + 1) <= time.time():
        raise ConsoleError("That expiry is in the past. Remedy: to stop a key now, revoke it.")
    cache = {"mode": options.cache, "ttl": options.cache_ttl, "pool": options.cache_pool}
    asked = Wanted(
        values,
        tags=dict(options.tags or ()),
        cache={part: value for part, value in cache.items() if value is not None},
        unset=[_UNSET[name] for name in given.get("unset", ())],
    )
    both = set(asked.unset) & {*values, *(["tags"] if asked.tags else ()), *(["cache"] if asked.cache else ())}
    if both:
        raise ConsoleError(
            f"These are set and unset at once: {', '.join(sorted(both))}. Remedy: leave one of the two out."
        )
    return asked


def whole(least: int, most: int) -> Callable[[str], int]:
    """Reads a whole number from `least` to `most`."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 19 and least <= int(text) <= most):
            raise argparse.ArgumentTypeError(f"must be a whole number from {least:,} to {most:,}")
        return int(text)

    return read


def _money(text: str) -> Decimal:
    if not re.fullmatch(r"[0-9]{1,10}(\.[0-9]{1,6})?", text) or not Decimal(text):
        raise argparse.ArgumentTypeError("must be US dollars, such as 5 or 0.25, with at most 6 decimals")
    return Decimal(text)


def tag(text: str) -> tuple[str, str]:
    """Reads NAME=VALUE. Raises ArgumentTypeError."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("must be NAME=VALUE")
    return name, value


def _time(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError("must be YYYY-MM-DD or YYYY-MM-DDTHH:MM (UTC)") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
