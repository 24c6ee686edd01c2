"""Which lines are written, and by which clock ages are measured."""

import json
import time

import proxy.log
import pytest
from proxy.clock import lasting
from proxy.log import log, log_from, log_of_invocation

LEVELS = ["DEBUG", "INFO", "WARN", "ERROR", "CRITICAL"]


@pytest.mark.parametrize(
    ("environ", "written"),
    [
        ({}, LEVELS[1:]),
        ({"LOG_LEVEL": "DEBUG"}, LEVELS),
        ({"LOG_LEVEL": "WARNING"}, LEVELS[2:]),
        ({"LOG_LEVEL": "ERROR"}, LEVELS[3:]),
        ({"LOG_LEVEL": "loud"}, LEVELS[1:]),
        ({"AWS_LAMBDA_LOG_LEVEL": "WARN"}, LEVELS[2:]),
        ({"AWS_LAMBDA_LOG_LEVEL": "ERROR", "LOG_LEVEL": "DEBUG"}, LEVELS[3:]),
        ({"AWS_LAMBDA_LOG_LEVEL": "", "LOG_LEVEL": "DEBUG"}, LEVELS),
    ],
)
def test_lines_below_the_level_that_was_deployed_are_not_written(
    environ: dict[str, str], written: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    log_from(environ)
    try:
        for level in LEVELS:
            log(level, level)
    finally:
        log_from({})
    assert [json.loads(line)["message"] for line in capsys.readouterr().out.splitlines()] == written


def test_lines_of_an_invocation_name_it_where_several_processes_write_one_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy.log, "_invocation", {})
    log("INFO", "before")
    for request_id in ("one", "two"):
        log_of_invocation(request_id)
        log("INFO", "during")
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("requestId") for line in found] == [None, "one", "two"]


def test_the_clock_of_ages_counts_what_a_frozen_sandbox_misses() -> None:
    clock = time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()
    assert 0 <= lasting() - clock < 60
