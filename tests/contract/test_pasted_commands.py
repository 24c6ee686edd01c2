"""The commands of the pages can be pasted: `openai-proxy` takes them, a shell reads them, nothing is a placeholder."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.command_line import parser
from console.doctor.functions import CONSUMERS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), ROOT / "README.md"])
_BLOCK = re.compile(r"^```(?:sh|bash|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`((?:\.venv/bin/)?openai-proxy [^`\n]+)`")
_PLACEHOLDER = re.compile(r"<[A-Za-z][A-Za-z'_ -]*>")
_OUTPUT = re.compile(r"openai-proxy output (\w+)")


def blocks(page: Path) -> list[str]:
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each `openai-proxy` command of a page that is a whole one."""
    lines = [line for block in blocks(page) for line in block.replace("\\\n", " ").splitlines()]
    for text in [*lines, *_INLINE.findall(page.read_text(encoding="utf-8"))]:
        found = re.search(r"(?:^|[;|(])\s*(?:\w+=\S+ )*(?:[^\s(]*/)?openai-proxy ((?:[a-z]|--).*)", text)
        if not found or "…" in text or re.search(r"\b[A-Z][A-Z_]{2,}\b", re.sub(r'"\$\w+"', "x", found[1])):
            continue
        part = re.split(r"\s#|[;|>)&]|\s<\s", found[1])[0]
        try:
            words = shlex.split(part)
        except ValueError:  # a quotation that goes on in the next line
            continue
        if not any(_PLACEHOLDER.search(word) for word in words):
            yield words


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
