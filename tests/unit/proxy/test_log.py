"""Which lines are written, and by which clock ages are measured."""

import json
import time

import pytest
from proxy.clock import lasting
from proxy.log import log, log_from

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


def test_the_clock_of_ages_counts_what_a_frozen_sandbox_misses() -> None:
    clock = time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()
    assert 0 <= lasting() - clock < 60
