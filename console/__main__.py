"""`openai-proxy`: the command line. It reads the arguments and the environment, and turns errors into messages.

Exit codes: 0 done, 1 could not be done, 2 wrong arguments, 130 interrupted.
"""

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

from console.errors import ConsoleError


class Command(NamedTuple):
    """A command. The function `add` of `module` gives a parser its options; the module is loaded for this command
    alone.
    """

    help: str
    module: str
    add: str


COMMANDS: Mapping[str, Command] = {
    "keys": Command("make, limit, rotate and revoke client keys", "console.keys.commands", "add_keys"),
    "users": Command("who has signed in, what each spends, and blocking one", "console.users.commands", "add_users"),
    "teams": Command("what keys and users may take together", "console.teams.commands", "add_teams"),
    "costs": Command("what was spent: sums, charts, reports, checks", "console.costs.commands", "add_costs"),
    "throttles": Command(
        "who was throttled, by which limit, and what helps", "console.throttles.commands", "add_throttles"
    ),
    "top": Command("what the proxy is doing, live", "console.top.command", "add_top"),
    "cache": Command("the response cache: what it saves, and emptying it", "console.cache.commands", "add_cache"),
    "events": Command("give the ledger past events again", "console.events", "add_events"),
    "prices": Command("check, show and refresh the price book", "console.prices.commands", "add_prices"),
    "identity": Command("check identity.yaml", "console.identity.commands", "add_identity"),
    "doctor": Command("look at a deployed stack and say what to do", "console.doctor.commands", "add_doctor"),
    "servers": Command("check openai_servers.yaml and its servers", "console.servers.commands", "add_servers"),
}


_EXAMPLES = """examples:
  openai-proxy keys create --client-id web --name "Web frontend" --budget-day 5
  openai-proxy costs --last 7d --by client,model
  openai-proxy top --by server
  openai-proxy doctor

`openai-proxy COMMAND --help` says more. AWS_PROFILE and AWS_REGION choose the account and the Region;
`. .local/env` chooses the stack of `make run`.
"""


class Parser(argparse.ArgumentParser):
    """Reads arguments. What it refuses it does not repeat, if that looks like a client key."""

    def error(self, message: str) -> NoReturn:
        super().error(_without_keys(message))


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run one command. Returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if reconfigure := getattr(sys.stdout, "reconfigure", None):
        reconfigure(errors="backslashreplace")  # a name may have characters that the terminal's encoding lacks
    try:
        options = parser(given).parse_args(given)
        code = options.run(options, environ)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone. When the interpreter ends it flushes once more, which must not fail then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if not (problem := _problem_of(error)):
            raise
        print(f"openai-proxy: {_without_keys(problem)}", file=sys.stderr)
        return 1
    return code


def parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The commands, and the options of the one that `arguments` begin with."""
    root = Parser(
        prog="openai-proxy",
        description="Keys, costs, cache, prices, servers and health of the OpenAI proxy.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        described = commands.add_parser(name, help=command.help)
        if name in arguments[:1]:
            getattr(importlib.import_module(command.module), command.add)(described)
    return root


def _problem_of(error: Exception) -> str | None:
    """What an error says to a person; None for one that nobody expects."""
    if isinstance(error, ConsoleError):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package in ("", "console", "openai_proxy"):
            return None
        return f"The package {package} is not installed. Remedy: pip install '.[console]' in the project's folder."
    from console.aws import problem_of  # noqa: PLC0415 - it loads what only calls of AWS need

    return problem_of(error)


def _without_keys(text: str) -> str:
    from openai_proxy.client_keys import without_keys  # noqa: PLC0415 - only messages of errors need it

    return without_keys(text)


if __name__ == "__main__":
    sys.exit(main())
