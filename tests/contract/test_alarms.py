"""Alarms, dashboard and runbooks against each other, the metrics that exist and the resources that are deployed.

One rule: an alarm or a widget that asks for a metric which nobody writes looks healthy for ever.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast, get_args

import pytest
from proxy.upstream.provider_tokens import Cause

from tests.alarm_states import Metric, children_of, metrics_of, period_of, state
from tests.contract.template_stack import ROOT, Stack, deployed, parameters_of_template, source

OURS = "OpenAIProxy/stack"
OF_AWS = {
    ("AWS/Lambda", "FunctionName"): ("AWS::Lambda::Function", {"Errors", "Throttles", "ConcurrentExecutions"}),
    ("AWS/SQS", "QueueName"): (
        "AWS::SQS::Queue",
        {"ApproximateNumberOfMessagesVisible", "ApproximateAgeOfOldestMessage"},
    ),
    ("AWS/Events", "RuleName"): ("AWS::Events::Rule", {"FailedInvocations"}),
    ("AWS/Firehose", "DeliveryStreamName"): (
        "AWS::KinesisFirehose::DeliveryStream",
        {"DeliveryToS3.DataFreshness", "FailedConversion.Records"},
    ),
}
"""Namespace and dimension ─▶ the type of resource that AWS measures so, and its metrics that are used here."""

VALUES = {
    "Kind": {"client", "upstream"},
    "Source": {
        *(
            f"{whose}_{what}"
            for whose in ("key", "team")
            for what in ("rpm", "tpm", "parallel", "budget", "budget_reserved")
        ),
        "upstream",
    },
    "ErrorSource": {"upstream", "client", "proxy"},
    "Consumer": {"record_metrics", "record_cost"},
    "Reason": set(get_args(Cause)),
    "Outcome": {"completed", "failed", "throttled"},
    "TokenType": {"input", "output", "cache_read", "cache_creation", "reasoning", "audio_input", "audio_output"},
}
"""The values of those dimensions that have few."""

SETTINGS: list[dict[str, str]] = [{}, {"LakeEnabled": "false"}, {"AlarmFormulasEnabled": "false"}]


@pytest.fixture(params=SETTINGS, ids=lambda setting: ",".join(map("=".join, setting.items())) or "defaults")
def stack(request: pytest.FixtureRequest) -> Stack:
    return deployed(**request.param)


def alarms_of(stack: Stack) -> dict[str, dict[str, Any]]:
    return stack.of_type("AWS::CloudWatch::Alarm")


def composites_of(stack: Stack) -> dict[str, dict[str, Any]]:
    return stack.of_type("AWS::CloudWatch::CompositeAlarm")


NAMES = [name for name, each in source()["Resources"].items() if each["Type"] == "AWS::CloudWatch::Alarm"]


def documented() -> dict[str, set[frozenset[str]]]:
    """The metrics of docs/metrics.md ─▶ the sets of dimensions that each has."""
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \| \w+ \| ([^|]+) \| ", page, re.MULTILINE)
    return {name: {frozenset(re.findall(r"`(\w+)`", each)) for each in sets.split(", ")} for name, sets in rows}


def problem_with(metric: Metric, stack: Stack) -> str | None:
    """Why nobody writes `metric`, if so."""
    names = frozenset(name for name, _ in metric.dimensions)
    if metric.namespace == OURS:
        if names not in documented().get(metric.name, set()):
            return f"docs/metrics.md has no {metric.name} for each of {sorted(names)}"
        return next((f"{n} is never {v}" for n, v in metric.dimensions if v not in VALUES.get(n, {v}) | {"any"}), None)
    dimensions = [each for each in metric.dimensions if each != ("EventBusName", "${Bus}")]
    if (metric.namespace == "AWS/Events") != (len(dimensions) < len(metric.dimensions)):
        return "rules on a bus of one's own are measured by bus and rule together"
    ((dimension, value),) = dimensions
    if (metric.namespace, dimension) not in OF_AWS:
        return f"{metric.namespace} has no {dimension}"
    kind, known = OF_AWS[metric.namespace, dimension]
    measured = {f"${{{name}}}" for name in stack.of_type(kind)} | {
        f"${{{name}.{end}}}" for name in stack.of_type(kind) for end in ("QueueName", "Arn[2]")
    }
    return None if metric.name in known and value in measured else f"no {metric.name} of {value}"


# --------------------------------------------------------------------------------------------------------------- alarms


def test_every_alarm_looks_at_metrics_that_exist(stack: Stack) -> None:
    assert alarms_of(stack)
    for name, alarm in alarms_of(stack).items():
        for metric in metrics_of(alarm).values():
            assert problem_with(metric, stack) is None, name


def test_every_alarm_says_what_it_means_and_has_a_runbook_a_threshold_and_a_name(stack: Stack) -> None:
    names = [alarm["AlarmName"] for alarm in [*alarms_of(stack).values(), *composites_of(stack).values()]]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"stack-[a-z-]+", name) for name in names)
    for alarm in alarms_of(stack).values():
        name = alarm["AlarmName"].removeprefix("stack-")
        described = re.fullmatch(r".{40,}\. Runbook: (\S+\.md)#what-to-look-at", alarm["AlarmDescription"])
        assert described, f"the text of the alarm {name} is no sentence of 40 characters or more, or names no runbook"
        page = ROOT / described[1]
        assert page.is_file(), f"the alarm {name} has no runbook {described[1]}"
        assert f"`{name}`" in page.read_text(encoding="utf-8"), f"{described[1]} does not name the alarm `{name}`"


def test_the_readme_says_what_alarms_and_queues_cost_while_nobody_asks() -> None:
    """CloudWatch has $0.10 a month for each metric of an alarm, and $0.50 for a combined one; Lambda receives from each
    queue some 650,000 times a month, at $0.40 a million after the first one.
    """
    readme, scale = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/scale.md"))
    stack, with_guards = deployed(), deployed(GuardsFile="guards.yaml")
    usd = 0.1 * sum(len(metrics_of(each)) for each in alarms_of(stack).values()) + 0.5 * len(composites_of(stack))
    assert f"the alarms (about ${usd:.0f};" in readme
    queues, more = (len(each.of_type("AWS::Lambda::EventSourceMapping")) for each in (stack, with_guards))
    polls, polls_with_guards = (0.4 * (0.65 * number - 1) for number in (queues, more))
    words = {7: "seven", 8: "eight"}
    with_them = f"{words[more]} with guards, ${polls_with_guards:.2f}"
    assert f"the polling of {words[queues]} queues (up to ${polls:.2f}; {with_them})" in readme
    assert f"up to ${polls:.2f} a month, with guards ${polls_with_guards:.2f}" in scale
    assert f"${usd:.2f} together" in (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    secret = 0.4
    assert secret <= 1 <= secret + polls
    idle = f"idle, by its parts | about $1 to ${secret + polls + usd:.0f} a month"
    assert idle in (ROOT / "docs/comparison.md").read_text(encoding="utf-8")


def test_every_alarm_links_to_where_the_runbooks_are() -> None:
    stack = deployed(RunbooksUrl="https://wiki.example/runbooks")
    described = [alarm["AlarmDescription"] for alarm in alarms_of(stack).values()]
    rule = stack.of_type("AWS::Events::Rule")["BudgetNoticeRule"]
    described.append(rule["Targets"][0]["InputTransformer"]["InputTemplate"].rstrip('"'))
    assert all(
        re.search(r" Runbook: https://wiki\.example/runbooks/[a-z-]+\.md#what-to-look-at$", each) for each in described
    )


def test_every_threshold_is_a_parameter_and_every_parameter_is_used() -> None:
    numbers = [
        name
        for name, declared in parameters_of_template().items()
        if name.startswith("Alarm") and declared["Type"] == "Number"
    ]
    given = {name: str(1001 + index) for index, name in enumerate(numbers)}
    alarms = alarms_of(deployed(**given))
    thresholds = {alarm["Threshold"] for alarm in alarms.values()}
    unknown = {name for name, alarm in alarms.items() if alarm["Threshold"] not in given.values()}
    assert not unknown, "the thresholds of these alarms are no parameters called Alarm… of the type Number"
    unused = {name for name, value in given.items() if value not in thresholds}
    assert unused == {"AlarmPercentFromRequests"}, "no alarm uses these parameters as its threshold"
    least = given["AlarmPercentFromRequests"]
    for name, alarm in alarms.items():
        assert (f"requests >= {least}" in str(alarm)) == name.endswith("ShareAlarm")


@pytest.mark.parametrize("guards", ["", "guards.yaml"])
def test_every_queue_and_every_function_is_watched(guards: str) -> None:
    stack = deployed(GuardsFile=guards)
    watched = {
        (metric.name, value)
        for alarm in alarms_of(stack).values()
        for metric in metrics_of(alarm).values()
        for _, value in metric.dimensions
    }
    for name in stack.of_type("AWS::SQS::Queue"):
        is_dead = name.endswith("DeadLetterQueue")
        metric = "ApproximateNumberOfMessagesVisible" if is_dead else "ApproximateAgeOfOldestMessage"
        assert (metric, f"${{{name}.QueueName}}") in watched
    for name in stack.of_type("AWS::Events::Rule"):
        assert ("FailedInvocations", f"${{{name}.Arn[2]}}") in watched
    for name in stack.of_type("AWS::Lambda::Function"):
        assert {("Errors", f"${{{name}}}"), ("Throttles", f"${{{name}}}")} <= watched


def test_an_incident_pages_once() -> None:
    """Only combined alarms notify, when trouble begins and when it is over, and every alarm is part of exactly one."""
    stack = deployed()
    assert not any(key.endswith("Actions") for alarm in alarms_of(stack).values() for key in alarm)
    for name, composite in composites_of(stack).items():
        topic = "${IncidentTopic}" if "Throttles" in name else "${AlarmTopic}"
        assert composite["AlarmActions"] == composite["OKActions"] == [topic]
    (told,) = [each for each in stack.of_type("AWS::SNS::Subscription").values() if each["Protocol"] == "lambda"]
    assert (told["TopicArn"], told["Endpoint"]) == ("${IncidentTopic}", "${TellIncidentsFunction.Arn}")
    (lost,) = stack.of_type("AWS::Lambda::EventInvokeConfig").values()
    assert lost["DestinationConfig"]["OnFailure"]["Destination"] == "${AlarmTopic}", "untold it comes as it is"
    children = [child for composite in composites_of(stack).values() for child in children_of(composite)]
    names = [f"${{{name}}}" for name in alarms_of(stack)]
    assert set(children) == set(names), "these alarms are in no combined alarm, or these are no alarms"
    assert len(children) == len(names), "an alarm is in two combined alarms"


def test_without_a_lake_nothing_watches_it() -> None:
    children = [child for each in composites_of(deployed(LakeEnabled="false")).values() for child in children_of(each)]
    assert children
    assert not any("Lake" in child for child in children)


def test_without_formulas_what_an_emulator_does_not_know_is_left_out() -> None:
    stack = deployed(AlarmFormulasEnabled="false")
    assert not composites_of(stack)
    for name, alarm in alarms_of(stack).items():
        rates = ("ClientThrottlesAlarm", "UpstreamThrottlesAlarm", "UpstreamFailuresAlarm")
        assert alarm.get("AlarmActions", []) == (["${IncidentTopic}"] if name in rates else [])
    simple = {name for name, alarm in alarms_of(deployed()).items() if "Metrics" not in alarm}
    assert simple == set(alarms_of(stack)) < set(NAMES)


def test_switched_off_nothing_is_watched_and_nothing_costs() -> None:
    stack = deployed(AlarmsEnabled="false", DashboardEnabled="false")
    assert not [name for name, each in stack.resources.items() if re.match("AWS::(CloudWatch|SNS)", each["Type"])]
    assert "BudgetNoticeRule" not in stack.resources


# ----------------------------------------------------------------------------------------------------- M of N, no data

NOW = 1_795_435_200
"""2026-11-23 12:00:00 UTC: begin of an hour."""


def bad_and_good(alarm: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """Values of the alarm's metrics in a period that is over its threshold, and in one that is not."""
    above = float(alarm["Threshold"]) + 1
    names = list(metrics_of(alarm))
    if {"part", "requests"} == set(names):
        return {"part": above * 10, "requests": 1000}, {"requests": 1000}
    return {names[0]: above}, {names[0]: above - 1}


