"""`events dead-letters` and `events redrive`: what a consumer could not record, shown, and sent through again.

Its one rule: a message is in one of the two queues at least. It is deleted from the one when the other has it. One that
is in both for a moment counts once: consumers know what they have recorded.
"""

import argparse
import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from console.arguments import announced, known
from console.aws import session
from console.errors import ConsoleError
from console.keys.options import whole
from console.output import say_nothing_found
from console.stack import add_stack_option, stack_name, stack_outputs
from console.text import count, harmless, to_json

_DEAD_LETTERS, _QUEUE = "DeadLetterQueueUrl", "QueueUrl"
_PAGE = 10
"""What SQS gives at once."""
_WAIT_SECONDS = 1
"""With a wait all servers of a queue are asked; without one an answer may be empty by chance."""
_HIDDEN_SECONDS = 60
"""How long a message that is being moved is hidden from others."""


def add_dead_letters(command: argparse.ArgumentParser) -> None:
    """Give `dead-letters` its options."""
    command.description = (
        "Shows messages of a consumer's dead-letter queue, and leaves them there. Without a consumer it counts those "
        "of all."
    )
    command.add_argument("consumer", nargs="?", metavar="CONSUMER", help="such as record-cost; default: count all")
    command.add_argument("--limit", type=whole(1, 1000), metavar="N", help="at most; default: 10")
    command.add_argument("--json", action="store_true", help="print JSON, for programs")
    add_stack_option(command)
    command.set_defaults(run=_dead_letters)


def add_redrive(command: argparse.ArgumentParser) -> None:
    """Give `redrive` its options."""
    command.description = (
        "Sends every message of a consumer's dead-letter queue through again. What fails again is back there after "
        "five more tries, so mend the cause first."
    )
    command.add_argument("consumer", metavar="CONSUMER", help="such as record-cost")
    command.add_argument("--json", action="store_true", help="print JSON, for programs")
    add_stack_option(command)
    command.set_defaults(run=_redrive)
    announced(command)


def messages_of(sqs: Any, queue: str, most: int, hidden_seconds: int) -> Iterator[Mapping[str, Any]]:
    """Messages of a queue, hidden for so long, each once. Raises botocore's errors."""
    seen: set[str] = set()
    while len(seen) < most:
        asked = min(_PAGE, most - len(seen))
        found: list[Mapping[str, Any]] = sqs.receive_message(
            QueueUrl=queue,
            MaxNumberOfMessages=asked,
            VisibilityTimeout=hidden_seconds,
            WaitTimeSeconds=_WAIT_SECONDS,
            MessageSystemAttributeNames=["SentTimestamp"],
            MessageAttributeNames=["All"],
        ).get("Messages", [])
        new = [each for each in found if each["MessageId"] not in seen]
        if not new:
            return
        seen |= {each["MessageId"] for each in new}
        yield from new


def looked_at(sqs: Any, queue: str, most: int) -> list[Mapping[str, Any]]:
    """Messages of a queue, which everybody sees again afterwards."""
    found: list[Mapping[str, Any]] = []
    try:
        for each in messages_of(sqs, queue, most, _HIDDEN_SECONDS):
            found.append(each)  # noqa: PERF402 - an interrupt must find those that were received
    finally:
        for each in found:
            sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=each["ReceiptHandle"], VisibilityTimeout=0)
    return found


def moved(sqs: Any, source: str, destination: str, began: float) -> int:
    """Send what lies in `source` to `destination`. What came since `began` stays: it has failed again meanwhile."""
    number = 0
    for each in messages_of(sqs, source, 10**9, _HIDDEN_SECONDS):
        if int(each.get("Attributes", {}).get("SentTimestamp", 0)) > began * 1000:
            continue  # older ones may come after it: SQS keeps no order
        attributes = {"MessageAttributes": given} if (given := each.get("MessageAttributes")) else {}
        sqs.send_message(QueueUrl=destination, MessageBody=each["Body"], **attributes)
        sqs.delete_message(QueueUrl=source, ReceiptHandle=each["ReceiptHandle"])
        number += 1
    return number


def consumers(outputs: Mapping[str, str]) -> dict[str, str]:
    """The consumers that the outputs of a stack name, as commands call them, and as outputs do."""
    named = [name.removesuffix(_DEAD_LETTERS) for name in outputs if name.endswith(_DEAD_LETTERS)]
    return {re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower(): name for name in sorted(named)}


def _named(options: argparse.Namespace, environ: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    names = consumers(outputs)
    if not names:
        stack = harmless(stack_name(options, environ))
        raise ConsoleError(f"The stack '{stack}' has no dead-letter queues. Remedy: name another with --stack-name.")
    known(options.consumer, set(names), "Consumer", f"name one of {', '.join(names)}")
    return names[options.consumer]


def _dead_letters(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    if options.consumer is None and options.limit is not None:
        raise ConsoleError("--limit is for the messages of one consumer. Remedy: name it, or leave --limit out.")
    outputs, sqs = stack_outputs(options, environ), session(environ).client("sqs")
    if options.consumer is None:
        waiting = {each: _waiting(sqs, outputs[f"{name}{_DEAD_LETTERS}"]) for each, name in consumers(outputs).items()}
        print(to_json(waiting) if options.json else "\n".join(f"{each}: {count(waiting[each])}" for each in waiting))
        return 1 if any(waiting.values()) else 0
    queue = outputs[f"{_named(options, environ, outputs)}{_DEAD_LETTERS}"]
    bodies = [each["Body"] for each in looked_at(sqs, queue, options.limit or _PAGE)]
    if options.json:
        print(to_json([_document(body) for body in bodies]))
    else:
        print("\n".join(map(harmless, bodies)), end="\n" if bodies else "")
    if not bodies:
        say_nothing_found(f"Nothing waits in the dead-letter queue of {options.consumer}.", options)
    return 0


def _redrive(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    outputs = stack_outputs(options, environ)
    name = _named(options, environ, outputs)
    source, destination = outputs[f"{name}{_DEAD_LETTERS}"], outputs.get(f"{name}{_QUEUE}")
    if destination is None:
        raise ConsoleError(
            f"The stack '{stack_name(options, environ)}' has no queue of {options.consumer}. "
            "Remedy: name another stack with --stack-name."
        )
    number = moved(session(environ).client("sqs"), source, destination, time.time())
    if options.json:
        print(to_json({"consumer": options.consumer, "moved": number}))
    else:
        print(f"{count(number)} went through again." if number else "Nothing waits there.")
    return 0


def _waiting(sqs: Any, queue: str) -> int:
    wanted = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=wanted)
    return sum(int(number) for number in found["Attributes"].values())


def _document(body: str) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return body
