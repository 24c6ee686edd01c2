"""`guards replay`: what the guards of a file would have done in the past.

Its one rule: the engine and the facts are those of apply_guards; only its memory is kept in this process.
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from openai_proxy.events.envelope import rfc3339
from openai_proxy.guards.action import Action, minute
from openai_proxy.guards.engine import Engine
from openai_proxy.guards.evidence import Memory
from openai_proxy.guards.rules import HOUR, WEEK, Guard
from openai_proxy.guards.seen import ATTRIBUTES, Seen, seen_of

from console.costs.reading import Ledger
from console.guards.commands import guards_file, read_guards
from console.known import check_filters
from console.output import say_nothing_found, show, terminal_width
from console.period import Period, add_period, chosen_period, last_days
from console.progress import Bars
from console.stack import add_table_options, chosen_table
from console.tables import Columns, table
from console.text import count, harmless, to_json

_USUAL_DAYS = "7d"
_HISTORY = timedelta(hours=WEEK + 24)


@dataclass(slots=True)
class Replayed:
    """What would have been done, and how many requests were looked at; of how many it is not known what they asked."""

    actions: list[Action] = field(default_factory=list[Action])
    requests: int = 0
    without_digest: int = 0


def add_replay(command: argparse.ArgumentParser) -> None:
    """Give `replay` its options."""
    command.description = (
        f"What the guards of the file would have done in a period of the past; the last {_USUAL_DAYS[:-1]} days unless "
        "one is named. Nothing is changed."
    )
    command.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: $GUARDS_FILE, else guards.yaml")
    add_period(command)
    command.add_argument("--client", metavar="ID", help="only of this client")
    add_table_options(command, "CostsTable")
    command.set_defaults(run=run_replay)


def run_replay(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Run `guards replay`. Raises ConsoleError and botocore's errors."""
    file = guards_file(options, environ)
    guards = read_guards(file)
    if not guards:
        if options.json:
            print("[]")
        say_nothing_found(f"{file} has no guards.", options)
        return 0
    period = chosen_period(options) or last_days(_USUAL_DAYS)
    ledger = Ledger(chosen_table("CostsTable", options, environ), Bars())
    rollups = ledger.rollups(with_history(guards, period))
    wanted = [each for each in rollups if options.client in (None, each["client_id"])]
    found = replayed(guards, ledger.entries(wanted, ATTRIBUTES), period)
    if not wanted:
        check_filters(options, environ)
    of_client = f" of client {harmless(options.client)}" if options.client else ""
    text = f"{count(found.requests)} requests{of_client} {period.text}"
    if options.json:
        print(to_json([as_json(each) for each in found.actions]))
    if not found.actions:
        say_nothing_found(f"Nothing would have been done about {text}.", options)
    if options.json:
        return 0
    if found.actions:
        show(actions_table(found.actions, terminal_width()))
        print(f"\n{how_many(found.actions)}, for {text}.")
        print("The requests are those that came without guards: an act might have kept some of them away.")
    if found.without_digest and any(guard.kind == "repeat" for guard in guards):
        print(f"Of {count(found.without_digest)} it is not known which are equal: guards were off when they came.")
    return 0


def replayed(guards: Sequence[Guard], entries: Iterable[Mapping[str, Any]], period: Period) -> Replayed:
    """What guards would have done in a period. `entries` are by days, in order; those of before it are its history."""
    memory, found = Memory(), Replayed()
    engine = Engine(guards, memory)
    first = datetime.combine(period.first, datetime.min.time(), UTC).timestamp()
    done = set[str]()
    for _, of_day in groupby(entries, itemgetter("day")):
        last = 0.0
        for seen in _in_order(of_day):
            last, is_wanted = seen.at, seen.at >= first
            found.requests += is_wanted
            found.without_digest += is_wanted and not seen.digest
            for action in engine.judge([seen]):
                if action.id not in done:
                    done.add(action.id)
                    engine.settled(action)
                    found.actions += [action] if action.at >= first else []
        memory.forget(last - 2 * HOUR)
    return found


def _in_order(entries: Iterable[Mapping[str, Any]]) -> Iterator[Seen]:
    found = (seen_of(str(entry["sk"]), entry) for entry in entries)
    yield from sorted(seen for seen in found if seen is not None)


def with_history(guards: Sequence[Guard], period: Period) -> Period:
    """The period, with the week before it where that says what is usual, else with the hour before."""
    spends = any(guard.kind == "spend" for guard in guards)
    return Period(period.first - (_HISTORY if spends else timedelta(days=1)), period.last)


def actions_table(actions: Sequence[Action], width: int | None) -> str:
    """A line for each act."""
    rows = [
        (
            minute(each.at),
            each.guard,
            harmless(each.request.client_id),
            each.request.key_id,
            each.doing.act,
            minute(each.until),
            harmless(each.reason),
        )
        for each in actions
    ]
    headings = ("WHEN", "GUARD", "CLIENT", "KEY OR USER", "ACT", "UNTIL", "REASON")
    return table(Columns(headings, whole=("WHEN",), drop=("UNTIL", "KEY OR USER")), rows, width=width)


def how_many(actions: Sequence[Action]) -> str:
    """So many acts on so many keys, in words."""
    keys = len({each.request.key_id for each in actions})
    acts = f"{count(len(actions))} acts" if len(actions) > 1 else "One act"
    return f"{acts} on {f'{count(keys)} keys or users' if keys > 1 else 'one key or user'}"


def as_json(action: Action) -> dict[str, Any]:
    """An act for programs."""
    return {
        "id": action.id,
        "guard": action.guard,
        "rule": action.kind,
        "act": action.doing.act,
        "limits": dict(action.doing.limits),
        "client_id": action.request.client_id,
        "key_id": action.request.key_id,
        "request": action.request.id,
        "since": rfc3339(action.at),
        "until": rfc3339(action.until),
        "reason": action.reason,
    }
