"""What a worker of pytest-xdist tells the main process: how each test ended, once. Usually it tells of it six times.

Its one rule: whatever did not go well is told as it is, and all is told to whoever wants durations or a line per test.
"""

from typing import Any

import pytest


def tell_once(config: pytest.Config) -> None:
    """Have this process, if it is a worker, keep to itself that a test begins, is over, is set up and torn down."""
    if not hasattr(config, "workerinput") or config.option.verbose > 0 or config.option.durations is not None:
        return
    teller: Any = next(each for each in config.pluginmanager.get_plugins() if hasattr(each, "sendevent"))
    tell = teller.pytest_runtest_logreport

    @pytest.hookimpl
    def pytest_runtest_logreport(report: pytest.TestReport) -> None:
        if report.passed and not report.sections:
            if report.when != "call":
                return
            report.keywords = {}  # nobody there looks at them
        tell(report)

    config.pluginmanager.unregister(teller)
    teller.pytest_runtest_logreport = pytest_runtest_logreport
    teller.pytest_runtest_logstart = teller.pytest_runtest_logfinish = None
    config.pluginmanager.register(teller)
