"""How workers share the tests: by running stack, else by file; the long ones first."""

import re
from pathlib import Path

import pytest

from tests.groups import FIRST, OF_CLIENTS, OF_DATA, OF_FAULTS, group_of, place_of

ROOT = Path(__file__).parents[3]


def test_what_is_named_is_there():
    assert [name for name in FIRST if name.startswith("tests/") and not (ROOT / name).exists()] == []
    assert [name for name in (*OF_DATA, *OF_CLIENTS, *OF_FAULTS) if not (ROOT / "tests/e2e" / name).is_file()] == []


def test_who_shares_the_equipped_stack_is_in_its_group():
    files = (ROOT / "tests/e2e").rglob("test_*.py")
    assert {each.name for each in files if "equipped: FaultyStack" in each.read_text(encoding="utf-8")} == {*OF_FAULTS}


def test_what_shares_a_stack_is_in_one_of_two_groups():
    files = (ROOT / "tests/e2e").rglob("test_*.py")
    shares = re.compile(r"\(.*\b(?:stack: LocalStack|client: Client)\b")
    own = re.compile(
        r"^def (?:client|started)\(|faulty|^def \w+_stack\(|import .*\bstart(?:_deployed)?\b", re.MULTILINE
    )
    found = {
        file.relative_to(ROOT / "tests/e2e").as_posix()
        for file in files
        if shares.search(text := file.read_text(encoding="utf-8")) and not own.search(text)
    }
    assert found <= {*OF_DATA, *OF_CLIENTS}


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/e2e/test_node.py::test_a[x::y]", "stack of clients"),
        ("tests/e2e/browser/test_other_origin.py::test_a", "stack of clients"),
        ("tests/e2e/test_cache.py::test_a", "stack of data"),
        ("tests/e2e/test_conformance.py::test_a", "stack of faults"),
        ("tests/e2e/test_alarms.py::test_a[b]", "tests/e2e/test_alarms.py"),
        ("tests/unit/proxy/metering/test_sse.py::TestA::test_a", "tests/unit/proxy/metering/test_sse.py"),
    ],
)
def test_a_group(nodeid: str, group: str):
    assert group_of(nodeid) == group


def test_what_takes_minutes_begins_before_what_takes_a_moment():
    groups = ["stack of clients", "tests/e2e/test_alarms.py", "tests/e2e/browser/test_playground.py"]
    groups += [
        "tests/integration/relay/test_relay.py",
        "tests/contract/test_events.py",
        "tests/unit/proxy/metering/test_sse.py",
        "other",
    ]
    places = [place_of(group) for group in groups]
    assert places == sorted(set(places))
