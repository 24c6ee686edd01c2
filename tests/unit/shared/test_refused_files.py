"""What the owner's files are refused for, and what is said of it, to the letter: `tests/data/refused_files.json`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai_proxy.guards.file import GuardsFileError, parse_guards
from openai_proxy.identity import IdentityFileError, parse_identity
from openai_proxy.servers import ServersFileError, parse_servers

REFUSED: dict[str, list[tuple[str, str]]] = json.loads(
    (Path(__file__).parents[2] / "data" / "refused_files.json").read_text(encoding="utf-8")
)
LOADERS: dict[str, tuple[Callable[[str], Any], type[Exception]]] = {
    "servers": (parse_servers, ServersFileError),
    "identity": (parse_identity, IdentityFileError),
    "guards": (parse_guards, GuardsFileError),
}
CASES = [
    pytest.param(file, text, message, id=f"{file}-{number}")
    for file, cases in REFUSED.items()
    for number, (text, message) in enumerate(cases)
]


@pytest.mark.parametrize(("file", "text", "message"), CASES)
def test_what_is_said_of_a_file_that_is_refused(file: str, text: str, message: str) -> None:
    parse, error = LOADERS[file]
    with pytest.raises(error) as refused:
        parse(text)
    assert str(refused.value) == message
