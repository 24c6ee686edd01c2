"""One JSON line on standard output, which Lambda takes to CloudWatch Logs.

Its one rule: never a prompt, an answer, a key or a token.
"""

import json
import sys


def log(level: str, message: str, **fields: object) -> None:
    """Write one structured line. `level` is DEBUG, INFO, WARN, ERROR or CRITICAL."""
    sys.stdout.write(json.dumps({"level": level, "message": message, **fields}, default=str) + "\n")
    sys.stdout.flush()
