"""`costs reprice`: says what the past would have cost with the prices of now, and with --apply changes the ledger."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from itertools import islice
from typing import Any, NamedTuple

from openai_proxy.ledger.entries import RETENTION, Key
from openai_proxy.pricing.price_book import PriceBook
from openai_proxy.pricing.rates import EXACT

from console.arguments import announced
from console.costs.repricing import PASSES, Change, Item, Ledger, change_of
from console.errors import ConsoleError
from console.known import check_filters
from console.lake.corrections import Corrections, add_lake_options, chosen_lake
from console.output import say_nothing_found, show, terminal_width
from console.period import add_period, chosen_period, today
from console.prices.book import add_book_options, chosen_book
from console.progress import Advance, Bars
from console.stack import add_table_options, chosen_table
from console.tables import Columns, table
from console.text import count, harmless, to_json

Corrected = Callable[[Sequence[Item]], None]
_PART = 1000
"""How many entries are looked at before what they need is written."""
_NAMES = ("day", "client_id", "server", "model")


@dataclass(slots=True)
class Group:
    """The entries of a day, client, server and model. USD; entries without a price add nothing."""

    entries: int = 0
    changed: int = 0
    unpriced_before: int = 0
    unpriced_after: int = 0
    cost_before: Decimal = Decimal(0)
    cost_after: Decimal = Decimal(0)
    saved_before: Decimal = Decimal(0)
    saved_after: Decimal = Decimal(0)

    @property
    def known_before(self) -> Decimal | None:
        """The known part of the cost; None when none is: beside entries without a price a sum of 0 tells nothing."""
        return None if self.unpriced_before and not self.cost_before else self.cost_before

    @property
    def known_after(self) -> Decimal | None:
        """The same with the new prices."""
        return None if self.unpriced_after and not self.cost_after else self.cost_after

    @property
    def cost_difference(self) -> Decimal:
        return EXACT.subtract(self.cost_after, self.cost_before)

    def add(self, old: Mapping[str, Any], new: Mapping[str, Any], *, changed: bool) -> None:
        """Count an entry in, by its price attributes as they were and as they are."""
        self.entries += 1
        self.changed += changed
        self.unpriced_before += old["pricing"] == "unpriced"
        self.unpriced_after += new["pricing"] == "unpriced"
        self.cost_before = EXACT.add(self.cost_before, old.get("cost", Decimal(0)))
        self.cost_after = EXACT.add(self.cost_after, new.get("cost", Decimal(0)))
        self.saved_before = EXACT.add(self.saved_before, old.get("cost_saved", Decimal(0)))
        self.saved_after = EXACT.add(self.saved_after, new.get("cost_saved", Decimal(0)))

    def plus(self, other: "Group") -> "Group":
        """Both together."""
        return Group(
            self.entries + other.entries,
            self.changed + other.changed,
            self.unpriced_before + other.unpriced_before,
            self.unpriced_after + other.unpriced_after,
            EXACT.add(self.cost_before, other.cost_before),
            EXACT.add(self.cost_after, other.cost_after),
            EXACT.add(self.saved_before, other.saved_before),
            EXACT.add(self.saved_after, other.saved_after),
        )


@dataclass(slots=True)
class Difference:
    """What a price book changes, by day, client, server and model."""

    price_version: str
    applied: bool
    groups: dict[tuple[str, ...], Group] = field(default_factory=dict[tuple[str, ...], Group])

    @property
    def total(self) -> Group:
        total = Group()
        for group in self.groups.values():
            total = total.plus(group)
        return total

    def rows(self) -> list[tuple[tuple[str, ...], Group]]:
        """The groups in which an entry changes."""
        return [(names, group) for names, group in sorted(self.groups.items()) if group.changed]


def add_reprice(command: argparse.ArgumentParser) -> None:
    """Give `reprice` its options. What stands before its name holds for it too."""
    command.description = (
        "Says what past requests would cost with the prices of now; with --apply it changes ledger and lake."
    )
    add_period(command, inherited=True)
    command.add_argument("--client", default=argparse.SUPPRESS, metavar="NAME", help="only of this client")
    command.add_argument("--apply", action="store_true", help="change the ledger; else only say what would change")
    add_book_options(command)
    add_lake_options(command)
    add_table_options(command, "CostsTable", inherited=True)
    command.set_defaults(run=_run)
    announced(command, lambda options: options.apply)


class Repricing(NamedTuple):
    """The ledger, its new prices, and whether to `apply` them to it.

    `corrected` is told of the entries that have changed, soon after they have, and of those that had before: a run that
    was stopped may not have told it.
    """

    ledger: Ledger
    prices: PriceBook
    apply: bool = False
    corrected: Corrected = lambda _: None


def reprice(
    repricing: Repricing, days: Sequence[date], client: str | None = None, advance: Advance = lambda _: None
) -> Difference:
    """What changes on `days`; with `apply` it has been changed. Run again it goes on where it was stopped.

    `advance` is told when another day is done.
    """
    difference = Difference(repricing.prices.version, repricing.apply)
    for day in days:
        for client_id in [client] if client else repricing.ledger.clients_on(day):
            difference.groups |= _of_client(repricing, client_id, day)
        advance(1)
    return difference


def _of_client(repricing: Repricing, client_id: str, day: date) -> dict[tuple[str, ...], Group]:
    ledger, prices, apply, corrected = repricing
    done: dict[Key, Mapping[str, Any]] = {}
    for _ in range(PASSES):
        groups: dict[tuple[str, ...], Group] = {}
        moved = 0
        entries = ledger.entries(client_id, day)
        while part := list(islice(entries, _PART)):
            changes = [change for entry in part if (change := change_of(entry, prices))]
            _count(part, changes, done, groups)
            refused = ledger.apply(changes) if apply else []
            applied = {change.key: change for change in changes} if apply else {}
            for change in refused:
                del applied[change.key]
            done |= {key: _as_far_as_reported(change.entry) for key, change in applied.items()}
            told = [*_corrected_before(part, changes), *(change.corrected for change in applied.values())]
            if apply and told:
                corrected(told)
            moved += len(refused)
        if not moved:
            return groups
    raise ConsoleError(f"Others keep changing the entries of '{client_id}' on {day}. Remedy: run it again later.")


def _count(
    entries: Iterable[Item],
    changes: Iterable[Change],
    done: Mapping[Key, Mapping[str, Any]],
    groups: dict[tuple[str, ...], Group],
) -> None:
    """Count the entries into `groups`: those that change, and those done before, as changed."""
    new = {change.key: change.new for change in changes}
    for entry in entries:
        key = (entry["pk"], entry["sk"])
        before = done.get(key)
        names = tuple(str(entry.get(name, "-")) for name in _NAMES)
        group = groups.setdefault(names, Group())
        group.add(before or entry, new.get(key, entry), changed=bool(key in new or before))


def _corrected_before(entries: Iterable[Item], changes: Iterable[Change]) -> list[Item]:
    changing = {change.key for change in changes}
    return [each for each in entries if each.get("revision") and (each["pk"], each["sk"]) not in changing]


def _as_far_as_reported(entry: Item) -> Item:
    return {name: entry[name] for name in ("pricing", "cost", "cost_saved") if name in entry}


def difference_table(difference: Difference, width: int | None = None) -> str:
    """A difference as text."""
    rows = [[*map(harmless, names), *_figures(group)] for names, group in difference.rows()]
    rows.append(["TOTAL", "", "", "", *_figures(difference.total)])
    columns = Columns(
        ("DAY", "CLIENT", "SERVER", "MODEL", "ENTRIES", "CHANGED", "UNPRICED", "OLD USD", "NEW USD", "DIFFERENCE"),
        numbers=6,
        drop=("ENTRIES", "CHANGED", "UNPRICED"),
        whole=("DAY",),
    )
    return table(columns, rows, width=width, total=True) + _savings_text(difference.total)


def _savings_text(total: Group) -> str:
    if total.saved_before == total.saved_after:
        return ""
    return f"\n\nSaved by the response cache, USD: {total.saved_before:.6f} > {total.saved_after:.6f}."


def difference_document(difference: Difference) -> dict[str, Any]:
    """A difference for programs. Amounts are exact."""
    return {
        "price_version": difference.price_version,
        "applied": difference.applied,
        "total": _document(difference.total),
        "changes": [dict(zip(_NAMES, names, strict=True)) | _document(group) for names, group in difference.rows()],
    }


def _figures(group: Group) -> list[str]:
    unpriced = f"{group.unpriced_before:,} > {group.unpriced_after:,}"
    amounts = (_amount(group.known_before), _amount(group.known_after), f"{group.cost_difference:+.6f}")
    return [count(group.entries), count(group.changed), unpriced, *amounts]


def _amount(known: Decimal | None) -> str:
    return "unpriced" if known is None else f"{known:.6f}"


def _document(group: Group) -> dict[str, Any]:
    names = ("entries", "changed", "unpriced_before", "unpriced_after", "cost_before", "cost_after", "cost_difference")
    document = {name: getattr(group, name) for name in (*names, "saved_before", "saved_after")}
    known = {"cost_before": group.known_before, "cost_after": group.known_after}
    return document | known | ({"cost_difference": None} if None in known.values() else {})


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    period = chosen_period(options)
    if period is None:
        raise ConsoleError("No days are named. Remedy: name them with --from and --to, --day, --month or --last.")
    prices, ledger = chosen_book(options), Ledger(chosen_table("CostsTable", options, environ))
    days = period.days
    corrections = Corrections(chosen_lake(options, environ) if options.apply else None)
    with Bars()("days", len(days)) as advance:
        difference = reprice(Repricing(ledger, prices, options.apply, corrections), days, options.client, advance)
    if not difference.total.entries:
        check_filters(options, environ)
    of_client = f" of client {harmless(options.client)}" if options.client else ""
    nothing = f"There are no entries{of_client} {period.text}."
    if options.json:
        print(to_json(difference_document(difference)))
        if not difference.total.entries:
            say_nothing_found(nothing, options)
        return 0
    if (oldest := today() - RETENTION) > period.first:
        print(
            f"Entries are kept for {RETENTION.days} days. Before {oldest} only rollups are left; they stay as they are."
        )
    total = difference.total
    if not total.entries:
        say_nothing_found(nothing, options)
        _tell_of_lake(corrections)
        return 0
    if not total.changed:
        print(f"All {count(total.entries)} entries have the prices of {difference.price_version} already.")
        _tell_of_lake(corrections)
        return 0
    show(difference_table(difference, terminal_width()))
    print(f"\nPrices: {difference.price_version}.", end=" ")
    print(f"{count(total.changed)} entries changed." if options.apply else "Nothing was changed: that takes --apply.")
    _tell_of_lake(corrections)
    return 0


def _tell_of_lake(corrections: Corrections) -> None:
    if corrections.sent:
        print(f"Sent to the lake: {count(corrections.sent)} corrected entries, those of earlier runs included.")
