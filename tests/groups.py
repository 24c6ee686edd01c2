"""Which tests one worker runs together, and which of these groups come first.

Its one rule: what shares a running stack is one group, so that each worker starts few; all else is a group by its file.
The run lasts as long as its longest group: those that take minutes come first, those that take a moment come last.
"""

from pathlib import PurePath

FIRST = (
    "stack of clients",
    "tests/e2e/test_alarms.py",
    "stack of data",
    "tests/e2e/test_canaries.py",
    "tests/e2e/test_conformance.py",
    "tests/e2e/test_aws_faults.py",
    "tests/e2e/test_start_and_stop.py",
    "tests/e2e",
    "tests/integration",
    "tests/contract",
    "tests/unit",
)
"""Groups, or the folders of files, in the order in which they begin."""

OF_DATA = ("test_analytics.py", "test_cache.py", "test_faults.py", "test_limits.py", "test_two_doors.py")
"""Half of the tests, by the time they take, that share a stack."""


def group_of(file: PurePath, shares_stack: bool) -> str:
    """The group of a test in `file`, a path from the root of this repository."""
    if not shares_stack:
        return file.as_posix()
    return "stack of data" if file.name in OF_DATA else "stack of clients"


def place_of(group: str) -> int:
    """When a group begins: the smaller, the earlier."""
    return next((place for place, begin in enumerate(FIRST) if group.startswith(begin)), len(FIRST))
