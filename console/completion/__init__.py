"""`openai-proxy completion`: a script with which a shell completes the words of a command."""

import argparse
from collections.abc import Mapping
from typing import Any

from console.arguments import Parser

_USE = {
    "bash": 'eval "$(openai-proxy completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(openai-proxy completion zsh)" in ~/.zshrc, after compinit',
    "tcsh": "openai-proxy completion tcsh | source /dev/stdin in ~/.tcshrc",
}


def add_completion(completion: argparse.ArgumentParser) -> None:
    """Give `completion` its options."""
    completion.description = f"Prints a script for a shell. Use it with {'; '.join(_USE.values())}."
    completion.add_argument("shell", metavar="SHELL", choices=tuple(_USE), help="which shell")
    completion.set_defaults(run=_run)


def _load_all(parser: Parser) -> None:
    for each in parser.below().values():
        _load_all(each)


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    import shtab  # noqa: PLC0415 - only this command needs it

    from console.command_line import parser  # noqa: PLC0415

    commands: Any = parser()
    _load_all(commands)
    print(shtab.complete(commands, options.shell))
    return 0
