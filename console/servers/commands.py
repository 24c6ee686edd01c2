"""`servers`: checks whether `openai_servers.yaml` is fit to deploy, and asks the servers in it."""

import argparse
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openai_proxy.client_keys import is_well_formed
from openai_proxy.servers import Server, ServersFileError, load_servers, warnings_of
from openai_proxy.servers.sign_in import REGION

from console.aws import session
from console.errors import ConsoleError
from console.output import show, terminal_width
from console.stack import add_stack_option, stack_output
from console.tables import Columns, table
from console.text import harmless

if TYPE_CHECKING:
    from console.servers import live


def add_servers(servers: argparse.ArgumentParser) -> None:
    """Give `servers` its command."""
    check = servers.add_subparsers(title="commands", required=True, metavar="COMMAND").add_parser(
        "check",
        help="check the file, and whether its servers answer",
        description="Check the file. With --live or --stack, ask its servers, too.",
    )
    file = Path("openai_servers.yaml")
    check.add_argument("file", nargs="?", type=Path, default=file, metavar="FILE", help=f"default: {file}")
    check.add_argument("--live", action="store_true", help="ask each server for its models, with its own sign-in")
    check.add_argument("--stack", action="store_true", help="ask through the deployed proxy, with its sign-in")
    check.add_argument("--server", action="append", metavar="NAME", help="only this one; may be given several times")
    check.add_argument("--json", action="store_true", help="print JSON, for programs")
    add_stack_option(check)
    check.set_defaults(run=_check)


def _check(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    asks = options.live or options.stack
    if options.live and options.stack:
        raise ConsoleError("--live and --stack exclude each other. Remedy: give one of them.")
    if options.stack_name and not options.stack:
        raise ConsoleError("--stack-name needs --stack: the file is that of this folder. Remedy: add --stack.")
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or REGION
    servers, warnings = check_servers(options.file, region)
    chosen = _chosen(servers, options.server)
    if asks:
        names = dict.fromkeys(
            name for each in chosen.values() for name in each.pool or (each.name,)
        )  # a pool's members
        return _ask([servers[name] for name in names], options, environ)
    if options.json:
        print(json.dumps([_plain(each) for each in chosen.values()]))
    else:
        show(servers_table(chosen, terminal_width()))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def _plain(server: Server) -> dict[str, Any]:
    """A server for programs; of a pool its members with their weights."""
    members = {"pool": server.pool} if server.pool else {}
    return {"server": server.name, "url": server.url or None, "model": server.model or None, **members}


def _chosen(servers: Mapping[str, Server], names: Sequence[str] | None) -> dict[str, Server]:
    for name in names or ():
        if name not in servers:
            raise ConsoleError(f"The file lists no server '{name}'. Remedy: name one of {', '.join(servers)}.")
    return {name: server for name, server in servers.items() if not names or name in names}


def _ask(servers: Sequence[Server], options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Ask, and print what came of it. 0 when every server is reached, and none refuses who asks."""
    from console.servers import live  # noqa: PLC0415 - httpx takes time to load

    if options.stack:
        looks = live.looks_through(_stack(options, environ), servers)
    else:
        looks = live.looks_at(servers, environ, functools.partial(session, environ))
    if options.json:
        print(json.dumps([look._asdict() for look in looks]))
    else:
        show(looks_table(looks, terminal_width()))
    return 0 if all(look.is_good for look in looks) else 1


def _stack(options: argparse.Namespace, environ: Mapping[str, str]) -> "live.Stack":
    from console.servers.live import Stack  # noqa: PLC0415

    of_variables = options.stack_name in (None, environ.get("STACK_NAME"))
    url = (environ.get("FUNCTION_URL") if of_variables else None) or stack_output("FunctionUrl", options, environ)
    key = environ.get("OPENAI_API_KEY", "")
    if not url:
        raise ConsoleError("The stack has no function URL. Remedy: set FUNCTION_URL to the base URL of its REST API.")
    if not is_well_formed(key):
        raise ConsoleError("There is no client key to ask with. Remedy: set OPENAI_API_KEY to one of the stack's.")
    return Stack(url, key)


def looks_table(looks: "Sequence[live.Look]", width: int | None = None) -> str:
    """What came of asking servers, as text."""
    rows = [
        (
            look.server,
            _yes(look.reachable),
            _yes(look.signed_in),
            "-" if look.models is None else str(look.models),
            "-" if look.seconds is None else f"{look.seconds * 1000:.0f} ms",
            harmless(look.remedy) or "-",  # it may have what the server says
        )
        for look in looks
    ]
    return table(
        Columns(("SERVER", "REACHED", "SIGNED IN", "MODELS", "TOOK", "REMEDY"), drop=("TOOK",)), rows, width=width
    )


def _yes(value: bool | None) -> str:
    return "?" if value is None else "yes" if value else "no"


def check_servers(path: Path, region: str = REGION) -> tuple[dict[str, Server], list[str]]:
    """The servers in the file, and warnings of what is allowed but should be known. Raises ConsoleError."""
    try:
        servers = load_servers(path, region)
    except ServersFileError as error:
        raise ConsoleError(str(error)) from error
    return servers, warnings_of(servers, str(path))


def servers_table(servers: Mapping[str, Server], width: int | None = None) -> str:
    """The servers as text. Of a token it says only where it comes from."""
    rows = [(server.name, _address(server), _token(server), server.model or "-") for server in servers.values()]
    return table(
        Columns(("SERVER", "URL", "TOKEN", "DEFAULT MODEL"), drop=("DEFAULT MODEL",), least=48), rows, width=width
    )


def _address(server: Server) -> str:
    """Where it is; of a pool its members with their weights."""
    members = ", ".join(f"{name} {weight}" for name, weight in server.pool.items())
    return f"pool: {members}" if members else server.url


def _token(server: Server) -> str:
    token = server.token
    if server.pool:
        return "-"
    if server.auth.is_aws:
        return f"signed ({server.auth.service}, {server.auth.region})"
    if token.kind == "literal":
        return "in the file" if token.name else "none"
    if token.kind == "environment":
        return f"${{{token.name}}}"
    return f"{token.kind}:{token.name}" + (f"#{token.json_key}" if token.json_key else "")
