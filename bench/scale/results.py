"""What the simulation found, kept beside it, and the rows of docs/scale.md that are made of it.

One rule: the page says what was found. A test compares the two, and what a small run writes with what it wrote then.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openai_proxy.key_limits import Limits
from openai_proxy.pricing.price_book import PriceBook

from bench.scale.limits import LimitsLoad, one_key
from bench.scale.pipeline import Load, Pipeline, Setup

FILE = Path(__file__).with_name("found.json")
CEILINGS = ("what is asked too much of", "requests/s borne", "and not", "then")
SIZES = (
    "of one client and key",
    "lag p50 and p99, s",
    "a take of limits, p99, ms",
    "throttles",
    "conflicts",
    "write units: ledger, limits",
    "USD for a million",
    "USD a month",
)
Run = Mapping[str, Any]


def kept() -> dict[str, Any]:
    """What the last whole run found."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def keep(found: Mapping[str, Any]) -> None:
    """Write it down."""
    FILE.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def writes(prices: PriceBook) -> dict[str, float]:
    """What small runs write for each request: it changes when what the code writes does."""
    ledger = Pipeline(Load(rate=20, seconds=4, models=2), Setup(), prices).run()
    found = {"ledger": ledger.table.write_units / len(ledger.lags)}
    for name, limits in {"requests": Limits("k", rpm=30_000), "tokens": Limits("k", tpm=30 * 10**6)}.items():
        one = one_key(LimitsLoad(limits, rate=20, stream=1.0, seconds=3.0))
        found[name] = one.table.write_units / one.taken
    return {name: round(units, 3) for name, units in found.items()}


def borne(runs: Sequence[Run]) -> float:
    """The highest rate that was kept up with; 0 if there was none."""
    return max((run["rate"] for run in runs if run["keeps_up"]), default=0)


def ceiling_rows(ceilings: Mapping[str, Sequence[Run]]) -> list[list[str]]:
    """A row for each ceiling."""
    return [[name, f"{borne(runs):,.0f}", *_beyond(runs)] for name, runs in ceilings.items()]


def _beyond(runs: Sequence[Run]) -> tuple[str, str]:
    """The rate that was too much, and how it showed."""
    last = runs[-1]
    if last["keeps_up"]:
        return "", ""
    return f"{last['rate']:,.0f}", shown(last)


def shown(run: Run) -> str:
    """How it shows that a rate is too much, or that it is not."""
    of_limits = run["kind"] == "limits"
    words: list[str] = []
    if run["lost"]:
        what = "cannot be checked" if of_limits else "of the events are log lines"
        words.append(f"{run['lost'] / run['requests']:.0%} {what}")
    if run["queued"]:
        words.append(f"{run['queued'] / run['requests']:.0%} of the events wait in the queue of publish_again")
    if run["throttled"]:
        words.append(f"{run['throttled']:,} throttle{'s' if run['throttled'] != 1 else ''}")
    if run["conflicts"] > run["requests"] / 1000:
        words.append(f"{run['conflicts']:,} conflicts")
    if not of_limits and not run["lost"] + run["queued"]:
        growing = "" if run["keeps_up"] else ", and growing"
        words.append(f"p99 of the lag {run['lag_p99']:.1f} s{growing}")
    return ", ".join(words)


def size_rows(sizes: Sequence[Run]) -> list[list[str]]:
    """A row for each size of user."""
    return [
        [
            f"{size['rate']:,} requests/s",
            f"{size['lag_p50']} and {size['lag_p99']}",
            f"{size['take_p99'] * 1000:.0f}",
            f"{size['throttled']:,} of {size['requests']:,} requests",
            f"{size['conflicts']:,}",
            f"{size['ledger_units']}, {size['limits_units']}",
            f"{size['usd_million']:.2f}",
            f"{size['usd_month']:,.0f}",
        ]
        for size in sizes
    ]


def line(cells: Sequence[str]) -> str:
    """A row of Markdown."""
    return f"| {' | '.join(cells)} |"
