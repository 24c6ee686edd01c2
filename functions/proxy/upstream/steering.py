"""Puts servers last that are forecast to refuse a request; the forecasts come from what earlier answers announced.

Its one rule: no request waits for it. A thread of its own reads, every few seconds, the forecasts for the servers and
models that are in use. A forecast that is missing or cannot be read changes nothing.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from openai_proxy.dynamodb import from_item, to_item
from openai_proxy.throttles.weather import PARTITION, sort_key

from proxy.aws.client import AwsError
from proxy.limits.renewal import in_background
from proxy.log import log
from proxy.request.routing import Candidate

LOOK_SECONDS = 10.0
_MOST_WANTED = 32
_TIMEOUT = 1.0
_FAILED = "The limits of servers were not read"


class Items(Protocol):
    """As much of `Aws` as is needed."""

    def get_item(self, arguments: Mapping[str, Any], timeout: float) -> dict[str, Any]:
        """An item, empty when there is none. Raises AwsError."""
        ...


class Steering:
    """Puts candidates in order. No other thread uses `aws`; `start` starts a thread and is called once."""

    def __init__(
        self,
        aws: Items,
        table: str,
        clock: Callable[[], float] = time.time,
        start: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._aws, self._table, self._clock = aws, table, clock
        self._start = start or _in_background
        self._is_started = False
        self._wanted: tuple[str, ...] = ()
        self._full: Mapping[str, float] = {}
        """When each server and model has room again (Unix seconds)."""

    def ordered(self, candidates: Sequence[Candidate], model: str) -> Sequence[Candidate]:
        """The candidates for a request for `model`. Those that are forecast to refuse come last; otherwise the order
        stays.
        """
        names = [sort_key(each.server.name, each.replacement or model or each.server.model) for each in candidates]
        self._want(names)
        now = self._clock()
        full = [self._full.get(name, 0.0) > now for name in names]
        by_room = sorted(zip(full, range(len(candidates)), strict=True))
        return [candidates[place] for _, place in by_room]

    def look(self) -> None:
        """Read the forecasts for the servers and models in use. Raises KeyError for a damaged item."""
        found: dict[str, float] = {}
        try:
            for name in self._wanted:
                key = to_item({"pk": PARTITION, "sk": name})
                if item := self._aws.get_item({"TableName": self._table, "Key": key}, _TIMEOUT):
                    found[name] = float(from_item(item)["full_until"])
        except AwsError as error:
            log("WARN", _FAILED, reason=str(error))
            return
        self._full = found

    def _want(self, names: Sequence[str]) -> None:
        self._wanted = tuple(dict.fromkeys((*names, *self._wanted)))[:_MOST_WANTED]
        if not self._is_started:
            self._is_started = True
            self._start(self.look)


def _in_background(look: Callable[[], None]) -> None:
    in_background(look, LOOK_SECONDS, _FAILED)
