"""What holds for the repository as a whole: no secrets or machines in it, small modules, pinned requirements."""

import ast
import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

REGISTRY_HOSTS = re.compile(r"pypi[.]org|pythonhosted[.]org|registry[.]npmjs|deb[.]debian|files[.]pypi")
MACHINE_PATHS = re.compile(r"(?<![\w.$}~-])/(?:work|root|home|Users)/\w")
SECRETS = re.compile(r"sk-(?:proj|live|ant)-[\w-]{20,}|AKIA[0-9A-Z]{16}|r8_[A-Za-z0-9]{30,}")

MODULE_LINES = 300
FOLDER_MODULES = 15
LONGEST_ROW = 400
ENVIRONMENT_READERS = ("handler.py", "proxy/runtime.py")
TARGETS = {"help", "run", "test", "test-fast", "check", "bench", "build", "deploy", "clean"}


def repository_files() -> Iterator[Path]:
    """Every file of the repository; what tools leave in hidden folders, `.ci` excepted, is not of it."""
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [
            name for name in folders if name == ".ci" or not name.startswith((".", "__pycache__", "node_modules"))
        ]
        yield from (Path(folder, name) for name in files if name != ".git")  # in a worktree it is a file


def texts() -> Iterator[tuple[str, str]]:
    for path in repository_files():
        try:
            yield str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def reads_environment(source: str) -> bool:
    """Does `source` touch the process environment through `os`?"""
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    return any(
        (
            isinstance(node, ast.Attribute)
            and node.attr in names
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
        )
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and any(alias.name in names for alias in node.names)
        )
        for node in ast.walk(ast.parse(source))
    )


