"""`openai-proxy`: the command line. It reads the arguments and the environment, and turns errors into messages.

Exit codes: 0 done, 1 could not be done, 2 wrong arguments.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
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

from console.costs import By, entries_table, read_entries, read_rollups, summarize, summary_table
from console.errors import ConsoleError
from console.keys_commands import add_keys
from console.keys_options import whole
from console.servers import check_servers, servers_table
from console.stack import add_table_options, chosen_table
from console.text import to_json


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
    root = Parser(prog="openai-proxy", description="Keys, costs and servers of the OpenAI proxy.")
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    add_keys(commands.add_parser("keys", help="make, limit, rotate and revoke client keys"))
    _add_costs(commands.add_parser("costs", help="what a day cost, by client, server and model"))
    _add_servers(commands.add_parser("servers", help="check openai_servers.yaml"))
    return root


def _add_costs(costs: argparse.ArgumentParser) -> None:
    _add_day(costs)
    costs.add_argument("--by", choices=("client", "server", "model"), help="sum up; default: each combination")
    add_table_options(costs, "CostsTable")
    costs.set_defaults(run=_costs)

    entries = costs.add_subparsers(metavar="entries").add_parser("entries", help="single inferences of a client")
    entries.add_argument("--client", required=True, metavar="CLIENT_ID")
    _add_day(entries, inherited=True)
    entries.add_argument(
        "--limit", type=whole(1, 36500), default=20, metavar="N", help="how many, newest first; default: 20"
    )
    add_table_options(entries, "CostsTable", inherited=True)
    entries.set_defaults(run=_entries)


def _add_servers(servers: argparse.ArgumentParser) -> None:
    check = servers.add_subparsers(required=True, metavar="COMMAND").add_parser("check", help="check the file")
    check.add_argument("file", nargs="?", type=Path, default=Path("openai_servers.yaml"))
    check.set_defaults(run=_servers_check)


def _add_day(command: argparse.ArgumentParser, *, inherited: bool = False) -> None:
    """With `inherited`, what stands before a command's name holds for it unless it is given again."""
    default = argparse.SUPPRESS if inherited else "today"
    command.add_argument("--day", type=_day, default=default, help="YYYY-MM-DD (UTC), today or yesterday")


def _costs(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    by: list[By] = [options.by] if options.by else ["client", "server", "model"]
    rows = summarize(read_rollups(chosen_table("CostsTable", options, environ), options.day), by)
    if options.json:
        print(to_json(rows))
    else:
        print(summary_table(rows, by) if rows else f"Nothing on {options.day} (UTC).")
    return 0


def _entries(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    entries = read_entries(chosen_table("CostsTable", options, environ), options.client, options.day, options.limit)
    if options.json:
        print(to_json(entries))
    else:
        print(entries_table(entries) if entries else f"Nothing of '{options.client}' on {options.day} (UTC).")
    return 0


def _servers_check(options: argparse.Namespace, _environ: Mapping[str, str]) -> int:
    servers, warnings = check_servers(options.file)
    print(servers_table(servers))
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return 0


def _day(text: str) -> date:
    today = datetime.now(UTC).date()
    if text in ("today", "yesterday"):
        return today - timedelta(days=text == "yesterday")
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not YYYY-MM-DD, today or yesterday") from None


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
