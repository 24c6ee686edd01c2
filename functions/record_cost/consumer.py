"""SQS batch ─▶ events ─▶ ledger entries ─▶ ledger, lake. One rule: a message fails for its own fault only.

The lake gets what the ledger has, duplicates included: what was written before a crash must still reach it.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from openai_proxy.events import Event, MalformedEventError
from openai_proxy.pricing import PriceBook

from record_cost.ledger import OUTCOMES, LedgerEntry, entry_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aws_lambda_powertools import Logger


class Ledger(Protocol):
    """Where entries are kept: CostsTable, or a fake of it."""

    def record(self, entries: "Iterable[LedgerEntry]") -> dict[tuple[str, str], str]:
        """Write entries that are not there yet; returns the keys of those that could not be written, and why."""
        ...


class Lake(Protocol):
    """Where entries go for good: record_cost.lake.Lake, or a fake of it."""

    def put(self, entries: "Iterable[LedgerEntry]") -> dict[tuple[str, str], str]:
        """Send entries; returns the keys of those that were not taken, and why."""
        ...


class RecordCost:
    """The consumer behind the queue of InferenceCompleted and InferenceFailed."""

    def __init__(self, prices: PriceBook, ledger: Ledger, logger: "Logger", lake: Lake | None = None) -> None:
        self._prices = prices
        self._ledger = ledger
        self._logger = logger
        self._lake = lake

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
        """Record an SQS batch. Returns the partial batch response: the messages that must come again."""
        entries: dict[tuple[str, str], LedgerEntry] = {}
        messages: dict[tuple[str, str], list[str]] = {}
        failed: list[str] = []
        for record in batch["Records"]:
            try:
                entry = self._read(record["body"])
            except MalformedEventError as error:
                self._logger.warning("message refused", message_id=record["messageId"], reason=str(error))
                failed.append(record["messageId"])
                continue
            if entry:
                entries[entry.key] = entry
                messages.setdefault(entry.key, []).append(record["messageId"])
        unwritten = self._ledger.record(entries.values())
        written = [entry for key, entry in entries.items() if key not in unwritten]
        unsent = self._lake.put(written) if self._lake and written else {}
        for key, reason in (unwritten | unsent).items():
            self._logger.warning("entry not written", event_id=key[1], reason=reason)
            failed += messages[key]
        self._logger.info(
            "batch recorded",
            messages=len(batch["Records"]),
            entries=len(entries) - len(unwritten),
            unpriced=sum(entry.attributes["pricing"] == "unpriced" for entry in entries.values()),
            failed=len(failed),
        )
        return {"batchItemFailures": [{"itemIdentifier": message} for message in failed]}

    def _read(self, body: str) -> LedgerEntry | None:
        event = Event.from_sqs_body(body)
        return entry_of(event, self._prices) if event.detail_type in OUTCOMES else None
