"""`costs entries`: single inferences as the ledger has them, the newest first."""

import argparse
from collections.abc import Mapping
from itertools import islice

from openai_proxy.events.ulid import ulid_time

from console.costs.filters import FILTERS, add_filters, is_wanted, ledger_of
from console.costs.text import entries_table
from console.keys.options import tag, whole
from console.output import show, terminal_width
from console.period import add_period, chosen_period, read_day
from console.stack import add_table_options
from console.text import harmless, to_json

Environment = Mapping[str, str]


def add_entries(entries: argparse.ArgumentParser) -> None:
    """Give `entries` its options."""
    entries.add_argument("--client", required=True, metavar="CLIENT_ID")
    add_filters(entries, *FILTERS[1:], inherited=True)
    add_period(entries, inherited=True)
    entries.add_argument("--failed", action="store_true", help="only those that failed")
    entries.add_argument(
        "--unpriced", action="store_true", help="only those without a price, or with units without one"
    )
    entries.add_argument(
        "--tag", action="append", type=tag, dest="tags", metavar="NAME=VALUE", help="only of this tag (repeatable)"
    )
    entries.add_argument("--estimated", action="store_true", help="only those whose usage is estimated")
    entries.add_argument(
        "--limit", type=whole(1, 36500), default=20, metavar="N", help="how many, newest first; default: 20"
    )
    entries.add_argument(
        "--before", type=_entry_id, metavar="ID", help="only those older than this entry: the next page"
    )
    add_table_options(entries, "CostsTable", inherited=True)
    entries.set_defaults(run=_entries)


def _entry_id(text: str) -> str:
    try:
        ulid_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{harmless(text)}' is no id of an entry: {error}") from error
    return text


def _entries(options: argparse.Namespace, environ: Environment) -> int:
    period = chosen_period(options) or read_day("today")
    narrowed = (
        options.failed or options.unpriced or options.estimated or options.tags or options.server or options.model
    )
    ledger, at_once = ledger_of(options, environ), None if narrowed else options.limit
    latest = ledger.latest(options.client, period, before=options.before, at_once=at_once)
    entries = list(islice((each for each in latest if is_wanted(each, options)), options.limit))
    if options.json:
        print(to_json(entries))
    elif entries:
        show(entries_table(entries, with_day=period.first != period.last, width=terminal_width()))
        if len(entries) == options.limit:
            print(f"\nOlder ones: the same command with --before {entries[-1]['sk']}")
    else:
        print(f"Nothing of '{harmless(options.client)}' {period.text}.")
    return 0