@pytest.mark.parametrize("name", NAMES)
def test_an_alarm_needs_as_many_bad_periods_as_it_says(name: str) -> None:
    alarm = alarms_of(deployed(GuardsFile="guards.yaml"))[name]
    assert re.fullmatch(r"[\d.]+", str(alarm["Threshold"])), f"the threshold of {name} is no parameter of the template"
    period = period_of(alarm)
    bad, good = bad_and_good(alarm)
    by_metric = {metric: name for name, metric in metrics_of(alarm).items()}
    needed, looked_at = alarm["DatapointsToAlarm"], alarm["EvaluationPeriods"]
    assert looked_at * period <= 86400, "CloudWatch's limit"

    def after(*values: dict[str, float]) -> str:
        """The state when these were measured in the last periods, the newest first."""
        history = {NOW - period * (back + 1): each for back, each in enumerate(values)}

        def read(metric: Metric, periods: list[int]) -> dict[int, float]:
            key = by_metric[metric]
            return {each: history[each][key] for each in periods if key in history.get(each, {})}

        return state(alarm, read, NOW)

    assert after() == "OK", "nothing measured, nothing wrong"
    assert after(*[good] * looked_at) == "OK"
    assert after(*[bad] * (needed - 1), *[good] * looked_at) == "OK"
    assert after(*[bad] * needed) == "ALARM"
    assert after(*[{}] * (looked_at - needed), *[bad] * needed) == "ALARM"
    assert after(*[good] * looked_at, *[bad] * looked_at) == "OK", "what is long over is over"


