"""`make clients`: client libraries as they come, each in an environment of its own; what ran becomes a table.

    python -m tests.clients [name ...]

Each client asks once, asks for a stream, and asks a server that always fails; the calls that the server then gets are
counted. Its environment is made below `.local/clients`, and removed afterwards. What comes of each is written down
beside
this, and docs/clients.md gets the table of all that is written down.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.clients.page import CLIENTS, PROBES, ROOT, Client, Result, keep, row_of
from tests.clients.stack import KEY, Stack, stack

WORK = ROOT / ".local" / "clients"
FAILS = "demo-error-500"
_INSTALL_SECONDS, _PROBE_SECONDS = 420, 120


def tried(client: Client, running: Stack) -> Result:
    """Install a client, let it ask, remove it. Raises CalledProcessError or TimeoutExpired if it does not install."""
    home = WORK / re.sub(r"\W+", "-", client.name.lower()).strip("-")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    try:
        version = _install(client, home)
        answers: list[str] = []
        calls: list[int] = []
        for model, way in (("demo", "chat"), ("demo", "stream"), (FAILS, "chat")):
            before = running.calls
            answers.append(_asked(client, home, running.base_url, model, way))
            calls.append(running.calls - before)
        return Result(version, answers[0], answers[1], calls)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _install(client: Client, home: Path) -> str:
    """The version of the first package."""
    if client.is_node:
        shutil.copy(PROBES / client.probe, home)
        _run(["npm", "install", "--silent", "--no-audit", "--no-fund", *client.packages], home, _INSTALL_SECONDS)
        document = json.loads((home / "node_modules" / client.packages[0] / "package.json").read_text())
        return str(document["version"])
    _run([sys.executable, "-m", "venv", str(home / "venv")], home, _INSTALL_SECONDS)
    pip = [str(home / "venv" / "bin" / "python"), "-m", "pip"]
    _run(
        [*pip, "install", "-q", "--no-compile", "--disable-pip-version-check", *client.packages], home, _INSTALL_SECONDS
    )
    name = client.packages[0].partition("[")[0]
    shown = _run([*pip, "show", "--disable-pip-version-check", name], home, _PROBE_SECONDS)
    return re.findall(r"^Version: (\S+)", shown, re.MULTILINE)[0]


def _asked(client: Client, home: Path, base_url: str, model: str, way: str) -> str:
    """What a probe prints; of one that fails "", and its last line for whoever runs this."""
    runner = {".py": str(home / "venv" / "bin" / "python"), ".mjs": "node", ".sh": "sh"}[Path(client.probe).suffix]
    probe = home / client.probe if client.is_node else PROBES / client.probe
    bin_folder = str(home / "venv" / "bin")
    environ = {
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "HOME": str(home),
        "OPENAI_BASE_URL": base_url,
        "OPENAI_API_KEY": KEY,
        "NO_PROXY": "*",
    }
    try:
        return _run([runner, str(probe), model, way], home, _PROBE_SECONDS, environ).strip()
    except subprocess.CalledProcessError as error:
        if model != FAILS:
            sys.stderr.write(f"{client.name}: {way}: {(error.stderr or '').strip()[-300:]}\n")
        return ""


def _run(command: Sequence[str], folder: Path, seconds: float, environ: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=folder, env=environ, timeout=seconds, check=True, capture_output=True, text=True)
    return done.stdout


def main() -> None:
    """Try the clients that are named, or all, and write down what comes of each."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("names", nargs="*", help="clients to try; all without one")
    names = parser.parse_args().names
    by_name = {client.name: client for client in CLIENTS}
    chosen = [by_name[name] for name in names] if names else CLIENTS
    with stack() as running:
        for client in chosen:
            try:
                result = tried(client, running)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                sys.stderr.write(f"{client.name}: {str(error)[-300:]}\n")
                result = Result("", "", "", [])
            keep(client, result)
            sys.stderr.write(row_of(client, result))


if __name__ == "__main__":
    main()
