"""`openai-proxy`: the command line. It reads the arguments and the environment, and turns errors into messages.

Exit codes: 0 done, 1 could not be done, 2 wrong arguments.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
)
from openai_proxy.client_keys import without_keys

from console.cache.commands import add_cache
from console.costs.commands import add_costs
from console.errors import ConsoleError
from console.events import add_events
from console.keys.commands import add_keys
from console.prices import commands as prices
from console.servers import check_servers, servers_table
from console.top.command import add_top


class Parser(argparse.ArgumentParser):
    """Reads arguments. What it refuses it does not repeat, if that looks like a client key."""

    def error(self, message: str) -> NoReturn:
        super().error(without_keys(message))


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run one command. Returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options, environ)
    except BrokenPipeError:
        return 0
    except (ConsoleError, BotoCoreError, ClientError) as error:
        print(f"openai-proxy: {without_keys(_explained(error))}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    root = Parser(prog="openai-proxy", description="Keys, costs, cache, prices and servers of the OpenAI proxy.")
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    add_keys(commands.add_parser("keys", help="make, limit, rotate and revoke client keys"))
    add_costs(commands.add_parser("costs", help="what was spent: sums, charts, reports, checks"))
    add_top(commands.add_parser("top", help="what the proxy is doing, live"))
    add_cache(commands.add_parser("cache", help="the response cache: what it saves, and emptying it"))
    add_events(commands.add_parser("events", help="give the ledger past events again"))
    prices.add_parser(commands)
    _add_servers(commands.add_parser("servers", help="check openai_servers.yaml"))
    return root


def _add_servers(servers: argparse.ArgumentParser) -> None:
    check = servers.add_subparsers(required=True, metavar="COMMAND").add_parser("check", help="check the file")
    check.add_argument("file", nargs="?", type=Path, default=Path("openai_servers.yaml"))
    check.set_defaults(run=_servers_check)


def _servers_check(options: argparse.Namespace, _environ: Mapping[str, str]) -> int:
    servers, warnings = check_servers(options.file)
    print(servers_table(servers))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def _explained(error: Exception) -> str:
    if isinstance(error, NoCredentialsError):
        return "There are no AWS credentials. Set AWS_PROFILE, or for the local stack: source .local/env"
    if isinstance(error, NoRegionError):
        return "No AWS region is set. Set AWS_REGION, or for the local stack: source .local/env"
    if isinstance(error, EndpointConnectionError):
        return f"{error} Is AWS_ENDPOINT_URL right, and the local stack running?"
    if isinstance(error, ClientError) and error.response.get("Error", {}).get("Code") == "ResourceNotFoundException":
        return f"The table does not exist in this account and region ({error})."
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
