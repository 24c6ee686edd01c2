"""`keys usage`: what client keys have used of their limits now, as the limits table says.

It shows what the next request would meet. A window that is over, a lease that has ended and a reservation that has
expired count for nothing, whether or not a request has cleared them away.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from openai_proxy.client_keys import limits_in
from openai_proxy.key_limits import Limits
from openai_proxy.limits import (
    DIVIDED,
    LIVE,
    MINUTE,
    PERIODS,
    REQUESTS,
    TOKENS,
    Calendar,
    Leased,
    Period,
    Windows,
    bucket_windows,
    is_expired,
    spent_in,
)
from openai_proxy.shards.limits import Whole

from console.errors import ConsoleError
from console.keys.counters import WHOLE, read_counters
from console.keys.store import KeyStore, StoredKey
from console.keys.text import moment
from console.known import check_client
from console.output import say_nothing_found, show, terminal_width
from console.stack import add_place_option, chosen_table
from console.tables import Columns, table
from console.text import count, harmless, to_json, usd

LABELS: Mapping[Period, str] = {"day": "Today", "week": "This week", "month": "This month", "total": "In total"}
_USUAL: tuple[Period, ...] = ("day", "month")
"""These periods have a column even if no key has such a budget."""
_GOOD = ("enabled", "rotated")


@dataclass(frozen=True, slots=True)
class Used:
    """The used part of a key's limits: requests and tokens of this minute, requests that run now, USD of the periods
    that go on (UTC) in which money is counted.
    """

    windows: Windows
    requests: int
    tokens: int
    running: int
    spent: Mapping[Period, Decimal]
    reserved: Mapping[Period, Decimal]

    @classmethod
    def of(cls, counter: Mapping[str, Any], now: float, calendar: Calendar | None = None) -> "Used":
        """Read a counter in plain values at the time `now` (Unix seconds). An empty one says that nothing was used.

        Without a `calendar` its periods are those that it counts in. Raises ConsoleError for a counter that the proxy
        cannot have written.
        """
        try:
            used = cls._of(counter, now, calendar)
            used.to_json()
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            name = harmless(str(counter.get("pk")))
            problem = f"The limits table has a damaged counter '{name}' ({type(error).__name__})"
            raise ConsoleError(
                f"{problem}. Remedy: correct it, or delete it: then the key has used nothing."
            ) from error
        return used

    @classmethod
    def _of(cls, counter: Mapping[str, Any], now: float, calendar: Calendar | None) -> "Used":
        windows = Windows.of(int(now), _calendar_in(counter) if calendar is None else calendar)
        is_this_minute = counter.get(MINUTE) == windows.minute
        live = [_lease(value) for value in counter.get(LIVE, {}).values()]
        spent: dict[Period, Decimal] = {}
        reserved: dict[Period, Decimal] = {}
        buckets = [(bucket_windows(name, windows.calendar), name, value) for name, value in counter.items()]
        held = [(taken_in, value) for taken_in, name, value in buckets if taken_in and not is_expired(name, int(now))]
        held += [(lease.windows(windows.calendar), lease.cost) for lease in live if lease.end >= int(now)]
        for period in windows.periods:
            start = str(counter.get(period, ""))
            is_current = windows.is_in(period, start)
            start = start if is_current else windows.start(period)
            spent[period] = counter.get(spent_in(period), Decimal(0)) if is_current else Decimal(0)
            reserved[period] = sum((cost for taken_in, cost in held if taken_in.is_in(period, start)), Decimal(0))
        whole: Whole | None = counter.get(WHOLE)
        for period in windows.periods if whole and DIVIDED in counter else ():
            assert whole
            if windows.is_in(period, str(counter.get(period, ""))):
                gone, spent[period] = whole.gone(period, windows), whole.spent(period)
                reserved[period] = max(Decimal(0), gone - spent[period])
        return cls(
            windows=windows,
            requests=int(counter.get(REQUESTS, 0)) if is_this_minute else 0,
            tokens=int(counter.get(TOKENS, 0)) if is_this_minute else 0,
            running=sum(lease.end >= int(now) for lease in live) + (whole.running(int(now)) if whole else 0),
            spent=spent,
            reserved=reserved,
        )

    def to_json(self) -> dict[Period, dict[str, Any]]:
        """The money of each period, as text."""
        return {
            period: {
                "start": self.windows.start(period),
                "spent": f"{self.spent[period]:f}",
                "reserved": f"{self.reserved[period]:f}",
            }
            for period in self.windows.periods
        }


def _lease(value: Any) -> Leased:
    """A lease in plain values. A damaged one counts as over."""
    try:
        return Leased.of(value)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return Leased(0)


def add_usage_options(command: argparse.ArgumentParser) -> None:
    """The options of `keys usage`, but for those of the key table."""
    which = command.add_mutually_exclusive_group()
    which.add_argument("key_id", nargs="?", metavar="KEY_ID", help="as `keys list` shows it; default: all with limits")
    which.add_argument("--client-id", metavar="ID", help="only those of this client")
    add_place_option(command, "LimitsTable")


def show_usage(options: argparse.Namespace, environ: Mapping[str, str], clock: Callable[[], float] = time.time) -> int:
    """Run `keys usage`."""
    now = clock()
    store = KeyStore(chosen_table("KeysTable", options, environ))
    keys = [store.find(options.key_id)] if options.key_id else list(_keys_with_limits(store, options.client_id, now))
    ids = [key.limits_id for key in keys]
    counters = read_counters(chosen_table("LimitsTable", options, environ), ids) if ids else {}
    usage = [(key, Used.of(counters.get(key.limits_id, {}), now, calendar_of(key.values))) for key in keys]
    if not usage and options.client_id is not None:
        check_client(options.client_id, options, environ)
    if options.json:
        found = [as_json(key, used, now) for key, used in usage]
        print(to_json(found[0] if options.key_id else found))
    elif options.key_id:
        print(usage_details(*usage[0], now))
    elif usage:
        show(usage_table(usage, terminal_width()))
    if not usage:
        of_client = f" of client '{harmless(options.client_id)}'" if options.client_id else ""
        nothing = f"There are no good keys with limits{of_client}. `openai-proxy keys list` shows all keys."
        say_nothing_found(nothing, options)
    return 0


def as_json(key: StoredKey, used: Used, now: float) -> dict[str, Any]:
    """What `to_json` writes: a limit that is not set is null, money is text."""
    periods = {period: each | {"budget": _budget(key, period)} for period, each in used.to_json().items()}
    return {
        "key_id": key.key_id,
        "client_id": key.client_id,
        "name": key.name,
        "state": key.state(now),
        "limits_id": key.limits_id,
        "requests": {"used": used.requests, "limit": key.values.get("rpm")},
        "tokens": {"used": used.tokens, "limit": key.values.get("tpm")},
        "parallel": {"used": used.running, "limit": key.values.get("parallel")},
        **periods,
        "currency": key.values.get("currency"),
    }


def usage_table(usage: Sequence[tuple[StoredKey, Used]], width: int | None) -> str:
    """A line for each key, of up to `width` characters; "-" where there is no limit."""
    periods: list[Period] = [
        each for each in PERIODS if each in _USUAL or any(each in used.windows.periods for _, used in usage)
    ]
    amounts = [LABELS[period].upper() for period in periods]
    headings = ("KEY ID", "CLIENT", *amounts, "REQUESTS/MIN", "TOKENS/MIN", "PARALLEL", "NAME")
    rows = [
        (
            key.key_id,
            harmless(key.client_id),
            *(_of_budget(key, used, period) for period in periods),
            *(text for _, text in _of_limits(key, used)),
            harmless(key.name),
        )
        for key, used in usage
    ]
    drop = ("NAME", "PARALLEL", "TOKENS/MIN", "REQUESTS/MIN", "CLIENT", *amounts[:0:-1])
    return table(Columns(headings, drop=drop, whole=("KEY ID", *amounts)), rows, width=width)


def usage_details(key: StoredKey, used: Used, now: float) -> str:
    """All about one key, a line for each limit."""
    lines = [("Key id", key.key_id), ("Client", harmless(key.client_id)), ("Name", harmless(key.name))]
    if key.limits_id != key.key_id:
        lines.append(("Counted with", key.limits_id))
    lines += _of_limits(key, used)
    for period in used.windows.periods:
        text = f"{usd(used.spent[period])} spent, {usd(used.reserved[period])} reserved"
        lines.append(
            (LABELS[period], f"{text}: {_of_budget(key, used, period)}" if _budget(key, period) else "no budget")
        )
    lines.append(("At", moment(now)))
    longest = max(len(label) for label, _ in lines)
    return "\n".join(f"{label.ljust(longest)}  {text}" for label, text in lines)


def _keys_with_limits(store: KeyStore, client_id: str | None, now: float) -> Iterator[StoredKey]:
    for key in sorted(store.all(), key=lambda key: (key.client_id, key.created_at, key.key_hash)):
        is_wanted = client_id in (None, key.client_id) and key.state(now) in _GOOD
        if is_wanted and limits_in(key.values):
            yield key


def calendar_of(values: Mapping[str, Any]) -> Calendar:
    """In which periods the money of a key with these attributes is counted."""
    return Limits("", **limits_in(values)).calendar


def _calendar_in(counter: Mapping[str, Any]) -> Calendar:
    """In which periods a counter has counted."""
    week, month = _date(counter.get("week")), _date(counter.get("month"))
    return Calendar(week.weekday() if week else None, month.day if month else 1, "total" in counter)


def _date(text: Any) -> date | None:
    try:
        return date.fromisoformat(text)
    except (TypeError, ValueError):
        return None


def _budget(key: StoredKey, period: Period) -> Decimal | None:
    return key.values.get(f"budget_{period}")


def _of_limits(key: StoredKey, used: Used) -> list[tuple[str, str]]:
    limits = (
        ("Requests/min", "rpm", used.requests),
        ("Tokens/min", "tpm", used.tokens),
        ("Parallel", "parallel", used.running),
    )
    return [
        (label, f"{count(amount)} of {count(key.values[name])}" if name in key.values else "-")
        for label, name, amount in limits
    ]


def _of_budget(key: StoredKey, used: Used, period: Period) -> str:
    """How much of a budget a request can no longer use: what is spent, and what is reserved."""
    budget = _budget(key, period)
    if budget is None or period not in used.spent:
        return "-"
    gone = used.spent[period] + used.reserved[period]
    return f"{usd(gone)} of {budget.normalize():f} USD ({gone * 100 // budget} %)"
