"""`teams`: the commands that make, list, show, change and delete teams, and show what they have used.

Its one rule: a team that keys name is not deleted: they would be refused.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from typing import Any

from openai_proxy.client_keys import LIMITS
from openai_proxy.events.envelope import rfc3339
from openai_proxy.limits import PERIODS

from console.arguments import add_yes, adding, announced, confirm
from console.errors import ConsoleError
from console.keys.counters import read_counters
from console.keys.keys import check_resets
from console.keys.options import add_limits
from console.keys.release import give_back
from console.keys.text import limits_text, moment, whose
from console.keys.usage import LABELS, Used, calendar_of
from console.output import print_lines, show, terminal_width
from console.stack import add_place_option, add_table_options, authorizer_cache_seconds, chosen_table
from console.tables import Columns, table
from console.teams.teams import Team, TeamStore, checked
from console.text import count, harmless, to_json, usd

Environment = Mapping[str, str]
_UNSET = {name.replace("_", "-"): name for name in ("owner", *LIMITS)}
_COUNTED = {"rpm": "Requests/min", "tpm": "Tokens/min", "parallel": "Parallel"}


def add_teams(teams: argparse.ArgumentParser) -> None:
    """Give `teams` its commands."""
    add = adding(teams, lambda command: add_table_options(command, "KeysTable"))
    create = add("create", _create, "make a team")
    add("list", _list, "list the teams")
    showing = add("show", _show, "show all about a team, and the keys that name it")
    update = add("update", _update, "change a team; what is not named stays as it is")
    usage = add("usage", _usage, "show what teams have used of their limits")
    releasing = add("release", _release, "free at once the places and the money that requests of a team hold")
    delete = add("delete", _delete, "delete a team that no key names")
    for command in (create, showing, update, releasing, delete):
        command.add_argument("name", metavar="TEAM", help="its name")
    usage.add_argument("name", nargs="?", metavar="TEAM", help="its name; default: all")
    for command in (create, update):
        command.add_argument("--owner", metavar="WHO", help="who answers for it")
        add_limits(command)
    for command in (create, update, releasing, delete):
        announced(command)
    for command in (releasing, delete):
        add_yes(command)
    for command in (usage, releasing):
        add_place_option(command, "LimitsTable")
    update.add_argument(
        *("--unset",),
        action="extend",
        nargs="+",
        choices=tuple(_UNSET),
        default=[],
        metavar="NAME",
        help=f"remove what was set with the option of this name: {', '.join(_UNSET)}",
    )


def _create(options: argparse.Namespace, environ: Environment) -> int:
    given = _given(options)
    check_resets({}, given)
    team = _store(options, environ).add(options.name, {"created_at": rfc3339(time.time()), **given})
    if options.json:
        print(to_json(_as_json(team)))
    else:
        print(f"Team '{team.name}': {limits_text(team.limits) or 'no limits'}.")
        print(f"`openai-proxy keys update KEY_ID --team {team.name}` makes a key one of it.", file=sys.stderr)
    return 0


def _list(options: argparse.Namespace, environ: Environment) -> int:
    teams = _store(options, environ).all()
    if options.json:
        print(to_json([_as_json(team) for team in teams]))
    elif teams:
        rows = [(harmless(team.name), harmless(str(team.item.get("owner", "-"))), _limits(team)) for team in teams]
        show(table(Columns(("TEAM", "OWNER", "LIMITS"), whole=("TEAM",)), rows, width=terminal_width()))
    else:
        print("There are no teams. `openai-proxy teams create` makes one.")
    return 0


def _show(options: argparse.Namespace, environ: Environment) -> int:
    store = _store(options, environ)
    team = store.find(options.name)
    keys = store.keys_of(team.name)
    if options.json:
        print(to_json({**_as_json(team), "keys": [key.key_id for key in keys]}))
        return 0
    lines = [
        ("Team", harmless(team.name)),
        ("Owner", harmless(str(team.item.get("owner", "-")))),
        ("Limits", _limits(team)),
        ("Counted as", team.limits_id),
        *(("Damaged", problem) for problem in team.problems),
        *(("Key", f"{whose(key)}, {key.state(time.time())}") for key in keys),
    ]
    print_lines(lines)
    return 0


def _update(options: argparse.Namespace, environ: Environment) -> int:
    given, unset = _given(options), {_UNSET[name] for name in options.unset}
    if not (given or unset):
        raise ConsoleError("No change is named. Remedy: see `openai-proxy teams update --help`.")
    if both := unset & given.keys():
        raise ConsoleError(
            f"These are set and unset at once: {', '.join(sorted(both))}. Remedy: leave one of the two out."
        )
    store = _store(options, environ)
    before = store.find(options.name)
    kept = {name: value for name, value in before.item.items() if name not in unset}
    after = checked(before.name, {**kept, **given})
    check_resets(before.item, after.item)
    if after.item != before.item:
        store.replace(before, after)
    if options.json:
        print(to_json({**_as_json(after), "before": _as_json(before)}))
    elif after.item == before.item:
        print(f"Nothing to do: team '{after.name}' is already like that.")
    else:
        print(f"Team '{after.name}': {_limits(before)} → {_limits(after)}.")
        seconds = authorizer_cache_seconds(store.table, options, environ)
        how_long = "AuthorizerCacheSeconds (60 s by default)" if seconds is None else f"{seconds} s"
        print(f"For up to {how_long}, a door that remembers a key goes on with the limits of before.", file=sys.stderr)
    return 0


def _usage(options: argparse.Namespace, environ: Environment) -> int:
    store, now = _store(options, environ), time.time()
    teams = [store.find(options.name)] if options.name else store.all()
    ids = [team.limits_id for team in teams]
    counters = read_counters(chosen_table("LimitsTable", options, environ), ids) if ids else {}
    used = [Used.of(counters.get(team.limits_id, {}), now, calendar_of(team.limits)) for team in teams]
    if options.json:
        found = [_used_as_json(team, each) for team, each in zip(teams, used, strict=True)]
        print(to_json(found[0] if options.name else found))
        return 0
    if not teams:
        print("There are no teams. `openai-proxy teams create` makes one.")
    for team, each in zip(teams, used, strict=True):
        print_lines([("Team", harmless(team.name)), *_used_lines(team, each), ("At", moment(now))])
    return 0


def _release(options: argparse.Namespace, environ: Environment) -> int:
    team = _store(options, environ).find(options.name)
    confirm(f"This gives back what the requests of team '{team.name}' hold, while they run.", options)
    used = give_back(chosen_table("LimitsTable", options, environ), team.limits_id, time.time())
    reserved = max(used.reserved.values())
    if options.json:
        print(to_json({"team": team.name, "places": used.running, "reserved": f"{reserved:f}"}))
    else:
        print(f"Team '{team.name}': {count(used.running)} places and {usd(reserved)} USD are given back.")
    return 0


def _delete(options: argparse.Namespace, environ: Environment) -> int:
    store = _store(options, environ)
    team = store.find(options.name)
    if keys := [key for key in store.keys_of(team.name) if key.state(time.time()) in ("enabled", "rotated")]:
        named = ", ".join(key.key_id for key in keys[:10])
        raise ConsoleError(
            f"{len(keys)} keys name team '{team.name}', and would be refused: {named}. "
            "Remedy: `openai-proxy keys update KEY_ID --unset team`."
        )
    limits = limits_text(team.limits) or "no limits"
    confirm(f"This deletes team '{team.name}' ({limits}).", options)
    store.delete(team)
    if options.json:
        print(to_json({"team": team.name, "deleted": True}))
    else:
        print(f"Deleted team '{team.name}'. A plan in identity.yaml that names it lets nobody in.")
    return 0


def _store(options: argparse.Namespace, environ: Environment) -> TeamStore:
    return TeamStore(chosen_table("KeysTable", options, environ))


def _given(options: argparse.Namespace) -> dict[str, Any]:
    given = vars(options)
    return {name: given[name] for name in ("owner", *LIMITS) if given.get(name) is not None}


def _limits(team: Team) -> str:
    return "damaged" if team.problems else limits_text(team.limits) or "none"


def _as_json(team: Team) -> dict[str, Any]:
    return {
        "team": team.name,
        "owner": team.item.get("owner"),
        "created_at": team.item.get("created_at"),
        **{name: team.limits.get(name) for name in LIMITS},
        "limits_id": team.limits_id,
        "problems": team.problems,
    }


def _used_as_json(team: Team, used: Used) -> dict[str, Any]:
    limits = team.limits
    amounts = {
        "requests": ("rpm", used.requests),
        "tokens": ("tpm", used.tokens),
        "parallel": ("parallel", used.running),
    }
    budgets = {each: about | {"budget": limits.get(f"budget_{each}")} for each, about in used.to_json().items()}
    return {
        "team": team.name,
        "limits_id": team.limits_id,
        **{name: {"used": amount, "limit": limits.get(limit)} for name, (limit, amount) in amounts.items()},
        **budgets,
    }


def _used_lines(team: Team, used: Used) -> list[tuple[str, str]]:
    limits, amounts = team.limits, {"rpm": used.requests, "tpm": used.tokens, "parallel": used.running}
    lines = [
        (label, f"{count(amounts[name])} of {count(limits[name])}" if name in limits else "-")
        for name, label in _COUNTED.items()
    ]
    for period in PERIODS:
        if (budget := limits.get(f"budget_{period}")) is not None:
            spent, reserved = usd(used.spent[period]), usd(used.reserved[period])
            lines.append((LABELS[period], f"{spent} spent, {reserved} reserved, of {budget.normalize():f} USD"))
    return lines
