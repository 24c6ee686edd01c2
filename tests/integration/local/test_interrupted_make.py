"""`make run` of a script: a SIGINT that only make gets stops what make runs."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes import LISTENING

ROOT = Path(__file__).parents[3]
WAITS = """
import asyncio, os, sys
from local.stack.above import interrupted
print("waits", flush=True)
asyncio.run(asyncio.wait_for(interrupted(os.getppid()), 30))
print("was told", flush=True)
"""

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")


@pytest.mark.parametrize("before", ["@", "@cd . && exec "])
def test_what_make_runs_learns_of_a_signal_that_only_make_got(tmp_path: Path, before: str) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    (tmp_path / "Makefile").write_text(f"run:\n\t{before}{sys.executable} {tmp_path}/waits.py\n")
    command = [*LISTENING, "make", "-f", str(tmp_path / "Makefile"), "run"]
    with subprocess.Popen(
        command, cwd=ROOT, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as make:
        assert make.stdout is not None
        assert make.stdout.readline() == "waits\n"
        make.send_signal(signal.SIGINT)
        assert make.stdout.read() == "was told\n"
        assert make.wait() == -signal.SIGINT
