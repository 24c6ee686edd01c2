"""`openai-proxy`: the command line. It reads the arguments and the environment, and turns errors into messages.

Exit codes: 0 done, 1 could not be done, 2 wrong arguments.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
    NoRegionError,
)

from console.costs import By, entries_table, read_entries, read_rollups, summarize, summary_table
from console.errors import ConsoleError
from console.keys import create_key, keys_table, list_keys, revoke_keys
from console.servers import check_servers, servers_table
from console.stack import Output, Table, find_table
from console.text import to_json


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run one command. Returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options, environ)
    except BrokenPipeError:
        return 0
    except (ConsoleError, BotoCoreError, ClientError) as error:
        print(f"openai-proxy: {_explained(error)}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    root = argparse.ArgumentParser(prog="openai-proxy", description="Keys, costs and servers of the OpenAI proxy.")
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    _add_keys(commands.add_parser("keys", help="make, list and revoke client keys"))
    _add_costs(commands.add_parser("costs", help="what a day cost, by client, server and model"))
    _add_servers(commands.add_parser("servers", help="check openai_servers.yaml"))
    return root


def _add_keys(keys: argparse.ArgumentParser) -> None:
    commands = keys.add_subparsers(required=True, metavar="COMMAND")

    create = commands.add_parser("create", help="make a client key; it is shown once")
    create.add_argument("--client-id", required=True, help="to whom its usage is charged")
    create.add_argument("--name", required=True, help="what the key is for")
    create.add_argument(
        "--server", action="append", default=[], metavar="NAME", help="allow only this one (repeatable)"
    )
    create.add_argument("--model", action="append", default=[], metavar="NAME", help="allow only this one (repeatable)")
    create.add_argument("--expires-in-days", type=_number, metavar="DAYS", help="default: never")
    create.set_defaults(run=_keys_create)

    listing = commands.add_parser("list", help="list all client keys")
    listing.set_defaults(run=_keys_list)

    revoke = commands.add_parser("revoke", help="disable a key, or all keys of a client")
    which = revoke.add_mutually_exclusive_group(required=True)
    which.add_argument("key_id", nargs="?", metavar="KEY_ID", help="as `keys list` shows it")
    which.add_argument("--client-id", help="revoke all keys of this client")
    revoke.set_defaults(run=_keys_revoke)

    for command in (create, listing, revoke):
        _add_table(command, "--keys-table", "KEYS_TABLE")


def _add_costs(costs: argparse.ArgumentParser) -> None:
    _add_day(costs)
    costs.add_argument("--by", choices=("client", "server", "model"), help="sum up; default: each combination")
    _add_table(costs, "--costs-table", "COSTS_TABLE")
    costs.set_defaults(run=_costs)

    entries = costs.add_subparsers(metavar="entries").add_parser("entries", help="single inferences of a client")
    entries.add_argument("--client", required=True, metavar="CLIENT_ID")
    _add_day(entries, inherited=True)
    entries.add_argument("--limit", type=_number, default=20, metavar="N", help="how many, newest first; default: 20")
    _add_table(entries, "--costs-table", "COSTS_TABLE", inherited=True)
    entries.set_defaults(run=_entries)


def _add_servers(servers: argparse.ArgumentParser) -> None:
    check = servers.add_subparsers(required=True, metavar="COMMAND").add_parser("check", help="check the file")
    check.add_argument("file", nargs="?", type=Path, default=Path("openai_servers.yaml"))
    check.set_defaults(run=_servers_check)


def _add_day(command: argparse.ArgumentParser, *, inherited: bool = False) -> None:
    """With `inherited`, what stands before a command's name holds for it unless it is given again."""
    default = argparse.SUPPRESS if inherited else "today"
    command.add_argument("--day", type=_day, default=default, help="YYYY-MM-DD (UTC), today or yesterday")


def _add_table(command: argparse.ArgumentParser, option: str, variable: str, *, inherited: bool = False) -> None:
    def default(value: object) -> object:
        return argparse.SUPPRESS if inherited else value

    command.add_argument("--stack-name", default=default("openai-proxy"), help="default: openai-proxy")
    command.add_argument(option, dest="table", default=default(None), help=f"default: ${variable}, else the stack's")
    command.add_argument("--json", action="store_true", default=default(False), help="for programs")


def _keys_create(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    key, record = create_key(
        _table("KeysTable", options, environ),
        options.client_id,
        options.name,
        servers=options.server,
        models=options.model,
        expires_in_days=options.expires_in_days,
        now=time.time(),
    )
    if options.json:
        print(to_json({"key": key, **record.shown()}))
    else:
        print(
            f"Client key of '{record.client_id}' (id {record.key_id}). It is not stored: copy it now.", file=sys.stderr
        )
        print(key)
    return 0


def _keys_list(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    records = list_keys(_table("KeysTable", options, environ))
    print(to_json([record.shown() for record in records]) if options.json else keys_table(records, time.time()))
    return 0


def _keys_revoke(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    table = _table("KeysTable", options, environ)
    revoked = revoke_keys(table, key_id=options.key_id, client_id=options.client_id)
    if options.json:
        print(to_json([record.shown() | {"enabled": False} for record in revoked]))
    for record in [] if options.json else revoked:
        print(f"Revoked {record.key_id} of '{record.client_id}' ({record.name}).")
    if not revoked and not options.json:
        print("Nothing to do: revoked before.")
    return 0


def _costs(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    by: list[By] = [options.by] if options.by else ["client", "server", "model"]
    rows = summarize(read_rollups(_table("CostsTable", options, environ), options.day), by)
    if options.json:
        print(to_json(rows))
    else:
        print(summary_table(rows, by) if rows else f"Nothing on {options.day} (UTC).")
    return 0


def _entries(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    entries = read_entries(_table("CostsTable", options, environ), options.client, options.day, options.limit)
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


def _table(output: Output, options: argparse.Namespace, environ: Mapping[str, str]) -> Table:
    return find_table(output, options.table, options.stack_name, environ)


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= 36500):
        raise argparse.ArgumentTypeError("must be a whole number from 1 to 36500")
    return int(text)


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
