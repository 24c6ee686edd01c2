"""What models cost and how long their answers are, as the settlement of earlier requests has left it in the table.

Its one rule: a hint is optional. If it cannot be read, or makes no sense, the last known one holds, else a careful
default.
"""

from collections.abc import Callable, Mapping
from typing import Any

from openai_proxy.dynamodb import from_item
from openai_proxy.limits import hint_key, read_hint

from proxy.aws.client import Aws, AwsError
from proxy.limits.reservation import CAREFUL, Prices
from proxy.log import log
from proxy.request.asked_counts import MOST_TOKENS
from proxy.request.routing import Candidate

_KEPT = 300.0
_LOOKED_AGAIN = 30.0
"""Seconds, after a hint was not there or could not be read."""
_MOST_REMEMBERED = 1024
"""Clients make names up."""
_HIGHEST_PRICE = 1
"""USD per token."""


class PriceHints:
    """Hints, each of which is read again from time to time. `timeout` is in seconds."""

    def __init__(self, aws: Aws, table: str, clock: Callable[[], float], timeout: float) -> None:
        self._aws = aws
        self._table = table
        self._clock = clock
        self._timeout = timeout
        self._known: dict[str, tuple[float, Prices]] = {}

    def of(self, candidate: Candidate, model: str) -> Prices:
        """The prices of the model that is asked for."""
        server = candidate.server
        key = hint_key(server.name, candidate.replacement or model or server.model)
        name = key["pk"]["S"]
        known = self._known.get(name)
        if known and known[0] > self._clock():
            return known[1]
        kept, prices = self._read(key, known[1] if known else CAREFUL)
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[name] = self._clock() + kept, prices
        return prices

    def _read(self, key: Mapping[str, Any], otherwise: Prices) -> tuple[float, Prices]:
        """The hint, and for how many seconds it is good."""
        try:
            item = self._aws.get_item({"TableName": self._table, "Key": key}, self._timeout)
            return (_KEPT, _prices(item)) if item else (_LOOKED_AGAIN, CAREFUL)
        except (AwsError, KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            log("WARN", "A price hint cannot be read", reason=str(error))
            return _LOOKED_AGAIN, otherwise


def _prices(item: Mapping[str, Any]) -> Prices:
    """Raises KeyError, TypeError, ValueError, ArithmeticError or AttributeError if it is no hint."""
    per_input, per_output, answer = read_hint(from_item(item))
    if (
        not all(0 <= price <= _HIGHEST_PRICE for price in (per_input, per_output))
        or not 0 <= (answer or 0) <= MOST_TOKENS
    ):
        raise ValueError("a hint that makes no sense")
    return Prices(per_input, per_output, answer)
