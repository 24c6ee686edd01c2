"""One JSON line on standard output, which Lambda takes to CloudWatch Logs.

Its one rule: never a prompt, an answer, a key or a token.
"""

import json
import sys
import time

from openai_proxy.events.envelope import rfc3339


def log(level: str, message: str, **fields: object) -> None:
    """Write one structured line. `level` is DEBUG, INFO, WARN, ERROR or CRITICAL."""
    line = {"level": level, "message": message, "timestamp": rfc3339(time.time()), **fields}
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()


def trace_of(error: BaseException) -> str:
    """Where `error` comes from, and what it says."""
    import traceback  # noqa: PLC0415  # hardly any request fails like that, and it takes time to load

    return "".join(traceback.format_exception(error))


def place_of(error: BaseException) -> str:
    """Where `error` comes from, without its message, which may quote what must not be in a log."""
    import traceback  # noqa: PLC0415  # as above

    return "".join(traceback.format_tb(error.__traceback__))
