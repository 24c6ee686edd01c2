"""Conformance cases on a local stack that lists the fault server, and what the ledger says of them.

Every case runs in tests/integration, with the event that must follow it. Here are those that need more than the proxy.
"""

import contextlib
from collections.abc import Iterator

import pytest

from conformance.case import Case
from conformance.cases import CASES, GROUPS
from conformance.runner import Deployment, Result, as_table
from conformance.server import FaultServer
from conformance.servers_file import entries
from tests.e2e.harness import Client, LocalStack, new_client, wait_for
from tests.e2e.snapshot import start_deployed


def chosen() -> list[Case]:
    """The cases of client keys, the long ones, and of each group one for every kind of event: the ledger has each."""
    kinds: dict[object, str] = {}
    for group, cases in GROUPS.items():
        for case in cases:
            kinds.setdefault((group, case.told and (case.told.type, case.told.error)), case.name)
    names = set(kinds.values())
    return [case for case in CASES if case.name in names or case.ask.key != "client" or case.seconds > 5]


CHOSEN = chosen()


@pytest.fixture(scope="module")
def conformance_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack whose servers are those of the fault server."""
    folder = tmp_path_factory.mktemp("conformance")
    with FaultServer(CHOSEN).running() as faults:
        servers = folder / "servers.yaml"
        servers.write_text(entries(f"http://127.0.0.1:{faults.port}"))
        running = start_deployed(folder / "stack", "--servers-file", str(servers))
        try:
            yield running
        finally:
            running.stop()


@pytest.fixture(scope="module")
def client(conformance_stack: LocalStack) -> Client:
    return new_client(conformance_stack)


@pytest.fixture(scope="module")
def results(conformance_stack: LocalStack, client: Client) -> list[Result]:
    deployment = Deployment(f"{conformance_stack.url}conformance", client.key, longest=60)
    deployment.look(CHOSEN)
    return list(deployment.run_all(CHOSEN))


def test_the_cases_hold(results: list[Result]):
    others = [result for result in results if result.verdict != "pass"]
    assert not others, as_table(others)


def test_the_ledger_has_each_request_once(client: Client, results: list[Result]):
    recorded = ("InferenceCompleted", "InferenceFailed")
    passed = {result.request_id: result.case for result in results if result.verdict == "pass"}
    expected = {key: case.name for key, case in passed.items() if case.told and case.told.type in recorded}

    def missing() -> str:
        ids = {entry["request_id"] for entry in client.entries()}
        return ", ".join(name for key, name in expected.items() if key not in ids)

    with contextlib.suppress(AssertionError):
        wait_for(lambda: not missing(), "all of them")
    assert missing() == "", "these are not in the ledger"
    ids = [entry["request_id"] for entry in client.entries()]
    assert len(ids) == len(set(ids))
