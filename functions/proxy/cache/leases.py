"""Of requests for the same answer at the same time one fetches it, and the others wait for it.

Its one rule: nobody waits for an answer that will not come. A lease is given back when its request fails, it ends soon
after the answer is published, and it never outlives its owner's deadline. Those who wait look only a few times: the
longer such an answer usually takes, or the longer this one has taken, the longer are the pauses between two looks.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

from openai_proxy.cache.answers import LONGEST_MODEL

from proxy.aws.client import AwsError
from proxy.cache.fill import CacheFill
from proxy.cache.table import CacheTable, Lease
from proxy.log import log

if TYPE_CHECKING:
    from openai_proxy.events.types import CapturedEvent

SHORTEST_LIFE = 2
"""Seconds. An answer that may be no older is over about when it is stored: nobody waits for it."""

_STORED_WITHIN = 2.0
"""Seconds from the publishing of an answer until it is in the table, nearly always."""
_STORED_AFTER = 0.5
"""Seconds that the same takes at least, nearly always: to look any sooner makes nobody faster."""
_LEASE_SECONDS = 30.0
_MOST_LEADERS = 2
"""When nothing came of two, the answer is none that is kept: one after another would take too long."""
_SHORTEST_PAUSE = 0.5
_LONG_PAUSE = 5.0
_TICK = 0.001
"""Seconds. Leases are written to the millisecond."""
_MOST_KINDS = 64
_WEIGHT = 1 / 3
"""Of the last answer in the usual time of its kind."""

Seen = Literal["stored", "over", "in_vain"]
"""The answer is in the table; nobody has the lease any more; or the wait was as long as it may be."""
_Kind = tuple[str, str, str, bool]


def pause_after(passed: float, usual: float) -> float:
    """Seconds until who waits looks again. The answer has been under way for `passed` seconds.

    `usual` is how many seconds such an answer usually takes, 0.0 when that is not known. It is looked for after a half,
    three quarters and the whole of that time. After that, each pause is as long as the answer is late, but, beyond some
    seconds, no longer than a quarter of all the time so far.
    """
    if passed < usual:
        return max(_SHORTEST_PAUSE, usual / 2 - passed, min(usual / 4, usual - passed))
    return max(_SHORTEST_PAUSE, usual / 8, min(passed - usual, max(_LONG_PAUSE, passed / 4)))


class Turn(NamedTuple):
    """Whose turn it is to fetch an answer: that of this request, `since` a moment (Unix seconds), or that of the owner
    of `held`.

    `failure` is why nobody knows: the table may have said yes, and its answer was lost.
    """

    since: float | None = None
    held: Lease | None = None
    failure: AwsError | None = None


class Leases:
    """Leases for answers that are being fetched. Only waiting raises AwsError."""

    def __init__(self, table: CacheTable, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._table = table
        self._clock = clock
        self._sleep = sleep
        self._usual = dict[_Kind, float]()

    def take(self, fill: CacheFill, owner: str, wait: float, deadline: float) -> Turn:
        """Take the lease, if nobody has it. Others wait for up to `wait` seconds."""
        now = self._clock()
        seconds = max(1.0, min(max(_LEASE_SECONDS, wait), deadline - now))
        lease = Lease(owner, now + seconds, now, self._usual.get(_kind_of(fill), 0.0))
        try:
            held = self._table.take_lease(fill.lease, lease, now)
        except AwsError as failure:
            return Turn(now, failure=failure)
        return Turn(held=held) if held else Turn(now)

    def wait(self, fill: CacheFill, lease: Lease, until: float, leaders: frozenset[str]) -> tuple[Seen, frozenset[str]]:
        """Wait for the owner of `lease`, or for whoever takes it over, until `until` (Unix seconds) at the latest.

        `leaders` are those whom the request has waited for. Returns them too, with the new ones.
        """
        came = self._clock()
        while True:
            now = self._clock()
            leaders |= {lease.owner} - {""}
            if len(leaders) > _MOST_LEADERS:
                return "in_vain", leaders
            if lease.event_id:
                return self._wait_for_write(fill, lease, until), leaders
            if now >= until:
                return "in_vain", leaders
            usual = lease.usual or self._usual.get(_kind_of(fill), 0.0)
            pause = pause_after(now - (lease.since or came), usual)
            self._sleep(max(0.0, min(pause, until - now, lease.until + _TICK - now)))  # a call takes time, too
            found = self._table.lease_of(fill.lease, self._clock())
            if found is None:
                return "over", leaders
            lease = found

    def _wait_for_write(self, fill: CacheFill, lease: Lease, until: float) -> Seen:
        """Wait for an answer that has been published. Of the item only the id of the answer's event is read."""
        published = lease.until - _STORED_WITHIN
        if lease.since:
            self._learn(fill, published - lease.since)
        pause, growing = published + _STORED_AFTER - self._clock(), _STORED_AFTER / 2
        while True:
            left = min(until, lease.until) - self._clock()
            if pause > 0 and left > 0:
                self._sleep(min(pause, left))
            if self._table.event_id_of(fill.keys.key) >= lease.event_id:
                return "stored"
            if left <= max(pause, 0):
                return "over" if lease.until <= until else "in_vain"
            pause, growing = growing, growing * 2

    def published(self, fill: CacheFill, since: float, owner: str, event: "CapturedEvent") -> None:
        """The answer is on the bus: those who wait look for it a little longer, and then the lease is over."""
        now = self._clock()
        self._learn(fill, now - since)
        until = min(now + _STORED_WITHIN, event.data["expires_at"])
        try:
            self._table.stored_soon(fill.lease, Lease(owner, until, since, event_id=event.id))
        except AwsError as error:
            _not_given_back(error)

    def give_back(self, fill: CacheFill, owner: str) -> None:
        """There will be no answer: the next request may try."""
        try:
            self._table.give_back(fill.lease, owner)
        except AwsError as error:
            _not_given_back(error)

    def _learn(self, fill: CacheFill, seconds: float) -> None:
        """Remember how long an answer of a kind took. When there are too many kinds, the oldest are forgotten first."""
        kind, seconds = _kind_of(fill), max(0.0, seconds)
        if kind not in self._usual and len(self._usual) >= _MOST_KINDS:
            del self._usual[next(iter(self._usual))]
        known = self._usual.get(kind, seconds)
        self._usual[kind] = known + (seconds - known) * _WEIGHT


def _kind_of(fill: CacheFill) -> _Kind:
    """The kind of an answer: those of one kind take about equally long."""
    path, server, fields, is_stream = fill.wanted
    model = fields.get("model")
    return server, path, model[:LONGEST_MODEL] if isinstance(model, str) else "", is_stream


def _not_given_back(error: AwsError) -> None:
    log("WARN", "A lease was not given back: it will end", reason=str(error))
