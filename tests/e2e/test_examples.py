"""The examples as a user runs them: in a shell, with nothing but OPENAI_BASE_URL and OPENAI_API_KEY.

What they need is installed once: Python's packages by `make`, those of npm from each lock file when it has changed.
"""

import json
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from openai_proxy.client_keys import hash_client_key, read_attributes

from tests.e2e.harness import ROOT, Client
from tests.e2e.packages import installed
from tests.e2e.test_node import OLDEST_NODE, run

EXAMPLES = ROOT / "examples"
PYTHON = ROOT / ".venv-examples/bin/python"
BEGINNING = "This is the demo server"
MESSAGES = [{"role": "user", "content": "Hello"}]
ANSWER = f"{BEGINNING}, not a model: it repeats what you send. Hello there, proxy"


@dataclass(frozen=True)
class Example:
    """A script, and what its user sees: `tokens` at its end, `code` or only the message of a broken stream."""

    file: str
    tokens: bool = True
    broken_off: str = "upstream_broken_off: The server 'demo' broke off the connection."

    def run(self, client: Client, question: str, model: str = "demo") -> CompletedProcess[str]:
        """Run it."""
        file = EXAMPLES / self.file
        command = [_python(), file] if file.suffix == ".py" else [_node(), _installed(file.parent) / file.name]
        return run([*map(str, command), question], ROOT, environment(client) | {"OPENAI_MODEL": model})


SCRIPTS = {
    "node": Example("node/chat.mjs"),
    "python": Example("python/chat.py"),
    "vercel-ai-sdk": Example("vercel-ai-sdk/chat.mjs", broken_off="The server 'demo' broke off the connection."),
    "langchain": Example("langchain/chat.py", tokens=False),
}
scripts = pytest.mark.parametrize("example", SCRIPTS.values(), ids=SCRIPTS)


def environment(client: Client) -> dict[str, str]:
    """A user's, with nothing of the caller's own but where commands are."""
    return {"PATH": os.environ["PATH"], "OPENAI_BASE_URL": client.stack.base_url, "OPENAI_API_KEY": client.key}


def _python() -> str:
    if not PYTHON.exists():
        pytest.skip("the examples' packages are not installed: make .venv-examples/ready")
    return str(PYTHON)


def _node() -> str:
    command = shutil.which("node")
    if command is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed on this machine")
    version = run([command, "--version"], ROOT).stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE:
        pytest.skip(f"node {version} is older than the SDKs support ({OLDEST_NODE})")
    return command


def _installed(example: Path) -> Path:
    """A copy of an example with its packages beside it."""
    return installed(example, f"examples/{example.name}")


@scripts
def test_a_streamed_answer(example: Example, client: Client):
    said = example.run(client, "Hello there, proxy")

    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith(ANSWER)
    assert example.tokens == said.stdout.endswith("\n4 + 20 tokens\n")
    [entry] = client.wait_for_entries(1)
    assert (entry["outcome"], entry["stream"], entry["chunks"] > 20) == ("completed", True, True)


@scripts
def test_a_refusal(example: Example, client: Client):
    said = example.run(client, "Hello", model="demo-error-400")

    assert (said.returncode, said.stdout) == (1, "")
    assert "The demo server answers 400, as ordered." in said.stderr
    assert "Traceback" not in said.stderr


@scripts
def test_a_stream_that_breaks_off(example: Example, client: Client):
    said = example.run(client, "Hello", model="demo-cut")

    assert (said.returncode, said.stdout) == (1, BEGINNING)
    assert example.broken_off in said.stderr
    assert "Traceback" not in said.stderr


def curl(client: Client, question: str, model: str = "demo") -> CompletedProcess[str]:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed on this machine")
    command = ["sh", str(EXAMPLES / "curl/chat.sh"), question]
    return run(command, ROOT, environment(client) | {"OPENAI_MODEL": model})


def test_curl(client: Client):
    said = curl(client, 'Say "hello"\nto the proxy')

    *events, end = [line.removeprefix("data: ") for line in said.stdout.splitlines() if line.startswith("data: ")]
    pieces = [choice["delta"].get("content") for event in events for choice in json.loads(event)["choices"]]
    assert (said.returncode, end) == (0, "[DONE]")
    assert "".join(filter(None, pieces)).endswith('Say "hello"\nto the proxy')


