"""Every case of the conformance suite on the real runtime, and the one event that must follow each request.

The proxy's own process, started by its bootstrap, between a function URL and a Runtime API of the local stack; the
fault server behind it; Lambda's Invoke and EventBridge's PutEvents answered here.
"""

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.case import Case, Told
from conformance.cases import CASES, GROUPS
from conformance.runner import Deployment, as_table
from conformance.server import FaultServer
from conformance.servers_file import entries
from local.lambda_.sandboxes import Launch
from tests.fakes import Connection, Received, ScriptedServer, envelope_of, refused_key
from tests.relays import function_url
from tests.schemas import validator_of

ROOT = Path(__file__).parents[3]
KEY = "a-key-that-the-authorizer-knows"
WAIT_SECONDS = 10.0
MAX_ENTRY_BYTES = 1_000_000
"""EventBridge takes less than a megabyte (https://docs.aws.amazon.com/eventbridge/latest/APIReference/API_PutEvents.html)."""

_ALLOW = {"policyDocument": {"Statement": [{"Effect": "Allow"}]}, "context": {"client_id": "conformance"}}


class Aws:
    """An authorizer that knows one key, a table without items, and a bus that keeps every event by its request's id."""

    def __init__(self) -> None:
        self._published = threading.Condition()
        self._events: dict[str, list[dict[str, Any]]] = {}

    def __call__(self, connection: Connection, request: Received) -> None:
        if request.target.endswith("/invocations"):
            allowed = json.loads(request.body)["headers"]["Authorization"] == f"Bearer {KEY}"
            connection.answer(json.dumps(_ALLOW if allowed else refused_key()).encode())
            return
        if request.headers["x-amz-target"] == "DynamoDB_20120810.GetItem":  # nothing is known of any server's limits
            connection.answer(b"{}")
            return
        assert request.headers["x-amz-target"] == "AWSEvents.PutEvents"
        results = [self._put(entry) for entry in json.loads(request.body)["Entries"]]
        failed = sum("ErrorCode" in result for result in results)
        connection.answer(json.dumps({"FailedEntryCount": failed, "Entries": results}).encode())

    def _put(self, entry: dict[str, str]) -> dict[str, str]:
        """Keep one entry, unless EventBridge would refuse it."""
        if sum(len(value.encode()) for value in entry.values()) >= MAX_ENTRY_BYTES:
            return {"ErrorCode": "EntryTooLarge"}
        try:
            json.loads(entry["Detail"], parse_constant=_refuse_constant)
        except ValueError:
            return {"ErrorCode": "MalformedDetail"}
        envelope = envelope_of(entry)
        with self._published:
            self._events.setdefault(envelope["detail"]["metadata"]["request_id"], []).append(envelope)
            self._published.notify_all()
        return {"EventId": "e"}

    def event(self, request_id: str) -> dict[str, Any]:
        """The event of a request, which may be on its way."""
        with self._published:
            assert self._published.wait_for(lambda: request_id in self._events, WAIT_SECONDS), "no event came"
            return self._events[request_id][0]

    def counts(self) -> dict[str, int]:
        """How many events each request had. One that was sent again, as it was slow to be taken, is the same event."""
        with self._published:
            return {
                request_id: len({event["detail"]["metadata"]["id"] for event in events})
                for request_id, events in self._events.items()
            }


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


@pytest.fixture(scope="module")
def aws() -> Aws:
    return Aws()


@pytest.fixture(scope="module")
def deployment(aws: Aws, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """The proxy with the fault server behind it; whoever runs the suite has one key."""
    folder = tmp_path_factory.mktemp("conformance")
    servers = folder / "openai_servers.yaml"
    with FaultServer(CASES).running() as faults, ScriptedServer(aws) as aws_server:
        servers.write_text(entries(f"http://127.0.0.1:{faults.port}"))
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "shared"),
            "LAMBDA_TASK_ROOT": str(ROOT / "functions"),
            "_HANDLER": "proxy.handler.handler",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": aws_server.url,
            "AUTHORIZER_FUNCTION": "authorizer",
            "EVENT_BUS_NAME": "bus",
            "LIMITS_TABLE": "limits",
            "COSTS_TABLE": "costs",
            "SERVERS_FILE": str(servers),
        }
        command = (ROOT / "functions/proxy/bootstrap", sys.executable)
        log = folder / "proxy.log"
        log.touch()
        with function_url(Launch(command, environment, folder, log)) as url:
            found = Deployment(f"{url}/conformance", KEY, longest=60)
            found.look(CASES)
            yield found
        assert "Traceback" not in log.read_text(), log.read_text()


def told(event: dict[str, Any], case: Case) -> list[str]:
    """What is wrong with the event of a case."""
    assert case.told is not None
    data = event["detail"]["data"]
    found = (
        [f"event {event['detail-type']} instead of {case.told.type}"]
        if case.told.type not in (None, event["detail-type"])
        else []
    )
    if case.told.error is not None and data.get("error", {}).get("type") != case.told.error:
        found.append(f"error {data.get('error')} instead of {case.told.error}")
    return [*found, *usage(data["usage"], case.told), *fields(data, case.told)]


def usage(usage: dict[str, Any], told: Told) -> Iterator[str]:
    tokens, source = (usage["input_tokens"], usage["output_tokens"]), usage["source"]
    if isinstance(told.usage, tuple) and (tokens, source) != (told.usage, "reported"):
        yield f"usage {tokens} ({source}) instead of {told.usage}"
    if told.usage == "unknown" and source not in ("missing", "estimated"):
        yield f"usage {tokens} ({source}) though the server reported none"
    if told.usage == "none" and (tokens, source) != ((0, 0), "none"):
        yield f"usage {tokens} ({source}) though nothing was used"


def fields(data: dict[str, Any], told: Told) -> Iterator[str]:
    for path, expected in told.fields.items():
        value: Any = data
        for name in path.split("."):
            value = value[name]
        if value != expected:
            yield f"{path} is {value!r} instead of {expected!r}"


QUICK = [case for case in CASES if case.seconds <= 5]
"""The long ones run on the local stack, in tests/e2e."""


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.name)
def test_case(case: Case, deployment: Deployment, aws: Aws) -> None:
    result = deployment.run(case)
    assert result.verdict == "pass", result.why
    if case.told is not None:
        assert result.request_id is not None
        event = aws.event(result.request_id)
        validator_of(event["detail-type"]).validate(event)
        assert told(event, case) == []


def test_streams_at_the_same_time_and_no_request_with_two_events(deployment: Deployment, aws: Aws) -> None:
    """Streams at the same time, so that several sandboxes work; then each request of this module has its one event."""
    results = list(deployment.run_all(GROUPS["streams"], parallel=8))
    others = [result for result in results if result.verdict != "pass"]
    assert not others, as_table(others)
    for result in results:
        assert result.request_id is not None
        aws.event(result.request_id)
    assert {request_id: count for request_id, count in aws.counts().items() if count > 1} == {}
