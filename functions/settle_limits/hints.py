"""Price hints for the proxy, which has no price book. One rule: a hint never costs a settlement anything but a write.

A hint that is lost only makes the next reservation less exact.
"""

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from settle_limits.settlement import PriceHint

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

LEAST_SECONDS = 600
"""Between two writes for one model: a model that two names answer may have two prices in turn."""
RENEWED_AFTER = 86400
"""Seconds, well before a hint expires."""
_MOST_REMEMBERED = 4096


class PriceHints:
    """Writes what is new. `write` is `LimitsTable.write_hint`."""

    def __init__(
        self, write: Callable[[PriceHint], None], logger: "Logger", clock: Callable[[], float] = time.time
    ) -> None:
        self._write = write
        self._logger = logger
        self._clock = clock
        self._written: dict[tuple[str, str], tuple[PriceHint, float]] = {}

    def learn(self, hints: Iterable[PriceHint]) -> None:
        """Write those that differ from what was written last. Never raises botocore's errors."""
        latest = {(hint.server, hint.model): hint for hint in hints}
        for key, hint in latest.items():
            if not self._is_news(key, hint):
                continue
            try:
                self._write(hint)
            except (BotoCoreError, ClientError) as error:
                self._logger.warning("price hint not written", server=hint.server, reason=str(error))
            if len(self._written) >= _MOST_REMEMBERED:  # clients make names up
                self._written.clear()
            self._written[key] = hint, self._clock()

    def _is_news(self, key: tuple[str, str], hint: PriceHint) -> bool:
        if key not in self._written:
            return True
        written, at = self._written[key]
        return self._clock() - at >= (LEAST_SECONDS if hint != written else RENEWED_AFTER)
