"""`openai-proxy logs`: lines of a log of the stack, the oldest first, as CloudWatch Logs has them."""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, cast

from console.arguments import known
from console.aws import emulator, session
from console.keys.options import whole
from console.output import say_nothing_found
from console.period import age
from console.stack import add_stack_option, stack_name
from console.text import harmless, to_json

FUNCTIONS = (
    *("proxy", "authorizer", "record-cost", "record-metrics", "record-throttles", "settle-limits", "store-response"),
    *("end-streams", "publish-again", "apply-guards", "tell-incidents"),
)
OTHERS: Mapping[str, str] = {"lake": "/aws/kinesisfirehose/{stack}/lake", "rest-api": "/aws/apigateway/{stack}"}
"""Logs of what is no function: of Firehose, and of API Gateway where `RestApiLogEnabled` is true."""
_USUAL = 1800
PROXY_LOG = "PROXY_LOG"
"""Names the file in which the local stack keeps the proxy's log."""


def add_logs(logs: argparse.ArgumentParser) -> None:
    """Give `logs` its options."""
    logs.description = "Prints the lines of a log, the oldest first. Nothing is changed or followed."
    logs.add_argument("function", metavar="LOG", help="one of " + ", ".join([*FUNCTIONS, *OTHERS]))
    how_long = "such as 30min, 6h or 2d; default: 30min"
    logs.add_argument("--last", type=age, default=_USUAL, metavar="LENGTH", help=how_long)
    logs.add_argument("--errors", action="store_true", help="only lines of the level ERROR")
    logs.add_argument("--message", metavar="TEXT", help="only lines with this message")
    logs.add_argument("--limit", type=whole(1, 100_000), default=200, metavar="N", help="at most; default: 200")
    logs.add_argument("--json", action="store_true", help="print a list of lines in JSON, for programs")
    add_stack_option(logs)
    logs.set_defaults(run=_run)


class Asked(NamedTuple):
    """Which lines: of a time, in Unix seconds, and with these fields."""

    since: float
    until: float
    fields: Mapping[str, str]


def lines(log: str, asked: Asked, options: argparse.Namespace, environ: Mapping[str, str]) -> Iterator[Any]:
    """The lines of a log, as JSON where they are that. Raises botocore's errors.

    On the local stack the proxy runs beside the embedded AWS, and its log is a file.
    """
    if log == "proxy" and (file := environ.get(PROXY_LOG)) and emulator(environ):
        return _lines_of_file(Path(file), asked)
    return _lines_of_group(session(environ).client("logs"), group_of(log, options, environ), asked)


def _lines_of_group(client: Any, group: str, asked: Asked) -> Iterator[Any]:
    request: dict[str, Any] = {"logGroupName": group, "startTime": int(asked.since * 1000)}
    request |= {"endTime": int(asked.until * 1000)}
    if conditions := [f"$.{name} = {json.dumps(value)}" for name, value in asked.fields.items()]:
        request["filterPattern"] = f"{{ {' && '.join(conditions)} }}"
    for page in client.get_paginator("filter_log_events").paginate(**request):
        for line in (_read(each["message"]) for each in page["events"]):
            if _has(line, asked.fields):  # an emulated CloudWatch does not filter
                yield line


def _lines_of_file(file: Path, asked: Asked) -> Iterator[Any]:
    """Its lines of JSON, which alone have a time; none of a stack that has just begun."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    first, last = (datetime.fromtimestamp(each, UTC).isoformat() for each in (asked.since, asked.until))
    for line in map(_read, text.splitlines()):
        if isinstance(line, dict) and _has(line, asked.fields):
            fields = cast("dict[str, Any]", line)
            if first <= str(fields.get("timestamp", "")) <= last:
                yield fields


def _has(line: Any, fields: Mapping[str, str]) -> bool:
    return not fields or (isinstance(line, dict) and fields.items() <= cast("dict[str, Any]", line).items())


def group_of(function: str, options: argparse.Namespace, environ: Mapping[str, str]) -> str:
    """The log group of a function of the stack, or of another part of it."""
    stack = stack_name(options, environ)
    return OTHERS[function].format(stack=stack) if function in OTHERS else f"/aws/lambda/{stack}/{function}"


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    known(options.function, {*FUNCTIONS, *OTHERS}, "Log", f"name one of {', '.join([*FUNCTIONS, *OTHERS])}")
    now = time.time()
    fields = ({"level": "ERROR"} if options.errors else {}) | (
        {} if options.message is None else {"message": options.message}
    )
    asked = Asked(now - options.last, now, fields)
    found = list(islice(lines(options.function, asked, options, environ), options.limit + 1))
    if len(found) > options.limit:
        found.pop()
        more = "There are more lines after these. Remedy: a larger --limit, or a shorter --last."
        print(more, file=sys.stderr)
    if options.json:
        print(to_json(found))
    else:
        for line in found:
            print(_shown(line))
    if not found:
        which = " and ".join(f"{name} '{harmless(text)}'" for name, text in fields.items())
        which, group = f" with {which}" if which else "", group_of(options.function, options, environ)
        since = f"{datetime.fromtimestamp(asked.since, UTC):%F %H:%M} UTC"
        say_nothing_found(f"There are no lines{which} in {group} since {since}.", options)
    return 0


def _shown(line: Any) -> str:
    """A message as a terminal may have it. In Lambda's own are tabs, and a traceback has several lines."""
    text = line if isinstance(line, str) else json.dumps(line, ensure_ascii=False)
    return "\n".join(harmless(each.expandtabs().rstrip()) for each in text.split("\n"))


def _read(message: str) -> Any:
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        return message.rstrip("\n")
