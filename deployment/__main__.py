"""`python -m deployment`: builds, and deploys what it has built. `make build` and `make deploy` call it.

A deployment ends with `openai-proxy costs save-queries`, which the template has no room for.

Exit codes: 0 done, 2 could not be done; else that of `sam deploy`.
"""

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from deployment.account import Caller, NoAccountError, caller, deployed_parameters, option_of
from deployment.build import BUILD, ROOT, build
from deployment.bytecode import NoPythonError, python_of
from deployment.packages import PackagesError
from deployment.runbooks import parameter_of
from deployment.target import (
    Target,
    defaults_of,
    overrides_in,
    overrides_of_samconfig,
    target_of,
    this_machine,
    values_of,
    without_overrides,
)

NO_BYTECODE = "none"
_OF_SAM = ("--parameter-overrides", "--config-file", "--config-env")
"""Options of `sam` that say what to build for."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. Remedy: `{self.prog} --help` says what it takes.\n")


def main(arguments: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ) -> int:
    """Run one command. Returns the exit code."""
    parser = _Parser(prog="python -m deployment", description="Build and deploy the application.", allow_abbrev=False)
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    of_build = commands.add_parser("build", help="build into .aws-sam/build", allow_abbrev=False)
    of_build.add_argument("--into", type=Path, default=BUILD, metavar="FOLDER", help="another folder")
    of_build.add_argument("--this-machine", action="store_true", help="for this Python and this processor, to run here")
    of_deploy = commands.add_parser("deploy", help="build, then deploy with sam", allow_abbrev=False)
    of_deploy.description = (
        "Build, then deploy. Any other argument goes to `sam deploy`, such as --parameter-overrides."
    )
    stack_help = "the stack; default: openai-proxy"
    of_deploy.add_argument("--stack-name", default="openai-proxy", metavar="NAME", help=stack_help)
    options, rest = parser.parse_known_args(arguments)
    if options.command == "build" and (strange := [word for word in rest if _is_strange(word)]):
        of_build.error(f"there is no argument {' '.join(strange)}")
    try:
        if options.command == "build":
            target = this_machine(platform.machine()) if options.this_machine else target_for(rest, {})
            _build(options.into, target, environ)
            return 0
        return _deploy(options.stack_name, rest, environ)
    except (NoAccountError, NoPythonError, OSError, PackagesError, ValueError) as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as error:
        print(f"{options.command}: {error}", file=sys.stderr)
        return 2


def _is_strange(word: str) -> bool:
    return word.startswith("-") and word.partition("=")[0] not in _OF_SAM


def _overrides(rest: Sequence[str]) -> list[str]:
    """The parameters that are given: on the command line, else, as with sam, in samconfig.toml."""
    given = overrides_in(rest)
    if given is not None:
        return given
    file = ROOT / (option_of(rest, "--config-file") or "samconfig.toml")
    return overrides_of_samconfig(file.read_text(), option_of(rest, "--config-env") or "default")


def target_for(rest: Sequence[str], deployed: Mapping[str, str]) -> Target:
    """What to build for: what is given, else what the stack has, else the template's defaults."""
    defaults = defaults_of((ROOT / "template.yaml").read_text())
    known = {name: deployed[name] for name in defaults if name in deployed}
    return target_of({**defaults, **known, **values_of(_overrides(rest))})


def _build(into: Path, target: Target, environ: Mapping[str, str]) -> None:
    chosen = environ.get("BYTECODE_PYTHON", "")
    python = None if chosen == NO_BYTECODE else python_of(target.python, chosen)
    shown = f"bytecode by {python}" if python else "without bytecode: every cold start compiles every module"
    print(f"Building for Python {target.python} on {target.architecture}; {shown}", flush=True)
    build(into.resolve(), target, python)


def _deploy(stack: str, rest: Sequence[str], environ: Mapping[str, str]) -> int:
    who = caller(rest)
    deployed = deployed_parameters(who, stack)
    target = target_for(rest, deployed)
    _build(BUILD, target, environ)
    print(said(stack, target, who), flush=True)
    sam = Path(sys.executable).with_name("sam")
    # A stack keeps the parameters that are not given again: those two must be what was built.
    given = _overrides(rest)
    others = [word for word in given if not values_of([word]).keys() & {"PythonVersion", "Architecture"}]
    others += parameter_of(values_of(given), deployed, ROOT)
    command = [str(sam), "deploy", "--stack-name", stack, *without_overrides(rest), "--parameter-overrides"]
    code = subprocess.run([*command, *others, *target.parameters], cwd=ROOT, check=False).returncode
    if code or "--no-execute-changeset" in rest:
        return code
    return _save_queries(stack, rest, who, environ)


def _save_queries(stack: str, rest: Sequence[str], who: Caller, environ: Mapping[str, str]) -> int:
    print("Saving the lake's queries in Athena", flush=True)
    command, chosen = saving(stack, rest, who.region)
    code = subprocess.run(command, cwd=ROOT, env={**environ, **chosen}, check=False).returncode
    if code:
        remedy = f"Remedy: openai-proxy costs save-queries --stack-name {stack}"
        print(f"deploy: the stack is deployed, but the lake's queries are not saved. {remedy}", file=sys.stderr)
    return code


def saving(stack: str, rest: Sequence[str], region: str) -> tuple[list[str], dict[str, str]]:
    """The command that saves the lake's queries, and its environment: the same person in the same Region."""
    console = Path(sys.executable).with_name("openai-proxy")
    profile = option_of(rest, "--profile")
    # As an option, not as AWS_PROFILE: keys in the environment would come before that.
    same = ["--profile", profile] if profile else []
    return [str(console), "costs", "save-queries", "--stack-name", stack, *same], {"AWS_REGION": region}


def said(stack: str, target: Target, who: Caller) -> str:
    """What is going to be deployed and where, in one line."""
    return (
        f"Deploying stack {stack} for Python {target.python} on {target.architecture} "
        f"to Region {who.region} of account {who.account}, as {who.arn}"
    )


if __name__ == "__main__":
    sys.exit(main())
