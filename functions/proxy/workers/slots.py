"""Which workers are running, and when one that has ended is started again. Pure.

Its one rule: a worker that ends right after its start is started again after longer and longer pauses, so that nothing
spins. A slot is the place of one worker; moments are seconds of one clock.
"""

_SETTLED_AFTER = 10.0
"""Seconds after which a worker is one that works: what ends it later has nothing to do with how it was started."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_HOPELESS = 5
"""After so many failures in a row of every slot nothing is to be expected of one more."""


class Slots:
    """The places of `count` workers. At first, all of them are due."""

    def __init__(self, count: int) -> None:
        self._due = dict.fromkeys(range(count), float("-inf"))
        self._failures = [0] * count
        self._running: dict[int, tuple[int, float]] = {}

    @property
    def running(self) -> list[int]:
        """The process ids of the workers."""
        return list(self._running)

    @property
    def is_hopeless(self) -> bool:
        """Whether no worker runs, and each has failed so often that a new environment is the better remedy."""
        return not self._running and min(self._failures) >= _HOPELESS

    def due(self, now: float) -> list[int]:
        """The slots whose worker is to be started now."""
        return [slot for slot, moment in self._due.items() if moment <= now]

    def wait(self, now: float) -> float | None:
        """Seconds until the next worker is to be started; None where there is none."""
        return max(0.0, min(self._due.values()) - now) if self._due else None

    def started(self, slot: int, process: int, now: float) -> None:
        """Note that the worker of `slot` runs as `process`."""
        del self._due[slot]
        self._running[process] = slot, now

    def ended(self, process: int, now: float) -> None:
        """Note that a process has ended. Nothing happens if it was no worker."""
        slot, since = self._running.pop(process, (None, now))
        if slot is not None:
            if now - since >= _SETTLED_AFTER:
                self._failures[slot] = 0
            self.failed(slot, now)

    def failed(self, slot: int, now: float) -> None:
        """Note that the worker of `slot` has failed, or could not be started. After its first failure the next one
        starts at once.
        """
        failures = self._failures[slot] = self._failures[slot] + 1
        pause = _FIRST_PAUSE * 2.0 ** min(failures - 2, 10) if failures > 1 else 0.0
        self._due[slot] = now + min(pause, _LONGEST_PAUSE)
