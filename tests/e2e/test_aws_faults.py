"""Each call to AWS goes wrong in each way, and everybody sees what `docs/faults.md` says.

`make faults` tries every line; `make test` a small choice.
"""

import secrets
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from proxy.records.publisher import NOT_CONFIRMED, NOT_PUBLISHED

from tests.e2e.fault_drivers import DRIVERS, FaultyStack, chat, client_with, seen, started
from tests.e2e.faults_table import CALLS, Call, Line
from tests.e2e.harness import WAIT_SECONDS, wait_for

_LATE_SECONDS = 30
"""Longer than anything here waits for AWS, with an emulator too."""
_CHOSEN = ("lambda:Invoke unavailable", "dynamodb:GetItem html", "dynamodb:UpdateItem lost", "events:PutEvents object")
CASES = [(call, line, fault) for call in CALLS for line in call.lines for fault in line.faults]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "fault" in metafunc.fixturenames:
        tries_all = metafunc.config.getoption("--all-faults")
        cases = CASES if tries_all else [case for case in CASES if _is_chosen(*case)]
        metafunc.parametrize(("call", "line", "fault"), cases, ids=[name_of(*case) for case in cases])


def _is_chosen(call: Call, line: Line, fault: str) -> bool:
    """One stack is enough for the choice, that with the policy of the template."""
    return f"{call.action} {fault}" in _CHOSEN and line.policy != "closed"


def name_of(call: Call, line: Line, fault: str) -> str:
    return "-".join(filter(None, (call.title, fault, line.policy)))


@pytest.fixture(scope="module")
def faulty_stacks(
    equipped: FaultyStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], FaultyStack]]:
    """Gives a stack with a failure policy of limits; each is started once."""
    running: dict[str, FaultyStack] = {}

    def give(policy: str) -> FaultyStack:
        if policy == "open":
            return equipped
        if policy not in running:
            running[policy] = started(tmp_path_factory.mktemp(f"faults-{policy}"), policy)
        return running[policy]

    yield give
    for faulty in running.values():
        faulty.stack.discard()


def test_a_call_that_goes_wrong(
    faulty_stacks: Callable[[str], FaultyStack], call: Call, line: Line, fault: str
) -> None:
    faulty = faulty_stacks(line.policy or "open")
    faulty.forget()
    driven = DRIVERS[call.driver](faulty)
    before = len(driven.client.entries())
    faulty.wait_for_a_quiet_log()
    offset = faulty.log("proxy").stat().st_size
    rule = {"call": call.action, "resource": call.resource, "of": call.of, "fault": fault, "seconds": _LATE_SECONDS}
    rules = [rule | {"call": each, "skip": call.skip, "times": call.times} for each in (call.action, call.too) if each]
    with faulty.going_wrong(*rules):
        began = time.monotonic()
        answer = driven.ask()
        passed = time.monotonic() - began
        if line.log:
            wait_for(lambda: line.log in faulty.messages("proxy", offset), f"the log line {line.log!r}")
        if code := line.client.partition(" ")[2]:
            wait_for(lambda: code in [each.get("error") for each in faulty.lines("proxy", offset)], f"a line of {code}")
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


def test_what_the_bus_does_not_take_comes_when_it_is_back(equipped: FaultyStack) -> None:
    """By both doors. Nobody can put anything on the bus meanwhile, publish_again included; answers are cached."""
    client = client_with(equipped.stack, cache={"mode": "on", "ttl": 3600})
    logs = {name: equipped.log(name).stat().st_size for name in ("proxy", "ministack")}
    by_url, by_api = (chat(secrets.token_hex(8)) for _ in range(2))

    def waiting() -> int:
        url, names = equipped.stack.outputs["PublishAgainQueueUrl"], ["All"]
        counts = equipped.stack.aws("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        return sum(int(counts[f"ApproximateNumberOfMessages{which}"]) for which in ("", "NotVisible"))

    def is_hit() -> bool:
        return client.post("demo/v1/chat/completions", json=by_url).headers.get("x-cache") == "HIT"

    def refused_again() -> bool:
        lines = equipped.lines("ministack", logs["ministack"])
        return any("ThrottlingException" in line.get("reasons", ()) for line in lines)

    wait_for(lambda: not waiting(), "the end of what other tests have queued")
    with equipped.going_wrong({"call": "events:PutEvents", "fault": "throttled"}):
        assert client.post("demo/v1/chat/completions", json=by_url).status_code == 200
        url, headers = equipped.stack.environment["REST_API_URL"], {"authorization": f"Bearer {client.key}"}
        answer = httpx.post(f"{url}demo/v1/chat/completions", headers=headers, timeout=WAIT_SECONDS, json=by_api)
        assert answer.status_code == 200
        wait_for(lambda: waiting() == 2, "two events in the queue")
        wait_for(is_hit, "an answer in the cache, past the bus")
        wait_for(refused_again, "a try of publish_again in vain")
        assert client.entries() == []
    wait_for(lambda: not waiting(), "an empty queue")
    asked = {line["id"] for line in equipped.lines("proxy", logs["proxy"]) if line.get("client_id") == client.id}
    entries = client.wait_for_entries(len(asked) + 1)
    assert asked < {entry["sk"] for entry in entries}, "the others are those of the REST API"
    assert {entry["door"] for entry in entries} == {"function_url", "rest_api"}
    assert not equipped.messages("proxy", logs["proxy"]) & {NOT_PUBLISHED, NOT_CONFIRMED}
