"""The template's alarms on the local stack, and what they tell.

The emulator knows no metric math and evaluates what is left only roughly. So the definitions of the template are
evaluated here, on what the stack has recorded; the emulator keeps the states, combines them and notifies.

Its one rule: nothing is measured here that AWS would not measure. What the emulator does not measure is read where AWS
would: queues from SQS, metrics of filters from the logs. Nobody measures Firehose and rules: their alarms see nothing.

Everything measured since `begin` counts as one period, however long it took: a slow machine stretches what happens
over several minutes, and an alarm of a rate would look at each of them alone.
"""

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from tests.alarm_states import Metric, State, metrics_of, period_of, state
from tests.contract.template_stack import Stack, deployed
from tests.e2e.harness import LocalStack, wait_for

LONGEST = 3600
"""Seconds: the longest period of an alarm."""
IN_LOG = (
    "EventsPublished",
    "EventsNotPublished",
    "EventsQueued",
    "UnauthorizedFailures",
    "TokenUnavailable",
    "KeyChecksFailed",
    "KeysRefused",
)
"""Metrics that filters make of a log."""
LATER = 3 * LONGEST
"""Seconds after which nothing of now is looked at any more."""
PATIENT = {"AlarmFirstChunkSeconds": "600"}
"""What is slow on a busy machine sets off no alarm, unless a test asks for that."""
NAMESPACE = "OpenAIProxy/openai-proxy"
_COUNT = "SampleCount"

Read = TypeVar("Read")


@dataclass(frozen=True)
class Message:
    """What the topic sent: an alarm's new state, or a plain text."""

    alarm: str
    state: str
    text: str