SHARES = [name for name in NAMES if name.endswith("ShareAlarm")]


@pytest.mark.parametrize("name", SHARES)
def test_a_share_of_few_requests_is_no_alarm(name: str) -> None:
    alarm = alarms_of(deployed())[name]
    most = 20 * alarm["Threshold"] // 100

    def after(requests: int, refused: int) -> str:
        def read(metric: Metric, periods: list[int]) -> dict[int, float]:
            return dict.fromkeys(periods, requests if metric.name == "Requests" else refused)

        return state(alarm, read, NOW)

    assert {after(requests, refused) for requests, refused in ((2, 1), (1, 1), (19, 19), (20, most))} == {"OK"}
    assert after(20, most + 1) == after(2000, 2000) == "ALARM"


def test_what_is_compared_with_something_has_a_least_number_of_it() -> None:
    """A share needs requests, and a percentile so many that CloudWatch takes it for one."""
    for name, alarm in alarms_of(deployed()).items():
        expressions = " ".join(each.get("Expression", "") for each in alarm.get("Metrics", []))
        assert ("/" in expressions) == (name in SHARES)
        assert (alarm.get("EvaluateLowSampleCountPercentile") == "ignore") == ("ExtendedStatistic" in alarm)


# -------------------------------------------------------------------------------------------------------------- notices


