"""What an answer has cost, for a client that asks: in its receipt, or in the `usage` of the answer itself.

The cost is computed as the ledger computes it, from the same usage and the same price book, which is loaded when the
first client of a sandbox asks. Its one rule: a failure here never fails an answer.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from openai_proxy.key_limits import CURRENCY
from openai_proxy.ledger.entry_cost import price_attributes, usage_attributes
from openai_proxy.pricing.price_book import PriceBook

from proxy.call import Call
from proxy.json_shapes import LONGEST_NAME, text_of
from proxy.log import log, place_of
from proxy.outcome import Outcome, event_id_of, usage_of
from proxy.timeline import Timeline

_LONGEST_MODEL = 128
"""As many characters of a model's name as the ledger prices by."""


class CostOf(NamedTuple):
    """`cost` (USD) is None where it is not known; `pricing` is the same word as in the ledger's entry."""

    cost: Decimal | None = None
    pricing: str = "unpriced"

    @property
    def text(self) -> str | None:
        """The cost without exponent and without zeros at its end."""
        return None if self.cost is None else f"{self.cost.normalize() + 0:f}"

    def to_receipt(self) -> dict[str, str | None]:
        """The fields of a receipt about the cost."""
        return {"cost": self.text, "currency": CURRENCY, "pricing": self.pricing}


UNKNOWN_COST = CostOf()


class Prices:
    """Prices answers. `book` loads the price book; it is called once."""

    def __init__(self, book: Callable[[], PriceBook]) -> None:
        self._load = book
        self._book: PriceBook | None = None

    def cost_of(self, call: Call, outcome: Outcome, timeline: Timeline) -> CostOf:
        """What the answer has cost, by the usage that is known so far. Never raises."""
        try:
            self._book = self._book or self._load()
            return _cost_of(call, outcome, timeline, self._book)
        except Exception as error:  # noqa: BLE001  # the answer matters more than its price
            log("ERROR", "A cost could not be told", id=call.id, error=type(error).__name__, trace=place_of(error))
            return UNKNOWN_COST


def _cost_of(call: Call, outcome: Outcome, timeline: Timeline, book: PriceBook) -> CostOf:
    meter, delivery = outcome.meter, outcome.delivery
    asked = text_of(delivery.model, LONGEST_NAME) or ""
    entry: dict[str, Any] = usage_attributes(usage_of(call, outcome, timeline.started_at)) | {
        "server": delivery.server_name,
        "model": ((meter.model if meter else None) or asked)[:_LONGEST_MODEL] or None,
        "request_model": asked[:_LONGEST_MODEL] or None,
        "cache_status": outcome.cache.status,
    }
    found = price_attributes(event_id_of(call, outcome, timeline.started_at), entry, book)
    return CostOf(found.get("cost"), found["pricing"])
