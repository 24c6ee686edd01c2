"""`openai-proxy` in this process: that takes a tenth of the time of one of its own.

How a process of its own begins, ends and is interrupted is tried by the tests of the console.
"""

import contextlib
import io
import os
from unittest.mock import patch

from console.command_line import main
from tests.e2e.harness import LocalStack


def openai_proxy(stack: LocalStack, *words: str, exits: int | None = 0) -> str:
    """What the command prints whose shell has read the stack's environment. It ends with `exits`, if one is given."""
    out, err = io.StringIO(), io.StringIO()
    with (
        patch.dict(os.environ, stack.environment),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            code: int | str | None = main(words, os.environ)
        except SystemExit as end:
            code = end.code
    assert exits is None or code == exits, err.getvalue()
    return out.getvalue()
