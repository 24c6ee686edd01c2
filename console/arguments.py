"""What all commands share of the command line: how arguments are read, which account is meant, and what is asked before
a change.

Before a command runs, each option replaces the environment variable that it overrides, so commands read only the
environment.
"""

import argparse
import contextlib
import difflib
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, cast

from console.errors import ConsoleError

Run = Callable[[argparse.Namespace, Mapping[str, str]], int]
"""Runs a command with the environment. Returns the exit code."""

_ACCOUNT_OPTIONS = {"profile": "AWS_PROFILE", "region": "AWS_REGION", "stack_name": "STACK_NAME"}
_CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_ONE_OF = re.compile(r"one of the arguments (.*) is required")
_CHOICES = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)$", re.DOTALL)


class Parser(argparse.ArgumentParser):
    """Reads arguments. Every command takes the options that name an account; an error is one line."""

    def __init__(self, *arguments: Any, load: "Callable[[Parser], None] | None" = None, **settings: Any) -> None:
        """`load` gives it its options and commands, when it is used."""
        super().__init__(*arguments, **settings)
        self._load = load
        self._commands: Any = None
        self.also_taken: frozenset[str] = frozenset()
        self.set_defaults(parser=self)  # the last one is that of the named command
        account = self.add_argument_group("account")
        for name, help_ in (
            ("--profile", "one of your AWS settings"),
            ("--region", "an AWS Region, such as eu-central-1"),
        ):
            default = f"default: ${_ACCOUNT_OPTIONS[name[2:]]}"
            account.add_argument(name, default=argparse.SUPPRESS, metavar="NAME", help=f"{help_}; {default}")

    def load(self) -> None:
        """Load the parser's own options and commands."""
        load, self._load = self._load, None
        if load:
            load(self)

    def add_subparsers(self, **settings: Any) -> Any:
        """As argparse does it; an option before the name of a command that does not take it there is an error."""
        self._commands = super().add_subparsers(action=_Commands, **settings)
        return self._commands

    def below(self) -> "dict[str, Parser]":
        """The commands below this one, by their names."""
        self.load()
        return dict(self._commands.choices) if self._commands else {}

    def lost_before(self, command: "Parser", namespace: argparse.Namespace) -> list[str]:
        """The options that `namespace` has of this parser, and `command` does not take before its name."""
        command.load()
        taken = {each.dest for each in command._actions if each.default is argparse.SUPPRESS}  # noqa: SLF001
        return [
            each.option_strings[0]
            for each in self._actions
            if each.option_strings
            and getattr(namespace, each.dest, each.default) != each.default
            and each.dest not in taken | command.also_taken
        ]

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """As argparse does it; a command below this one is parsed, and so loaded, when it is named."""
        self.load()
        return super().parse_known_args(args, namespace)

    def _print_message(self, message: str, file: Any = None) -> None:
        """As argparse does it, which is silent about a full disk."""
        (file or sys.stderr).write(message or "")

    def error(self, message: str) -> NoReturn:
        from openai_proxy.client_keys import without_keys  # noqa: PLC0415 - only messages of errors need it

        said = without_keys(" ".join(_suggesting(message).split()))
        self.exit(2, f"{self.prog}: {said}. Remedy: `{self.prog} --help` says what it takes.\n")


class _Commands(argparse._SubParsersAction):  # noqa: SLF001  # pyright: ignore[reportPrivateUsage,reportMissingTypeArgument]
    """Names a command. argparse itself would drop the options before the name that the command does not take there."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        command: Parser | None = cast("Any", self).choices.get(values[0]) if values else None
        if command is not None and (lost := parser.lost_before(command, namespace)):
            command.error(f"{lost[0]} before the command's name has no effect on it")
        super().__call__(parser, namespace, values, option_string)


def late(module: str, add: str) -> Callable[[Parser], None]:
    """What gives a command its options: the function `add` of a module that is loaded for this command alone."""

    def load(parser: Parser) -> None:
        getattr(importlib.import_module(module), add)(parser)

    return load


def sentence(help: str) -> str:
    """The line about a command in a list of commands, as a sentence: with it the command's own page begins."""
    return f"{help[:1].upper()}{help[1:]}."


def adding(
    parser: argparse.ArgumentParser, options: Callable[[argparse.ArgumentParser], object] = lambda _: None
) -> Callable[[str, Run, str], argparse.ArgumentParser]:
    """What adds a command to those below `parser`, by its name, what runs it, and its line. Each has `options`."""
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, run: Run, help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=sentence(help))
        command.set_defaults(run=run)
        options(command)
        return command

    return add


