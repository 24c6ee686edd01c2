"""Pauses before a call is tried again, for the consumers and the commands. Requests of clients have waits of their own.

Its one rule: jitter over the whole pause, so that calls that collided once do not collide again.
"""

import random
import time
from collections.abc import Callable

_LONGEST = 1.0
"""Seconds."""


def pause_before_retry(attempt: int, first: float = 0.1, sleep: Callable[[float], None] = time.sleep) -> None:
    """Sleep after a failed attempt: up to 2, 4, 8 … times `first` seconds after attempt 1, 2, 3 …, at most a second."""
    sleep(random.uniform(0, min(_LONGEST, first * 2**attempt)))  # noqa: S311 - spreads retries, guards nothing
