"""Sends corrections of the ledger to the lake.

What the lake does not take is an error, and nothing is lost by it: an entry that was priced again keeps its revision in
the ledger, so the next run sends it again.
"""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from openai_proxy.ledger.lake import Lake

from console.aws import session
from console.errors import ConsoleError
from console.stack import chosen_name, stack_output
from console.text import count


def add_lake_options(command: argparse.ArgumentParser) -> None:
    """Add the options that say which stream leads into the lake."""
    lake = command.add_mutually_exclusive_group()
    lake.add_argument("--lake-stream", metavar="NAME", help="default: $LAKE_STREAM, else the stack's, if it has one")
    lake.add_argument("--no-lake", action="store_true", help="leave the lake as it is")


def chosen_lake(options: argparse.Namespace, environ: Mapping[str, str]) -> Lake | None:
    """The lake that the options name, else the stack's; None without one. Raises ConsoleError."""
    if options.no_lake:
        return None
    try:
        name = chosen_name("LakeStream", options, environ)
        if not options.lake_stream:
            _refuse_another_ledger(options, environ)
    except ConsoleError as error:
        raise ConsoleError(
            f"{error} Or name the lake's stream with --lake-stream, or leave the lake out with --no-lake."
        ) from error
    return Lake(session(environ).client("firehose"), name) if name else None


def _refuse_another_ledger(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """A ledger that the command line names must be that of the lake's stack. Raises ConsoleError."""
    named = options.costs_table
    if named and (own := stack_output("CostsTable", options, environ)) != named:
        raise ConsoleError(f"The lake is that of the stack whose ledger is {own}, and --costs-table names {named}.")


class Corrections:
    """Sends corrected entries to the lake, if there is one. `sent` counts them."""

    def __init__(self, lake: Lake | None) -> None:
        self._lake = lake
        self.sent = 0

    def __call__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Send entries as they are in the ledger. Raises ConsoleError when some were not taken."""
        if self._lake is None:
            return
        if unsent := self._lake.put_again(entries):
            problem = f"The lake did not take {count(len(unsent))} corrections ({min(unsent.values())})"
            raise ConsoleError(f"{problem}; the ledger has them. Remedy: run it again, which sends them again.")
        self.sent += len(entries)
