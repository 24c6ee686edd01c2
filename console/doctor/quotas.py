"""What the account and the Region allow: how many requests at once, how many events a second, how much into the lake.

A quota is judged by what follows from the others: a request takes a sandbox for as long as it streams, some 10 seconds,
and ends in one event.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from console.doctor.deployment import Deployment
from console.doctor.findings import Finding
from console.text import count

AREA = "quotas"
LAMBDA_QUOTA = "L-B99A9384"
"""The code of Lambda's concurrent executions in Service Quotas."""
USUAL_CONCURRENCY = 1000
SMALL_CONCURRENCY = 100
"""New accounts have less: as few as 10 requests at once, with the authorizer and the consumers among them."""
SECONDS_OF_A_STREAM = 10
_PUT_EVENTS = "putevents throttle limit"
_DAY = timedelta(days=1)


def concurrency_findings(stack: Deployment) -> Iterator[Finding]:
    """How many invocations may run at once, and how many of them nobody has reserved."""
    limits: Mapping[str, Any] = stack.account.ask("lambda", "get_account_settings")["AccountLimit"]
    most, unreserved = int(limits["ConcurrentExecutions"]), int(limits.get("UnreservedConcurrentExecutions", 0))
    says = f"{count(most)} at once, {count(unreserved)} of them not reserved"
    raise_it = (
        f"aws service-quotas request-service-quota-increase --service-code lambda --quota-code {LAMBDA_QUOTA} "
        f"--desired-value {USUAL_CONCURRENCY}"
    )
    if most < SMALL_CONCURRENCY:
        problem = f"{says}: each stream takes one until it ends, and all functions of the account share them"
        yield Finding(AREA, "Lambda's concurrency", "todo", problem, raise_it)
    else:
        yield Finding(AREA, "Lambda's concurrency", "ok", says)
    used = _statistic(stack, "AWS/Lambda", "ConcurrentExecutions", (), "Maximum")
    if used is None:
        yield Finding(AREA, "of it, used in a day", "unknown", "CloudWatch has no figure of it yet")
    elif used >= 0.8 * most:
        yield Finding(AREA, "of it, used in a day", "todo", f"up to {used:.0f} of {most}", raise_it)
    else:
        yield Finding(AREA, "of it, used in a day", "ok", f"up to {used:.0f} of {most}")


def put_events_findings(stack: Deployment) -> Iterator[Finding]:
    """Whether the bus takes as many events as the account's sandboxes can make."""
    quota = _put_events_quota(_quotas_of_events(stack))
    if quota is None:
        yield Finding(AREA, "EventBridge PutEvents", "unknown", "Service Quotas lists none by that name")
        return
    value, code = quota
    most = int(stack.account.ask("lambda", "get_account_settings")["AccountLimit"]["ConcurrentExecutions"])
    needed = most / SECONDS_OF_A_STREAM
    says = f"{count(int(value))} a second"
    if value < needed:
        remedy = (
            f"aws service-quotas request-service-quota-increase --service-code events --quota-code {code} "
            f"--desired-value {needed:.0f}"
        )
        says += f"; {count(most)} streams at once of {SECONDS_OF_A_STREAM} seconds make {needed:.0f}"
        yield Finding(AREA, "EventBridge PutEvents", "todo", says, remedy)
    else:
        yield Finding(AREA, "EventBridge PutEvents", "ok", says)


def lake_findings(stack: Deployment) -> Iterator[Finding]:
    """Whether Firehose takes entries, what it lets in, and what it refused in a day."""
    stream = stack.outputs.get("LakeStream")
    if stream is None:
        yield Finding(AREA, "Firehose", "note", "LakeEnabled is off: there is no lake")
        return
    described = stack.account.ask("firehose", "describe_delivery_stream", DeliveryStreamName=stream)
    status = described["DeliveryStreamDescription"]["DeliveryStreamStatus"]
    if status != "ACTIVE":
        yield Finding(AREA, "Firehose", "todo", f"the stream into the lake is {status}", stack.runbook("lake"))
    dimension = ("DeliveryStreamName", stream)
    refused = _statistic(stack, "AWS/Firehose", "ThrottledRecords", dimension, "Sum")
    most = _statistic(stack, "AWS/Firehose", "RecordsPerSecondLimit", dimension, "Maximum")
    if refused:
        says = f"it refused {count(int(refused))} entries in a day, which were sent again"
        yield Finding(AREA, "Firehose", "todo", says, f"ask AWS for a higher limit: {stack.runbook('lake')}")
    elif most is None:
        yield Finding(AREA, "Firehose", "unknown", "CloudWatch knows no limit of the stream; it has had no traffic yet")
    else:
        yield Finding(AREA, "Firehose", "ok", f"{count(int(most))} entries a second")


def _quotas_of_events(stack: Deployment) -> list[Mapping[str, Any]]:
    """All quotas of EventBridge in this account."""
    found: list[Mapping[str, Any]] = []
    page: dict[str, str] = {}
    while True:
        answer = stack.account.ask("service-quotas", "list_service_quotas", ServiceCode="events", **page)
        found += answer.get("Quotas", [])
        if not answer.get("NextToken"):
            return found
        page = {"NextToken": answer["NextToken"]}


def _put_events_quota(quotas: Sequence[Mapping[str, Any]]) -> tuple[float, str] | None:
    """The calls of PutEvents a second, and the quota's code. It is found by its name: codes are not documented."""
    named = [each for each in quotas if _PUT_EVENTS in str(each.get("QuotaName", "")).lower()]
    return (float(named[0]["Value"]), str(named[0]["QuotaCode"])) if named else None


def _statistic(
    stack: Deployment, namespace: str, metric: str, dimension: tuple[str, str] | tuple[()], of: str
) -> float | None:
    """The largest value of a metric in the last day, or its sum; None when it has none."""
    now = datetime.now(UTC)
    answer = stack.account.ask(
        "cloudwatch",
        "get_metric_statistics",
        Namespace=namespace,
        MetricName=metric,
        Dimensions=[{"Name": dimension[0], "Value": dimension[1]}] if dimension else [],
        StartTime=now - _DAY,
        EndTime=now,
        Period=3600,
        Statistics=[of],
    )
    values = [float(point[of]) for point in answer.get("Datapoints", [])]
    return None if not values else sum(values) if of == "Sum" else max(values)
