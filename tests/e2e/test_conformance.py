"""Conformance cases on a local stack that lists the fault server, and what the ledger says of them.

Every case runs in tests/integration, with the event that must follow it. Here are those that need more than the proxy.
"""

import contextlib

import pytest

from conformance.runner import Deployment, Result, as_table
from tests.e2e.equipped import CHOSEN
from tests.e2e.fault_drivers import FaultyStack
from tests.e2e.harness import Client, new_client, wait_for


@pytest.fixture(scope="module")
def client(equipped: FaultyStack) -> Client:
    return new_client(equipped.stack)


@pytest.fixture(scope="module")
def results(equipped: FaultyStack, client: Client) -> list[Result]:
    deployment = Deployment(f"{equipped.stack.url}conformance", client.key, longest=60)
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
