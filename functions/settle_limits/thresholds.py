"""Which threshold of a budget is reached and not announced yet, and the event that announces it. Pure.

One rule: of several thresholds crossed at once only the highest is announced, and each at most once in a period for the
same budget. A changed budget starts afresh.

The id of a BudgetThresholdReached is derived from what it states: it has the time of its period's beginning, and the
SHA-256 of key, period, budget and threshold for its random part. The event is published before the counter remembers
it, so that it cannot be lost in between; when it is published twice, by a retry or by two consumers at once, both
copies have one id, by which their consumers recognise them as one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal

from openai_proxy.events.envelope import Event, rfc3339
from openai_proxy.events.ulid import ulid_of_fact
from openai_proxy.key_limits import CURRENCY
from openai_proxy.limits import EVER, PERIODS, Period, spent_in, told_budget_in, told_in
from openai_proxy.pricing.rates import EXACT

from settle_limits.settlement import Settlement

if TYPE_CHECKING:
    from openai_proxy.events.types import ThresholdEvent

Threshold = Literal[100, 80, 50]
THRESHOLDS: tuple[Threshold, ...] = (100, 80, 50)
"""Per cent of a budget that is spent, settled ones only: what is merely reserved may be returned."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """A budget of a key that has reached `threshold` per cent in the period that began with `start`."""

    limits_id: str
    period: Period
    start: str
    threshold: Threshold
    budget: Decimal
    spent: Decimal


def crossings(counter: Mapping[str, Any], latest: Settlement) -> Iterator[Crossing]:
    """The thresholds that a counter, in plain values, has reached after a settlement; none for a period that is
    over.
    """
    for period in PERIODS:
        budget, start = latest.budgets.get(period), counter.get(period, "")
        if budget is None or not latest.windows.is_in(period, start):
            continue
        spent = counter.get(spent_in(period), Decimal(0))
        gone = EXACT.multiply(spent, 100)
        reached: Threshold | None = next((each for each in THRESHOLDS if gone >= EXACT.multiply(budget, each)), None)
        if reached is None:
            continue
        is_told = counter.get(told_budget_in(period)) == budget and counter[told_in(period)] >= reached
        if not is_told:
            yield Crossing(latest.limits_id, period, start, reached, budget, spent)


def event_of(crossing: Crossing, latest: Settlement, now: float) -> "ThresholdEvent":
    """The BudgetThresholdReached of a crossing that `latest` brought about. `now` is in Unix seconds."""
    event: ThresholdEvent = Event(
        detail_type="BudgetThresholdReached",
        id=_id_of(crossing),
        timestamp=rfc3339(now),
        request_id=latest.event_id,
        client_id=latest.client_id,
        data={
            "client": latest.client,
            "limits": {"id": crossing.limits_id},
            "period": crossing.period,
            "period_start": crossing.start,
            "threshold": crossing.threshold,
            "budget": _plain(crossing.budget),
            "spent": _plain(crossing.spent),
            "currency": CURRENCY,
        },
    )
    if latest.team:
        event.data["team"] = latest.team
    if latest.end_user:
        event.data["end_user"] = latest.end_user
    return event


def _id_of(crossing: Crossing) -> str:
    start = crossing.start
    facts = (crossing.limits_id, crossing.period, start, _plain(crossing.budget), str(crossing.threshold))
    if start == EVER:  # a budget in total has no beginning, so the id of every such fact has this time
        return ulid_of_fact(0.0, "#".join(facts))
    began = datetime.strptime(start[:7] + (start[7:] or "-01"), "%Y-%m-%d").replace(tzinfo=UTC)
    return ulid_of_fact(began.timestamp(), "#".join(facts))


def _plain(amount: Decimal) -> str:
    """An amount in digits, without zeros at its end: 5, 4.01."""
    text = f"{amount:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
