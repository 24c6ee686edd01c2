"""Builds the application as `sam build` does, but only when something has changed."""

import asyncio
import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from local.stack import webhooks
from local.stack.processes import run
from local.stack.settings import ROOT, Settings

_SOURCES = ("functions", "shared", "template.yaml", "openai_servers.yaml", "samconfig.toml", "layers")
_ADAPTER = "local/stack/webhooks.py"
_STAMP = ".digest"
_DESTINATIONS = "webhooks.json"
_LOCK_POLL_SECONDS = 0.2
_POWERTOOLS = "aws_lambda_powertools"
_POWERTOOLS_TAKEN = re.compile(rf"{_POWERTOOLS}\.(utilities|event_handler)\b")
_POWERTOOLS_NEEDED = ("jmespath_utils",)
"""Of its many utilities, what its logger needs."""


def python_of_sandboxes() -> Path:
    """The interpreter of sandboxes: this environment's own, without this environment's packages."""
    base = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")
    return base if base.exists() else Path(sys.executable).resolve()


def tool_environment(settings: Settings) -> dict[str, str]:
    """The environment of `sam`: the caller's without its AWS account and its Python, and this environment first."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "PYTHON", "SAM_"))}
    return {
        **others,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "SAM_CLI_TELEMETRY": "0",
        "__SAM_CLI_APP_DIR": str(settings.folder / "sam"),
    }


def digest(settings: Settings) -> str:
    """A digest of all that a build depends on: the files, the Python, the architecture."""
    hasher = hashlib.sha256(repr((sys.version, settings.build_parameters)).encode())
    for path in sorted(_sources()):
        hasher.update(f"{path.relative_to(ROOT)}\0{path.stat().st_mode}\0".encode())
        hasher.update(path.read_bytes())
    return hasher.hexdigest()


def _sources() -> Iterator[Path]:
    for name in (*_SOURCES, _ADAPTER):
        source = ROOT / name
        for path in [source] if source.is_file() else source.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def is_current(settings: Settings) -> bool:
    """Whether what lies in the build folder is what a build would make now."""
    stamp = settings.build / _STAMP
    return stamp.is_file() and stamp.read_text() == digest(settings)


async def build(settings: Settings) -> None:
    """Run `sam build`. Raises CommandError."""
    wanted = digest(settings)
    environment = tool_environment(settings)
    parameters = [f"{name}={value}" for name, value in settings.build_parameters.items()]
    async with _locked(settings.build):
        if is_current(settings):
            return  # another stack has built it meanwhile, and may be using it
        command = (settings.sam, "build", "--template-file", ROOT / "template.yaml", "--build-dir", settings.build)
        await run((*command, "--parameter-overrides", *parameters), environment, ROOT, settings.log("build"))
        await asyncio.to_thread(_leave_out, settings.build)
        await _compile(settings)
        await asyncio.to_thread(_adapt, settings)
        (settings.build / _STAMP).write_text(wanted)


def _leave_out(folder: Path) -> None:
    """Take away what no function uses: the embedded AWS unpacks code and layer anew for each process of a function.

    It would take a third of the time in which one starts.
    """
    for function in folder.glob("*Function"):
        own = function / _package_of(function.name)
        for package in function.iterdir() if own.is_dir() else ():
            if package != own:
                shutil.rmtree(package)
    sources = [path for name in ("functions", "shared") for path in (ROOT / name).rglob("*.py")]
    if not any(_POWERTOOLS_TAKEN.search(path.read_text(encoding="utf-8")) for path in sources):
        for part in folder.glob(f"*Layer/python/{_POWERTOOLS}/utilities/*/"):
            if part.name not in _POWERTOOLS_NEEDED:
                shutil.rmtree(part)
        for part in folder.glob(f"*Layer/python/{_POWERTOOLS}/event_handler"):
            shutil.rmtree(part)


async def _compile(settings: Settings) -> None:
    """Give layers and functions their bytecode, as `make build` does: a process would compile for half of the time in
    which it starts.
    """
    folders = [path for kind in ("Layer", "Function") for path in settings.build.glob(f"*{kind}")]
    command = (sys.executable, "-I", "-m", "compileall", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash")
    await run((*command, *folders), tool_environment(settings), settings.build, settings.log("build"))


def _package_of(function: str) -> str:
    """The package of a function: record_cost for RecordCostFunction."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", function.removesuffix("Function")).lower()


def _adapt(settings: Settings) -> None:
    """Write what is deployed: the built template, as far as the embedded AWS knows what is in it."""
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    built = yaml.load((settings.build / "template.yaml").read_bytes(), loader)  # noqa: S506  # both are safe
    template, destinations = webhooks.adapted(built)
    settings.template.write_text(yaml.dump(template, Dumper=dumper, sort_keys=False), encoding="utf-8")
    (settings.build / _DESTINATIONS).write_text(json.dumps(destinations), encoding="utf-8")


def destinations(settings: Settings) -> list[webhooks.Destination]:
    """The API destinations of what was built."""
    text = (settings.build / _DESTINATIONS).read_text(encoding="utf-8")
    return [webhooks.Destination(*each) for each in json.loads(text)]


@asynccontextmanager
async def _locked(folder: Path) -> AsyncGenerator[None]:
    """One build at a time: two stacks may share a build folder."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_POLL_SECONDS)
        yield


def task_root(settings: Settings) -> Path:
    """The folder that takes the place of /var/task of the proxy function."""
    return settings.build / "ProxyFunction"


def layer(settings: Settings) -> Path:
    """The folder that takes the place of /opt/python."""
    return settings.build / "SharedLayer" / "python"
