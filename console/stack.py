"""Finds what a command works with: tables, a bucket, the lake. What the command line names holds, then variables of the
environment, then what the stack says.

Its one rule: all of it is of one stack. Where the stack is asked, a variable that says otherwise is refused.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from console.aws import session
from console.errors import ConsoleError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.type_defs import StackTypeDef
    from mypy_boto3_dynamodb import DynamoDBClient

Output = Literal["KeysTable", "CostsTable", "LimitsTable", "CacheTable", "CacheBucket", "StreamsTable"]
OPTIONS: Mapping[str, str] = {
    "KeysTable": "--keys-table",
    "CostsTable": "--costs-table",
    "LimitsTable": "--limits-table",
    "CacheTable": "--cache-table",
    "CacheBucket": "--cache-bucket",
    "StreamsTable": "--streams-table",
    "LakeStream": "--lake-stream",
}
VARIABLES: Mapping[str, str] = {
    **{output: option.removeprefix("--").replace("-", "_").upper() for output, option in OPTIONS.items()},
    "LakeWorkgroup": "LAKE_WORKGROUP",
    "LakeDatabase": "LAKE_DATABASE",
    "MetricsNamespace": "METRICS_NAMESPACE",
    "BusName": "BUS_NAME",
    "BusArchive": "BUS_ARCHIVE",
}
"""The variables that stand for outputs of a stack. `make run` writes them into .local/env."""
USUAL_NAME = "openai-proxy"
USUAL_NAMESPACE = f"OpenAIProxy/{USUAL_NAME}"


@dataclass(frozen=True, slots=True)
class Table:
    """A table by name, and the client to reach it."""

    client: "DynamoDBClient"
    name: str


def add_table_options(command: argparse.ArgumentParser, output: Output, *, inherited: bool = False) -> None:
    """Add the options of a command that uses the table `output`. With `inherited`, those before its name hold too."""
    add_stack_option(command, inherited=inherited)
    add_place_option(command, output, inherited=inherited)
    default = argparse.SUPPRESS if inherited else False
    command.add_argument("--json", action="store_true", default=default, help="print JSON, for programs")


def add_place_option(command: argparse.ArgumentParser, output: Output, *, inherited: bool = False) -> None:
    """Add the option that names one table or bucket."""
    command.add_argument(
        OPTIONS[output],
        default=argparse.SUPPRESS if inherited else None,
        metavar="NAME",
        help=f"default: ${VARIABLES[output]}, else the stack's",
    )


def add_stack_option(command: argparse.ArgumentParser, *, inherited: bool = False) -> None:
    """Add the option that names the stack. With `inherited`, one before the command's name holds too."""
    default = argparse.SUPPRESS if inherited else None
    help_ = f"the stack; default: $STACK_NAME, else {USUAL_NAME}"
    command.add_argument("--stack-name", default=default, metavar="NAME", help=help_)