@pytest.mark.parametrize(
    "pattern", [REGISTRY_HOSTS, MACHINE_PATHS, SECRETS], ids=["registry hosts", "paths of one machine", "secrets"]
)
def test_no_file_holds(pattern: re.Pattern[str]) -> None:
    found = [f"{name}: {match[0]}" for name, text in texts() for match in [pattern.search(text)] if match]
    assert found == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (REGISTRY_HOSTS, "https://" + "pypi" + ".org/simple"),
        (MACHINE_PATHS, "cd /" + "root/app"),
        (SECRETS, "sk-" + "proj-" + "a" * 24),
    ],
)
def test_the_patterns_find_what_they_are_for(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


def test_modules_stay_small() -> None:
    long = {
        name: text.count("\n") for name, text in texts() if name.endswith(".py") and text.count("\n") > MODULE_LINES
    }
    assert {name for name in long if not name.startswith("tests/")} == set()


@pytest.mark.parametrize(
    "file",
    [*ROOT.glob("requirements/*.txt"), ROOT / "shared/requirements.txt", ROOT / "layers/tokens/requirements.txt"],
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_requirements_are_pinned_by_hash_and_name_no_address(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    requirements = re.split(r"(?<!\\)\n", "\n".join(lines))
    assert requirements
    for requirement in requirements:
        assert re.match(r"[A-Za-z0-9._-]+(\[[\w,-]+\])?==[^\s;]+", requirement), requirement
        assert "--hash=sha256:" in requirement
    assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host", "\n".join(lines))


def test_only_entry_points_read_the_environment() -> None:
    readers = {
        name
        for name, text in texts()
        if name.startswith(("functions/", "shared/")) and name.endswith(".py") and reads_environment(text)
    }
    assert {name for name in readers if not name.endswith(ENVIRONMENT_READERS)} == set()


@pytest.mark.parametrize(
    "source", ["import os\nos.environ['A']", "import os\nos.getenv('A')", "from os import environ"]
)
def test_reading_the_environment_is_seen(source: str) -> None:
    assert reads_environment(source)


def test_the_makefile_says_what_it_can_do() -> None:
    documented = set(re.findall(r"^([a-z-]+):.*## \S", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert documented >= TARGETS


@pytest.mark.parametrize("script", [".ci/run", "functions/proxy/bootstrap"])
def test_scripts_can_be_executed(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


def test_the_first_paragraph_of_a_page_says_for_whom_it_is() -> None:
    firsts = {name: text.split("\n", 1)[1].lstrip().partition("\n\n")[0] for name, text in texts() if is_page(name)}
    assert len(firsts) > 60
    assert [name for name, first in firsts.items() if not re.search(r"\b[Ff]or who(ever)?\b", first)] == []


def is_page(name: str) -> bool:
    return name.endswith(".md") and (name.startswith("docs/") or name in ("CONTRIBUTING.md", "examples/README.md"))


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        f"{name}: {target}"
        for name, text in texts()
        if name.endswith(".md")
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
        if "://" not in target
        and not target.startswith("mailto:")
        and not (ROOT / name).parent.joinpath(target).exists()
    ]
    assert broken == []


def test_an_advisory_is_cited_at_its_own_address() -> None:
    addresses = {"CVE": "https://nvd.nist.gov/vuln/detail/", "GHSA": "https://github.com/advisories/"}
    cited = [
        (name, where)
        for page in [*ROOT.glob("docs/**/*.md"), ROOT / "SECURITY.md"]
        for name, where in re.findall(r"\[((?:CVE|GHSA)-[\w-]+)\]\(([^)]*)\)", page.read_text(encoding="utf-8"))
    ]
    assert len(cited) > 5
    assert [where for name, where in cited if where != addresses[name.partition("-")[0]] + name] == []


def test_a_row_of_a_table_is_short_enough_to_be_read() -> None:
    """What needs more is a section of its own. Decisions are kept as they were written."""
    long = {
        f"{page.relative_to(ROOT)}: {row[:60]}": len(row)
        for page in ROOT.glob("docs/**/*.md")
        if page.parent.name != "adr"
        for row in page.read_text(encoding="utf-8").splitlines()
        if row.startswith("|") and len(row) > LONGEST_ROW
    }
    assert long == {}


def test_documents_name_modules_that_are_there() -> None:
    there = [f"/{path.relative_to(ROOT)}" for path in repository_files()]
    named = {
        (str(path.relative_to(ROOT)), name)
        for path in repository_files()
        if path.suffix == ".md" and path.name != "CHANGELOG.md"
        for name in re.findall(r"`([\w./-]+[.]py)`", path.read_text(encoding="utf-8"))
    }
    assert len(named) > 50
    assert [each for each in sorted(named) if not any(file.endswith(f"/{each[1]}") for file in there)] == []


def test_folders_stay_small() -> None:
    modules = Counter(str(path.parent.relative_to(ROOT)) for path in repository_files() if path.suffix == ".py")
    # End-to-end tests and contracts are a list, and each file of them stands alone.
    lists = ("tests/contract", "tests/e2e")
    assert {folder: count for folder, count in modules.items() if count > FOLDER_MODULES and folder not in lists} == {}


def test_continuous_integration_refuses_what_it_does_not_know():
    ran = subprocess.run([ROOT / ".ci/run", "--fast"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "takes no arguments, and was given: --fast" in ran.stderr


def first_paragraph(page: Path) -> str:
    """The text below the title, as one line; "" where something else is there, such as a table."""
    _, _, below = page.read_text(encoding="utf-8").partition("\n")
    found = re.match(r"(?:[A-Za-z(*].*\n)+", below.lstrip("\n"))
    return " ".join(found[0].split()) if found else ""


@pytest.mark.parametrize(
    "page",
    sorted(page for page in (ROOT / "docs").rglob("*.md") if page.parent.name != "adr"),
    ids=lambda page: str(page.relative_to(ROOT / "docs")),
)
def test_a_page_says_first_whom_it_is_for_and_what_they_can_do_after_it(page: Path) -> None:
    """A decision is for whoever changes the code, as its folder says."""
    first = first_paragraph(page)
    assert re.match(r"(This page is for|For) whoever ", first), first
    assert re.search(r"(you can|you know|you have|you see|At the end|at the end) ", first), first
    assert len(first) < 400
