"""The response cache in a real sandbox: loaded when a policy is on and not before, wired to its table and bucket."""

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Connection, Received, ScriptedServer
from tests.integration.proxy.test_handler import environment, services

LOADED = """
import json, sys
from proxy import handler

class Context:
    def get_remaining_time_in_millis(self):
        return 60_000

def loaded():
    return sorted(name for name in sys.modules if name.removeprefix("proxy.") in %r)

found = [loaded()]
for line in sys.stdin:
    handler.handler(json.loads(line), Context())
    found.append(loaded())
print("RESULT " + json.dumps(found))
"""
MODULES = (
    *("cache", "cache.response_cache", "cache.replay", "cache.captured_event", "cache.capture", "cache.conversion"),
    *("cache.key", "cache.policy", "cache.item", "cache.table", "cache.leases", "cache.fill"),
)
ANSWER = {
    "id": "c",
    "object": "chat.completion",
    "model": "m",
    "choices": [
        {"index": 0, "message": {"content": base64.b85encode(bytes(range(256)) * 3).decode()}, "finish_reason": "stop"}
    ],
}


class Aws:
    """What a sandbox calls: the authorizer, the bus, the cache table and its bucket, and a server."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def __call__(self, connection: Connection, request: Received) -> None:
        if "DynamoDB" in (target := request.headers.get("x-amz-target", "")):
            self.calls.append(target.rpartition(".")[2])
            connection.answer(b'{"ConsumedCapacity": {"TableName": "cache"}}')
        elif request.target == "/v1/chat/completions":
            connection.answer(json.dumps(ANSWER).encode())
        else:
            services(connection, request)


def modules_after(
    calls: list[str], folder: Path, policy: str, more: dict[str, str]
) -> tuple[list[list[str]], list[str]]:
    """Which modules of the cache a sandbox has loaded after INIT and after each call, and what the table was asked."""
    aws = Aws()
    with ScriptedServer(aws) as server:
        servers_file = folder / "servers.yaml"
        servers_file.write_text(
            f"plain: {{url: '{server.url}/v1', token: t, model: m}}\n"
            + (f"kept: {{url: '{server.url}/v1', token: t, model: m, cache: {policy}}}\n" if policy else "")
        )
        lines = "".join(json.dumps(call(path)) + "\n" for path in calls)
        command = [sys.executable, "-c", LOADED % (MODULES,)]
        ran = subprocess.run(
            command,
            input=lines,
            env=environment(server, servers_file) | more,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    [result] = [line for line in ran.stdout.splitlines() if line.startswith("RESULT ")]
    return json.loads(result.removeprefix("RESULT ")), aws.calls


def call(path: str) -> dict[str, Any]:
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"authorization": "Bearer k", "content-type": "application/json"},
        "requestContext": {"http": {"method": "POST"}},
        "body": json.dumps({"messages": [], "temperature": 0}),
    }


PLAIN, KEPT = "/plain/v1/chat/completions", "/kept/v1/chat/completions"
ON = {"CACHE_TABLE": "cache", "CACHE_BUCKET": "bucket", "CACHE_WAIT_SECONDS": "1", "CACHE_LARGEST_ANSWER": "100000"}


@pytest.mark.parametrize(("policy", "more"), [("", ON), ("{}", {})])
def test_without_a_policy_or_a_table_nothing_of_the_cache_is_loaded(
    tmp_path: Path, policy: str, more: dict[str, str]
) -> None:
    paths = [PLAIN, KEPT] if policy else [PLAIN]
    loaded, calls = modules_after(paths, tmp_path, policy, more)
    assert loaded == [[]] * (1 + len(paths))
    assert calls == []


def test_with_a_policy_the_cache_is_loaded_in_init_and_asks_its_table(tmp_path: Path) -> None:
    loaded, calls = modules_after([PLAIN, KEPT], tmp_path, "{}", ON)
    assert loaded == [sorted(f"proxy.{name}" for name in MODULES)] * 3
    assert calls == ["GetItem", "PutItem", "PutItem"], "the server without a policy asks nothing"
