"""The commands of the pages can be pasted: `openai-proxy` takes them, a shell reads them, nothing is a placeholder.

What comments of shipped files and messages tell people to run is held to the names that the command line has.
"""

import ast
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from console.command_line import parser
from console.doctor.functions import CONSUMERS

ROOT = Path(__file__).parents[2]
_LISTED = ["git", "ls-files", "-coz", "--exclude-standard"]
FILES = subprocess.run(_LISTED, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
PAGES = sorted(
    ROOT / name for name in FILES if name.endswith(".md") and name != "CHANGELOG.md" and (ROOT / name).exists()
)
CODE = ("console/", "deployment/", "functions/", "local/", "shared/")
METAVARS: Mapping[str, str] = {"FUNCTION": "proxy", "KEY_ID": "3f2a91c07be4"}
"""What is given in the place of a name in capitals; of others the name itself is taken."""
_BLOCK = re.compile(r"^```(?:sh|bash|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:\.venv/bin/)?openai-proxy [^`]+)`")
_PLACEHOLDER = re.compile(r"<[A-Za-z][A-Za-z'_ -]*>")
_OUTPUT = re.compile(r"openai-proxy output (\w+)")
_SENTENCES = ("x (Python x)", "needs none")
"""What is no command: the version, and what the command does without."""
_END_OF_COMMAND = r"\s#|[;|>)&]|\s<\s"


def blocks(page: Path) -> list[str]:
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each `openai-proxy` command of a page that is a whole one."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in blocks(page) for line in block.replace("\\\n", " ").splitlines()]
    inline = _INLINE.findall(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    for line in [*lines, *(" ".join(each.split()) for each in inline)]:
        found = re.search(r"(?:^|[;|(])\s*(?:\w+=\S+ )*(?:[^\s(]*/)?openai-proxy ((?:[a-z]|--).*)", line)
        if not found:
            continue
        part = re.split(_END_OF_COMMAND, found[1])[0]
        if "…" in part:
            continue
        try:
            words = shlex.split(part)
        except ValueError:  # a quotation that goes on in the next line
            continue
        if not any(_PLACEHOLDER.search(word) for word in words):
            yield [METAVARS.get(word, word) for word in words]


def messages() -> Iterator[tuple[str, str]]:
    """What stands behind `openai-proxy` in comments of shipped files and in texts of the code, with the file's name."""
    for name in FILES:
        if not (ROOT / name).exists():
            continue
        texts: list[str] = []
        if "/" not in name and name.endswith(".yaml"):
            texts = (ROOT / name).read_text(encoding="utf-8").splitlines()
        elif name.startswith(CODE) and name.endswith(".py"):
            texts = list(texts_of(ast.parse((ROOT / name).read_text(encoding="utf-8"))))
        yield from (
            (name, found) for text in texts for found in re.findall(r"openai-proxy ((?:[a-z]|--)[^`\n]*)", text)
        )


def texts_of(tree: ast.Module) -> Iterator[str]:
    """The texts of a module; what is put into one while it runs is the word `x`."""
    inner: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner |= {id(value) for value in node.values}
            yield "".join(str(value.value) if isinstance(value, ast.Constant) else "x" for value in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def unknown_in(text: str) -> list[str]:
    """The words that the command line does not know: a group or command that it has not, and options of another one."""
    words = re.split(r"[.,:](?:\s|$)|[)\"'|&]", text)[0].split()
    command: Any = parser()
    while words and (choices := command.below()):
        word, *words = words
        if word not in choices:
            return [] if word.startswith("--") else [word]
        command = choices[word]
    given = [word.partition("=")[0] for word in words if word.startswith("--")]
    return [word for word in given if word not in command._option_string_actions]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_command_line_takes_every_command_of_a_page(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused: dict[str, str] = {}
    for words in commands(page):
        if words[0] == "--help" or words[-1] == "--help" or (len(words) == 1 and "`" not in words[0]):
            continue  # the name of a group
        try:
            parser().parse_args(words)
        except SystemExit as end:
            said = capsys.readouterr().err
            if end.code and "required" not in said:  # a text may name a command without its arguments
                refused[" ".join(words)] = said
    assert refused == {}


def test_messages_name_commands_that_there_are() -> None:
    found = [(name, text) for name, text in messages() if not text.startswith(_SENTENCES)]
    assert len(found) > 60
    assert {f"{name}: {text}": unknown for name, text in found if (unknown := unknown_in(text))} == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_in_a_page_waits_to_be_replaced(page: Path) -> None:
    for block in blocks(page):
        assert _PLACEHOLDER.search(block) is None, block
        assert subprocess.run(["bash", "-n"], input=block, text=True, check=False).returncode == 0, block


def test_every_output_that_a_page_asks_for_is_one_of_the_template() -> None:
    template = (ROOT / "template.yaml").read_text(encoding="utf-8")
    outputs = set(re.findall(r"^  (\w+):", template[template.index("\nOutputs:") :], re.MULTILINE)) | {"StackName"}
    for kind in ("FunctionName", "QueueUrl", "DeadLetterQueueUrl"):
        outputs |= {f"{each}{kind}" for each in CONSUMERS}
    asked = {name for page in PAGES for name in _OUTPUT.findall(page.read_text(encoding="utf-8")) if name != "NAME"}

    assert {"RecordCostDeadLetterQueueUrl", "ProxyFunctionName"} <= asked <= outputs


def test_exit_codes_are_told_in_one_table() -> None:
    telling = [page.name for page in PAGES for _ in re.findall(r"^\| exit codes? ", page.read_text(), re.MULTILINE)]
    assert telling == ["operations.md"]


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("keys create --client-id me", []),
        ("keys make", ["make"]),
        ("nosuch", ["nosuch"]),
        ("keys create --client me, then make deploy", ["--client"]),
        ("costs --by client", []),
    ],
)
def test_a_name_that_the_command_line_has_not_is_seen(text: str, unknown: list[str]) -> None:
    assert unknown_in(text) == unknown
