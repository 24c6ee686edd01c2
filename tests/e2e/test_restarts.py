"""How the local stack comes and goes: Ctrl-C, kept state, an end that it did not choose. Each test has its own."""

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.command import openai_proxy
from tests.e2e.harness import ROOT, WAIT_SECONDS, LocalStack, new_client, processes, wait_for

StartStack = Callable[..., LocalStack]
GUARDS = "guards: {loop: {rule: repeat, times: 3, within: 10m, act: disable, for: 1h}}"
AT_ONCE = ("--parameters", "AuthorizerCacheSeconds=1")


def test_state_survives_a_restart_and_nothing_else_is_left_behind(start_stack: StartStack, tmp_path: Path):
    first = start_stack(tmp_path, is_copy=True)
    client = new_client(first)
    assert client.openai().chat.completions.create(model="demo", messages=[{"role": "user", "content": "x"}])
    (entry,) = client.wait_for_entries(1)
    stop_and_look(first, signal.SIGTERM, {"state"})

    again = start_stack(tmp_path, "--keep-state", ports=first.ports, in_background=True)
    assert f"`kill {again.process.pid}`" in again.said
    assert f"`kill {first.process.pid}`" not in first.said
    assert again.key == first.key
    assert "Deploying" not in again.said
    client.stack = again
    assert client.entries() == [entry]
    assert client.openai().chat.completions.create(model="demo", messages=[{"role": "user", "content": "x"}])
    assert len(client.wait_for_entries(2)) == 2
    client.close()
    stop_and_look(again, signal.SIGINT, {"state"})
    assert "client-key" in {path.name for path in (tmp_path / "state").iterdir()}


def stop_and_look(stack: LocalStack, number: signal.Signals, kept: set[str]) -> None:
    """Stop a stack in the middle of an answer: nothing of it runs or listens, and its folder has logs and `kept`."""
    client = new_client(stack)
    hanging = client.openai().chat.completions.create(
        model="demo", messages=[{"role": "user", "content": "x"}], stream=True, extra_body={"demo": {"hang_after": 2}}
    )
    assert next(iter(hanging))
    pids = stack.children()
    assert len(pids) >= 4, "MiniStack, its worker, the demo server and a sandbox"
    assert stack.stop(number) == 0
    client.close()
    assert not [process for process in processes() if process.pid in pids]
    for port in stack.ports.values():
        socket.create_server(("127.0.0.1", port)).close()
    assert {path.name for path in stack.folder.iterdir()} - kept <= {"lock", "logs", "pycache", "sam"}
    assert stack.said.rstrip().endswith("Stopped.")


def guards(stack: LocalStack, *arguments: str) -> Any:
    return json.loads(openai_proxy(stack, "guards", *arguments, "--json"))


def test_guards_beside_the_servers_act_until_they_are_undone_and_ministack_that_dies_ends_the_stack(
    start_stack: StartStack, tmp_path: Path
):
    (tmp_path / "servers.yaml").write_text((ROOT / "openai_servers.yaml").read_text())
    (tmp_path / "guards.yaml").write_text(GUARDS)
    stack = start_stack(tmp_path / "stack", "--servers-file", str(tmp_path / "servers.yaml"), *AT_ONCE)
    looping, other = new_client(stack), new_client(stack)
    question: dict[str, Any] = {"model": "demo", "messages": [{"role": "user", "content": "Again"}]}

    def asked() -> httpx.Response:
        return looping.post("demo/v1/chat/completions", json=question)

    assert [asked().status_code for _ in range(3)] == [200] * 3
    refused = wait_for(lambda: answer if (answer := asked()).status_code == 401 else None, "the guard")
    assert refused
    assert refused.json()["error"]["code"] == "client_paused"
    assert other.post("demo/v1/chat/completions", json=question).status_code == 200
    looping.wait_for_entries(3)
    done = {(act["id"], act["client_id"], act["act"]) for act in guards(stack, "list")}
    assert done == {(act["id"], act["client_id"], act["act"]) for act in guards(stack, "replay", "--last", "2d")}
    assert {each[1:] for each in done} == {(looping.id, "disable")}
    assert all(guards(stack, "undo", act_id)["undone"] for act_id, *_ in done)
    assert asked().status_code == 200, "a no is not remembered"
    (pid,) = stack.children("bin/ministack")
    os.kill(pid, signal.SIGKILL)
    said, _ = stack.process.communicate(timeout=WAIT_SECONDS)
    assert stack.process.returncode == 2
    assert "MiniStack ended (status -9)" in said
    with pytest.raises(httpx.ConnectError):
        httpx.get(stack.url, timeout=WAIT_SECONDS)
