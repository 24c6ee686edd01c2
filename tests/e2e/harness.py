"""Starting, asking and stopping a local stack: what the tests of this suite share."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, TypeVar

import boto3
import httpx
import pytest
from boto3.dynamodb.conditions import Key
from openai_proxy.client_keys import hash_client_key, new_client_key

from bench.ports import free_ports
from tests.fakes import LISTENING
from tests.sdks import openai

ROOT = Path(__file__).parents[2]
WAIT_SECONDS = 300.0
"""Longer than a queue hides a message whose consumer has failed (240 s). A wait that ends when it may costs nothing."""
_AUTHORIZERS = min(os.cpu_count() or 1, 4)
"""So many questions at once does a stack let through to its authorizer."""

Found = TypeVar("Found")

_BOTO3: Any = boto3  # every new client's type is an overload over all services of AWS


def wait_for(look: Callable[[], Found], what: str) -> Found:
    """The first result of `look` that is true. Fails when there is none in time."""
    deadline, pause = time.monotonic() + WAIT_SECONDS, 0.05
    while time.monotonic() < deadline:
        if result := look():
            return result
        time.sleep(pause)
        pause = min(0.5, 1.3 * pause)  # who looks often takes the time of those for whom it waits
    raise AssertionError(f"waited {WAIT_SECONDS:.0f} s in vain for {what}")


@dataclass
class LocalStack:
    """A running `python -m local run`. `environment` is what its file to source exports."""

    process: subprocess.Popen[str]
    folder: Path
    ports: dict[str, int]
    said: str = ""
    environment: dict[str, str] = field(default_factory=dict[str, str])
    _made: dict[str, Any] = field(default_factory=dict[str, Any])

    @property
    def url(self) -> str:
        """The function URL."""
        return self.environment["FUNCTION_URL"]

    @property
    def base_url(self) -> str:
        """The demo server behind the proxy, as an OpenAI SDK wants it."""
        return self.environment["OPENAI_BASE_URL"]

    @property
    def key(self) -> str:
        """The demo client's key."""
        return self.environment["OPENAI_API_KEY"]

    def children(self, words: str = "") -> list[int]:
        """The processes that this stack has started, and those that they have, with `words` in their command line."""
        rows = processes()
        mine = {self.process.pid}
        while more := {row.pid for row in rows if row.parent in mine} - mine:
            mine |= more
        return [row.pid for row in rows if row.pid in mine - {self.process.pid} and words in row.command]

    def end_sandboxes(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End every sandbox of the proxy: the next request has a new one, which remembers nothing."""
        sandboxes = self.children("proxy.runtime")
        for pid in sandboxes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        wait_for(lambda: not set(sandboxes) & set(self.children("proxy.runtime")), "the end of the sandboxes")

    def aws(self, service: str) -> Any:
        """A boto3 client of the embedded AWS. There is one of each service: to make one takes longer than to ask it."""
        if service not in self._made:
            self._made[service] = _BOTO3.client(service, endpoint_url=self.environment["AWS_ENDPOINT_URL"])
        return self._made[service]

    def table(self, variable: str) -> Any:
        """The table that `variable` names."""
        if variable not in self._made:
            endpoint = self.environment["AWS_ENDPOINT_URL"]
            self._made[variable] = _BOTO3.resource("dynamodb", endpoint_url=endpoint).Table(self.environment[variable])
        return self._made[variable]

    @functools.cached_property
    def outputs(self) -> dict[str, str]:
        """The outputs of the deployed stack."""
        stacks = self.aws("cloudformation").describe_stacks(StackName=self.environment["STACK_NAME"])["Stacks"]
        return {each["OutputKey"]: each["OutputValue"] for each in stacks[0]["Outputs"]}

    def ready_authorizers(self) -> None:
        """See to it that the emulator has a process for each question that the authorizer may be asked at once.

        It ends one that raises an error, as for a wrong key at the REST API. To start another takes longer on a busy
        machine than the proxy waits, and who asks then gets a 503.
        """
        name, functions = self.outputs["AuthorizerFunctionName"], self.aws("lambda")
        question = {
            "type": "REQUEST",
            "methodArn": "arn:aws:execute-api:us-east-1:000000000000:function-url/url/GET/",
            "headers": {"Authorization": f"Bearer {self.key}"},
        }
        for _ in range(5):  # one of them may have answered before the next is asked
            if len(self.children(f"-{name}-")) >= _AUTHORIZERS:
                return
            with ThreadPoolExecutor(_AUTHORIZERS) as pool:
                for _ in range(_AUTHORIZERS):
                    pool.submit(functions.invoke, FunctionName=name, Payload=json.dumps(question))

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop it as Ctrl-C does, if it runs. Returns its exit status."""
        if self.process.returncode is None:
            self.process.send_signal(number)
            self.said += self.process.communicate(timeout=WAIT_SECONDS)[0]
        return self.process.wait()

    def discard(self) -> int:
        """Stop it as Ctrl-C does, if it runs, but do not let the embedded AWS write its state, which nobody would read:
        that takes a second of CPU and more. Returns its exit status.
        """
        if self.process.returncode is None and self.process.stdout:
            emulators = self.children("bin/ministack")
            self.process.send_signal(signal.SIGINT)
            for line in self.process.stdout:
                self.said += line
                if line.startswith("Stopping"):
                    break
            for pid in emulators:
                os.kill(pid, signal.SIGKILL)
            self.said += self.process.communicate(timeout=WAIT_SECONDS)[0]
        return self.process.wait()


@dataclass(frozen=True)
class Process:
    """A row of the process list."""

    pid: int
    parent: int
    command: str


def processes() -> list[Process]:
    """The running processes of this machine; those that have ended and are still listed do not count."""
    if Path("/proc/self/stat").exists():  # a small Linux has no `ps`
        found = [_process(folder) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
        return [process for process in found if process]
    listed = subprocess.run(["ps", "-eww", "-o", "pid=,ppid=,stat=,args="], check=True, capture_output=True, text=True)
    rows = [line.split(None, 3) for line in listed.stdout.splitlines()]
    return [Process(int(row[0]), int(row[1]), row[3]) for row in rows if len(row) == 4 and "Z" not in row[2]]


def _process(folder: Path) -> Process | None:
    """A process from its folder in /proc, if it still runs."""
    try:
        command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if state == "Z" else Process(int(folder.name), int(parent), command)


def launch(folder: Path, ports: dict[str, int], *arguments: str, in_background: bool = False) -> LocalStack:
    """Start a stack; it is not ready yet. In the background of a script SIGINT is ignored when it starts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "OPENAI_"))}
    process = subprocess.Popen(
        # All stacks of this suite share one build, and tests that follow find it done.
        [
            *(("sh", "-c", "trap '' INT; exec \"$@\"", "sh") if in_background else LISTENING),
            *(sys.executable, "-m", "local", "run", "--folder", folder, "--build", ROOT / ".local/e2e/build"),
            *arguments,
        ],
        cwd=ROOT,
        # Few tests sign anybody in, and a provider takes a second of CPU to start.
        env={**kept, "ISSUER": "on" if "ISSUER_PORT" in ports else "off", **{name: str(ports[name]) for name in ports}},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return LocalStack(process, folder, ports)


def start(
    folder: Path, *arguments: str, ports: dict[str, int] | None = None, in_background: bool = False
) -> LocalStack:
    """Start a stack and wait until it is ready."""
    stack = launch(folder, ports or new_ports(), *arguments, in_background=in_background)
    try:
        until_ready(stack)
        spare_processes(stack)
        stack.ready_authorizers()
    except BaseException:
        stack.stop()
        raise
    return stack


def new_ports(*, issuer: bool = False) -> dict[str, int]:
    """Free ports for a stack, with an `issuer` where people are to sign in."""
    names = ("PORT", "MINISTACK_PORT", "DEMO_PORT", *(("ISSUER_PORT",) if issuer else ()))
    return dict(zip(names, free_ports(len(names)), strict=True))


def until_ready(stack: LocalStack) -> None:
    """Wait until a stack that was launched says that it is ready, and read the file to source."""
    assert stack.process.stdout is not None
    for line in stack.process.stdout:
        stack.said += line
        if line.startswith("Ready after"):
            break
    else:
        pytest.fail(f"the local stack did not start:\n{stack.said}")
    for line in (stack.folder / "env").read_text().splitlines():
        if line.startswith("export "):
            name, _, value = line.removeprefix("export ").partition("=")
            stack.environment[name] = shlex.split(value)[0]


def spare_processes(stack: LocalStack) -> None:
    """Let each consumer handle two batches at once instead of five: for each, the emulator starts a process."""
    functions = stack.aws("lambda")
    for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
        functions.update_event_source_mapping(UUID=mapping["UUID"], ScalingConfig={"MaximumConcurrency": 2})


@dataclass
class Client:
    """A client of the proxy with a key of its own."""

    stack: LocalStack
    id: str
    key: str
    made: date = field(default_factory=lambda: datetime.now(UTC).date())
    sdks: list[Any] = field(default_factory=list[Any])

    @property
    def key_hash(self) -> str:
        """Under which the key is stored."""
        return hash_client_key(self.key)

    @property
    def mistyped_key(self) -> str:
        """The key with another last character: always another key, whatever the key ends with."""
        return self.key[:-1] + ("a" if self.key[-1] != "a" else "b")

    def openai(self, key: str | None = None) -> openai.OpenAI:
        """The OpenAI SDK as anybody would set it up; retries are off to see each answer."""
        build_models_of_sdk()
        sdk = openai.OpenAI(api_key=key or self.key, base_url=self.stack.base_url, max_retries=0, timeout=WAIT_SECONDS)
        self.sdks.append(sdk)
        return sdk

    def close(self) -> None:
        """Close the SDKs' connections."""
        for sdk in self.sdks:
            sdk.close()

    def post(self, path: str, **options: Any) -> httpx.Response:
        """A plain POST to the proxy with this client's key."""
        return httpx.post(
            f"{self.stack.url}{path}", headers={"authorization": f"Bearer {self.key}"}, timeout=WAIT_SECONDS, **options
        )

    def entries(self) -> list[dict[str, Any]]:
        """What the ledger holds of this client: of today, and of the day on which it was made."""
        table, found = self.stack.table("COSTS_TABLE"), list[dict[str, Any]]()
        for day in sorted({self.made, datetime.now(UTC).date()}):
            key = Key("pk").eq(f"client#{self.id}#{day}")
            start: dict[str, Any] = {}
            while True:
                page = table.query(KeyConditionExpression=key, ConsistentRead=True, **start)
                found += page["Items"]
                if "LastEvaluatedKey" not in page:
                    break
                start = {"ExclusiveStartKey": page["LastEvaluatedKey"]}
        return found

    def wait_for_entries(self, count: int) -> list[dict[str, Any]]:
        """The client's ledger entries once there are `count` of them."""
        return wait_for(lambda: found if len(found := self.entries()) >= count else [], f"{count} ledger entries")


@functools.cache
def build_models_of_sdk() -> None:
    """Build the SDK's models of a stream now: two threads that use one for the first time break each other's build."""
    from openai.types.chat import ChatCompletionChunk  # noqa: PLC0415 - as late as the SDK itself

    choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    details: dict[str, Any] = {"prompt_tokens_details": {}, "completion_tokens_details": {}}
    told: dict[str, Any] = {"id": "c", "choices": [choice], "usage": details}
    assert ChatCompletionChunk.construct(**told).choices[0].delta.content == ""


def new_client(stack: LocalStack) -> Client:
    """A new client with a new key."""
    stack.ready_authorizers()
    client = Client(stack, f"test-{secrets.token_hex(4)}", new_client_key())
    stack.table("KEYS_TABLE").put_item(
        Item={
            "key_hash": hash_client_key(client.key),
            "client_id": client.id,
            "name": "A test's client",
            "enabled": True,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    return client
