"""`guards`: the commands that check guards.yaml, try it on the past, show what has acted, and undo it."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from openai_proxy.events.envelope import rfc3339
from openai_proxy.guards.action import minute
from openai_proxy.guards.file import GUARDS_FILE, GuardsFileError, load_guards
from openai_proxy.guards.rules import Guard, Spending, length_text

from console.arguments import announced, late
from console.errors import ConsoleError, no_file
from console.guards.held import DoneAct, DoneActs
from console.output import say_nothing_found, show, terminal_width
from console.stack import add_table_options, authorizer_cache_seconds, chosen_table
from console.tables import Columns, table
from console.text import harmless, to_json

Environment = Mapping[str, str]


def add_guards(guards: argparse.ArgumentParser) -> None:
    """Give `guards` its commands."""
    commands = guards.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[argparse.Namespace, Environment], int], help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        command.set_defaults(run=run)
        return command

    check = add("check", _check, "check the file, and say what it guards")
    check.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: $GUARDS_FILE, else guards.yaml")
    check.add_argument("--json", action="store_true", help="print JSON, for programs")
    listing = add("list", _list, "show what guards have done, and until when it holds")
    listing.add_argument("--all", action="store_true", help="also what is over or undone, for a day after its end")
    help_ = "end what a guard has done; it leaves that client alone until its act would have ended"
    undo = add("undo", _undo, help_)
    undo.add_argument("id", metavar="ID", help="of the act: `guards list` and the message show it")
    for command in (listing, undo):
        add_table_options(command, "KeysTable")
    announced(undo)
    commands.add_parser(
        "replay",
        help="try the file on the past: what would have been done",
        load=late("console.guards.replay", "add_replay"),
    )


def guards_file(options: argparse.Namespace, environ: Environment) -> Path:
    """The file that a command is about. Raises ConsoleError where one is named that is not there."""
    named: Path | None = options.file
    if named and not named.exists():
        raise no_file(named)
    return named or Path(environ.get("GUARDS_FILE") or GUARDS_FILE)


def read_guards(file: Path) -> tuple[Guard, ...]:
    """What the file says. Raises ConsoleError."""
    try:
        return load_guards(file)
    except GuardsFileError as error:
        raise ConsoleError(str(error)) from error


def _check(options: argparse.Namespace, environ: Environment) -> int:
    file = guards_file(options, environ)
    guards = read_guards(file)
    if options.json:
        print(to_json([_plain(guard) for guard in guards]))
    elif guards:
        rows = [(each.name, _when(each), each.doing.act, length_text(each.doing.lasts), _whom(each)) for each in guards]
        show(table(Columns(("GUARD", "WHEN", "ACT", "FOR", "CLIENTS")), rows, width=terminal_width()))
    else:
        print(f"{file} has no guards: nothing is done by itself.")
    return 0


def _when(guard: Guard) -> str:
    rule = guard.rule
    if isinstance(rule, Spending):
        return f"an hour costs {rule.factor:f} times the usual one, and {rule.at_least:f} USD or more"
    times = f"{rule.times}x within {length_text(rule.within)}"
    models = f" for {', '.join(guard.models)}" if guard.models else ""
    if rule.kind == "repeat":
        return f"the same request{models}, {times}"
    if rule.kind == "refused":
        return f"answers with {', '.join(map(str, sorted(rule.statuses)))}{models}, {times}"
    return f"requests{models} outside {rule.hours.text if rule.hours else ''}, {times}"


def _whom(guard: Guard) -> str:
    return ", ".join(guard.clients) if guard.clients else "all"


def _plain(guard: Guard) -> dict[str, Any]:
    return {
        "guard": guard.name,
        "rule": guard.kind,
        "when": _when(guard),
        "act": guard.doing.act,
        "limits": dict(guard.doing.limits),
        "for_seconds": guard.doing.lasts,
        "clients": list(guard.clients) if guard.clients else None,
        "models": list(guard.models) if guard.models else None,
    }


def _list(options: argparse.Namespace, environ: Environment) -> int:
    now = time.time()
    found = DoneActs(chosen_table("KeysTable", options, environ)).all()
    shown = [act for act in found if options.all or act.state(now) in ("holds", "told")]
    if options.json:
        print(to_json([_as_json(act, now) for act in shown]))
    elif shown:
        show(acts_table(shown, now, terminal_width()))
        print("\nTo end one: openai-proxy guards undo ID")
    if not shown:
        nothing = (
            "No guard has done anything since yesterday." if options.all and not found else "No guard holds anybody."
        )
        say_nothing_found(nothing, options)
    return 0


def acts_table(acts: Sequence[DoneAct], now: float, width: int | None) -> str:
    """A line for each act."""
    rows = [
        (
            act.id,
            act.state(now),
            minute(act.until),
            harmless(act.client_id),
            act.key_id,
            _done(act),
            harmless(act.text("guard")),
            harmless(act.text("reason")),
        )
        for act in acts
    ]
    headings = ("ID", "STATE", "UNTIL", "CLIENT", "KEY OR USER", "ACT", "GUARD", "REASON")
    return table(Columns(headings, whole=("ID", "STATE", "UNTIL"), drop=("KEY OR USER", "REASON")), rows, width=width)


def _done(act: DoneAct) -> str:
    limits = ", ".join(f"{number} {name}" for name, number in act.limits.items())
    return harmless(f"{act.text('act')} to {limits}" if limits else act.text("act"))


def _as_json(act: DoneAct, now: float) -> dict[str, Any]:
    return {
        "id": act.id,
        "state": act.state(now),
        "guard": act.text("guard"),
        "act": act.text("act"),
        "limits": act.limits,
        "client_id": act.client_id,
        "key_id": act.key_id,
        "since": rfc3339(act.at),
        "until": rfc3339(act.until),
        "reason": act.text("reason"),
    }


def _undo(options: argparse.Namespace, environ: Environment) -> int:
    acts, now = DoneActs(chosen_table("KeysTable", options, environ)), time.time()
    act = next((each for each in acts.all() if each.id == options.id.upper()), None)
    if act is None:
        remedy = "`openai-proxy guards list --all` shows what was done"
        raise ConsoleError(f"No guard has done '{options.id[:40]}'. Remedy: {remedy}.")
    is_new = act.state(now) in ("holds", "told") and acts.undo(act, now)
    if options.json:
        print(to_json({"id": act.id, "key_id": act.key_id, "undone": is_new}))
    elif not is_new:
        print(f"Nothing to do: it is {'undone' if 'undone_at' in act.stored else 'over'} already.")
    else:
        seconds = authorizer_cache_seconds(acts.table, options, environ)
        how_long = "AuthorizerCacheSeconds (60 s by default)" if seconds is None else f"{seconds} s"
        whose = f"{harmless(act.client_id)}, {act.key_id}"
        print(f"Undone: what the guard {harmless(act.text('guard'))} held {whose} to. The key is as it was set.")
        print(f"The function URL may go on for up to {how_long}; whom it refuses, it lets in at once.")
        print(f"The guard leaves it alone until {minute(act.until)}.")
    return 0
