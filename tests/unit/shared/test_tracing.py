"""X-Ray of the consumers and the authorizer: what a sampled invocation tells, and that nothing is loaded without it."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from openai_proxy.tracing.handlers import traced

ROOT = Path(__file__).parents[3]
TRACE = "Root={};Parent=53995c3f42cd8ad8;Sampled={}"
UNSAMPLED, SAMPLED = "1-5759e988-bd862e3fe1be46a994272793", "1-5759e988-bd862e3fe1be46a994272794"
INVOCATIONS = """
import os, socket, sys, boto3
from botocore.config import Config
from openai_proxy.tracing.handlers import traced

tables = boto3.client("dynamodb", endpoint_url="http://127.0.0.1:9", config=Config(retries={"total_max_attempts": 1}))

@traced("authorizer", {**os.environ, "POWERTOOLS_TRACE_DISABLED": "false"})
def handler(event, context):
    try:
        tables.get_item(TableName="keys", Key={"key_hash": {"S": event["key"]}})
    except Exception as error:
        assert "127.0.0.1:9" in str(error)
    if event["key"] == "canary-of-a-failure":
        raise ValueError("failed")
    return {"answer": "canary-of-an-answer"}

marker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
host, _, port = os.environ["AWS_XRAY_DAEMON_ADDRESS"].partition(":")
try:
    tables.get_item(TableName="before", Key={"key_hash": {"S": "x"}})  # as in INIT: it belongs to no invocation
except Exception as error:
    assert "127.0.0.1:9" in str(error)
for sampled in sys.argv[1:]:
    os.environ["_X_AMZN_TRACE_ID"] = sampled
    assert handler({"key": "canary-of-an-event"}, None) == {"answer": "canary-of-an-answer"}
    try:
        handler({"key": "canary-of-a-failure"}, None)
    except ValueError as error:
        assert str(error) == "failed"
    else:
        raise AssertionError("what a handler raises, its caller gets")
    marker.sendto(b"done", (host, int(port)))
"""


def told(daemon: socket.socket) -> list[dict[str, Any]]:
    """The documents that X-Ray's daemon has been sent, until an invocation's marker."""
    found: list[dict[str, Any]] = []
    while (datagram := daemon.recv(65536)) != b"done":
        found.append(json.loads(datagram.partition(b"\n")[2]))
    return found


TRACED = {"POWERTOOLS_TRACE_DISABLED": "false", "AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000"}


@pytest.mark.parametrize(
    "environ",
    [
        TRACED | {"POWERTOOLS_TRACE_DISABLED": "true"},
        TRACED | {"AWS_XRAY_DAEMON_ADDRESS": ""},
        {"POWERTOOLS_TRACE_DISABLED": "false"},
        {"AWS_XRAY_DAEMON_ADDRESS": "127.0.0.1:2000"},
    ],
    ids=["off", "daemon nowhere", "no daemon", "nothing said"],
)
def test_without_tracing_or_a_daemon_the_handler_is_as_it_was(environ: dict[str, str]) -> None:
    def handle(_event: Mapping[str, Any], _context: object) -> None: ...

    assert traced("authorizer", environ)(handle) is handle
    assert "aws_xray_sdk" not in sys.modules


def test_without_the_sdk_the_handler_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def handle(_event: Mapping[str, Any], _context: object) -> None: ...

    monkeypatch.setitem(sys.modules, "aws_xray_sdk.core", None)

    assert traced("authorizer", TRACED)(handle) is handle


def test_a_sampled_invocation_tells_its_calls_and_nothing_that_it_was_given() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(60)
        environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "shared"),
            "AWS_XRAY_DAEMON_ADDRESS": f"127.0.0.1:{daemon.getsockname()[1]}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "LAMBDA_TASK_ROOT": "/var/task",
        }
        invocations = [sys.executable, "-c", INVOCATIONS, TRACE.format(UNSAMPLED, 0), TRACE.format(SAMPLED, 1)]
        ran = subprocess.run(invocations, env=environ, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        unsampled, sampled = told(daemon), told(daemon)

    assert "cannot find the current segment" not in ran.stderr
    assert unsampled == []
    assert {each["trace_id"] for each in sampled} == {SAMPLED}
    assert "canary" not in json.dumps(sampled)
    calls = [each for each in sampled if each["name"] == "dynamodb"]
    assert [(each["aws"]["operation"], each["aws"]["table_name"]) for each in calls] == [("GetItem", "keys")] * 2
    handled = [each for each in sampled if each["name"] == "## handler"]
    assert [each.get("fault", False) for each in handled] == [False, True]
    assert {each["annotations"]["Service"] for each in handled} == {"authorizer"}
    assert all("metadata" not in each for each in handled)
