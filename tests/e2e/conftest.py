"""The whole local stack, once for all tests of this suite: its own ports, folder and state; nothing of the caller's.

Every test has a client of its own, so that what the ledger says of that client is what the test did.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.ports import free_ports
from tests.e2e.equipped import running
from tests.e2e.fault_drivers import FaultyStack
from tests.e2e.harness import Client, LocalStack, new_client, new_ports, start
from tests.e2e.snapshot import start_deployed
from tests.groups import group_of, place_of

_STACKS = pytest.StashKey[list[LocalStack]]()
"""Those that many tests share."""


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_STACKS] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith("tests/e2e/"):
            item.add_marker(pytest.mark.e2e)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Stop what no test of this process will need again: now, while others have work to do, and not at the end."""
    if nextitem is not None and place_of(group_of(nextitem.nodeid)) > place_of("tests/e2e/"):
        for stack in item.config.stash[_STACKS]:
            stack.discard()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[LocalStack]:
    """A running local stack, where people can sign in."""
    folder, ports, [port] = tmp_path_factory.mktemp("local-stack"), new_ports(issuer=True), free_ports(1)
    running = start_deployed(folder, "--stream-webhook", f"http://127.0.0.1:{port}/", ports=ports)
    running.ports["WEBHOOK_PORT"] = port
    pytestconfig.stash[_STACKS].append(running)
    try:
        yield running
    finally:
        status = running.discard()
    assert status == 0, running.said


@pytest.fixture(scope="session")
def equipped(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[FaultyStack]:
    """A running stack whose calls to AWS go wrong when a test says so, and that lists the fault server."""
    with running(tmp_path_factory.mktemp("equipped")) as faulty:
        pytestconfig.stash[_STACKS].append(faulty.stack)
        yield faulty


@pytest.fixture
def client(stack: LocalStack) -> Iterator[Client]:
    """A client with a key of its own."""
    client = new_client(stack)
    yield client
    client.close()


@pytest.fixture
def start_stack() -> Iterator[Callable[..., LocalStack]]:
    """Starts stacks of a test's own, or copies of the deployed one. What the test has not stopped is stopped then."""
    started: list[LocalStack] = []

    def start_one(*arguments: Any, is_copy: bool = False, **options: Any) -> LocalStack:
        started.append((start_deployed if is_copy else start)(*arguments, **options))
        return started[-1]

    yield start_one
    for each in started:
        if each.process.poll() is None:
            each.discard()
