"""Each call to AWS goes wrong in each way, and everybody sees what `docs/faults.md` says.

`make faults` tries every line; `make test` a small choice.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.processes import free_ports
from tests.e2e.fault_drivers import DRIVERS, SECRET, SERVER_WITH_A_SECRET, FaultyStack, seen
from tests.e2e.faults_table import CALLS, Call, Line
from tests.e2e.harness import ROOT, LocalStack, start, wait_for

_LATE_SECONDS = 30
"""Longer than anything here waits for AWS, with an emulator too."""
_CHOSEN = ("lambda:Invoke unavailable", "dynamodb:GetItem html", "dynamodb:UpdateItem lost", "events:PutEvents object")
CASES = [(call, line, fault) for call in CALLS for line in call.lines for fault in line.faults]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fault" in metafunc.fixturenames:
        tries_all = metafunc.config.getoption("--all-faults")
        cases = [case for case in CASES if tries_all or f"{case[0].action} {case[2]}" in _CHOSEN]
        metafunc.parametrize(("call", "line", "fault"), cases, ids=[name_of(*case) for case in cases])


def name_of(call: Call, line: Line, fault: str) -> str:
    return "-".join(filter(None, (call.title, fault, line.policy)))


@pytest.fixture(scope="module")
def faulty_stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], FaultyStack]]:
    """Gives a stack with a failure policy of limits; each is started once."""
    running: dict[str, FaultyStack] = {}

    def give(policy: str) -> FaultyStack:
        if policy not in running:
            running[policy] = started(tmp_path_factory.mktemp(f"faults-{policy}"), policy)
        return running[policy]

    yield give
    for faulty in running.values():
        faulty.stack.stop()


def started(folder: Path, policy: str) -> FaultyStack:
    names: tuple[str, ...] = ("PORT", "MINISTACK_PORT", "DEMO_PORT")
    ports: dict[str, int] = dict(zip(names, free_ports(3), strict=True))
    faults, servers = folder / "faults.yaml", folder / "servers.yaml"
    faults.write_text("[]")
    url = f"http://127.0.0.1:{ports['DEMO_PORT']}/v1"
    vault = f"{SERVER_WITH_A_SECRET}:\n  {{url: '{url}', token: 'secretsmanager:{SECRET}', model: demo}}\n"
    servers.write_text((ROOT / "openai_servers.yaml").read_text() + vault)
    options = ("--faults", str(faults), "--servers-file", str(servers), "--parameters")
    stack = start(folder / "stack", *options, f"LimitsFailurePolicy={policy}", ports=ports)
    queues = stack.aws("sqs")
    for queue in queues.list_queues()["QueueUrls"]:  # what fails comes again after seconds, not minutes
        queues.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "5"})
    stack.aws("secretsmanager").create_secret(Name=SECRET, SecretString=demo_token(stack))
    return FaultyStack(stack, faults)


def demo_token(stack: LocalStack) -> str:
    """The token that the demo server takes."""
    listed = (stack.folder / "openai_servers.yaml").read_text()
    return listed.rpartition("demo:")[2].partition("token: ")[2].split()[0]


def test_a_call_that_goes_wrong(
    faulty_stacks: Callable[[str], FaultyStack], call: Call, line: Line, fault: str
) -> None:
    faulty = faulty_stacks(line.policy or "open")
    faulty.forget()
    driven = DRIVERS[call.driver](faulty)
    before = len(driven.client.entries())
    offset = faulty.log("proxy").stat().st_size
    rule = {"call": call.action, "resource": call.resource, "of": call.of, "fault": fault, "seconds": _LATE_SECONDS}
    with faulty.going_wrong(rule | {"skip": call.skip, "times": call.times}):
        began = time.monotonic()
        answer = driven.ask()
        passed = time.monotonic() - began
        if line.log:
            wait_for(lambda: line.log in faulty.messages("proxy", offset), f"the log line {line.log!r}")
    print(f"{name_of(call, line, fault)}: {seen(answer)} after {passed:.2f} s; {faulty.messages('proxy', offset)}")
    assert seen(answer) == line.client
    if line.recorded:
        entries = driven.client.wait_for_entries(before + 1)
        newest = max(entries, key=lambda entry: entry["sk"])
        assert len(entries) == before + 1
        assert line.recorded == ", ".join(
            [newest["outcome"], *([f"limits {newest['limits']}"] if "limits" in newest else [])]
        )
    if driven.settled:
        wait_for(driven.settled, "what is done after the request")
    driven.client.close()
