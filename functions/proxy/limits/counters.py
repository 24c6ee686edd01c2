"""The calls of the limits table for one take, or one release, with their time limits and their repetitions.

Its one rule: a call is sent again after an outage only because its condition makes sure that it counts once.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from openai_proxy.dynamodb import Item
from openai_proxy.key_limits import Limits

from proxy.aws.client import NO_ANSWER, Aws, AwsError
from proxy.limits.item import key_of

_Answer = TypeVar("_Answer")

PAUSES = (0.01, 0.03, 0.08, 0.2)
"""Seconds between one try and the next."""
_SHORTEST_CALL = 0.02
"""Seconds."""


class Calls:
    """The state of the calls for one take, or one release: how long they may go on, and whether an answer may have been
    lost.
    """

    def __init__(self, timeout: float, most_timeouts: int, until: float) -> None:
        self._timeout = timeout
        self._until = min(until, time.time() + most_timeouts * timeout)
        self.in_doubt = False
        """Whether an update was perhaps applied that nobody has confirmed."""

    @property
    def timeout(self) -> float:
        """Seconds for the next call. Raises AwsError when there is no time left."""
        if (left := self._until - time.time()) < _SHORTEST_CALL:
            raise AwsError("dynamodb:UpdateItem", NO_ANSWER, "no time is left")
        return min(self._timeout, left)


class TableAccess(NamedTuple):
    """The table of limits by `name`, and how it is asked: an answer is waited for `timeout` seconds, and `sleep` passes
    the time between two tries. `clock` is in Unix seconds.
    """

    aws: Aws
    name: str
    clock: Callable[[], float] = time.time
    timeout: float = 1.0
    sleep: Callable[[float], None] = time.sleep


class Counters:
    """Reads and changes counters. Every call raises AwsError."""

    def __init__(self, aws: Aws, table: str, sleep: Callable[[float], None], pauses: Sequence[float] = PAUSES) -> None:
        self._aws = aws
        self._table = table
        self._sleep = sleep
        self._pauses = pauses

    def without_repetition(self) -> "Counters":
        """The same counters without repetitions, for callers that try another shard before they repeat a call."""
        return Counters(self._aws, self._table, self._sleep, ())

    def pause(self, seconds: float) -> None:
        """Wait for about so many seconds: the time is varied, so that not all callers come again at once."""
        self._sleep(seconds * (0.5 + random.random()))  # noqa: S311 - spreads retries, guards nothing

    def update(self, limits: Limits, request: Mapping[str, Any], calls: Calls) -> tuple[bool, Item | None]:
        """Update an item. Returns whether the update's condition held, and the item. A settlement may hold the item for
        a moment.
        """
        arguments = {"TableName": self._table, "Key": key_of(limits), **request}
        return self._changing(lambda: self._aws.update_item(arguments, calls.timeout), calls)

    def update_once(self, limits: Limits, request: Mapping[str, Any], calls: Calls) -> bool:
        """Update an item. Returns whether the update's condition held. The call is not repeated, because nothing in it
        ensures that it counts once.
        """
        arguments = {"TableName": self._table, "Key": key_of(limits), **request}
        return self._aws.update_item(arguments, calls.timeout)[0]

    def update_all(
        self, requests: Sequence[tuple[Limits, Mapping[str, Any]]], calls: Calls
    ) -> Sequence[Item | None] | None:
        """Make all of these updates or, if a condition fails, none. Returns None if they are made, else the items whose
        conditions failed.
        """
        updates = [
            {"TableName": self._table, "Key": key_of(limits), **request}
            | {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
            for limits, request in requests
        ]
        for update in updates:
            update.pop("ReturnValues", None)  # a transaction returns no items
        return self._changing(lambda: self._aws.transact_updates(updates, calls.timeout), calls)

    def item(self, limits: Limits, calls: Calls) -> Item:
        """One item; empty when there is none."""
        arguments = {"TableName": self._table, "Key": key_of(limits), "ConsistentRead": True}
        return self._repeated(lambda: self._aws.get_item(arguments, calls.timeout))

    def items(self, every: Sequence[Limits], calls: Calls) -> list[Item]:
        """Several items, in one call."""
        keys = [key_of(limits) for limits in every]
        return self._repeated(lambda: list(self._aws.batch_get_item(self._table, keys, calls.timeout)))

    def _changing(self, change: Callable[[], _Answer], calls: Calls) -> _Answer:
        def changed() -> _Answer:
            try:
                return change()
            except AwsError as error:
                calls.in_doubt |= error.may_be_done
                raise

        return self._repeated(changed)

    def _repeated(self, call: Callable[[], _Answer]) -> _Answer:
        """Make a call, and repeat it after an outage for a short time: its condition ensures that it counts once."""
        for pause in self._pauses:
            try:
                return call()
            except AwsError as error:
                if not error.is_transient:
                    raise
            self.pause(pause)
        return call()
