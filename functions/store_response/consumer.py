"""SQS batch ─▶ captured answers ─▶ the newest per cache key ─▶ response cache.

One rule: a message fails only for a fault of its own. An answer that can never be stored (too large, expired) is
dropped and logged. An expired one is dropped even if it cannot be read, so that no content stays in queues for longer
than it would be kept.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from openai_proxy.cache.answers import CLOCKS_APART
from openai_proxy.events.batch import PartialFailure, again, read_batch
from openai_proxy.events.incoming import MalformedEventError, from_sqs_body
from openai_proxy.events.traces import traces_of
from openai_proxy.events.ulid import ulid_time
from openai_proxy.pricing.price_book import PriceBook

from store_response.cached_response import AnswerTooLargeError, cached_response_of
from store_response.item import LARGEST_ITEM, item_of, item_size

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

Item = dict[str, Any]


class Cache(Protocol):
    """Where answers are kept: CacheTable, or a fake of it."""

    def store(self, item: Item) -> bool:
        """Write the item of an answer. False: one at least as new is there already."""
        ...


class StoreResponse:
    """The consumer behind the queue of ResponseCaptured."""

    def __init__(
        self, cache: Cache, prices: PriceBook, logger: "Logger", clock: Callable[[], float] = time.time
    ) -> None:
        self._cache = cache
        self._prices = prices
        self._logger = logger
        self._clock = clock

    def __call__(self, batch: Mapping[str, Any]) -> PartialFailure:
        """Store an SQS batch. Returns the partial batch response: the messages that must come again."""
        newest: dict[str, tuple[Item, str]] = {}
        read, failed = read_batch(batch, self._read, self._logger)
        for message, item in read:
            if item:
                known = newest.get(item["cache_key"]["S"])
                if not known or known[0]["event_id"]["S"] < item["event_id"]["S"]:
                    newest[item["cache_key"]["S"]] = item, message
        failed += [message for item, message in newest.values() if not self._store(item)]
        self._logger.info(
            "A batch was stored",
            messages=len(batch["Records"]),
            answers=len(newest),
            failed=len(failed),
            traces=traces_of(batch["Records"]),
        )
        return again(failed)

    def _read(self, body: str) -> Item | None:
        """The item of a message's answer; None if it is not to be stored. Raises MalformedEventError."""
        event = from_sqs_body(body)
        if event.detail_type != "ResponseCaptured":
            return None
        if _is_over(event.data, self._clock()):
            self._logger.info("An answer was dropped: it expired before it was stored", event_id=event.id)
            return None
        try:
            response = cached_response_of(event, self._prices)
        except AnswerTooLargeError as error:
            return self._too_large(event.id, error.size)
        if max(response.created_at, ulid_time(event.id).timestamp()) > self._clock() + CLOCKS_APART:
            # An answer from the future would count as the newest and keep real ones out, and the proxy would not serve
            # it.
            raise MalformedEventError(f"not a {event.detail_type} event: it is from the future")
        item = item_of(response)
        size = item_size(item)
        return item if size <= LARGEST_ITEM else self._too_large(event.id, size)

    def _too_large(self, event_id: str, size: int) -> None:
        self._logger.warning(
            "An answer was dropped: it is too large for the response cache", event_id=event_id, size=size
        )

    def _store(self, item: Item) -> bool:
        try:
            self._cache.store(item)
        except Exception:  # an SDK that is answered oddly fails in ways of its own
            self._logger.exception("An answer was not stored", event_id=item["event_id"]["S"])
            return False
        return True


def _is_over(data: Any, now: float) -> bool:
    """Whether an answer has expired; False where that cannot be known."""
    until = data.get("expires_at") if isinstance(data, dict) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
    return isinstance(until, int | float) and not isinstance(until, bool) and until <= now
