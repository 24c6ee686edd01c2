"""SQS batch ─▶ terminal events ─▶ settlements ─▶ counters ─▶ thresholds and price hints.

One rule: a message fails only for a fault of its own. A settlement is done only when its threshold has been announced.
So a settlement that comes again changes no counter, but checks the thresholds again.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from openai_proxy.events.batch import PartialFailure, again, read_batch
from openai_proxy.events.bus import Publisher
from openai_proxy.events.incoming import from_sqs_body
from openai_proxy.events.traces import traces_of
from openai_proxy.limits import PERIODS, Period
from openai_proxy.pricing.price_book import PriceBook

from settle_limits.price_hints import PriceHints
from settle_limits.settlement import LeftLease, Settlement, left_lease_of, settlements_of
from settle_limits.thresholds import Crossing, crossings, event_of

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger


class Limits(Protocol):
    """Where counters are kept: LimitsTable, or a fake of it."""

    def settle(self, settlements: Iterable[Settlement]) -> dict[str, str]:
        """Settle what is not settled yet. Returns the ids of those that could not be settled, and why."""
        ...

    def counter(self, limits_id: str) -> dict[str, Any]:
        """A counter in plain values."""
        ...

    def give_back(self, lease: LeftLease) -> None:
        """Free the place of a request that is over, unless that has been done."""
        ...

    def mark_told(self, crossing: Crossing) -> None:
        """Remember that a threshold has been announced."""
        ...


@dataclass(frozen=True)
class SettleLimits:
    """The consumer behind the queue of the terminal events of keys with a budget."""

    prices: PriceBook
    limits: Limits
    bus: Publisher
    hints: PriceHints
    logger: "Logger"
    clock: Callable[[], float] = time.time

    def __call__(self, batch: Mapping[str, Any]) -> PartialFailure:
        """Settle an SQS batch. Returns the partial batch response: the messages that must come again."""
        settlements: dict[str, Settlement] = {}
        messages: dict[str, list[str]] = {}
        leases: list[tuple[str, LeftLease]] = []
        read, failed = read_batch(batch, self._read, self.logger)
        for message, (own, left) in read:
            for settlement in own:
                settlements[settlement.marker] = settlement
                messages.setdefault(settlement.marker, []).append(message)
            leases += [(message, lease) for lease in left]
        failed += [message for message, lease in leases if not self._give_back(lease)]
        unsettled = self.limits.settle(settlements.values())
        for marker, reason in unsettled.items():
            self.logger.warning("A request was not settled", event_id=settlements[marker].event_id, reason=reason)
        settled = [each for each in settlements.values() if each.marker not in unsettled]
        untold = [marker for each in latest_of_each_key(settled) if (marker := self._untold(each, settled))]
        self.hints.learn(each.hint for each in settled if each.hint)
        failed += [message for marker in (*unsettled, *untold) for message in messages[marker]]
        failed = list(dict.fromkeys(failed))
        self.logger.info(
            "A batch was settled",
            messages=len(batch["Records"]),
            settled=len(settled),
            unpriced=sum(not each.is_priced for each in settled),
            failed=len(failed),
            traces=traces_of(batch["Records"]),
        )
        return again(failed)

    def _read(self, body: str) -> tuple[list[Settlement], list[LeftLease]]:
        """What a message's event has to be settled, or else to be given back. Raises MalformedEventError."""
        event = from_sqs_body(body)
        settlements = settlements_of(event, self.prices)
        settled = {each.limits_id for each in settlements if not each.batch}
        left = (left_lease_of(event), left_lease_of(event, of_team=True))
        return settlements, [lease for lease in left if lease and lease.limits_id not in settled]

    def _give_back(self, lease: LeftLease) -> bool:
        """Free the place of a request of a key without a budget. False: its message must come again."""
        try:
            self.limits.give_back(lease)
        except Exception:  # an SDK that is answered oddly fails in ways of its own
            self.logger.exception("A lease was not given back", limits_id=lease.limits_id)
            return False
        return True

    def _untold(self, latest: Settlement, settled: Sequence[Settlement]) -> str | None:
        """Announce the thresholds that a key, or a team, has reached. Returns the marker of the settlement that must
        come again; None when all are announced.

        The budget of a period is the one that its latest request names; a request of another period says nothing about
        it.
        """
        spoken_for = latest
        try:
            counter = self.limits.counter(latest.limits_id)
            for period, spoken_for in latest_of_each_period(counter, settled, latest.limits_id):
                for crossing in crossings(counter, spoken_for):
                    if crossing.period == period:
                        self._tell(crossing, spoken_for)
        except Exception:  # a damaged counter must not fail the messages of other keys
            self.logger.exception("Budget thresholds were not told", event_id=spoken_for.event_id)
            return spoken_for.marker
        return None

    def _tell(self, crossing: Crossing, latest: Settlement) -> None:
        """Publish a threshold, then remember it."""
        self.bus.publish(event_of(crossing, latest, self.clock()))
        self.limits.mark_told(crossing)
        self.logger.info(
            "A budget threshold was reached",
            limits_id=crossing.limits_id,
            period=crossing.period,
            threshold=crossing.threshold,
        )


def latest_of_each_key(settlements: Iterable[Settlement]) -> list[Settlement]:
    """For each counter the settlement of its latest request, whose budgets are the ones in force."""
    latest: dict[str, Settlement] = {}
    for each in settlements:
        known = latest.setdefault(each.limits_id, each)
        if (each.taken_at, each.event_id) > (known.taken_at, known.event_id):
            latest[each.limits_id] = each
    return list(latest.values())


def latest_of_each_period(
    counter: Mapping[str, Any], settlements: Iterable[Settlement], limits_id: str
) -> list[tuple[Period, Settlement]]:
    """For each period that a counter is in, the settlement of the key's latest request in that period, if there is
    one.
    """
    own = [each for each in settlements if each.limits_id == limits_id]
    current = {
        period: [each for each in own if each.windows.is_in(period, counter.get(period, ""))] for period in PERIODS
    }
    return [(period, latest) for period in PERIODS for latest in latest_of_each_key(current[period])]
