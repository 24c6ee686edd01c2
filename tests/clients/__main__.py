"""`make clients`: client libraries as they come, each in an environment of its own; what ran becomes a table.

    python -m tests.clients [name ...]

Each client asks a question, asks for a stream, is given a tool to call, and asks servers that answer 400, 500 and 429,
these two once more without the proxy; the calls that the server gets are counted. Its environment is made in a
temporary folder, because agents look for the repository that they are in, and removed afterwards. What comes of each
is written down beside this, and docs/clients.md gets the table of all that is written down.
"""

import argparse
import contextlib
import os
import signal
import sys
import tempfile
from pathlib import Path

from tests.clients.known import CLIENTS
from tests.clients.page import keep, row_of
from tests.clients.stack import stack
from tests.clients.trying import tried


def main() -> None:
    """Try the clients that are named, or all, and write down what comes of each."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    by_name = {client.name: client for client in CLIENTS}
    parser.add_argument("names", nargs="*", metavar="name", help="clients to try; all without one")
    names = parser.parse_args().names
    if unknown := [name for name in names if name not in by_name]:
        parser.error(f"There is no client {unknown[0]!r}: it is one of {', '.join(by_name)}.")
    signal.signal(signal.SIGTERM, _stop)
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere, stack() as running:
        for client in [by_name[name] for name in names] or CLIENTS:
            with contextlib.redirect_stdout(nowhere):  # the proxy's log lines
                result = tried(client, running, Path(folder))
            keep(client, result)
            sys.stderr.write(row_of(client, result))


def _stop(_number: int, _frame: object) -> None:
    sys.exit("stopped")  # an exception, so that what runs is stopped, and the folder removed


if __name__ == "__main__":
    main()
