"""Whose fault a failure is, from each attribute that says it, and from no other."""

from itertools import product
from typing import Any

import pytest
from openai_proxy.ledger.faults import FAULTS, NEEDED, OF_LIMITS, failure_share, fault_of

VALUES: dict[str, tuple[Any, ...]] = {
    "outcome": ("failed", "completed"),
    "error_source": ("client", "proxy", "upstream", "server", "limit", "nobody", None),
    "error_type": ("upstream_error", *OF_LIMITS, None),
    "status_code": (200, 429, 502, None),
    "upstream_status": (429, 500, None),
}
FAILED = {"outcome": "failed", "error_source": "proxy", "error_type": "x", "status_code": 502, "upstream_status": 500}


@pytest.mark.parametrize("name", NEEDED)
def test_what_is_needed_is_all_that_is_looked_at(name: str) -> None:
    matters = False
    for values in product(*VALUES.values()):
        entry = {"model": "m", **dict(zip(VALUES, values, strict=True))}
        needed = {each: entry[each] for each in NEEDED}
        assert fault_of(needed) == fault_of(entry)
        matters |= any(fault_of({**needed, name: other}) != fault_of(needed) for other in VALUES[name])
    assert matters


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({}, "proxy"),
        ({"error_source": "client"}, "client"),
        ({"error_source": "upstream"}, "server"),
        ({"error_source": "somebody"}, None),
        ({"error_source": None}, None),
        ({"status_code": 429}, "limit"),
        ({"upstream_status": 429}, "limit"),
        *(({"error_type": each}, "limit") for each in OF_LIMITS),
        ({"outcome": "completed", "status_code": 429}, None),
    ],
    ids=range(8 + len(OF_LIMITS)),
)
def test_a_failure_is_somebodys(changed: dict[str, Any], fault: str | None) -> None:
    entry = FAILED | changed
    assert fault_of(entry) == fault
    assert fault is None or fault in FAULTS
    failed = {"failed": int(entry["outcome"] == "failed")}
    assert failure_share(entry) == (failed | {f"failed_{fault}": 1} if fault else failed)
