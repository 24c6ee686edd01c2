"""The event loop of the local stack: uvloop, whose share of a request's way through is a fraction of asyncio's own."""

from collections.abc import Coroutine
from typing import Any

import uvloop


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end, as `asyncio.run` does."""
    uvloop.run(main)
