"""Finds the application's tables: as named on the command line, in the environment, or by the stack's outputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import boto3
from botocore.exceptions import ClientError

from console.errors import ConsoleError

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Output = Literal["KeysTable", "CostsTable"]
VARIABLES: Mapping[Output, str] = {"KeysTable": "KEYS_TABLE", "CostsTable": "COSTS_TABLE"}
OPTIONS: Mapping[Output, str] = {"KeysTable": "--keys-table", "CostsTable": "--costs-table"}


@dataclass(frozen=True, slots=True)
class Table:
    """A table by name, and the client to reach it."""

    client: "DynamoDBClient"
    name: str


def find_table(output: Output, given: str | None, stack_name: str, environ: Mapping[str, str]) -> Table:
    """The table that the stack calls `output`. Raises ConsoleError, and botocore's errors."""
    session = boto3.Session(region_name=environ.get("AWS_REGION"))  # which boto3 itself does not read
    name = given or environ.get(VARIABLES[output]) or _stack_output(session, output, stack_name)
    return Table(session.client("dynamodb"), name)  # pyright: ignore[reportUnknownMemberType] - stubs of all services


def _stack_output(session: boto3.Session, output: Output, stack_name: str) -> str:
    client = session.client("cloudformation")  # pyright: ignore[reportUnknownMemberType] - stubs of all services
    remedy = f"Name it with --stack-name, or the table with {OPTIONS[output]} or {VARIABLES[output]}."
    try:
        [stack] = client.describe_stacks(StackName=stack_name)["Stacks"]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "ValidationError":
            raise
        raise ConsoleError(f"There is no stack '{stack_name}' in this account and region. {remedy}") from error
    for entry in stack.get("Outputs", []):
        if entry.get("OutputKey") == output and (value := entry.get("OutputValue")):
            return value
    raise ConsoleError(f"The stack '{stack_name}' has no output '{output}'. {remedy}")
