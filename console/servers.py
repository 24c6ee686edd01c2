"""`servers`: checks whether `openai_servers.yaml` is fit to deploy."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from openai_proxy.servers import Server, ServersFileError, load_servers, warnings_of

from console.errors import ConsoleError
from console.output import show, terminal_width
from console.tables import table


def add_servers(servers: argparse.ArgumentParser) -> None:
    """Give `servers` its command."""
    check = servers.add_subparsers(title="commands", required=True, metavar="COMMAND").add_parser(
        "check", help="check the file"
    )
    check.add_argument("file", nargs="?", type=Path, default=Path("openai_servers.yaml"))
    check.set_defaults(run=_check)


def _check(options: argparse.Namespace, _environ: Mapping[str, str]) -> int:
    servers, warnings = check_servers(options.file)
    show(servers_table(servers, terminal_width()))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def check_servers(path: Path) -> tuple[dict[str, Server], list[str]]:
    """The servers in the file, and warnings of what is allowed but should be known. Raises ConsoleError."""
    try:
        servers = load_servers(path)
    except ServersFileError as error:
        raise ConsoleError(str(error)) from error
    return servers, warnings_of(servers, str(path))


def servers_table(servers: Mapping[str, Server], width: int | None = None) -> str:
    """The servers as text. Of a token it says only where it comes from."""
    rows = [(server.name, server.url, _token(server), server.model or "-") for server in servers.values()]
    return table(("SERVER", "URL", "TOKEN", "DEFAULT MODEL"), rows, width=width, drop=("DEFAULT MODEL",), least=48)


def _token(server: Server) -> str:
    token = server.token
    if server.auth.is_aws:
        return f"signed ({server.auth.service}, {server.auth.region})"
    if token.kind == "literal":
        return "in the file" if token.name else "none"
    if token.kind == "environment":
        return f"${{{token.name}}}"
    return f"{token.kind}:{token.name}" + (f"#{token.json_key}" if token.json_key else "")
