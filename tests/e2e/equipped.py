"""A stack with all that tests of faults want: calls to AWS that go wrong when a test says so, and the fault server."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from conformance.case import Case
from conformance.cases import CASES, GROUPS
from conformance.server import FaultServer
from conformance.servers_file import entries
from tests.e2e.fault_drivers import FaultyStack, started


def chosen() -> list[Case]:
    """The cases of client keys, the long ones, and of each group one for every kind of event: the ledger has each."""
    kinds: dict[object, str] = {}
    for group, cases in GROUPS.items():
        for case in cases:
            kinds.setdefault((group, case.told and (case.told.type, case.told.error)), case.name)
    names = set(kinds.values())
    return [case for case in CASES if case.name in names or case.ask.key != "client" or case.seconds > 5]


CHOSEN = chosen()


@contextmanager
def running(folder: Path) -> Generator[FaultyStack]:
    """The stack, with the template's own failure policy of limits; it is stopped at the end."""
    with FaultServer(CHOSEN).running() as faults:
        faulty = started(folder, "open", servers_too=entries(f"http://127.0.0.1:{faults.port}"))
        try:
            yield faulty
        finally:
            faulty.stack.discard()
