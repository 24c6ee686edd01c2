"""Why the ledger's cost and a provider's differ, as far as figures can say. Pure.

Its one rule: the causes add up to the difference to the last digit. Each takes of what is left no more than it can
account for, in the order of `CAUSES`; what none accounts for is `unexplained`.
"""

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from console.costs.reconcile import ALL_MODELS, Comparison
from console.costs.summary import summarize
from console.costs.usage_export import Export

Item = Mapping[str, Any]

CAUSES: Mapping[str, str] = {
    "rounding": "less than a cent of a day and model: providers round",
    "elsewhere": "requests that did not pass here: the provider has usage that the ledger has not",
    "not_billed": "the ledger has usage that the provider has not: another account, or not billed yet",
    "unpriced": "requests that have no price here, at the provider's mean cost of a request",
    "estimated": "requests whose usage the proxy estimated: at most their share of the cost",
    "tier": "the same tokens at another price, on days with batch, flex or priority: a service tier",
    "price": "the same tokens at another price: a discount, or a price that changed",
    "unexplained": "no figure says why",
}
"""Each cause, in the order in which they are looked for, and what it means."""

_CENT = Decimal("0.01")
_AGREE = Decimal("0.005")
"""Tokens that differ by less than this part are the same: a few requests at midnight may be of the next day."""


def causes_of(comparisons: Iterable[Comparison], rows: Sequence[Item], export: Export) -> dict[str, Decimal]:
    """USD that each cause explains of the provider's cost less the ledger's; causes of nothing are left out.

    `rows` are the ledger's sums by day and model.
    """
    found = dict.fromkeys(CAUSES, Decimal(0))
    by_model = {(row["day"], row["model"]): row for row in rows}
    by_day = {(row["day"], ALL_MODELS): row for row in summarize([dict(row) for row in rows], ["day"])}
    for each in comparisons:
        if each.measure == "cost":
            row = (by_day if each.model == ALL_MODELS else by_model).get((each.day, each.model), {})
            for cause, usd in _explained(each, row, export).items():
                found[cause] += usd
    return {cause: usd for cause, usd in found.items() if usd}


def _explained(each: Comparison, row: Item, export: Export) -> dict[str, Decimal]:
    """The causes of one day's difference, of a model or of all."""
    left = each.provider - (each.ledger or Decimal(0))
    if abs(left) < _CENT:
        return {"rounding": left}
    requests = row.get("requests", 0)
    if not requests:
        return {"elsewhere": left}
    if not each.provider:
        return {"not_billed": left}
    found: dict[str, Decimal] = {}

    def take(cause: str, most: Decimal) -> None:
        nonlocal left
        taken = max(min(left, most), -most)
        found[cause] = taken
        left -= taken

    if left > 0:
        take("unpriced", each.provider * row["unpriced"] / requests)
    take("estimated", (each.ledger or Decimal(0)) * row["usage_estimated"] / requests)
    theirs = _tokens_of(export, each)
    ours = row["input_tokens"] + row["output_tokens"]
    if theirs is None:
        take("tier", abs(left) if export.has_tier(each.day) else Decimal(0))
    elif abs(theirs - ours) <= _AGREE * max(theirs, ours):
        take("tier" if export.has_tier(each.day) else "price", abs(left))
    elif theirs > ours and left > 0:
        take("elsewhere", each.provider * (theirs - ours) / theirs)
    elif theirs < ours and left < 0:
        take("not_billed", (each.ledger or Decimal(0)) * (ours - theirs) / ours)
    return found | {"unexplained": left}


def _tokens_of(export: Export, each: Comparison) -> Decimal | None:
    """The tokens that the provider has for the same day and model; None where its export does not count them."""
    if not {"input_tokens", "output_tokens"} <= export.figures.keys():
        return None
    total = Decimal(0)
    for measure in ("input_tokens", "output_tokens"):
        for (day, model), tokens in export.figures[measure].items():
            if str(day) == each.day and each.model in (ALL_MODELS, model):
                total += tokens
    return total
