"""The `make` that started this process, when a SIGINT came to it alone, as a script's `kill -INT` sends it.

GNU make then waits for what it has started and tells it nothing, because Ctrl-C in a terminal would have told both.
While it waits it keeps SIGINT blocked, which Linux shows to everybody. Where nothing shows it, nothing is found.
"""

import asyncio
import os
import re
import signal
from pathlib import Path

_PAUSE = 0.5
_BLOCKED = re.compile(r"^SigBlk:\s*([0-9a-f]+)$", re.MULTILINE)


async def interrupted(parent: int) -> None:
    """Return when process `parent` is a make that was interrupted."""
    while not is_interrupted(parent):  # noqa: ASYNC110  # nobody tells of another process's signals
        await asyncio.sleep(_PAUSE)


def is_interrupted(parent: int) -> bool:
    """Whether process `parent` is a make that waits for this one to end. It is our own only while it lives."""
    of_parent = Path("/proc") / str(parent)
    try:
        name, status = (of_parent / "comm").read_text().strip(), (of_parent / "status").read_text()
    except OSError:
        return False
    blocked = _BLOCKED.search(status)
    is_ours = parent == os.getppid() and name in ("make", "gmake")
    return is_ours and blocked is not None and bool(int(blocked[1], 16) >> (signal.SIGINT - 1) & 1)
