"""Which part of the ledger a command is about: the options that choose it, and the rows that match them."""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from openai_proxy.ledger.faults import fault_of

from console.costs.reading import LAKE, MOST_OF_TABLE, TABLE, Ledger
from console.costs.summary import NAMES, OF_ENTRIES, OF_ROLLUPS, UNNAMED, is_dimension, share_of, value_of
from console.period import Period
from console.stack import chosen_table

Item = dict[str, Any]

FILTERS = ("client", "server", "model")
NO_SINGLE_REQUESTS = (
    "--source says where single requests are read, and these sums are read from rollups. Remedy: leave it out, or sum "
    "up by what rollups do not know, such as key, team or tag:NAME."
)
"""What is said of --source to a command that reads rollups alone."""


def add_filters(command: argparse.ArgumentParser, *names: str, inherited: bool = False) -> None:
    """Add the options that name a client, a server and a model, or those of `names`."""
    default = argparse.SUPPRESS if inherited else None
    for name in names or FILTERS:
        command.add_argument(f"--{name}", default=default, metavar="NAME", help=f"only of this {name}")


def add_source(command: argparse.ArgumentParser, *, inherited: bool = False) -> None:
    """Add the option that says where single requests are read."""
    command.add_argument(
        "--source",
        choices=(TABLE, LAKE),
        default=argparse.SUPPRESS if inherited else None,
        help=f"where single requests are read; default: the table up to {MOST_OF_TABLE:,} of them, else the lake",
    )


def rows_of(
    period: Period, by: Sequence[str], options: argparse.Namespace, environ: Mapping[str, str]
) -> Iterable[Item]:
    """Rollups where they know all that is asked for, else sums of the lake, or a share of a rollup for each entry.

    Raises ConsoleError and botocore's errors.
    """
    ledger = ledger_of(options, environ)
    rollups = [row for row in ledger.rollups(period) if is_wanted(row, options)]
    if OF_ROLLUPS.issuperset(by):
        return rollups
    from console.lake.reading import chosen_lake  # noqa: PLC0415 - it takes time to load

    if lake := chosen_lake(rollups, options, environ):
        return lake.sums(by, wanted_of(options))
    tags = any(name.startswith("tag:") for name in by)
    attributes = OF_ENTRIES if tags else OF_ENTRIES - {"tags"}
    return (share_of(each) for each in ledger.entries(rollups, attributes) if is_wanted(each, options))


def wanted_of(options: argparse.Namespace) -> dict[str, list[str]]:
    """The values that the options want, by column."""
    named = {"client_id": options.client, "server": options.server, "model": options.model}
    return {column: [value] for column, value in named.items() if value is not None}


def is_wanted(row: Item, options: argparse.Namespace, *, of_rollup: bool = False) -> bool:
    """Whether a rollup or an entry is one that is asked for. A rollup has entries of all kinds."""
    named = {"client_id": options.client, "server": options.server, "model": options.model}
    if of_rollup:
        return all(value is None or row.get(name, "-") == value for name, value in named.items())
    return (
        all(value is None or row.get(name, "-") == value for name, value in named.items())
        and all(
            value_of(row, f"tag:{name}") == (value or UNNAMED) for name, value in getattr(options, "tags", None) or ()
        )
        and _failed_as(row, getattr(options, "failed", None))
        and not (getattr(options, "unpriced", False) and "cost" in row and "unpriced_units" not in row)
        and not (getattr(options, "estimated", False) and row["usage_source"] != "estimated")
    )


def _failed_as(row: Item, wanted: str | None) -> bool:
    return not wanted or (row["outcome"] == "failed" if wanted == "all" else fault_of(row) == wanted)


def filter_text(options: argparse.Namespace) -> str:
    """What is asked for, as " with client web"; "" for all."""
    chosen = [f"{name} {getattr(options, name)}" for name in FILTERS if getattr(options, name) is not None]
    return f" with {', '.join(chosen)}" if chosen else ""


def ledger_of(options: argparse.Namespace, environ: Mapping[str, str]) -> Ledger:
    """The ledger that is chosen. Raises ConsoleError and botocore's errors."""
    return Ledger(chosen_table("CostsTable", options, environ))


def dimensions(text: str) -> list[str]:
    """Reads names with commas between them; none for `total`. Raises ArgumentTypeError."""
    return [] if text == "total" else [dimension(name) for name in text.split(",")]


def dimension(text: str) -> str:
    """Reads a name. Raises ArgumentTypeError."""
    if not is_dimension(text):
        raise argparse.ArgumentTypeError(f"'{text}' is none of {', '.join(NAMES)} and tag:NAME")
    return text
