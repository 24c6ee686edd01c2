"""What an answer cost in USD according to its server: in its `usage`, or in a header. Pure.

Its one rule: nothing is estimated here. A value that is no amount of money is reported as invalid, never taken for
zero.
"""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from openai_proxy.usage import COST_DECIMALS, MOST_COST, Usage

from proxy.json_shapes import object_of

COST_INVALID = "cost_invalid"
LONGEST_NUMBER = 400
"""Characters of a number in a text that are looked at: more digits than any float has."""
_COSTS = ("cost", "total_cost", "estimated_cost")
_TICKS = Decimal(1).scaleb(-10)
"""USD: the unit of xAI's `cost_in_usd_ticks`."""
_SMALLEST_COST = Decimal(1).scaleb(-COST_DECIMALS)


def cost_of(usage: Mapping[str, Any]) -> Decimal | None:
    """The cost in a `usage` object: a number, a text, or an object with a total (Perplexity); None when it has none.

    Where somebody else's key paid for the model (OpenRouter's `is_byok`), what that was billed for is added. Raises
    ValueError for what is no amount.
    """
    stated = next((usage[name] for name in _COSTS if usage.get(name) is not None), None)
    unit = Decimal(1)
    if stated is None:
        stated, unit = usage.get("cost_in_usd_ticks"), _TICKS
    elif isinstance(stated, dict):
        stated = _total_of(object_of(stated))
    if stated is None:
        return None
    parts = [stated]
    if usage.get("is_byok") is True:
        parts += [object_of(usage.get("cost_details")).get("upstream_inference_cost") or 0]
    return _bounded(sum((_money(each) for each in parts), Decimal(0)) * unit)


def with_cost_of_header(usage: Usage, stated: str) -> Usage:
    """`usage` with the cost that a header states, unless it has one. A zero in the header is ignored, because streams
    have it too.
    """
    if usage.cost_reported is not None or usage.source == "none":
        return usage
    try:
        cost = _bounded(_money(stated))
    except ValueError:
        return usage._replace(reason=usage.reason or COST_INVALID)
    return usage._replace(cost_reported=cost) if cost else usage


def _bounded(cost: Decimal) -> Decimal:
    if cost > MOST_COST:
        raise ValueError(COST_INVALID)
    return cost.quantize(_SMALLEST_COST).normalize() + 0


def _total_of(cost: Mapping[str, Any]) -> Any:
    """The total of a cost that comes in parts, if it is in USD; else a text that is no amount."""
    if str(cost.get("currency") or "USD").upper() != "USD":
        return ""
    return next((cost[name] for name in ("total_cost", "total") if cost.get(name) is not None), "")


def _money(value: Any) -> Decimal:
    """An amount of money, not negative; a float is what its shortest form in decimals says. Raises ValueError."""
    is_written = isinstance(value, int | float | str) and not isinstance(value, bool)
    text = value[:LONGEST_NUMBER] if isinstance(value, str) else repr(value) if is_written else ""
    try:
        amount = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(COST_INVALID) from error
    if not (amount.is_finite() and 0 <= amount <= MOST_COST / _TICKS):
        raise ValueError(COST_INVALID)
    return amount