def test_only_alarms_of_this_stack_and_budgets_may_use_the_topic() -> None:
    (policy,) = deployed().of_type("AWS::SNS::TopicPolicy").values()
    assert policy["Topics"] == ["${AlarmTopic}"]
    granted = {each["Principal"]["Service"]: each for each in policy["PolicyDocument"]["Statement"]}
    conditions = {
        "cloudwatch.amazonaws.com": {
            "ArnLike": {"aws:SourceArn": "arn:aws:cloudwatch:us-east-1:111111111111:alarm:stack-*"}
        },
        "events.amazonaws.com": None,  # EventBridge publishes to no topic whose policy has a condition for it
    }
    assert granted == {
        service: {
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sns:Publish",
            "Resource": "${AlarmTopic}",
            **({"Condition": condition} if condition else {}),
        }
        for service, condition in conditions.items()
    }


def test_an_address_is_subscribed_only_when_there_is_one() -> None:
    assert not mails(deployed())
    (subscription,) = mails(deployed(AlarmEmail="ops@example.com"))
    assert subscription == {"TopicArn": "${AlarmTopic}", "Protocol": "email", "Endpoint": "ops@example.com"}
    assert not mails(deployed(AlarmEmail="ops@example.com", AlarmsEnabled="false"))


def mails(stack: Stack) -> list[dict[str, Any]]:
    return [each for each in stack.of_type("AWS::SNS::Subscription").values() if each["Protocol"] == "email"]


