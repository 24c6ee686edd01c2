"""Compares the ledger with what a provider counted, or with what its answers stated, by day and model. Pure.

Differences do not cancel each other out: too much on one day and too little on the next count as drift twice.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from openai_proxy.pricing.rates import EXACT

from console.costs.summary import SUMS, UNNAMED, known_cost, share_of, summarize
from console.costs.usage_export import MEASURES, Export, merged

Item = dict[str, Any]

ALL_MODELS = "*"
_ATTRIBUTES = {
    "input_tokens": "input_tokens",
    "cached_tokens": "cache_read_input_tokens",
    "output_tokens": "output_tokens",
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure as the ledger has it (None: not known) and as the provider has it. Tokens, USD or requests."""

    day: str
    model: str
    measure: str
    ledger: Decimal | None
    provider: Decimal

    @property
    def difference(self) -> Decimal | None:
        return None if self.ledger is None else self.ledger - self.provider

    @property
    def drift(self) -> Decimal:
        """From 0 to 1: the difference as a part of the larger figure. What is not known, but was charged for, is 1."""
        if self.ledger is None:
            return Decimal(bool(self.provider))
        return _ratio(abs(self.ledger - self.provider), max(abs(self.ledger), abs(self.provider)))


@dataclass(frozen=True, slots=True)
class Total:
    """All comparisons of one measure."""

    measure: str
    ledger: Decimal | None
    """None where nothing of it is known."""
    provider: Decimal
    drift: Decimal


def stated_by_server(entries: Iterable[Item], server: str) -> tuple[list[Item], Export, int]:
    """What the price book made of the answers whose cost `server` stated itself, by day and model, and those costs.

    Third, how many the book could not price: they cost what was stated, so there is nothing to compare.
    """
    export, shares, unpriced = Export(figures={"cost": {}}), list[Item](), 0
    for entry in entries:
        is_of_server = entry.get("server") == server and entry.get("cache_status") != "HIT"
        if not is_of_server or "cost_reported" not in entry:
            continue
        if entry["pricing"] not in ("priced", "free"):
            unpriced += 1
            continue
        key = date.fromisoformat(entry["day"]), str(entry.get("model", UNNAMED))
        sums = export.figures["cost"]
        sums[key] = EXACT.add(sums.get(key, Decimal(0)), entry["cost_reported"])
        shares.append(share_of(entry) | {"day": entry["day"]})
    return summarize(shares, ["day", "model"]), export, unpriced


def without_hits(rollups: Sequence[Item], hits: Iterable[Item]) -> list[Item]:
    """Rollups less the shares of answers from the response cache, of which no provider knows."""
    taken = [{name: -value if name in SUMS else value for name, value in hit.items()} for hit in hits]
    return summarize([*rollups, *taken], ["day", "model"])


def compare(rows: Sequence[Item], export: Export, days: Iterable[date], measures: Sequence[str]) -> list[Comparison]:
    """Every figure of `days` that either side has, in order of day, model and measure. `rows` are by day and model."""
    wanted = {str(day) for day in days}
    found: list[Comparison] = []
    for measure in (each for each in MEASURES if each in measures and each in export.figures):
        figures = export.figures[measure]
        by_model = export.by_model(measure)
        if by_model:
            provider = {(str(day), str(model)): value for (day, model), value in figures.items()}
            ledger = {(row["day"], row["model"]): _figure(row, measure) for row in rows}
        else:
            provider = {(str(day), ALL_MODELS): value for day, value in merged(figures)}
            ledger = {(row["day"], ALL_MODELS): _figure(row, measure) for row in summarize(rows, ["day"])}
        for day, model in sorted(provider.keys() | ledger.keys()):
            ours, theirs = ledger.get((day, model), Decimal(0)), provider.get((day, model), Decimal(0))
            if day in wanted and (ours or theirs or ours is None):
                found.append(Comparison(day, model, measure, ours, theirs))
    return sorted(found, key=lambda each: (each.day, each.model, MEASURES.index(each.measure)))


def totals(comparisons: Sequence[Comparison]) -> list[Total]:
    """Each measure's sums and drift: all differences as a part of the sum of the larger figures."""
    found: list[Total] = []
    for measure in MEASURES:
        of_it = [each for each in comparisons if each.measure == measure]
        if not of_it:
            continue
        known = [each.ledger for each in of_it if each.ledger is not None]
        ledger = sum(known, Decimal(0)) if known else None
        provider = sum((each.provider for each in of_it), Decimal(0))
        apart = sum((abs((each.ledger or 0) - each.provider) for each in of_it), Decimal(0))
        larger = sum((max(abs(each.ledger or Decimal(0)), abs(each.provider)) for each in of_it), Decimal(0))
        found.append(Total(measure, ledger, provider, _ratio(apart, larger)))
    return found


def worst(found: Iterable[Total]) -> Decimal:
    """The greatest drift of any measure; 0 without any."""
    return max((each.drift for each in found), default=Decimal(0))


def _figure(row: Item, measure: str) -> Decimal | None:
    if measure == "cost":
        return known_cost(row)
    if measure == "requests":
        return row["requests"] - row["failed"]  # most failed requests never reached a model
    return row[_ATTRIBUTES[measure]]


def _ratio(part: Decimal, whole: Decimal) -> Decimal:
    return min(part / whole, Decimal(1)) if whole else Decimal(0)
