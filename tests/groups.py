"""Which tests one worker runs together, and which of these groups come first.

Its one rule: what shares a running stack is one group, so that each worker starts few; all else is a group by its file.
The run lasts as long as its longest group: those that take minutes come first, those that take a moment come last.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

FIRST = (
    "stack of clients",
    # These need no stack: they are run while one worker builds and deploys the application for all.
    "tests/integration/consumers/test_settle_limits.py",
    "tests/integration/console/test_costs_commands.py",
    "tests/integration/console/test_top.py",
    "tests/integration/deployment/test_build.py",
    "tests/integration/console/test_program.py",
    "tests/integration/console/test_json_documents.py",
    "tests/unit/proxy/limits/test_limits_machine.py",
    "tests/e2e/test_alarms.py",
    "stack of data",
    "tests/e2e/test_canaries.py",
    "stack of faults",
    "tests/e2e",
    "tests/integration",
    "tests/contract",
    "tests/unit/suites/test_mutants.py",
    "tests/unit/shared/pricing/test_pricing_list.py",
    "tests/unit",
)
"""Groups, or the folders of files, in the order in which they begin."""

OF_DATA = (
    *("test_analytics.py", "test_anthropic_sdk.py", "test_cache.py", "test_chat.py", "test_faults.py"),
    *("test_limits.py", "test_replay.py", "test_rest_api.py", "test_scale.py", "test_sdk_endpoints.py"),
    *("test_streams.py", "test_two_doors.py"),
)
OF_FAULTS = ("test_aws_faults.py", "test_conformance.py")
OF_CLIENTS = (
    *("test_examples.py", "test_node.py", "test_pages.py", "test_start_and_stop.py", "browser/test_example_page.py"),
    *("browser/test_other_origin.py", "browser/test_sign_in.py"),
)
"""Files below tests/e2e that share a running stack."""


def group_of(nodeid: str) -> str:
    """The group of a test, from its id: `path/to/file.py::name`."""
    return _group_of_file(nodeid.partition("::")[0])


@cache
def _group_of_file(file: str) -> str:
    name = file.removeprefix("tests/e2e/")
    stacks = {"stack of data": OF_DATA, "stack of faults": OF_FAULTS, "stack of clients": OF_CLIENTS}
    return next((stack for stack, files in stacks.items() if name in files), file)


class GroupScheduling(LoadScopeScheduling):
    """Gives workers whole groups, in the order in which they are collected.

    It knows each test's place, and forgets groups that are done: it is asked after each of many thousands of tests.
    """

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

    def add_node_collection(self, node: WorkerController, collection: Sequence[str]) -> None:
        super().add_node_collection(node, collection)
        if node in self.registered_collections:
            self.registered_collections[node] = _Places(collection)

    def mark_test_complete(self, node: WorkerController, item_index: int, duration: float = 0) -> None:
        super().mark_test_complete(node, item_index, duration)
        group = group_of(self.registered_collections[node][item_index])
        if all(reversed(self.assigned_work[node][group].values())):
            del self.assigned_work[node][group]


class _Places(list[str]):
    """Test ids that know where they stand."""

    def __init__(self, ids: Sequence[str]) -> None:
        super().__init__(ids)
        self._places = {each: place for place, each in enumerate(ids)}

    def index(self, value: str, *_: Any) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._places[value]


def place_of(group: str) -> int:
    """When a group begins: the smaller, the earlier."""
    return next((place for place, begin in enumerate(FIRST) if group.startswith(begin)), len(FIRST))