class AlarmWatch:
    """The alarms of a stack, an inbox that is subscribed to their topic, and everything measured since `begin`."""

    def __init__(self, stack: LocalStack) -> None:
        self._stack = stack
        self._cloudwatch, self._sqs = stack.aws("cloudwatch"), stack.aws("sqs")
        resources = stack.aws("cloudformation").describe_stack_resources(StackName=stack.environment["STACK_NAME"])
        self.physical = {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in resources["StackResources"]}
        self._inbox = self._sqs.create_queue(QueueName="inbox")["QueueUrl"]
        attributes = self._sqs.get_queue_attributes(QueueUrl=self._inbox, AttributeNames=["QueueArn"])
        self.topics = {name: self.physical[name] for name in ("AlarmTopic", "IncidentTopic")}
        endpoint = attributes["Attributes"]["QueueArn"]
        for topic in self.topics.values():
            stack.aws("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=endpoint)
        self._put_alarms(deployed())
        self._before: dict[Metric, dict[int, float]] = {}
        self._states: dict[str, State] = {}
        self._read: dict[str, Any] = {}
        """What has been read for the measurement that is made."""

    def begin(self) -> None:
        """Forget what was measured and told so far, and let every alarm be OK."""
        for alarm in self._states:
            self._set(alarm, "OK")
        self._before = self._measured(self.definitions({}))
        self.messages()

    def look(self, parameters: Mapping[str, str], at: float | None = None) -> set[str]:
        """Evaluate every alarm as deployed with `parameters`. Returns those in ALARM, without the stack's name.

        One bad period is enough, and all of the last two hours are looked at: how many of how many it takes is not
        what these tests try.
        """
        at = time.time() + LONGEST if at is None else at  # the periods of now are over by then
        alarms = self.definitions({**PATIENT, **parameters})
        measured = self._measured(alarms, at)

        def since(metric: Metric, periods: list[int]) -> dict[int, float]:
            value, now = self._since_begin(metric, measured), int(time.time()) // metric.period * metric.period
            if metric.namespace == "AWS/SQS":
                return {each: measured[metric][each] for each in periods if each in measured[metric]}
            return {} if value is None or now not in periods else {now: value}

        for alarm in alarms:
            patient = alarm | {"DatapointsToAlarm": 1, "EvaluationPeriods": 2 * LONGEST // period_of(alarm)}
            self._set(alarm["AlarmName"], state(patient, since, at))
        prefix = self._stack.environment["STACK_NAME"] + "-"
        return {name.removeprefix(prefix) for name, each in self._states.items() if each == "ALARM"}

    def _since_begin(self, metric: Metric, measured: Mapping[Metric, Mapping[int, float]]) -> float | None:
        """The metric since `begin`, as if all of it had been measured in one period; None without data."""
        if metric.statistic == "Sum":
            return sum(measured[metric].values()) - sum(self._before.get(metric, {}).values()) or None
        counted = replace(metric, statistic=_COUNT)
        before = self._before.get(counted, {})
        grown = {period for period, count in measured.get(counted, {}).items() if count > before.get(period, 0)}
        return max((value for period, value in measured[metric].items() if period in grown), default=None)

    def messages(self, wanted: Callable[[Message], bool] | None = None) -> list[Message]:
        """What has come since the last time, once one of it is `wanted`."""
        found: list[Message] = []

        def receive() -> bool:
            while batch := self._sqs.receive_message(QueueUrl=self._inbox, MaxNumberOfMessages=10).get("Messages"):
                for each in batch:
                    self._sqs.delete_message(QueueUrl=self._inbox, ReceiptHandle=each["ReceiptHandle"])
                    found.append(_message(json.loads(each["Body"])["Message"]))
            return wanted is None or any(map(wanted, found))

        wait_for(receive, "a message of the topic")
        return found

    def total(self, name: str, **dimensions: str) -> float:
        """The sum, since `begin`, of one of this application's metrics that an alarm looks at."""
        asked = (name, tuple(sorted(dimensions.items())))
        metric = next(each for each in self._before if (each.name, each.dimensions) == asked)
        self._read.clear()
        points = self._logged(metric) if name in IN_LOG else self._recorded([metric], time.time() + LONGEST)[metric]
        return sum(points.values()) - sum(self._before[metric].values())

    # -------------------------------------------------------------------------------------------------- definitions

    def definitions(self, parameters: Mapping[str, str]) -> list[dict[str, Any]]:
        return list(self._here(deployed(**parameters), "AWS::CloudWatch::Alarm"))

    def _here(self, template: Stack, kind: str) -> Iterator[dict[str, Any]]:
        """The template's resources with the names that this deployment gave."""

        stack = self._stack.environment["STACK_NAME"]

        def name(match: re.Match[str]) -> str:
            resource, _, attribute = match[1].partition(".")
            physical = self.physical.get(resource) or template.resources[resource]["Properties"]["AlarmName"]
            return physical.rpartition("/")[2] if attribute == "QueueName" else physical

        for resource in template.of_type(kind).values():
            text = re.sub(r"\$\{([\w.]+)(?:\[2\])?\}", name, json.dumps(resource))
            text = text.replace("OpenAIProxy/stack", NAMESPACE)
            yield json.loads(re.sub(r'(?<=")stack-', f"{stack}-", text))

    def _put_alarms(self, template: Stack) -> None:
        """Without a metric the emulator leaves an alarm alone; those that were deployed are overwritten."""
        for alarm in self._here(template, "AWS::CloudWatch::Alarm"):
            self._cloudwatch.put_metric_alarm(
                **{
                    key: alarm[key]
                    for key in ("AlarmName", "AlarmDescription", "ComparisonOperator", "EvaluationPeriods")
                }
            )
        for composite in self._here(template, "AWS::CloudWatch::CompositeAlarm"):
            self._cloudwatch.put_composite_alarm(**composite)
            assert composite["AlarmActions"][0] in self.topics.values()

    def _set(self, alarm: str, new: State) -> None:
        if self._states.get(alarm, "OK") != new:
            self._cloudwatch.set_alarm_state(AlarmName=alarm, StateValue=new, StateReason="evaluated by a test")
        self._states[alarm] = new

    # ------------------------------------------------------------------------------------------------- measurements

    def _measured(self, alarms: list[dict[str, Any]], at: float | None = None) -> dict[Metric, dict[int, float]]:
        at = time.time() + LONGEST if at is None else at
        asked = {metric for alarm in alarms for metric in metrics_of(alarm).values()}
        ours = [metric for metric in asked if metric.namespace in (NAMESPACE, "AWS/Lambda")]
        ours += [replace(metric, statistic=_COUNT) for metric in ours if metric.statistic != "Sum"]
        in_log = {metric for metric in ours if metric.name in IN_LOG}
        self._read.clear()
        return {
            **{metric: {} for metric in asked},
            **self._recorded([metric for metric in ours if metric not in in_log], at),
            **{metric: self._logged(metric) for metric in in_log},
            **{metric: self._queued(metric, at) for metric in asked if metric.namespace == "AWS/SQS"},
        }

    def _recorded(self, metrics: list[Metric], at: float) -> dict[Metric, dict[int, float]]:
        """The emulator's own. Asked for no dimensions it adds up all; of sums, those of all servers are the whole."""
        queries: dict[str, tuple[Metric, list[dict[str, str]]]] = {}
        for metric in metrics:
            dimensions = [{"Name": name, "Value": value} for name, value in metric.dimensions]
            sets = [dimensions]
            if not dimensions and metric.statistic == "Sum":
                by_server = [
                    each["Dimensions"] for each in self._listed(metric.namespace) if each["MetricName"] == metric.name
                ]
                sets = [each for each in by_server if [d["Name"] for d in each] == ["Server"]] or sets
            for each in sets:
                queries[f"q{len(queries)}"] = (metric, each)
        found: dict[Metric, dict[int, float]] = {metric: defaultdict(float) for metric in metrics}
        answer = self._cloudwatch.get_metric_data(
            MetricDataQueries=[_query(name, *asked) for name, asked in queries.items()],
            StartTime=time.time() - 4 * LONGEST,
            EndTime=at,
        )
        for result in answer["MetricDataResults"]:
            for moment, value in zip(result["Timestamps"], result["Values"], strict=True):
                found[queries[result["Id"]][0]][int(moment.timestamp())] += value
        return found

    def _listed(self, namespace: str) -> list[dict[str, Any]]:
        """All metrics that the emulator has in a namespace."""
        pages = self._cloudwatch.get_paginator("list_metrics")
        return self._once(
            namespace, lambda: [each for page in pages.paginate(Namespace=namespace) for each in page["Metrics"]]
        )

    def _logged(self, metric: Metric) -> dict[int, float]:
        """What the metric filter of that name would count in its log."""
        (filtered,) = [
            each
            for each in deployed().of_type("AWS::Logs::MetricFilter").values()
            if each["MetricTransformations"][0]["MetricName"] == metric.name
            and "Dimensions" not in each["MetricTransformations"][0]
        ]
        pattern = filtered["FilterPattern"]
        wanted = re.search(r'\$\.message = "([^"]+)"', pattern)
        assert wanted, f"teach the test {pattern}"
        are = [(name, truth == "TRUE") for name, truth in re.findall(r"\$\.(\w+) IS (TRUE|FALSE)", pattern)]
        value = filtered["MetricTransformations"][0]["MetricValue"].removeprefix("$.")
        found: dict[int, float] = defaultdict(float)
        for line in self._lines(filtered["LogGroupName"]):
            if line.get("message") != wanted[1] or any(line[name] is not is_so for name, is_so in are):
                continue
            moment = time.mktime(time.strptime(line["timestamp"][:19].replace(" ", "T"), "%Y-%m-%dT%H:%M:%S"))
            found[int(moment - time.timezone) // metric.period * metric.period] += float(line.get(value, 1))
        return found

    def _lines(self, group: str) -> list[dict[str, Any]]:
        """The lines of a log as they were when it was first read for this measurement."""
        return self._once(group, lambda: list(self._lines_now(group)))

    def _once(self, what: str, read: Callable[[], Read]) -> Read:
        """What `read` gives, read once for each measurement: hundreds of alarms' metrics look at the same."""
        if what not in self._read:
            self._read[what] = read()
        return self._read[what]

    def _lines_now(self, group: str) -> Iterator[dict[str, Any]]:
        """The lines of a log: of the proxy's sandboxes it is a file, of the other functions the emulator has it."""
        if group == "${ProxyLogGroup}":
            texts = (self._stack.folder / "logs" / "proxy.log").read_text().splitlines()
        else:
            name = self.physical[group.strip("${}")]
            pages = self._stack.aws("logs").get_paginator("filter_log_events").paginate(logGroupName=name)
            texts = [event["message"] for page in pages for event in page["events"]]
        yield from (_json(text[text.find("{") :]) for text in texts)

    def _queued(self, metric: Metric, at: float) -> dict[int, float]:
        """What SQS would say of a queue at `at`, if nothing changes until then."""
        ((_, name),) = metric.dimensions
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

        def read() -> dict[str, str]:
            url = self._sqs.get_queue_url(QueueName=name)["QueueUrl"]
            return self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]

        counts = self._once(name, read)
        visible, waiting = int(counts[names[0]]), sum(map(int, counts.values()))
        # The tests look an hour ahead: whatever waits now would have waited so long.
        value = visible if metric.name == "ApproximateNumberOfMessagesVisible" else LONGEST * bool(waiting)
        return {int(at) // metric.period * metric.period - metric.period: value}


def _query(name: str, metric: Metric, dimensions: list[dict[str, str]]) -> dict[str, Any]:
    measured = {"Namespace": metric.namespace, "MetricName": metric.name, "Dimensions": dimensions}
    return {"Id": name, "MetricStat": {"Metric": measured, "Period": metric.period, "Stat": metric.statistic}}


def _message(text: str) -> Message:
    told = _json(text)
    if "AlarmName" not in told:
        return Message("", "", json.loads(text) if text.startswith('"') else text)
    return Message(told["AlarmName"], told["NewStateValue"], f"{told['AlarmDescription']} {told['NewStateReason']}")


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
