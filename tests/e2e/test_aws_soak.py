"""Many clients for a while: every fifth call to AWS goes wrong, one way or another, and sandboxes are killed.

`make faults` does so for a minute with each failure policy, `make faults ARGS="--soak 600 -k soak"` for ten.
Afterwards everything agrees: what clients have seen, the log, the ledger, its sums, the budgets and the metrics.
"""

import json
import re
from collections import Counter, defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from openai_proxy.limits import counter_key
from proxy.records.records import UNAUTHORIZED

from tests.e2e.fault_drivers import started
from tests.e2e.fault_load import KEYS, soak
from tests.e2e.fault_traces import Traces, traces_of

_COMES_AGAIN = 40
"""Seconds: longer than a consumer works, so that no message is given to two at once."""
_PATIENT = "AuthorizerCacheSeconds=900"
"""An emulator starts few authorizers: most requests are to come to the calls that follow."""
_NOT_AUTHORIZED = "authorization_unavailable"
_OF_LAMBDA = "sandbox_crashed"
"""What stands for an answer of Lambda's own has this code."""
_OWN_FAULTS = re.compile(r"\b(?:Key|Type|Value|Attribute|Index|Name|Assertion|Recursion)Error\b")
_SHARES = ("requests", "failed", "input_tokens", "output_tokens", "cost")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "policy" in metafunc.fixturenames:
        option = metafunc.config.getoption
        metafunc.parametrize("policy", ["open", "closed"] if option("--soak") or option("--all-faults") else [])


def is_lost(line: dict[str, Any]) -> bool:
    """Whether neither the bus nor a queue has the event of a request."""
    return not line["published"] and not line["queued"]


def no_answer_is_cut_but_by_a_kill(traces: Traces) -> None:
    broken = Counter(each.code for each in traces.asked if each.status in (0, 200) and each.code)
    assert set(broken) <= {"cut"}
    crashed = sum(each.code == _OF_LAMBDA for each in traces.asked)
    assert broken.total() + crashed <= traces.kills


def every_refusal_is_an_error_of_openai_and_says_when_to_come_again(traces: Traces) -> None:
    refused = [each for each in traces.asked if each.status >= 400]
    assert refused
    assert not [each for each in refused if each.code in ("?", "internal_error")]
    assert not [each for each in refused if each.status in (429, 503) and not each.retry_after.isdigit()]
    assert {each.code for each in refused if each.status < 500} <= {"rate_limit_exceeded", "receipt_not_found"}


def every_failure_is_in_the_log(traces: Traces) -> None:
    failed = [each for each in traces.asked if each.status >= 500 and each.code != _OF_LAMBDA]
    known = [each for each in failed if each.code != _NOT_AUTHORIZED]
    untold = [each for each in known if traces.requests.get(each.id, {}).get("error") != each.code]
    assert len(untold) <= traces.kills
    told = sum(line["requests"] for line in traces.lines if line["message"] == UNAUTHORIZED)
    assert told >= len(failed) - len(known) - traces.kills


def every_failure_is_in_a_metric(traces: Traces) -> None:
    published = [line for line in traces.requests.values() if not is_lost(line)]
    for code, count in Counter(line["error"] for line in published if line["outcome"] == "failed").items():
        assert traces.metric("Failures", "Server", ErrorType=code) >= count, code
    for outcome, count in Counter(line["outcome"] for line in published).items():
        assert traces.metric("Requests", "Server", Outcome=outcome) >= count, outcome
    unchecked = sum(entry.get("limits") == "unchecked" for entry in traces.entries.values())
    assert traces.metric("LimitsUnchecked") >= unchecked


def every_request_is_in_the_log_and_its_event_in_the_ledger(traces: Traces) -> None:
    answered = [each for each in traces.asked if each.status == 200 and each.id]
    assert len([each for each in answered if each.id not in traces.requests]) <= traces.kills
    recorded = {each for each, line in traces.requests.items() if not is_lost(line) and line["outcome"] != "throttled"}
    assert recorded
    assert recorded <= traces.entries.keys()
    assert len(traces.entries.keys() - traces.requests.keys()) <= traces.kills
    lost = {line["id"] for line in traces.lines if line["message"] in traces.NOT_PUBLISHED}
    unpublished = {each for each, line in traces.requests.items() if is_lost(line)}
    assert unpublished <= lost, "whoever wants to can put them again"


