"""Child processes of the local stack: none outlives it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from local.stack.settings import ROOT

SECONDS = 60.0
PARENT = """
import asyncio, os, sys
from pathlib import Path
from local.http import loop
from local.stack.processes import Child

async def main():
    folder = Path(sys.argv[1])
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = await Child.start(command, dict(os.environ), folder, folder / "log")
    print(child.pid, flush=True)
    await child.exited

loop.run(main())
"""


def runs(pid: int) -> bool:
    """Whether a process is there. One that has ended may wait for whoever collects it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


SLOW_SETPRIV = """#!/bin/sh
parent=$PPID
while [ -e "/proc/$parent" ]; do sleep 0.02; done
exec {setpriv} "$@"
"""
"""Asks the kernel to be told of its parent's end when the parent has gone already."""


@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv of util-linux")
@pytest.mark.parametrize("is_slow", [False, True], ids=["running", "starting"])
def test_a_stack_that_is_killed_leaves_no_process(tmp_path: Path, is_slow: bool):
    path = os.environ["PATH"]
    if is_slow:
        slow = tmp_path / "setpriv"
        slow.write_text(SLOW_SETPRIV.format(setpriv=shutil.which("setpriv")))
        slow.chmod(0o755)
        path = f"{tmp_path}:{path}"
    command, environment = [sys.executable, "-c", PARENT, tmp_path], {**os.environ, "PATH": path}
    parent = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert runs(child)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + SECONDS
    try:
        while runs(child):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        if runs(child):
            os.kill(child, signal.SIGKILL)
