"""One JSON line on standard output, which Lambda takes to CloudWatch Logs.

Its one rule: never a prompt, an answer, a key or a token.
"""

import json
import sys
import time

from openai_proxy.events import rfc3339


def log(level: str, message: str, **fields: object) -> None:
    """Write one structured line. `level` is DEBUG, INFO, WARN, ERROR or CRITICAL."""
    line = {"level": level, "message": message, "timestamp": rfc3339(time.time()), **fields}
    sys.stdout.write(json.dumps(line, default=str) + "\n")
    sys.stdout.flush()