def the_ledger_has_what_was_answered(traces: Traces) -> None:
    compared = 0
    for each in traces.asked:
        entry = traces.entries.get(each.id)
        if entry and each.usage:
            assert each.usage == (entry["input_tokens"], entry["output_tokens"])
            assert entry["outcome"] == "completed"
            compared += 1
    assert compared


def the_sums_of_the_ledger_are_those_of_its_entries(traces: Traces) -> None:
    expected: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for entry in traces.entries.values():
        for period in ("day", "month"):
            key = (
                f"{period}#{entry[period]}",
                "#".join(entry.get(name, "-") for name in ("client_id", "server", "model")),
            )
            own = {"requests": 1, "failed": int(entry["outcome"] == "failed"), **entry}
            expected[key].update({name: own.get(name, Decimal(0)) for name in _SHARES})
    found = {(item["pk"], item["sk"]): item for item in traces.items}
    assert expected
    for key, sums in expected.items():
        assert {name: found[key][name] for name in _SHARES} == {name: sums[name] for name in _SHARES}


def budgets_are_spent_as_the_ledger_says_and_nothing_else_is_reserved(traces: Traces) -> None:
    for name in (name for name, fields in KEYS.items() if "budget_day" in fields):
        client = traces.soaked.clients[name]
        days: Counter[str] = Counter()
        for entry in traces.entries.values():
            if entry["client_id"] == client.id:
                days[entry["day"]] += entry.get("cost", Decimal(0))  # pyright: ignore[reportArgumentType]
        counter = traces.counter(counter_key(client.key_hash[:12])["pk"]["S"])
        assert counter["day_spent"] == days[counter["day"]]
        reserved = sum((value for key, value in counter.items() if key.startswith("r_")), Decimal(0))
        reserved += sum((lease["cost"] for lease in counter["live"].values()), Decimal(0))  # of sandboxes that died
        assert counter["day_cost"] == counter["day_spent"] + reserved
        lost = sum(map(is_lost, traces.requests.values())) + traces.kills
        assert reserved == 0 or lost, "only what nobody heard of is reserved until its half hour is over"


def nothing_fails_in_a_way_that_nobody_has_thought_of(traces: Traces) -> None:
    log = traces.faulty.log("proxy").read_text()
    assert "Traceback" not in log
    assert not [line for line in traces.lines if "inside the proxy" in line["message"] or "trace" in line]
    functions = traces.faulty.log("ministack").read_text().splitlines()
    assert not [line for line in functions if _OWN_FAULTS.search(line) and "botocore" not in line]


CHECKS = (
    no_answer_is_cut_but_by_a_kill,
    every_refusal_is_an_error_of_openai_and_says_when_to_come_again,
    every_failure_is_in_the_log,
    every_failure_is_in_a_metric,
    every_request_is_in_the_log_and_its_event_in_the_ledger,
    the_ledger_has_what_was_answered,
    the_sums_of_the_ledger_are_those_of_its_entries,
    budgets_are_spent_as_the_ledger_says_and_nothing_else_is_reserved,
    nothing_fails_in_a_way_that_nobody_has_thought_of,
)


def test_everything_agrees(policy: str, pytestconfig: pytest.Config, tmp_path: Path) -> None:
    option: Any = pytestconfig.getoption
    faulty = started(tmp_path, policy, _COMES_AGAIN, _PATIENT)
    try:
        traces = traces_of(faulty, soak(faulty, option("--soak") or 60.0, int(option("--seed"))))
        print(json.dumps(traces.summary, indent=1))
        failures: list[Exception] = []
        for check in CHECKS:
            try:
                check(traces)
            except (AssertionError, LookupError) as failure:
                failures.append(failure)
        if failures:
            raise ExceptionGroup(f"{len(failures)} of {len(CHECKS)} things do not agree", failures)
    finally:
        faulty.stack.stop()
