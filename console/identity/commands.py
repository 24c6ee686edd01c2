"""`identity check`: whether identity.yaml can be deployed, and what it says: issuers, and what each plan allows."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from openai_proxy.identity import Identity, IdentityFileError, Issuer, Plan, load_identity, warnings_of

from console.errors import ConsoleError
from console.output import show, terminal_width
from console.tables import table
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


def add_identity(identity: argparse.ArgumentParser) -> None:
    """Give `identity` its command."""
    commands = identity.add_subparsers(title="commands", required=True, metavar="COMMAND")
    check = commands.add_parser("check", help="check the file")
    check.add_argument("file", nargs="?", type=Path, default=FILE)
    check.add_argument("--json", action="store_true", help="print JSON, for programs")
    check.set_defaults(run=_check)


def read_identity(file: Path, *, allow_loopback: bool = True) -> Identity | None:
    """What the file says; None where identity is off. Raises ConsoleError."""
    try:
        return load_identity(file, allow_loopback=allow_loopback)
    except IdentityFileError as error:
        raise ConsoleError(str(error)) from error


def limits_text(plan: Plan) -> str:
    """The limits and budgets of each user of a plan in one line."""
    return ", ".join(form.format(plan.limits[name]) for name, form in _SHORT.items() if name in plan.limits) or "none"


def _check(options: argparse.Namespace, _environ: Mapping[str, str]) -> int:
    identity = read_identity(options.file)
    if options.json:
        print(to_json(_plain(identity)))
    elif identity is None:
        print(f"{options.file} names no issuer: client keys alone are taken.")
    else:
        show(issuers_table(identity, terminal_width()))
        print()
        show(plans_table(identity, terminal_width()))
    for warning in warnings_of(identity, str(options.file)) if identity else ():
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def issuers_table(identity: Identity, width: int | None) -> str:
    """A line for each issuer."""
    rows = [(each.issuer, ", ".join(each.audiences), _keys(each), _plans(each)) for each in identity.issuers.values()]
    return table(("ISSUER", "AUDIENCE", "KEYS", "PLAN"), rows, width=width, drop=("KEYS",), least=48)


def plans_table(identity: Identity, width: int | None) -> str:
    """A line for each plan."""
    rows = [
        (
            plan.name,
            plan.template.client_id,
            limits_text(plan),
            ", ".join(plan.template.servers or ("all",)),
            ", ".join(plan.template.models or ("all",)),
        )
        for plan in identity.plans.values()
    ]
    return table(("PLAN", "CLIENT", "EACH USER", "SERVERS", "MODELS"), rows, width=width)


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
            **{name: plan.limits.get(name) for name in _SHORT},
        }
        for plan in identity.plans.values()
    ]
    return {"issuers": issuers, "plans": plans}
