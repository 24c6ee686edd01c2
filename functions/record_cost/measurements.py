"""From newly recorded entries to measurements: the metrics of docs/metrics.md that record_cost writes. Pure.

One rule: they come only from entries that are new in the ledger, so an event that is delivered again adds nothing.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from openai_proxy.ledger.entries import LedgerEntry
from openai_proxy.metric_data import ALL, Dimensions, Measurement, by_server_and_model, measured, minute_of

if TYPE_CHECKING:
    from openai_proxy.events.types import InferenceEvent

CONSUMER: Dimensions = (("Consumer", "record_cost"),)
RECORDED = "EventsRecorded"
"""Of an event whose entries another event has claimed, this alone is measured: it has arrived."""


def measurements_of(
    event: "InferenceEvent", entry: LedgerEntry, model_names: Callable[[str, str | None], str]
) -> Iterator[Measurement]:
    """What one entry adds to the metrics. Money is in the ledger's currency; an entry without a price adds no money. An
    event that has several entries is one event.
    """
    minute, attributes = minute_of(event), entry.attributes
    every = by_server_and_model(event, model_names)
    if event.id == entry.event_id:
        yield from measured(RECORDED, "Count", 1, minute, [CONSUMER])
    if attributes["pricing"] == "unpriced" or "unpriced_units" in attributes:
        yield from measured("Unpriced", "Count", 1, minute, [ALL, every[1]])
    if attributes["pricing"] not in ("unpriced", "none"):
        yield from measured("Cost", "None", attributes["cost"], minute, every)
    if "cost_saved" in attributes:
        yield from measured("CacheSavings", "None", attributes["cost_saved"], minute, every)
