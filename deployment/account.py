"""The account that is deployed to: who asks, in which Region, and what its stack has for parameters."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import boto3
from botocore.exceptions import BotoCoreError, ClientError


class NoAccountError(Exception):
    """AWS cannot be asked. The message names the remedy."""


class Caller(NamedTuple):
    """Who deploys, and where to."""

    account: str
    region: str
    arn: str
    session: Any


def caller(arguments: Sequence[str]) -> Caller:
    """Who the arguments of `sam deploy` and the AWS settings say. Raises NoAccountError."""
    try:
        session: Any = boto3.Session(
            profile_name=option_of(arguments, "--profile"), region_name=option_of(arguments, "--region")
        )
        if not session.region_name:
            raise NoAccountError("No Region is chosen. Remedy: export AWS_REGION=eu-central-1, or another one.")
        who = session.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        remedy = "Remedy: `aws configure`, `aws sso login`, or set AWS_PROFILE."
        raise NoAccountError(f"AWS does not know who deploys: {error} {remedy}") from error
    return Caller(who["Account"], session.region_name, who["Arn"], session)


def deployed_parameters(who: Caller, stack: str) -> dict[str, str]:
    """The parameters of the stack as it is; none where it is not there yet. Raises NoAccountError."""
    try:
        [found] = who.session.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if "does not exist" in str(error):
            return {}
        raise NoAccountError(f"The stack cannot be looked at: {error}") from error
    except BotoCoreError as error:
        raise NoAccountError(f"The stack cannot be looked at: {error}") from error
    return {each["ParameterKey"]: each.get("ParameterValue", "") for each in found.get("Parameters", [])}


def option_of(arguments: Sequence[str], name: str) -> str | None:
    """The value of an option, written as `--name value` or `--name=value`."""
    for place, argument in enumerate(arguments):
        if argument == name:
            return arguments[place + 1] if place + 1 < len(arguments) else None
        if argument.startswith(f"{name}="):
            return argument.partition("=")[2]
    return None
