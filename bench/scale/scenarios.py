"""What is tried: each ceiling of docs/scale.md, on a ladder of rates up to the first that it does not bear.

One rule: all else is made so large that it is not in the way, and each says what it was.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from functools import cache
from typing import Any, Literal

from openai_proxy.key_limits import Limits
from openai_proxy.pricing.price_book import load_price_book

from bench.scale.bus import SMALLEST, Region
from bench.scale.limits import LimitsFound, LimitsLoad, one_key
from bench.scale.pipeline import Found, Load, Pipeline, Setup
from bench.scale.queues import Batches
from bench.units import AT_ONCE

_NO_QUOTA = 1e9
_ONE_CPU = 1769
CLIENT = "record_cost, one client, the most CPU"
_MANY = 20
"""Clients: so many that the partition of none is in the way."""
_WARM = 40_000.0


@dataclass(frozen=True, slots=True)
class Run:
    """One rate, and how it went. `lag_p50` and `lag_p99` are seconds to the ledger, or that a take of limits lasts."""

    kind: Literal["ledger", "limits"]
    rate: float
    keeps_up: bool
    requests: int
    lag_p50: float
    lag_p99: float
    throttled: int
    conflicts: int
    lost: int
    """Events that the bus did not take; of limits, requests that could not be checked."""
    queued: int
    """Events that came to the bus by the overflow queue, or are still to come."""
    write_units: float
    """For each request that got through."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A ceiling: what it is of, and the rates that are tried."""

    name: str
    rates: Sequence[float]
    run: Callable[[float, float], Run]
    """At a rate, for a part of the time."""

    def climb(self, scale: float = 1.0) -> list[Run]:
        """The runs up to the first that does not keep up."""
        found: list[Run] = []
        for rate in self.rates:
            found.append(self.run(rate, scale))
            if not found[-1].keeps_up:
                break
        return found


def of_ledger(found: Found) -> Run:
    """What is told of a run of the pipeline."""
    recorded, table = len(found.lags), found.table
    return Run(
        kind="ledger",
        rate=found.load.rate,
        keeps_up=found.keeps_up,
        requests=found.sent,
        lag_p50=round(found.lag(0.5), 2),
        lag_p99=round(found.lag(0.99), 2),
        throttled=table.throttled + found.bus_throttled,
        conflicts=table.conflicts,
        lost=found.lost,
        queued=found.queued,
        write_units=round(table.write_units / max(1, recorded), 2),
    )


def of_limits(found: LimitsFound) -> Run:
    """What is told of a run of one key."""
    return Run(
        kind="limits",
        rate=found.load.rate,
        keeps_up=found.keeps_up,
        requests=len(found.waits),
        lag_p50=round(found.wait(0.5), 3),
        lag_p99=round(found.wait(0.99), 3),
        throttled=found.table.throttled,
        conflicts=found.table.conflicts,
        lost=found.unavailable,
        queued=0,
        write_units=round(found.table.write_units / max(1, found.taken), 2),
    )


_prices = cache(load_price_book)


def _ledger(setup: Setup, **load: Any) -> Callable[[float, float], Run]:
    def run(rate: float, scale: float) -> Run:
        return of_ledger(Pipeline(Load(rate, 16.0 * scale, **load), setup, _prices()).run())

    return run


def _limits(stream: float, seconds: float = 8.0, **limits: Any) -> Callable[[float, float], Run]:
    def run(rate: float, scale: float) -> Run:
        return of_limits(one_key(LimitsLoad(Limits("k", **limits), rate, stream, stream + seconds * scale)))

    return run


_RPM: dict[str, Any] = {"rpm": 30_000}
_TPM: dict[str, Any] = {"tpm": 30 * 10**6}
_BUDGET: dict[str, Any] = {"budget_day": Decimal(10**6)}
_LARGEST: dict[str, Any] = {"rpm": 900_000, "parallel": 200_000, "budget_month": Decimal(10**6)}


def ceilings() -> list[Scenario]:
    """What each part bears."""
    free = Setup(Batches(most=AT_ONCE), writes=_WARM, region=Region(_NO_QUOTA, _NO_QUOTA))
    least, fast = replace(free, cpu=0), replace(free, megabytes=_ONE_CPU)
    invocations = replace(fast, region=Region(_NO_QUOTA, SMALLEST.invocations))
    put_events = replace(fast, region=Region(SMALLEST.put_events, _NO_QUOTA))
    many: dict[str, Any] = {"clients": _MANY}
    team = Limits("team.web", team="web", **_TPM)
    return [
        Scenario(CLIENT, (1000, 1200), _ledger(free, models=5)),
        Scenario("record_cost, one client, the least CPU", (1200, 1400), _ledger(least, models=5)),
        Scenario(
            "record_cost, 20 clients of 25 models, the most CPU", (800, 1000, 1200), _ledger(free, **many, models=25)
        ),
        Scenario("invocations of the smallest Regions, 2 queues", (375, 400), _ledger(invocations, **many)),
        Scenario("PutEvents of the smallest Regions", (400, 450), _ledger(put_events, **many)),
        Scenario("one key, requests a minute, 10 s each", (400,), _limits(10, **_RPM)),
        Scenario("one key, requests a minute, 1 s each", (400,), _limits(1, **_RPM)),
        Scenario("one key, tokens, 10 s each", (400,), _limits(10, **_TPM)),
        Scenario("one key, tokens, 1 s each", (400,), _limits(1, **_TPM)),
        Scenario("one key, a budget, 10 s each", (400,), _limits(10, **_BUDGET)),
        Scenario("a key and its team, tokens, 10 s each", (400,), _limits(10, **_RPM, shared=team)),
        Scenario("one key, parallel and a budget, 1 s each", (10_000,), _limits(1, seconds=1.0, **_LARGEST)),
    ]


def as_kept(runs: dict[str, list[Run]]) -> dict[str, list[dict[str, Any]]]:
    """The runs as they are kept beside the code."""
    return {name: [asdict(run) for run in each] for name, each in runs.items()}
