"""The OpenAI SDK of npm, installed from the lock file into a folder that git ignores."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from local.demo.audio import tone
from tests.e2e.harness import ROOT, WAIT_SECONDS, Client
from tests.e2e.packages import installed

NODE = Path(__file__).parent / "node"
ANSWER = "This is the demo server, not a model: it repeats what you send. Hello there, proxy"


LIBRARY = ROOT / "functions/proxy/endpoints/playground_files/vendor/resumable-fetch/resumable-fetch.js"
OLDEST_NODE = 20


def run(
    command: list[str], folder: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, check=False, cwd=folder, env=environment, capture_output=True, text=True, timeout=WAIT_SECONDS
    )


@pytest.fixture(scope="module")
def node() -> str:
    """The command `node`."""
    command = shutil.which("node")
    if command is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed on this machine")
    version = run([command, "--version"], NODE).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"node {version} is older than the SDK supports ({OLDEST_NODE})")
    return command


@pytest.fixture(scope="module")
def project(node: str) -> Path:
    """A folder with the scripts and the SDK beside them."""
    assert node
    return installed(NODE, "node")


def run_script(node: str, project: Path, client: Client, script: str) -> Any:
    """What a script of tests/e2e/node prints."""
    environment = {"OPENAI_BASE_URL": client.stack.base_url, "OPENAI_API_KEY": client.key}
    said = run([node, script], project, environment)
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


def test_chat(node: str, project: Path, client: Client):
    got = run_script(node, project, client, "chat.mjs")
    assert got["whole"] == got["streamed"] == ANSWER
    assert got["chunks"] > 20
    assert (got["usage"]["prompt_tokens"], got["usage"]["completion_tokens"]) == (4, 20)
    assert got["failed"] == [429, "rate_limit_exceeded"]
    assert got["brokenOff"] == "upstream_broken_off"
    assert got["dimensions"] == 8
    outcomes = sorted(entry["outcome"] for entry in client.wait_for_entries(5))
    assert outcomes == ["completed"] * 4 + ["failed"]


def test_other_endpoints(node: str, project: Path, client: Client):
    got = run_script(node, project, client, "endpoints.mjs")
    assert got["types"][:2] == ["response.created", "response.in_progress"]
    assert got["types"].count("response.output_text.delta") == 17
    assert got["types"][-1] == "response.completed"
    assert got["response"].endswith("Hello")
    assert got["tool"].endswith("Sunny in Paris")
    assert got["uploaded"], "the file arrived as it was sent"
    assert got["spoken"] == hashlib.sha256(tone("Hello there")).hexdigest()
    assert got["file"] == ["Grüße.bin", True]
    assert got["image"] == 64
    assert (got["heard"], got["hanging"]) == (2, True)
    assert (got["attempts"], got["requestId"]) == ("2", True)


def test_an_answer_over_a_network_that_is_cut(node: str, project: Path, client: Client):
    """Twenty cuts, one answer, one entry in the ledger; who leaves early stops the model."""
    environment = {"OPENAI_BASE_URL": client.stack.base_url, "OPENAI_API_KEY": client.key}
    said = run([node, "resumable.mjs", str(LIBRARY)], project, environment)
    assert said.returncode == 0, said.stderr
    got = json.loads(said.stdout)
    assert (got["cut"]["text"], got["left"]) == (got["whole"]["text"], 0)
    assert [call["method"] for call in got["whole"]["asked"]] == ["POST"]
    asked = [(call["method"], call["url"]) for call in got["cut"]["asked"]]
    streams = {url for _, url in asked[1:]}
    assert asked == [("POST", "/demo/v1/chat/completions"), *[("GET", *streams)] * 20]
    by_id = {f"/demo/v1/streams/{entry['sk']}": entry for entry in client.wait_for_entries(3)}
    assert len(by_id) == 3
    assert {by_id[url]["outcome"] for url in streams} == {"completed"}
    stopped = got["stopped"][-1]
    assert (stopped["method"], stopped["status"], by_id[stopped["url"]]["outcome"]) == ("DELETE", 200, "failed")


def test_messages_with_the_sdk_of_anthropic(node: str, project: Path, client: Client):
    environment = {"ANTHROPIC_BASE_URL": f"{client.stack.url}demo", "ANTHROPIC_API_KEY": client.key}
    said = run([node, "messages.mjs"], project, environment)
    assert said.returncode == 0, said.stderr
    got = json.loads(said.stdout)
    assert got["whole"] == got["streamed"] == ANSWER
    assert got["pieces"] > 10
    assert (got["usage"], got["counted"]) == ([4, 20], 4)
    assert (got["failed"], got["refused"]) == ([429, "rate_limit_error"], [401, "authentication_error"])
    assert got["brokenOff"] == "api_error"
    outcomes = sorted(entry["outcome"] for entry in client.wait_for_entries(4))
    assert outcomes == ["completed"] * 3 + ["failed"]
