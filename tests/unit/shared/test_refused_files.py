"""What the owner's files are refused for, and what is said of it, to the letter: `tests/data/refused_files.json`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from openai_proxy.guards.file import GuardsFileError, load_guards, parse_guards
from openai_proxy.identity import IdentityFileError, load_identity, parse_identity
from openai_proxy.pricing.price_book import PriceBookError, load_price_book, parse_price_book
from openai_proxy.servers import ServersFileError, load_servers, parse_servers

REFUSED: dict[str, list[tuple[str, str]]] = json.loads(
    (Path(__file__).parents[2] / "data" / "refused_files.json").read_text(encoding="utf-8")
)
LOADERS: dict[str, tuple[Callable[[str], Any], type[Exception]]] = {
    "servers": (parse_servers, ServersFileError),
    "identity": (parse_identity, IdentityFileError),
    "guards": (parse_guards, GuardsFileError),
    "prices": (parse_price_book, PriceBookError),
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


@pytest.mark.parametrize(
    ("load", "error", "why"),
    [
        (load_servers, ServersFileError, " (invalid start byte)"),
        (load_price_book, PriceBookError, " (invalid start byte)"),
        (load_guards, GuardsFileError, " (invalid start byte)"),
        (load_identity, IdentityFileError, ""),
    ],
)
def test_bytes_that_are_no_text_are_told_by_their_place(
    load: Callable[[Path], Any], error: type[Exception], why: str, tmp_path: Path
) -> None:
    file = tmp_path / "file.yaml"
    file.write_bytes(b"a\xc3\xa4\xff: 1")
    with pytest.raises(error) as refused:
        load(file)
    assert str(refused.value) == f"{file}: cannot be read: byte 4 is not UTF-8{why}. Remedy: save the file as UTF-8."
