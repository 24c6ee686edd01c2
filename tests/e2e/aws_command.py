"""The AWS CLI's commands, carried out with boto3 in this process: its operations and options come of botocore's models.

It has what the pages use of the CLI. Its one rule: what it does not know is an error, never nothing.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import boto3
import jmespath
from botocore import xform_name
from botocore.exceptions import BotoCoreError, ClientError

_SDK: Any = boto3


class Done(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def aws(words: Sequence[str]) -> Done:
    """Carry out `aws SERVICE OPERATION --option value …`."""
    try:
        service, operation, *rest = words
        client = _SDK.Session().client(service)
        method = operation.replace("-", "_")
        name = client.meta.method_to_api_mapping[method]
        shape = client.meta.service_model.operation_model(name).input_shape
        given = _options(rest)
        query, output = given.pop("query", []), given.pop("output", ["json"])
        answer = getattr(client, method)(**_parameters(shape, given))
        answer.pop("ResponseMetadata", None)
        found = jmespath.search(query[0], answer) if query else answer
    except (BotoCoreError, ClientError, KeyError, ValueError) as error:
        return Done(255, "", f"aws: {error!r}\n")
    return Done(0, _text(found) if output == ["text"] else f"{json.dumps(found, default=str)}\n", "")


def _options(words: Sequence[str]) -> dict[str, list[str]]:
    """The words that follow each option."""
    found: dict[str, list[str]] = {}
    values: list[str] = []
    for word in words:
        if word.startswith("--"):
            values = found[word[2:]] = []
        else:
            values.append(word)
    return found


def _parameters(shape: Any, given: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    members = {xform_name(name, "-"): name for name in (shape.members if shape else ())}
    parameters: dict[str, Any] = {}
    for option, values in given.items():
        turned_off = option.startswith("no-") and option not in members
        name = members[option.removeprefix("no-") if turned_off else option]
        parameters[name] = not turned_off if not values else _value(shape.members[name], values)
    return parameters


def _value(shape: Any, values: Sequence[str]) -> Any:
    """One option's value: JSON, or the CLI's short form of it, `Name=…,Value=…`."""
    if shape.type_name == "list" and not values[0].startswith("["):
        return [_value(shape.member, [value]) for value in values]
    [text] = values
    if shape.type_name in ("list", "structure", "map") and text[0] in "[{":
        return json.loads(text)
    if shape.type_name in ("structure", "map"):
        return dict(part.split("=", 1) for part in text.split(","))
    if shape.type_name in ("integer", "long"):
        return int(text)
    return text == "true" if shape.type_name == "boolean" else text


def _text(found: Any) -> str:
    """As `--output text` prints it."""
    rows = cast(list[Any], found) if isinstance(found, list) else [found]
    if rows and all(isinstance(row, list) for row in rows):
        return "".join("\t".join(map(str, row)) + "\n" for row in rows)
    return "\t".join(map(str, rows)) + "\n"
