"""`openai-proxy logs`: lines of a log of the stack, the oldest first, as CloudWatch Logs has them."""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from console.arguments import known
from console.aws import session
from console.cache.commands import age
from console.keys.options import whole
from console.stack import add_stack_option, stack_name
from console.text import harmless

FUNCTIONS = (
    *("proxy", "authorizer", "record-cost", "record-metrics", "record-throttles", "settle-limits", "store-response"),
    *("end-streams", "apply-guards", "tell-incidents"),
)
OTHERS: Mapping[str, str] = {"lake": "/aws/kinesisfirehose/{stack}/lake", "rest-api": "/aws/apigateway/{stack}"}
"""Logs of what is no function: of Firehose, and of API Gateway where `RestApiLogEnabled` is true."""
_USUAL = 1800


def add_logs(logs: argparse.ArgumentParser) -> None:
    """Give `logs` its options."""
    logs.description = "Prints the lines of a log, the oldest first. Nothing is changed or followed."
    logs.add_argument("function", metavar="LOG", help=", ".join([*FUNCTIONS, *OTHERS]))
    how_long = "such as 30min, 6h or 2d; default: 30min"
    logs.add_argument("--last", type=age, default=_USUAL, metavar="LENGTH", help=how_long)
    logs.add_argument("--errors", action="store_true", help="only lines of the level ERROR")
    logs.add_argument("--message", metavar="TEXT", help="only lines with this message")
    logs.add_argument("--limit", type=whole(1, 100_000), default=200, metavar="N", help="at most; default: 200")
    logs.add_argument("--json", action="store_true", help="print a list of lines in JSON, for programs")
    add_stack_option(logs)
    logs.set_defaults(run=_run)


def pattern_of(*, errors: bool, message: str | None) -> str:
    """What CloudWatch is asked for; "" for all."""
    wanted = ['$.level = "ERROR"'] * errors
    if message is not None:
        wanted.append(f"$.message = {json.dumps(message)}")
    return f"{{ {' && '.join(wanted)} }}" if wanted else ""


def lines_of(client: Any, group: str, since: float, pattern: str, until: float | None = None) -> Iterator[Any]:
    """The lines of a log group, as JSON where they are that. Raises botocore's errors."""
    asked: dict[str, Any] = {"logGroupName": group, "startTime": int(since * 1000)}
    asked |= {"endTime": int(until * 1000)} if until is not None else {}
    asked |= {"filterPattern": pattern} if pattern else {}
    for page in client.get_paginator("filter_log_events").paginate(**asked):
        for each in page["events"]:
            yield _read(each["message"])


def group_of(function: str, options: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """The log group of a function of the stack, or of another part of it."""
    stack = stack_name(options, environ)
    return OTHERS[function].format(stack=stack) if function in OTHERS else f"/aws/lambda/{stack}/{function}"


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    known(options.function, {*FUNCTIONS, *OTHERS}, "A log", f"name one of {', '.join([*FUNCTIONS, *OTHERS])}")
    group = group_of(options.function, options, environ)
    client, since = session(environ).client("logs"), time.time() - options.last
    pattern = pattern_of(errors=options.errors, message=options.message)
    found = list(islice(lines_of(client, group, since, pattern), options.limit))
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    for line in found:
        print(harmless(line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)))
    if not found:
        which = " that fit" if pattern else ""
        print(f"There are no lines{which} in {group} since {datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M} UTC.")
    return 0


def _read(message: str) -> Any:
    try:
        return json.loads(message)
    except ValueError:
        return message.rstrip("\n")
