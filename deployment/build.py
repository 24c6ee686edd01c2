"""Builds the application into a folder as `sam build` does, for the target's Python and architecture.

functions/       ─▶ functions             the code of every function, once
shared/          ─▶ SharedLayer/python    what they share, the owner's files, the wheels of its requirement file
                                          and of layers/tracing/
layers/tokens/   ─▶ TokensLayer/python    the wheels of the authorizer
template.yaml    ─▶ template.yaml         with these folders in it: `sam deploy` takes it
"""

import json
import re
import shutil
from pathlib import Path

from openai_proxy.yaml_files import YamlFileError, as_built, read_text

from deployment.bytecode import compile_in
from deployment.packages import install
from deployment.target import Target

ROOT = Path(__file__).parents[1]
BUILD = ROOT / ".aws-sam" / "build"
FUNCTIONS = "functions"
LAYERS = {"SharedLayer": "shared", "TokensLayer": "layers/tokens"}
BESIDE = {"SharedLayer": ("layers/tracing",)}
"""What layers carry beside their own requirement file: packages without those that the Lambda runtime brings."""
BUILT = "built.json"

_NOT_SHIPPED = ("__pycache__", "*.pyc", "requirements.in", "requirements.txt")


def build(into: Path, target: Target, python: str | None, root: Path = ROOT) -> None:
    """Build for `target`, with bytecode of `python`, or without any. Raises PackagesError, CalledProcessError and, for
    a file of the owner's that cannot be read, ValueError.

    What lies in `into` is whole or not there: a build that fails leaves nothing to deploy.
    """
    shutil.rmtree(into, ignore_errors=True)
    fresh = into.with_name(f"{into.name}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    _copy(root / FUNCTIONS, fresh / FUNCTIONS)
    for layer, source in LAYERS.items():
        packages = fresh / layer / "python"
        packages.mkdir(parents=True)
        for folder in (source, *BESIDE.get(layer, ())):
            install(root / folder / "requirements.txt", packages, target)
        shutil.rmtree(packages / "bin", ignore_errors=True)  # commands of the packages
        _copy(root / source, packages)
    for file in sorted((fresh / "SharedLayer" / "python").glob("*.yaml")):
        _read_ahead(file)
    if python:
        compile_in(fresh, python)
    (fresh / "template.yaml").write_text(built_template((root / "template.yaml").read_text()))
    (fresh / BUILT).write_text(json.dumps({**target._asdict(), "bytecode": python is not None}))
    fresh.rename(into)


def _copy(source: Path, into: Path) -> None:
    """Copy a folder with what its links name, but for what Lambda has no use for."""
    shutil.copytree(source, into, ignore=shutil.ignore_patterns(*_NOT_SHIPPED), dirs_exist_ok=True)


def _read_ahead(file: Path) -> None:
    """Have one of the owner's files read now, not at every cold start. Raises ValueError."""
    try:
        file.write_text(as_built(read_text(file)), encoding="utf-8")
    except YamlFileError as fault:
        where = f"'{fault.path}' " if fault.path else ""
        raise ValueError(f"{file.name}: {where}{fault.problem}. Remedy: {fault.remedy}.") from fault


def built_template(text: str) -> str:
    """The template with the built folders. `sam deploy` uploads what a function names, not what Globals does."""
    text, of_globals = re.subn(r"^    CodeUri: functions/\n", "", text, flags=re.MULTILINE)
    text, functions = re.subn(
        r"^(    Type: AWS::Serverless::Function\n(?:    [A-Z]\w+:.*\n)*?    Properties:\n)",
        rf"\1      CodeUri: {FUNCTIONS}\n",
        text,
        flags=re.MULTILINE,
    )
    if of_globals != 1 or functions == 0:
        raise ValueError("template.yaml does not name the functions' code in its Globals")
    for layer, source in LAYERS.items():
        text, layers = re.subn(rf"^(      ContentUri:) {source}/$", rf"\1 {layer}", text, flags=re.MULTILINE)
        if layers != 1:
            raise ValueError(f"template.yaml has no layer of {source}/")
    return text
