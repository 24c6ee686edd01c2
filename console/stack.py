"""Finds the application's tables: those that the command line or the environment names, else the stack's outputs."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from botocore.exceptions import BotoCoreError, ClientError

from console.aws import session
from console.errors import ConsoleError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import StackTypeDef
    from mypy_boto3_dynamodb import DynamoDBClient

Output = Literal["KeysTable", "CostsTable", "LimitsTable", "CacheTable", "CacheBucket"]
VARIABLES: Mapping[Output, str] = {
    "KeysTable": "KEYS_TABLE",
    "CostsTable": "COSTS_TABLE",
    "LimitsTable": "LIMITS_TABLE",
    "CacheTable": "CACHE_TABLE",
    "CacheBucket": "CACHE_BUCKET",
}
OPTIONS: Mapping[Output, str] = {
    "KeysTable": "--keys-table",
    "CostsTable": "--costs-table",
    "LimitsTable": "--limits-table",
    "CacheTable": "--cache-table",
    "CacheBucket": "--cache-bucket",
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table by name, and the client to reach it."""

    client: "DynamoDBClient"
    name: str


def add_table_options(command: argparse.ArgumentParser, output: Output, *, inherited: bool = False) -> None:
    """Add the options of a command that uses the table `output`. With `inherited`, those before its name hold too."""
    add_stack_option(command, inherited=inherited)
    command.add_argument(
        OPTIONS[output],
        dest="table",
        default=argparse.SUPPRESS if inherited else None,
        metavar="NAME",
        help=f"default: ${VARIABLES[output]}, else the stack's",
    )
    default = argparse.SUPPRESS if inherited else False
    command.add_argument("--json", action="store_true", default=default, help="print JSON, for programs")


def add_stack_option(command: argparse.ArgumentParser, *, inherited: bool = False) -> None:
    """Add the option that names the stack. With `inherited`, one before the command's name holds too."""
    default = argparse.SUPPRESS if inherited else "openai-proxy"
    command.add_argument("--stack-name", default=default, metavar="NAME", help="the stack; default: openai-proxy")


def chosen_table(output: Output, options: argparse.Namespace, environ: Mapping[str, str]) -> Table:
    """The table that the stack calls `output`, or that is named instead. Raises ConsoleError and botocore's errors."""
    aws = session(environ)
    name = options.table or environ.get(VARIABLES[output]) or _stack_output(aws, output, options.stack_name)
    return Table(aws.client("dynamodb"), name)


def table_at_hand(output: Output, options: argparse.Namespace, environ: Mapping[str, str]) -> Table | None:
    """As `chosen_table`, for what is good to know but not worth a wait; None where no table can be found."""
    aws, hasty = session(environ), _hasty()
    try:
        name = options.table or environ.get(VARIABLES[output])
        name = name or _values(_stack(aws, options.stack_name, hasty), "Outputs", "Output").get(output)
        return Table(aws.client("dynamodb", config=hasty), name) if name else None
    except (BotoCoreError, ClientError):
        return None


def chosen_bucket(output: Output, options: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Any, str]:
    """A client of S3 and the bucket that the stack calls `output`, or that is named instead. Raises as above."""
    aws = session(environ)
    name = options.bucket or environ.get(VARIABLES[output]) or _stack_output(aws, output, options.stack_name)
    return aws.client("s3"), name


def stack_output(output: str, options: argparse.Namespace, environ: Mapping[str, str]) -> str | None:
    """What the stack calls `output`, or None if it has none. Raises ConsoleError when there is no stack."""
    return _output(session(environ), output, options.stack_name, "Remedy: name it with --stack-name.")


def authorizer_cache_seconds(table: Table, options: argparse.Namespace, environ: Mapping[str, str]) -> int | None:
    """How long the doors remember a key of `table`; None when the stack cannot be asked, or has another table."""
    try:
        stack = _stack(session(environ), options.stack_name, _hasty())
    except (BotoCoreError, ClientError):
        return None
    if _values(stack, "Outputs", "Output").get("KeysTable") != table.name:
        return None
    seconds = _values(stack, "Parameters", "Parameter").get("AuthorizerCacheSeconds", "")
    return int(seconds) if seconds.isdecimal() else None


def waiting_messages(output: str, options: argparse.Namespace, environ: Mapping[str, str]) -> int | None:
    """About how many messages wait in the queue that the stack calls `output`; None when nobody can say."""
    aws, hasty = session(environ), _hasty()
    wanted = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    try:
        url = _values(_stack(aws, options.stack_name, hasty), "Outputs", "Output").get(output)
        if url is None:
            return None
        found = aws.client("sqs", config=hasty).get_queue_attributes(QueueUrl=url, AttributeNames=wanted)
    except (BotoCoreError, ClientError):
        return None
    return sum(int(number) for number in found["Attributes"].values())


def _stack_output(aws: Any, output: Output, stack_name: str) -> str:
    remedy = (
        f"Remedy: name it with --stack-name, or what is wanted of it with {OPTIONS[output]} or {VARIABLES[output]}."
    )
    if value := _output(aws, output, stack_name, remedy):
        return value
    raise ConsoleError(f"The stack '{stack_name}' has no output '{output}'. {remedy}")


def _output(aws: Any, output: str, stack_name: str, remedy: str) -> str | None:
    try:
        stack = _stack(aws, stack_name)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "ValidationError":
            raise
        raise ConsoleError(f"There is no stack '{stack_name}' in this account and region. {remedy}") from error
    return _values(stack, "Outputs", "Output").get(output)


def _hasty() -> Any:
    """The settings of a client for what is good to know, but not worth a wait."""
    from botocore.config import Config  # noqa: PLC0415 - boto3's modules are loaded with its first client

    return Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})


def _stack(aws: Any, name: str, config: Any = None) -> "StackTypeDef":
    [stack] = aws.client("cloudformation", config=config).describe_stacks(StackName=name)["Stacks"]
    return stack


def _values(stack: Mapping[str, Any], kind: str, singular: str) -> dict[str, str]:
    return {entry[f"{singular}Key"]: entry.get(f"{singular}Value", "") for entry in stack.get(kind, [])}
