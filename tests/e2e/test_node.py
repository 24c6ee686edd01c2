"""The OpenAI SDK of npm, installed from the lock file into a folder that git ignores."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT, Client

NODE = Path(__file__).parent / "node"
ANSWER = "This is the demo server, not a model: it repeats what you send. Hello there, proxy"


@pytest.fixture(scope="module")
def project() -> Path:
    """A folder with chat.mjs and the SDK beside it."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed on this machine")
    folder = ROOT / ".local/e2e/node"
    folder.mkdir(parents=True, exist_ok=True)
    for file in NODE.iterdir():
        shutil.copy(file, folder)
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert installed.returncode == 0, installed.stderr
    return folder


def test_sdk_of_npm(project: Path, client: Client):
    environment = {"OPENAI_BASE_URL": client.stack.base_url, "OPENAI_API_KEY": client.key}
    node = shutil.which("node")
    assert node is not None
    said = subprocess.run([node, "chat.mjs"], cwd=project, env=environment, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    got = json.loads(said.stdout)
    assert got["whole"] == got["streamed"] == ANSWER
    assert got["chunks"] > 20
    assert (got["usage"]["prompt_tokens"], got["usage"]["completion_tokens"]) == (4, 20)
    assert got["failed"] == [429, "rate_limit_exceeded"]
    assert got["brokenOff"] == "upstream_broken_off"
    assert got["dimensions"] == 8
    outcomes = sorted(entry["outcome"] for entry in client.wait_for_entries(5))
    assert outcomes == ["completed"] * 4 + ["failed"]
