"""What `pip install '.[console]'` installs: the command, all that it reads, the packages that it needs, and no more."""

import ast
import os
import re
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hatchling.build import build_wheel

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

SHIPPED = {"console": "console", "openai_proxy": "shared/openai_proxy", "analytics": "analytics"}
"""Packages of the wheel, and their folders here."""
DISTRIBUTIONS = {"botocore": "boto3", "markupsafe": "jinja2", "yaml": "pyyaml"}
"""What brings an import, where that has another name."""


def own_files() -> set[str]:
    """What the wheel must hold: each package's files, but for what functions alone import."""
    found = {
        f"{package}/{file.relative_to(ROOT / folder)}"
        for package, folder in SHIPPED.items()
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and file.suffix != ".pyc"
    }
    of_functions = {name for name in found if name.startswith("openai_proxy/tracing/")}
    return found - of_functions


def imported() -> set[str]:
    """The packages that the shipped modules import at any place, when they run."""
    names: set[str] = set()
    for name in own_files():
        package, _, rest = name.partition("/")
        if name.endswith(".py"):
            names |= imports_of(ast.parse((ROOT / SHIPPED[package] / rest).read_text()))
    return names - set(sys.stdlib_module_names) - SHIPPED.keys()


def imports_of(node: ast.AST) -> set[str]:
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return set()
        case ast.Import(names=names):
            return {each.name.partition(".")[0] for each in names}
        case ast.ImportFrom(module=str(module)):
            return {module.partition(".")[0]}
        case ast.Call(args=[ast.Constant(value=str(module)), *_]) if (
            ast.unparse(node.func) == "importlib.import_module"
        ):
            return {module.partition(".")[0]}
        case _:
            return set[str]().union(*map(imports_of, ast.iter_child_nodes(node)))


def asked_for() -> list[str]:
    """What the extras name: `console`, and `export` for one format of `costs export`."""
    return [*PROJECT["optional-dependencies"]["console"], *PROJECT["optional-dependencies"]["export"]]


def requirements() -> dict[str, str]:
    """The extras' distributions and their lower bounds."""
    found = [re.fullmatch(r"([\w-]+)>=([\d.]+)", each) for each in asked_for()]
    return {each[1]: each[2] for each in found if each}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        return zipfile.ZipFile(folder / build_wheel(str(folder)))
    finally:
        os.chdir(before)


def test_the_wheel_holds_the_command_and_all_that_it_reads(wheel: zipfile.ZipFile):
    held = {name for name in wheel.namelist() if ".dist-info/" not in name and ".data/" not in name}

    assert held == own_files()
    assert {"openai_proxy/pricing/prices.json", "analytics/inferences.sql"} <= held


def test_the_command_is_the_launcher_and_what_it_starts_is_the_program(wheel: zipfile.ZipFile):
    [launcher] = [each for each in wheel.infolist() if ".data/" in each.filename]
    [entry_points] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]

    assert launcher.filename.endswith(".data/scripts/openai-proxy")
    assert launcher.external_attr >> 16 & 0o111 == 0o111
    assert wheel.read(launcher) == (ROOT / "console" / "launcher.sh").read_bytes()
    assert wheel.read(entry_points).decode().split() == [
        "[console_scripts]",
        "openai-proxy-python",
        "=",
        "console.program:main",
    ]


def test_the_extras_name_what_the_command_imports_and_no_more():
    assert requirements().keys() == {DISTRIBUTIONS.get(name, name) for name in imported()}
    assert len(requirements()) == len(asked_for())


def test_what_is_tested_here_is_not_older_than_the_extra_asks_for():
    pinned = dict(re.findall(r"^([\w-]+)==([\d.]+)", (ROOT / "requirements/dev.txt").read_text(), re.MULTILINE))

    for name, bound in requirements().items():
        assert as_numbers(pinned[name]) >= as_numbers(bound), name


def as_numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
