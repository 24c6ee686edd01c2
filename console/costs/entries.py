"""`costs entries`: single inferences as the ledger has them, the newest first."""

import argparse
import heapq
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from openai_proxy.events.ulid import ulid_time
from openai_proxy.ledger.faults import FAULTS

from console.costs.filters import FILTERS, add_filters, filter_text, is_wanted, ledger_of
from console.costs.text import entries_csv, entries_records, entries_table
from console.errors import ConsoleError
from console.keys.options import tag, whole
from console.known import check_filters
from console.output import add_vertical, say_nothing_found, show, terminal_width
from console.period import Period, add_period, chosen_period, read_day
from console.shards import divided_days
from console.stack import add_table_options
from console.text import harmless, to_json

Environment = Mapping[str, str]
Item = dict[str, Any]


def add_entries(entries: argparse.ArgumentParser) -> None:
    """Give `entries` its options."""
    add_filters(entries, *FILTERS, inherited=True)
    add_period(entries, inherited=True)
    entries.add_argument(
        "--failed",
        nargs="?",
        const="all",
        choices=("all", *FAULTS),
        metavar="FAULT",
        help=f"only those that failed; by whose fault, of {', '.join(FAULTS)}, if you say so",
    )
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
    entries.add_argument("--csv", action="store_true", default=argparse.SUPPRESS, help="print CSV, for spreadsheets")
    add_vertical(entries)
    add_table_options(entries, "CostsTable", inherited=True)
    entries.set_defaults(run=_entries)


def _entry_id(text: str) -> str:
    try:
        ulid_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"'{harmless(text[:64])}' is no id of an entry") from error
    return text


def _entries(options: argparse.Namespace, environ: Environment) -> int:
    if options.csv + options.json + options.vertical > 1:
        raise ConsoleError("--csv, --json and --vertical exclude each other. Remedy: give one of them.")
    period = chosen_period(options) or read_day("today")
    entries = [_named(each) for each in islice(_newest(period, options, environ), options.limit)]
    if not entries:
        check_filters(options, environ)
    if options.json:
        print(to_json(entries))
    elif options.csv:
        print(entries_csv(entries), end="")
    elif entries:
        with_client = options.client is None
        with_day = period.first != period.last
        table = entries_table(entries, with_day=with_day, with_client=with_client, width=terminal_width())
        show(entries_records(entries) if options.vertical else table)
        if len(entries) == options.limit:
            print(f"\nOlder ones: the same command with --before {entries[-1]['id']}")
    if not entries:
        say_nothing_found(f"No entry {period.text}{_filters(options)}.", options)
    return 0


def _newest(period: Period, options: argparse.Namespace, environ: Environment) -> Iterator[Item]:
    """The entries that are asked for, of one client or of all, newest first."""
    narrowed = (
        options.failed or options.unpriced or options.estimated or options.tags or options.server or options.model
    )
    ledger, at_once = ledger_of(options, environ), None if narrowed else options.limit
    clients, day = [options.client], options.before and ulid_time(options.before).date()
    divided: set[tuple[str, str]] = set()
    if options.client is None:
        rollups = [row for row in ledger.rollups(period) if is_wanted(row, options, of_rollup=True)]
        clients = sorted({str(row["client_id"]) for row in rollups})
        divided = divided_days(rollups)
    elif day and ledger.is_divided(options.client, day):
        divided = {(str(options.client), str(day))}
    found = (
        ledger.latest(client, period, before=options.before, at_once=at_once, is_divided=(client, str(day)) in divided)
        for client in clients
    )
    return (each for each in heapq.merge(*found, key=_id, reverse=True) if is_wanted(each, options))


def _id(entry: Item) -> str:
    return entry["sk"]


def _named(entry: Item) -> Item:
    """An entry under the names that events, log lines and the lake have: `id` for what the table calls `sk`, and no key
    of the table.
    """
    return {"id": entry["sk"]} | {name: value for name, value in entry.items() if name not in ("pk", "sk")}


def _filters(options: argparse.Namespace) -> str:
    flags = [f"--{name}" for name in ("failed", "unpriced", "estimated") if getattr(options, name)]
    if options.failed in FAULTS:
        flags[0] += f" {options.failed}"
    tags = [f"tag {name}={value}" for name, value in options.tags or ()]
    flags += [f"--before {options.before}"] if options.before else []
    said = [part for part in (filter_text(options).removeprefix(" with "), *flags, *tags) if part]
    return f" with {', '.join(said)}" if said else ""
