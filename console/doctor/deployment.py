"""The stack that is looked at: its parameters, its outputs, and whether its last deployment went well."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from console.doctor.account import Account
from console.doctor.findings import Finding

AREA = "stack"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployed stack. `outputs` and `parameters` are by name."""

    account: Account
    name: str
    region: str
    status: str
    parameters: Mapping[str, str]
    outputs: Mapping[str, str]

    def is_on(self, parameter: str) -> bool:
        return self.parameters.get(parameter) == "true"

    def runbook(self, name: str) -> str:
        """Where a runbook is: an address, or a file of a checkout."""
        return f"{self.parameters.get('RunbooksUrl') or 'docs/runbooks'}/{name}.md#what-to-look-at"

    def option(self) -> str:
        """What `make deploy` needs to be told to deploy this stack."""
        return "" if self.name == "openai-proxy" else f" STACK={self.name}"

    def deploy_with(self, *settings: str) -> str:
        """The command that deploys this stack again with other parameters."""
        return f"make deploy{self.option()} ARGS='--parameter-overrides {' '.join(settings)}'"


def deployment_of(account: Account, name: str, region: str) -> Deployment:
    """The stack `name`. Raises the errors of `Account.ask`."""
    [stack] = account.ask("cloudformation", "describe_stacks", StackName=name)["Stacks"]
    return Deployment(
        account,
        name,
        region,
        str(stack.get("StackStatus", "")),
        _values(stack, "Parameters", "Parameter"),
        _values(stack, "Outputs", "Output"),
    )


def stack_findings(stack: Deployment) -> Iterator[Finding]:
    """Whether the last deployment went well, and whether its parameters let anybody in, or nobody."""
    if stack.status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
        yield Finding(AREA, stack.name, "ok", stack.status)
    elif stack.status.endswith(("_IN_PROGRESS", "_CLEANUP_IN_PROGRESS")):
        yield Finding(AREA, stack.name, "todo", f"it is changing now: {stack.status}", "look again when it is done")
    else:
        command = (
            f"aws cloudformation describe-stack-events --stack-name {stack.name} "
            "--query \"StackEvents[?contains(ResourceStatus,'FAILED')].[LogicalResourceId,ResourceStatusReason]\""
        )
        yield Finding(AREA, stack.name, "todo", f"the last deployment failed: {stack.status}", command)
    yield from door_findings(stack)


def door_findings(stack: Deployment) -> Iterator[Finding]:
    """Whether there is a door, and whether it is locked."""
    doors = [door for door in ("FunctionUrlEnabled", "RestApiEnabled") if stack.is_on(door)]
    if not doors:
        remedy = stack.deploy_with("FunctionUrlEnabled=true")
        yield Finding(AREA, "doors", "todo", "both are closed: nobody can call the proxy", remedy)
    if stack.is_on("AuthorizationEnabled"):
        return
    says = "AuthorizationEnabled is off: whoever knows the address spends your provider tokens"
    if stack.account.is_emulated:
        yield Finding(AREA, "doors", "note", says)
    else:
        yield Finding(AREA, "doors", "todo", says, stack.deploy_with("AuthorizationEnabled=true"))


def _values(stack: Mapping[str, Any], kind: str, singular: str) -> dict[str, str]:
    return {entry[f"{singular}Key"]: entry.get(f"{singular}Value", "") for entry in stack.get(kind, [])}
