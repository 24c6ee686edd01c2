"""The composition root: wired from its environment, buffered for callers that cannot stream."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import Connection, Received, ScriptedServer

ROOT = Path(__file__).parents[3]
CALL = """
import json, sys
from proxy import handler

class Context:
    def get_remaining_time_in_millis(self):
        return 60_000

for line in sys.stdin:
    print("RESULT " + json.dumps(handler.handler(json.loads(line), Context())), flush=True)
"""

WAITS = """
from proxy import handler

limits = handler._application.relay.admission._limits
print([limits._counters._aws._timeout, limits._timeout])
"""


def services(connection: Connection, request: Received) -> None:
    """AWS and an upstream server in one."""
    target = request.headers.get("x-amz-target", "")
    if request.target.endswith("/authorizer/invocations"):
        context = {"client_id": "team-a"}
        policy = {"policyDocument": {"Statement": [{"Effect": "Allow"}]}, "context": context}
        connection.answer(json.dumps(policy).encode())
    elif target == "AWSEvents.PutEvents":
        connection.answer(json.dumps({"Entries": [{"EventId": "1"}]}).encode())
    elif target == "secretsmanager.GetSecretValue":
        connection.answer(json.dumps({"SecretString": json.dumps({"A_KEY": "provider-token"})}).encode())
    elif request.target == "/v1/audio/speech":
        connection.answer(b"\xff\xfb\x00", content_type="audio/mpeg")
    else:
        connection.answer(b'{"usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}}')


def environment(server: ScriptedServer, servers_file: Path) -> dict[str, str]:
    return {
        "AUTHORIZER_FUNCTION": "authorizer",
        "AWS_ACCESS_KEY_ID": "AKID",
        "AWS_SECRET_ACCESS_KEY": "SECRET",
        "AWS_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": server.url,
        "EVENT_BUS_NAME": "bus",
        "LIMITS_TABLE": "limits",
        "COSTS_TABLE": "costs",
        "PROVIDER_TOKENS_SECRET": "tokens",
        "SERVERS_FILE": str(servers_file),
        "PYTHONPATH": f"{ROOT / 'functions'}:{ROOT / 'shared'}",
        "PATH": os.environ["PATH"],
    }


def event(path: str) -> dict[str, Any]:
    return {
        "version": "2.0",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"authorization": "Bearer k", "content-type": "application/json", "x-receipt": "usage"},
        "requestContext": {"http": {"method": "POST"}},
        "body": '{"model": "m"}',
    }


def test_a_buffered_call_from_the_environment_to_the_event(tmp_path: Path) -> None:
    with ScriptedServer(services) as server:
        file = tmp_path / "servers.yaml"
        file.write_text(f"up: {{url: '{server.url}/v1', token: '${{A_KEY}}', model: m}}")
        (tmp_path / "prices.yaml").write_text("servers: {up: {models: {m: {input: 1, output: 2}}}}")
        lines = "\n".join(json.dumps(event(f"/up/v1/{path}")) for path in ("chat/completions", "audio/speech"))
        run = subprocess.run(
            [sys.executable, "-c", CALL],
            input=lines,
            env=environment(server, file) | {"PRICES_FILE": str(tmp_path / "prices.yaml")},
            capture_output=True,
            text=True,
            check=True,
        )
        results = [json.loads(line.removeprefix("RESULT ")) for line in run.stdout.splitlines() if "RESULT" in line]
    text, binary = results
    assert (text["statusCode"], text["isBase64Encoded"]) == (200, False)
    usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
    assert json.loads(text["body"])["usage"] == usage | {"cost": "0.000005"}
    assert (binary["body"], binary["isBase64Encoded"]) == ("//sA", True)

    calls = [request.headers.get("x-amz-target") or request.target for request in server.received]
    assert calls == [
        "/2015-03-31/functions/authorizer/invocations",
        "secretsmanager.GetSecretValue",
        "/v1/chat/completions",
        "AWSEvents.PutEvents",
        "/v1/audio/speech",
        "AWSEvents.PutEvents",
    ]
    [entry] = json.loads(server.received[3].body)["Entries"]
    assert (entry["Source"], entry["DetailType"], entry["EventBusName"]) == (
        "openai-proxy",
        "InferenceCompleted",
        "bus",
    )
    assert server.received[2].headers["authorization"] == "Bearer provider-token"
    said = run.stdout + run.stderr + "".join(request.body.decode("latin-1") for request in server.received[3:4])
    assert "provider-token" not in said
    assert "Bearer k" not in said


@pytest.mark.parametrize(("is_emulated", "seconds"), [(True, [20, 5]), (False, [5, 1])])
def test_an_emulator_is_waited_for_longer_than_aws(tmp_path: Path, is_emulated: bool, seconds: list[float]) -> None:
    with ScriptedServer(services) as server:
        file = tmp_path / "servers.yaml"
        file.write_text("up: {url: 'https://x/v1', token: '${A_KEY}', model: m}")
        environ = environment(server, file)
        if not is_emulated:
            del environ["AWS_ENDPOINT_URL"]
        run = subprocess.run([sys.executable, "-c", WAITS], env=environ, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == seconds


def test_a_bad_servers_file_stops_the_sandbox_at_its_start(tmp_path: Path) -> None:
    with ScriptedServer(services) as server:
        file = tmp_path / "servers.yaml"
        file.write_text("up: {url: 'https://x/v1', token: t}")
        run = subprocess.run(
            [sys.executable, "-c", CALL], env=environment(server, file), capture_output=True, text=True, check=False
        )
    assert run.returncode != 0
    assert "server 'up', key 'model': missing. Remedy:" in run.stderr
