"""Alarms and who hears of them, and dead-letter queues: what is wrong now, and whether anybody would be told."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from console.doctor.deployment import Deployment
from console.doctor.findings import Finding
from console.doctor.functions import CONSUMERS
from console.stack import USUAL_NAME

AREA = "alarms"
_RUNBOOK = re.compile(r"\bRunbook: (\S+\.md(?:#[a-z-]+)?)$")


def alarm_findings(stack: Deployment) -> Iterator[Finding]:
    """The state of each alarm; those that are well in one line."""
    if not stack.is_on("AlarmsEnabled"):
        yield Finding(AREA, "all", "note", "AlarmsEnabled is off: nothing watches the stack")
        return
    alarms = _all_alarms(stack)
    silent = [str(alarm["AlarmName"]) for alarm in alarms if not alarm.get("ActionsEnabled", True)]
    for alarm in alarms:
        if alarm.get("StateValue") == "ALARM":
            described = str(alarm.get("AlarmDescription", ""))
            remedy = _RUNBOOK.search(described)
            says = f"in alarm: {_first_sentence(described)}"
            yield Finding(AREA, str(alarm["AlarmName"]), "todo", says, remedy[1] if remedy else _OF_COMBINED)
    for name in silent:
        says = "its actions are switched off: it tells nobody"
        yield Finding(AREA, name, "todo", says, f"aws cloudwatch enable-alarm-actions --alarm-names {name}")
    well = sum(alarm.get("StateValue") != "ALARM" for alarm in alarms)
    if stack.account.is_emulated and well < len(alarms):
        yield Finding(AREA, "on this machine", "note", _OF_EMULATOR, "docs/local.md#what-is-not says which those are")
    yield Finding(AREA, "all", "ok", f"{well} of {len(alarms)} are not in alarm")
    if not any(alarm.get("AlarmActions") for alarm in alarms):
        yield _untold(stack)


_OF_EMULATOR = "an alarm may be on without a reason, and stays on: the emulator adds up what AWS keeps apart"
_OF_COMBINED = "the alarms that it combines are listed with their runbooks: docs/operations.md#alarms"


def _untold(stack: Deployment) -> Finding:
    """The finding that no alarm tells anybody: only combined ones do, and without formulas there are none."""
    says = "AlarmFormulasEnabled is off: no alarm notifies anybody"
    if stack.account.is_emulated:
        return Finding(AREA, "notices", "note", says)
    return Finding(AREA, "notices", "todo", says, stack.deploy_with("AlarmFormulasEnabled=true"))


def _all_alarms(stack: Deployment) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    page: dict[str, str] = {}
    while True:
        answer = stack.account.ask(
            "cloudwatch",
            "describe_alarms",
            AlarmNamePrefix=f"{stack.name}-",
            AlarmTypes=["MetricAlarm", "CompositeAlarm"],
            **page,
        )
        found += [*answer.get("CompositeAlarms", []), *answer.get("MetricAlarms", [])]
        if not answer.get("NextToken"):
            return found
        page = {"NextToken": answer["NextToken"]}


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].removesuffix(".")


def subscription_findings(stack: Deployment) -> Iterator[Finding]:
    """Whether anybody hears of alarms: SNS sends nothing to an address that has not confirmed."""
    topic = stack.outputs.get("AlarmTopic")
    if topic is None:
        return
    answer = stack.account.ask("sns", "list_subscriptions_by_topic", TopicArn=topic)
    subscriptions: Sequence[Mapping[str, Any]] = answer.get("Subscriptions", [])
    waiting = [each for each in subscriptions if str(each.get("SubscriptionArn")) in ("PendingConfirmation", "")]
    for each in waiting:
        where = f"{each.get('Protocol')}:{each.get('Endpoint')}"
        address = f"--protocol {each.get('Protocol')} --notification-endpoint {each.get('Endpoint')}"
        again = f"aws sns subscribe --topic-arn {topic} {address}"
        remedy = f"follow the link in the message from AWS, which this sends again: {again}"
        yield Finding(AREA, where, "todo", "nobody has confirmed this subscription: it hears nothing", remedy)
    heard = len(subscriptions) - len(waiting)
    if heard:
        yield Finding(AREA, "subscriptions", "ok", f"{heard} confirmed")
    elif not waiting:
        says = "nobody hears of alarms and budget notices: the topic has no subscription"
        if stack.account.is_emulated:
            yield Finding(AREA, "subscriptions", "note", says)
        else:
            yield Finding(AREA, "subscriptions", "todo", says, stack.deploy_with("AlarmEmail=you@example.com"))


def dead_letter_findings(stack: Deployment, consumer: str) -> Iterator[Finding]:
    """Whether messages wait in a consumer's dead-letter queue. `BudgetNotice` has one too, and no queue before it."""
    url = _dead_letters(stack, consumer)
    if url is None:
        return
    waiting = _waiting(stack, url)
    if not waiting:
        yield Finding("dead letters", consumer, "ok", "none")
        return
    runbook = stack.runbook("dead-letters")
    remedy = f"{runbook} says how to read them, and what to do then"
    if f"{consumer}QueueUrl" in stack.outputs:
        remedy = f"when the reason is mended ({runbook}): openai-proxy events redrive {_as_named(consumer)}"
        remedy += "" if stack.name == USUAL_NAME else f" --stack-name {stack.name}"
    yield Finding("dead letters", consumer, "todo", f"{waiting} wait", remedy)


DEAD_LETTERS = (*CONSUMERS, "BudgetNotice")


def _dead_letters(stack: Deployment, consumer: str) -> str | None:
    if consumer != "BudgetNotice":
        return stack.outputs.get(f"{consumer}DeadLetterQueueUrl")
    if not stack.is_on("AlarmsEnabled"):
        return None
    resource = stack.account.ask(
        "cloudformation",
        "describe_stack_resource",
        StackName=stack.name,
        LogicalResourceId="BudgetNoticeDeadLetterQueue",
    )
    return resource["StackResourceDetail"]["PhysicalResourceId"]


def _as_named(consumer: str) -> str:
    """A consumer as commands call it, such as record-cost."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", consumer).lower()


def _waiting(stack: Deployment, url: str) -> int:
    """How many messages a queue has, those that are hidden included."""
    wanted = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    answer = stack.account.ask("sqs", "get_queue_attributes", QueueUrl=url, AttributeNames=wanted)
    attributes: Mapping[str, str] = answer.get("Attributes", {})
    return sum(int(attributes.get(name, 0)) for name in wanted)
