"""The running local stack: what it has printed, taken ports, what it listens to, what the doctor says of it."""

import contextlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.ports import free_ports
from tests.e2e.command import openai_proxy
from tests.e2e.harness import ROOT, WAIT_SECONDS, LocalStack, launch, wait_for

NAMES: tuple[str, ...] = ("PORT", "MINISTACK_PORT", "DEMO_PORT")


def test_taken_port_is_named_with_the_remedy(stack: LocalStack, tmp_path: Path):
    for variable in NAMES:
        ports = dict(zip(NAMES, free_ports(3), strict=True))
        second = launch(tmp_path, {**ports, variable: stack.ports[variable]})
        said, _ = second.process.communicate(timeout=WAIT_SECONDS)
        assert second.process.returncode == 2
        assert f"Port {stack.ports[variable]} is in use" in said
        assert f"make run {variable}=" in said


def printed_line(stack: LocalStack, begin: str, end: str) -> str:
    lines = [line.strip() for line in stack.said.splitlines()]
    (line,) = [line for line in lines if line.startswith(begin) and line.endswith(end)]
    return line


def pasted(line: str) -> str:
    return subprocess.run(["sh", "-c", line], check=True, capture_output=True, text=True, cwd=ROOT).stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed on this machine")
def test_printed_curl_streams_when_it_is_pasted(stack: LocalStack):
    streamed = pasted(printed_line(stack, "curl -N ", ""))
    assert streamed.startswith("data: {")
    assert streamed.endswith("data: [DONE]\n\n")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed on this machine")
def test_the_readmes_curl_streams_when_it_is_pasted(stack: LocalStack):
    (block,) = [block for block in (ROOT / "README.md").read_text().split("```") if "\ncurl -N " in block]
    streamed = pasted(block.removeprefix("sh\n").replace(". .local/env", f". {stack.folder / 'env'}"))
    assert streamed.startswith("data: {")
    assert streamed.endswith("data: [DONE]\n\n")


def test_printed_command_shows_the_cost(stack: LocalStack):
    headers = {"authorization": f"Bearer {stack.key}"}
    body = {"model": "printed", "messages": [{"role": "user", "content": "Hello"}]}
    assert (
        httpx.post(f"{stack.base_url}/chat/completions", headers=headers, json=body, timeout=WAIT_SECONDS).status_code
        == 200
    )
    command = printed_line(stack, ". ", " costs")
    assert "0.00" in wait_for(lambda: said if "printed" in (said := pasted(command)) else "", "the request's cost")


def test_the_command_asks_the_servers_of_a_running_stack(stack: LocalStack):
    """Directly, and through the proxy's own sign-in."""
    command = f". {stack.folder}/env; {sys.executable} -m console servers check {stack.folder}/openai_servers.yaml"
    for how in ("--live", "--stack"):
        (line,) = pasted(f"{command} {how} --server demo").splitlines()[2:]
        server, reached, signed_in, models, *_ = line.split()
        assert (server, reached, signed_in) == ("demo", "yes", "yes")
        assert int(models) >= 1


def test_the_doctor_says_what_to_do_on_a_running_stack(stack: LocalStack):
    """Whatever other tests have left: everything is looked at, and a dead letter is found."""
    url = stack.outputs["StoreResponseDeadLetterQueueUrl"]

    def looked() -> dict[str, Any]:
        report = json.loads(openai_proxy(stack, "doctor", "--json", exits=None))
        return {f"{each['area']} {each['subject']}": each for each in report["findings"]}

    def whole() -> dict[str, Any] | None:
        """What was looked at; None where a busy emulator did not answer in time."""
        found = looked()
        return None if any("timeout on endpoint" in each["says"] for each in found.values()) else found

    before = wait_for(whole, "an answer to each question of the doctor")
    assert before
    assert {before[f"functions {name}"]["state"] for name in ("Proxy", "Authorizer", "RecordCost")} == {"ok"}
    assert before["quotas EventBridge PutEvents"]["state"] == "unknown"
    assert [name for name, each in before.items() if each["state"] == "unread"] == []

    stack.aws("sqs").send_message(QueueUrl=url, MessageBody="{}")
    found = looked()["dead letters StoreResponse"]
    assert found["state"] == "todo"
    assert "openai-proxy events redrive store-response" in found["remedy"]
    stack.aws("sqs").purge_queue(QueueUrl=url)


def test_folder_serves_one_stack(stack: LocalStack):
    ports = dict(zip(NAMES, free_ports(3), strict=True))
    second = launch(stack.folder, ports)
    said, _ = second.process.communicate(timeout=WAIT_SECONDS)
    assert second.process.returncode == 2
    assert "Another local stack runs" in said
    assert (stack.folder / "env").exists(), "the running one keeps its files"


def names_of_open_files(pid: str) -> list[str]:
    """The files that are open in a process; none of a process that has ended."""
    names: list[str] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for link in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # closed meanwhile
                names.append(link.readlink().name)
    return names


def test_only_this_machine_is_served(stack: LocalStack):
    pids = {str(pid) for pid in [stack.process.pid, *stack.children()]}
    listening: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not Path(table).exists():
            pytest.skip("this system does not list its sockets in /proc")
        rows = [line.split() for line in Path(table).read_text().splitlines()[1:]]
        inodes = {row[9]: row[1] for row in rows if row[3] == "0A"}
        for pid in pids:
            for name in names_of_open_files(pid):
                inode = name.removeprefix("socket:[").removesuffix("]")
                listening |= {inodes[inode]} if inode in inodes else set()
    assert len(listening) >= 3
    assert all(address.startswith("0100007F:") for address in listening), "only 127.0.0.1"
