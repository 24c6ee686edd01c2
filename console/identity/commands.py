"""`identity check`: whether identity.yaml can be deployed, and what it says: issuers, and what each plan allows.

Its one rule: the file is judged without AWS. Its plans may name only what the servers file has; whether their teams are
there is told where a stack answers.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from openai_proxy.identity import Identity, IdentityFileError, Issuer, Plan, load_identity, warnings_of

from console.arguments import adding
from console.errors import ConsoleError, no_file
from console.output import show, terminal_width
from console.stack import Table, add_table_options, table_at_hand
from console.tables import Columns, table
from console.text import to_json

FILE = Path("identity.yaml")
_SHORT: Mapping[str, str] = {
    "rpm": "{} rpm",
    "tpm": "{} tpm",
    "parallel": "{} parallel",
    "budget_day": "{} USD/day",
    "budget_week": "{} USD/week",
    "budget_month": "{} USD/month",
    "budget_total": "{} USD in total",
}
_NAME_A_STACK = "Remedy: name it with --stack-name, or its table with --keys-table."


def add_identity(identity: argparse.ArgumentParser) -> None:
    """Give `identity` its command."""
    check = adding(identity)("check", _check, "check the file, and say what it means")
    check.add_argument("file", nargs="?", type=Path, metavar="FILE", help=f"default: {FILE}")
    check.add_argument(
        "--force", action="store_true", help="take names of servers and models that the files do not know"
    )
    add_table_options(check, "KeysTable")


def read_identity(file: Path) -> Identity | None:
    """What the file says; None where identity is off. Raises ConsoleError."""
    try:
        return load_identity(file, allow_loopback=True)
    except IdentityFileError as error:
        raise ConsoleError(str(error)) from error


def limits_text(plan: Plan) -> str:
    """The limits and budgets of each user of a plan in one line."""
    return ", ".join(form.format(plan.limits[name]) for name, form in _SHORT.items() if name in plan.limits) or "none"


def _check(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    file = options.file or FILE
    if options.file and not file.exists():
        raise no_file(file)
    identity = read_identity(file)
    if identity and not options.force:
        _check_names(identity, file, environ)
    if options.json:
        print(to_json(_plain(identity)))
    elif identity is None:
        print(f"{file} names no issuer: client keys alone are taken.")
    else:
        show(issuers_table(identity, terminal_width()))
        print()
        show(plans_table(identity, terminal_width()))
    for warning in warnings_of(identity, str(file)) if identity else ():
        print(f"warning: {warning}", file=sys.stderr)
    for warning in _warnings_of_teams(identity, options, environ) if identity else ():
        print(f"warning: {file}: {warning}", file=sys.stderr)
    return 0


def _check_names(identity: Identity, file: Path, environ: Mapping[str, str]) -> None:
    """A server or a model that is mistyped would let the users of a plan use nothing. Raises ConsoleError."""
    held = [plan for plan in identity.plans.values() if plan.template.servers or plan.template.models]
    if not held:
        return
    from console.known import Names  # noqa: PLC0415 - it loads the servers and their prices

    names = Names.at_hand(environ)
    for plan in held:
        servers, models = plan.template.servers or (), plan.template.models or ()
        try:
            names.check_servers(servers)
            names.check_models(models, servers)
        except ConsoleError as error:
            raise ConsoleError(f"{file}: plan '{plan.name}': {error}") from error


def _warnings_of_teams(identity: Identity, options: argparse.Namespace, environ: Mapping[str, str]) -> Iterator[str]:
    """Warnings of plans whose users would get 503, because their team does not exist or is damaged."""
    plans = {plan.name: plan.template.team for plan in identity.plans.values() if plan.template.team}
    if not plans:
        return
    keys = table_at_hand("KeysTable", options, environ)
    problems = _problems_of_teams(keys, set(plans.values())) if keys else None
    if problems is None:
        named = ", ".join(sorted(set(plans.values())))
        yield f"no stack answers that could say whether there are the teams of its plans ({named}). {_NAME_A_STACK}"
        return
    for plan, team in plans.items():
        if team in problems:
            problem, remedy = problems[team]
            yield f"plan '{plan}': {problem}: its users would get 503. Remedy: {remedy}."


def _problems_of_teams(keys: Table, names: set[str]) -> dict[str, tuple[str, str]] | None:
    """What is wrong with each of these teams, and the remedy; None where the table does not answer."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - few files name a team

    from console.teams.teams import TeamStore  # noqa: PLC0415

    store, found = TeamStore(keys), dict[str, tuple[str, str]]()
    try:
        for name in names:
            team = store.get(name)
            if team is None:
                found[name] = f"there is no team '{name}'", f"`openai-proxy teams create {name}`"
            elif team.problems:
                found[name] = f"team '{name}' is damaged", f"see `openai-proxy teams show {name}`"
    except (BotoCoreError, ClientError):
        return None
    return found


def issuers_table(identity: Identity, width: int | None) -> str:
    """A line for each issuer."""
    rows = [(each.issuer, ", ".join(each.audiences), _keys(each), _plans(each)) for each in identity.issuers.values()]
    return table(Columns(("ISSUER", "AUDIENCE", "KEYS", "PLAN"), drop=("KEYS",), least=48), rows, width=width)


def plans_table(identity: Identity, width: int | None) -> str:
    """A line for each plan."""
    rows = [
        (
            plan.name,
            plan.template.client_id,
            limits_text(plan),
            plan.template.team or "-",
            ", ".join(plan.template.servers or ("all",)),
            ", ".join(plan.template.models or ("all",)),
        )
        for plan in identity.plans.values()
    ]
    return table(Columns(("PLAN", "CLIENT", "EACH USER", "TEAM", "SERVERS", "MODELS")), rows, width=width)


def _keys(issuer: Issuer) -> str:
    return issuer.jwks_url or "by discovery"


def _plans(issuer: Issuer) -> str:
    choice = issuer.plan
    by_value = [f"{value}: {plan}" for value, plan in choice.by_value.items()]
    return f"{choice.claim} {{{', '.join(by_value)}}}, else {choice.default or 'none'}" if by_value else choice.default


def _plain(identity: Identity | None) -> dict[str, Any]:
    """The file for programs."""
    if identity is None:
        return {"issuers": [], "plans": []}
    issuers = [
        {
            "issuer": each.issuer,
            "audience": list(each.audiences),
            "audience_claims": list(each.audience_claims),
            "jwks_url": each.jwks_url or None,
            "algorithms": list(each.algorithms),
            "require": {name: list(values) for name, values in each.require.items()},
            "plans": list(each.plan.names),
            "pseudonyms": each.pseudonyms,
        }
        for each in identity.issuers.values()
    ]
    plans = [
        {
            "plan": plan.name,
            "client_id": plan.template.client_id,
            "servers": list(plan.template.servers or ()),
            "models": list(plan.template.models or ()),
            "team": plan.template.team or None,
            **{name: plan.limits.get(name) for name in _SHORT},
        }
        for plan in identity.plans.values()
    ]
    return {"issuers": issuers, "plans": plans}
