"""What `make bench` is told: names of chapters, and what is refused before anything is installed or measured."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import CHAPTERS as MEASURED
from bench.arguments import CHAPTERS, arguments
from mutants.arguments import arguments as arguments_of_mutants

ROOT = Path(__file__).resolve().parents[3]


def test_every_chapter_that_can_be_named_is_measured() -> None:
    assert tuple(MEASURED) == CHAPTERS
    assert arguments([]).only == list(CHAPTERS)


def test_the_page_names_every_chapter() -> None:
    page = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    listed = page[page.index("chooses among the chapters") :].partition(";")[0]
    assert re.findall(r"`(\w+)`", listed) == list(CHAPTERS)


def test_chapters_come_in_their_order_and_once() -> None:
    assert arguments(["--only", "limits,start,limits"]).only == ["start", "limits"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--only", "nosuch"], "there is no chapter 'nosuch': it is one of start, "),
        (["--only", ""], "there is no chapter ''"),
        (["--only", "start,"], "there is no chapter ''"),
        (["--scale", "0"], "0 is no fraction"),
        (["--scale", "-1"], "-1 is no fraction"),
        (["--scale", "inf"], "inf is no fraction"),
        (["--scale", "nan"], "nan is no fraction"),
        (["--build", "/no/such/folder"], "/no/such/folder is no folder"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        arguments(words)
    assert said in capsys.readouterr().err


def test_modules_that_are_not_there_are_refused() -> None:
    with pytest.raises(SystemExit, match=r"nosuch is not there: name modules or folders"):
        arguments_of_mutants(["bench", "nosuch"])
    assert arguments_of_mutants(["bench/__main__.py", "bench/__main__.py"]).modules == ["bench/__main__.py"]


@pytest.mark.parametrize("tool", ["bench", "mutants"])
def test_a_python_without_any_package_can_refuse(tool: str) -> None:
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, '.'); import {tool}.arguments"]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == 0
