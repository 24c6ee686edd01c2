"""`openai-proxy`: the command line. It reads the arguments and the environment, and turns errors into messages.

Exit codes: 0 done, and nothing to say of it; 1 something was found that needs a look; 2 it could not be done;
130 interrupted.
"""

import codecs
import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from console.errors import ConsoleError

if TYPE_CHECKING:
    from console.arguments import Parser

CANNOT, INTERRUPTED = 2, 130
_ESCAPED = "openai-proxy-escaped"


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
    "find": Command("all that is kept of one request, by its id", "console.find", "add_find"),
    "logs": Command("lines of a log: the proxy's, a consumer's", "console.logs", "add_logs"),
    "output": Command("what the stack says of itself: names and addresses", "console.outputs", "add_output"),
    "top": Command("what the proxy is doing, live", "console.top.command", "add_top"),
    "cache": Command("the response cache: what it saves, and emptying it", "console.cache.commands", "add_cache"),
    "events": Command(
        "what consumers could not record: look at it, send it through again", "console.events", "add_events"
    ),
    "prices": Command("check, show and refresh the price book", "console.prices.commands", "add_prices"),
    "identity": Command("check identity.yaml", "console.identity.commands", "add_identity"),
    "guards": Command(
        "check guards.yaml, try it on the past, undo what it did", "console.guards.commands", "add_guards"
    ),
    "doctor": Command("look at a deployed stack and say what to do", "console.doctor.commands", "add_doctor"),
    "servers": Command("check openai_servers.yaml and its servers", "console.servers.commands", "add_servers"),
    "completion": Command("print a script with which a shell completes words", "console.completion", "add_completion"),
}


_EXAMPLES = """examples:
  openai-proxy keys create --client-id web --name "Web frontend" --budget-day 5
  openai-proxy costs --last 7d --by client,model
  openai-proxy top --by server
  openai-proxy doctor

`openai-proxy COMMAND --help` says more. --profile and --region, or AWS_PROFILE
and AWS_REGION, choose the account and the Region; `. .local/env` chooses the
stack of `make run`.
"""


def main(
    arguments: Sequence[str] | None = None,
    environ: Mapping[str, str] = os.environ,
    began: Callable[[], object] = lambda: None,
) -> int:
    """Run one command. Returns the exit code. `began` is called when the command is loaded, just before it runs."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if reconfigure := getattr(sys.stdout, "reconfigure", None):
            codecs.register_error(_ESCAPED, _escaped)
            reconfigure(errors=_ESCAPED)  # a name may have characters that the terminal's encoding lacks
        code = _run(given, environ, began)
        sys.stdout.flush()
    except BrokenPipeError:
        _write_no_more()
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if not (problem := _problem_of(error)):
            raise
        _say(problem)
        return CANNOT
    return code


def _run(given: Sequence[str], environ: Mapping[str, str], began: Callable[[], object]) -> int:
    from console.arguments import announce, environment_of  # noqa: PLC0415 - an interrupt may come while it is loaded

    options, left = parser().parse_known_args(given)
    if left:
        options.parser.error(f"there is no argument {' '.join(left)}")
    environ = environment_of(options, environ)
    began()
    announce(options, environ)
    return options.run(options, environ)


def parser() -> "Parser":
    """All commands. The options of one are loaded when it is named."""
    import argparse  # noqa: PLC0415 - an interrupt may come while it is loaded

    from console.arguments import Parser, Version, late, sentence  # noqa: PLC0415

    root = Parser(
        prog="openai-proxy",
        description="Keys, costs, cache, prices, servers and health of the OpenAI proxy.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action=Version, nargs=0, help="print the version, and that of Python")
    commands = root.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.help, description=sentence(command.help), load=late(*command[1:]))
    return root


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """What an encoding lacks, as JSON escapes it: with Python's own `backslashreplace`, JSON would be none any more."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2)), error.end


def _problem_of(error: Exception) -> str | None:
    """What an error says to a person; None for an unexpected error."""
    if isinstance(error, ConsoleError):
        return str(error)
    if isinstance(error, OSError):
        if error.filename is None:
            _write_no_more()
        reason = error.strerror or error
        if error.filename is None:
            return f"The output cannot be written: {reason}."
        return f"{error.filename} cannot be used: {reason}. Remedy: name a file that may be read and written."
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "").partition(".")[0]
        if package in ("", "console", "openai_proxy"):
            return None
        return f"The package {package} is not installed. Remedy: pip install '.[console]' in the project's folder."
    from console.aws import problem_of  # noqa: PLC0415 - it loads what only calls of AWS need

    return problem_of(error)


def _say(problem: str) -> None:
    from openai_proxy.client_keys import without_keys  # noqa: PLC0415 - only messages of errors need it

    from console.text import harmless  # noqa: PLC0415

    said = "\n".join(harmless(line.expandtabs()) for line in problem.splitlines())  # AWS quotes what others wrote
    with contextlib.suppress(OSError):  # stderr cannot be written either, so nothing is left to report this on
        print(f"openai-proxy: {without_keys(said)}", file=sys.stderr)


def _write_no_more() -> None:
    """Stop writing: nobody reads the output any more, or it cannot be written. The interpreter writes once more at its
    end, which must not fail.
    """
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
