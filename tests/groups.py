"""Which tests one worker runs together, and which of these groups come first.

Its one rule: what shares a running stack is one group, so that each worker starts few; all else is a group by its file.
The run lasts as long as its longest group: those that take minutes come first, those that take a moment come last.
"""

from xdist.scheduler import LoadScopeScheduling

FIRST = (
    "stack of clients",
    # These need no stack: they are run while one worker builds and deploys the application for all.
    "tests/integration/consumers/test_settle_limits.py",
    "tests/integration/console/test_costs_commands.py",
    "tests/integration/console/test_top.py",
    "tests/e2e/test_alarms.py",
    "stack of data",
    "tests/e2e/test_canaries.py",
    "stack of faults",
    "tests/e2e",
    "tests/integration",
    "tests/contract",
    "tests/unit/suites/test_mutants.py",
    "tests/unit/proxy/limits/test_limits_machine.py",
    "tests/unit/shared/pricing/test_pricing_list.py",
    "tests/unit",
)
"""Groups, or the folders of files, in the order in which they begin."""

OF_DATA = (
    *("test_analytics.py", "test_anthropic_sdk.py", "test_cache.py", "test_chat.py", "test_faults.py"),
    *("test_limits.py", "test_replay.py", "test_rest_api.py", "test_sdk_endpoints.py", "test_streams.py"),
    "test_two_doors.py",
)
OF_FAULTS = ("test_aws_faults.py", "test_conformance.py")
OF_CLIENTS = (
    *("test_examples.py", "test_node.py", "test_pages.py", "test_start_and_stop.py", "browser/test_example_page.py"),
    *("browser/test_other_origin.py", "browser/test_sign_in.py"),
)
"""Files below tests/e2e that share a running stack."""


def group_of(nodeid: str) -> str:
    """The group of a test, from its id: `path/to/file.py::name`."""
    file = nodeid.partition("::")[0]
    name = file.removeprefix("tests/e2e/")
    stacks = {"stack of data": OF_DATA, "stack of faults": OF_FAULTS, "stack of clients": OF_CLIENTS}
    return next((stack for stack, files in stacks.items() if name in files), file)


class GroupScheduling(LoadScopeScheduling):
    """Gives workers whole groups, in the order in which they are collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def place_of(group: str) -> int:
    """When a group begins: the smaller, the earlier."""
    return next((place for place, begin in enumerate(FIRST) if group.startswith(begin)), len(FIRST))