def test_curl_refused(client: Client):
    said = curl(client, "Hello", model="demo-error-400")

    assert said.returncode == 22
    assert json.loads(said.stdout)["error"]["message"] == "The demo server answers 400, as ordered."


def test_the_notebook(client: Client, tmp_path: Path):
    python, copy = Path(_python()), tmp_path / "chat.ipynb"
    shutil.copy(EXAMPLES / "notebook/chat.ipynb", copy)
    folders = {name: str(tmp_path / name) for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")}

    # The cell that installs is tagged `skip-execution`, which this obeys and a notebook's reader does not.
    said = run(
        [str(python.with_name("jupyter-execute")), "--inplace", str(copy)], tmp_path, environment(client) | folders
    )

    assert said.returncode == 0, said.stderr
    printed = ["".join(output.get("text", ())) for cell in cells(copy) for output in cell.get("outputs", ())]
    assert "".join(printed).startswith(f"{BEGINNING}, not a model: it repeats what you send. Tell me about proxies\n")
    assert printed[-1].count(BEGINNING) == 3
    assert len(client.wait_for_entries(4)) == 4


def test_the_notebook_is_kept_without_outputs():
    for cell in cells(EXAMPLES / "notebook/chat.ipynb"):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def cells(notebook: Path) -> list[dict[str, Any]]:
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def test_the_module_for_browsers(client: Client):
    script = ROOT / "tests/e2e/node/browser.mjs"
    said = run([_node(), str(script), str(EXAMPLES / "browser/chat.mjs")], ROOT, environment(client))

    assert said.returncode == 0, said.stderr
    got = json.loads(said.stdout)
    assert "".join(got["whole"]["pieces"]) == f"{BEGINNING}, not a model: it repeats what you send. Grüße, proxy"
    assert len(got["whole"]["pieces"]) > 15
    throttled = got["throttled"]
    assert (throttled["ours"], throttled["status"], throttled["code"]) == (True, 429, "rate_limit_exceeded")
    assert throttled["retryAfter"] == 1
    assert (got["brokenOff"]["code"], "".join(got["brokenOff"]["pieces"])) == ("upstream_broken_off", BEGINNING)
    assert (got["stopped"]["name"], len(got["stopped"]["pieces"])) == ("AbortError", 2)


def test_keys_for_a_frontend(client: Client):
    stack = client.stack
    command = [sys.executable, str(EXAMPLES / "frontend-keys/issue_key.py"), f"user-of-{client.id}"]
    issued = [run(command, ROOT, stack.environment | {"PATH": os.environ["PATH"]}) for _ in range(2)]
    assert [each.stderr for each in issued] == ["", ""]
    keys = [json.loads(each.stdout)["key"] for each in issued]

    for key in keys:
        answer = Client(stack, client.id, key).post("demo/v1/chat/completions", json={"messages": MESSAGES})
        assert (answer.status_code, answer.headers["x-ratelimit-limit-requests"]) == (200, "20")
    other = Client(stack, client.id, keys[0]).post(
        "demo/v1/chat/completions", json={"model": "o3", "messages": MESSAGES}
    )
    assert (other.status_code, other.json()["error"]["code"]) == (403, "model_not_allowed")

    items = [stack.table("KEYS_TABLE").get_item(Key={"key_hash": hash_client_key(key)})["Item"] for key in keys]
    assert [read_attributes(item)[1] for item in items] == [[], []]
    assert items[0]["limits_id"] == items[1]["limits_id"]
    assert time.time() < int(items[0]["expires_at"]) <= time.time() + 900


@pytest.mark.parametrize("lock", [*EXAMPLES.glob("*/package-lock.json")], ids=lambda path: path.parent.name)
def test_packages_are_locked_by_hash_and_name_no_address(lock: Path):
    packages: dict[str, dict[str, Any]] = json.loads(lock.read_text())["packages"]

    locked = {name: package for name, package in packages.items() if name}
    assert locked
    assert all(package["integrity"].startswith("sha512-") for package in locked.values())
    assert not [name for name, package in locked.items() if "resolved" in package]


def test_the_list_of_examples_is_whole():
    listed = (EXAMPLES / "README.md").read_text()

    assert {folder.name for folder in EXAMPLES.iterdir() if folder.is_dir()} == {
        folder.name for folder in EXAMPLES.iterdir() if f"]({folder.name}/)" in listed
    }
