"""Looks at a deployed stack and says what to do, with the command.

It ends with 0 when all is well, with 1 when there is something to do, with 2 when it could not look, or not at
everything.
"""

import argparse
import functools
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from openai_proxy.pricing.list_prices import PriceList, load_price_list
from openai_proxy.servers import Server

from console.aws import session
from console.doctor import alarms, functions, quotas, servers
from console.doctor.account import (
    Account,
    Aws,
    Check,
    NotAllowedError,
    NotKnownError,
    NotReadError,
    NotThereError,
    looked,
)
from console.doctor.deployment import Deployment, deployment_of, stack_findings
from console.doctor.findings import Finding, as_json, as_text, exit_code
from console.errors import ConsoleError
from console.output import show, terminal_width
from console.servers.commands import check_servers
from console.stack import add_stack_option, stack_name
from console.text import to_json


def add_doctor(doctor: argparse.ArgumentParser) -> None:
    """Give `doctor` its options."""
    doctor.description = __doc__
    doctor.formatter_class = argparse.RawDescriptionHelpFormatter
    add_stack_option(doctor)
    doctor.add_argument(
        "--servers-file", type=Path, metavar="FILE", help="default: that of the local stack, else openai_servers.yaml"
    )
    doctor.add_argument("--json", action="store_true", help="print JSON, for programs")
    doctor.set_defaults(run=_run)


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    aws = Aws(session(environ))
    stack = _stack(aws, stack_name(options, environ), aws.region)
    findings = list(findings_of(stack, load_price_list(), options.servers_file))
    if options.json:
        print(to_json(as_json(findings, stack.name, stack.region)))
    else:
        show(as_text(findings, terminal_width()))
    return exit_code(findings)


def _stack(account: Account, name: str, region: str) -> Deployment:
    """The stack to look at. Raises ConsoleError, and botocore's errors for settings that are missing."""
    try:
        return deployment_of(account, name, region)
    except NotThereError as error:
        problem = f"There is no stack '{name}' in this account and Region ({region})."
        raise ConsoleError(f"{problem} Remedy: name it with --stack-name, or deploy it with `make deploy`.") from error
    except NotAllowedError as error:
        raise ConsoleError(f"You may not read the stack. Remedy: allow {error} to your role.") from error
    except (NotReadError, NotKnownError) as error:
        problem = f"The stack cannot be read: {error}."
        remedy = "Remedy: see with `aws sts get-caller-identity` who asks; is AWS_ENDPOINT_URL right?"
        raise ConsoleError(f"{problem} {remedy}") from error


def findings_of(stack: Deployment, prices: PriceList, servers_file: Path | None = None) -> Iterator[Finding]:
    """All that is found, one area after the other. What cannot be read is a finding."""
    for area, subject, check in _checks(stack, prices, servers_file):
        yield from looked(area, subject, check)


def _checks(stack: Deployment, prices: PriceList, servers_file: Path | None) -> Iterator[tuple[str, str, Check]]:
    """What is looked at: its area, its name, and the look, each of which may fail by itself."""
    of = functools.partial
    yield "stack", stack.name, of(stack_findings, stack)
    of_guards = [functions.OF_GUARDS] if f"{functions.OF_GUARDS}FunctionName" in stack.outputs else []
    for name in (*functions.FUNCTIONS, *of_guards):
        yield functions.AREA, name, of(functions.function_findings, stack, name)
    yield "events", "rules", of(functions.rule_findings, stack)
    yield quotas.AREA, "Lambda's concurrency", of(quotas.concurrency_findings, stack)
    yield quotas.AREA, "EventBridge PutEvents", of(quotas.put_events_findings, stack)
    yield quotas.AREA, "Firehose", of(quotas.lake_findings, stack)
    yield alarms.AREA, "all", of(alarms.alarm_findings, stack)
    yield alarms.AREA, "subscriptions", of(alarms.subscription_findings, stack)
    for name in (*alarms.DEAD_LETTERS, *of_guards):
        yield "dead letters", name, of(alarms.dead_letter_findings, stack, name)
    yield from _server_checks(stack, servers_file)
    yield "keys", "client keys", of(servers.key_findings, stack)
    yield "prices", "list prices", of(servers.price_findings, prices, datetime.now(UTC))


def _server_checks(stack: Deployment, servers_file: Path | None) -> Iterator[tuple[str, str, Check]]:
    file = servers.servers_file_of(stack, servers_file)
    listed, problem = _listed(file, stack.region)
    if problem:
        yield servers.AREA, str(file), lambda: [problem]
    yield "secrets", "provider tokens", functools.partial(servers.secret_findings, stack, listed, file)
    for server in servers.own_tokens(listed):
        yield servers.AREA, server.name, functools.partial(servers.own_token_findings, stack, server, file)


def _listed(file: Path, region: str) -> tuple[Mapping[str, Server], Finding | None]:
    """The servers of the file, or what is wrong with it."""
    try:
        return check_servers(file, region)[0], None
    except ConsoleError as error:
        return {}, Finding(
            servers.AREA, str(file), "unread", str(error), "name the file that is deployed: --servers-file"
        )
