"""How workers share the tests: by running stack, else by file; the long ones first."""

from pathlib import Path, PurePath

import pytest

from tests.groups import FIRST, OF_DATA, group_of, place_of

ROOT = Path(__file__).parents[2]


def test_what_is_named_is_there():
    assert [name for name in FIRST if name.startswith("tests/") and not (ROOT / name).exists()] == []
    assert [name for name in OF_DATA if not (ROOT / "tests/e2e" / name).is_file()] == []


@pytest.mark.parametrize(
    ("file", "shares_stack", "group"),
    [
        ("tests/e2e/test_chat.py", True, "stack of clients"),
        ("tests/e2e/browser/test_other_origin.py", True, "stack of clients"),
        ("tests/e2e/test_cache.py", True, "stack of data"),
        ("tests/e2e/test_start_and_stop.py", False, "tests/e2e/test_start_and_stop.py"),
        ("tests/unit/test_sse.py", False, "tests/unit/test_sse.py"),
    ],
)
def test_a_group(file: str, shares_stack: bool, group: str):
    assert group_of(PurePath(file), shares_stack) == group


def test_what_takes_minutes_begins_before_what_takes_a_moment():
    groups = ["stack of clients", "tests/e2e/test_alarms.py", "tests/e2e/browser/test_playground.py"]
    groups += ["tests/integration/test_relay.py", "tests/contract/test_events.py", "tests/unit/test_sse.py", "other"]
    places = [place_of(group) for group in groups]
    assert places == sorted(set(places))
