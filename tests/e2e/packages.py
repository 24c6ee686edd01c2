"""Packages of npm that tests need: installed once for each lock file, into a folder that git ignores.

Its one rule: tests that run side by side share an installation, and none sees half of one.
"""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT, WAIT_SECONDS

NO_NETWORK = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH")


def installed(project: Path, name: str) -> Path:
    """A copy of the files of `project` in `.local/e2e/{name}`, with the packages of its lock file beside them.

    Skips the test where npm is missing or cannot reach its registry.
    """
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed on this machine")
    folder = ROOT / ".local/e2e" / name
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for file in project.glob("*.*"):
            copy = folder / file.name
            if not copy.exists() or copy.read_bytes() != file.read_bytes():  # another test may be running it
                shutil.copy(file, copy)
        wanted, done = (project / "package-lock.json").read_text(), folder / "node_modules/.installed"
        if not done.exists() or done.read_text() != wanted:
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            said = subprocess.run(
                command, check=False, cwd=folder, capture_output=True, text=True, timeout=WAIT_SECONDS
            )
            if any(code in said.stderr for code in NO_NETWORK):
                pytest.skip("npm cannot reach its registry from this machine")
            assert said.returncode == 0, said.stderr
            done.write_text(wanted)
    return folder
