"""The event loop of the local stack: uvloop, which takes a fraction of the time of asyncio's own for each request."""

from collections.abc import Coroutine
from typing import Any

import uvloop


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end, as `asyncio.run` does."""
    uvloop.run(main)
