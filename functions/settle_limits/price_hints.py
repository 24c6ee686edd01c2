"""Price hints for the proxy, which has no price book. One rule: a hint never costs a settlement anything but a write.

A hint that is lost only makes the next reservation less exact.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from settle_limits.settlement import PriceHint

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

LEAST_SECONDS = 600
"""Between two writes for one model: a model that two names answer may have two prices in turn."""
LEAST_SECONDS_OF_ANSWER = 60
"""The same where its answers have become longer or shorter by half."""
RENEWED_AFTER = 86400
"""Seconds, well before a hint expires."""
_MOST_REMEMBERED = 4096
_RISE, _FALL = 0.5, 0.05
"""How far a longer answer, and a shorter one, moves what is usual: most answers are no longer than that."""


class PriceHints:
    """Writes what is new. `write` is `LimitsTable.write_hint`, `read` is `LimitsTable.usual_answer`."""

    def __init__(
        self,
        write: Callable[[PriceHint], None],
        read: Callable[[PriceHint], int | None],
        logger: "Logger",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._write = write
        self._read = read
        self._logger = logger
        self._clock = clock
        self._written: dict[tuple[str, str], tuple[PriceHint, float]] = {}
        self._usual: dict[tuple[str, str], float | None] = {}

    def learn(self, hints: Iterable[PriceHint]) -> None:
        """Write those that differ from what was written last. Never raises."""
        latest = {(hint.server, hint.model): self._with_usual_answer(hint) for hint in hints}
        for key, hint in latest.items():
            if not self._is_news(key, hint):
                continue
            try:
                self._write(hint)
            except Exception as error:  # noqa: BLE001  # an SDK that is answered oddly fails in ways of its own
                self._logger.warning("A price hint was not written", server=hint.server, reason=repr(error))
            if len(self._written) >= _MOST_REMEMBERED:  # clients make names up
                self._written.clear()
                self._usual.clear()
            self._written[key] = hint, self._clock()

    def _with_usual_answer(self, hint: PriceHint) -> PriceHint:
        key = hint.server, hint.model
        if key not in self._usual:
            self._usual[key] = self._read_usual(hint)
        usual, answer = self._usual[key], hint.answer
        if answer is not None:
            usual = answer if usual is None else usual + (_RISE if answer > usual else _FALL) * (answer - usual)
            self._usual[key] = usual
        return replace(hint, answer=None if usual is None else max(1, round(usual)))

    def _read_usual(self, hint: PriceHint) -> int | None:
        try:
            return self._read(hint)
        except Exception as error:  # noqa: BLE001  # an SDK that is answered oddly fails in ways of its own
            self._logger.warning("A price hint was not read", server=hint.server, reason=repr(error))
            return None

    def _is_news(self, key: tuple[str, str], hint: PriceHint) -> bool:
        if key not in self._written:
            return True
        written, at = self._written[key]
        passed = self._clock() - at
        if (hint.input, hint.output) != (written.input, written.output):
            return passed >= LEAST_SECONDS
        return passed >= (LEAST_SECONDS_OF_ANSWER if _differ(hint.answer, written.answer) else RENEWED_AFTER)


def _differ(answer: int | None, before: int | None) -> bool:
    """Whether one is longer than the other by half, or only one is known."""
    if answer is None or before is None:
        return answer != before
    shorter, longer = sorted((answer, before))
    return longer > shorter * 1.5
