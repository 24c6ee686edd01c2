"""SQS batch ─▶ captured answers ─▶ the newest per cache key ─▶ response cache.

One rule: a message fails for its own fault only. What can never be stored (too large, expired) is dropped, and logged.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import BotoCoreError, ClientError
from openai_proxy.events import Event, MalformedEventError

from store_response.cached_response import LARGEST_ITEM, CachedResponse, cached_response_of, item_size

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger


class Cache(Protocol):
    """Where answers are kept: CacheTable, or a fake of it."""

    def store(self, response: CachedResponse) -> bool:
        """Write `response`, unless an answer at least as new is there: then False."""
        ...


class StoreResponse:
    """The consumer behind the queue of ResponseCaptured."""

    def __init__(self, cache: Cache, logger: "Logger", clock: Callable[[], float] = time.time) -> None:
        self._cache = cache
        self._logger = logger
        self._clock = clock

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
        """Store an SQS batch. Returns the partial batch response: the messages that must come again."""
        newest: dict[str, tuple[CachedResponse, str]] = {}
        failed: list[str] = []
        for record in batch["Records"]:
            try:
                event = Event.from_sqs_body(record["body"])
                response = cached_response_of(event) if event.detail_type == "ResponseCaptured" else None
            except MalformedEventError as error:
                self._logger.warning("message refused", message_id=record["messageId"], reason=str(error))
                failed.append(record["messageId"])
                continue
            if response and self._is_storable(response):
                known = newest.get(response.cache_key)
                if not known or known[0].event_id < response.event_id:
                    newest[response.cache_key] = response, record["messageId"]
        failed += [message for response, message in newest.values() if not self._store(response)]
        self._logger.info("batch stored", messages=len(batch["Records"]), answers=len(newest), failed=len(failed))
        return {"batchItemFailures": [{"itemIdentifier": message} for message in failed]}

    def _is_storable(self, response: CachedResponse) -> bool:
        if response.expires_at <= self._clock():
            self._logger.info("answer expired before it was stored: dropped", event_id=response.event_id)
            return False
        size = item_size(response.to_item())
        if size > LARGEST_ITEM:
            self._logger.warning(
                "answer too large for the response cache: dropped",
                event_id=response.event_id,
                item_size=size,
                largest_item=LARGEST_ITEM,
            )
            return False
        return True

    def _store(self, response: CachedResponse) -> bool:
        try:
            self._cache.store(response)
        except (BotoCoreError, ClientError):
            self._logger.exception("answer not stored", event_id=response.event_id)
            return False
        return True
