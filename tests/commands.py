"""Commands that tests start, as a person at a terminal would."""

import sys

LISTENING = (
    *(sys.executable, "-c"),
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])",
)
"""Stands before a command that is to hear SIGINT: what a shell starts in the background inherits that it is ignored."""