def test_a_chat_gets_the_messages_of_throttles_only_where_one_is_named() -> None:
    kinds = ("AWS::Events::ApiDestination", "AWS::Events::Connection")
    assert not any(deployed().of_type(kind) for kind in kinds)
    assert "IncidentChatRule" not in deployed().resources
    stack = deployed(AlarmWebhookUrl="https://hooks.example.com/services/1")
    (chat,) = stack.of_type(kinds[0]).values()
    assert (chat["InvocationEndpoint"], chat["HttpMethod"]) == ("https://hooks.example.com/services/1", "POST")
    rule = stack.of_type("AWS::Events::Rule")["IncidentChatRule"]
    assert rule["EventPattern"]["detail-type"] == ["IncidentReported", "GuardActed"]
    (target,) = rule["Targets"]
    assert (target["Arn"], target["InputPath"]) == ("${IncidentChat.Arn}", "$.detail.data.message")
    (policy,) = stack.of_type("AWS::IAM::Role")["IncidentChatRole"]["Policies"]
    assert policy["PolicyDocument"]["Statement"] == [
        {"Effect": "Allow", "Action": "events:InvokeApiDestination", "Resource": "${IncidentChat.Arn}"}
    ]
    letters = stack.of_type("AWS::SQS::QueuePolicy")["BudgetNoticeQueuePolicy"]["PolicyDocument"]["Statement"][0]
    assert "${IncidentChatRule.Arn}" in letters["Condition"]["ArnEquals"]["aws:SourceArn"]
    assert parameters_of_template()["AlarmWebhookUrl"]["NoEcho"] is True, "who knows the address may write there"


@pytest.mark.parametrize(("percent", "told"), [("50", [50, 80, 100]), ("80", [80, 100]), ("100", [100])])
def test_budgets_are_told_from_the_share_that_was_asked_for(percent: str, told: list[int]) -> None:
    rule = deployed(AlarmBudgetPercent=percent).of_type("AWS::Events::Rule")["BudgetNoticeRule"]
    assert rule["EventPattern"]["detail"]["data"] == {"threshold": told}


@pytest.mark.parametrize("sample", sorted((ROOT / "events/samples").glob("Budget*.json")), ids=lambda path: path.stem)
def test_a_person_understands_the_notice_of_a_budget(sample: Any) -> None:
    rule = deployed().of_type("AWS::Events::Rule")["BudgetNoticeRule"]
    transformer = rule["Targets"][0]["InputTransformer"]
    event = json.loads(sample.read_text())
    text = transformer["InputTemplate"]
    for name, path in transformer["InputPathsMap"].items():
        value: Any = event
        for part in path.removeprefix("$.").split("."):
            value = value[part]
        assert f"<{name}>" in text, "nothing is taken that is not said"
        text = text.replace(f"<{name}>", str(value))
    assert "<" not in text
    message = json.loads(text)
    assert re.match(
        r"Client [\w-]+ has reached \d+ percent of its budget \((day|week|month|total), since [\w-]+ UTC\): "
        r"[\d.]+ of \d+ USD",
        message,
    )
    assert (ROOT / message.rpartition("Runbook: ")[2].partition("#")[0]).is_file()


# ------------------------------------------------------------------------------------------------------------ dashboard


def widgets(stack: Stack) -> list[dict[str, Any]]:
    (dashboard,) = stack.of_type("AWS::CloudWatch::Dashboard").values()
    return json.loads(dashboard["DashboardBody"])["widgets"]


