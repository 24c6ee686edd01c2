"""Reads the data of genai-prices, as its package or its repository holds them.

Its one rule: the source is read, never run. The package keeps its data as Python; its syntax tree is read like a
document.
"""

import ast
import importlib.metadata
import json
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from console.errors import ConsoleError, file_error

PACKAGE = "genai-prices"
_DATA, _LICENCE = "genai_prices/data.py", "licenses/LICENSE"


@dataclass(frozen=True, slots=True)
class Source:
    """The providers as the source describes them, its version, and its licence if it comes with one."""

    providers: list[dict[str, Any]]
    version: str
    licence: str | None = None


def downloaded(version: str | None) -> Source:
    """The newest package, or one version of it, fetched with pip from the index that pip is set up for."""
    wanted = f"{PACKAGE}=={version}" if version else PACKAGE
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--quiet"]
        command = [*pip, "--no-deps", "--only-binary", ":all:", "--dest", folder, wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise ConsoleError(
                f"pip cannot download {wanted}: {done.stderr.strip()[-300:]}\n"
                "Remedy: name a wheel or a data.json with --from, or use --installed."
            )
        return read_file(wheels[0], None)


def installed() -> Source:
    """The package that is installed beside this command."""
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError as error:
        raise ConsoleError(f"{PACKAGE} is not installed here. Remedy: leave out --installed to download it.") from error
    files = {str(file): Path(str(file.locate())) for file in package.files or ()}
    licence = next((path.read_text("utf-8") for name, path in files.items() if name.endswith(_LICENCE)), None)
    return Source(providers_in_python(files[_DATA].read_text("utf-8")), package.version, licence)


def read_file(path: Path, version: str | None) -> Source:
    """A wheel of the package, which knows its version, or the data.json of its repository, which does not."""
    try:
        if zipfile.is_zipfile(path):
            return _wheel(path)
        providers: Any = json.loads(path.read_text("utf-8"), parse_float=Decimal)
    except OSError as error:
        raise file_error(path, error, "read") from error
    except (KeyError, StopIteration, ValueError, SyntaxError) as error:
        remedy = "Remedy: name its wheel, or the data.json of its repository."
        raise ConsoleError(f"{path}: holds no prices of {PACKAGE} that can be read. {remedy}") from error
    if not isinstance(providers, list):
        raise ConsoleError(f"{path}: is no list of providers. Remedy: name the data.json of {PACKAGE}'s repository.")
    if not version:
        raise ConsoleError(f"{path}: does not say its version. Remedy: say it with --version, such as the commit's.")
    return Source(cast("list[dict[str, Any]]", providers), version)


def _wheel(path: Path) -> Source:
    with zipfile.ZipFile(path) as wheel:
        names = wheel.namelist()
        licence = next((name for name in names if name.endswith(_LICENCE)), None)
        metadata = wheel.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
        version = next(line.split(": ")[1] for line in metadata.splitlines() if line.startswith("Version: "))
        providers = providers_in_python(wheel.read(_DATA).decode())
        return Source(providers, version, wheel.read(licence).decode() if licence else None)


def providers_in_python(text: str) -> list[dict[str, Any]]:
    """What the package's data.py assigns to `providers`, in the form of data.json. Raises ValueError."""
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.AnnAssign) and ast.unparse(statement.target) == "providers" and statement.value:
            return _value(statement.value)
    raise ValueError("providers are not assigned")


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant():
            return node.value
        case ast.List():
            return [_value(item) for item in node.elts]
        case ast.Dict():
            return {_value(key): _value(item) for key, item in zip(node.keys, node.values, strict=True) if key}
        case ast.Attribute(attr="UTC"):
            return None
        case ast.Call():
            return _made(ast.unparse(node.func), [_value(each) for each in node.args], _keywords(node))
        case _:
            raise ValueError(f"line {node.lineno}: {type(node).__name__} is not data")


def _keywords(call: ast.Call) -> dict[str, Any]:
    return {(each.arg or "").rstrip("_"): _value(each.value) for each in call.keywords}


def _made(name: str, positional: list[Any], keywords: dict[str, Any]) -> Any:
    match name:
        case "Decimal":
            return Decimal(positional[0])
        case "datetime.date":
            return date(*positional).isoformat()
        case "datetime.time":
            return time(*positional).isoformat()
        case _ if positional:
            raise ValueError(f"{name} has values without names")
        case _:
            return keywords
