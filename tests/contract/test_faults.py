"""The page of faults says what its table says, and names alarms that exist. `make faults` tries every line of it."""

import pytest

from tests.contract.template_stack import deployed
from tests.e2e.faults_table import CALLS, PAGE, page


def test_the_page_says_what_the_table_says(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--write-page"):
        PAGE.write_text(page())
    assert PAGE.read_text() == page()


def test_every_alarm_that_is_named_exists() -> None:
    alarms = deployed(AlarmsEnabled="true").of_type("AWS::CloudWatch::Alarm").values()
    names = {alarm["AlarmName"].removeprefix("stack-") for alarm in alarms}
    named = {name for call in CALLS for line in call.lines for name in line.alarm.replace("`", "").split(", ") if name}
    assert named
    assert named <= names
