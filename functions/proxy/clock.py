"""The clock by which a sandbox measures the age of what it remembers.

Lambda freezes a sandbox between two requests, for minutes or hours. A monotonic clock may stand still meanwhile, and
something that is remembered for a minute (a client key, a token, a server that is not asked) would live on.
"""

import time


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


lasting = _since_boot if hasattr(time, "CLOCK_BOOTTIME") else time.time
"""Seconds that have passed, those of a suspended machine included; where no clock counts them, the time of day."""
