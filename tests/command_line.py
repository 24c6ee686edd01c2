"""`openai-proxy` as tests run it."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import pytest

from console.command_line import main


class Ran(NamedTuple):
    """A command that has run: its exit code, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Ran]


def ran(capsys: pytest.CaptureFixture[str], arguments: Sequence[str], environ: Mapping[str, str]) -> Ran:
    """Run a command in this process."""
    try:
        code = main(arguments, environ)
    except SystemExit as end:
        code = int(str(end.code))
    said = capsys.readouterr()
    return Ran(code, said.out, said.err)
