"""Whose fault a request's end was, as X-Ray counts it."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
from proxy.records.tracing import subsegment_of
from proxy.request.trace_context import XRayContext
from proxy.timeline import Attempt, Clock, Timeline

TRACE = XRayContext("", "1-5759e988-bd862e3fe1be46a994272793", "53995c3f42cd8ad8", sampled=True)
FLAGS = ("fault", "error", "throttle")


@pytest.mark.parametrize(
    ("status", "failed", "flags"),
    [
        (200, False, []),
        (200, True, ["fault"]),
        (304, False, []),
        (399, True, ["fault"]),
        (400, True, ["error"]),
        (429, False, ["error", "throttle"]),
        (499, True, ["error"]),
        (500, False, ["fault"]),
        (500, True, ["fault"]),
    ],
)
def test_whose_fault_it_was_is_said_of_the_request_and_of_the_call(status: int, failed: bool, flags: list[str]) -> None:
    timeline = Timeline(Clock(lambda: 1_795_426_900.0, lambda: 5.0))
    timeline.attempts.append(Attempt("main", status, "upstream_error" if failed else None, 0.0, 5.0))
    event: Any = SimpleNamespace(data={"response": {"status_code": status}})
    line = defaultdict[str, Any](lambda: None, outcome="failed" if failed else "completed", published=True)
    found = subsegment_of(timeline, event, line, TRACE)
    call = next(each for each in found["subsegments"] if each["name"] == "main")
    assert [[name for name in FLAGS if each.get(name)] for each in (found, call)] == [flags, flags]
