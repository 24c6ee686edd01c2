"""Of requests for the same answer at the same time one fetches it, and the others wait for it.

Its one rule: nobody waits for nothing. A lease is given back when nothing comes of it, it is as good as given back when
the answer is published, and it never outlives its owner's own deadline.
"""

from collections.abc import Callable
from typing import Literal

from openai_proxy.events import Event

from proxy.aws import AwsError
from proxy.cache_flight import Flight
from proxy.cache_table import CacheTable, Lease
from proxy.log import log

SHORTEST_LIFE = 2
"""Seconds. An answer that may be no older is over about when it is stored: nobody waits for it."""

_STORED_WITHIN = 2.0
"""Seconds from the publishing of an answer until it is in the table, nearly always."""
_LEASE_SECONDS = 30.0
_MOST_LEADERS = 2
"""When nothing came of two, the answer is none that is kept: one after another would take too long."""
_FIRST_PAUSE, _LONGEST_PAUSE, _GROWTH = 0.1, 1.5, 2

Seen = Literal["stored", "over", "in_vain"]
"""The answer is in the table; nobody has the lease any more; or the wait was as long as it may be."""


class Leases:
    """Leases for answers that are being fetched. Calls raise AwsError, but for those that end a lease."""

    def __init__(self, table: CacheTable, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._table = table
        self._clock = clock
        self._sleep = sleep

    def take(self, flight: Flight, owner: str, wait: float, deadline: float) -> bool:
        """Become the one who fetches the answer, if nobody is. Others wait for up to `wait` seconds."""
        now = self._clock()
        seconds = max(1.0, min(max(_LEASE_SECONDS, wait), deadline - now))
        flight.leads = True  # until the table denies it: a lease may be taken though the answer to that was lost
        flight.leads = self._table.lease(flight.lease, owner, now, seconds)
        return flight.leads

    def wait(self, flight: Flight, until: float, leaders: set[str]) -> Seen:
        """Wait for the one who fetches the answer, until `until` (Unix seconds) at the most.

        `leaders` remembers whom the request has waited for.
        """
        pause = _FIRST_PAUSE
        while (left := until - self._clock()) > 0:
            self._sleep(min(pause, left))
            pause = min(pause * _GROWTH, _LONGEST_PAUSE)
            lease = self._table.lease_of(flight.lease, self._clock())
            if lease is None:
                return "over"
            leaders.add(lease.owner)
            if len(leaders) > _MOST_LEADERS:
                return "in_vain"
            if lease.event_id:
                return self._wait_for_write(flight, lease, until)
        return "in_vain"

    def _wait_for_write(self, flight: Flight, lease: Lease, until: float) -> Seen:
        """Wait for an answer that has been published. Of the item no more is read than which answer it is."""
        pause = _FIRST_PAUSE
        while self._table.event_id_of(flight.keys.key) < lease.event_id:
            left = min(until, lease.until) - self._clock()
            if left <= 0:
                return "over" if lease.until <= until else "in_vain"
            self._sleep(min(pause, left))
            pause *= _GROWTH
        return "stored"

    def published(self, flight: Flight, owner: str, event: Event) -> None:
        """The answer is on its way: who waits looks for it a moment longer, and then the lease is over."""
        until = min(self._clock() + _STORED_WITHIN, event.data["expires_at"])
        try:
            self._table.stored_soon(flight.lease, owner, event.id, until)
        except AwsError as error:
            _not_given_back(error)

    def give_back(self, flight: Flight, owner: str) -> None:
        """Nothing comes of it: the next may try."""
        try:
            self._table.give_back(flight.lease, owner)
        except AwsError as error:
            _not_given_back(error)


def _not_given_back(error: AwsError) -> None:
    log("WARN", "A lease was not given back: it will end", reason=str(error))