def metrics_of_widget(widget: Mapping[str, Any]) -> Iterator[Metric]:
    """Every metric that a widget asks for; of a search, one that it would find."""
    ids: set[str] = set()
    for row in widget["properties"]["metrics"]:
        options = cast("dict[str, Any]", row[-1]) if isinstance(row[-1], dict) else {}
        ids.add(options.get("id", ""))
        if "expression" not in options:
            namespace, name, *pairs = [part for part in row if isinstance(part, str)]
            dimensions = tuple(sorted(zip(pairs[::2], pairs[1::2], strict=True)))
            properties = widget["properties"] | options
            yield Metric(namespace, name, dimensions, properties["stat"], properties["period"])
            continue
        text = options["expression"]
        found = re.search(
            r"SEARCH\('\{\"([\w/]+)\"((?:,\w+)*)\} MetricName=\"([\w.]+)\"([^']*)', '(\w+)', (\d+)\)", text
        )
        if found is None:
            assert set(re.findall(r"[a-z]\w*", text)) <= ids, f"teach the test {text}"
            continue
        namespace, schema, name, filters, statistic, period = found.groups()
        wanted = dict(re.findall(r' (\w+)="(\w+)"', filters))
        dimensions = {each: wanted.get(each, "any") for each in schema.split(",") if each}
        assert wanted.keys() <= dimensions.keys()
        yield Metric(namespace, name, tuple(sorted(dimensions.items())), statistic, int(period))


def test_every_widget_shows_metrics_that_exist(stack: Stack) -> None:
    shown = [widget for widget in widgets(stack) if widget["type"] == "metric"]
    assert len({widget["properties"]["title"] for widget in shown}) == len(shown) > 15
    for widget in shown:
        asked_for = list(metrics_of_widget(widget))
        assert asked_for
        for metric in asked_for:
            assert problem_with(metric, stack) is None, widget["properties"]["title"]


def test_the_dashboard_shows_every_metric_that_the_deployment_writes() -> None:
    shown = {
        metric.name
        for widget in widgets(deployed())
        if widget["type"] == "metric"
        for metric in metrics_of_widget(widget)
    }
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    written = {
        name
        for name, by in re.findall(r"^\| `([\w.]+)` \| \w+ \| [^|]+ \| ([^|]+) \|", page, re.MULTILINE)
        if by.strip() != "console"
    }
    assert written <= shown


def test_widgets_stand_beside_each_other(stack: Stack) -> None:
    taken: set[tuple[int, int]] = set()
    for widget in widgets(stack):
        x, y, width, height = (widget[key] for key in ("x", "y", "width", "height"))
        assert x + width <= 24
        cells = {(column, row) for column in range(x, x + width) for row in range(y, y + height)}
        assert not cells & taken, widget["properties"]["title"]
        taken |= cells


def test_the_dashboard_shows_every_alarm_that_notifies() -> None:
    (shown,) = [widget for widget in widgets(deployed()) if widget["type"] == "alarm"]
    assert sorted(shown["properties"]["alarms"]) == sorted(f"${{{name}.Arn}}" for name in composites_of(deployed()))


# ------------------------------------------------------------------------------------------------------------- runbooks


def test_every_runbook_is_listed_and_says_what_it_is_what_to_look_at_and_what_to_do() -> None:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs/runbooks").glob("*.md")}
    operations = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    named = [alarm["AlarmDescription"].rpartition("/")[2] for alarm in alarms_of(deployed()).values()]
    used = {page.removesuffix(".md#what-to-look-at") for page in named} | {"budget", "guards"}
    assert set(pages) == used, "these pages of docs/runbooks are missing, or no alarm names them"
    for name, page in pages.items():
        assert f"(runbooks/{name}.md)" in operations, f"the table of docs/operations.md lacks runbooks/{name}.md"
        assert [line for line in page.splitlines() if line.startswith("## ")] == [
            "## What it means",
            "## What to look at",
            "## What to do",
        ]
        for parameter in re.findall(r"`(Alarm\w+)`", page):
            assert parameter in parameters_of_template()