def stack_name(options: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """The stack that a command is about."""
    return getattr(options, "stack_name", None) or environ.get("STACK_NAME") or USUAL_NAME


def namespace_of(environ: Mapping[str, str]) -> str:
    """The stack's output `MetricsNamespace`, unless its parameter of that name was changed, which a variable says."""
    return environ.get("METRICS_NAMESPACE") or f"OpenAIProxy/{environ.get('STACK_NAME') or USUAL_NAME}"


def chosen_table(output: Output, options: argparse.Namespace, environ: Mapping[str, str]) -> Table:
    """The table that the stack calls `output`, or that is named instead. Raises ConsoleError and botocore's errors."""
    name = chosen_name(output, options, environ)
    if name is None:
        remedy = f"Remedy: name another stack with --stack-name, or the table with {OPTIONS[output]}."
        raise ConsoleError(f"The stack '{stack_name(options, environ)}' has no output '{output}'. {remedy}")
    return Table(session(environ).client("dynamodb"), name)


def chosen_bucket(options: argparse.Namespace, environ: Mapping[str, str]) -> tuple[Any, str]:
    """A client of S3 and the stack's cache bucket, or the one that is named instead. Raises as above."""
    name = chosen_name("CacheBucket", options, environ)
    if name is None:
        raise ConsoleError(
            f"The stack '{stack_name(options, environ)}' has no output 'CacheBucket'. "
            f"Remedy: name another stack with --stack-name, or the bucket with {OPTIONS['CacheBucket']}."
        )
    return session(environ).client("s3"), name


def chosen_name(output: str, options: argparse.Namespace, environ: Mapping[str, str]) -> str | None:
    """What the option of `output` names, else its variable, else what the stack says; None where it has none.

    Of a stack that the command line names, variables are not believed: they must be those of that stack. Raises
    ConsoleError and botocore's errors.
    """
    if named := getattr(options, _attribute(output), None):
        return named
    of_variables = getattr(options, "stack_name", None) in (None, environ.get("STACK_NAME"))
    if of_variables and (named := environ.get(VARIABLES.get(output, ""))):
        return named
    return stack_output(output, options, environ)


def named_places(options: argparse.Namespace, environ: Mapping[str, str]) -> list[str]:
    """What options and variables name of all that the command takes, as "COSTS_TABLE name"."""
    taken = {output: getattr(options, _attribute(output)) for output in OPTIONS if hasattr(options, _attribute(output))}
    named = {VARIABLES[output]: option or environ.get(VARIABLES[output]) for output, option in taken.items()}
    return [f"{variable} {name}" for variable, name in named.items() if name]


def table_at_hand(output: Output, options: argparse.Namespace, environ: Mapping[str, str]) -> Table | None:
    """As `chosen_table`, for what is good to know but not worth a wait; None where no table can be found."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - it takes time to load

    try:
        named = getattr(options, _attribute(output), None) or environ.get(VARIABLES[output])
        aws, hasty = session(environ), _hasty()
        name = named or _outputs(_stack(aws, stack_name(options, environ), hasty)).get(output)
        return Table(aws.client("dynamodb", config=hasty), name) if name else None
    except (BotoCoreError, ClientError):
        return None


def stack_output(output: str, options: argparse.Namespace, environ: Mapping[str, str]) -> str | None:
    """What the stack calls `output`, or None if it has none. Raises as `stack_outputs`."""
    return stack_outputs(options, environ, output).get(output)


def stack_outputs(options: argparse.Namespace, environ: Mapping[str, str], wanted: str = "") -> dict[str, str]:
    """Every output of the stack. Raises ConsoleError when there is no such stack, or when a variable names something of
    another. `wanted` is what the caller looks for, for the remedy.
    """
    from botocore.exceptions import ClientError  # noqa: PLC0415

    name = stack_name(options, environ)
    try:
        outputs = _outputs(_stack(session(environ), name))
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "ValidationError":
            raise
        remedy = "Remedy: name it with --stack-name, and its account and Region with --profile and --region"
        remedy += (
            f", or name the one resource that this command needs with {OPTIONS[wanted]}." if wanted in OPTIONS else "."
        )
        raise ConsoleError(f"There is no stack '{name}' in this account and Region. {remedy}") from error
    for output, variable in VARIABLES.items():
        given = environ.get(variable)
        if given and outputs.get(output, given) != given:
            raise ConsoleError(
                f"{variable}={given} is not of the stack '{name}', whose {output} is {outputs[output]}. "
                f"Remedy: name the stack of your variables with --stack-name, or take them away: unset {variable}."
            )
    return outputs


def authorizer_cache_seconds(table: Table, options: argparse.Namespace, environ: Mapping[str, str]) -> int | None:
    """How long the doors remember a key of `table`; None when the stack cannot be asked, or has another table."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - it takes time to load

    try:
        stack = _stack(session(environ), stack_name(options, environ), _hasty())
    except (BotoCoreError, ClientError):
        return None
    if _outputs(stack).get("KeysTable") != table.name:
        return None
    seconds = _values(stack, "Parameters", "Parameter").get("AuthorizerCacheSeconds", "")
    return int(seconds) if seconds.isdecimal() else None


def waiting_messages(output: str, options: argparse.Namespace, environ: Mapping[str, str]) -> int | None:
    """About how many messages wait in the queue that the stack calls `output`; None when nobody can say."""
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - it takes time to load

    wanted: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    try:
        aws, hasty = session(environ), _hasty()
        url = _outputs(_stack(aws, stack_name(options, environ), hasty)).get(output)
        if url is None:
            return None
        found = aws.client("sqs", config=hasty).get_queue_attributes(QueueUrl=url, AttributeNames=wanted)
    except (BotoCoreError, ClientError):
        return None
    return sum(int(number) for number in found["Attributes"].values())


def _attribute(output: str) -> str:
    """What argparse calls the option of an output."""
    return OPTIONS.get(output, "").removeprefix("--").replace("-", "_")


def _hasty() -> Any:
    """The settings of a client for what is good to know, but not worth a wait."""
    from botocore.config import Config  # noqa: PLC0415 - boto3's modules are loaded with its first client

    return Config(connect_timeout=2, read_timeout=5, retries={"total_max_attempts": 1})


def _stack(aws: Any, name: str, config: Any = None) -> "StackTypeDef":
    [stack] = aws.client("cloudformation", config=config).describe_stacks(StackName=name)["Stacks"]
    return stack


def _outputs(stack: Mapping[str, Any]) -> dict[str, str]:
    return _values(stack, "Outputs", "Output")


def _values(stack: Mapping[str, Any], kind: str, singular: str) -> dict[str, str]:
    return {entry[f"{singular}Key"]: entry.get(f"{singular}Value", "") for entry in stack.get(kind, [])}
