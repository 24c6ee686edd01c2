"""One client, as it comes: installed into an environment of its own, run before the proxy, and removed again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.clients.known import PROBES, Client
from tests.clients.page import DIRECTLY, SECONDS, Result, Tried
from tests.clients.stack import Stack

_INSTALL_SECONDS = 420
_HAS_NO_SUCH_THING = 3
"""The exit status of a probe whose client does not have what is asked for."""
_ANSWERED, _ORDERED = ("This is the demo server", "Rain in Paris"), ("as ordered.",)
_CALLED = ("Rain in Paris", "Process exited with code")
"""What tools say: the one of the probes, a file that is read, and a command that is no program."""
_SHOWN = 300


class _Way(NamedTuple):
    """One thing that a client is asked for: the model, the probe's word, and a text of which one has to be seen."""

    model: str
    word: str
    expected: Sequence[str]


WAYS = {
    "chat": _Way("demo", "chat", _ANSWERED),
    "stream": _Way("demo", "stream", _ANSWERED),
    "tool": _Way("demo", "tool", _CALLED),
    "400": _Way("demo-error-400", "chat", _ORDERED),
    "500": _Way("demo-error-500", "chat", _ORDERED),
    "429": _Way("demo-error-429", "chat", _ORDERED),
    f"500{DIRECTLY}": _Way("demo-error-500", "chat", _ORDERED),
    f"429{DIRECTLY}": _Way("demo-error-429", "chat", _ORDERED),
}


class _Done(NamedTuple):
    """How a program ended, and all that it wrote. Without a status it had to be stopped."""

    status: int | None
    output: str


def tried(client: Client, running: Stack, folder: Path) -> Result:
    """Install a client below `folder`, let it ask in every way, remove it."""
    today = datetime.now(UTC).date().isoformat()
    home = folder / re.sub(r"\W+", "-", client.name.lower()).strip("-")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    try:
        shutil.copytree(PROBES, home / "probes")
        version, reason = _installed(client, home)
        if reason:
            return Result("", today, reason, {})
        return Result(version, today, "", {name: _asked(client, home, running, name) for name in WAYS})
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _installed(client: Client, home: Path) -> tuple[str, str]:
    """The version of its first package; or why it does not install, in one line."""
    uv, python = str(Path(sys.executable).parent / "uv"), str(home / "venv" / "bin" / "python")
    if client.from_npm:
        commands = [["npm", "install", "--silent", "--no-audit", "--no-fund", *client.packages]]
    else:
        install = [uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, *client.packages]
        commands = [[uv, "venv", "--quiet", "--python", sys.executable, str(home / "venv")], install]
    for command in commands:
        done = _run(command, home, _INSTALL_SECONDS, {**os.environ, "HOME": str(Path.home())})
        if done.status is None:
            return "", f"it does not install within {_INSTALL_SECONDS} s"
        if done.status:
            lines = done.output.strip().replace(str(home), "").splitlines() or ["without a word"]
            return "", f"it does not install: {lines[-1][:_SHOWN]}"
    name = client.packages[0].partition("[")[0]
    if client.from_npm:
        return str(json.loads((home / "node_modules" / name / "package.json").read_text())["version"]), ""
    listed = json.loads(_run([uv, "pip", "list", "--quiet", "--format", "json", "--python", python], home, 60).output)
    return next(each["version"] for each in listed if each["name"] == name), ""


def _asked(client: Client, home: Path, running: Stack, name: str) -> Tried:
    """What came of asking in the way of that name; what was not expected is shown to whoever runs this."""
    way, before = WAYS[name], running.calls
    directly = name.endswith(DIRECTLY)
    runner = {"python": str(home / "venv" / "bin" / "python"), "js": "node", "sh": "sh"}[client.language]
    command = [runner, str(home / "probes" / client.probe), way.model, way.word]
    environ = {
        "PATH": f"{home / 'venv' / 'bin'}:{os.environ['PATH']}",
        "HOME": str(home),
        "OPENAI_BASE_URL": running.server_url if directly else running.base_url,
        "OPENAI_API_KEY": running.server_key if directly else running.key,
        "NO_PROXY": "*",
        **client.environ,
    }
    done = _run(command, home, SECONDS, environ)
    words = " ".join(done.output.split())
    if done.status == _HAS_NO_SUCH_THING:
        return Tried("none", 0)
    seen = any(text in words for text in way.expected)
    if not seen:
        sys.stderr.write(f"{client.name}: {name}: {done.status}: …{words[-_SHOWN:]}\n")
    verdict = "unfinished" if done.status is None else "yes" if seen else "no"
    return Tried(verdict, running.calls - before)


def _run(command: Sequence[str], folder: Path, seconds: float, environ: Mapping[str, str] | None = None) -> _Done:
    """Run a program in a session of its own: what it has begun is stopped with it."""
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
            return _Done(process.returncode, output)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return _Done(None, process.communicate()[0])
        except BaseException:  # whoever stops this run stops what it has begun
            os.killpg(process.pid, signal.SIGKILL)
            raise
