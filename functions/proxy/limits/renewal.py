"""Renews the leases of the running request. Leases are short, and are renewed for as long as the request runs. There
are two if its team has limits too.

So the place of a sandbox that dies is free again within half a minute, however long its request might have taken. A
thread of its own looks after the lease every few seconds: the request itself waits for nothing, and most requests are
over before there is anything to renew.

Its one rule: a renewal never creates a lease, so a lease that was given back stays given back.
"""

import time
from collections.abc import Callable, Mapping
from threading import Thread
from typing import Any, Protocol

from openai_proxy.key_limits import Limits

from proxy.aws.client import AwsError
from proxy.limits.item import key_of
from proxy.limits.reservation import LEASE_SECONDS, renewing
from proxy.log import log, trace_of

ENDED_EARLY = "A lease of limits has ended before its request"
_RENEWED_BELOW = 15
"""Seconds that are left of a lease when it is renewed: time for two more tries."""
_LOOK_SECONDS = 5.0


class Updates(Protocol):
    """As much of `Aws` as is needed."""

    def update_item(self, arguments: Mapping[str, Any], timeout: float) -> tuple[bool, dict[str, Any] | None]:
        """Whether the update's condition held. Raises AwsError."""
        ...


class _Kept:
    """The lease that is renewed: its end, and the latest end that it may have (Unix seconds).

    In a shard it is one of the places that end at the same time. `is_in_doubt`: it may have been renewed.
    """

    def __init__(self, limits: Limits, lease: str, end: int, last: int, shard: int) -> None:
        self.limits = limits
        self.lease = lease
        self.end = end
        self.last = last
        self.shard = shard
        self.is_in_doubt = False


class Renewals:
    """Renews the leases of one request at a time: the one that the sandbox is serving.

    `aws` is not shared with any other thread; `timeout` (seconds) bounds one call. `start` starts a thread, once.
    """

    def __init__(
        self,
        aws: Updates,
        table: str,
        timeout: float,
        clock: Callable[[], float] = time.time,
        start: Callable[[Callable[[], None]], None] | None = None,
    ) -> None:
        self._aws, self._table, self._timeout, self._clock = aws, table, timeout, clock
        self._start = start or in_background
        self._is_started = False
        self._kept: tuple[_Kept, ...] = ()

    def begin(self, limits: Limits, lease: str, end: int, last: int, shard: int = 0) -> None:
        """Renew `lease`, which ends at `end`, from now on; never beyond `last`."""
        own = tuple(each for each in self._kept if each.lease == lease and each.limits.id != limits.id)
        self._kept = (*own, _Kept(limits, lease, end, last, shard))
        if not self._is_started:
            self._is_started = True
            self._start(self.look)

    def stop(self, lease: str) -> dict[str, int | None]:
        """Stop renewing `lease`. Returns when it ends in each counter where it was renewed; None if that is not
        known.
        """
        kept, self._kept = self._kept, ()
        return {each.limits.id: None if each.is_in_doubt else each.end for each in kept if each.lease == lease}

    def look(self) -> None:
        """Renew the leases that are due now."""
        for kept in self._kept:
            self._look_after(kept)

    def _look_after(self, kept: _Kept) -> None:
        now = int(self._clock())
        end = min(now + LEASE_SECONDS, kept.last)
        if kept.end - now > _RENEWED_BELOW or end <= kept.end:
            return
        arguments = self._renewing(kept, end)
        try:
            is_there, _ = self._aws.update_item(arguments, self._timeout) if arguments else (True, None)
        except AwsError as error:
            kept.is_in_doubt |= error.may_be_done and kept.shard > 0
            log("WARN", "A lease of limits was not renewed", limits=kept.limits.id, reason=str(error))
            return
        if is_there:
            kept.end, kept.is_in_doubt = end, False
        elif kept in self._kept:  # otherwise the lease has just been given back
            self._kept = tuple(each for each in self._kept if each is not kept)
            log("WARN", ENDED_EARLY, limits=kept.limits.id)

    def _renewing(self, kept: _Kept, end: int) -> dict[str, Any] | None:
        """The update after which the lease ends at `end`; None if none is needed. A place that is in doubt is taken
        once more.
        """
        if not kept.shard:
            return {"TableName": self._table, "Key": key_of(kept.limits), **renewing(kept.limits, kept.lease, end)}
        from openai_proxy.shards.limits import place_in  # noqa: PLC0415  # few keys are counted in shards

        from proxy.limits.shard_item import shard_limits  # noqa: PLC0415  # as above
        from proxy.limits.shard_returns import moving  # noqa: PLC0415  # as above

        old, new = place_in(kept.end), place_in(end)
        if old == new:
            return None
        key = key_of(shard_limits(kept.limits, kept.shard))
        return {"TableName": self._table, "Key": key, **moving("" if kept.is_in_doubt else old, new)}


def in_background(
    look: Callable[[], None], pause: float = _LOOK_SECONDS, failed: str = "A lease of limits was not looked after"
) -> None:
    """Call `look` for as long as the sandbox lives, `pause` seconds after each call.

    If a call fails in any way, that is logged as `failed`.
    """

    def keep_looking() -> None:
        while True:
            time.sleep(pause)
            try:
                look()
            except Exception as failure:  # noqa: BLE001  # a thread that has ended renews nothing
                log("ERROR", failed, trace=trace_of(failure))

    Thread(target=keep_looking, daemon=True).start()