class Version(argparse.Action):
    """Prints the version that is installed."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - few ask

        try:
            installed = version("openai-proxy-lambda")
        except PackageNotFoundError:
            installed = "of a checkout that is not installed"
        print(f"openai-proxy {installed} (Python {sys.version.split()[0]})")
        parser.exit(0)


def _suggesting(message: str) -> str:
    """A message of argparse; one about a word that is no choice names the choices that look like it, or all."""
    message = message.replace("argument [COMMAND]:", "argument COMMAND:")
    if missing := _ONE_OF.fullmatch(message):
        return f"one of these is required: {', '.join(missing[1].split())}"
    if not (found := _CHOICES.search(message)):
        return message
    choices = [each.strip(" '") for each in found[2].split(",")]
    alike = difflib.get_close_matches(found[1], choices, 3)
    says = f"perhaps {' or '.join(alike)}" if alike else f"choose from {', '.join(choices)}"
    return f"{message[: found.start()]}'{found[1]}' is none of the choices; {says}"


def environment_of(options: argparse.Namespace, environ: Mapping[str, str]) -> Mapping[str, str]:
    """The environment with what the command line says written over it. Raises ConsoleError for a contradiction."""
    given = {name: value for name in _ACCOUNT_OPTIONS if (value := getattr(options, name, None))}
    if not given:
        return environ
    _refuse_two_stacks(given, environ)
    changed = {**environ, **{_ACCOUNT_OPTIONS[name]: value for name, value in given.items()}}
    if "region" in given:
        changed["AWS_DEFAULT_REGION"] = given["region"]
    if "profile" in given:
        changed = {name: value for name, value in changed.items() if name not in _CREDENTIALS}
    return changed


def _refuse_two_stacks(given: Mapping[str, str], environ: Mapping[str, str]) -> None:
    from console.aws import emulator  # noqa: PLC0415 - few commands name an account
    from console.stack import VARIABLES  # noqa: PLC0415

    of_shell, named = environ.get("STACK_NAME"), given.get("stack_name")
    here = emulator(environ)
    if "profile" in given and here and environ.get("AWS_ACCESS_KEY_ID"):
        raise ConsoleError(
            f"AWS_ENDPOINT_URL={here} is an AWS on this machine with keys of its own, and --profile names another "
            "account. Remedy: use a shell in which .local/env was not sourced, or leave --profile out."
        )
    others = [name for name in VARIABLES.values() if environ.get(name)]
    if named and of_shell and named != of_shell and others:
        raise ConsoleError(
            f"The variables of this shell are those of the stack '{of_shell}' ({', '.join(others)}), and --stack-name "
            f"names '{named}'. Remedy: use a shell without them, or leave --stack-name out."
        )


def announced(command: argparse.ArgumentParser, when: Callable[[argparse.Namespace], bool] = lambda _: True) -> None:
    """Mark a command that changes something in an account: it says first in which, and in which stack."""
    command.set_defaults(changes=when)


def announce(options: argparse.Namespace, environ: Mapping[str, str]) -> None:
    """Say what a command is about to change, if it does. Raises botocore's errors where there is no account at all."""
    when = getattr(options, "changes", None)
    if when is None or not when(options):
        return
    from console.aws import who_asks  # noqa: PLC0415
    from console.stack import named_places, stack_name  # noqa: PLC0415

    places = named_places(options, environ)
    stack = f"stack {stack_name(options, environ)}"
    if places and not (getattr(options, "stack_name", None) or environ.get("STACK_NAME")):
        stack = ", ".join(places)  # the tables were named without their stack
    who = who_asks(environ)
    with contextlib.suppress(OSError):  # nobody reads it, and what was asked for is done all the same
        print(f"{who}, {stack}.", file=sys.stderr)


def add_yes(command: argparse.ArgumentParser) -> None:
    """Add `--yes` to a command whose change cannot be undone."""
    command.add_argument("--yes", action="store_true", help="do it without asking; it cannot be undone")


def confirm(what: str, options: argparse.Namespace) -> None:
    """Go on only if `--yes` is given, or a person says yes. `what` is a sentence that says what would be done. Raises
    ConsoleError otherwise.
    """
    if options.yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ConsoleError(f"{what} That cannot be undone, and nothing was done. Remedy: add --yes to do it.")
    print(f"{what} That cannot be undone. Do it? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConsoleError("Nothing was done.")


def known(name: str, among: Iterable[str], what: str, remedy: str, *, force: bool = False) -> None:
    """Raises ConsoleError if `name` is unknown; the message names similar ones. With `force` the remedy also names the
    command's option `--force`, which accepts any name.
    """
    names = set(among)
    if name in names:
        return
    from console.text import harmless  # noqa: PLC0415

    alike = difflib.get_close_matches(name, sorted(names), 3)
    says = f" Did you mean {' or '.join(alike)}?" if alike else ""
    remedy += ", or add --force" if force else ""
    raise ConsoleError(f"{what} '{harmless(name[:64])}' is not known.{says} Remedy: {remedy}.")
