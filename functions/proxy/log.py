"""One JSON line on standard output, which Lambda takes to CloudWatch Logs.

Its one rule: never a prompt, an answer, a key or a token.
"""

import json
import sys
import time
from collections.abc import Mapping

from openai_proxy.events.envelope import rfc3339

_LEVELS = {"DEBUG": 10, "INFO": 20, "WARN": 30, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}


_lowest = ["INFO"]
_invocation: dict[str, str] = {}


def log_from(environ: Mapping[str, str]) -> None:
    """Drop lines below the deployed level. Lambda itself sets the first of the two variables."""
    name = (environ.get("AWS_LAMBDA_LOG_LEVEL") or environ.get("LOG_LEVEL", "")).upper()
    _lowest[0] = name if name in _LEVELS else "INFO"


def log_of_invocation(request_id: str) -> None:
    """Put the invocation's id into each line from now on. Lambda does so itself where several processes write into one
    log.
    """
    _invocation["requestId"] = request_id


def log(level: str, message: str, **fields: object) -> None:
    """Write one structured line. `level` is DEBUG, INFO, WARN, ERROR or CRITICAL."""
    if _LEVELS[level] < _LEVELS[_lowest[0]]:
        return
    line = {"level": level, "message": message, "timestamp": rfc3339(time.time()), **_invocation, **fields}
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()


def trace_of(error: BaseException) -> str:
    """Where `error` was raised, and its message."""
    import traceback  # noqa: PLC0415  # hardly any request fails like that, and it takes time to load

    return "".join(traceback.format_exception(error))


def place_of(error: BaseException) -> str:
    """Where `error` was raised, without its message, which may quote something that must not be in a log."""
    import traceback  # noqa: PLC0415  # as above

    return "".join(traceback.format_tb(error.__traceback__))
