"""Whether each function is as the stack's parameters say, is not stopped, and gets its events."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from console.doctor.deployment import Deployment
from console.doctor.findings import Finding

AREA = "functions"
CONSUMERS = (
    *("RecordCost", "RecordMetrics", "RecordThrottles", "SettleLimits", "StoreResponse", "EndStreams"),
    "PublishAgain",
)
FUNCTIONS = ("Proxy", "Authorizer", *CONSUMERS)
OF_GUARDS = "ApplyGuards"
"""The consumer that is there only where guards are on."""


def function_findings(stack: Deployment, name: str) -> Iterator[Finding]:
    """One function: `name` is that of the template, such as `RecordCost`."""
    function = stack.outputs.get(f"{name}FunctionName")
    if function is None:
        remedy = f"deploy this version: make deploy{stack.option()}"
        yield Finding(AREA, name, "todo", "the stack has no such output: an older version is deployed", remedy)
        return
    ask = stack.account.ask
    found = [
        *settings_findings(stack, name, ask("lambda", "get_function_configuration", FunctionName=function)),
        *concurrency_findings(stack, name, ask("lambda", "get_function_concurrency", FunctionName=function)),
    ]
    if name in (*CONSUMERS, OF_GUARDS):
        answer = ask("lambda", "list_event_source_mappings", FunctionName=function)
        found += source_findings(stack, name, answer.get("EventSourceMappings", []))
    yield from found or [Finding(AREA, name, "ok", "as deployed")]


def settings_findings(stack: Deployment, name: str, function: Mapping[str, Any]) -> Iterator[Finding]:
    """What differs from the stack's parameters, because somebody changed it by hand or Lambda failed.

    A deployment mends none of it: CloudFormation changes only what has changed in the template or its parameters.
    """
    for state, why in (("State", "StateReason"), ("LastUpdateStatus", "LastUpdateStatusReason")):
        if function.get(state) == "Failed":
            remedy = f"mend that, then make deploy{stack.option()}"
            yield Finding(
                AREA, name, "todo", f"its {state} is Failed: {function.get(why, 'no reason is given')}", remedy
            )
    change = f"aws lambda update-function-configuration --function-name {stack.outputs[f'{name}FunctionName']}"
    for setting, option, is_now in _settings(name, function):
        should_be = stack.parameters.get(setting, is_now)
        if is_now != should_be:
            says = f"it was changed by hand: {is_now}, and the stack's {setting} is {should_be}"
            yield Finding(AREA, name, "todo", says, f"{change} {option} {should_be}")
    architecture = ",".join(function.get("Architectures", ["x86_64"]))
    if architecture != stack.parameters.get("Architecture", architecture):
        says = f"it is for {architecture}, and the stack's Architecture is {stack.parameters['Architecture']}"
        yield Finding(AREA, name, "todo", says, f"deploy changed code: make deploy{stack.option()}")
    is_wrapped = "AWS_LAMBDA_EXEC_WRAPPER" in function.get("Environment", {}).get("Variables", {})
    if name == "Proxy" and stack.is_on("Streaming") and not is_wrapped:
        says = "AWS_LAMBDA_EXEC_WRAPPER was taken away: answers are not streamed"
        remedy = f"{stack.deploy_with('Streaming=false')}, then again with Streaming=true, which sets it"
        yield Finding(AREA, name, "todo", says, remedy)


def _settings(name: str, function: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """What a parameter decides: its name, the option of the AWS CLI, and what it is now."""
    yield "PythonVersion", "--runtime", str(function.get("Runtime"))
    if name == "Proxy":
        yield "ProxyMemoryMB", "--memory-size", str(function.get("MemorySize"))
        yield "ProxyTimeoutSeconds", "--timeout", str(function.get("Timeout"))


def concurrency_findings(stack: Deployment, name: str, answer: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether somebody has stopped the function, or reserved for it what the stack does not say."""
    reserved: int | None = answer.get("ReservedConcurrentExecutions")
    wanted = stack.parameters.get("ProxyReservedConcurrency", "0") if name == "Proxy" else "0"
    wanted = wanted if wanted.isdecimal() else "0"
    if reserved == int(wanted) != 0 or (reserved is None and wanted == "0"):
        return
    function = stack.outputs[f"{name}FunctionName"]
    remedy = (
        f"aws lambda delete-function-concurrency --function-name {function}"
        if wanted == "0"
        else f"aws lambda put-function-concurrency --function-name {function} --reserved-concurrent-executions {wanted}"
    )
    says = f"{'nothing' if reserved is None else reserved} is reserved for it, and the stack says {wanted}"
    if reserved == 0:
        says = "it is stopped: its reserved concurrency is 0, so Lambda refuses every invocation"
    yield Finding(AREA, name, "todo", says, remedy)


def source_findings(stack: Deployment, name: str, mappings: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Whether the consumer is given the events of its queue."""
    if not mappings:
        queue = stack.outputs.get(f"{name}QueueUrl", "<queue>")
        arn = f"aws sqs get-queue-attributes --queue-url {queue} --attribute-names QueueArn"
        remedy = (
            f"aws lambda create-event-source-mapping --function-name {stack.outputs[f'{name}FunctionName']} "
            f'--event-source-arn "$({arn} --query Attributes.QueueArn --output text)" --batch-size 10 '
            "--function-response-types ReportBatchItemFailures"
        )
        yield Finding(AREA, name, "todo", "its event source was deleted: events wait in its queue", remedy)
    for mapping in mappings:
        if mapping.get("State") in ("Disabled", "Disabling"):
            remedy = f"aws lambda update-event-source-mapping --uuid {mapping['UUID']} --enabled"
            yield Finding(AREA, name, "todo", "its event source is switched off: events wait in its queue", remedy)
        elif str(mapping.get("LastProcessingResult", "")).startswith("PROBLEM"):
            says = f"Lambda cannot read its queue: {mapping['LastProcessingResult']}"
            yield Finding(AREA, name, "todo", says, stack.runbook("consumer-age"))


def rule_findings(stack: Deployment) -> Iterator[Finding]:
    """Whether every rule of the bus is on."""
    bus = stack.outputs.get("BusName", stack.name)
    rules: list[Mapping[str, Any]] = list(stack.account.ask("events", "list_rules", EventBusName=bus).get("Rules", []))
    off = [str(rule["Name"]) for rule in rules if rule.get("State") == "DISABLED"]
    for rule in off:
        remedy = f"aws events enable-rule --event-bus-name {bus} --name {rule}"
        yield Finding("events", rule, "todo", "the rule is switched off: its events reach nobody", remedy)
    if not off:
        yield Finding("events", "rules", "ok", f"{len(rules)} are on")
